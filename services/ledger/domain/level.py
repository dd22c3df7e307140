"""Levels: how each account stands, for machines. Written when something changes, read by every proxy.

What a level says follows from the log and from the refusals of this process; a new enforcer starts from what the
bucket holds.
"""

from datetime import datetime

import msgspec

from services.ledger.domain.cross import warnings
from services.ledger.domain.draft import current_window
from services.ledger.domain.refuse import explain
from services.ledger.domain.state import Balance, LedgerState
from shared.allotment import Level
from shared.events import AccountWindow
from shared.policy import Budget


class Board:
    """What the bucket `budgets` holds, and which accounts may have changed since.

    `load` what is in the bucket when the office is taken; then publish what `due` gives and say so with `posted`.
    """

    def __init__(self, state: LedgerState) -> None:
        self._state = state
        self._posted: dict[str, Level] = {}

    def load(self, level: Level) -> None:
        """A level that the bucket holds already."""
        self._posted[level.account] = level
        self._state.unposted.add(level.account)

    def begin(self, levels: list[Level]) -> None:
        """The office is taken: start from the bucket, and look at every account about which something was told."""
        self._posted.clear()
        for level in levels:
            self.load(level)
        for name, account in self._state.accounts.items():
            if any(balance.crossed for balance in account.windows.values()):
                self._state.unposted.add(name)

    def refused(self, window: AccountWindow, waits: int) -> None:
        """A call that waited for this much was refused because money is spent; smaller ones may still fit."""
        balance = self._state.balance(window)
        if balance.least == 0 or waits < balance.least:
            balance.least = max(1, waits)
            self._state.unposted.add(window.account)

    def due(self, now: datetime, most: int) -> list[Level]:
        """Levels to write now, at most `most`. An account stays due until `posted` or found unchanged."""
        found: list[Level] = []
        for name in sorted(self._state.unposted):
            if len(found) >= most:
                break
            before = self._posted.get(name)
            level = level_of(self._state, name, now, 0 if before is None else before.seq + 1)
            if level is None or not _differs(before, level):
                self._state.unposted.discard(name)
            else:
                found.append(level)
        return found

    def posted(self, level: Level) -> None:
        """A level is in the bucket. If its account changed meanwhile, it is due again."""
        self._posted[level.account] = level


def level_of(state: LedgerState, name: str, now: datetime, seq: int) -> Level | None:
    """How an account stands now; None for one that auth never named. `seq` is at least the given one."""
    budget = state.directory.budgets.get(name)
    if budget is None:
        return None
    window = current_window(state, budget, now)
    place = AccountWindow(budget.account, window.index)
    balance = state.seen(place) or Balance()
    level = Level(
        account=budget.account,
        state="open",
        window_index=window.index,
        seq=max(seq, state.ledger_pos, state.grant_seq),
        limit=budget.limit_at(now),
        spent=balance.used,
        until_s=None if window.end is None else int(window.end.timestamp()),
    )
    if not state.directory.in_force(budget):
        return level
    if level.limit is not None and balance.exceeded is not None:
        return _exhausted(state, budget, place, balance, level, now)
    return msgspec.structs.replace(level, state="soft") if warnings(budget, balance, level.limit) else level


def _exhausted(
    state: LedgerState, budget: Budget, window: AccountWindow, balance: Balance, level: Level, now: datetime
) -> Level:
    """No call that needs more than what is left fits, and none as large as one that was refused, unless money that
    was presumed spent has come back since."""
    left = max(0, (level.limit or 0) - balance.used)
    sure = max(0, left - balance.unfolded)
    refused = balance.least > sure
    least = min(balance.least, left + 1) if refused else left + 1
    refusal = explain(state, budget, window, now, escrow=balance.escrow, room=min(least - 1, sure))
    return msgspec.structs.replace(level, state="exhausted", least=least, refusal=refusal)


def _differs(before: Level | None, now: Level) -> bool:
    """Whether a level must be written: machines would act in another way."""
    if before is None:
        return now.state != "open"
    if now.state == "open" and before.state == "open":
        return False
    if (before.state, before.window_index, before.limit, before.until_s) != (
        now.state,
        now.window_index,
        now.limit,
        now.until_s,
    ):
        return True
    return now.state == "exhausted" and now.least != before.least
