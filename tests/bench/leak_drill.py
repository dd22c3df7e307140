"""`make leak-drill`: a key leaks, is revoked, and its owner has a new one: timed, on three proxies.

Each round mints a key, calls a model with it on every proxy, probes every proxy over several connections all the time,
and revokes the secret as whoever finds it would: from the plaintext alone. Measured is, for every proxy, the time from
sending the revocation to the first refusal after which nothing was let through any more, as the probing clients see it:
an upper bound. Then the key gets a new secret with the same scope, which is used on every proxy.

The rounds are done with Postgres running, and once more with Postgres stopped for the revocations; it is started again
then, and every revocation must have been recorded. Exits with 1 when the fleet-wide p99 is above the limit.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.servers import PostgresServer
from tests.support.stack import Stack, stack_folder

LIMIT_MS = 50.0
WAIT_S = 10.0
RECORDED_WITHIN_S = 60.0
REFUSALS = 3
"""Refusals in a row after which a connection stops probing."""
CALL = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say tundish."}], "max_tokens": 5}
SCOPE = {"models": ["gpt-4o"], "max_budget": 5.0, "budget_duration": "30d", "team_id": "drill"}


@dataclass
class Round:
    """What one leak took, in milliseconds from sending the revocation: until each proxy refused, and until the answer.
    `told` is what the answer said of the fleet."""

    refused: list[float]
    answered: float
    told: dict[str, Any]

    @property
    def everywhere(self) -> float:
        """Until the slowest proxy refused."""
        return max(self.refused)

    @property
    def after_answer(self) -> float:
        """How long the secret still worked anywhere after the answer to the revocation; 0 if it did not."""
        return max(0.0, self.everywhere - self.answered)


@dataclass
class Probe:
    """One connection to one proxy that asks again and again whether a secret works."""

    address: tuple[str, int]
    request: bytes
    pause_s: float
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    refused_at: float = 0.0

    async def run(self) -> None:
        """Ask until it is refused for good; `refused_at` is the first refusal after the last time it was not."""
        reader, writer = await asyncio.open_connection(*self.address)
        refusals = 0
        deadline = time.perf_counter() + WAIT_S
        try:
            while refusals < REFUSALS:
                writer.write(self.request)
                status = await _status(reader)
                now = time.perf_counter()
                if status == 200:
                    refusals = 0
                    self.accepted.set()
                elif status == 401:
                    refusals += 1
                    if refusals == 1:
                        self.refused_at = now
                else:
                    raise SystemExit(f"a probe was answered {status}")
                await asyncio.sleep(self.pause_s)
                if now > deadline:
                    raise SystemExit(f"the secret still worked {WAIT_S:.0f} s after it was revoked")
        finally:
            writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    """Read one answer whole; its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), None)
    if length is None:
        raise SystemExit("a probe was answered without a length")
    await reader.readexactly(length)
    return int(lines[0].split(b" ")[1])


class Drill:
    """The fleet, and the clients of the drill."""

    def __init__(self, stack: Stack, clients: list[httpx.AsyncClient], probes: int, pause_s: float) -> None:
        self._clients = clients
        self._admin = clients[0]
        self._master = {"authorization": f"Bearer {stack.master_key}"}
        self._addresses = [(parts.hostname or "", parts.port or 0) for parts in map(urlsplit, stack.urls)]
        self._probes = probes
        self._pause_s = pause_s

    async def mint(self, number: int) -> dict[str, Any]:
        """A key that works on every proxy."""
        made = await self.admin("/key/generate", {"key_alias": f"drill-{number}", **SCOPE})
        await self.use(made["key"])
        return made

    async def use(self, secret: str) -> None:
        """Call a model on every proxy."""
        await asyncio.gather(*(self._call(client, secret) for client in self._clients))

    async def _call(self, client: httpx.AsyncClient, secret: str) -> None:
        deadline = time.perf_counter() + WAIT_S
        while True:
            answer = await client.post("/v1/chat/completions", json=CALL, headers={"api-key": secret})
            if answer.status_code == 200:
                return
            if answer.status_code != 401 or time.perf_counter() > deadline:
                raise SystemExit(f"a call was answered {answer.status_code}: {answer.text[:300]}")
            await asyncio.sleep(0.002)  # the proxy has not heard of the key yet

    async def leak(self, secret: str) -> Round:
        """Revoke while everybody uses it."""
        groups = [
            [Probe(address, _request(address, secret), self._pause_s) for _ in range(self._probes)]
            for address in self._addresses
        ]
        async with asyncio.TaskGroup() as tasks:
            for probe in (probe for group in groups for probe in group):
                tasks.create_task(probe.run())
            await asyncio.gather(*(probe.accepted.wait() for group in groups for probe in group))
            began = time.perf_counter()
            told = await self.admin("/key/revoke", {"key": secret, "leaked": True, "reason": "drill"})
            answered = time.perf_counter()
        refused = [1000 * (max(probe.refused_at for probe in group) - began) for group in groups]
        return Round(refused=refused, answered=1000 * (answered - began), told=told)

    async def renew(self, made: dict[str, Any]) -> None:
        """A new secret with the same scope, which works on every proxy; the leaked one works on none."""
        fresh = await self.admin(f"/key/{made['token_id']}/regenerate", {})
        kept = {name: fresh[name] for name in SCOPE}
        if fresh["token_id"] != made["token_id"] or kept != SCOPE:
            raise SystemExit(f"the new secret's scope is {kept}")
        await self.use(fresh["key"])
        for client in self._clients:
            answer = await client.post("/v1/chat/completions", json=CALL, headers={"api-key": made["key"]})
            if answer.status_code != 401:
                raise SystemExit(f"the leaked secret was answered {answer.status_code}")

    async def recorded(self, made: Sequence[dict[str, Any]]) -> None:
        """Wait until the audit log says of every key that its secret was revoked."""
        deadline = time.perf_counter() + RECORDED_WITHIN_S
        for key in made:
            while not await self._is_recorded(key["token_id"]):
                if time.perf_counter() > deadline:
                    raise SystemExit(f"the revocation of {key['token_id']} was not recorded")
                await asyncio.sleep(0.1)

    async def _is_recorded(self, key_id: str) -> bool:
        query = {"object_id": key_id, "action": "revoked"}
        answer = await self._admin.get("/audit", params=query, headers=self._master)
        return answer.status_code == 200 and answer.json()["total"] == 1

    async def admin(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One admin call that must succeed."""
        answer = await self._admin.post(path, json=body, headers=self._master)
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found


def _request(address: tuple[str, int], secret: str) -> bytes:
    head = f"GET /v1/models HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\napi-key: {secret}\r\n\r\n"
    return head.encode()


@contextlib.asynccontextmanager
async def drilling(stack: Stack, probes: int, pause_s: float) -> AsyncGenerator[Drill, None]:
    """The drill with a client per proxy."""
    async with contextlib.AsyncExitStack() as clients:
        opened = [
            await clients.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30, trust_env=False))
            for url in stack.urls
        ]
        yield Drill(stack, opened, probes, pause_s)


async def run(stack: Stack, postgres: PostgresServer, rounds: int, probes: int, pause_s: float) -> list[Round]:
    """Both halves; all rounds."""
    async with drilling(stack, probes, pause_s) as drill:
        await drill.admin("/team/new", {"team_id": "drill"})
        await drill.renew(await _leaked(drill))  # a first round, whose connections and caches are cold
        running: list[Round] = []
        for number in range(rounds):
            made = await drill.mint(number)
            running.append(await drill.leak(made["key"]))
            await drill.renew(made)
        report("with Postgres running", running)

        keys = [await drill.mint(rounds + number) for number in range(rounds)]
        postgres.stop()
        stopped = [await drill.leak(key["key"]) for key in keys]
        if any(one.told["recorded"] for one in stopped):
            raise SystemExit("a revocation was recorded while Postgres was stopped")
        report("with Postgres stopped", stopped)
        postgres.start()
        await drill.recorded(keys)
        print(f"Postgres is back: all {rounds} revocations are recorded", flush=True)
        for key in keys[:: max(1, rounds // 10)]:
            await drill.renew(key)
    return running + stopped


async def _leaked(drill: Drill) -> dict[str, Any]:
    made = await drill.mint(-1)
    await drill.leak(made["key"])
    return made


def report(what: str, rounds: Sequence[Round]) -> None:
    """One half's figures."""
    print(
        f"\n{what}: {len(rounds)} leaks; milliseconds from sending the revocation to the last proxy's refusal for good"
    )
    for number in range(len(rounds[0].refused)):
        _line(f"proxy {number + 1}", [one.refused[number] for one in rounds])
    _line("all proxies", [one.everywhere for one in rounds])
    _line("the answer to the revocation", [one.answered for one in rounds])
    _line("all proxies, after that answer", [one.after_answer for one in rounds])
    full = sum(1 for one in rounds if one.told["fleet"]["applied"] == one.told["fleet"]["proxies"] == len(one.refused))
    _line("as the answer says, all proxies", [one.told["fleet"]["ms"] for one in rounds])
    print(f"  {full} of {len(rounds)} answers say that all {len(rounds[0].refused)} proxies refuse", flush=True)


def _line(what: str, times: Sequence[float]) -> None:
    print(f"  {what:32} median {statistics.median(times):7.2f}   p99 {p99(times):7.2f}   max {max(times):7.2f}")


def p99(times: Sequence[float]) -> float:
    """The time that 99 of 100 do not exceed."""
    return sorted(times)[max(0, -(-len(times) * 99 // 100) - 1)]


@contextlib.contextmanager
def own_postgres() -> Generator[PostgresServer, None, None]:
    """A server of the drill's own, which it may stop and start."""
    with tempfile.TemporaryDirectory(prefix="tundish-drill-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--proxies", type=int, default=3)
    parser.add_argument("--probes", type=int, default=4, help="connections per proxy that use the secret all the time")
    parser.add_argument("--pause-ms", type=float, default=3.0, help="between two probes of a connection")
    options = parser.parse_args()
    with own_postgres() as postgres, stack_folder() as folder:
        env = {"TUNDISH_POSTGRES_URL": postgres.create_database()}
        stack = Stack(folder / "home", proxies=options.proxies, env=env).start()
        try:
            rounds = asyncio.run(run(stack, postgres, options.rounds, options.probes, options.pause_ms / 1000))
        finally:
            postgres.start()
            stack.stop()
    worst = max(p99([one.everywhere for one in half]) for half in (rounds[: options.rounds], rounds[options.rounds :]))
    print(
        f"\nfleet-wide p99 {worst:.1f} ms, the limit is {LIMIT_MS:.0f} ms: {'held' if worst <= LIMIT_MS else 'MISSED'}"
    )
    return 0 if worst <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
