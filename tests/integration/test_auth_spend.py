"""Spend in answers: composed from the ledger over HTTP, unknown when it does not say."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from services.auth.domain.scope import ScopeState
from services.auth.keys.reading import ASKED_AT_ONCE
from services.auth.spend import Ledger
from shared.access import Gatekeeper
from shared.bus import Bucket, Bus
from shared.events import BudgetTerms, WindowTerms
from shared.ids import AccountId
from shared.policy import Budget, KeyRecord
from shared.topology import KEYS_BUCKET, key_kv
from shared.windows import WindowSpec, window_at
from tests.support.auth import MASTER_KEY, TOKEN, Auth, auth_running, migrated, settings_for
from tests.support.clock import FakeClock
from tests.support.servers import NatsServer

Reply = Callable[[dict[str, str]], tuple[int, bytes]]
NOW = datetime(2026, 3, 20, tzinfo=UTC)
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


class FakeLedger:
    """An HTTP server that answers as it is told, by query or by the body of a POST, and remembers the questions."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[tuple[str, dict[str, str], dict[bytes, bytes]]] = []
        self.correct: Callable[[Any], tuple[int, bytes]] | None = None
        self.corrections: list[Any] = []

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
        if target.path == "/spend/correct":
            sent = await reader.readexactly(int(headers[b"content-length"]))
            self.corrections.append(msgspec.json.decode(sent))
            assert self.correct is not None
            status, body = self.correct(self.corrections[-1])
        else:
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


def scope(duration: str | None) -> ScopeState:
    """A scope with a budget over a window, or (None) without any."""
    state = ScopeState(created_at=ANCHOR, created_by="ada", updated_at=ANCHOR, updated_by="ada")
    if duration is None:
        return state
    budget = Budget(
        account=AccountId("acct_1"),
        scope_kind="key",
        scope_id="key_1",
        window=WindowSpec(anchor=ANCHOR, duration=duration),
        limit_nusd=1,
    )
    terms = BudgetTerms(main=WindowTerms(limit_nusd=1, duration=duration))
    return msgspec.structs.replace(state, budgets=(budget,), terms=terms)


@pytest.mark.parametrize(
    ("held", "accounts", "current"),
    [
        (scope(None), (), 9.0),
        (scope(""), (("acct_1", 0, 4_000_000_000),), 4.0),
        (scope(""), (), 0.0),
        (scope("30d"), (("acct_1", 1, 5_000_000_000), ("acct_1", 2, 4_000_000_001)), 4.000000001),
        (scope("30d"), (("acct_1", 1, 5_000_000_000), ("acct_0", 2, 4_000_000_000)), 0.0),
        (scope("30d"), (), 0.0),
    ],
)
async def test_spend_is_that_of_the_current_window(
    held: ScopeState, accounts: tuple[tuple[str, int, int], ...], current: float
) -> None:
    assert window_at(scope("30d").budgets[0].window, NOW).index == 2
    async with ledger_with(lambda _query: (200, balance(9_000_000_000, *accounts))) as (fake, url):
        ledger = Ledger(url, TOKEN, wait_ms=5_000)
        spend = await ledger.spend("key", "key_1", held, now=NOW, actor="ada")
        await ledger.close()
    assert (spend.current, spend.total, spend.warnings) == (current, 9.0, [])
    [(path, query, headers)] = fake.asked
    assert path == "/spend/balance"
    assert query == {"scope_kind": "key", "scope_id": "key_1"}
    # The ledger knows us by our token, and the person by our signature.
    principal = Gatekeeper(master_key="m" * 30, peer_tokens={"auth": TOKEN}).authenticate(headers)
    assert principal.actor == "ada"


@pytest.mark.parametrize(
    "reply", [(500, b"{}"), (401, b"{}"), (302, b""), (200, b"not json"), (200, b'{"total_nusd": null}')]
)
async def test_a_ledger_that_does_not_say_leaves_spend_unknown(reply: tuple[int, bytes]) -> None:
    async with ledger_with(lambda _query: reply) as (_, url):
        ledger = Ledger(url, TOKEN, wait_ms=5_000)
        spend = await ledger.spend("key", "key_1", scope(None), now=NOW, actor="ada")
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
    spend = await ledger.spend("key", "key_1", scope(None), now=NOW, actor="ada")
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


MANY = {
    "max_budget": 100,
    "budget_duration": "30d",
    "budget_limits": [{"max_budget": 5, "budget_duration": "1d", "budget_timezone": "Europe/Berlin"}],
    "model_max_budget": {"gpt-*": {"budget_limit": 2, "time_period": "7d"}},
}


@asynccontextmanager
async def auth_and_ledger(nats: NatsServer, database: str) -> AsyncGenerator[tuple[Auth, FakeLedger], None]:
    async with ledger_with(lambda _query: (200, balance(0))) as (fake, url):
        settings = settings_for(nats, await migrated(database), ledger_url=url)
        async with auth_running(settings, FakeClock(NOW)) as auth:
            await auth.ready()
            yield auth, fake


async def accounts_of(nats: NatsServer, key_id: str) -> list[str]:
    """The accounts of a key as a proxy sees them."""
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test-proxy")
    entry = await Bucket(bus, KEYS_BUCKET).get(key_kv(key_id))
    await bus.close()
    assert entry is not None
    return [budget.account for budget in msgspec.json.decode(entry.value, type=KeyRecord).budgets]


async def test_spend_of_each_window_and_model(nats: NatsServer, database: str) -> None:
    async with auth_and_ledger(nats, database) as (auth, fake):
        made = await auth.post("/key/generate", MANY)
        main, daily, models = await accounts_of(nats, made["token_id"])
        fake.reply = lambda _query: (200, balance(9 * 10**9, (main, 0, 7 * 10**9), (daily, 0, 4 * 10**9)))
        info = (await auth.get("/key/info", {"key": made["key"]}))["info"]
        assert (info["spend"], info["total_spend"]) == (7.0, 9.0)
        [window] = info["budget_limits"]
        assert (window["spend"], window["max_budget"], window["budget_timezone"]) == (4.0, 5.0, "Europe/Berlin")
        assert datetime.fromisoformat(window["reset_at"]) == NOW + timedelta(days=1)
        assert info["model_max_budget"]["gpt-*"]["spend"] == 0.0, "a window that nobody heard of holds nothing yet"
        assert info["model_max_budget"]["gpt-*"]["time_period"] == "7d"
        fake.reply = lambda _query: (500, b"")
        info = (await auth.get("/key/info", {"key": made["key"]}))["info"]
        assert info["budget_limits"][0]["spend"] is None, "unknown is null"
        [row] = (await auth.get("/key/list", {"return_full_object": "true"}))["keys"]
        assert "spend" not in row["budget_limits"][0], "lists do not ask the ledger"
        assert models.startswith("acct_")


async def test_a_reset_corrects_the_current_windows_and_says_what_it_did(nats: NatsServer, database: str) -> None:
    async with auth_and_ledger(nats, database) as (auth, fake):
        made = await auth.post("/key/generate", MANY)
        accounts = await accounts_of(nats, made["token_id"])
        spent = dict(zip(accounts, (7 * 10**9, 4 * 10**9, 10**9), strict=True))

        def correct(body: Any) -> tuple[int, bytes]:
            rows = [
                {**row, "before_nusd": spent[row["account"]], "after_nusd": row["to_nusd"]} for row in body["accounts"]
            ]
            return 200, msgspec.json.encode({"corrections": rows})

        fake.correct = correct
        path = f"/key/{made['token_id']}/reset_spend"
        answer = await auth.post(path, {"reason": "the test loop of ada"})
        assert fake.corrections == [
            {
                "scope_kind": "key",
                "scope_id": made["token_id"],
                "accounts": [{"account": account, "index": 0, "to_nusd": 0} for account in accounts],
                "reason": "the test loop of ada",
            }
        ]
        _, _, headers = fake.asked[-1]
        assert Gatekeeper(master_key="m" * 30, peer_tokens={"auth": TOKEN}).authenticate(headers).actor == "master-key"
        assert (answer["key_hash"], answer["spend"], answer["previous_spend"]) == (made["token_id"], 0.0, 7.0)
        assert [(row["before"], row["after"], row["model"]) for row in answer["corrections"]] == [
            (7.0, 0.0, None),
            (4.0, 0.0, None),
            (1.0, 0.0, "gpt-*"),
        ]
        # To an amount: only what is above it is lowered, nothing is ever raised.
        windows = [(account, 0, nusd) for account, nusd in spent.items()]
        fake.reply = lambda _query: (200, balance(9 * 10**9, *windows))
        answer = await auth.post(path, {"reset_to": 4})
        assert [row["account"] for row in fake.corrections[-1]["accounts"]] == accounts[:1]
        bare = await auth.client.post(path, headers={"authorization": f"Bearer {MASTER_KEY}"})
        assert (bare.status_code, fake.corrections[-1]["reason"]) == (200, ""), "no body at all is a reset to 0"
        fake.corrections.pop()
        answer = await auth.post(path, {"reset_to": 50})
        assert len(fake.corrections) == 2
        assert (answer["corrections"], answer["spend"], answer["previous_spend"]) == ([], 7.0, 7.0)
        assert "nothing was changed" in answer["warnings"][0]
        # The ledger had nothing to do: what it said of the spend before stands; unknown is told.
        fake.correct = lambda _body: (200, b'{"corrections": []}')
        answer = await auth.post(path, {})
        assert (answer["spend"], answer["previous_spend"], len(answer["warnings"])) == (7.0, 7.0, 1)
        fake.reply = lambda _query: (500, b"")
        answer = await auth.post(path, {})
        assert (answer["spend"], "not zero" in answer["warnings"][1]) == (None, True)
        fake.correct = lambda body: (
            200,
            msgspec.json.encode({**msgspec.json.decode(correct(body)[1]), "applied": False}),
        )
        answer = await auth.post(path, {})
        assert (answer["spend"], answer["previous_spend"]) == (0.0, 7.0)
        assert "not yet" in answer["warnings"][0]


async def test_resets_that_are_refused(nats: NatsServer, database: str) -> None:
    async with auth_and_ledger(nats, database) as (auth, fake):
        made = await auth.post("/key/generate", MANY)
        bare = await auth.post("/key/generate", {})
        path = f"/key/{made['token_id']}/reset_spend"
        for body in ({"reset_to": -1}, {"reset_to": True}, {"reset_to": "0"}, {"reason": "a\nb"}, {"to": 0}):
            await auth.post(path, body, status=400)
        error = (await auth.post(f"/key/{bare['token_id']}/reset_spend", {}, status=400))["error"]
        assert "no budget" in error["message"]
        for unknown in ("/key/key_x/reset_spend", "/team/t/reset_spend", "/organization/o/reset_spend"):
            await auth.post(unknown, {}, status=404)
        await auth.post(path, {}, status=403, key=made["key"])
        assert fake.corrections == []
        # What the ledger says against it is passed on; what it cannot say is "try again", never a success.
        fake.correct = lambda _body: (409, b'{"error": {"message": "the window is over", "code": "window_over"}}')
        error = (await auth.post(path, {}, status=409))["error"]
        assert (error["code"], error["message"]) == ("window_over", "the window is over")
        for reply in ((500, b""), (401, b"{}"), (200, b"?")):
            fake.correct = lambda _body, reply=reply: reply
            assert (await auth.post(path, {}, status=503))["error"]["code"] == "unavailable"
        fake.reply = lambda _query: (500, b"")
        await auth.post(path, {"reset_to": 1}, status=503)


async def test_a_reset_without_a_ledger(nats: NatsServer, database: str) -> None:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        await auth.post("/team/new", {"team_id": "t1", "max_budget": 5})
        await auth.post("/organization/update", {"organization_id": "default", "max_budget": 50})
        for path in ("/team/t1/reset_spend", "/organization/default/reset_spend"):
            error = (await auth.post(path, {}, status=503))["error"]
            assert "nothing was changed" in error["message"]


async def test_when_each_version_was_last_used_is_the_ledgers_word(nats: NatsServer, database: str) -> None:
    def reply(_query: dict[str, str]) -> tuple[int, bytes]:
        return 200, msgspec.json.encode({"total_nusd": 2_000_000_000, "versions": {"1": NOW}})

    async with (
        ledger_with(reply) as (_, url),
        auth_running(settings_for(nats, await migrated(database), ledger_url=url)) as auth,
    ):
        await auth.ready()
        made = await auth.post("/key/generate", {})
        info = (await auth.get("/key/info", {"key": made["key"]}))["info"]
        assert [(row["version"], row["last_used"]) for row in info["versions"]] == [(1, "2026-03-20T00:00:00Z")]
        assert info["spend"] == 2.0


async def test_a_ledger_that_does_not_answer_is_not_asked_for_every_key(nats: NatsServer, database: str) -> None:
    async with (
        ledger_with(lambda _query: (503, b"{}")) as (ledger, url),
        auth_running(settings_for(nats, await migrated(database), ledger_url=url)) as auth,
    ):
        await auth.ready()
        made = [(await auth.post("/key/generate", {}))["token_id"] for _ in range(20)]
        ledger.asked.clear()
        answer = await auth.post("/v2/key/info", {"keys": made})
        assert [row["spend"] for row in answer["info"]] == [None] * 20
        assert len(answer["warnings"]) == 1
        assert len(ledger.asked) == ASKED_AT_ONCE
