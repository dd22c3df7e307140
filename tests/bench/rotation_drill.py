"""`make rotation-drill`: three keys renewed every minute under load, with two auths and two schedulers.

One owner collects its new secrets by `POST /key/exchange`, one reads them from a Key Vault (the simulator's, over TLS,
reached through azure-identity with a federated token), one gets them by signed webhooks. At the second rotation both
auth processes are killed while the webhook is under way. Every failed call is told; three rotations with none are what
is asked for. Beside them are keys that nobody calls with, each with a webhook at a path of its own: every one must get
three new versions, and each message once.
"""

import argparse
import asyncio
import base64
import contextlib
import hmac
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from deploy.simulator.identity import mint
from tests.support.stack import ROOT, Stack, free_port, stack_folder

INTERVAL_S = 60
GRACE = "30s"
GRACE_S = 30
ROTATIONS = 3
WORKERS = 2
IDLE = 20
KILLED_AT = 3
"""The version over which the auths are killed: messages under way then may come again."""
PACE_S = 0.1
SAMPLE_S = 2.0
CALL = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say tundish."}], "max_tokens": 20}
VAULT_SECRET = "drill-vault"


@dataclass
class Owner:
    """Whoever uses a key: calls all the time, and gets its new secrets in one way."""

    name: str
    url: str
    secret: str
    key_id: str = ""
    good: int = 0
    bad: list[str] = field(default_factory=list[str])
    versions: Counter[str] = field(default_factory=Counter[str])
    renewals: list[float] = field(default_factory=list[float])
    cost_usd: float = 0.0
    spends: list[float] = field(default_factory=list[float])

    async def work(self, until: float) -> None:
        """Call until an instant of the monotonic clock."""
        headers = {"content-type": "application/json"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False) as http:
            while time.monotonic() < until:
                used = self.secret
                await self._call(http, used)
                await asyncio.sleep(PACE_S)

    async def _call(self, http: httpx.AsyncClient, used: str) -> None:
        try:
            answer = await http.post("/v1/chat/completions", json=CALL, headers={"authorization": f"Bearer {used}"})
        except httpx.HTTPError as error:
            self.bad.append(f"{time.strftime('%X')} {error!r}")
            return
        if answer.status_code != 200:
            self.bad.append(f"{time.strftime('%X')} {answer.status_code} {answer.text[:200]}")
            return
        self.good += 1
        self.cost_usd += float(answer.headers.get("x-tundish-cost", "0"))
        self.versions[answer.headers.get("x-tundish-key-version", "newest")] += 1
        if "x-tundish-key-newest" in answer.headers and used == self.secret:
            await self.renew(http, used, answer.headers)

    async def renew(self, http: httpx.AsyncClient, used: str, told: httpx.Headers) -> None:
        """Get the new secret, if this owner has to."""

    def take(self, secret: str) -> None:
        """Use a new secret from now on."""
        if secret != self.secret:
            self.secret = secret
            self.renewals.append(time.monotonic())


@dataclass
class Exchanger(Owner):
    """Collects the new secret with the old one."""

    async def renew(self, http: httpx.AsyncClient, used: str, told: httpx.Headers) -> None:
        if told.get("x-tundish-key-exchange") != "true":
            return
        headers = {"authorization": f"Bearer {used}", "idempotency-key": f"drill-{told['x-tundish-key-newest']}"}
        with contextlib.suppress(httpx.HTTPError):
            answer = await http.post("/key/exchange", headers=headers)
            if answer.status_code == 200:
                self.take(answer.json()["key"])


@dataclass
class VaultReader(Owner):
    """Reads the vault when it hears that there is a newer secret."""

    vault: str = ""
    authority: str = ""

    async def renew(self, http: httpx.AsyncClient, used: str, told: httpx.Headers) -> None:
        token = mint("https://vault.azure.net", int(time.time()), 600, "drill")
        async with httpx.AsyncClient(verify=_trusting(self.authority), trust_env=False) as vault:
            answer = await vault.get(
                f"{self.vault}/secrets/{VAULT_SECRET}?api-version=7.4", headers={"authorization": f"Bearer {token}"}
            )
        if answer.status_code == 200:
            self.take(answer.json()["value"])


@dataclass
class Idle:
    """A key that nobody calls with. `taken` are the versions at its path by the id of their message; `again` are those
    that came once more under the same id, which a receiver knows by it."""

    key_id: str
    signing: str
    taken: dict[str, int] = field(default_factory=dict[str, int])
    again: list[int] = field(default_factory=list[int])

    def take(self, message_id: str, version: int) -> None:
        """Take a message, unless it was taken before."""
        if self.taken.get(message_id) == version:
            self.again.append(version)
        else:
            self.taken[message_id] = version


@dataclass
class Receiver(Owner):
    """Has a server that takes signed webhooks: its own, and at paths of their own those of the `idle` keys."""

    signing: str = ""
    kill: "Killer | None" = None
    seen: list[str] = field(default_factory=list[str])
    forged: list[str] = field(default_factory=list[str])
    idle: dict[str, Idle] = field(default_factory=dict[str, Idle])

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on loopback."""
        return await asyncio.start_server(self._take, "127.0.0.1", port)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # an auth was killed while it spoke
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        status = self._judge(head.split(" ")[1], headers, body)
        if status is not None:
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()

    def _judge(self, path: str, headers: dict[str, str], body: bytes) -> int | None:
        idle = self.idle.get(path)
        if not _is_signed(self.signing if idle is None else idle.signing, headers, body):
            self.forged.append(headers["webhook-id"])
            return 401
        told: dict[str, Any] = msgspec.json.decode(body)["data"]
        if idle is not None:
            idle.take(headers["webhook-id"], told["version"])
            return 204
        self.seen.append(f"{time.strftime('%X')} version {told['version']}")
        if self.kill is not None and told["version"] == KILLED_AT and not self.kill.done:
            self.kill.strike()
            return None  # the connection just ends: nobody knows whether this was taken
        self.take(told["key"])
        return 204


def _is_signed(signing: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a message is new, and from whoever knows the signing secret."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(signing.removeprefix("whsec_"))
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    is_new = abs(int(headers["webhook-timestamp"]) - time.time()) <= 300
    return is_new and wanted in headers["webhook-signature"].split()


@dataclass
class Killer:
    """Kills every auth process, once."""

    stack: Stack
    done: bool = False

    def strike(self) -> None:
        self.done = True
        for name in self.stack.run_record()["children"]:
            if name == "auth" or name.startswith("auth-"):
                os.kill(self.stack.pid(name), signal.SIGKILL)
        print("     both auth processes were killed while the webhook was under way")


def _trusting(authority: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=authority)


@contextlib.asynccontextmanager
async def azure(folder: Path) -> AsyncGenerator[tuple[str, dict[str, str]]]:
    """(the vault's URL, the environment in which azure-identity finds its way to the stub)."""
    port = free_port()
    arguments = ("-m", "deploy.simulator", "--port", str(port), "--tls", str(folder / "tls"))
    stub = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert stub.stdout is not None
    await stub.stdout.readline()
    token = folder / "federated.token"
    claims = {"sub": "system:serviceaccount:tundish:auth", "aud": "api://AzureADTokenExchange", "exp": 4_000_000_000}
    part = base64.urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=").decode()
    token.write_text(f"e30.{part}.sig")
    authority = str(folder / "tls" / "ca.pem")
    try:
        yield (
            f"https://localhost:{port}",
            {
                "AZURE_AUTHORITY_HOST": f"https://localhost:{port}",
                "AZURE_TENANT_ID": "00000000-0000-0000-0000-0000000000aa",
                "AZURE_CLIENT_ID": "11111111-1111-1111-1111-111111111111",
                "AZURE_FEDERATED_TOKEN_FILE": str(token),
                "REQUESTS_CA_BUNDLE": authority,
                "SSL_CERT_FILE": authority,
                "TUNDISH_KEY_VAULTS": f"localhost:{port}",
                "TUNDISH_WEBHOOK_ALLOW": "127.0.0.0/8",
                "TUNDISH_AUTHS": "2",
                "TUNDISH_SCHEDULERS": "2",
            },
        )
    finally:
        stub.terminate()
        await stub.wait()


async def drill(folder: Path) -> int:
    """Everything; the exit code."""
    async with azure(folder) as (vault, env):
        stack = Stack(folder / "home", env=env)
        await asyncio.to_thread(stack.start)
        try:
            return await _drill(stack, vault, env["SSL_CERT_FILE"])
        finally:
            await asyncio.to_thread(stack.stop)


async def _drill(stack: Stack, vault: str, authority: str) -> int:
    port = free_port()
    owners = [
        _owner(stack, Exchanger("exchange", stack.url, ""), {"type": "exchange"}),
        _owner(
            stack,
            VaultReader("vault", stack.url, "", vault=vault, authority=authority),
            {"type": "key_vault", "vault": vault, "secret": VAULT_SECRET},
        ),
        _owner(
            stack,
            Receiver("webhook", stack.url, "", kill=Killer(stack)),
            {"type": "webhook", "url": f"http://127.0.0.1:{port}/new-key"},
        ),
    ]
    receiver = owners[2]
    assert isinstance(receiver, Receiver)
    receiver.idle = {
        path: _idle(stack, f"http://127.0.0.1:{port}{path}") for path in map("/idle/{}".format, range(IDLE))
    }
    server = await receiver.serve(port)
    until = time.monotonic() + INTERVAL_S * ROTATIONS + GRACE_S + 10
    print(f"calling for {until - time.monotonic():.0f} s; rotations after {INTERVAL_S}, {2 * INTERVAL_S}, … seconds")
    async with server, asyncio.TaskGroup() as group:
        for owner in owners:
            for _ in range(WORKERS):
                group.create_task(owner.work(until))
        group.create_task(_watch(stack, owners, until))
    await asyncio.sleep(3)
    return sum([_report(stack, owner) for owner in owners]) + _report_idle(stack, [*receiver.idle.values()])


def _owner(stack: Stack, owner: Owner, way: dict[str, str]) -> Owner:
    made = _mint(stack, way, key_alias=f"drill-{owner.name}", max_budget=50)
    owner.secret, owner.key_id = made["key"], made["token_id"]
    if isinstance(owner, Receiver):
        owner.signing = made["rotation_delivery"][0]["signing_secret"]
    return owner


def _idle(stack: Stack, url: str) -> Idle:
    made = _mint(stack, {"type": "webhook", "url": url})
    return Idle(made["token_id"], made["rotation_delivery"][0]["signing_secret"])


def _mint(stack: Stack, way: dict[str, str], **more: Any) -> dict[str, Any]:
    terms = {
        "auto_rotate": True,
        "rotation_interval": f"{INTERVAL_S // 60}m",
        "grace_period": GRACE,
        "rotation_delivery": [way],
    }
    made: dict[str, Any] = stack.call("POST", "/key/generate", json=terms | more)
    return made


async def _watch(stack: Stack, owners: list[Owner], until: float) -> None:
    """Look at the spend of each key now and then: it must never fall."""
    while time.monotonic() < until:
        for owner in owners:
            with contextlib.suppress(AssertionError, httpx.HTTPError):
                told = await asyncio.to_thread(stack.call, "GET", f"/key/info?key={owner.key_id}")
                if told["info"]["spend"] is not None:
                    owner.spends.append(told["info"]["spend"])
        await asyncio.sleep(SAMPLE_S)


def _report(stack: Stack, owner: Owner) -> int:
    """Print how it went; 1 when something was wrong."""
    info = stack.call("GET", f"/key/info?key={owner.key_id}")["info"]
    versions = info["versions"]
    falls = sum(later < earlier for earlier, later in zip(owner.spends, owner.spends[1:], strict=False))
    exact = abs(info["spend"] - owner.cost_usd) < 1e-9
    print(f"{owner.name:9} {owner.good} calls, {len(owner.bad)} failed; by version header {dict(owner.versions)}")
    print(f"{'':9} versions {[(one['version'], one['status'], one['delivered']) for one in versions]}")
    print(
        f"{'':9} spend ${info['spend']:.6f}, by the answers' own headers ${owner.cost_usd:.6f}; it fell {falls} times"
    )
    for line in owner.bad[:10]:
        print(f"{'':9} FAILED {line}")
    problems = [
        bool(owner.bad),
        len(owner.renewals) != ROTATIONS,
        sorted(one["version"] for one in versions) != list(range(1, ROTATIONS + 2)),
        falls > 0,
        not exact,
    ]
    if isinstance(owner, Receiver):
        print(f"{'':9} webhooks {owner.seen}; with a wrong signature: {len(owner.forged)}")
        problems.append(bool(owner.forged))
    print(f"{'':9} {'as it should be' if not any(problems) else f'NOT as it should be: {problems}'}")
    return int(any(problems))


def _report_idle(stack: Stack, keys: list[Idle]) -> int:
    """Print how the keys fared that nobody calls with; 1 when something was wrong."""
    wanted = list(range(1, ROTATIONS + 2))
    wrong: list[str] = []
    for key in keys:
        rows = stack.call("GET", f"/key/info?key={key.key_id}")["info"]["versions"]
        versions = sorted(row["version"] for row in rows)
        if versions != wanted or sorted(key.taken.values()) != wanted[1:] or set(key.again) - {KILLED_AT}:
            wrong.append(f"{key.key_id} versions {versions}, webhooks {key.taken}, again {key.again}")
    messages, again = sum(len(key.taken) for key in keys), sum(len(key.again) for key in keys)
    said = "as it should be" if not wrong else f"NOT as it should be: {wrong}"
    print(f"{'idle':9} {len(keys)} keys, {messages} webhooks taken, {again} came again under the same id: {said}")
    return int(bool(wrong))


def main() -> None:
    """Run it and leave with 1 when anything was wrong."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with stack_folder() as folder:
        sys.exit(1 if asyncio.run(drill(folder)) else 0)


if __name__ == "__main__":
    main()
