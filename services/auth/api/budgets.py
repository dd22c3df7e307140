"""`/budget/*`, and `reset_spend` of every kind of scope."""

from services.auth.answers.base import ResetAnswer
from services.auth.answers.budgets import BudgetObject, RemovedBudget, Setting
from services.auth.api.operations import Ask, Body, Operation, Query
from services.auth.api.reading import needed
from services.auth.domain.fields import budgets as fields
from services.auth.domain.fields.base import RESET
from services.auth.schemas import budgets as schemas
from services.auth.schemas.base import ResetSpend
from services.auth.scopes.budgets import Budgets
from services.auth.scopes.corrections import Corrections
from shared.access import Right


def budget_operations(budgets: Budgets, corrections: Corrections) -> list[Operation]:
    """The rows of `/budget/*` and of `reset_spend`."""

    async def new(ask: Ask) -> BudgetObject:
        return await budgets.new(ask.body, ask.caller, ask.draws)

    async def update(ask: Ask) -> BudgetObject:
        return await budgets.update(ask.body, ask.caller)

    async def info(ask: Ask) -> list[BudgetObject]:
        return await budgets.info(ask.body)

    async def listed(ask: Ask) -> list[BudgetObject]:
        return await budgets.all()

    async def settings(ask: Ask) -> list[Setting]:
        return await budgets.settings(needed(ask.query, "budget_id"))

    async def delete(ask: Ask) -> RemovedBudget:
        return await budgets.delete(ask.body, ask.caller)

    async def reset_key(ask: Ask) -> ResetAnswer:
        return await corrections.key(ask.path["key"], ask.body, ask.caller)

    async def reset_team(ask: Ask) -> ResetAnswer:
        return await corrections.team(ask.path["team_id"], ask.body, ask.caller)

    async def reset_org(ask: Ask) -> ResetAnswer:
        return await corrections.org(ask.path["organization_id"], ask.body, ask.caller)

    resets = [
        Operation(
            method="POST",
            path=path,
            summary=f"Set back what {whose} has spent in its windows",
            right=Right.SPEND_CORRECT,
            everywhere=whose == "an organization",
            body=Body(fields=RESET, kind=ResetSpend, optional=True),
            run=run,
            answer=ResetAnswer,
            once=True,
            example={"reset_to": 0, "reason": "a loop that was ours"},
        )
        for path, whose, run in (
            ("/key/{key:str}/reset_spend", "a key", reset_key),
            ("/team/{team_id:str}/reset_spend", "a team", reset_team),
            ("/organization/{organization_id:str}/reset_spend", "an organization", reset_org),
        )
    ]
    return [
        Operation(
            method="POST",
            path="/budget/new",
            summary="Make a budget object, which keys, teams and organizations can take over",
            right=Right.BUDGET_WRITE,
            everywhere=True,
            body=Body(fields=fields.BUDGET, kind=schemas.NewBudget),
            run=new,
            answer=BudgetObject,
            once=True,
            example={"budget_id": "small", "max_budget": 10, "budget_duration": "1d"},
        ),
        Operation(
            method="POST",
            path="/budget/update",
            summary="Change a budget object, and every scope that has it",
            right=Right.BUDGET_WRITE,
            everywhere=True,
            body=Body(fields=fields.BUDGET, kind=schemas.UpdateBudget),
            run=update,
            answer=BudgetObject,
            once=True,
            example={"budget_id": "small", "max_budget": 20},
        ),
        Operation(
            method="POST",
            path="/budget/info",
            summary="Some budget objects",
            right=Right.BUDGET_READ,
            body=Body(fields=fields.NAME_BUDGETS, kind=schemas.NameBudgets),
            run=info,
            answer=list[BudgetObject],
            example={"budgets": ["small"]},
        ),
        Operation(
            method="GET",
            path="/budget/list",
            summary="The budget objects, oldest first",
            right=Right.BUDGET_READ,
            run=listed,
            answer=list[BudgetObject],
        ),
        Operation(
            method="GET",
            path="/budget/settings",
            summary="The fields of a budget object, one by one",
            right=Right.BUDGET_READ,
            query=Query(known={"budget_id": "which one"}),
            run=settings,
            answer=list[Setting],
        ),
        Operation(
            method="POST",
            path="/budget/delete",
            summary="Remove a budget object that nothing has",
            right=Right.BUDGET_WRITE,
            everywhere=True,
            body=Body(fields=fields.NAME_BUDGET, kind=schemas.NameBudget),
            run=delete,
            answer=RemovedBudget,
            once=True,
            example={"budget_id": "small"},
        ),
        *resets,
    ]
