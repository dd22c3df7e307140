"""A real server with the generated `nats.conf`: each user may do what the table says, and nothing else."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from deploy.local.nats import server_binary, user_passwords, user_url, write_config
from deploy.local.waiting import nats_probe, wait_ready
from shared import topology
from shared.bus import Bus
from shared.bus.apply import apply
from shared.topology import BUCKETS, PERMISSIONS, STREAMS, allot_subject, inbox_prefix
from tests.support.servers import free_port

LIMIT_S = 20
SERVICES = sorted(set(PERMISSIONS) - {"admin"})
FORBIDDEN_TO_ALL = (
    *(f"$JS.API.STREAM.{verb}.{stream.name}" for stream in STREAMS for verb in ("CREATE", "UPDATE", "DELETE", "PURGE")),
    *(f"$JS.API.STREAM.{verb}.KV_{bucket.name}" for bucket in BUCKETS for verb in ("CREATE", "DELETE", "PURGE")),
    f"$JS.API.CONSUMER.DURABLE.CREATE.{topology.LEDGER}.{topology.BOOKKEEPER_DURABLE}",
    f"$JS.API.STREAM.MSG.DELETE.{topology.LEDGER}",
    "$JS.API.STREAM.LIST",
    "$JS.API.ACCOUNT.PURGE.TUNDISH",
    "$SYS.REQ.SERVER.PING",
    "signal.deployment.unhealthy.v1.deployment.d",
    "anything",
)
"""What no service may do, whatever the table becomes."""

KEY_SIGNALS = ("signal.rotation.failed.v1.key.k", "signal.key.leaked.v1.key.k")
WORK = ("work.rotation.v1.k", "work.rehash.v1.k")
FORBIDDEN = {
    "auth": (
        "usage.v1.0.x",
        "grant.v1.0.x",
        "signal.budget.exceeded.v1.key.k",
        "work.rotation.v1.k",
        "work.rehash.v1.k",
        "fleet.v1.applied",
        "$KV.catalog.p.x",
        "$KV.leases.ledger.0",
        "allot.v1.0",
    ),
    "proxy": (
        "auth.key.issued.v1.k",
        "grant.v1.0.x",
        "signal.budget.exceeded.v1.key.k",
        *KEY_SIGNALS,
        "work.rotation.v1.k",
        "$KV.keys.k.x",
        "$KV.revoked.k.x",
        "$KV.leases.ledger.0",
    ),
    "enforcer": ("auth.key.issued.v1.k", "usage.v1.0.x", *KEY_SIGNALS, *WORK, "$KV.keys.k.x", "$KV.revoked.k.x"),
    "bookkeeper": (
        "auth.key.issued.v1.k",
        "usage.v1.0.x",
        "grant.v1.0.x",
        *KEY_SIGNALS,
        *WORK,
        "$KV.keys.k.x",
        "$KV.leases.ledger.0",
    ),
    "scheduler": (
        "auth.key.issued.v1.k",
        "usage.v1.0.x",
        "grant.v1.0.x",
        *KEY_SIGNALS,
        "work.rehash.v1.k",
        "fleet.v1.applied",
        "$KV.keys.k.x",
        "$KV.revoked.k.x",
    ),
    "subscriber": (
        "auth.key.issued.v1.k",
        "usage.v1.0.x",
        "signal.budget.exceeded.v1.key.k",
        *KEY_SIGNALS,
        *WORK,
        "$KV.keys.k.x",
        "allot.v1.0",
    ),
}
"""Whose truth is whose: nobody writes what another service owns."""


class Server:
    """The running server and its users' URLs."""

    def __init__(self, port: int, passwords: dict[str, str]) -> None:
        self.port = port
        self._passwords = passwords

    def url(self, user: str) -> str:
        return user_url(user, self._passwords[user], self.port)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """NATS as `make up` starts it, with our streams and buckets."""
    home: Path = tmp_path_factory.mktemp("nats-home")
    passwords = user_passwords(home)
    port = free_port()
    config = write_config(home, port=port, passwords=passwords, sync="2m", monitor_port=None)
    running = Server(port, passwords)

    async def prepare() -> None:
        await wait_ready("NATS", nats_probe(port), LIMIT_S)
        bus = await Bus.open(running.url("admin"), user="admin", name="test")
        await apply(bus, replicas=1, progress=lambda _: None)
        await bus.close()

    with (home / "log").open("wb") as log:
        process = subprocess.Popen([str(server_binary()), "-c", str(config)], stdout=log, stderr=log)
        try:
            asyncio.run(prepare())
            yield running
        finally:
            process.terminate()
            process.wait(LIMIT_S)


class User:
    """A connection as one user, with what the server refused it."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client = client
        self._refused = refused

    async def may(self, kind: str, subject: str) -> bool:
        """Try to publish to, or subscribe to, a subject; the server's verdict."""
        self._refused.clear()
        if kind == "publish":
            await self.client.publish(subject, b"")
        else:
            await self.client.subscribe(subject)
        await self.client.flush(LIMIT_S)  # the client's ping may overtake what waits in its own buffer
        await self.client.flush(LIMIT_S)  # the answer to this one comes after the refusal
        return not self._refused


@asynccontextmanager
async def connected(server: Server, name: str) -> AsyncGenerator[User]:
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            refused.append(str(error))

    client = await nats.connect(
        server.url(name), inbox_prefix=inbox_prefix(name), error_cb=on_error, allow_reconnect=False
    )
    try:
        yield User(client, refused)
    finally:
        await client.close()


def one_of(pattern: str) -> str:
    """A subject that a pattern covers."""
    return pattern.replace("*", "x").replace(">", "x.y")


def covers(patterns: tuple[str, ...], subject: str) -> bool:
    """Whether one of the patterns covers a subject, as NATS understands patterns."""

    def fits(pattern: list[str], tokens: list[str]) -> bool:
        if not pattern or not tokens:
            return not pattern and not tokens
        return pattern[0] == ">" or (pattern[0] in ("*", tokens[0]) and fits(pattern[1:], tokens[1:]))

    return any(fits(pattern.split("."), subject.split(".")) for pattern in patterns)


@pytest.mark.parametrize("name", SERVICES)
async def test_publishing_is_allowed_and_refused_exactly_as_the_table_says(server: Server, name: str) -> None:
    subjects = {one_of(pattern) for user in SERVICES for pattern in PERMISSIONS[user].publish}
    async with connected(server, name) as user:
        for subject in sorted(subjects):
            assert await user.may("publish", subject) is covers(PERMISSIONS[name].publish, subject), subject


@pytest.mark.parametrize("name", SERVICES)
async def test_nobody_writes_anothers_truth(server: Server, name: str) -> None:
    async with connected(server, name) as user:
        for subject in (*FORBIDDEN[name], *FORBIDDEN_TO_ALL):
            assert not await user.may("publish", subject), subject
        for other in (*SERVICES, "admin"):
            if other != name:
                assert not await user.may("publish", f"{inbox_prefix(other)}.x.y"), other


@pytest.mark.parametrize("name", SERVICES)
async def test_nobody_listens_to_anothers_conversation(server: Server, name: str) -> None:
    async with connected(server, name) as user:
        assert await user.may("subscribe", f"{inbox_prefix(name)}.x")
        for other in (*SERVICES, "admin"):
            if other != name:
                assert not await user.may("subscribe", f"{inbox_prefix(other)}.>"), other
        for subject in (">", "_INBOX.>", "usage.v1.>", "auth.>", "$KV.keys.>", "$JS.>", "$SYS.>"):
            assert not await user.may("subscribe", subject), subject
        assert await user.may("subscribe", "allot.v1.*") is (name == "enforcer")


async def test_the_enforcer_answers_whom_it_was_asked_by_and_nobody_else(server: Server) -> None:
    async with connected(server, "proxy") as proxy, connected(server, "enforcer") as enforcer:

        async def answer(message: Msg) -> None:
            await message.respond(b"granted")

        await enforcer.client.subscribe(allot_subject(0), cb=answer)
        await enforcer.client.flush(LIMIT_S)  # the first ping may overtake the subscription
        await enforcer.client.flush(LIMIT_S)
        reply = await proxy.client.request(allot_subject(0), b"", timeout=LIMIT_S)
        assert reply.data == b"granted"
        assert not await enforcer.may("publish", f"{inbox_prefix('proxy')}.unasked")
        for name in ("auth", "bookkeeper", "scheduler"):
            async with connected(server, name) as other:
                assert not await other.may("publish", allot_subject(0)), name


@pytest.mark.parametrize(
    "credentials", ["{}", '{"user":"proxy","pass":"wrong"}', '{"user":"stranger","pass":""}', '{"auth_token":"x"}']
)
async def test_without_its_password_there_is_no_entry(server: Server, credentials: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert (await reader.readline()).startswith(b"INFO")
        writer.write(f"CONNECT {credentials}\r\nPING\r\n".encode())
        assert b"Authorization Violation" in await reader.read()
        writer.close()
        await writer.wait_closed()
