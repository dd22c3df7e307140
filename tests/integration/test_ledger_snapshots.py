"""Snapshots in a real bucket: written by many, complete or not at all, and given up when anything about them is odd."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from services.ledger.domain import snapshot
from services.ledger.domain.snapshot import Extent
from services.ledger.domain.state import LedgerState
from services.ledger.enforcer import snapshots
from services.ledger.enforcer.meters import Meters
from services.ledger.enforcer.snapshots import SnapshotKeeper, SnapshotStore, extents
from shared.bus import Bucket, Bus
from shared.clock import SystemClock
from shared.errors import Rejected, TundishError
from shared.ids import InstanceId, uuid7
from shared.telemetry import Metrics
from shared.topology import AUTH, LEDGER, SNAPSHOTS_BUCKET, auth_subject, chunk_kv, snapshot_kv, usage_subject
from tests.support.clock import FakeClock
from tests.support.ledger import KEY, P2, ask, balances, budget, budget_set, key_issued, used, window
from tests.support.servers import NatsServer
from tests.support.town import Running, Town, a_town, eventually

A = window("a:key_1")


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    """The enforcer's connection, to streams with some content."""
    admin = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    for number in range(10):
        await admin.publish(auth_subject("x.v1", str(number)), b"{}")
        await admin.publish(usage_subject(0, "p"), b"[]")
    await admin.close()
    opened = await Bus.open(nats.url_for("enforcer"), user="enforcer", name="test")
    yield opened
    await opened.close()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_BYTES", 64)


def state_at(ledger_pos: int, *, spent: int = 5, accounts: int = 20) -> LedgerState:
    state = LedgerState(partition=0, auth_pos=3, ledger_pos=ledger_pos, grant_seq=2)
    for number in range(accounts):
        state.account(f"a:{number}").balance(number).spent = spent
    return state


def a_store(bus: Bus) -> SnapshotStore:
    return SnapshotStore(bus, 0, InstanceId(uuid7()))


async def created(bus: Bus) -> dict[str, str]:
    return {name: stream.created for name, stream in (await extents(bus)).items()}


async def keep(bus: Bus, store: SnapshotStore, state: LedgerState) -> bool:
    return await store.write(state, await created(bus), SystemClock()) is not None


async def chunks(bus: Bus) -> list[str]:
    """The keys of chunks that hold something."""
    bucket = Bucket(bus, SNAPSHOTS_BUCKET)
    return [key for key in await bucket.keys("chunk.>") if await bucket.get(key) is not None]


@pytest.mark.usefixtures("small_chunks")
async def test_what_one_writes_another_starts_from(bus: Bus) -> None:
    assert await keep(bus, a_store(bus), state_at(7))
    assert len(await chunks(bus)) > 1
    assert await a_store(bus).load(await extents(bus)) == state_at(7)


@pytest.mark.usefixtures("small_chunks")
async def test_old_chunks_are_removed_and_keys_do_not_grow(bus: Bus) -> None:
    store = a_store(bus)
    bucket = Bucket(bus, SNAPSHOTS_BUCKET)
    for position in range(3, 9):
        assert await keep(bus, store, state_at(position, accounts=30 - 3 * position))
        manifest = await store.newest()
        assert manifest is not None
        assert await chunks(bus) == [chunk_kv(manifest.snapshot, chunk.number) for chunk in manifest.chunks]
    keys = await bucket.keys(">")
    assert {key.split(".")[1] for key in keys if key.startswith("chunk.")} == set(store._names)
    assert await a_store(bus).load(await extents(bus)) == state_at(8, accounts=6)


async def test_of_two_who_write_at_once_one_wins(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = a_store(bus), a_store(bus)
    real, at_the_gate, gate = SnapshotStore._replace, asyncio.Event(), asyncio.Event()

    async def held_up(self: SnapshotStore, *arguments: object) -> int:
        if self is slow:
            at_the_gate.set()
            await gate.wait()
        return await real(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(SnapshotStore, "_replace", held_up)
    async with asyncio.TaskGroup() as group:
        losing = group.create_task(keep(bus, slow, state_at(5)))
        await at_the_gate.wait()
        assert await keep(bus, quick, state_at(6))
        gate.set()
    assert not losing.result()
    assert len(await chunks(bus)) == 1
    assert await a_store(bus).load(await extents(bus)) == state_at(6)


async def test_what_a_process_left_that_died_while_it_wrote_is_removed(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = a_store(bus)

    async def dies(*_: object) -> int:
        raise Rejected("killed")

    with monkeypatch.context() as patched:
        patched.setattr(dying, "_replace", dies)
        with pytest.raises(Rejected):
            await keep(bus, dying, state_at(5))
    assert len(await chunks(bus)) == 1
    assert await keep(bus, a_store(bus), state_at(6))
    manifest = await dying.newest()
    assert manifest is not None
    assert await chunks(bus) == [chunk_kv(manifest.snapshot, 0)]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("harm", ["manifest", "chunk", "missing"])
async def test_a_broken_one_is_ignored_with_a_warning_and_replaced(
    bus: Bus, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await keep(bus, a_store(bus), state_at(9))
    bucket, (first, *_) = Bucket(bus, SNAPSHOTS_BUCKET), await chunks(bus)
    match harm:
        case "manifest":
            await bucket.put(snapshot_kv(0), b"junk")
        case "chunk":
            await bucket.put(first, b"junk")
        case _:
            await bucket.delete(first)
    store = a_store(bus)
    with caplog.at_level(logging.WARNING):
        state = await store.load(await extents(bus))
    assert state == LedgerState(partition=0)
    assert "the snapshot is not used" in caplog.text
    state.ledger_pos = 4
    keeper = await a_keeper(bus, store, state, every=1)
    assert await keeper.keep()  # older than the broken one, and better than it
    loaded = await a_store(bus).load(await extents(bus))
    assert loaded.ledger_pos == 4


async def test_streams_that_do_not_fit_mean_starting_from_nothing(bus: Bus) -> None:
    assert await keep(bus, a_store(bus), state_at(9))
    streams = await extents(bus)
    anew = streams | {LEDGER: Extent("another day", 1, 20)}
    assert await a_store(bus).load(anew) == LedgerState(partition=0)
    shorter = streams | {AUTH: Extent(streams[AUTH].created, 1, 2)}
    assert await a_store(bus).load(shorter) == LedgerState(partition=0)


async def test_without_the_beginning_of_a_log_there_must_be_a_snapshot(bus: Bus) -> None:
    streams = await extents(bus)
    cut_off = streams | {LEDGER: Extent(streams[LEDGER].created, 5, 10)}
    with pytest.raises(TundishError, match="LEDGER begins at 5 and no snapshot"):
        await a_store(bus).load(cut_off)
    assert await keep(bus, a_store(bus), state_at(4))
    assert (await a_store(bus).load(cut_off)).ledger_pos == 4


async def a_keeper(
    bus: Bus, store: SnapshotStore, state: LedgerState, *, every: int, clock: FakeClock | None = None
) -> SnapshotKeeper:
    return SnapshotKeeper(
        store,
        state,
        clock or FakeClock(),
        Meters(Metrics()),
        created=await created(bus),
        every=every,
        active=lambda: False,
    )


async def test_one_is_due_after_enough_messages_or_enough_time_with_news(bus: Bus) -> None:
    clock, state = FakeClock(), state_at(100)
    keeper = await a_keeper(bus, a_store(bus), state, every=50, clock=clock)
    assert not keeper._due()
    state.ledger_pos += 49
    assert not keeper._due()
    state.ledger_pos += 1
    assert keeper._due()
    assert await keeper.keep()
    assert not keeper._due()
    clock.advance(snapshots.NEWS_MS / 1000)
    assert not keeper._due()  # nothing is new
    state.auth_pos += 1
    assert keeper._due()
    assert await keeper.keep()
    assert not keeper._due()


async def test_who_finds_one_that_is_new_enough_writes_none(bus: Bus) -> None:
    ours, theirs = state_at(100), state_at(100)
    first = await a_keeper(bus, a_store(bus), ours, every=50)
    second = await a_keeper(bus, a_store(bus), theirs, every=50)
    ours.ledger_pos, theirs.ledger_pos = 160, 155
    assert await first.keep()
    assert second._due()
    assert not await second.keep()
    assert not second._due()
    theirs.ledger_pos = 209
    assert not second._due()
    theirs.ledger_pos = 210
    assert await second.keep()


@pytest.fixture
async def town(nats: NatsServer) -> AsyncIterator[Town]:
    async with a_town(nats) as made:
        yield made


async def spend(town: Town, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await town.use(used(number, 1, A, serial=None))


def messages_read(running: Running) -> int:
    return int(running.meters.folded.values.get((LEDGER,), 0))


@pytest.mark.parametrize("broken", [False, True])
async def test_an_enforcer_starts_from_its_snapshot_and_reads_the_rest(
    town: Town, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "ACTIVE_WAIT_S", 0)
    await town.decided(key_issued(), budget_set(budget(KEY, 1_000, soft=10)))
    first = await (await town.enforcer(snapshot_every=30)).active()
    assert (await town.ask(ask(100))).granted == 100
    await spend(town, 1, 40)
    await eventually(lambda: first.meters.snapshots.values == {(): 1})
    await spend(town, 41, 45)
    await eventually(lambda: first.office.state.balance(A).spent == 45 and not first.office.state.untold)
    await first.kill()
    before = balances(first.office.state)
    if broken:
        (chunk,) = await chunks(town.admin)
        await Bucket(town.admin, SNAPSHOTS_BUCKET).put(chunk, b"junk")
    second = await (await town.enforcer()).active()
    after = balances(second.office.state)
    assert before.pop("epoch") != after.pop("epoch")
    assert after == before
    stored = len(await town.stored(LEDGER, "*.v1.0.>"))
    read = messages_read(second)
    assert (read >= stored - 1) if broken else (read < stored - 25), (read, stored)
    assert (await town.ask(ask(856, instance=P2))).verdict == "reserved"
    assert (await town.ask(ask(855, instance=P2, rseq=2))).granted == 855


async def test_a_standby_writes_the_snapshots(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 1_000)))
    active = await (await town.enforcer(snapshot_every=10, place="here")).active()
    standby = await town.enforcer(snapshot_every=10, place="there")
    await eventually(lambda: standby.office.word() == "standby" and standby.office.problem() is None)
    await spend(town, 1, 12)
    await eventually(lambda: standby.meters.snapshots.values == {(): 1})
    assert active.meters.snapshots.values == {}
    assert standby.office.standing == "standby"
    assert (await a_store(active.bus).load(await extents(active.bus))).ledger_pos > 10
