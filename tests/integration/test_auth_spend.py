"""Spend in answers: composed from the ledger over HTTP, unknown when it does not say."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from services.auth.spend import Ledger
from shared.access import Gatekeeper
from shared.ids import AccountId
from shared.policy import Budget
from shared.windows import WindowSpec, window_at
from tests.support.auth import TOKEN, auth_running, migrated, settings_for
from tests.support.clock import FakeClock
from tests.support.servers import NatsServer

Reply = Callable[[dict[str, str]], tuple[int, bytes]]
NOW = datetime(2026, 3, 20, tzinfo=UTC)
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


class FakeLedger:
    """An HTTP server that answers `/spend/balance` as it is told and remembers what it was asked."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[tuple[str, dict[str, str], dict[bytes, bytes]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        request, *lines = head.decode().split("\r\n")
        target = urlsplit(request.split(" ")[1])
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        headers = {
            name.strip().lower().encode(): value.strip().encode()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        self.asked.append((target.path, query, headers))
        status, body = self.reply(query)
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def ledger_with(reply: Reply) -> AsyncGenerator[tuple[FakeLedger, str], None]:
    fake = FakeLedger(reply)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    try:
        yield fake, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def balance(total: int, *accounts: tuple[str, int, int]) -> bytes:
    return msgspec.json.encode(
        {
            "scope_kind": "key",
            "scope_id": "key_1",
            "total_nusd": total,
            "accounts": [
                {"account": account, "index": index, "spent_nusd": spent, "start": ANCHOR, "end": None}
                for account, index, spent in accounts
            ],
        }
    )


def budget(duration: str) -> Budget:
    return Budget(
        account=AccountId("acct_1"),
        scope_kind="key",
        scope_id="key_1",
        window=WindowSpec(anchor=ANCHOR, duration=duration),
        limit_nusd=1,
    )


@pytest.mark.parametrize(
    ("held", "accounts", "current"),
    [
        (None, (), 9.0),
        (budget(""), (("acct_1", 0, 4_000_000_000),), 9.0),
        (budget("30d"), (("acct_1", 1, 5_000_000_000), ("acct_1", 2, 4_000_000_001)), 4.000000001),
        (budget("30d"), (("acct_1", 1, 5_000_000_000), ("acct_0", 2, 4_000_000_000)), 0.0),
        (budget("30d"), (), 0.0),
    ],
)
async def test_spend_is_that_of_the_current_window(
    held: Budget | None, accounts: tuple[tuple[str, int, int], ...], current: float
) -> None:
    assert window_at(budget("30d").window, NOW).index == 2
    async with ledger_with(lambda _query: (200, balance(9_000_000_000, *accounts))) as (fake, url):
        ledger = Ledger(url, TOKEN, wait_ms=5_000)
        spend = await ledger.spend("key", "key_1", held, now=NOW, actor="ada")
        await ledger.close()
    assert (spend.current, spend.total, spend.warnings) == (current, 9.0, [])
    [(path, query, headers)] = fake.asked
    assert path == "/spend/balance"
    assert query == {"scope_kind": "key", "scope_id": "key_1"}
    # The ledger knows us by our token, and the person by our signature.
    principal = Gatekeeper(master_key="m" * 30, peer_tokens={"auth": TOKEN}).admin(headers)
    assert principal.actor == "ada"


@pytest.mark.parametrize(
    "reply", [(500, b"{}"), (401, b"{}"), (302, b""), (200, b"not json"), (200, b'{"total_nusd": null}')]
)
async def test_a_ledger_that_does_not_say_leaves_spend_unknown(reply: tuple[int, bytes]) -> None:
    async with ledger_with(lambda _query: reply) as (_, url):
        ledger = Ledger(url, TOKEN, wait_ms=5_000)
        spend = await ledger.spend("key", "key_1", None, now=NOW, actor="ada")
        await ledger.close()
    assert (spend.current, spend.total) == (None, None)
    assert "not zero" in spend.warnings[0]


async def test_a_ledger_that_hangs_is_not_waited_for() -> None:
    release = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    ledger = Ledger(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", TOKEN, wait_ms=150)
    spend = await ledger.spend("key", "key_1", None, now=NOW, actor="ada")
    assert spend.current is None
    await ledger.close()
    release.set()
    server.close()


async def test_spend_of_key_team_and_organization(nats: NatsServer, database: str) -> None:
    spent: dict[str, Any] = {"key": 1_500_000_000, "team": 2_000_000_000, "org": 3_000_000_000}

    def reply(query: dict[str, str]) -> tuple[int, bytes]:
        return 200, balance(spent[query["scope_kind"]])

    async with ledger_with(reply) as (_, url):
        settings = settings_for(nats, await migrated(database), ledger_url=url)
        async with auth_running(settings, FakeClock(NOW)) as auth:
            await auth.ready()
            await auth.post("/team/new", {"team_id": "t1"})
            made = await auth.post("/key/generate", {"team_id": "t1"})
            answer = await auth.get("/key/info", key=made["key"])
            assert (answer["info"]["spend"], answer["info"]["total_spend"]) == (1.5, 1.5)
            assert answer["warnings"] == []
            assert (await auth.get("/team/info", {"team_id": "t1"}))["team_info"]["spend"] == 2.0
            org = await auth.get("/organization/info", {"organization_id": "default"})
            assert org["spend"] == 3.0
            await auth.post("/key/update", {"key": made["key"], "max_budget": 5, "budget_duration": "1d"})
            fresh = await auth.get("/key/info", {"key": made["key"]})
            assert (fresh["info"]["spend"], fresh["info"]["total_spend"]) == (0.0, 1.5)
