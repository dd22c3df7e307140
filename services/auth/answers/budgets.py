"""Answers about budget objects, with LiteLLM's names."""

from datetime import datetime

import msgspec

from services.auth.answers.base import TermsRow


class AttachedRow(msgspec.Struct, kw_only=True):
    """How many scopes have a budget object; `behind` of them have not taken over its last change yet."""

    keys: int
    teams: int
    organizations: int
    default_of_teams: int
    behind: int


class BudgetObject(TermsRow, kw_only=True):
    """A budget object. `version` counts its changes; `attached` are the scopes that have it."""

    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    budget_reset_at: None = None
    attached: AttachedRow
    warnings: list[str] = msgspec.field(default_factory=list[str])


class RemovedBudget(msgspec.Struct, kw_only=True):
    """`POST /budget/delete`."""

    budget_id: str
    deleted: bool = True


class Setting(msgspec.Struct, kw_only=True):
    """`GET /budget/settings`: one field of a budget object and its value."""

    field_name: str
    field_type: str
    field_description: str
    field_value: object
    stored_in_db: bool = True
    field_default_value: None = None
