"""AUTH: organizations and teams."""

import msgspec

from shared.events.envelope import AuthEvent
from shared.ids import OrgId, TeamId
from shared.policy import Limits


class ScopeSettings(AuthEvent, frozen=True, kw_only=True):
    """The settings that organizations, teams and keys have alike. `model_aliases` are other names for models, `tags` go
    onto every call's usage."""

    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = msgspec.field(default_factory=dict[str, object])
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = msgspec.field(default_factory=dict[str, Limits])
    model_aliases: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    tags: tuple[str, ...] = ()


class OrgCreated(ScopeSettings, frozen=True, kw_only=True, tag="org.created.v1"):
    """A new organization."""

    org_id: OrgId


class OrgUpdated(OrgCreated, frozen=True, kw_only=True, tag="org.updated.v1"):
    """The organization's settings after an update, whole (budgets travel as `budget.set.v1`)."""


class OrgBlocked(AuthEvent, frozen=True, kw_only=True, tag="org.blocked.v1"):
    """No key of the organization is accepted until it is unblocked."""

    org_id: OrgId


class OrgUnblocked(AuthEvent, frozen=True, kw_only=True, tag="org.unblocked.v1"):
    """The organization's keys are accepted again."""

    org_id: OrgId


class OrgDeleted(AuthEvent, frozen=True, kw_only=True, tag="org.deleted.v1"):
    """The organization is gone for good, and with it its teams and keys, whose deletion follows; the history stays."""

    org_id: OrgId


class TeamCreated(ScopeSettings, frozen=True, kw_only=True, tag="team.created.v1"):
    """A new team inside an organization. New keys that name no budget get `default_key_budget_id`."""

    team_id: TeamId
    org_id: OrgId
    default_key_budget_id: str | None = None


class TeamUpdated(TeamCreated, frozen=True, kw_only=True, tag="team.updated.v1"):
    """The team's settings after an update, whole (budgets travel as `budget.set.v1`)."""


class TeamBlocked(AuthEvent, frozen=True, kw_only=True, tag="team.blocked.v1"):
    """No key of the team is accepted until it is unblocked."""

    team_id: TeamId


class TeamUnblocked(AuthEvent, frozen=True, kw_only=True, tag="team.unblocked.v1"):
    """The team's keys are accepted again."""

    team_id: TeamId


class TeamDeleted(AuthEvent, frozen=True, kw_only=True, tag="team.deleted.v1"):
    """The team is gone for good, and with it its keys, whose deletion follows; the history stays."""

    team_id: TeamId
