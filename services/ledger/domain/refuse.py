"""Why an ask is not met: the money is spent (`exceeded`), or calls in flight hold it (`reserved`)."""

import math
from datetime import datetime

import msgspec

from services.ledger.domain.draft import Draft
from services.ledger.domain.state import Balance, LedgerState
from shared.allotment import Refusal
from shared.events import AccountWindow
from shared.policy import Budget
from shared.windows import window_of_index

RETRY_AFTER_S_MIN = 1
RETRY_AFTER_S_MAX = 30


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One account's view of an ask, in nano-dollars.

    `limit` is the one in force; `left` is limit less spend less escrow (negative after an overdraft or a lowered
    limit), `ceiling` the highest cumulative grant it allows, `waits` the call that waits first, `bound` what the
    allotment has returned, spent and holds already.
    """

    budget: Budget
    window: AccountWindow
    limit: int
    left: int
    ceiling: int
    waits: int
    bound: int


def exceeded(draft: Draft, wants: list[Want]) -> Want | None:
    """The narrowest account on which the money is spent; `wants` come narrowest scope first.

    Even if all that is out came back, the call would not fit. What proxies report as spent counts as spent although
    its events are still on their way, so this is never said of money that calls in flight may give back, and never
    later than necessary.
    """
    for want in wants:
        balance = draft.state.seen(want.window)
        unfolded = 0 if balance is None else balance.unfolded
        if want.waits > want.limit - draft.spent(want.window) - unfolded:
            return want
    return None


def refusal(draft: Draft, want: Want, *, retry: bool) -> Refusal:
    """The explanation of a refusal by one account, with when to come back if the money is only held."""
    return explain(
        draft.state,
        want.budget,
        want.window,
        draft.now,
        escrow=draft.escrow(want.window),
        room=max(0, want.ceiling - want.bound),
        retry_after_s=_retry_after_s(draft, want) if retry else None,
    )


def explain(
    state: LedgerState,
    budget: Budget,
    window: AccountWindow,
    now: datetime,
    *,
    escrow: int,
    room: int,
    retry_after_s: int | None = None,
) -> Refusal:
    """How an account-window stands, in the words of a refusal.

    What proxies report as spent is told as spent, as it is counted, although it is escrow until its events come. The
    end is rounded up to whole seconds: who comes back then is in the next window.
    """
    span = window_of_index(budget.window, window.index)
    balance = state.seen(window) or Balance()
    return Refusal(
        account=budget.account,
        scope_kind=budget.scope_kind,
        scope_id=budget.scope_id,
        limit=budget.limit_at(now) or 0,
        spent=balance.used + balance.unfolded,
        reserved=max(0, escrow - balance.unfolded),
        room=room,
        window_start_s=int(span.start.timestamp()),
        window_end_s=None if span.end is None else math.ceil(span.end.timestamp()),
        duration=budget.window.duration,
        alias=state.directory.alias(budget.scope_kind, budget.scope_id),
        retry_after_s=retry_after_s,
        model=budget.model,
    )


def _retry_after_s(draft: Draft, want: Want) -> int:
    """How long the missing money takes to come back at the pace of the last seconds."""
    balance = draft.state.seen(want.window)
    if balance is None or balance.freed is None:
        return RETRY_AFTER_S_MIN  # nothing has been watched here yet
    pace = balance.freed.per_second(draft.now_ms // 1000)
    if pace <= 0:
        return RETRY_AFTER_S_MAX
    return min(RETRY_AFTER_S_MAX, max(RETRY_AFTER_S_MIN, -(-max(0, want.waits) // pace)))
