"""How the accounts of an allotment stand, for the callers behind it. Information only: nothing is decided by it."""

from datetime import datetime

import msgspec

from services.ledger.domain.state import LedgerState
from shared.allotment import FIGURES_MAX, Answer, Ask, Figure, NotActive
from shared.events import AccountWindow


def with_figures(state: LedgerState, ask: Ask, said: Answer | NotActive, now: datetime) -> Answer | NotActive:
    """An answer with the figures of the account-windows of its term; as it was where there are none to tell.

    All or none: of a part of the accounts nobody could say what is left.
    """
    if isinstance(said, NotActive) or said.verdict == "closed" or not 0 < len(said.term) <= FIGURES_MAX:
        return said
    figures = tuple(figure for window in said.term if (figure := _figure(state, window, now)) is not None)
    if not figures:
        return said
    return msgspec.structs.replace(said, figures=figures, counted=_counted(state, ask))


def _figure(state: LedgerState, window: AccountWindow, now: datetime) -> Figure | None:
    """One account-window; None when it has no limit any more. What proxies report as spent is told as spent, as in
    refusals."""
    budget = state.directory.budgets.get(window.account)
    limit = None if budget is None else budget.limit_at(now)
    if budget is None or limit is None:
        return None
    balance = state.seen(window)
    spent = 0 if balance is None else balance.used + balance.unfolded
    return Figure(window.account, limit, spent, own=budget.scope_kind == "key" and budget.model is None)


def _counted(state: LedgerState, ask: Ask) -> int:
    """What the figures hold of the asker's own allotment: what its events have settled, or what it says it spent."""
    instance = state.instances.get(ask.instance)
    allotment = None if instance is None else instance.allotments.get(ask.serial)
    return 0 if allotment is None else allotment.settled + allotment.unfolded
