"""A batch of decisions that is not in the log yet: an overlay on the folded state.

Nothing here touches the state. When the append fails the draft is dropped and nothing has happened; when it
succeeds the records are folded like everybody else's.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from services.ledger.domain.fold import ATTACH_MAX
from services.ledger.domain.state import EXCEEDED, RESTORED, Allotment, Balance, LedgerState
from services.ledger.domain.tuning import Tuning
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
    """Tentative effects of one batch. `now` is the wall clock, `now_ms` the monotonic one, both read once.

    `blocked` are account-windows whose money is meant for an ask that came earlier and still waits, with the time at
    which it stops to wait; `freed` those on which this batch gives money back.
    """

    def __init__(self, state: LedgerState, now: datetime, now_ms: int, tuning: Tuning) -> None:
        self.state = state
        self.now = now
        self.now_ms = now_ms
        self.tuning = tuning
        self.returns: list[AllotmentReturned] = []
        self.renewals: dict[str, AllotmentRenewed] = {}
        self.opens: list[WindowOpened] = []
        self.closes: dict[str, AllotmentClosed] = {}
        self.grants: list[AllotmentGranted] = []
        self.crossings: dict[tuple[AccountWindow, str], ThresholdCrossed] = {}
        self.refused: list[tuple[AccountWindow, int]] = []
        """What calls were refused for good in this batch: the account-window, and the money they waited for."""
        self.shown: set[str] = set()
        """Instances that a return or grant of this batch shows alive."""
        self.blocked: dict[AccountWindow, int] = {}
        self.freed: set[AccountWindow] = set()
        self._allotments: dict[tuple[str, int], Allotment] = {}
        self._escrow: dict[tuple[str, int], int] = {}
        self._holders: dict[AccountWindow, set[str]] = {}
        self._windows: dict[str, Window] = {}
        self._left: dict[AccountWindow, int] = {}
        self._opening: dict[str, bool] = {}
        self._attached = 0

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

    # ---- what is there -------------------------------------------------------------------------------

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
        return instance in self.closes or (known is not None and known.closed)

    def live_instances(self, window: AccountWindow, asker: InstanceId) -> int:
        """How many living instances hold money of an account-window, with the one that asks."""
        balance = self.state.seen(window)
        folded = {} if balance is None else balance.holders
        added = self._holders.get(window, ())
        more = sum(1 for name in added if name not in folded and name != asker)
        return len(folded) + more + (asker not in folded)

    def escrow(self, window: AccountWindow) -> int:
        """The escrow of an account-window with this batch's changes."""
        tentative = self._escrow.get((window.account, window.index), 0)
        balance = self.state.seen(window)
        return tentative if balance is None else balance.escrow + tentative

    def spent(self, window: AccountWindow) -> int:
        """What counts as spent in an account-window: folded cost, and what silent instances are presumed to owe."""
        balance = self.state.seen(window)
        return 0 if balance is None else balance.used

    def limit(self, budget: Budget) -> int:
        """The limit of an account by the clock of this batch."""
        return budget.limit_at(self.now) or 0

    def window(self, budget: Budget) -> Window:
        """The window that new grants use: by the clock, but never before one that was granted for."""
        found = self._windows.get(budget.account)
        if found is None:
            found = self._windows[budget.account] = current_window(self.state, budget, self.now)
        return found

    def admit_for_ms(self, term: tuple[AccountWindow, ...]) -> int:
        """How long calls may still be admitted on a term: to its first window end, at most one lease."""
        return max(0, min(self.tuning.lease_ms, *(self._left_ms(window) for window in term)))

    def _left_ms(self, window: AccountWindow) -> int:
        left = self._left.get(window)
        if left is None:
            budget = self.state.directory.budgets.get(window.account)
            end = self.now if budget is None else window_of_index(budget.window, window.index).end
            left = self.tuning.lease_ms if end is None else int((end - self.now).total_seconds() * 1000)
            self._left[window] = left
        return left

    # ---- what changes --------------------------------------------------------------------------------

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
            allotment.auth_pos = self.state.auth_pos
            before = 0
        allotment.granted = record.granted_nusd
        allotment.rseq = record.rseq
        self._shift(allotment, before)
        self.grants.append(record)
        self.shown.add(record.instance)
        if allotment.out:
            for window in allotment.term:
                self._holders.setdefault(window, set()).add(record.instance)
        return allotment

    def cross(self, window: AccountWindow, threshold: str, limit: int) -> None:
        """Record a first refusal (`exceeded`), or that a call like those refused is served again (`restored`)."""
        balance = self.state.seen(window) or Balance()
        if (balance.exceeded is None) == (threshold == EXCEEDED):
            unfolded = balance.unfolded if threshold == EXCEEDED else 0
            record = ThresholdCrossed(
                window=window,
                threshold=threshold,
                spent_nusd=balance.used + unfolded,
                limit_nusd=limit,
                round=balance.round,
                unfolded_nusd=unfolded,
            )
            self.crossings.setdefault((window, threshold), record)

    def refuse(self, window: AccountWindow, waits: int, limit: int) -> None:
        """A call that waits for this much is refused because the money is spent.

        One that not even an untouched budget would cover says nothing about the budget: only its caller hears of it.
        """
        if waits <= limit or self.spent(window) >= limit:
            self.refused.append((window, waits))
            self.cross(window, EXCEEDED, limit)

    def serve(self, window: AccountWindow, waits: int, limit: int) -> None:
        """A call that waits for this much is served: if such a call was refused before, there is room again."""
        balance = self.state.seen(window)
        if balance is not None and 0 < balance.least <= waits and balance.exceeded is not None:
            self.cross(window, RESTORED, limit)

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
        found = self._beneath(budget, window, account.limited_since)
        if self._attached and self._attached + len(found) >= ATTACH_MAX:
            return False  # another batch has room for it
        found = found[:ATTACH_MAX]
        self._attached += len(found)
        for instance, serial in found:
            allotment = self.allotment(instance, serial)
            assert allotment is not None
            allotment, _ = self._edit(instance, serial, allotment)
            allotment.attached += (window,)
            self._move(window, allotment.out)
        balance = self.state.seen(window)
        spent = 0 if balance is None else balance.spent
        self.opens.append(WindowOpened(window=window, opening_spent_nusd=spent, allotments=tuple(found)))
        done = self._opening[budget.account] = len(found) < ATTACH_MAX
        return done

    def block(self, windows: Iterable[AccountWindow], until_ms: int) -> None:
        """Keep the money of account-windows for an ask that waits."""
        for window in windows:
            self.blocked[window] = max(until_ms, self.blocked.get(window, 0))

    def _beneath(self, budget: Budget, window: AccountWindow, since: int) -> list[tuple[str, int]]:
        """Allotments with money out under a budget's scope, granted by policy from before the limit, that do not
        count for this window yet."""
        keys = [budget.scope_id] if budget.scope_kind == "key" else list(self.state.out)
        found: list[tuple[str, int]] = []
        for key_id in keys:
            if not self.state.directory.beneath(budget, key_id):
                continue
            for instance, serial in sorted(self.state.out.get(key_id, ())):
                allotment = self.allotment(instance, serial)
                if (
                    allotment is not None
                    and allotment.out
                    and allotment.auth_pos < since
                    and all(held.account != budget.account for held in allotment.term)
                    and window not in allotment.attached
                ):
                    found.append((instance, serial))
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
                if change < 0:
                    self.freed.add(window)

    def _move(self, window: AccountWindow, change: int) -> None:
        key = (window.account, window.index)
        self._escrow[key] = self._escrow.get(key, 0) + change


def current_window(state: LedgerState, budget: Budget, now: datetime) -> Window:
    """The window of an account that is in use: by the clock, but never before one that was granted for."""
    found = window_at(budget.window, now)
    account = state.accounts.get(budget.account)
    if account is not None and account.highest > found.index:
        return window_of_index(budget.window, account.highest)
    return found
