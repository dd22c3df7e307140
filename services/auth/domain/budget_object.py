"""A budget object: a budget with a name of its own, attached to keys, teams and organizations by its id.

Each scope spends its own: what is shared are the terms. A change is a new version, which every attached scope takes
over with an event of its own.
"""

from datetime import datetime

import msgspec

from services.auth.domain.budget import NOTHING, BudgetPatch, patched
from services.auth.domain.rates import RatePatch, limits_after
from services.auth.domain.scope import Attachment
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import AnyAuthEvent, BudgetDefined, BudgetRemoved, BudgetTerms
from shared.policy import Limits


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a budget object; times are UTC."""

    budget_id: str
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    terms: BudgetTerms = NOTHING
    limits: Limits = Limits()
    removed: bool = False

    @property
    def attachment(self) -> Attachment:
        """What a scope takes over."""
        return Attachment(budget_id=self.budget_id, version=self.version, terms=self.terms, limits=self.limits)


class DefineBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A new budget object, or a change of one. `again`: an earlier attempt of the same request may have made it."""

    budget_id: str
    patch: BudgetPatch = BudgetPatch()
    rates: RatePatch = RatePatch()
    again: bool = False


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """How many living scopes a budget object is attached to, how many of them still follow an older version, and how
    many teams give it to new keys."""

    keys: int = 0
    teams: int = 0
    organizations: int = 0
    default_of_teams: int = 0
    behind: int = 0

    @property
    def any(self) -> bool:
        """Whether anything names the object."""
        return bool(self.keys or self.teams or self.organizations or self.default_of_teams)


def decide_create(state: BudgetState | None, command: DefineBudget, stamp: Stamp) -> list[AnyAuthEvent]:
    """A budget object comes to be (again, after a removal). Raises ApiError 409, 400."""
    if state is not None and not state.removed:
        made = _defined(None, state.version, command, stamp)
        if command.again and (state.created_by, state.terms, state.limits) == (stamp.actor, made.terms, made.limits):
            return []
        raise ApiError(
            409,
            "budget_exists",
            f"A budget with the id {command.budget_id!r} exists already: change it with POST /budget/update.",
            param="budget_id",
        )
    return [_defined(None, 1 if state is None else state.version + 1, command, stamp)]


def decide_change(state: BudgetState | None, command: DefineBudget, stamp: Stamp) -> list[AnyAuthEvent]:
    """Terms or limits change; nothing comes of a request that changes nothing. Raises ApiError 404, 400."""
    budget = existing(state, command.budget_id)
    event = _defined(budget, budget.version + 1, command, stamp)
    return [] if (event.terms, event.limits) == (budget.terms, budget.limits) else [event]


def decide_remove(state: BudgetState | None, budget_id: str, attached: Attached, stamp: Stamp) -> list[AnyAuthEvent]:
    """The object goes. Raises ApiError 404, and 409 while anything names it."""
    budget = existing(state, budget_id)
    if attached.any:
        raise in_use(budget_id, attached)
    return [BudgetRemoved(**stamp.envelope(0), budget_id=budget.budget_id)]


def existing(state: BudgetState | None, budget_id: str, *, param: str = "budget_id") -> BudgetState:
    """The object itself. Raises ApiError 404."""
    if state is None or state.removed:
        raise ApiError(
            404,
            "budget_not_found",
            f"There is no budget {budget_id!r}: make it with POST /budget/new.",
            param=param,
            kind="not_found_error",
        )
    return state


def in_use(budget_id: str, attached: Attached) -> ApiError:
    """The refusal to remove an object that something names."""
    return ApiError(
        409,
        "budget_in_use",
        f"The budget {budget_id!r} is attached to {attached.keys} keys, {attached.teams} teams and"
        f" {attached.organizations} organizations, and {attached.default_of_teams} teams give it to new keys: detach it"
        " there first.",
        param="id",
    )


def evolve(state: BudgetState | None, event: AnyAuthEvent) -> BudgetState:
    """The state after one more event."""
    if isinstance(event, BudgetDefined):
        before = None if state is None or state.removed else state
        return BudgetState(
            budget_id=event.budget_id,
            version=event.version,
            terms=event.terms,
            limits=event.limits,
            created_at=event.at if before is None else before.created_at,
            created_by=event.actor if before is None else before.created_by,
            updated_at=event.at,
            updated_by=event.actor,
        )
    if state is None or not isinstance(event, BudgetRemoved):
        raise ValueError(f"{type(event).__name__} does not come here in the life of a budget")
    return msgspec.structs.replace(state, removed=True, updated_at=event.at, updated_by=event.actor)


def _defined(before: BudgetState | None, version: int, command: DefineBudget, stamp: Stamp) -> BudgetDefined:
    terms = patched(NOTHING if before is None else before.terms, command.patch)
    limits = limits_after(Limits() if before is None else before.limits, command.rates)
    if terms == NOTHING and not limits.any:
        raise ApiError(
            400,
            "invalid_value",
            "max_budget: a budget limits something: give it a max_budget, a soft_budget, budget_limits,"
            " model_max_budget or rate limits.",
            param="max_budget",
        )
    return BudgetDefined(**stamp.envelope(0), budget_id=command.budget_id, version=version, terms=terms, limits=limits)
