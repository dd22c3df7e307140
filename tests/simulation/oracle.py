"""The grant rule, judged by other code than the product's: every decision against what it was decided on.

The oracle reads LEDGER's decisions as they are appended, and usage and auth up to the positions that each decision
names. It must hold then, on every account-window of the term, that spend plus escrow does not pass the limit.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from shared.events import (
    AccountWindow,
    AllotmentClosed,
    AllotmentGranted,
    AllotmentRenewed,
    AllotmentReturned,
    AnyUsage,
    BudgetSet,
    GrantBatch,
    LedgerEpoch,
    SignalPublished,
    ThresholdCrossed,
    UsageRecorded,
    WindowOpened,
)
from shared.policy import Budget
from shared.windows import window_at, window_of_index
from tests.simulation.logs import Logs

Aid = tuple[str, int]


class Violation(AssertionError):
    """A promise was broken."""


def claim(holds: bool, text: str, *figures: object) -> None:
    """Raise Violation with the text and the figures unless it holds."""
    if not holds:
        raise Violation(f"{text}: {', '.join(map(repr, figures))}" if figures else text)


@dataclass(slots=True)
class Lot:
    """One allotment as the log has it."""

    aid: Aid
    key: str = ""
    term: tuple[AccountWindow, ...] = ()
    attached: tuple[AccountWindow, ...] = ()
    granted: int = 0
    settled: int = 0
    returned: int = 0

    @property
    def out(self) -> int:
        """What may still be spent from it."""
        return max(0, self.granted - self.settled - self.returned)


@dataclass(slots=True)
class Being:
    """One instance as the log has it. `charged` is set by a silent closing."""

    seen: set[int] = field(default_factory=set[int])
    floor: int = 0
    lots: dict[int, Lot] = field(default_factory=dict[int, Lot])
    last_n: int | None = None
    charged: frozenset[str] | None = None
    final: bool = False

    def see(self, n: int) -> bool:
        """Whether an event number is new."""
        if n <= self.floor or n in self.seen:
            return False
        self.seen.add(n)
        while self.floor + 1 in self.seen:
            self.floor += 1
            self.seen.remove(self.floor)
        return True


class Oracle:
    """Spend by the events alone; escrow summed anew from the allotments over a window each time it is asked."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self.auth_pos = 0
        self.usage_pos = 0
        self.epoch = 0
        self.epochs = 0
        self.grants = 0
        self.decided_at: datetime | None = None
        self.budgets: dict[str, Budget] = {}
        self.beings: dict[str, Being] = {}
        self.spent: defaultdict[AccountWindow, int] = defaultdict(int)
        self.over: dict[AccountWindow, dict[Aid, Lot]] = {}
        self.highest: dict[str, int] = {}
        self.limit_then: dict[AccountWindow, int] = {}
        """The limit in force at the last grant through a window."""
        self.released: defaultdict[AccountWindow, int] = defaultdict(int)
        self.crossed: dict[tuple[AccountWindow, str, int], int] = {}
        self.early: set[tuple[AccountWindow, int]] = set()
        """Windows and rounds of refusals while a good part of the limit was not spent."""
        self.told: set[tuple[AccountWindow, str, int]] = set()
        self.granted_now: list[AccountWindow] = []

    # ---- figures ------------------------------------------------------------------------------------

    def being(self, instance: str) -> Being:
        """An instance, made when first named."""
        found = self.beings.get(instance)
        if found is None:
            found = self.beings[instance] = Being()
        return found

    def lot(self, instance: str, serial: int) -> Lot:
        """An allotment, made when first named."""
        lots = self.being(instance).lots
        found = lots.get(serial)
        if found is None:
            found = lots[serial] = Lot((instance, serial))
        return found

    def held(self, window: AccountWindow) -> int:
        """What allotments over a window may still spend or are presumed to have spent."""
        total = 0
        for (instance, _), lot in self.over.get(window, {}).items():
            being = self.beings[instance]
            if being.final or (being.charged is not None and window.account not in being.charged):
                continue
            total += lot.out
        return total

    def presumed(self, window: AccountWindow) -> int:
        """The part of `held` that silent instances leave."""
        total = 0
        for (instance, _), lot in self.over.get(window, {}).items():
            being = self.beings[instance]
            if being.charged is not None and not being.final and window.account in being.charged:
                total += lot.out
        return total

    # ---- folding ------------------------------------------------------------------------------------

    def judge(self, batch: GrantBatch, seq: int) -> None:
        """One appended batch. Raises Violation."""
        claim(batch.auth_pos >= self.auth_pos, "auth_pos fell along the decisions (R5)", batch.auth_pos, self.auth_pos)
        claim(batch.usage_pos >= self.usage_pos, "usage_pos fell along the decisions (R5)", seq, self.usage_pos)
        self._learn(batch.auth_pos)
        self._spend(batch.usage_pos)
        self.decided_at = batch.at
        self.granted_now.clear()
        for record in batch.records:
            match record:
                case AllotmentGranted():
                    self._granted(record, batch)
                case AllotmentReturned():
                    self._returned(record)
                case WindowOpened():
                    self._opened(record)
                case AllotmentClosed():
                    self._closed(record)
                case LedgerEpoch():
                    claim(record.epoch > self.epoch, "an epoch came twice", record.epoch)
                    self.epoch = record.epoch
                    self.epochs += 1
                case ThresholdCrossed():
                    self._crossed(record)
                case SignalPublished():
                    self._told(record)
                case AllotmentRenewed():
                    pass

    def finish(self) -> None:
        """Read both logs to their end."""
        self._learn(len(self._logs.auth))
        self._spend(len(self._logs.ledger))

    def _learn(self, upto: int) -> None:
        for decree in self._logs.auth[self.auth_pos : upto]:
            if isinstance(decree.event, BudgetSet):
                self.budgets.update({budget.account: budget for budget in decree.event.budgets})
        self.auth_pos = max(self.auth_pos, upto)

    def _spend(self, upto: int) -> None:
        for message in self._logs.ledger[self.usage_pos : upto]:
            if isinstance(message, tuple):
                for event in message:
                    self._used(event)
        self.usage_pos = max(self.usage_pos, upto)

    def _used(self, event: AnyUsage) -> None:
        being = self.being(event.instance)
        if not being.see(event.n):
            return
        if isinstance(event, UsageRecorded):
            for window in event.windows:
                self.spent[window] += event.cost_nusd
            if event.serial is not None:
                self.lot(event.instance, event.serial).settled += event.cost_nusd
        else:
            for change in event.changes:
                self.spent[change.window] += change.delta_nusd
        self._end(being)

    def _granted(self, record: AllotmentGranted, batch: GrantBatch) -> None:
        lot = self.lot(record.instance, record.serial)
        being = self.beings[record.instance]
        claim(not being.final and being.last_n is None and being.charged is None, "a grant to the closed", record)
        if not lot.term:
            lot.key, lot.term = record.key_id, record.term
            for window in record.term:
                self.over.setdefault(window, {})[lot.aid] = lot
        claim(lot.term == record.term and lot.key == record.key_id, "a term or key changed", record, lot)
        rises = record.granted_nusd > lot.granted
        lot.granted = max(lot.granted, record.granted_nusd)
        self.grants += 1
        for window in record.term:
            self._check_index(window, batch.at)
            if rises:
                self._check_rule(window, batch.at, record)

    def _check_index(self, window: AccountWindow, at: datetime) -> None:
        budget = self.budgets.get(window.account)
        claim(budget is not None, "a grant through an unknown account", window)
        assert budget is not None
        due = max(window_at(budget.window, at).index, self.highest.get(window.account, -1))
        claim(window.index == due, "a grant in another window than the clock's (R10)", window, due)
        self.highest[window.account] = due

    def _check_rule(self, window: AccountWindow, at: datetime, record: AllotmentGranted) -> None:
        limit = self.budgets[window.account].limit_at(at)
        claim(limit is not None, "a grant through an account without a limit", window)
        assert limit is not None
        spent, held = self.spent[window], self.held(window)
        claim(spent + held <= limit, "GRANT RULE: spent + escrow > limit", window, spent, held, limit, record)
        self.limit_then[window] = limit
        self.granted_now.append(window)

    def _returned(self, record: AllotmentReturned) -> None:
        lot = self.lot(record.instance, record.serial)
        lot.returned = max(lot.returned, record.returned_nusd)
        claim(lot.returned <= lot.granted, "more returned than granted", record, lot)

    def _opened(self, record: WindowOpened) -> None:
        window = record.window
        self.highest[window.account] = max(self.highest.get(window.account, -1), window.index)
        for instance, serial in record.allotments:
            lot = self.lot(instance, serial)
            if window not in lot.term and window not in lot.attached and not self.beings[instance].final:
                lot.attached += (window,)
                self.over.setdefault(window, {})[lot.aid] = lot

    def _closed(self, record: AllotmentClosed) -> None:
        being = self.being(record.instance)
        if record.how == "final":
            being.last_n = max(record.last_n, being.last_n or 0)
            self._end(being)
            return
        claim(not being.final and being.last_n is None, "a silent closing after the final one", record)
        being.charged = frozenset(record.charged)
        settled = dict(record.settled)
        for serial, lot in being.lots.items():
            if lot.out:
                claim(settled.get(serial, 0) == lot.settled, "a silent closing with another sum", record, lot)
            for window in (*lot.term, *lot.attached):
                if window.account not in being.charged:
                    self.released[window] += lot.out

    def _end(self, being: Being) -> None:
        if being.last_n is not None and being.floor >= being.last_n:
            being.final = True

    def _crossed(self, record: ThresholdCrossed) -> None:
        name = (record.window, record.threshold, record.round)
        claim(name not in self.crossed, "a crossing was recorded twice", name)
        self.crossed[name] = record.spent_nusd
        if record.threshold == "exceeded" and record.spent_nusd * 10 < (record.limit_nusd or 0) * 9:
            self.early.add((record.window, record.round))
        if record.threshold == "exceeded" and record.round:
            restored = (record.window, "restored", record.round - 1) in self.crossed
            early = (record.window, record.round - 1) in self.early
            full = early and record.limit_nusd is not None and record.spent_nusd >= record.limit_nusd
            claim(restored or full, "exceeded again, neither restored nor spent up since", name, record)
        if record.threshold == "restored":
            claim((record.window, "exceeded", record.round) in self.crossed, "restored, never exceeded", name)

    def _told(self, record: SignalPublished) -> None:
        name = (record.window, record.threshold, record.round)
        claim(name in self.crossed, "a signal without a crossing", name)
        self.told.add(name)


def end_of(budget: Budget, index: int) -> datetime | None:
    """When a window ends."""
    return window_of_index(budget.window, index).end
