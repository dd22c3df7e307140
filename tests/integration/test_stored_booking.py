"""The buckets of stored objects on a real NATS, as the proxy's user; and charging once while two want to."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import msgspec
import pytest

from services.proxy.directory import Directory
from services.proxy.domain.objects.records import ObjectRecord, Pending, Slot
from services.proxy.domain.objects.seal import Opened
from services.proxy.domain.objects.tally import Group
from services.proxy.stored.booking import Booking, Contended, Ended
from services.proxy.stored.records import BucketShelf, Records
from shared.bus import Bus, Entry, Tail
from shared.clock import SystemClock
from shared.errors import BusUnavailable, Conflict
from shared.events import UsageRecorded
from shared.ids import CallId, KeyId, OrgId
from shared.pricing import PriceRow, Rates, Usage
from shared.topology import LEDGER, OBJECTS_BUCKET, PENDING_BUCKET, pending_kv, slot_kv
from tests.support.servers import NatsServer

ROW = PriceRow(model="m", rates=Rates(input=1_000_000_000, output=0))
WORKS = 12


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    yield bus
    await bus.close()


@pytest.fixture
async def admin(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="reader")
    yield bus
    await bus.close()


class NoKeys:
    """A directory from which every key is gone."""

    def current(self, key_id: str) -> None:
        return None


class Flaky(BucketShelf):
    """Writes whose acknowledgement is lost now and then, or that never leave."""

    def __init__(self, bus: Bus, seed: int) -> None:
        super().__init__(bus, PENDING_BUCKET)
        self._random = random.Random(seed)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        chance = self._random.random()
        if chance < 0.2:
            raise BusUnavailable("never left")
        done = await super().update(key, value, revision)
        if chance < 0.4:
            raise BusUnavailable("unacknowledged")
        return done


def booking(bus: Bus, shelf: BucketShelf) -> Booking:
    return Booking(bus=bus, shelf=shelf, directory=cast(Directory, NoKeys()), clock=SystemClock())


async def published(bus: Bus) -> list[UsageRecorded]:
    found: list[UsageRecorded] = []
    async for batch in Tail(bus, LEDGER, "usage.v1.>").batches():
        for message in batch.messages:
            found += msgspec.json.decode(message.data, type=list[UsageRecorded])
        if batch.caught_up:
            break
    return found


def work(index: int) -> Pending:
    return Pending(
        kind="batch", state="open", call_id=CallId(f"c{index}"), key_id=KeyId("k1"), org_id=OrgId("o1"), model="m",
        deployment="d", started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def ended(index: int) -> Ended:
    return Ended([Group(row=ROW, served_model="m", measured="reported", usage=Usage(input=index + 1), lines=1)], "ok")


async def test_records_of_owners_are_kept_apart(bus: Bus) -> None:
    records = Records(BucketShelf(bus, OBJECTS_BUCKET))
    assert await records.all("team:a", "file") == []

    def record(name: str, second: int) -> ObjectRecord:
        return ObjectRecord(
            kind="file", deployment="d", upstream=name, model="m", key_id=KeyId("k1"), org_id=OrgId("o1"),
            created_at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), said=msgspec.Raw(b'{"id":"x"}'),
        )  # fmt: skip

    for owner, name, second in (("team:a", "file-2", 2), ("team:a", "file-1", 1), ("team:b", "file-3", 3)):
        await records.create(owner, Opened(kind="file", deployment="d", upstream=name), record(name, second))
    one = Opened(kind="file", deployment="d", upstream="file-1")
    await records.said("team:a", one, b'{"id":"y"}')
    assert [(found.upstream, bytes(found.said)) for found in await records.all("team:a", "file")] == [
        ("file-1", b'{"id":"y"}'),
        ("file-2", b'{"id":"x"}'),
    ]
    assert [found.upstream for found in await records.all("team:b", "file")] == ["file-3"]
    assert await records.all("team:a", "batch") == []
    await records.remove("team:a", one)
    await records.remove("team:a", one)
    assert await records.get("team:a", one) is None
    assert [found.upstream for found in await records.all("team:a", "file")] == ["file-2"]


@pytest.mark.parametrize("seed", range(3))
async def test_many_who_want_to_charge_the_same_work_charge_it_once(bus: Bus, admin: Bus, seed: int) -> None:
    """Three processes, all of which want to charge everything, over a connection that loses writes and answers."""
    shelf = BucketShelf(bus, PENDING_BUCKET)
    for index in range(WORKS):
        await shelf.create(pending_kv("batch", f"c{index}"), msgspec.json.encode(work(index)))

    async def worker(number: int) -> None:
        mine = booking(bus, Flaky(bus, seed * 10 + number))
        order = list(range(WORKS))
        random.Random(number).shuffle(order)
        while order:
            index = order.pop()
            try:
                await mine.book(pending_kv("batch", f"c{index}"), ended(index))
            except (BusUnavailable, Contended):
                order.insert(0, index)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(worker(number))
    for index in range(WORKS):
        entry = await shelf.get(pending_kv("batch", f"c{index}"))
        assert entry is not None
        assert msgspec.json.decode(entry.value, type=Pending).state == "booked"
    await booking(bus, shelf).finish(0)
    by_number: dict[tuple[str, int], UsageRecorded] = {}
    for event in await published(admin):
        assert by_number.setdefault((event.instance, event.n), event) == event
    assert sorted(n for _, n in by_number) == list(range(1, WORKS + 1))
    assert len({instance for instance, _ in by_number}) == 1
    assert sorted(event.cost_nusd for event in by_number.values()) == [1_000 * (n + 1) for n in range(WORKS)]


async def test_a_slot_is_finished_by_whoever_comes_next(bus: Bus, admin: Bus) -> None:
    """Whoever filled it died before it published."""
    shelf = BucketShelf(bus, PENDING_BUCKET)
    for index in range(2):
        await shelf.create(pending_kv("batch", f"c{index}"), msgspec.json.encode(work(index)))

    class Dead(BucketShelf):
        async def update(self, key: str, value: bytes, revision: int) -> int:
            done = await super().update(key, value, revision)
            if key == slot_kv(0) and revision:
                raise KeyboardInterrupt(done)
            return done

    with pytest.raises(KeyboardInterrupt):
        await booking(bus, Dead(bus, PENDING_BUCKET)).book(pending_kv("batch", "c0"), ended(0))
    assert await published(admin) == []
    assert await booking(bus, shelf).book(pending_kv("batch", "c1"), ended(1))
    assert [(event.n, event.call_id) for event in await published(admin)] == [(1, "c0"), (2, "c1")]
    assert not await booking(bus, shelf).book(pending_kv("batch", "c0"), ended(0))
    assert not await booking(bus, shelf).book(pending_kv("batch", "unknown"), ended(0))
    entry = cast(Entry, await shelf.get(slot_kv(0)))
    assert msgspec.json.decode(entry.value, type=Slot).last == 2
    with pytest.raises(Conflict):
        await shelf.create(slot_kv(0), b"{}")
