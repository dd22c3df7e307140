"""A batch of decisions that is not in the log yet: an overlay on the folded state.

Nothing here touches the state. When the append fails the draft is dropped and nothing has happened; when it
succeeds the records are folded like everybody else's.
"""

from datetime import datetime

import msgspec

from services.ledger.domain.fold import ATTACH_MAX
from services.ledger.domain.state import Allotment, LedgerState
from shared.allotment import LEASE_MS
from shared.events import (
    AccountWindow,
    AllotmentClosed,
    AllotmentGranted,
    AllotmentRenewed,
    AllotmentReturned,
    GrantEntry,
    ThresholdCrossed,
    WindowOpened,
)
from shared.ids import InstanceId
from shared.policy import Budget
from shared.windows import Window, window_at, window_of_index


class Draft:
    """Tentative effects of one batch. `now` is the wall clock, `now_ms` the monotonic one, both read once."""

    def __init__(self, state: LedgerState, now: datetime, now_ms: int) -> None:
        self.state = state
        self.now = now
        self.now_ms = now_ms
        self.returns: list[AllotmentReturned] = []
        self.renewals: dict[str, AllotmentRenewed] = {}
        self.opens: list[WindowOpened] = []
        self.closes: dict[str, AllotmentClosed] = {}
        self.grants: list[AllotmentGranted] = []
        self.crossings: dict[tuple[AccountWindow, str], ThresholdCrossed] = {}
        self.shown: set[str] = set()
        """Instances that a return or grant of this batch shows alive."""
        self._allotments: dict[tuple[str, int], Allotment] = {}
        self._escrow: dict[tuple[str, int], int] = {}
        self._windows: dict[str, Window] = {}
        self._left: dict[tuple[str, int], int] = {}
        self._opening: dict[str, bool] = {}
        self._live: int | None = None

    def records(self) -> tuple[GrantEntry, ...]:
        """What to append. Returns come before the grants that may use them."""
        return (
            *self.returns,
            *self.renewals.values(),
            *self.opens,
            *self.closes.values(),
            *self.grants,
            *self.crossings.values(),
        )

    def allotment(self, instance: str, serial: int) -> Allotment | None:
        """An allotment with this batch's changes; read only."""
        changed = self._allotments.get((instance, serial))
        if changed is not None:
            return changed
        known = self.state.instances.get(instance)
        return None if known is None else known.allotments.get(serial)

    def closed(self, instance: str) -> bool:
        """Whether an instance's closing is in the log or in this batch: it gets no money any more."""
        known = self.state.instances.get(instance)
        return instance in self.closes or (known is not None and known.last_n is not None)

    def live_instances(self, asker: InstanceId) -> int:
        """How many proxy instances may want money: those not closed, and the one that asks."""
        if self._live is None:
            self._live = sum(1 for known in self.state.instances.values() if known.last_n is None)
        return self._live + (asker not in self.state.instances)

    def escrow(self, window: AccountWindow) -> int:
        """The escrow of an account-window with this batch's changes."""
        tentative = self._escrow.get((window.account, window.index), 0)
        account = self.state.accounts.get(window.account)
        balance = None if account is None else account.windows.get(window.index)
        return tentative if balance is None else balance.escrow + tentative

    def spent(self, window: AccountWindow) -> int:
        """The folded spend of an account-window."""
        account = self.state.accounts.get(window.account)
        balance = None if account is None else account.windows.get(window.index)
        return 0 if balance is None else balance.spent

    def window(self, budget: Budget) -> Window:
        """The window that new grants use: by the clock, but never before one that was granted for."""
        found = self._windows.get(budget.account)
        if found is None:
            found = window_at(budget.window, self.now)
            account = self.state.accounts.get(budget.account)
            if account is not None and account.highest > found.index:
                found = window_of_index(budget.window, account.highest)
            self._windows[budget.account] = found
        return found

    def admit_for_ms(self, term: tuple[AccountWindow, ...]) -> int:
        """How long calls may still be admitted on a term: to its first window end, at most one lease."""
        return max(0, min(LEASE_MS, *(self._left_ms(window) for window in term)))

    def _left_ms(self, window: AccountWindow) -> int:
        key = (window.account, window.index)
        left = self._left.get(key)
        if left is None:
            budget = self.state.directory.budgets.get(window.account)
            end = self.now if budget is None else window_of_index(budget.window, window.index).end
            left = LEASE_MS if end is None else int((end - self.now).total_seconds() * 1000)
            self._left[key] = left
        return left

    def give_back(self, instance: InstanceId, serial: int, returned: int) -> None:
        """Record that a proxy's cumulative `returned` rose; nobody can return what was never granted."""
        allotment = self.allotment(instance, serial)
        if allotment is None:
            return
        returned = min(returned, allotment.granted)
        if returned <= allotment.returned:
            return
        allotment, before = self._edit(instance, serial, allotment)
        allotment.returned = returned
        self._shift(allotment, before)
        self.returns.append(AllotmentReturned(instance=instance, serial=serial, returned_nusd=returned))
        self.shown.add(instance)

    def grant(self, record: AllotmentGranted) -> Allotment:
        """Record a grant; the allotment as it will be."""
        allotment = self.allotment(record.instance, record.serial) or Allotment()
        allotment, before = self._edit(record.instance, record.serial, allotment)
        if not allotment.term:
            allotment.key_id = record.key_id
            allotment.term = record.term
            before = 0
        allotment.granted = record.granted_nusd
        allotment.rseq = record.rseq
        self._shift(allotment, before)
        self.grants.append(record)
        self.shown.add(record.instance)
        return allotment

    def open_window(self, budget: Budget) -> bool:
        """Make sure that allotments from before a limit count under it; False: not all fit in this batch.

        Their proxies are told by the next refusal that their lineage has changed, and drain them.
        """
        account = self.state.accounts.get(budget.account)
        if account is None or account.limited_since <= account.opened_at:
            return True
        done = self._opening.get(budget.account)
        if done is not None:
            return done
        window = AccountWindow(budget.account, self.window(budget).index)
        found = self._beneath(budget, window)[:ATTACH_MAX]
        for instance, serial in found:
            allotment = self.allotment(instance, serial)
            assert allotment is not None
            allotment, _ = self._edit(instance, serial, allotment)
            allotment.attached += (window,)
            self._move(window, allotment.out)
        self.opens.append(WindowOpened(window=window, opening_spent_nusd=self.spent(window), allotments=tuple(found)))
        done = self._opening[budget.account] = len(found) < ATTACH_MAX
        return done

    def _beneath(self, budget: Budget, window: AccountWindow) -> list[tuple[str, int]]:
        """Allotments with money out under a budget's scope that do not count for this window yet."""
        found: list[tuple[str, int]] = []
        for instance_id, instance in self.state.instances.items():
            for serial in instance.allotments:
                allotment = self.allotment(instance_id, serial)
                assert allotment is not None
                if (
                    allotment.out
                    and all(held.account != budget.account for held in allotment.term)
                    and window not in allotment.attached
                    and self.state.directory.beneath(budget, allotment.key_id)
                ):
                    found.append((instance_id, serial))
        return found

    def _edit(self, instance: str, serial: int, allotment: Allotment) -> tuple[Allotment, int]:
        """A copy that belongs to this draft, and what was out of it before the change."""
        key = (instance, serial)
        if key not in self._allotments:
            self._allotments[key] = msgspec.structs.replace(allotment)
        copy = self._allotments[key]
        return copy, copy.out

    def _shift(self, allotment: Allotment, before: int) -> None:
        change = allotment.out - before
        if change:
            for window in (*allotment.term, *allotment.attached):
                self._move(window, change)

    def _move(self, window: AccountWindow, change: int) -> None:
        key = (window.account, window.index)
        self._escrow[key] = self._escrow.get(key, 0) + change
