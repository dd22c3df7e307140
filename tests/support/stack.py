"""The whole product as a user runs it: `python -m deploy.local.up` on a free port, with its own data folder."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import msgspec

ROOT = Path(__file__).parents[2]
READY_S = 90.0
STOP_S = 40.0
READY_LINE = "Tundish is ready"
TRIES_MAX = 100


def free_port() -> int:
    """A port that was free a moment ago."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that were free a moment ago."""
    for _ in range(TRIES_MAX):
        with contextlib.ExitStack() as probes:
            first = _bound(probes, 0)
            with contextlib.suppress(OSError, OverflowError):
                for port in range(first + 1, first + count):
                    _bound(probes, port)
                return first
    raise RuntimeError(f"no {count} free ports in a row were found")


def _bound(probes: contextlib.ExitStack, port: int) -> int:
    probe = probes.enter_context(socket.socket())
    probe.bind(("127.0.0.1", port))
    return int(probe.getsockname()[1])


@contextlib.contextmanager
def stack_folder() -> Generator[Path]:
    """A temporary folder that the database's own user can reach, so that all data stays in it."""
    with tempfile.TemporaryDirectory(prefix="tundish-stack-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


class Stack:
    """A running Tundish. `start` waits until it is ready; `stop` ends it in an orderly way.

    `urls` are the front doors of its proxies, `url` is the first one.
    """

    def __init__(
        self,
        home: Path,
        *,
        config: Path | None = None,
        env: dict[str, str] | None = None,
        proxies: int = 1,
        enforcers: int | None = None,
        auths: int | None = None,
        schedulers: int | None = None,
    ) -> None:
        self.home = home
        self.port = free_ports(proxies)
        self.urls = [f"http://127.0.0.1:{self.port + number}" for number in range(proxies)]
        self.url = self.urls[0]
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TUNDISH_", "AZURE_"))},
            "TUNDISH_HOME": str(home),
            "TUNDISH_PORT": str(self.port),
            "TUNDISH_PROXIES": str(proxies),
            **({} if enforcers is None else {"TUNDISH_ENFORCERS": str(enforcers)}),
            **({} if auths is None else {"TUNDISH_AUTHS": str(auths)}),
            **({} if schedulers is None else {"TUNDISH_SCHEDULERS": str(schedulers)}),
            **({"TUNDISH_CONFIG": str(config)} if config is not None else {}),
            **(env or {}),
        }
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self.output: deque[str] = deque(maxlen=5_000)

    def start(self) -> "Stack":
        """Run it and wait until it says that it is ready."""
        self._ready.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.up"],
            cwd=ROOT,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        if not self._ready.wait(READY_S) or self._process.poll() is not None:
            self.kill()
            raise RuntimeError("the stack did not start:\n" + "".join(self.output))
        return self

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)
            if line.startswith(READY_LINE):
                self._ready.set()
        process.stdout.close()
        self._ready.set()

    @property
    def supervisor_pid(self) -> int:
        """The process that keeps the others."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The supervisor's exit code, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait for the supervisor to end."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM, then wait; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """kill -9 of the supervisor."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_S)

    def run_record(self) -> dict[str, Any]:
        """What `run.json` says: pids and ports."""
        record: dict[str, Any] = msgspec.json.decode((self.home / "run.json").read_bytes())
        return record

    def pid(self, name: str) -> int:
        """The process id of one child."""
        return int(self.run_record()["children"][name]["process"]["pid"])

    def internal_url(self, name: str) -> str:
        """The internal port of one service."""
        return f"http://127.0.0.1:{self.run_record()['ports'][name]}"

    @property
    def master_key(self) -> str:
        """The generated master key."""
        return (self.home / "master.key").read_text().strip()

    def admin(self) -> httpx.Client:
        """A client for the admin API at the front door."""
        headers = {"authorization": f"Bearer {self.master_key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One admin call that must succeed; its JSON."""
        with self.admin() as client:
            answer = client.request(method, path, **arguments)
        if answer.status_code not in (200, 202):
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def mint(self, **fields: Any) -> str:
        """A new key's plaintext."""
        return str(self.call("POST", "/key/generate", json=fields)["key"])

    def simulator(self) -> httpx.Client:
        """A client for the simulator's control endpoint."""
        return httpx.Client(base_url=self.internal_url("simulator"), timeout=30, trust_env=False)


def wait_until(what: str, probe: Any, timeout_s: float = 20.0) -> Any:
    """Call `probe` until it gives something true; that thing. Raises when it never does."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what}")
        time.sleep(0.02)
