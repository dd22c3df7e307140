"""Bounded memory: what nobody will ask about any more is dropped, a little at a time.

Dropping moves no money: an allotment goes when nothing is out of it, a window when nothing counts in it and no grant
can be made for it again. Which moment that is may differ between two readers of the log; their balances do not. The
event numbers of an instance stay for ever, so that no copy is ever counted again.
"""

from datetime import datetime, timedelta

from services.ledger.domain.stakes import move, stakes
from services.ledger.domain.state import Account, Allotment, Balance, Instance, LedgerState
from shared.events import AccountWindow
from shared.policy import Budget
from shared.windows import window_of_index

SETTLED_FOR = timedelta(hours=1)
"""An allotment that is used up is kept this long after its last record, for messages that come late."""
OVER_FOR = timedelta(days=2)
"""A window is kept this long after its end; the books have it for ever."""
UNUSED_FOR = timedelta(days=32)
"""The same for one after which no grant was made: by a slow clock it may still be the current one."""
CHUNK = 1_000


class Broom:
    """Goes round and round over everything; `sweep` does a bounded part of it."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state
        self._todo: list[tuple[str, list[int] | None]] = []

    def sweep(self, now: datetime, most: int = CHUNK) -> bool:
        """Look at about `most` things; True when a round is complete. `now` is the wall clock.

        Only for a reader at the end of the log: who still reads an old part of it must not take what is used up there
        for used up today.
        """
        if not self._todo:
            self._todo = _round(self._state)
        while self._todo and most > 0:
            name, serials = self._todo.pop()
            if serials is None:
                most -= _sweep_account(self._state, name, now)
            else:
                most -= _sweep_allotments(self._state, name, serials, now)
        return not self._todo


def _round(state: LedgerState) -> list[tuple[str, list[int] | None]]:
    """All there is to look at; accounts come last, which is first in the list."""
    todo: list[tuple[str, list[int] | None]] = [(name, None) for name in state.accounts]
    for name, instance in state.instances.items():
        serials = list(instance.allotments)
        todo += [(name, serials[at : at + CHUNK]) for at in range(0, len(serials), CHUNK)]
    return todo


def _sweep_allotments(state: LedgerState, name: str, serials: list[int], now: datetime) -> int:
    instance = state.instances.get(name) or Instance()
    settled_ms = int((now - SETTLED_FOR).timestamp() * 1000)
    for serial in serials:
        allotment = instance.allotments.get(serial)
        if allotment is None or allotment.at_ms > settled_ms or allotment.out:
            continue
        if allotment.left == 0 or _all_over(state, allotment, now):
            plain, charged = stakes(allotment)
            move(state, allotment, (plain, charged), ((0, 0, plain[2], 0), (0, 0, charged[2], 0)))
            del instance.allotments[serial]
    return len(serials)


def _all_over(state: LedgerState, allotment: Allotment, now: datetime) -> bool:
    """Whether every window of an allotment has ended long ago: presumed spend ends with the window."""
    for window in (*allotment.term, *allotment.attached):
        budget = state.directory.budgets.get(window.account)
        if budget is None or not _over(budget, window.index, now, OVER_FOR):
            return False
    return True


def _sweep_account(state: LedgerState, name: str, now: datetime) -> int:
    account = state.accounts.get(name) or Account()
    budget = state.directory.budgets.get(name)
    if budget is None or not budget.window.duration:
        return 1
    looked = len(account.windows)
    for index in list(account.windows):
        wait = OVER_FOR if index < account.highest else UNUSED_FOR
        if _over(budget, index, now, wait) and _idle(state, AccountWindow(budget.account, index)):
            del account.windows[index]
    return max(1, looked)


def _over(budget: Budget, index: int, now: datetime, wait: timedelta) -> bool:
    end = window_of_index(budget.window, index).end
    return end is not None and end + wait < now


def _idle(state: LedgerState, window: AccountWindow) -> bool:
    """Whether nothing counts in an account-window and nobody is still to be told about it."""
    balance = state.seen(window) or Balance()
    if balance.escrow or balance.presumed or balance.unfolded or balance.holders:
        return False
    return not any((window.account, window.index, name) in state.untold for name in balance.crossed)
