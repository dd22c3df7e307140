"""What a proxy instance leaves behind: its calls and their costs, and who reads it after a crash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.allotment import Close
from shared.events import UsageRecorded
from shared.ids import CallId, EventId, InstanceId, KeyId, OrgId
from tests.simulation.agenda import true_now
from tests.simulation.machine import Machine
from tests.simulation.network import BUS
from tests.simulation.truth import Call

if TYPE_CHECKING:
    from tests.simulation.world import World

BATCH_MAX = 20
RETRY_MS = 300
CLOSE_RETRY_MS = 150
CLOSE_MARK = -1
"""Echoed by the reply to a closing, so that no other reply is taken for it."""


@dataclass(eq=False)
class Journal:
    """Survives every crash. `events[n - 1]` has number n; all up to `acked` are known to be in LEDGER."""

    instance: InstanceId
    lost: bool = False
    """Nobody will ever find it."""
    locked_by: str = ""
    done: bool = False
    opens: dict[str, Call] = field(default_factory=dict[str, Call])
    events: list[UsageRecorded] = field(default_factory=list[UsageRecorded])
    acks: set[int] = field(default_factory=set[int])
    acked: int = 0

    @property
    def last_n(self) -> int:
        """The greatest number given."""
        return len(self.events)

    def open(self, call: Call) -> None:
        """Before the first byte goes upstream."""
        self.opens[call.call_id] = call

    def settle(self, world: World, call: Call, cost: int, *, lost: bool = False) -> int:
        """Before the last byte goes to the caller; the number."""
        del self.opens[call.call_id]
        n = len(self.events) + 1
        self.events.append(_event(world, self.instance, call, n, cost, lost))
        return n

    def note(self, numbers: range) -> None:
        """LEDGER has these."""
        self.acks.update(numbers)
        while self.acked + 1 in self.acks:
            self.acked += 1
            self.acks.remove(self.acked)


def _event(world: World, instance: InstanceId, call: Call, n: int, cost: int, lost: bool) -> UsageRecorded:
    return UsageRecorded(
        id=EventId(f"usage-{instance}-{n}"),
        at=true_now(world.agenda),
        source=f"proxy/{instance}",
        call_id=CallId(call.call_id),
        attempt=1,
        instance=instance,
        partition=0,
        n=n,
        windows=call.windows,
        key_id=KeyId(call.key),
        org_id=OrgId("org"),
        cost_nusd=cost,
        held_nusd=call.held,
        measured="lost" if lost else "reported",
        outcome="unknown" if lost else "ok",
        endpoint="chat.completions",
        model=call.model,
        deployment="d",
        status=200,
        started_at=true_now(world.agenda),
        duration_ms=0,
        serial=call.serial,
    )


class Publisher:
    """Brings a journal's events into LEDGER; each batch is repeated unchanged until it is acknowledged."""

    def __init__(self, machine: Machine, world: World, journal: Journal, lanes: int, every_ms: float) -> None:
        self._machine = machine
        self._world = world
        self._journal = journal
        self._lanes = lanes
        """So many batches may be under way at once, so that they land out of order."""
        self._every_ms = every_ms
        self._next = journal.acked + 1
        self._flying: dict[int, range] = {}
        self.stopped = False
        machine.later(every_ms, self._turn)

    @property
    def behind(self) -> bool:
        """Whether something of the journal is not known to be in LEDGER."""
        return self._journal.acked < self._journal.last_n

    def again(self) -> None:
        """Publish all of it once more, as a successor that does not know better."""
        self._next = 1

    def _turn(self) -> None:
        if self.stopped:
            return
        self._machine.later(self._every_ms * self._world.random.uniform(0.5, 1.5), self._turn)
        while len(self._flying) < self._lanes and self._next <= self._journal.last_n:
            numbers = range(self._next, min(self._next + BATCH_MAX, self._journal.last_n + 1))
            self._next = numbers.stop
            self._flying[numbers.start] = numbers
            self._send(numbers)

    def _send(self, numbers: range) -> None:
        if self._flying.get(numbers.start) != numbers or self.stopped:
            return
        events = tuple(self._journal.events[n - 1] for n in numbers)
        self._world.net.send(self._machine.name, BUS, self._arrive, self._machine.life, numbers, events)
        self._machine.later(RETRY_MS, self._send, numbers)

    def _arrive(self, life: int, numbers: range, events: tuple[UsageRecorded, ...]) -> None:
        self._world.logs.publish(events)
        self._world.net.send(BUS, self._machine.name, self._machine.hear_in, life, self._acknowledged, numbers)

    def _acknowledged(self, numbers: range) -> None:
        if self._flying.pop(numbers.start, None) is not None:
            self._journal.note(numbers)


class Closing:
    """Publishes what is left of an instance, then says the last word until it is acknowledged."""

    def __init__(self, machine: Machine, world: World, journal: Journal, publisher: Publisher) -> None:
        self._machine = machine
        self._world = world
        self._journal = journal
        self._publisher = publisher
        self._turn()

    def _turn(self) -> None:
        if self._journal.done:
            return
        early = self._world.close_early
        if not self._publisher.behind or early:
            close = Close(instance=self._journal.instance, last_n=self._journal.last_n, sent_ms=CLOSE_MARK)
            self._world.ask(self._machine.name, self._journal.instance, close)
        self._machine.later(CLOSE_RETRY_MS, self._turn)

    def acknowledged(self) -> None:
        """The ledger has it."""
        if not self._publisher.behind:
            self._journal.done = True
            self._publisher.stopped = True


def recover(machine: Machine, world: World, journal: Journal, *, again: bool) -> Closing:
    """Finish a dead instance: charge what ran at its hold, publish, close. Twice gives the same numbers."""
    journal.locked_by = machine.name
    for call in sorted(journal.opens.values(), key=lambda call: call.call_id):
        n = journal.settle(world, call, call.held, lost=True)
        world.truth.finish(call, call.held, n)
        world.count("lost calls")
    publisher = Publisher(machine, world, journal, lanes=1, every_ms=world.random.uniform(5, 60))
    if again:
        publisher.again()
    return Closing(machine, world, journal, publisher)
