"""What a change of budgets did beside what was asked for, in words for the answer's warnings."""

from collections.abc import Collection
from datetime import datetime

from msgspec import UnsetType

from services.auth.domain.accounts import increase_of
from services.auth.domain.budget import DEFAULT_ZONE, identity, named
from services.auth.domain.budget_object import BudgetState
from services.auth.domain.scope import MoneyChange, ScopeState
from shared.events import BudgetTerms, WindowTerms

INCREASE = ("temp_budget_increase", "temp_budget_expiry")
_FRESH = "a changed window is a new account that starts now, with a spend of 0; what was spent before is in total_spend"
_FRESH_OBJECT = "a changed window is a new account in every scope that has this budget, with a spend of 0 from now on"


def notices(before: ScopeState | None, after: ScopeState, change: MoneyChange, at: datetime) -> list[str]:
    """What else a change did to a scope: settings that fell with their limit, windows that begin anew."""
    if before is None:
        return []
    fell = [] if before.budget_id or after.budget_id else _fallen(before.terms, after.terms, named(change.patch))
    untouched = isinstance(change.increase, UnsetType)
    if untouched and increase_of(before.budgets, at) and not increase_of(after.budgets, at):
        fell.extend(INCREASE)
    known = {budget.account for budget in before.budgets}
    begun = {identity(_terms_of(budget.model, budget.window.duration, budget.window.zone)) for budget in after.budgets
             if budget.account not in known}  # fmt: skip
    return _words(fell) + _anew(before.terms, after.terms, begun, _FRESH)


def notices_of_object(before: BudgetState | None, after: BudgetState, asked: Collection[str]) -> list[str]:
    """The same of a budget object; `asked` are the fields that the request names."""
    if before is None:
        return []
    kept = {identity(window) for window in _all(before.terms)}
    begun = {identity(window) for window in _all(after.terms)} - kept
    return _words(_fallen(before.terms, after.terms, asked)) + _anew(before.terms, after.terms, begun, _FRESH_OBJECT)


def _fallen(before: BudgetTerms, after: BudgetTerms, asked: Collection[str]) -> list[str]:
    """The fields that had a value, have none now, and were not spoken of."""
    was, now = before.main or WindowTerms(), after.main or WindowTerms()
    gone = {
        "budget_duration": was.duration and not now.duration,
        "budget_timezone": was.zone != DEFAULT_ZONE and now.zone == DEFAULT_ZONE,
        "budget_thresholds": before.thresholds is not None and after.thresholds is None,
        "budget_mode": before.strict and not after.strict,
    }
    return [field for field, fell in gone.items() if fell and field not in asked]


def _anew(before: BudgetTerms, after: BudgetTerms, begun: Collection[object], text: str) -> list[str]:
    """A sentence for `max_budget`, and for each model, whose window is another one now."""
    said: list[str] = []
    old = {window.model: window for window in (*before.models, *_main(before))}
    for window in (*_main(after), *after.models):
        was = old.get(window.model)
        if was is not None and identity(window) in begun and identity(was) != identity(window):
            longer = identity(was)[1] != identity(window)[1]
            field = "budget_duration" if longer else "budget_timezone"
            place = "" if window.model is None else f"model_max_budget[{window.model!r}]."
            said.append(f"{place}{field}: {text}")
    return said


def _words(fell: list[str]) -> list[str]:
    if not fell:
        return []
    return [f"no longer set, because what they belonged to is gone: {', '.join(fell)}"]


def _main(terms: BudgetTerms) -> tuple[WindowTerms, ...]:
    return () if terms.main is None else (terms.main,)


def _all(terms: BudgetTerms) -> tuple[WindowTerms, ...]:
    return (*_main(terms), *terms.windows, *terms.models)


def _terms_of(model: str | None, duration: str, zone: str) -> WindowTerms:
    return WindowTerms(model=model, duration=duration, zone=zone)
