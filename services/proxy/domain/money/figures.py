"""What callers are told of their budgets: the spend of the key, and what is left for it. Pure.

The ledger's answers say how each account stands and how much of that is the asking wallet's own. So the wallet's
`spent` alone brings the figures up to date, with no work at all when a call settles. What others spend on the same
account shows with the next answer to any wallet of this instance. Nothing is admitted or refused by these figures.
"""

from dataclasses import dataclass

import msgspec

from shared.allotment import Answer, Level
from shared.events import AccountWindow
from shared.ids import AccountId

STANDINGS_MAX = 100_000
"""Accounts whose figures are shared between wallets; beyond it the oldest are forgotten, and only their own wallets'
answers tell of them until the next one."""


class Figures(msgspec.Struct, frozen=True, gc=False):
    """Nano-dollars. None is unknown, never nothing.

    `key_spend_nusd` is what the key's own account has spent in its window (None: it has none); `budget_left_nusd` the
    least that any account of the call has left, never below zero.
    """

    key_spend_nusd: int | None = None
    budget_left_nusd: int | None = None


UNKNOWN = Figures()
_MUCH = 1 << 62


@dataclass(slots=True, eq=False)
class Standing:
    """One account-window as the ledger told it last, to any wallet that asked at `at_ms`."""

    window: AccountWindow
    limit: int
    spent: int
    at_ms: int


class Told(msgspec.Struct, frozen=True):
    """What the ledger's answer to ask `rseq` said for one wallet.

    With each account goes what others had spent there; `own` is the key's own account, `rest` are all others.
    """

    rseq: int
    own: tuple[Standing, int] | None
    rest: tuple[tuple[Standing, int], ...]

    def figures(self, spent: int) -> Figures:
        """The figures now that this wallet has spent so much. On the path of every call."""
        key_spend, left = None, _MUCH
        if self.own is not None:
            standing, others = self.own
            key_spend = others + spent
            if key_spend < standing.spent:
                key_spend = standing.spent
            left = standing.limit - key_spend
        for standing, others in self.rest:
            used = others + spent
            if used < standing.spent:
                used = standing.spent
            if standing.limit - used < left:
                left = standing.limit - used
        if left < 0:
            left = 0
        return Figures(key_spend, left)


class Standings:
    """How accounts stand, shared by the wallets of one instance. An account has one window here: the newest."""

    def __init__(self) -> None:
        self._by_account: dict[AccountId, Standing] = {}

    def hear(self, answer: Answer, before: Told | None) -> Told | None:
        """What an answer tells its wallet, which was told `before`; None when it says nothing about a known term."""
        if not answer.term or (before is not None and answer.rseq < before.rseq):
            return before
        windows = {window.account: window for window in answer.term}
        rest: list[tuple[Standing, int]] = []
        own: tuple[Standing, int] | None = None
        for figure in answer.figures:
            window = windows.get(figure.account)
            if window is None:
                return None
            standing = self._note(window, figure.limit, figure.spent, answer.sent_ms)
            entry = (standing, figure.spent - answer.counted)
            if figure.own and own is None:
                own = entry
            else:
                rest.append(entry)
        return Told(answer.rseq, own, tuple(rest)) if answer.figures else None

    def level(self, level: Level) -> None:
        """What the ledger shows to all. It was written at a crossing, so it can only raise a spend, and an open level
        says nothing of today's limit."""
        standing = self._by_account.get(level.account)
        if standing is None or standing.window.index != level.window_index:
            return
        standing.spent = max(standing.spent, level.spent)
        if level.state != "open" and level.limit is not None:
            standing.limit = level.limit

    def _note(self, window: AccountWindow, limit: int, spent: int, at_ms: int) -> Standing:
        """An account-window by an answer to an ask of `at_ms`. Of two answers the later one counts; the earlier one
        can only raise a spend, which does not fall but by corrections."""
        standing = self._by_account.get(window.account)
        if standing is None or standing.window.index < window.index:
            fresh = self._by_account[window.account] = Standing(window, limit, spent, at_ms)
            if len(self._by_account) > STANDINGS_MAX:
                del self._by_account[next(iter(self._by_account))]
            return fresh
        if standing.window.index > window.index:
            return Standing(window, limit, spent, at_ms)  # a wallet of the last window, while it drains
        if at_ms < standing.at_ms:
            standing.spent = max(standing.spent, spent)
        else:
            standing.limit, standing.spent, standing.at_ms = limit, spent, at_ms
        return standing
