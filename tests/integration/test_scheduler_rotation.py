"""Rotation against real servers: each due instant is told exactly once, whatever happens to schedulers and servers."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import asyncpg
import pytest

from services.scheduler.domain.timetable import Run
from services.scheduler.housekeeping import Housekeeping
from services.scheduler.store_folding import Checkpoint
from shared.bus.apply import apply
from shared.errors import BusUnavailable, StreamChanged
from shared.events import (
    KeyBlocked,
    KeyDeleted,
    KeySecretMinted,
    KeyUnblocked,
    KeyUpdated,
    OrgBlocked,
    OrgUnblocked,
    RotationDue,
    TeamDeleted,
    encode,
)
from shared.ids import KeyId, OrgId, TeamId
from shared.rotation import due_event_id
from shared.topology import AUTH, auth_subject
from tests.support.clock import FakeClock
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.timetable import KEY, ORG, START, TEAM, Town, issued, org, scheduled, team, told, town_of

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def town(nats: NatsServer, database: str) -> AsyncGenerator[Town, None]:
    async with town_of(nats, database) as made:
        yield made


async def due(town: Town) -> list[tuple[str, float]]:
    """(key, minutes after the start) of all that was told."""
    found = [event for event in await town.work() if isinstance(event, RotationDue)]
    assert len({event.id for event in found}) == len(found)
    assert all(event.id == due_event_id(event.key_id, event.due_at) for event in found)
    return [(event.key_id, (event.due_at - START) / MINUTE) for event in found]


async def test_a_key_is_due_once_a_minute_and_drifts_nowhere(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued(), scheduled())
    assert await node.tick() == 0
    told_of = 0
    for _ in range(200):
        clock.advance(1.01)
        told_of += await node.tick()
    assert told_of == 3
    assert await due(town) == [(KEY, 1.0), (KEY, 2.0), (KEY, 3.0)]
    assert 'what="told"} 3' in node.metrics.page().decode()


async def test_two_schedulers_without_a_lease_tell_each_instant_once(town: Town) -> None:
    clock = FakeClock(START)
    nodes = [await town.node(clock) for _ in range(2)]
    names = [f"key_{number}" for number in range(130)]
    await town.decided(*(event for name in names for event in (issued(name), scheduled(name))))
    for _ in range(3):
        clock.advance(60)
        await asyncio.gather(*(node.tick() for node in nodes for _ in range(2)))
    assert sorted(await due(town)) == sorted((name, float(minute)) for name in names for minute in (1, 2, 3))
    left = await town.sql("SELECT count(*) AS n FROM rotation_run WHERE published_at IS NULL")
    assert left[0]["n"] == 0


async def test_missed_ticks_are_made_good_by_one_rotation(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued(), scheduled())
    clock.advance(10 * 60 + 30)
    assert await node.tick() == 1
    assert await node.tick() == 0
    assert await due(town) == [(KEY, 10.0)]
    row = (await town.sql("SELECT missed, decided_by FROM rotation_run"))[0]
    assert tuple(row) == (9, "node1")
    clock.advance(30)
    assert await node.tick() == 1
    assert await due(town) == [(KEY, 10.0), (KEY, 11.0)]


async def test_one_killed_between_commit_and_publish_is_finished_by_another(town: Town) -> None:
    clock = FakeClock(START)
    killed = await town.node(clock)
    await town.decided(issued(), scheduled())
    clock.advance(60)
    assert await killed.rotator.decide() == 1
    await killed.tasks.close()
    assert await due(town) == []
    town.nodes.remove(killed)
    heir = await town.node(clock)
    clock.advance(5)
    assert await heir.tick() == 1
    assert await heir.tick() == 0
    assert await due(town) == [(KEY, 1.0)]
    await killed.close()


async def test_one_killed_between_publish_and_its_mark_doubles_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(START)
    killed, heir = await town.node(clock), await town.node(clock)
    await town.decided(issued(), scheduled())
    clock.advance(60)

    async def dies(*_: object) -> None:
        raise BusUnavailable("killed here")

    monkeypatch.setattr(killed.rotations, "sent", dies)
    with pytest.raises(BusUnavailable):
        await killed.tick()
    assert await due(town) == [(KEY, 1.0)]
    assert await heir.tick() == 1, "told again, under the same id"
    assert await due(town) == [(KEY, 1.0)]


async def test_a_decision_nobody_told_in_time_is_passed_over_and_counts_as_missed(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued(), scheduled())
    clock.advance(60)
    assert await node.rotator.decide() == 1
    clock.advance(180)
    assert await node.tick() == 1
    assert await due(town) == [(KEY, 4.0)]
    rows = await town.sql("SELECT missed, passed_over FROM rotation_run ORDER BY due_at")
    assert [tuple(row) for row in rows] == [(0, True), (3, False)]


async def test_blocked_deleted_and_ended_keys_are_not_due(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    names = ("blocked", "deleted", "ended", "of_team", "of_org", "living")
    await town.decided(org(), org("org_2"), team(), team("team_2", "org_2"))
    for name in names:
        belongs = {"of_team": ("org_1", "team_1"), "of_org": ("org_2", "team_2")}.get(name, ("org_3", None))
        await town.decided(issued(name, org_id=belongs[0], team_id=belongs[1]), scheduled(name))
    await town.decided(
        KeyBlocked(**told(), key_id=KeyId("blocked")),
        KeyDeleted(**told(), key_id=KeyId("deleted")),
        KeyUpdated(**told(), key_id=KeyId("ended"), expires_at=START + MINUTE),
        TeamDeleted(**told(), team_id=TEAM),
        OrgBlocked(**told(), org_id=OrgId("org_2")),
    )
    clock.advance(60)
    assert await node.tick() == 1
    assert await due(town) == [("living", 1.0)]
    assert node.rotator.overdue_s() == 0
    clock.advance(90)
    await town.decided(
        KeyUnblocked(**told(), key_id=KeyId("blocked")),
        OrgUnblocked(**told(), org_id=OrgId("org_2")),
        KeyUpdated(**told(), key_id=KeyId("ended"), expires_at=None),
    )
    assert await node.tick() == 4, "what stood still is made good once it is free"
    assert sorted(await due(town)) == [
        ("blocked", 2.0), ("ended", 2.0), ("living", 1.0), ("living", 2.0), ("of_org", 2.0),
    ]  # fmt: skip


async def test_nothing_is_decided_while_the_log_is_not_followed(town: Town, nats: NatsServer) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued(), scheduled())
    nats.stop()
    try:

        async def noticed() -> bool:
            return not node.projection.fresh

        await eventually(noticed)
        clock.advance(5 * 60)
        assert await node.tick() == 0
        assert node.projection.problem() is not None
    finally:
        nats.start()
    await town.learnt(node)
    assert await node.tick() == 1
    assert await due(town) == [(KEY, 5.0)]
    assert node.projection.problem() is None


async def test_the_timetable_goes_on_where_it_stood_and_takes_nothing_twice(town: Town) -> None:
    clock = FakeClock(START)
    first = await town.node(clock)
    events = [issued(), scheduled(), KeyBlocked(**told(position=7), key_id=KEY)]
    await town.decided(*events)
    again = encode(events[2])
    await town.decided(KeyUnblocked(**told(position=8), key_id=KEY))
    await town.admin.publish(auth_subject("key.blocked.v1", "x"), again)  # the relay says it once more
    second = await town.node(clock)
    await town.decided(KeyUpdated(**told(position=9), key_id=KEY, alias="new"))
    stands = await second.rotations.checkpoint()
    assert stands is not None
    assert (stands.seq, stands.position, stands.complete) == (6, 9, True)
    row = (await town.sql("SELECT alias, blocked, next_due_at FROM rotation"))[0]
    assert tuple(row) == ("new", False, START + MINUTE)
    assert first.projection.lag == second.projection.lag == 0


async def test_a_stream_made_anew_is_read_anew_and_doubles_nothing(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued("gone"), scheduled("gone"), issued(), scheduled())
    clock.advance(60)
    assert await node.tick() == 2
    before = await node.rotations.checkpoint()
    await town.admin.api(f"STREAM.DELETE.{AUTH}", b"")
    await apply(town.admin, replicas=1, progress=lambda _line: None)
    town._last = 0

    async def anew() -> Checkpoint | None:
        now = await node.rotations.checkpoint()
        return now if now is not None and before is not None and now.stream_created != before.stream_created else None

    await eventually(anew)
    await town.decided(issued(), scheduled())
    assert [row["key_id"] for row in await town.sql("SELECT key_id FROM rotation")] == [KEY]
    assert await node.tick() == 0, "this instant was told before"
    clock.advance(60)
    assert await node.tick() == 1
    assert sorted(await due(town)) == [("gone", 1.0), (KEY, 1.0), (KEY, 2.0)]


async def test_one_that_follows_the_old_stream_cannot_fold_into_the_new_timetable(town: Town) -> None:
    node = await town.node(FakeClock(START))
    await town.decided(issued())
    stands = await node.rotations.checkpoint()
    assert stands is not None
    await node.rotations.start_over(stands.stream_created, "2030-01-01T00:00:00Z")
    await node.rotations.start_over(stands.stream_created, "2031-01-01T00:00:00Z")
    now = await node.rotations.checkpoint()
    assert now == Checkpoint(stream_created="2030-01-01T00:00:00Z")
    assert await node.rotations.decide(START + 9 * MINUTE, 10) == list[Run](), "nothing on half a log"
    with pytest.raises(StreamChanged):
        await node.rotations.fold(stands.stream_created, [], 9, complete=True)


async def test_the_schedule_tells_what_came_of_an_instant(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued(), scheduled(), issued("other", team_id=None), scheduled("other", "30d"), issued("none"))
    clock.advance(60)
    await node.tick()
    made = KeySecretMinted(
        **told(clock.now()), key_id=KEY, version=2, label="p", digest="d", hint="h", due_at=START + MINUTE
    )
    await town.decided(made, KeyBlocked(**told(), key_id=KEY))
    count, found = await node.rotations.schedule((None, None), key_id=None, limit=10, offset=0)
    assert count == 2
    assert [(row.plan.key_id, row.blocked) for row in found] == [(KEY, True), ("other", False)]
    last = found[0].last
    assert last is not None
    assert (last.due_at, last.missed, last.published_at) == (START + MINUTE, 0, clock.now())
    assert (last.version, last.minted_at) == (2, clock.now())
    assert found[1].last is None
    for bounds, names in {
        (ORG, None): [KEY, "other"], (ORG, TEAM): [KEY], (OrgId("org_9"), None): [], (ORG, TeamId("t9")): [],
    }.items():  # fmt: skip
        count, found = await node.rotations.schedule(bounds, key_id=None, limit=10, offset=0)
        assert ([row.plan.key_id for row in found], count) == (names, len(names))
    summary = await node.rotations.summary(clock.now() + timedelta(days=40))
    assert (summary.scheduled, summary.overdue, summary.unpublished) == (2, 1, 0)


async def test_old_decisions_are_deleted_but_the_newest_of_living_keys(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued(), scheduled(), issued("dead"), scheduled("dead"))
    for _ in range(3):
        clock.advance(60)
        await node.tick()
    await town.decided(KeyDeleted(**told(START), key_id=KeyId("dead")))
    housekeeping = Housekeeping(node.store, node.rotations, keep_days=30)
    said = await housekeeping.run(START + timedelta(days=31))
    assert said == "deleted 0 ticks and 5 rotations older than 30 days, and 0 deleted keys"
    rows = await town.sql("SELECT key_id, due_at FROM rotation_run")
    assert [tuple(row) for row in rows] == [(KEY, START + 3 * MINUTE)]
    said = await housekeeping.run(START + timedelta(days=91))
    assert said.endswith("and 1 deleted keys")
    assert [row["key_id"] for row in await town.sql("SELECT key_id FROM rotation")] == [KEY]


async def test_overdue_is_measured_also_while_the_database_is_away(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.decided(issued(), scheduled())
    await node.tick()
    clock.advance(90)
    assert node.rotator.overdue_s() == 30
    await node.tick()
    assert node.rotator.overdue_s() == 0


async def test_a_row_is_unique_per_key_and_instant(town: Town) -> None:
    row = "INSERT INTO rotation_run (key_id, due_at, missed, decided_at, decided_by) VALUES ('k', $1, 0, $1, 'x')"
    await town.sql(row, START)
    with pytest.raises(asyncpg.UniqueViolationError):
        await town.sql(row, START)


async def test_a_clock_that_is_ahead_decides_nothing(town: Town) -> None:
    clock, right = FakeClock(START), FakeClock(START)
    node = await town.node(clock)
    node.database_clock = right
    await town.decided(issued(), scheduled())
    clock.advance(365 * 86_400)
    assert await node.tick() == 0
    assert "ahead" in (node.rotator.problem() or "")
    right.advance(90)
    clock.advance(right.now().timestamp() - clock.now().timestamp())
    assert await node.tick() == 1
    assert node.rotator.problem() is None
    assert await due(town) == [(KEY, 1.0)]
    clock.advance(60)
    right.advance(60 + 3_600)
    assert await node.tick() == 0
    assert "behind" in (node.rotator.problem() or "")
    clock.advance(3_600)
    assert await node.tick() == 1
    assert await due(town) == [(KEY, 1.0), (KEY, 62.0)]


async def test_what_is_no_event_of_auth_is_passed_over(town: Town) -> None:
    clock = FakeClock(START)
    node = await town.node(clock)
    await town.admin.publish("auth.evil.v1.ack", b'{"stream":"KV_objects","seq":1}')
    await town.decided(issued(), scheduled())
    clock.advance(61)
    assert await node.tick() == 1
