"""The other side of the benchmark: a constant upstream and a plain proxy, both nginx, and the load (wrk)."""

import shutil
import subprocess
import time
from pathlib import Path

import httpx
import msgspec

REPLY = (
    '{"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,'
    '"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}'
    ',"finish_reason":"stop","index":0,"logprobs":null,"message":{"annotations":[],"content":"'
    + "A tundish meters molten metal into moulds. "
    * 12
    + '","refusal":null,"role":"assistant"}}],"created":1795337700,"id":"chatcmpl-Bench","model":"gpt-4o-2024-08-06",'
    '"object":"chat.completion","usage":{"completion_tokens":120,"completion_tokens_details":{"reasoning_tokens":0},'
    '"prompt_tokens":29,"prompt_tokens_details":{"cached_tokens":0},"total_tokens":149}}'
)
REQUEST = (
    '{"model":"gpt-4o","messages":[{"role":"system","content":"You are terse."},{"role":"user","content":'
    '"Say something about the tundish in a foundry."}],"max_tokens":256}'
)
NGINX = """
worker_processes 1; worker_cpu_affinity {mask}; pid {folder}/nginx.pid; error_log {folder}/nginx.err; daemon off;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 10000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {servers}
}}
"""
UPSTREAM = "server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{reply}'; }} }}"
PROXY = """
  upstream constant {{ server 127.0.0.1:{upstream}; keepalive 512; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://constant; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
"""
LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = [[{body}]]
done = function(summary, latency, requests)
  io.write(string.format('RESULT {{"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"bad":%d,"broken":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk measured in one round. `bad` are answers that were not 2xx."""

    requests: int
    us: int
    p50_us: int
    p99_us: int
    bad: int
    broken: int

    @property
    def per_second(self) -> float:
        """Good answers per second."""
        return (self.requests - self.bad) * 1e6 / self.us


def need_tools() -> None:
    """Leave with the remedy when a tool is missing."""
    missing = [tool for tool in ("wrk", "nginx", "taskset") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(
            f"make bench needs {', '.join(missing)}: on Debian or Ubuntu `apt-get install wrk nginx-light util-linux`"
        )


def start_nginx(folder: Path, name: str, core: int, *, port: int, upstream: int | None) -> "subprocess.Popen[bytes]":
    """The constant upstream (no `upstream` port), or the plain proxy before it, on one core."""
    home = folder / name
    home.mkdir()
    servers = (
        UPSTREAM.format(port=port, reply=REPLY) if upstream is None else PROXY.format(port=port, upstream=upstream)
    )
    config = home / "nginx.conf"
    config.write_text(NGINX.format(mask=f"{1 << core:b}", folder=home, servers=servers))
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(home / "start.err")])
    deadline = time.monotonic() + 10
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200:
                return process
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nginx ({name}) did not start; see {home}/start.err") from None
            time.sleep(0.05)


def run_wrk(folder: Path, core: int, url: str, key: str, *, connections: int, seconds: int) -> Load:
    """One round of load from one core."""
    script = folder / "call.lua"
    script.write_text(LUA.format(key=key, body=REQUEST))
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    output = subprocess.run([*command, "-s", str(script), url], check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    return msgspec.json.decode(line.removeprefix("RESULT "), type=Load)
