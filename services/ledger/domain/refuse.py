"""Why an ask is not met: the money is spent (`exceeded`), or calls in flight hold it (`reserved`)."""

from typing import Literal

import msgspec

from services.ledger.domain.draft import Draft
from shared.allotment import Refusal
from shared.events import AccountWindow
from shared.policy import Budget
from shared.windows import window_of_index

RETRY_AFTER_S_MIN = 1
RETRY_AFTER_S_MAX = 5
"""Proxies return idle money within this time, so that waiting longer is never of use for it."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One account's view of an ask, in nano-dollars.

    `left` is limit less spend less escrow (negative after an overdraft or a lowered limit), `ceiling` the highest
    cumulative grant it allows, `waits` the call that waits first, `bound` what the allotment has returned, spent and
    holds already.
    """

    budget: Budget
    window: AccountWindow
    left: int
    ceiling: int
    waits: int
    bound: int


def refusal(draft: Draft, wants: list[Want]) -> tuple[Literal["exceeded", "reserved"], Refusal]:
    """The verdict and its explanation; `wants` come narrowest scope first.

    What proxies report as spent counts as spent although its events are still on their way, so `exceeded` is never
    said of money that calls in flight may give back, and never later than necessary.
    """
    for want in wants:
        if want.waits > (want.budget.limit_nusd or 0) - draft.spent(want.window) - _unfolded(draft, want):
            return "exceeded", _explain(draft, want, None)
    tightest = min(wants, key=lambda want: want.ceiling)
    return "reserved", _explain(draft, tightest, _retry_after_s(draft, tightest))


def _explain(draft: Draft, want: Want, retry_after_s: int | None) -> Refusal:
    budget = want.budget
    span = window_of_index(budget.window, want.window.index)
    return Refusal(
        account=budget.account,
        scope_kind=budget.scope_kind,
        scope_id=budget.scope_id,
        limit=budget.limit_nusd or 0,
        spent=draft.spent(want.window),
        reserved=draft.escrow(want.window),
        room=max(0, want.ceiling - want.bound),
        window_start_s=int(span.start.timestamp()),
        window_end_s=None if span.end is None else int(span.end.timestamp()),
        duration=budget.window.duration,
        alias=draft.state.directory.alias(budget.scope_kind, budget.scope_id),
        retry_after_s=retry_after_s,
    )


def _unfolded(draft: Draft, want: Want) -> int:
    account = draft.state.accounts.get(want.window.account)
    balance = None if account is None else account.windows.get(want.window.index)
    return 0 if balance is None else balance.unfolded


def _retry_after_s(draft: Draft, want: Want) -> int:
    """How long the missing money takes to come back at the pace of the last seconds."""
    account = draft.state.accounts.get(want.window.account)
    balance = None if account is None else account.windows.get(want.window.index)
    pace = 0 if balance is None or balance.freed is None else balance.freed.per_second(draft.now_ms // 1000)
    if pace <= 0:
        return RETRY_AFTER_S_MIN
    return min(RETRY_AFTER_S_MAX, max(RETRY_AFTER_S_MIN, -(-max(0, want.waits) // pace)))
