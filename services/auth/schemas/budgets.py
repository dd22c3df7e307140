"""Requests about budget objects, with LiteLLM's names."""

import msgspec

from services.auth.schemas.base import MoneyFields


class NewBudget(MoneyFields, frozen=True, kw_only=True):
    """`POST /budget/new`."""

    budget_id: str | None = None


class UpdateBudget(MoneyFields, frozen=True, kw_only=True):
    """`POST /budget/update`."""

    budget_id: str


class NameBudgets(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /budget/info`."""

    budgets: list[str]


class NameBudget(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /budget/delete`; `budget_id` is understood too."""

    id: str | None = None
    budget_id: str | None = None
