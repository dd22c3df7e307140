"""A budget object as an answer."""

import msgspec

from services.auth.answers.budgets import AttachedRow, BudgetObject
from services.auth.domain.budget_object import Attached, BudgetState
from services.auth.rows.base import Unattached, with_terms


def object_row(state: BudgetState, attached: Attached, warnings: list[str] | None = None) -> BudgetObject:
    """A budget object."""
    row = BudgetObject(
        budget_id=state.budget_id,
        version=state.version,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        attached=msgspec.convert(msgspec.to_builtins(attached), AttachedRow),
        warnings=warnings or [],
    )
    return with_terms(row, state.terms, state.limits, Unattached())
