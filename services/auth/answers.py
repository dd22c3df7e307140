"""Answers, with LiteLLM's names. `token_id` and `token` are the key's id, which stays the same for its life."""

from datetime import datetime
from typing import TypeVar

import msgspec

from services.auth.domain.budget import is_calendar
from services.auth.domain.fields import PENDING
from services.auth.domain.key import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.team import TeamState
from shared.money import usd_from_nusd
from shared.policy import Budget
from shared.windows import window_at


class BudgetRow(msgspec.Struct, kw_only=True):
    """What every scope says of its budget; money in dollars."""

    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    budget_timezone: str | None = None
    budget_reset_at: datetime | None = None


class KeyRow(BudgetRow, kw_only=True):
    """A key. `pending` names the fields that are stored and not enforced."""

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
    tpm_limit: int | None
    rpm_limit: int | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    user_id: None = None
    pending: list[str] = []


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


class TeamRow(BudgetRow, kw_only=True):
    """A team."""

    team_id: str
    team_alias: str | None
    organization_id: str
    models: tuple[str, ...]
    metadata: dict[str, object]
    tpm_limit: int | None
    rpm_limit: int | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    blocked: bool = False
    pending: list[str] = []


class TeamAnswer(TeamRow, kw_only=True):
    """A new team."""

    spend: float = 0.0
    warnings: list[str] = []


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


class OrgRow(BudgetRow, kw_only=True):
    """An organization; `litellm_budget_table` repeats its budget where LiteLLM's clients look for it."""

    organization_id: str
    organization_alias: str | None
    models: tuple[str, ...]
    metadata: dict[str, object]
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    litellm_budget_table: BudgetRow | None = None


class OrgAnswer(OrgRow, kw_only=True):
    """A new organization."""

    spend: float = 0.0
    warnings: list[str] = []


class OrgInfo(OrgRow, kw_only=True):
    """An organization with its spend in dollars (null when it is not known) and its teams."""

    spend: float | None = None
    total_spend: float | None = None
    teams: list[TeamRow] = []
    warnings: list[str] = []


R = TypeVar("R", bound=msgspec.Struct)


def extended(row: msgspec.Struct, kind: type[R], **more: object) -> R:
    """A row with further fields, as the kind that has them."""
    return kind(**msgspec.structs.asdict(row), **more)


def key_row(state: KeyState, now: datetime) -> KeyRow:
    """A key as it is at an instant."""
    row = KeyRow(
        token_id=state.key_id,
        token=state.key_id,
        key_name=state.secrets[-1].hint if state.secrets else None,
        key_alias=state.alias,
        status=status_of(state, now),
        blocked=state.blocked,
        expires=state.expires_at,
        models=state.models,
        team_id=state.team_id,
        organization_id=state.org_id,
        metadata=state.metadata,
        tpm_limit=state.tpm_limit,
        rpm_limit=state.rpm_limit,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        pending=pending_of(state),
    )
    return _with_budget(row, state.budget, now)


def team_row(state: TeamState, now: datetime) -> TeamRow:
    """A team as it is at an instant."""
    row = TeamRow(
        team_id=state.team_id,
        team_alias=state.alias,
        organization_id=state.org_id,
        models=state.models,
        metadata=state.metadata,
        tpm_limit=state.tpm_limit,
        rpm_limit=state.rpm_limit,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        pending=pending_of(state),
    )
    return _with_budget(row, state.budget, now)


def org_row(state: OrgState, now: datetime) -> OrgRow:
    """An organization as it is at an instant."""
    budget = None if state.budget is None else _with_budget(BudgetRow(), state.budget, now)
    row = OrgRow(
        organization_id=state.org_id,
        organization_alias=state.alias,
        models=state.models,
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        litellm_budget_table=budget,
    )
    return _with_budget(row, state.budget, now)


def status_of(state: KeyState, now: datetime) -> str:
    """`active`, `expired`, `revoked` (blocked) or `deleted`."""
    if state.deleted_at is not None:
        return "deleted"
    if state.blocked:
        return "revoked"
    return "expired" if state.expires_at is not None and state.expires_at <= now else "active"


def pending_of(state: KeyState | TeamState) -> list[str]:
    """The fields that are stored and not enforced."""
    stored = {"tpm_limit": state.tpm_limit, "rpm_limit": state.rpm_limit}
    return [name for name in PENDING if stored[name] is not None]


B = TypeVar("B", bound=BudgetRow)


def _with_budget(row: B, budget: Budget | None, now: datetime) -> B:
    if budget is None:
        return row
    window = budget.window
    return msgspec.structs.replace(
        row,
        max_budget=None if budget.limit_nusd is None else usd_from_nusd(budget.limit_nusd),
        soft_budget=None if budget.soft_nusd is None else usd_from_nusd(budget.soft_nusd),
        budget_duration=window.duration or None,
        budget_timezone=window.zone if is_calendar(window.duration) else None,
        budget_reset_at=window_at(window, now).end,
    )
