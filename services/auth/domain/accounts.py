"""The accounts of a scope: what its terms become, and which account goes on.

A changed limit keeps its account and so its spend. An account is known by model, duration and time zone: a change
of one of these is a new account that starts empty.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.auth.domain.budget import identity
from shared.events import BudgetTerms, WindowTerms
from shared.ids import AccountId
from shared.policy import Budget, Increase, ScopeKind
from shared.windows import WindowSpec

THRESHOLDS_DEFAULT = (80,)
"""Percents that warn where a limit has neither thresholds nor a soft limit."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose accounts they are. `fresh` names new ones: itself, and itself with a running number."""

    kind: ScopeKind
    scope_id: str
    fresh: AccountId


def accounts_of(
    terms: BudgetTerms, increase: Increase | None, current: Sequence[Budget], owner: Owner, at: datetime
) -> tuple[Budget, ...]:
    """The accounts that follow from the terms at `at`: those in force go on where they are still asked for."""
    wanted = (() if terms.main is None else (terms.main,)) + terms.windows + terms.models
    standing = {_identity_of(budget): budget for budget in current}
    made = 0
    accounts: list[Budget] = []
    for window in wanted:
        known = standing.pop(identity(window), None)
        if known is not None:
            account, spec = known.account, known.window
        else:
            made += 1
            account = owner.fresh if made == 1 else AccountId(f"{owner.fresh}-{made}")
            spec = WindowSpec(anchor=at, duration=window.duration, zone=window.zone)
        limited = window.limit_nusd is not None
        accounts.append(
            Budget(
                account=account,
                scope_kind=owner.kind,
                scope_id=owner.scope_id,
                window=spec,
                limit_nusd=window.limit_nusd,
                soft_nusd=window.soft_nusd,
                model=window.model,
                thresholds=thresholds_of(terms, window),
                strict=terms.strict and limited,
                increase=increase if limited and window.model is None else None,
            )
        )
    return tuple(accounts)


def thresholds_of(terms: BudgetTerms, window: WindowTerms) -> tuple[int, ...]:
    """The percents that warn on one window."""
    if window.limit_nusd is None:
        return ()
    if terms.thresholds is not None:
        return terms.thresholds
    return THRESHOLDS_DEFAULT if window.soft_nusd is None else ()


def main_of(terms: BudgetTerms, budgets: Sequence[Budget]) -> Budget | None:
    """The account of `max_budget` (or of `soft_budget` alone)."""
    return None if terms.main is None else account_for(terms.main, budgets)


def account_for(window: WindowTerms, budgets: Sequence[Budget]) -> Budget | None:
    """The account of one window."""
    return next((budget for budget in budgets if _identity_of(budget) == identity(window)), None)


def increase_of(budgets: Sequence[Budget], now: datetime) -> Increase | None:
    """The temporary increase that is in force."""
    for budget in budgets:
        if budget.increase is not None and now < budget.increase.until:
            return budget.increase
    return None


def _identity_of(budget: Budget) -> tuple[str | None, tuple[int, str] | None, str]:
    window = budget.window
    return identity(WindowTerms(duration=window.duration, zone=window.zone, model=budget.model))
