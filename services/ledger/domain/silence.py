"""Instances of which nothing is heard: when to give them up, and what the log then says.

No clocks are compared: silence is counted from when this process read the last sign of life, or from when it took
office, and lasts until no call of that instance can run any more.
"""

from collections.abc import Iterable

from services.ledger.domain.draft import Draft
from services.ledger.domain.state import Allotment, Instance, LedgerState
from services.ledger.domain.tuning import Tuning
from shared.events import AllotmentClosed
from shared.ids import AccountId, InstanceId

SETTLED_MAX = 5_000
"""Most allotments that one closing names; the rest follows with the next batch."""
CLOSINGS_MAX = 4
"""Most closings of silent instances in one batch."""


class Silence:
    """When instances of one partition are given up. Times are milliseconds of the monotonic clock."""

    def __init__(self, state: LedgerState, tuning: Tuning) -> None:
        self._state = state
        self._tuning = tuning
        self._unfinished: set[str] = set()
        self.due_ms = 0
        """When to look next."""

    def begin(self, now_ms: int) -> None:
        """The office is taken: nobody counts as silent from before."""
        self._unfinished.clear()
        for name, instance in self._state.instances.items():
            if not instance.closed:
                instance.heard_ms = now_ms
            elif instance.silent and not instance.final and _any_open(instance.allotments.values()):
                self._unfinished.add(name)
        self._look(now_ms)
        if self._unfinished:
            self.due_ms = now_ms

    def close(self, draft: Draft, heard: set[InstanceId], now_ms: int) -> list[tuple[str, bool]]:
        """Add the closings that are due to a batch in which the instances `heard` speak; (name, complete) of each."""
        if now_ms < self.due_ms:
            return []
        silent = [*sorted(self._unfinished), *self._look(now_ms)]
        done: list[tuple[str, bool]] = []
        for name in silent[:CLOSINGS_MAX]:
            if name not in heard and name not in draft.closes:
                draft.closes[name], complete = closing(self._state, name)
                done.append((name, complete))
        if done:
            self.due_ms = now_ms  # look again: what did not fit follows
        return done

    def closed(self, done: list[tuple[str, bool]]) -> None:
        """These closings are in the log."""
        for name, complete in done:
            (self._unfinished.discard if complete else self._unfinished.add)(name)

    def _look(self, now_ms: int) -> list[str]:
        """Instances to give up now. One that is heard of for the first time after this look cannot fall silent
        before the next."""
        names: list[str] = []
        self.due_ms = now_ms + self._tuning.silent_after_ms
        for name, instance in self._state.instances.items():
            if instance.closed or not instance.allotments or instance.heard_ms is None:
                continue
            due_ms = instance.heard_ms + self._tuning.silent_after(instance.lease_ms)
            if due_ms <= now_ms:
                names.append(name)
            self.due_ms = min(self.due_ms, due_ms)
        return names


def closing(state: LedgerState, name: str) -> tuple[AllotmentClosed, bool]:
    """The record that gives an instance up, and whether it names all that is out.

    Budgets that must never be passed keep what is out as presumed spend; on all others it is released.
    """
    instance = state.instances.get(name) or Instance()
    settled: list[tuple[int, int]] = []
    charged: set[AccountId] = set()
    complete = True
    for serial, allotment in instance.allotments.items():
        if not allotment.term or allotment.cap is not None or not allotment.out:
            continue
        if len(settled) >= SETTLED_MAX:
            complete = False
            break
        settled.append((serial, allotment.settled))
        charged.update(window.account for window in (*allotment.term, *allotment.attached))
    budgets = state.directory.budgets
    strict = sorted(account for account in charged if (budget := budgets.get(account)) is not None and budget.strict)
    record = AllotmentClosed(instance=InstanceId(name), how="silent", settled=tuple(settled), charged=tuple(strict))
    return record, complete


def _any_open(allotments: Iterable[Allotment]) -> bool:
    return any(allotment.term and allotment.cap is None and allotment.out for allotment in allotments)
