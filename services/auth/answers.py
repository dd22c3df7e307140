"""Answers, with LiteLLM's names. `token_id` and `token` are the key's id, which stays the same for its life."""

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
    budget_limits: list[WindowRow] = []
    model_max_budget: dict[str, ModelBudgetRow] = {}
    budget_thresholds: list[int] = []
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


class KeyRow(ScopeRow, kw_only=True):
    """A key."""

    token_id: str
    token: str
    key_name: str | None
    key_alias: str | None
    status: str
    blocked: bool
    expires: datetime | None
    models: tuple[str, ...]
    team_id: str | None
    organization_id: str
    metadata: dict[str, object]
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    user_id: None = None


class KeyInfo(KeyRow, kw_only=True):
    """A key with its spend in dollars: of the current window, and in all; null when it is not known."""

    spend: float | None = None
    total_spend: float | None = None


class KeyAnswer(KeyRow, kw_only=True):
    """A key after a change. `recorded` false: in force, and not in the event table yet."""

    key: str | None = None
    recorded: bool = True
    warnings: list[str] = []


class MintedKey(KeyAnswer, kw_only=True):
    """A new key; `key` is its secret, which is never shown again."""

    spend: float = 0.0


class RevokedKey(msgspec.Struct, kw_only=True):
    """What can be said of a key that was blocked while the database was away."""

    token_id: str
    token: str
    key_alias: str | None
    team_id: str | None
    organization_id: str | None
    blocked: bool = True
    status: str = "revoked"
    recorded: bool = False
    warnings: list[str] = []


class KeyInfoAnswer(msgspec.Struct, kw_only=True):
    """`GET /key/info`: `key` as it was sent."""

    key: str
    info: KeyInfo
    warnings: list[str] = []


class KeyList(msgspec.Struct, kw_only=True):
    """`GET /key/list`: key ids, or whole rows when `return_full_object` is true."""

    keys: list[str] | list[KeyRow]
    total_count: int
    current_page: int
    total_pages: int


class DeletedKeys(msgspec.Struct, kw_only=True):
    """`POST /key/delete`: the ids of the keys that are dead now."""

    deleted_keys: list[str]
    recorded: bool = True
    warnings: list[str] = []


class TeamRow(ScopeRow, kw_only=True):
    """A team. New keys that name no budget get `default_key_budget_id`."""

    team_id: str
    team_alias: str | None
    organization_id: str
    models: tuple[str, ...]
    metadata: dict[str, object]
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    default_key_budget_id: str | None = None
    blocked: bool = False


class TeamAnswer(TeamRow, kw_only=True):
    """A team after a change."""

    warnings: list[str] = []


class NewTeam(TeamAnswer, kw_only=True):
    """A new team."""

    spend: float = 0.0


class TeamInfo(TeamRow, kw_only=True):
    """A team with its spend in dollars; null when it is not known."""

    spend: float | None = None
    total_spend: float | None = None


class TeamInfoAnswer(msgspec.Struct, kw_only=True):
    """`GET /team/info`; `keys` are the newest ones (see `GET /key/list` for all), without their spend."""

    team_id: str
    team_info: TeamInfo
    keys: list[KeyRow]
    team_memberships: list[str] = []
    warnings: list[str] = []


class OrgRow(ScopeRow, kw_only=True):
    """An organization; its `litellm_budget_table` is there for a budget of its own, too."""

    organization_id: str
    organization_alias: str | None
    models: tuple[str, ...]
    metadata: dict[str, object]
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


class OrgAnswer(OrgRow, kw_only=True):
    """An organization after a change."""

    warnings: list[str] = []


class NewOrg(OrgAnswer, kw_only=True):
    """A new organization."""

    spend: float = 0.0


class OrgInfo(OrgRow, kw_only=True):
    """An organization with its spend in dollars (null when it is not known) and its teams."""

    spend: float | None = None
    total_spend: float | None = None
    teams: list[TeamRow] = []
    warnings: list[str] = []


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
    warnings: list[str] = []


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
    warnings: list[str] = []
