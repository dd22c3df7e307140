"""From the journal to the log: every event once, in order, whatever is lost on the way."""

import asyncio
from collections import deque
from pathlib import Path
from typing import cast

import pytest

from services.proxy import publisher as module
from services.proxy.journal import Journal, Segment
from services.proxy.publisher import Publisher, cut_batch
from shared.bus import Bus
from shared.errors import BusUnavailable, Rejected
from shared.ids import InstanceId
from shared.tasks import Supervisor
from shared.topology import MESSAGE_BYTES_MAX, usage_subject
from tests.fakes.bus import FakeBus

ME = InstanceId("00000000-instance-me")


class FakeJournal:
    """Remembers what was acknowledged."""

    def __init__(self) -> None:
        self.instance = ME
        self.marks: list[tuple[int, int, int]] = []
        self.fail = 0

    def acked(self, partition: int, n: int, segments: list[Segment]) -> None:
        if self.fail:
            self.fail -= 1
            raise RuntimeError("a defect")
        self.marks.append((partition, n, len(segments)))


class World:
    """A publisher between a fake journal and a fake bus."""

    def __init__(self, partitions: int = 1) -> None:
        self.bus = FakeBus()
        self.journal = FakeJournal()
        self.publisher = Publisher(cast(Bus, self.bus), cast(Journal, self.journal), partitions)
        self.tasks = Supervisor()

    def offer(self, count: int, partition: int = 0, size: int = 10) -> None:
        for _ in range(count):
            n = self.publisher.next_n(partition)
            self.publisher.offer(partition, n, str(n).encode().rjust(size, b" "), cast(Segment, None))

    async def drained(self) -> None:
        self.publisher.start(self.tasks)
        async with asyncio.timeout(10):
            await self.publisher.drained()
        await self.tasks.close()

    def seen(self, partition: int = 0) -> list[int]:
        subject = usage_subject(partition, ME)
        return [
            int(part)
            for message in self.bus.stored
            if message.subject == subject
            for part in message.data.strip(b"[]").split(b",")
        ]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0)


async def test_numbers_are_dense_and_everything_arrives_in_order() -> None:
    world = World()
    assert (world.publisher.last_n(0), world.publisher.backlog) == (0, 0)
    world.offer(5)
    assert (world.publisher.last_n(0), world.publisher.backlog) == (5, 5)
    await world.drained()
    assert world.seen() == [1, 2, 3, 4, 5]
    assert world.journal.marks == [(0, 5, 5)]
    assert (world.publisher.published, world.publisher.batches, world.publisher.backlog) == (5, 1, 0)


async def test_drained_at_once_when_there_is_nothing() -> None:
    await World().drained()


async def test_partitions_have_numbers_of_their_own() -> None:
    world = World(partitions=2)
    world.offer(2, partition=1)
    world.offer(1, partition=0)
    await world.drained()
    assert (world.seen(0), world.seen(1)) == ([1], [1, 2])
    assert sorted(world.journal.marks) == [(0, 1, 1), (1, 2, 2)]


async def test_a_batch_is_repeated_unchanged_until_it_is_acknowledged() -> None:
    world = World()
    world.bus.fail = [BusUnavailable("away"), Rejected("full"), BusUnavailable("away")]
    world.bus.lose_acks = 1
    world.bus.on_publish = lambda message: world.offer(1) if len(world.bus.stored) == 1 else None
    world.offer(3)
    await world.drained()
    assert world.seen() == [1, 2, 3, 4]
    assert [message.msg_id for message in world.bus.stored] == [f"{ME}.0.1-3", f"{ME}.0.4-4"]
    assert world.publisher.failures == 4
    assert world.journal.marks == [(0, 3, 3), (0, 4, 1)]


async def test_what_gathers_meanwhile_is_the_next_batch() -> None:
    world = World()
    world.bus.on_publish = lambda message: world.offer(7) if len(world.bus.stored) == 1 else None
    world.offer(1)
    await world.drained()
    assert [mark[2] for mark in world.journal.marks] == [1, 7]


async def test_nothing_is_left_behind_by_an_unexpected_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.tasks.BACKOFF_FIRST_S", 0)
    world = World()
    world.bus.fail = [ValueError("an answer nobody understands")]
    world.offer(2)
    await world.drained()
    assert world.seen() == [1, 2]


async def test_a_failure_after_the_acknowledgement_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.tasks.BACKOFF_FIRST_S", 0)
    world = World()
    world.journal.fail = 1
    world.offer(2)
    await world.drained()
    assert world.seen() == [1, 2]


async def test_the_backlog_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKLOG_MAX", 3)
    world = World()
    world.offer(2)
    assert not world.publisher.full
    world.offer(1)
    assert world.publisher.full
    await world.drained()
    assert not world.publisher.full


def test_batches_fit_a_message() -> None:
    item = (1, b"x" * 1_000, cast(Segment, None))
    batch = cut_batch(deque([item] * 3_000))
    assert 2 + sum(len(event) + 1 for _, event, _ in batch) <= MESSAGE_BYTES_MAX
    assert len(batch) == (MESSAGE_BYTES_MAX - 2) // 1_001


def test_batches_are_bounded_in_events_and_never_empty() -> None:
    small = deque([(1, b"x", cast(Segment, None))] * 5_000)
    assert len(cut_batch(small)) == module.BATCH_EVENTS_MAX
    huge = (1, b"x" * (MESSAGE_BYTES_MAX + 1), cast(Segment, None))
    assert cut_batch(deque([huge, huge])) == [huge]


async def test_with_a_real_journal(tmp_path: Path) -> None:
    bus, tasks = FakeBus(), Supervisor()
    journal = Journal(tmp_path, ME)
    publisher = Publisher(cast(Bus, bus), journal, 1)
    publisher.offer(0, publisher.next_n(0), b"{}", journal._current)
    journal._current.live += 1
    publisher.start(tasks)
    await publisher.drained()
    await tasks.close()
    assert journal._current.live == 0
    journal.close(remove=True)
