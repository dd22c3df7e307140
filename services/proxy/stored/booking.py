"""Charging what is done after its call is over, exactly once, whoever does it and whoever dies doing it.

Such usage is published under an instance of its own, one per partition, whose next number stands in a slot of the
bucket `pending`. The slot holds one piece of work: its events, encoded, with their numbers. Whoever wants to charge
something first finishes what stands in the slot (publishes those very bytes, which every fold takes once by their
number, and marks the work as booked), then looks whether its own work is still to be charged, and then replaces the
slot, provided that nobody has since. So a piece of work gets into the slot once, and leaves it published.

Nothing is held for these events: the money is spent already, and counts in the windows of the moment.
"""

import contextlib
import logging
from datetime import datetime
from typing import NamedTuple

import msgspec

from services.proxy.directory import Directory
from services.proxy.domain.objects.records import Pending, Slot
from services.proxy.domain.objects.tally import Group
from services.proxy.publisher import publish_events
from services.proxy.stored.records import TRIES_MAX, Shelf
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import Conflict
from shared.events import AccountWindow, Measured, Outcome, UsageRecorded, encode
from shared.ids import EventId, InstanceId, uuid7
from shared.pricing import PriceRow, Usage, price_id
from shared.topology import slot_kv
from shared.windows import window_at

log = logging.getLogger(__name__)

SOURCE = "proxy/stored"


class Ended(NamedTuple):
    """How a piece of work ended: what it used (nothing: nothing was served), and what Foundry's state means."""

    groups: list[Group]
    outcome: Outcome
    lost_nusd: int | None = None
    """Charged, marked `lost`, because nobody will ever know better."""


class Contended(Exception):
    """Others were faster again and again; the work stays where it is, for the next look."""


class Booking:
    """Publishes usage by way of the slots."""

    def __init__(self, *, bus: Bus, shelf: Shelf, directory: Directory, clock: Clock) -> None:
        self._bus = bus
        self._shelf = shelf
        self._directory = directory
        self._clock = clock

    async def book(self, key: str, ended: Ended) -> bool:
        """Charge a piece of work; False when that was done before. Raises BusError (what was done stays), Contended."""
        for _ in range(TRIES_MAX):
            entry = await self._shelf.get(key)
            if entry is None:
                return False
            pending = msgspec.json.decode(entry.value, type=Pending)
            if pending.state == "booked":
                return False
            if await self._try(key, pending.partition, ended):
                return True
        raise Contended(key)

    async def finish(self, partition: int) -> None:
        """Bring what stands in a partition's slot to its end. Raises BusError."""
        entry = await self._shelf.get(slot_kv(partition))
        if entry is not None:
            await self._finish(partition, msgspec.json.decode(entry.value, type=Slot))

    async def _try(self, key: str, partition: int, ended: Ended) -> bool:
        """One attempt to get work through the slot; False when somebody else was faster."""
        name = slot_kv(partition)
        entry = await self._shelf.get(name)
        if entry is None:
            with contextlib.suppress(Conflict):
                await self._shelf.create(name, msgspec.json.encode(Slot(instance=InstanceId(uuid7()))))
            return False
        slot = msgspec.json.decode(entry.value, type=Slot)
        await self._finish(partition, slot)
        work = await self._shelf.get(key)  # read after the slot: whoever books it meanwhile changes the slot first
        if work is None:
            return True
        pending = msgspec.json.decode(work.value, type=Pending)
        if pending.state == "booked":
            return True
        events = self._events(pending, ended, slot.instance, slot.last + 1)
        taken = Slot(
            instance=slot.instance, last=slot.last + len(events), key=key, events=tuple(map(msgspec.Raw, events))
        )
        try:
            await self._shelf.update(name, msgspec.json.encode(taken), entry.revision)
        except Conflict:
            return False
        await self._finish(partition, taken)
        return True

    async def _finish(self, partition: int, slot: Slot) -> None:
        """Publish what stands in a slot and mark its work, unless that was done."""
        for _ in range(TRIES_MAX):
            entry = await self._shelf.get(slot.key) if slot.key else None
            if entry is None:
                return
            pending = msgspec.json.decode(entry.value, type=Pending)
            if pending.state == "booked":
                return
            events = [bytes(event) for event in slot.events]
            first = slot.last - len(events) + 1
            await publish_events(self._bus, slot.instance, partition, first, slot.last, events)
            booked = Pending(kind=pending.kind, state="booked", call_id=pending.call_id)
            with contextlib.suppress(Conflict):
                await self._shelf.update(slot.key, msgspec.json.encode(booked), entry.revision)
                return
        raise Contended(slot.key)

    def _events(self, pending: Pending, ended: Ended, instance: InstanceId, first: int) -> list[bytes]:
        """The usage events of a piece of work, numbered from `first`: one for each group, at least one."""
        at = self._clock.now()
        windows = self._windows(pending, at)
        if ended.lost_nusd is not None:
            parts = [_Part(Usage(), None, ended.lost_nusd, "lost", None, 0)]
        else:
            parts = [
                _Part(one.usage, one.row, one.cost_nusd, one.measured, one.served_model, one.lines)
                for one in ended.groups
            ] or [_Part(Usage(), None, 0, "reported", None, 0)]
        return [
            encode(self._event(pending, part, windows, at, ended.outcome, instance, first + index, index))
            for index, part in enumerate(parts)
        ]

    def _event(
        self,
        pending: Pending,
        part: "_Part",
        windows: tuple[AccountWindow, ...],
        at: datetime,
        outcome: Outcome,
        instance: InstanceId,
        n: int,
        index: int,
    ) -> UsageRecorded:
        began = pending.started_at or at
        return UsageRecorded(
            id=EventId(uuid7()),
            at=at,
            source=SOURCE,
            call_id=pending.call_id,
            attempt=index + (2 if pending.kind == "response" else 1),
            instance=instance,
            partition=pending.partition,
            n=n,
            windows=windows,
            key_id=pending.key_id,
            team_id=pending.team_id,
            org_id=pending.org_id,
            cost_nusd=part.cost_nusd,
            held_nusd=0,
            measured=part.measured,
            outcome=outcome,
            endpoint="batches" if pending.kind == "batch" else pending.endpoint,
            model=pending.model,
            deployment=pending.deployment,
            served_model=part.served_model,
            status=200 if outcome == "ok" else 0,
            started_at=began,
            duration_ms=max(0, int((at - began).total_seconds() * 1_000)),
            usage=part.usage,
            price_id=None if part.row is None else price_id(part.row),
            price=part.row,  # always: these events are few, and the row may be made for one batch
            tags=(f"lines:{part.lines}", *pending.tags) if pending.kind == "batch" else pending.tags,
            secret_version=pending.secret_version,
        )

    def _windows(self, pending: Pending, at: datetime) -> tuple[AccountWindow, ...]:
        """The account-windows of the key as it stands now; of a key that is gone, those of the budgets it had."""
        caller = self._directory.current(pending.key_id)
        budgets = pending.budgets if caller is None else caller.budgets
        covering = [budget for budget in budgets if budget.covers(pending.model)]
        return tuple(AccountWindow(budget.account, window_at(budget.window, at).index) for budget in covering)


class _Part(NamedTuple):
    usage: Usage
    row: PriceRow | None
    cost_nusd: int
    measured: Measured
    served_model: str | None
    lines: int
