"""Passed limits: what to write into the log once, and what to tell people about it."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from services.ledger.domain.directory import Directory
from services.ledger.domain.draft import Draft
from services.ledger.domain.fold import TOLD
from services.ledger.domain.state import Balance, Crossing, LedgerState
from shared.events import AccountWindow, BudgetExceeded, BudgetThresholdReached, ThresholdCrossed
from shared.ids import AccountId, EventId
from shared.policy import Budget
from shared.windows import window_of_index

SOFT = "soft"
EXCEEDED = "exceeded"
LATE_MAX = timedelta(hours=1)
"""Spend that arrives longer than this after the end of its window crosses nothing any more."""


def crossings(state: LedgerState, now: datetime, most: int) -> list[ThresholdCrossed]:
    """Limits that folded spend has passed and the log does not name yet, at most `most`.

    Forgets account-windows with nothing to say; the others stay until their record is folded.
    """
    found: list[ThresholdCrossed] = []
    for name in sorted(state.dirty):
        account, index = name
        records = _passed(state, AccountWindow(AccountId(account), index), now)
        if not records:
            state.dirty.discard(name)
        found += records
        if len(found) >= most:
            break
    return found


def first_refusal(draft: Draft, window: AccountWindow) -> None:
    """The first call that a budget does not cover is a crossing of its own."""
    account = draft.state.accounts.get(window.account)
    balance = None if account is None else account.windows.get(window.index)
    if balance is None or EXCEEDED not in balance.crossed:
        record = ThresholdCrossed(window=window, threshold=EXCEEDED, spent_nusd=draft.spent(window))
        draft.crossings.setdefault((window, EXCEEDED), record)


def told(window: AccountWindow, threshold: str, spent_nusd: int) -> ThresholdCrossed:
    """The record that the signal of a crossing has been published."""
    return ThresholdCrossed(window=window, threshold=threshold + TOLD, spent_nusd=spent_nusd)


def signal_of(
    directory: Directory, window: AccountWindow, threshold: str, crossing: Crossing, source: str
) -> BudgetThresholdReached | BudgetExceeded | None:
    """The signal of a crossing; None for an account that auth never named.

    Its id follows from account, window and threshold, so whoever publishes it again publishes the same signal.
    """
    budget = directory.budgets.get(window.account)
    if budget is None:
        return None
    span = window_of_index(budget.window, window.index)
    event_id = _derived_id(budget, window, threshold)
    at = datetime.fromtimestamp(crossing.at_ms / 1000, UTC)
    alias = directory.alias(budget.scope_kind, budget.scope_id)
    if threshold == EXCEEDED:
        return BudgetExceeded(
            id=event_id,
            at=at,
            source=source,
            scope_kind=budget.scope_kind,
            scope_id=budget.scope_id,
            account=budget.account,
            window_index=window.index,
            window_start=span.start,
            window_end=span.end,
            limit_nusd=budget.limit_nusd,
            spent_nusd=crossing.spent_nusd,
            alias=alias,
        )
    return BudgetThresholdReached(
        id=event_id,
        at=at,
        source=source,
        scope_kind=budget.scope_kind,
        scope_id=budget.scope_id,
        account=budget.account,
        window_index=window.index,
        window_start=span.start,
        window_end=span.end,
        limit_nusd=budget.limit_nusd,
        spent_nusd=crossing.spent_nusd,
        alias=alias,
        threshold=threshold,
        threshold_nusd=budget.soft_nusd or 0,
    )


def _passed(state: LedgerState, window: AccountWindow, now: datetime) -> list[ThresholdCrossed]:
    budget = state.directory.budgets.get(window.account)
    if budget is None or not state.directory.in_force(budget):
        return []
    end = window_of_index(budget.window, window.index).end
    if end is not None and end + LATE_MAX < now:
        return []
    balance = state.balance(window)
    return [
        ThresholdCrossed(window=window, threshold=threshold, spent_nusd=balance.spent)
        for threshold in _thresholds(budget, balance)
        if threshold not in balance.crossed
    ]


def _thresholds(budget: Budget, balance: Balance) -> list[str]:
    reached: list[str] = []
    if budget.soft_nusd is not None and balance.spent >= budget.soft_nusd and balance.spent > 0:
        reached.append(SOFT)
    if budget.limit_nusd is not None and balance.spent >= budget.limit_nusd and balance.spent > 0:
        reached.append(EXCEEDED)
    return reached


def _derived_id(budget: Budget, window: AccountWindow, threshold: str) -> EventId:
    """A UUID (version 8) from what the signal is about."""
    name = "\n".join((budget.scope_kind, budget.scope_id, window.account, str(window.index), threshold))
    value = int.from_bytes(sha256(name.encode()).digest()[:16])
    value = value & ~(0xF << 76) & ~(0b11 << 62) | 0x8 << 76 | 0b10 << 62
    text = f"{value:032x}"
    return EventId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
