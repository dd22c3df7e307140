"""What answers have in common; money in dollars."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType


class WindowRow(msgspec.Struct, kw_only=True):
    """An entry of `budget_limits`; `spend` is that of the current window, null when not known, absent in lists."""

    budget_duration: str | None
    max_budget: float | None
    soft_budget: float | None = None
    budget_timezone: str | None = None
    reset_at: datetime | UnsetType | None = UNSET
    spend: float | UnsetType | None = UNSET


class ModelBudgetRow(msgspec.Struct, kw_only=True):
    """A value of `model_max_budget`."""

    budget_limit: float | None
    time_period: str | None
    soft_budget: float | None = None
    budget_timezone: str | None = None
    reset_at: datetime | UnsetType | None = UNSET
    spend: float | UnsetType | None = UNSET


class TermsRow(msgspec.Struct, kw_only=True):
    """What a budget says, of a scope or of a budget object; money in dollars."""

    budget_id: str | None = None
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    budget_timezone: str | None = None
    budget_limits: list[WindowRow] = msgspec.field(default_factory=list[WindowRow])
    model_max_budget: dict[str, ModelBudgetRow] = {}
    budget_thresholds: list[int] = msgspec.field(default_factory=list[int])
    budget_mode: str | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    max_parallel_requests: int | None = None


class BudgetTable(TermsRow, kw_only=True):
    """`litellm_budget_table`: where LiteLLM's clients look for the attached budget."""

    budget_reset_at: datetime | None = None


class ScopeRow(TermsRow, kw_only=True):
    """What every scope says of its money and its limits. The rate limits are its own; those of an attached budget
    object are in `litellm_budget_table`, and of two the lower one is in force."""

    budget_reset_at: datetime | None = None
    temp_budget_increase: float | None = None
    temp_budget_expiry: datetime | None = None
    model_rpm_limit: dict[str, int] = {}
    model_tpm_limit: dict[str, int] = {}
    litellm_budget_table: BudgetTable | None = None


class CorrectionRow(msgspec.Struct, kw_only=True):
    """What became of one account's current window, in dollars."""

    account: str
    model: str | None
    budget_duration: str | None
    budget_timezone: str | None
    max_budget: float | None
    window_start: datetime
    reset_at: datetime | None
    before: float
    after: float


class ResetAnswer(msgspec.Struct, kw_only=True):
    """A scope whose spend was reset. `spend`, `previous_spend`: of `max_budget`, or the first account."""

    scope: str
    scope_id: str
    spend: float | None
    previous_spend: float | None
    max_budget: float | None
    budget_reset_at: datetime | None
    corrections: list[CorrectionRow]
    key_hash: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    warnings: list[str] = msgspec.field(default_factory=list[str])
