"""The bookkeeper against real NATS and PostgreSQL: each event once, whatever fails, and the API over the books."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest

from services.ledger.bookkeeper import store, store_rebuild
from services.ledger.bookkeeper.store import Database, Item, Position
from services.ledger.bookkeeper.store_rows import Row
from shared.access import sign_actor
from shared.bus import Bucket, Bus
from shared.errors import StoreUnavailable, StreamChanged
from shared.events import encode
from shared.ids import PriceId
from shared.pricing import CLASSES, UNIT_CLASSES, PriceRow, Rates, Usage, price, price_id
from shared.topology import CATALOG_BUCKET, price_kv, usage_subject
from tests.support.books import WITHIN_S, Town, eventually, town_of
from tests.support.ledger import (
    EPOCH,
    KEY,
    ORG,
    OTHER,
    P1,
    P2,
    TEAM,
    budget,
    budget_set,
    key_issued,
    org_created,
    team_created,
    used,
    window,
)
from tests.support.servers import NatsServer, PostgresServer
from tests.support.usages import usage_of

A = window("a:key_1")


@pytest.fixture
async def town(nats: NatsServer, database: str) -> AsyncIterator[Town]:
    async with town_of(nats, database) as town:
        yield town


async def test_usage_arrives_in_the_books_and_can_be_asked_for(town: Town) -> None:
    await town.decided(
        org_created(),
        team_created(),
        key_issued(),
        key_issued(OTHER),
        budget_set(budget(KEY, 10**9, duration="30d")),
        budget_set(budget(TEAM, 2 * 10**9, kind="team")),
    )
    async with town.books():
        windows = (window("a:key_1"), window("a:team_1"))
        await town.use(used(1, 250_000_000, *windows), used(2, 50_000_000, *windows))
        await town.use(used(1, 700_000_000, window("a:team_1"), key=OTHER, instance=P2), instance=P2)
        await town.hold(3)
        balance = await town.get("/spend/balance", scope_kind="team", scope_id=TEAM)
        assert (balance["total_nusd"], balance["accounts"][0]["spent_nusd"]) == (1_000_000_000, 1_000_000_000)
        balance = await town.get("/spend/balance", scope_kind="key", scope_id=KEY)
        (account,) = balance["accounts"]
        assert (account["account"], account["limit_nusd"], account["duration"]) == ("a:key_1", 10**9, "30d")
        unknown = await town.get("/spend/balance", scope_kind="org", scope_id="nobody")
        assert (unknown["total_nusd"], unknown["overdraft_nusd"], unknown["accounts"]) == (0, 0, [])
        keys = (await town.get("/spend/keys"))["data"]
        assert [(key["key_id"], key["spend"], key["spend_nusd"], key["calls"], key["key_alias"]) for key in keys] == [
            (OTHER, 0.7, 700_000_000, 1, "a key"),
            (KEY, 0.3, 300_000_000, 2, "a key"),
        ]
        assert [key["max_budget"] for key in keys] == [None, 1.0]
        teams = await town.get("/spend/teams", page=1, size=1)
        assert (teams["data"][0]["team_alias"], teams["data"][0]["spend"], teams["total_pages"]) == ("the team", 1.0, 1)


async def test_the_log_of_calls_filters_and_pages_newest_first(town: Town) -> None:
    async with town.books():
        raw = msgspec.Raw(b'{"prompt_tokens":7,"odd":"\\u0000"}')
        await town.use(
            *(used(n, n, model="phi-4" if n % 2 else "gpt-4o", raw=raw) for n in range(1, 8)),
            used(8, 9, key=OTHER, team=None, outcome="upstream_error", status=502, measured="estimated"),
        )
        await town.hold(8)
        page = await town.get("/spend/logs", limit=3)
        assert [row["n"] for row in page["data"]] == [8, 7, 6]
        page = await town.get("/spend/logs", limit=3, cursor=page["next"])
        assert [row["n"] for row in page["data"]] == [5, 4, 3]
        last = await town.get("/spend/logs", limit=3, cursor=page["next"])
        assert ([row["n"] for row in last["data"]], last["next"]) == ([2, 1], None)
        row = last["data"][1]
        assert (row["request_id"], row["api_key"], row["spend"], row["cost_nusd"]) == ("call-p1-1", KEY, 1e-9, 1)
        assert (row["prompt_tokens"], row["completion_tokens"], row["status"]) == (10, 5, "success")
        assert row["usage"] == {"prompt_tokens": 7, "odd": "\ufffd"}
        assert row["startTime"] == "2026-11-01T00:00:01Z"
        assert row["endTime"] == "2026-11-01T00:00:01.120000Z"

        async def numbers(**query: str) -> list[int]:
            return [row["n"] for row in (await town.get("/spend/logs", **query))["data"]]

        assert await numbers(api_key=OTHER) == [8]
        assert await numbers(model="phi-4") == [7, 5, 3, 1]
        assert await numbers(outcome="upstream_error", measured="estimated") == [8]
        assert await numbers(team_id=TEAM, start="2026-11-01T00:00:06Z") == [7, 6]
        assert await numbers(end="2026-11-01T00:00:03+00:00") == [2, 1]
        assert await numbers(call_id="call-p1-4") == [4]
        assert await numbers(request_id="no such call") == []


BAD_QUESTIONS = (
    ("/spend/balance", "scope_kind"),
    ("/spend/balance?scope_kind=galaxy&scope_id=x", "scope_kind"),
    ("/spend/balance?scope_kind=key", "scope_id"),
    ("/spend/keys?size=0", "size"),
    ("/spend/keys?page=99999999999", "page"),
    ("/spend/logs?limit=abc", "limit"),
    ("/spend/logs?cursor=x", "cursor"),
    ("/spend/logs?start=yesterday", "start"),
    ("/spend/logs?user_id=7", "user_id"),
    ("/spend/logs?model=%00", "model"),
)


async def test_bad_questions_get_clear_words(town: Town) -> None:
    async with town.books():
        assert town.http is not None
        for path, word in BAD_QUESTIONS:
            answer = await town.http.get(path)
            assert answer.status_code == 400, path
            assert word in answer.json()["error"]["message"]


async def test_only_administrators_and_peers_may_look(town: Town) -> None:
    async with town.books():
        assert town.http is not None
        paths = ("/spend/keys", "/spend/logs", "/spend/balance?scope_kind=key&scope_id=x", "/ledger/status", "/metrics")
        for path in paths:
            assert (await town.http.get(path, headers={"authorization": "Bearer sk-wrong"})).status_code == 401
        peer = {"authorization": "Bearer peer-token", "x-tundish-actor": sign_actor("peer-token", "ann")}
        assert (await town.http.get("/spend/keys", headers=peer)).status_code == 200
        refused = await town.http.post("/ledger/rebuild", headers={"authorization": ""})
        assert refused.status_code == 401


async def test_an_event_delivered_again_and_again_is_stored_once(town: Town) -> None:
    events = [used(n, 10, A) for n in range(1, 6)]
    async with town.books() as service:
        await town.use(*events)
        await town.use(*events[2:], *events)
        renamed = [msgspec.structs.replace(event, id=used(1, 1).id) for event in events[:2]]
        await town.use(*renamed, used(6, 10, A))  # same numbers under other ids: recovered twice
        await town.hold(6)
        assert await service.consumer.reach(3, WITHIN_S)
        balance = await town.get("/spend/balance", scope_kind="key", scope_id=KEY)
        assert balance["total_nusd"] == 60
        assert await town.value("SELECT spent_nusd FROM account_spend") == 60
        job = await town.rebuild(check=True)
        assert (job["state"], job["equal"], job["events"], job["differences"]) == ("done", True, 6, [])


async def test_what_a_killed_bookkeeper_had_in_hand_is_not_waited_for(town: Town) -> None:
    """Fetched and never acknowledged: the broker keeps it back for a minute, the successor reads it at once."""
    await town.use(used(1, 10, A), used(2, 10, A))
    bus = await Bus.open(town.nats.url_for("bookkeeper"), user="bookkeeper", name="dies")
    from shared.bus import WorkQueue

    async with WorkQueue(bus, "LEDGER", "bookkeeper") as queue:
        assert len(await queue.fetch(10)) == 1
    await bus.close()
    async with town.books():
        await town.hold(2)
        await town.use(used(3, 10, A))
        await town.hold(3)
        job = await town.rebuild(check=True)
        assert (job["state"], job["equal"]) == ("done", True)


async def test_a_crash_between_commit_and_acknowledgement_counts_nothing_twice(town: Town) -> None:
    events = [used(n, 10, A) for n in range(1, 4)]
    seq = await town.use(*events)
    database = Database(town.database)
    await database.open()
    created = (await town.admin.stream_info("LEDGER")).created
    items = [Item(seq=seq, subject="s", event=Row(event)) for event in events]
    assert await store.commit(database, items, Position(created=created, seq=seq)) == 3
    assert await store.commit(database, items, Position(created=created, seq=seq)) == 0
    database.close()
    async with town.books() as service:
        assert await service.consumer.reach(seq, WITHIN_S)
        assert await town.value("SELECT total_nusd FROM spend WHERE scope_kind = 'org'") == 30


async def test_books_of_another_stream_are_not_mixed_in(town: Town) -> None:
    database = Database(town.database)
    await database.open()
    await store.commit(database, [], Position(created="then", seq=9))
    with pytest.raises(StreamChanged, match="another stream"):
        await store.commit(database, [Item(seq=1, subject="s", event=Row(used(1, 1)))], Position(created="now", seq=1))
    assert await town.value("SELECT count(*) FROM usage_event") == 0
    database.close()


async def test_postgres_away_loses_nothing(town: Town, postgres_server: PostgresServer) -> None:
    async with town.books() as service:
        await town.use(used(1, 10, A))
        await town.hold(1)
        postgres_server.stop(signal.SIGINT)
        try:
            for n in range(2, 12):
                await town.use(used(n, 10, A))
            assert town.http is not None
            answer = await town.http.get("/spend/keys")
            assert answer.status_code == 503
            assert (await town.http.get("/health/readiness")).status_code == 503
        finally:
            postgres_server.start()
        await town.hold(11)
        assert await service.consumer.reach(11, WITHIN_S)
        assert await town.value("SELECT spent_nusd FROM account_spend") == 110

        async def well() -> bool:
            assert town.http is not None
            return (await town.http.get("/health/readiness")).status_code == 200

        await eventually(well)


async def test_nats_away_loses_nothing(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 10, A))
        await town.hold(1)
        town.nats.stop()
        town.nats.start()

        async def published() -> bool:
            with contextlib.suppress(Exception):
                await town.use(used(2, 10, A), timeout_s=0.5)
                return True
            return False

        await eventually(published)
        await town.hold(2)
        job = await town.rebuild(check=True)
        assert (job["state"], job["equal"]) == ("done", True)


async def test_it_starts_without_postgres_and_says_so(town: Town) -> None:
    right, town.database = town.database, "postgresql://nobody:x@127.0.0.1:1/none"
    async with town.books():
        assert town.http is not None
        ready = await town.http.get("/health/readiness")
        assert (ready.status_code, ready.json()["checks"]["postgres"]) == (503, "does not answer")
    town.database = right
    empty = Database(right.replace("/test", "/postgres?x=").split("?")[0].rstrip("0123456789"))
    with pytest.raises(StoreUnavailable):
        await empty.open()
    empty.close()


async def test_what_cannot_be_read_is_kept_and_counted(town: Town) -> None:
    async with town.books():
        await town.proxy.publish(usage_subject(0, P1), b"no list at all")
        await town.proxy.publish(usage_subject(0, P1), b'[{"type":"usage.recorded.v1"},' + encode(used(1, 5, A)) + b"]")
        await town.use(used(2, 5, A, model="a\0b", raw=msgspec.Raw(b'{"deep":' + b"[" * 900 + b"]" * 900 + b"}")))
        await town.hold(2)
        assert await town.value("SELECT count(*) FROM dead_letter") == 2
        assert await town.value("SELECT data FROM dead_letter ORDER BY seq LIMIT 1") == b"no list at all"
        status = await town.get("/ledger/status")
        assert (status["dead_letters"], status["events"], status["lag_messages"]) == (2, 2, 0)
        assert (await town.rebuild(check=True))["equal"] is True


async def test_a_price_that_does_not_fit_is_shown_and_changes_no_balance(town: Town) -> None:
    usage = Usage(input=1_000, output=100)
    row = PriceRow(model="gpt-4o", rates=Rates(input=2_500_000_000, output=10_000_000_000))
    right, name = price(usage, row), price_id(row)
    await Bucket(town.admin, CATALOG_BUCKET).put(price_kv(name), msgspec.json.encode(row))
    async with town.books():
        await town.use(
            used(1, right, usage=usage, price_id=name),
            used(2, right + 5, usage=usage, price_id=name),
            used(3, 77, usage=usage, price_id=PriceId("travels"), price=row),
            used(4, 99, usage=usage, price_id=name, measured="lost"),
        )
        await town.hold(4)
        logs = (await town.get("/spend/logs"))["data"]
        assert [(row["n"], row["repriced_nusd"]) for row in logs] == [(4, None), (3, right), (2, right), (1, None)]
        assert (await town.get("/ledger/status"))["mispriced"] == 2
        balance = await town.get("/spend/balance", scope_kind="key", scope_id=KEY)
        assert balance["total_nusd"] == 2 * right + 5 + 77 + 99
        assert town.http is not None
        assert "tundish_books_mispriced_total 2" in (await town.http.get("/metrics")).text


async def test_a_rebuild_finds_and_mends_every_kind_of_damage(town: Town) -> None:
    async with town.books():
        for n in range(1, 31):
            await town.use(used(n, n, A, key=KEY if n % 3 else OTHER))
        await town.hold(30)
        assert (await town.rebuild(check=True))["equal"] is True
        await town.value("UPDATE spend SET total_nusd = total_nusd + 7 WHERE scope_id = $1", KEY)
        await town.value("UPDATE account_spend SET spent_nusd = 1")
        await town.value("UPDATE usage_event SET cost_nusd = 500 WHERE n = 4")
        await town.value("DELETE FROM usage_event WHERE n = 9")
        job = await town.rebuild(check=True)
        assert (job["state"], job["equal"], job["total"]) == ("done", False, 30)
        found = {(entry["what"], entry["books_nusd"], entry["log_nusd"]) for entry in job["differences"]}
        assert {("event", 500, 4), ("event", 0, 9), ("event count", 29, 30), ("account window", 1, 465)} <= found
        assert any(entry["what"] == "key total" and entry["id"] == KEY for entry in job["differences"])
        mended = await town.rebuild(check=False)
        assert (mended["state"], mended["equal"]) == ("done", False)
        await town.use(used(31, 31, A))
        await town.hold(31)
        assert (await town.rebuild(check=True))["equal"] is True
        assert (await town.rebuild(check=False))["equal"] is True
        assert await town.value("SELECT sum(cost_nusd)::bigint FROM usage_event") == 31 * 32 // 2
        assert await town.value("SELECT count(*) FROM pg_indexes WHERE indexname = 'usage_event_by_key'") == 1


async def test_every_class_of_usage_is_kept_shown_checked_and_rebuilt(town: Town) -> None:
    counts = {name: place for place, name in enumerate((*CLASSES, "reasoning"), 1)}
    usage = usage_of(counts, tier="priority", kind="hd/1024-x-1024")
    row = PriceRow(
        model="m", rates=Rates(**dict.fromkeys(Rates.__struct_fields__, 1_000_000)), kinds={usage.kind: 10**7}
    )
    right = price(usage, row)
    async with town.books():
        await town.use(
            used(1, right, A, usage=usage, price=row, price_id=price_id(row)),
            used(2, right + 1, A, usage=usage, price=row, price_id=price_id(row)),
            used(3, 5, A),
        )
        await town.hold(3)
        plain, wrong, shown = (await town.get("/spend/logs"))["data"]
        assert (shown["repriced_nusd"], wrong["repriced_nusd"]) == (None, right)
        assert (shown["prompt_tokens"], shown["completion_tokens"]) == (usage.prompt, usage.completion)
        assert shown["total_tokens"] == usage.prompt + usage.completion
        assert shown["cached_tokens"] == usage.cached + usage.audio_cached + usage.image_cached
        for field in ("cache_write", "cache_write_1h", "reasoning", "audio_input", "audio_cached", "audio_output"):
            assert (shown[f"{field}_tokens"], plain[f"{field}_tokens"]) == (counts[field], 0)
        for field in ("image_input", "image_cached", "image_output"):
            assert (shown[f"{field}_tokens"], plain[f"{field}_tokens"]) == (counts[field], 0)
        for field in UNIT_CLASSES:
            assert (shown[field], plain[field]) == (counts[field], 0)
        assert (shown["service_tier"], shown["kind"]) == ("priority", "hd/1024-x-1024")
        assert (plain["service_tier"], plain["kind"]) == ("", "")
        (key,) = (await town.get("/spend/keys"))["data"]
        assert key["prompt_tokens"] == 2 * usage.prompt + plain["prompt_tokens"]
        assert key["completion_tokens"] == 2 * usage.completion + plain["completion_tokens"]
        assert (await town.rebuild(check=True))["equal"] is True
        await town.value("UPDATE usage_event SET audio_output_tokens = 77, kind = 'low/1-x-1' WHERE n = 1")
        found = (await town.rebuild(check=True))["differences"]
        assert {(entry["what"], entry["books_nusd"], entry["log_nusd"]) for entry in found} >= {
            ("event audio_output_tokens count", 77, counts["audio_output"]),
            ("event kind count", 0, 1),
        }
        assert (await town.rebuild(check=False))["equal"] is False
        assert (await town.rebuild(check=True))["equal"] is True
        (_, _, shown) = (await town.get("/spend/logs"))["data"]
        assert (shown["audio_output_tokens"], shown["kind"]) == (counts["audio_output"], "hd/1024-x-1024")


async def test_a_rebuild_under_traffic_is_equal(town: Town) -> None:
    async with town.books():
        publishing = True

        async def traffic() -> int:
            n = 0
            while publishing:
                n += 1
                await town.use(used(n, 3, A))
            return n

        async with asyncio.TaskGroup() as group:
            load = group.create_task(traffic())
            await eventually(lambda: town.value("SELECT count(*) > 20 FROM usage_event"))
            for check in (True, False, True):
                job = await town.rebuild(check=check)
                assert (job["state"], job["equal"], job["differences"]) == ("done", True, [])
            publishing = False
        await town.hold(load.result())
        assert (await town.rebuild(check=True))["equal"] is True


async def test_a_rebuild_that_fails_leaves_the_books_and_no_copy(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise StoreUnavailable("Postgres does not answer")

    async with town.books():
        await town.use(used(1, 5, A))
        await town.hold(1)
        monkeypatch.setattr(store_rebuild, "replace", refuse)
        job = await town.rebuild(check=False)
        assert (job["state"], job["error"]) == ("failed", "Postgres does not answer")
        query = "SELECT count(*) FROM information_schema.tables WHERE table_name = $1"
        assert await town.value(query, store_rebuild.SHADOW) == 0
        assert await town.value("SELECT sum(cost_nusd)::bigint FROM usage_event") == 5


async def test_rebuild_orders_are_checked(town: Town) -> None:
    async with town.books():
        assert town.http is not None
        assert (await town.http.post("/ledger/rebuild", json={"chek": 1})).status_code == 400
        assert (await town.http.get("/ledger/rebuild/none")).status_code == 404
        assert (await town.rebuild(check=True))["total"] == 0


async def test_two_bookkeepers_share_the_work_and_count_each_event_once(town: Town) -> None:
    async with town.books() as first, town.books() as second:
        for n in range(1, 61):
            await town.use(used(n, 2, A))
        await town.hold(60)
        assert await town.value("SELECT spent_nusd FROM account_spend") == 120
        assert (await town.rebuild(check=True))["equal"] is True
        assert first.consumer is not second.consumer
        assert (await town.get("/spend/balance", scope_kind="org", scope_id=ORG))["total_nusd"] == 120


def test_the_epoch_of_these_tests_is_a_window_start() -> None:
    assert EPOCH.tzinfo is not None
