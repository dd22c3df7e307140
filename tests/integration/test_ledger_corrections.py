"""Corrections of spend against real NATS and PostgreSQL: ordered once, in the log once, in the books once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from services.ledger.bookkeeper import corrections, store_corrections
from services.ledger.bookkeeper.store import Database
from services.ledger.bookkeeper.store_corrections import Target
from services.ledger.domain.usage import read_usage
from shared import pg
from shared.bus import Tail
from shared.clock import SystemClock
from shared.events import Change, UsageCorrected, encode, usage_batch
from shared.ids import EventId, InstanceId, uuid7
from shared.topology import CORRECTIONS, LEDGER, usage_subject
from tests.support.books import Town, eventually, town_of
from tests.support.ledger import (
    EPOCH,
    KEY,
    ORG,
    OTHER,
    TEAM,
    budget,
    budget_set,
    event_id,
    key_issued,
    org_created,
    team_created,
    used,
    window,
)
from tests.support.servers import NatsServer

A = window("a:key_1")
T = window("a:team_1")
NAME = InstanceId("books_test")


@pytest.fixture
async def town(nats: NatsServer, database: str) -> AsyncIterator[Town]:
    async with town_of(nats, database) as town:
        await town.decided(
            org_created(),
            team_created(),
            key_issued(),
            key_issued(OTHER),
            budget_set(budget(KEY, 10**9)),
            budget_set(budget(TEAM, 10**10, kind="team")),
            budget_set(budget(OTHER, 10**9, duration="1d")),
        )
        yield town


def to(amount: int, *, account: str = "a:key_1", index: int = 0, scope_id: str = KEY, **more: object) -> dict[str, Any]:
    order = {
        "scope_kind": "team" if scope_id == TEAM else "key",
        "scope_id": scope_id,
        "accounts": [{"account": account, "index": index, "to_nusd": amount}],
        "reason": "a load test",
    }
    return order | more


async def in_the_log(town: Town) -> list[UsageCorrected]:
    """Every correction in the log, message by message."""
    found: list[UsageCorrected] = []
    if (await town.admin.stream_info(LEDGER)).state.last_seq == 0:
        return found
    async for batch in Tail(town.admin, LEDGER, "usage.v1.>").batches():
        for message in batch.messages:
            found += [event for event in read_usage(message.data)[0] if isinstance(event, UsageCorrected)]
        if batch.caught_up:
            return found
    raise AssertionError("the log has no end")


async def ordered_by_a_process_that_died(town: Town, target: int) -> UsageCorrected:
    """An order that was committed, whose process then did nothing more."""
    database = Database(town.database)
    await database.open()

    def make(instance: InstanceId, n: int, changes: tuple[Change, ...]) -> UsageCorrected:
        return UsageCorrected(
            id=EventId(uuid7()),
            at=EPOCH,
            source="ledger-bookkeeper/test",
            instance=instance,
            partition=0,
            n=n,
            scope_kind="key",
            scope_id=KEY,
            changes=changes,
            actor="ann",
        )

    targets = [Target(account="a:key_1", index=0, to_nusd=target)]
    _, event = await store_corrections.order(database, 0, NAME, targets, make)
    database.close()
    assert event is not None
    return event


async def settled(town: Town, amount: int) -> None:
    async def there() -> bool:
        pending = await town.value("SELECT count(*) FROM correction_outbox")
        return pending == 0 and await town.spent() == amount

    await eventually(there)


async def test_spend_is_set_right_and_the_record_of_calls_stays(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 100, A, T), used(2, 50, A, T))
        await town.hold(2)
        answer = await town.correct(to(0))
        assert answer["corrections"] == [{"account": "a:key_1", "index": 0, "before_nusd": 150, "after_nusd": 0}]
        assert answer["applied"] is True
        balance = await town.get("/spend/balance", scope_kind="key", scope_id=KEY)
        assert (balance["total_nusd"], balance["accounts"][0]["spent_nusd"]) == (150, 0)
        assert await town.spent("a:team_1") == 150, "another scope's account is not touched"
        assert len((await town.get("/spend/logs"))["data"]) == 2
        await town.use(used(3, 7, A))
        await town.hold(3)
        answer = await town.correct(to(100))
        assert (answer["corrections"][0]["before_nusd"], await town.spent()) == (7, 100)
        assert (await town.correct(to(100)))["event_id"] is None, "there is nothing to correct"
        assert [event.n for event in await in_the_log(town)] == [1, 2]
        status = await town.get("/ledger/status")
        assert (status["events"], status["corrections"], status["corrections_pending"]) == (3, 2, 0)
        job = await town.rebuild(check=True)
        assert (job["equal"], job["events"], job["corrections"]) == (True, 3, 2)


async def test_the_audit_trail_says_who_when_and_why(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 100, A, T))
        await town.hold(1)
        await town.correct(to(10), actor="ann")
        await town.correct(to(90, account="a:team_1", scope_id=TEAM, reason="refund"), actor="bob")
        await town.correct(to(20), actor="cleo")
        page = await town.get("/spend/corrections")
        assert [(row["actor"], row["scope_id"], row["reason"], row["pending"]) for row in page["data"]] == [
            ("cleo", KEY, "a load test", False),
            ("bob", TEAM, "refund", False),
            ("ann", KEY, "a load test", False),
        ]
        assert (page["next"], page["data"][1]["alias"]) == (None, "the team")
        assert page["data"][0]["changes"] == [
            {"account": "a:key_1", "index": 0, "before_nusd": 10, "after_nusd": 20},
        ]
        first = await town.get("/spend/corrections", scope_kind="key", scope_id=KEY, limit=1)
        second = await town.get("/spend/corrections", scope_kind="key", scope_id=KEY, limit=1, cursor=first["next"])
        assert [page["data"][0]["actor"] for page in (first, second)] == ["cleo", "ann"]
        assert second["next"] is None


BAD_ORDERS: list[tuple[object, int, str]] = [
    (to(-1), 400, "never negative"),
    (to(10**18 + 1), 400, "to_nusd"),
    (to(0, account="a:nobody"), 404, "no account of"),
    (to(0, account="a:team_1"), 404, "no account of"),
    (to(0, scope_id="key_9"), 404, "knows no key"),
    (to(0, scope_kind="org", scope_id="org_9"), 404, "knows no org"),
    (to(0, scope_kind="galaxy"), 400, "galaxy"),
    (to(0, index=1), 400, "windows 0 to 0"),
    (to(0, index=-1), 400, "windows 0 to 0"),
    (to(0, accounts=[]), 400, "1 to 100"),
    (to(0, accounts=[{"account": "a:key_1", "index": 0, "to_nusd": n} for n in range(2)]), 400, "twice"),
    (to(0, accounts=[{"account": "a:key_1", "index": 0, "to_nusd": 0.5}]), 400, "int"),
    (to(0, reason="x" * 1_001), 400, "reason"),
    (to(0, resaon="typo"), 400, "resaon"),
    ([], 400, "object"),
]


async def test_orders_are_checked_with_clear_words(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 100, A))
        await town.hold(1)
        for order, status, word in BAD_ORDERS:
            answer = await town.correct(order, status=status)
            assert word in answer["error"]["message"], (order, answer)
        assert town.http is not None
        nobody = await town.http.post("/spend/correct", json=to(0), headers={"authorization": "Bearer sk-wrong"})
        assert nobody.status_code == 401
        assert (await town.http.get("/spend/corrections", params={"scope_kind": "key"})).status_code == 400
        assert (await town.http.get("/spend/corrections", params={"cursor": "x"})).status_code == 400
        assert await in_the_log(town) == []
        assert await town.spent() == 100
        assert await town.value("SELECT count(*) FROM correction_outbox") == 0


async def test_a_past_window_can_be_corrected_too(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 30, window("a:key_2", 0), key=OTHER), used(2, 40, window("a:key_2", 1), key=OTHER))
        await town.hold(2)
        now = SystemClock().now()
        assert now > EPOCH + timedelta(days=2), "the windows 0 and 1 of this account are past"
        order = to(0, account="a:key_2", scope_id=OTHER) | {
            "accounts": [{"account": "a:key_2", "index": index, "to_nusd": index} for index in (0, 1)]
        }
        answer = await town.correct(order)
        assert [(one["before_nusd"], one["after_nusd"]) for one in answer["corrections"]] == [(30, 0), (40, 1)]
        assert (await town.spent("a:key_2", 0), await town.spent("a:key_2", 1)) == (0, 1)
        assert len(await in_the_log(town)) == 1


async def test_orders_while_nats_is_away_count_with_each_other(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "APPLY_WAIT_S", 0.2)
    async with town.books():
        await town.use(used(1, 150, A))
        await town.hold(1)
        town.nats.stop()
        try:
            answers = [await town.correct(to(target)) for target in (0, 0, 40)]
            page = await town.get("/spend/corrections")
        finally:
            town.nats.start()
        assert [answer["corrections"][0]["before_nusd"] for answer in answers] == [150, 0, 0]
        assert [answer["applied"] for answer in answers] == [False, True, False], "the second had nothing to do"
        assert [(row["pending"], row["actor"]) for row in page["data"]] == [(True, "ann"), (True, "ann")]
        await settled(town, 40)
        assert (await town.rebuild(check=True))["equal"] is True
        assert [row["pending"] for row in (await town.get("/spend/corrections"))["data"]] == [False, False]


async def test_an_order_of_a_process_that_died_is_sent_by_the_next(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 150, A))
        await town.hold(1)
    event = await ordered_by_a_process_that_died(town, 25)
    assert await in_the_log(town) == []
    async with town.books():
        await settled(town, 25)
        assert await in_the_log(town) == [event]
        await town.correct(to(30))
        assert [(sent.instance, sent.n) for sent in await in_the_log(town)] == [(NAME, 1), (NAME, 2)]
        assert (await town.rebuild(check=True))["equal"] is True


async def test_a_correction_that_was_sent_twice_is_folded_once(town: Town) -> None:
    """Its process died between the log's acknowledgement and taking note of it, long ago."""
    async with town.books():
        await town.use(used(1, 150, A))
        await town.hold(1)
    event = await ordered_by_a_process_that_died(town, 25)
    await town.admin.publish(
        usage_subject(0, CORRECTIONS), usage_batch([encode(event)]), msg_id="forgotten by the broker"
    )
    async with town.books():
        await settled(town, 25)
        service = town.service
        assert service is not None
        assert await service.consumer.reach((await town.admin.stream_info(LEDGER)).state.last_seq, 20)
        assert await town.spent() == 25
        assert await town.value("SELECT count(*) FROM correction") == 1
        job = await town.rebuild(check=True)
        assert (job["equal"], job["corrections"]) == (True, 1)


async def test_a_database_restored_from_an_older_copy_gives_no_number_twice(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 150, A))
        await town.hold(1)
        await town.correct(to(10))
        await town.correct(to(20))
    await town.value("UPDATE corrector SET last_n = 0")
    async with town.books():
        await town.correct(to(30))
        assert [event.n for event in await in_the_log(town)] == [1, 2, 3]
        assert await town.spent() == 30
    await town.value("UPDATE corrector SET last_n = 0, instance = 'books_of_last_year'")
    async with town.books():
        await town.correct(to(40))
        found = await in_the_log(town)
        assert [event.n for event in found] == [1, 2, 3, 1]
        assert found[3].instance not in (found[0].instance, "books_of_last_year")
        assert await town.spent() == 40
        assert (await town.rebuild(check=True))["equal"] is True


async def test_many_orders_at_once_leave_no_number_out(town: Town) -> None:
    async with town.books(), town.books():
        await town.use(*(used(n, 10, A) for n in range(1, 11)))
        await town.hold(10)
        await asyncio.gather(*(town.correct(to(1_000 + n)) for n in range(12)))
        found = await in_the_log(town)
        by_number = {event.n: event for event in found}
        assert sorted(by_number) == list(range(1, 13))
        assert len({event.instance for event in found}) == 1
        last = by_number[12].changes[0]
        await settled(town, last.before_nusd + last.delta_nusd)
        assert (await town.rebuild(check=True))["equal"] is True


async def test_a_full_outbox_refuses_orders(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_corrections, "OUTBOX_MAX", 0)
    async with town.books():
        answer = await town.correct(to(5), status=503)
        assert "wait for the log" in answer["error"]["message"]


async def test_a_rebuild_finds_and_mends_lost_and_changed_corrections(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 100, A, T, held=60), used(2, 50, A, T, held=50))
        await town.hold(2)
        await town.correct(to(30))
        await town.correct(to(31))
        assert (await town.rebuild(check=True))["equal"] is True
        await town.value("DELETE FROM correction WHERE n = 1")
        await town.value("""UPDATE correction SET changes = '[[["a:key_1", 0], 5, 30]]' WHERE n = 2""")
        await town.value("UPDATE spend SET overdraft_nusd = 0 WHERE scope_kind = 'team'")
        await town.value("UPDATE account_spend SET spent_nusd = 999, overdraft_nusd = 1 WHERE account = 'a:key_1'")
        job = await town.rebuild(check=True)
        found = {(entry["what"], entry["books_nusd"], entry["log_nusd"]) for entry in job["differences"]}
        assert found == {
            ("correction count", 1, 2),
            ("correction", 0, -120),
            ("correction", 5, 1),
            ("team overdraft", 0, 40),
            ("account window", 999, 31),
            ("account window overdraft", 1, 40),
        }
        mended = await town.rebuild(check=False)
        assert (mended["state"], mended["equal"]) == ("done", False)
        await town.correct(to(77))
        assert (await town.rebuild(check=True))["equal"] is True
        assert (await town.rebuild(check=False))["equal"] is True
        assert await town.spent() == 77
        assert len((await town.get("/spend/corrections"))["data"]) == 3


async def test_overdraft_is_shown_beside_spend(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 100, A, T, held=60), used(2, 50, A, T, held=90), used(3, 9, T, held=0, serial=None))
        await town.hold(3)
        for kind, scope_id in (("key", KEY), ("team", TEAM)):
            balance = await town.get("/spend/balance", scope_kind=kind, scope_id=scope_id)
            assert (balance["overdraft_nusd"], balance["accounts"][0]["overdraft_nusd"]) == (40, 40)
        assert (await town.get("/spend/balance", scope_kind="org", scope_id=ORG))["overdraft_nusd"] == 40
        assert [key["overdraft_nusd"] for key in (await town.get("/spend/keys"))["data"]] == [40]
        assert [team["overdraft_nusd"] for team in (await town.get("/spend/teams"))["data"]] == [40]
        await town.correct(to(0))
        balance = await town.get("/spend/balance", scope_kind="key", scope_id=KEY)
        (account,) = balance["accounts"]
        assert (account["spent_nusd"], account["overdraft_nusd"]) == (0, 40), "what happened stays on record"


async def test_books_from_before_overdraft_get_it_with_the_migration(town: Town) -> None:
    async with town.books():
        await town.use(used(1, 100, A, T, held=60), used(2, 50, A, held=45), used(3, 9, T, held=0, serial=None))
        await town.use(used(4, 8, A, key=OTHER, team=None, held=1))
        await town.hold(4)
    connection = await asyncpg.connect(town.database, server_settings={"search_path": "ledger"})
    await connection.execute(
        "ALTER TABLE spend DROP COLUMN overdraft_nusd; ALTER TABLE account_spend DROP COLUMN overdraft_nusd;"
        " DROP TABLE correction, corrector, correction_outbox; DELETE FROM migration WHERE number = 2"
    )
    await connection.close()
    await pg.migrate(town.database, schema="ledger", package="services.ledger.bookkeeper", progress=lambda _line: None)
    async with town.books():
        assert (await town.rebuild(check=True))["differences"] == []
        assert await town.value("SELECT overdraft_nusd FROM spend WHERE scope_kind = 'org'") == 52
        assert await town.value("SELECT overdraft_nusd FROM account_spend WHERE account = 'a:team_1'") == 40


async def test_a_correction_from_elsewhere_is_folded_and_listed_as_well(town: Town) -> None:
    """A second set of books, or one that was emptied, finds in the log what others ordered."""
    event = msgspec.structs.replace(
        UsageCorrected(
            id=event_id(),
            at=EPOCH,
            source="ledger-bookkeeper/other",
            instance=InstanceId("books_other"),
            partition=0,
            n=1,
            scope_kind="key",
            scope_id=KEY,
            changes=(Change(A, 33, 0),),
            actor="dan\0",
        )
    )
    async with town.books():
        await town.use(event, instance=InstanceId("books_other"))
        await town.use(event, instance=InstanceId("books_other"))
        await settled(town, 33)
        (row,) = (await town.get("/spend/corrections"))["data"]
        assert (row["actor"], row["pending"]) == ("dan\ufffd", False)
        assert (await town.rebuild(check=True))["equal"] is True


def test_migrations_are_only_ever_added() -> None:
    folder = Path(__file__).parents[2] / "services" / "ledger" / "bookkeeper" / "migrations"
    assert [path.name for path in sorted(folder.glob("*.sql"))][:2] == ["0001_books.sql", "0002_corrections.sql"]
