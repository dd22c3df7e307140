"""Passed and restored limits: what to write into the log once, and what to tell people about it."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal, TypedDict

from services.ledger.domain.directory import Directory
from services.ledger.domain.draft import current_window
from services.ledger.domain.state import EXCEEDED, RESTORED, Balance, Crossing, LedgerState, crossing_name
from shared.events import (
    AccountWindow,
    BudgetExceeded,
    BudgetRestored,
    BudgetThresholdReached,
    SignalPublished,
    ThresholdCrossed,
)
from shared.ids import AccountId, EventId
from shared.policy import Budget, ScopeKind
from shared.windows import Window, window_at, window_of_index

SOFT = "soft"
LATE_MAX = timedelta(hours=1)
"""Spend that arrives longer than this after the end of its window crosses nothing any more."""
NEWS_MAX = timedelta(days=1)
"""A new window of an exceeded budget is news for this long."""


class _Fields(TypedDict):
    scope_kind: ScopeKind
    scope_id: str
    account: AccountId
    window_index: int
    window_start: datetime
    window_end: datetime | None
    limit_nusd: int | None
    spent_nusd: int
    alias: str | None
    model: str | None
    duration: str


def crossings(state: LedgerState, now: datetime, most: int) -> list[ThresholdCrossed]:
    """Limits that folded spend has passed, or that have room again, and the log does not name yet, at most `most`.

    Forgets account-windows with nothing to say; the others stay until their record is folded.
    """
    found: list[ThresholdCrossed] = []
    for name in sorted(state.dirty):
        account, index = name
        records = _passed(state, AccountWindow(AccountId(account), index), now)
        if not records:
            state.dirty.discard(name)
            state.unposted.add(account)
        found += records
        if len(found) >= most:
            break
    return found[:most]


def told(window: AccountWindow, threshold: str, round_: int = 0) -> SignalPublished:
    """The record that the signal of a crossing has been published."""
    return SignalPublished(window=window, threshold=threshold, round=round_)


def signal_of(
    directory: Directory, window: AccountWindow, threshold: str, crossing: Crossing, source: str
) -> BudgetThresholdReached | BudgetExceeded | BudgetRestored | None:
    """The signal of a crossing; None for an account that auth never named. `threshold` carries no round.

    Its id follows from scope, account, window, threshold and round, so whoever publishes it again publishes the
    same signal. A budget restored by a new window is shown with that window.
    """
    budget = directory.budgets.get(window.account)
    if budget is None:
        return None
    at = datetime.fromtimestamp(crossing.at_ms / 1000, UTC)
    span = window_of_index(budget.window, window.index)
    cause: Literal["new_window", "more_room"] = "more_room"
    if threshold == RESTORED and span.end is not None and at >= span.end:
        cause = "new_window"
    shown = window_at(budget.window, at) if cause == "new_window" else span
    fields = _fields(directory, budget, shown, crossing)
    event_id = _derived_id(budget, window, threshold, crossing.round)
    if threshold == EXCEEDED:
        return BudgetExceeded(id=event_id, at=at, source=source, **fields)
    if threshold == RESTORED:
        return BudgetRestored(id=event_id, at=at, source=source, cause=cause, **fields)
    amount = budget.soft_nusd or 0 if threshold == SOFT else _percent_of(threshold, crossing.limit_nusd or 0)
    return BudgetThresholdReached(
        id=event_id, at=at, source=source, threshold=threshold, threshold_nusd=amount, **fields
    )


def _fields(directory: Directory, budget: Budget, span: Window, crossing: Crossing) -> _Fields:
    return {
        "scope_kind": budget.scope_kind,
        "scope_id": budget.scope_id,
        "account": budget.account,
        "window_index": span.index,
        "window_start": span.start,
        "window_end": span.end,
        "limit_nusd": crossing.limit_nusd,
        "spent_nusd": crossing.spent_nusd,
        "alias": directory.alias(budget.scope_kind, budget.scope_id),
        "model": budget.model,
        "duration": budget.window.duration,
    }


def has_room_again(balance: Balance, limit: int | None) -> bool:
    """Whether an exceeded account-window was given room: its limit is higher, or less counts as spent than then."""
    crossing = balance.exceeded
    if crossing is None:
        return False
    if limit is None:
        return True
    counted = crossing.spent_nusd - crossing.unfolded_nusd
    more = limit > (crossing.limit_nusd or 0) or balance.used < counted
    return more and limit > balance.used


def _passed(state: LedgerState, window: AccountWindow, now: datetime) -> list[ThresholdCrossed]:
    budget = state.directory.budgets.get(window.account)
    balance = state.seen(window)
    if budget is None or balance is None:
        return []
    if not state.directory.in_force(budget):
        return _taken_off(state, budget, window, balance, now)
    limit = budget.limit_at(now)
    current = current_window(state, budget, now)
    over = window.index < current.index
    if over and balance.exceeded is not None:
        return _rolled_over(state, budget, window, current, now)
    end = window_of_index(budget.window, window.index).end
    if end is not None and end + LATE_MAX < now:
        return []
    if has_room_again(balance, limit):
        return [_crossed(window, RESTORED, balance.used, limit, balance.round)]
    found = [
        _crossed(window, threshold, balance.spent, limit, 0)
        for threshold in warnings(budget, balance, limit)
        if threshold not in balance.crossed
    ]
    full = limit is not None and balance.used >= limit and balance.used > 0
    if full and not over:
        earlier = balance.exceeded
        if earlier is None:
            found.append(_crossed(window, EXCEEDED, balance.used, limit, balance.round))
        elif earlier.early:  # a large call was refused; that small ones are refused now is news
            found.append(_crossed(window, EXCEEDED, balance.used, limit, balance.round + 1))
    return found


def _taken_off(
    state: LedgerState, budget: Budget, window: AccountWindow, balance: Balance, now: datetime
) -> list[ThresholdCrossed]:
    """An exceeded budget that its scope has no more stops nobody; unless it is the key itself that is gone."""
    end = window_of_index(budget.window, window.index).end
    ended = end is not None and end <= now
    if balance.exceeded is None or ended or state.directory.deleted(budget):
        return []
    return [_crossed(window, RESTORED, balance.used, None, balance.round)]


def _rolled_over(
    state: LedgerState, budget: Budget, window: AccountWindow, current: Window, now: datetime
) -> list[ThresholdCrossed]:
    """An exceeded budget whose window has ended has its whole limit again."""
    end = window_of_index(budget.window, window.index).end
    if end is None or end > now or end + NEWS_MAX < now:
        return []
    fresh = state.seen(AccountWindow(window.account, current.index))
    balance = state.balance(window)
    spent = 0 if fresh is None else fresh.used
    return [_crossed(window, RESTORED, spent, budget.limit_at(now), balance.round)]


def _crossed(window: AccountWindow, threshold: str, spent: int, limit: int | None, round_: int) -> ThresholdCrossed:
    return ThresholdCrossed(window=window, threshold=threshold, spent_nusd=spent, limit_nusd=limit, round=round_)


def warnings(budget: Budget, balance: Balance, limit: int | None) -> list[str]:
    """Soft limits and percents that are spent for real: presumed spend may turn out to be none."""
    if balance.spent <= 0:
        return []
    reached: list[str] = []
    if budget.soft_nusd is not None and balance.spent >= budget.soft_nusd:
        reached.append(SOFT)
    if limit is not None:
        reached += [f"{percent}%" for percent in budget.thresholds if balance.spent * 100 >= limit * percent]
    return reached


def threshold_of(name: str) -> tuple[str, int]:
    """The threshold and the round of a crossing's name."""
    threshold, _, round_ = name.partition("~")
    return threshold, int(round_ or 0)


def _percent_of(threshold: str, limit: int) -> int:
    return -(-limit * int(threshold.removesuffix("%")) // 100)


def _derived_id(budget: Budget, window: AccountWindow, threshold: str, round_: int) -> EventId:
    """A UUID (version 8) from what the signal is about."""
    what = crossing_name(threshold, round_)
    name = "\n".join((budget.scope_kind, budget.scope_id, window.account, str(window.index), what))
    value = int.from_bytes(sha256(name.encode()).digest()[:16])
    value = value & ~(0xF << 76) & ~(0b11 << 62) | 0x8 << 76 | 0b10 << 62
    text = f"{value:032x}"
    return EventId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
