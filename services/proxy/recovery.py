"""What a dead instance left is finished by whoever can lock its journal: nothing served goes uncounted.

Its events are published again under its own name and numbers (folds skip what they have), its open calls are
charged at their hold and marked `lost`, then the ledger is told that nothing more will come.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from services.proxy.closing import close_instance
from services.proxy.domain.paths import Endpoint
from services.proxy.journal import Remains, lock_remains, release
from services.proxy.publisher import publish_events
from services.proxy.till import lost_event
from shared.bus import Bus
from shared.clock import Clock
from shared.events import encode
from shared.ids import InstanceId
from shared.topology import MESSAGE_BYTES_MAX

log = logging.getLogger(__name__)

HandedOver = Callable[[str], Awaitable[bool]]

CLOSE_WAIT_S = 30.0
BATCH_EVENTS_MAX = 2_000


class Recovered(msgspec.Struct, kw_only=True):
    """Counts for metrics."""

    instances: int = 0
    events: int = 0
    lost: int = 0


async def recover_all(
    bus: Bus,
    clock: Clock,
    root: Path,
    own: InstanceId,
    partitions: int,
    counts: Recovered,
    handed_over: HandedOver | None = None,
) -> None:
    """Finish every journal whose instance is dead. Safe to run at any time, by several processes, and twice.

    `handed_over` says of a call whether others charge it.
    """
    for remains in lock_remains(root, own):
        done = False
        try:
            done = await recover(bus, clock, remains, partitions, counts, handed_over)
        finally:
            if done:
                release(remains)
            else:
                remains.give_up()


async def recover(
    bus: Bus,
    clock: Clock,
    remains: Remains,
    partitions: int,
    counts: Recovered,
    handed_over: HandedOver | None = None,
) -> bool:
    """Finish one journal; whether the ledger has closed its instance, so that the journal may go. Raises BusError."""
    elsewhere: set[str] = set()
    for record in remains.opens.values():
        if handed_over is not None and record.endpoint == Endpoint.RESPONSES and await handed_over(record.call_id):
            elsewhere.add(record.call_id)
    lost = _lost_by_partition(remains, clock, elsewhere)
    log.info(
        "recovering instance %s: %d events in its journal, %d calls were running",
        remains.instance,
        sum(map(len, remains.events.values())),
        len(remains.opens),
    )
    for partition in range(partitions):
        events = {**remains.events.get(partition, {}), **lost.get(partition, {})}
        acked = remains.acked.get(partition, 0)
        last = max([acked, *events])
        pending = [(n, events[n]) for n in sorted(events) if n > acked]
        await _publish(bus, remains.instance, partition, pending)
        counts.events += len(pending)
        if not await close_instance(bus, clock, remains.instance, partition, last, CLOSE_WAIT_S):
            log.warning("instance %s is not closed yet: the enforcer does not answer", remains.instance)
            return False
    counts.instances += 1
    counts.lost += len(remains.opens)
    return True


def _lost_by_partition(remains: Remains, clock: Clock, elsewhere: set[str]) -> dict[int, dict[int, bytes]]:
    """Events for the calls that never ended, numbered after the last by call order: twice gives the same numbers.

    Those that are charged `elsewhere` cost nothing here.
    """
    lost: dict[int, dict[int, bytes]] = {}
    last = {
        partition: max([remains.acked.get(partition, 0), *remains.events.get(partition, {})])
        for partition in set(remains.events) | set(remains.acked)
    }
    for record in sorted(remains.opens.values(), key=lambda record: record.call_id):
        n = last.get(record.partition, 0) + 1
        last[record.partition] = n
        source = f"recovery/{remains.instance}"
        event = lost_event(record, instance=remains.instance, n=n, source=source, clock=clock)
        if record.call_id in elsewhere:
            event = msgspec.structs.replace(event, cost_nusd=0)
        lost.setdefault(record.partition, {})[n] = encode(event)
    return lost


async def _publish(bus: Bus, instance: InstanceId, partition: int, pending: list[tuple[int, bytes]]) -> None:
    at = 0
    while at < len(pending):
        end, size = at, 0
        while end < len(pending) and end - at < BATCH_EVENTS_MAX:
            size += len(pending[end][1]) + 1
            if size > MESSAGE_BYTES_MAX and end > at:
                break
            end += 1
        batch = pending[at:end]
        events = [event for _, event in batch]
        await publish_events(bus, instance, partition, batch[0][0], batch[-1][0], events)
        at = end
