"""AUTH: money that was asked for, and the accounts that follow from it."""

import msgspec

from shared.events.envelope import AuthEvent
from shared.policy import Budget, Limits, ScopeKind


class WindowTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit over a window as it was asked for; `model` is the pattern of a per-model budget."""

    limit_nusd: int | None = None
    soft_nusd: int | None = None
    duration: str = ""
    zone: str = "UTC"
    model: str | None = None


class BudgetTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was asked for about a scope's money; its accounts follow from it.

    `main` is `max_budget` with its window, `windows` further ones, `models` one per model pattern. `thresholds` None
    means the usual ones. Only auth reads it: what is in force are the accounts.
    """

    main: WindowTerms | None = None
    windows: tuple[WindowTerms, ...] = ()
    models: tuple[WindowTerms, ...] = ()
    thresholds: tuple[int, ...] | None = None
    strict: bool = False


class BudgetSet(AuthEvent, frozen=True, kw_only=True, tag="budget.set.v1"):
    """All accounts of one scope from now on: those absent from the list are closed.

    `terms` are what they follow from. A scope that a budget object is attached to names it and the version it
    follows; `lent` are the rate limits that come with the object, in force beside those of the scope.
    """

    scope_kind: ScopeKind
    scope_id: str
    budgets: tuple[Budget, ...]
    terms: BudgetTerms = BudgetTerms()
    budget_id: str | None = None
    budget_version: int = 0
    lent: Limits = Limits()


class BudgetDefined(AuthEvent, frozen=True, kw_only=True, tag="budget.defined.v1"):
    """A budget object, new or changed, whole. The scopes it is attached to follow with `budget.set.v1` each."""

    budget_id: str
    version: int
    terms: BudgetTerms = BudgetTerms()
    limits: Limits = Limits()


class BudgetRemoved(AuthEvent, frozen=True, kw_only=True, tag="budget.removed.v1"):
    """A budget object is no more; nothing is attached to it."""

    budget_id: str
