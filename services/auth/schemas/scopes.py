"""Requests about teams and organizations, with LiteLLM's names."""

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain import values
from services.auth.schemas.base import ScopeFields
from services.auth.schemas.people import MemberRequest

SCOPES_PER_REQUEST_MAX = 100


class NewTeam(ScopeFields, frozen=True, kw_only=True):
    """`POST /team/new`."""

    team_id: str | None = None
    team_alias: str | None = None
    organization_id: str | None = None
    members_with_roles: list[MemberRequest] | None = None
    default_key_budget_id: str | None = None
    model_aliases: dict[str, str] | UnsetType | None = UNSET
    blocked: bool | None = None


class UpdateTeam(ScopeFields, frozen=True, kw_only=True):
    """`POST /team/update`."""

    team_id: str
    team_alias: str | UnsetType | None = UNSET
    organization_id: str | None = None
    default_key_budget_id: str | UnsetType | None = UNSET
    model_aliases: dict[str, str] | UnsetType | None = UNSET
    blocked: bool | None = None


class NameTeam(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /team/block` and `/team/unblock`."""

    team_id: str


class DeleteTeams(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /team/delete`."""

    team_ids: list[str]


class NewOrganization(ScopeFields, frozen=True, kw_only=True):
    """`POST /organization/new`."""

    organization_id: str | None = None
    organization_alias: str | None = None
    model_aliases: dict[str, str] | UnsetType | None = UNSET
    blocked: bool | None = None


class UpdateOrganization(ScopeFields, frozen=True, kw_only=True):
    """`POST` or `PATCH /organization/update`."""

    organization_id: str
    organization_alias: str | UnsetType | None = UNSET
    model_aliases: dict[str, str] | UnsetType | None = UNSET
    blocked: bool | None = None


class NameOrganization(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /organization/block` and `/organization/unblock`."""

    organization_id: str


class DeleteOrganizations(msgspec.Struct, frozen=True, kw_only=True):
    """`POST` or `DELETE /organization/delete`."""

    organization_ids: list[str]


def ids_of(param: str, ids: list[str]) -> list[str]:
    """The ids that a request names, each once. Raises ApiError 400."""
    if not 1 <= len(ids) <= SCOPES_PER_REQUEST_MAX:
        raise values.problem(param, f"name 1 to {SCOPES_PER_REQUEST_MAX} ids")
    return [values.scope_id(param, text) for text in dict.fromkeys(ids)]
