"""What changes by the clock alone: windows that end after something was told about them, increases that end."""

import heapq
from collections.abc import Iterable
from datetime import datetime, timedelta

from services.ledger.domain.cross import NEWS_MAX
from services.ledger.domain.fold import reconsider
from services.ledger.domain.state import LedgerState
from shared.events import AccountWindow, GrantEntry, ThresholdCrossed
from shared.ids import AccountId
from shared.windows import window_of_index

LOOK_AGAIN_MS = 10_000
"""The wall clock may be set: look at it at least this often while anything is to come."""


class Calendar:
    """Looks at accounts again when their time has come: budgets are restored, levels written anew."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state
        self._ends: list[tuple[datetime, str, int]] = []
        self._begun = False
        self.due_ms: int | None = None
        """When to look next, in milliseconds of the monotonic clock; None: nothing is to come."""

    def begin(self) -> None:
        """The office is taken; what is to come is found out with the next look at the clock."""
        self._ends.clear()
        self._begun = False
        self.due_ms = 0

    def note(self, records: Iterable[GrantEntry]) -> None:
        """Something was told about these account-windows: their end matters."""
        for record in records:
            if isinstance(record, ThresholdCrossed):
                self._add(record.window)

    def notice(self, now: datetime, now_ms: int) -> None:
        """Mark every account whose window or increase has ended by `now`."""
        if not self._begun:
            self._begun = True
            self._find_all(now)
        for name in self._state.timed:
            budget = self._state.directory.budgets.get(name)
            if budget is not None and budget.increase is not None:
                heapq.heappush(self._ends, (budget.increase.until, name, -1))
        self._state.timed.clear()
        while self._ends and self._ends[0][0] <= now:
            _, name, index = heapq.heappop(self._ends)
            if index < 0:
                reconsider(self._state, name)
            else:
                self._state.dirty.add((name, index))
                self._state.unposted.add(name)
        self.due_ms = None
        if self._ends:
            left_ms = (self._ends[0][0] - now) // timedelta(milliseconds=1) + 1
            self.due_ms = now_ms + min(LOOK_AGAIN_MS, left_ms)

    def _find_all(self, now: datetime) -> None:
        """After a change of office: every account-window about which something was told lately."""
        state = self._state
        for name, account in state.accounts.items():
            for index, balance in account.windows.items():
                if balance.crossed:
                    self._add(AccountWindow(account=AccountId(name), index=index), after=now - NEWS_MAX)
            budget = state.directory.budgets.get(name)
            if budget is not None and budget.increase is not None:
                state.timed.add(name)

    def _add(self, window: AccountWindow, after: datetime | None = None) -> None:
        budget = self._state.directory.budgets.get(window.account)
        if budget is None:
            return
        end = window_of_index(budget.window, window.index).end
        if end is not None and (after is None or end >= after):
            heapq.heappush(self._ends, (end, window.account, window.index))
