"""The work behind `/budget/*`: budget objects, and the scopes that follow them."""

from collections.abc import Sequence

import msgspec

from services.auth.answers.budgets import BudgetObject, RemovedBudget, Setting
from services.auth.asked import patch_of, rates_of
from services.auth.domain import budget_object as domain
from services.auth.domain import values
from services.auth.domain.budget import named
from services.auth.domain.budget_object import Attached, BudgetState, DefineBudget
from services.auth.domain.notices import notices_of_object
from services.auth.domain.stamp import Stamp
from services.auth.draws import Draws
from services.auth.parts import Parts
from services.auth.rows.budgets import object_row
from services.auth.schemas import budgets as budgets_schemas
from services.auth.scopes.following import Following
from services.auth.store import BudgetInUse
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent

LIST_MAX = 1_000
INFO_MAX = 100

_SETTINGS = {
    "max_parallel_requests": ("Integer", "Calls in flight at once."),
    "tpm_limit": ("Integer", "Tokens per minute."),
    "rpm_limit": ("Integer", "Requests per minute."),
    "budget_duration": ("String", "The window of max_budget, such as '30d' or '1mo'."),
    "budget_timezone": ("String", "The time zone of windows of days, weeks, months and years."),
    "max_budget": ("Float", "Limit in dollars per window."),
    "soft_budget": ("Float", "Dollars at which a signal is sent."),
    "budget_limits": ("List", "Further limits, each with a window of its own."),
    "model_max_budget": ("Object", "Limits per model pattern."),
    "budget_thresholds": ("List", "Percents of a limit at which a signal is sent."),
    "budget_mode": ("String", "'default', or 'strict': never passed, by proven upper bounds."),
}
"""Field → (LiteLLM's type word, what it means), for `GET /budget/settings`."""


class Budgets:
    """Budget objects."""

    def __init__(self, parts: Parts, following: Following) -> None:
        self._parts = parts
        self._following = following

    async def new(self, request: budgets_schemas.NewBudget, caller: Principal, draws: Draws) -> BudgetObject:
        """A new budget object. Raises ApiError 400, 409."""
        drawn = draws.short_id("budget")
        budget_id = drawn if request.budget_id is None else request.budget_id
        command = msgspec.structs.replace(_command(budget_id, request), again=draws.again)

        def decide(state: BudgetState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_create(state, command, stamp)

        change = await self._parts.commits.budget(command.budget_id, decide, actor=caller.actor)
        self._parts.relay.tell(change.position)
        return object_row(change.state, Attached())

    async def update(self, request: budgets_schemas.UpdateBudget, caller: Principal) -> BudgetObject:
        """Change a budget object and the scopes it is attached to. Raises ApiError 400, 404.

        What is not done within a bounded time goes on in the background; the answer says how many scopes wait.
        """
        parts = self._parts
        command = _command(request.budget_id, request)

        def decide(state: BudgetState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_change(state, command, stamp)

        change = await parts.commits.budget(command.budget_id, decide, actor=caller.actor)
        position = await self._following.catch_up(command.budget_id) or change.position
        warnings = notices_of_object(change.before, change.state, named(command.patch))
        warnings += await parts.in_force(position)
        attached = await self._attached(command.budget_id)
        if attached.behind:
            warnings.append(f"{attached.behind} scopes still follow an older version; they are brought up to it")
        return object_row(change.state, attached, warnings)

    async def info(self, request: budgets_schemas.NameBudgets) -> list[BudgetObject]:
        """Some budget objects; unknown ids are left out, as LiteLLM does. Raises ApiError 400."""
        if not 1 <= len(request.budgets) <= INFO_MAX:
            raise values.problem("budgets", f"name 1 to {INFO_MAX} budget ids")
        names = [values.scope_id("budgets", name) for name in request.budgets]
        return await self._rows(await self._parts.views.budgets(names, limit=INFO_MAX))

    async def all(self) -> list[BudgetObject]:
        """All budget objects, oldest first."""
        return await self._rows(await self._parts.views.budgets(None, limit=LIST_MAX))

    async def settings(self, budget_id: str) -> list[Setting]:
        """The fields of a budget object one by one. Raises ApiError 404."""
        state = domain.existing(await self._parts.views.budget(budget_id), budget_id)
        row = object_row(state, Attached())
        return [
            Setting(field_name=name, field_type=kind, field_description=text, field_value=getattr(row, name))
            for name, (kind, text) in _SETTINGS.items()
        ]

    async def delete(self, request: budgets_schemas.NameBudget, caller: Principal) -> RemovedBudget:
        """Remove a budget object. Raises ApiError 400, 404, 409."""
        budget_id = request.id or request.budget_id
        if budget_id is None:
            raise ApiError(400, "invalid_value", 'Say which budget: {"id": "<budget id>"}.', param="id")
        attached = await self._attached(values.scope_id("id", budget_id))

        def decide(state: BudgetState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_remove(state, budget_id, attached, stamp)

        try:
            change = await self._parts.commits.budget(budget_id, decide, actor=caller.actor)
        except BudgetInUse as error:  # attached after we looked
            raise domain.in_use(budget_id, await self._attached(budget_id)) from error
        self._parts.relay.tell(change.position)
        return RemovedBudget(budget_id=budget_id)

    async def _rows(self, found: Sequence[BudgetState]) -> list[BudgetObject]:
        attached = await self._parts.views.attached([state.budget_id for state in found])
        return [object_row(state, attached.get(state.budget_id, Attached())) for state in found]

    async def _attached(self, budget_id: str) -> Attached:
        return (await self._parts.views.attached([budget_id])).get(budget_id, Attached())


def _command(budget_id: str, request: budgets_schemas.NewBudget | budgets_schemas.UpdateBudget) -> DefineBudget:
    return DefineBudget(
        budget_id=values.scope_id("budget_id", budget_id), patch=patch_of(request), rates=rates_of(request)
    )
