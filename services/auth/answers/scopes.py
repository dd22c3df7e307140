"""Answers about teams and organizations, with LiteLLM's names."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.answers.base import ScopeRow
from services.auth.answers.keys import KeyRow
from services.auth.answers.revocations import FleetAnswer


class MemberRow(msgspec.Struct, kw_only=True):
    """Somebody in a team; the address is not there in lists of teams."""

    user_id: str
    role: str
    user_email: str | UnsetType | None = UNSET


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
    model_aliases: dict[str, str]
    tags: tuple[str, ...]
    members_with_roles: list[MemberRow]
    default_key_budget_id: str | None = None
    blocked: bool = False


class TeamAnswer(TeamRow, kw_only=True):
    """A team after a change. `fleet`: after a revocation."""

    fleet: FleetAnswer | UnsetType = UNSET

    warnings: list[str] = msgspec.field(default_factory=list[str])


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
    team_memberships: list[MemberRow]
    warnings: list[str] = msgspec.field(default_factory=list[str])


class TeamPage(msgspec.Struct, kw_only=True):
    """`GET /v2/team/list`."""

    teams: list[TeamRow]
    total: int
    page: int
    page_size: int
    total_pages: int


class DeletedTeams(msgspec.Struct, kw_only=True):
    """`POST /team/delete`: the ids of the teams that are gone, and with them all of their keys."""

    deleted_teams: list[str]
    recorded: bool
    fleet: FleetAnswer
    warnings: list[str] = msgspec.field(default_factory=list[str])


class RefusedTeam(msgspec.Struct, kw_only=True):
    """What can be said of a team that was blocked while the database was away."""

    team_id: str
    team_alias: str | None
    organization_id: str
    fleet: FleetAnswer
    blocked: bool = True
    recorded: bool = False
    warnings: list[str] = msgspec.field(default_factory=list[str])


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
    model_aliases: dict[str, str]
    tags: tuple[str, ...]
    blocked: bool = False


class OrgAnswer(OrgRow, kw_only=True):
    """An organization after a change. `fleet`: after a revocation."""

    fleet: FleetAnswer | UnsetType = UNSET
    warnings: list[str] = msgspec.field(default_factory=list[str])


class NewOrg(OrgAnswer, kw_only=True):
    """A new organization."""

    spend: float = 0.0


class OrgInfo(OrgRow, kw_only=True):
    """An organization with its spend in dollars (null when it is not known) and its teams."""

    spend: float | None = None
    total_spend: float | None = None
    teams: list[TeamRow] = msgspec.field(default_factory=list[TeamRow])
    warnings: list[str] = msgspec.field(default_factory=list[str])


class DeletedOrgs(msgspec.Struct, kw_only=True):
    """`/organization/delete`: the ids of the organizations that are gone, and with them all of their teams and keys."""

    deleted_organizations: list[str]
    recorded: bool
    fleet: FleetAnswer
    warnings: list[str] = msgspec.field(default_factory=list[str])


class RefusedOrg(msgspec.Struct, kw_only=True):
    """What can be said of an organization that was blocked while the database was away."""

    organization_id: str
    organization_alias: str | None
    fleet: FleetAnswer
    blocked: bool = True
    recorded: bool = False
    warnings: list[str] = msgspec.field(default_factory=list[str])
