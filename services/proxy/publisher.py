"""From the journal to the ledger's log: adaptive group commit, one batch per partition in flight.

While nothing is in flight an event leaves at once; under load what gathers during one round trip is the next
batch. A batch is repeated unchanged, under the same id, until the log has it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from services.proxy.journal import Journal, Segment
from shared.bus import Bus
from shared.errors import BusError, BusUnavailable
from shared.events import usage_batch
from shared.ids import InstanceId
from shared.tasks import Supervisor
from shared.topology import MESSAGE_BYTES_MAX, usage_subject

log = logging.getLogger(__name__)

BACKLOG_MAX = 200_000
"""Events that may wait for the log; beyond it no new call is admitted."""
BATCH_EVENTS_MAX = 2_000
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 5.0
PUBLISH_TIMEOUT_S = 3.0


@dataclass(slots=True)
class _Lane:
    """The events of one partition, oldest first, with the journal segment each is kept in."""

    n: int = 0
    waiting: deque[tuple[int, bytes, Segment]] = field(default_factory=deque[tuple[int, bytes, Segment]])
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    empty: asyncio.Event = field(default_factory=asyncio.Event)


class Publisher:
    """Sends this instance's usage events."""

    def __init__(self, bus: Bus, journal: Journal, partitions: int) -> None:
        self._bus = bus
        self._journal = journal
        self._lanes = [_Lane() for _ in range(partitions)]
        for lane in self._lanes:
            lane.empty.set()
        self.published = 0
        self.batches = 0
        self.failures = 0

    @property
    def backlog(self) -> int:
        """Events the log does not have yet."""
        return sum(len(lane.waiting) for lane in self._lanes)

    @property
    def full(self) -> bool:
        """Whether too much waits to admit another call."""
        return self.backlog >= BACKLOG_MAX

    def next_n(self, partition: int) -> int:
        """The number of the next event of a partition; dense, beginning with 1."""
        lane = self._lanes[partition]
        lane.n += 1
        return lane.n

    def last_n(self, partition: int) -> int:
        """The number of the last event of a partition (0: none)."""
        return self._lanes[partition].n

    def offer(self, partition: int, n: int, event: bytes, segment: Segment) -> None:
        """Queue a journaled event; never waits."""
        lane = self._lanes[partition]
        lane.waiting.append((n, event, segment))
        lane.empty.clear()
        lane.wake.set()

    def start(self, tasks: Supervisor) -> None:
        """Begin to send."""
        for partition in range(len(self._lanes)):
            tasks.keep(f"publisher-{partition}", lambda partition=partition: self._run(partition))

    async def drained(self) -> None:
        """Wait until the log has everything."""
        for lane in self._lanes:
            await lane.empty.wait()

    async def _run(self, partition: int) -> None:
        lane = self._lanes[partition]
        while True:
            await lane.wake.wait()
            while lane.waiting:
                await self._send(partition, lane)
            lane.wake.clear()
            lane.empty.set()

    async def _send(self, partition: int, lane: _Lane) -> None:
        """Take one batch and repeat it until it is acknowledged."""
        batch = cut_batch(lane.waiting)
        first, last = batch[0][0], batch[-1][0]
        events = [event for _, event, _ in batch]
        await publish_events(self._bus, self._journal.instance, partition, first, last, events, self._failed)
        for _ in batch:
            lane.waiting.popleft()
        self._journal.acked(partition, last, [segment for _, _, segment in batch])
        self.published += len(batch)
        self.batches += 1

    def _failed(self) -> None:
        self.failures += 1


def cut_batch(waiting: deque[tuple[int, bytes, Segment]]) -> list[tuple[int, bytes, Segment]]:
    """The oldest events that fit one message."""
    batch: list[tuple[int, bytes, Segment]] = []
    size = 2
    for item in waiting:
        size += len(item[1]) + 1
        if batch and (size > MESSAGE_BYTES_MAX or len(batch) >= BATCH_EVENTS_MAX):
            break
        batch.append(item)
    return batch


async def publish_events(
    bus: Bus,
    instance: InstanceId,
    partition: int,
    first: int,
    last: int,
    events: list[bytes],
    failed: Callable[[], None] | None = None,
) -> None:
    """Publish one batch, again and again until the log has it; folds skip numbers they have seen."""
    data = usage_batch(events)
    delay = RETRY_FIRST_S
    while True:
        try:
            await bus.publish(
                usage_subject(partition, instance),
                data,
                msg_id=f"{instance}.{partition}.{first}-{last}",
                timeout_s=PUBLISH_TIMEOUT_S,
            )
        except BusError as error:
            level = logging.INFO if isinstance(error, BusUnavailable) else logging.ERROR
            log.log(level, "usage %d–%d is not in the log yet (%s); again in %.2f s", first, last, error, delay)
            if failed is not None:
                failed()
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S)
        else:
            return
