"""A team: a slice of an organization that keys belong to."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain.accounts import Owner
from services.auth.domain.members import changed, difference, each_added, with_added, with_role, without
from services.auth.domain.scope import (
    Attachment,
    ScopeChange,
    ScopeState,
    follow,
    money_events,
    or_before,
    settings_after,
    settings_of,
    with_money,
)
from services.auth.domain.size import check_settings
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    BudgetSet,
    Member,
    MemberRole,
    TeamBlocked,
    TeamCreated,
    TeamDeleted,
    TeamMembersChanged,
    TeamUnblocked,
    TeamUpdated,
)
from shared.ids import AccountId, OrgId, TeamId, UserId

ALIASES = "model_aliases"
"""The field of other names for models."""


class TeamState(ScopeState, frozen=True, kw_only=True):
    """All that is known of a team. `default_key_budget_id` names the budget object of new keys that name none."""

    team_id: TeamId
    org_id: OrgId
    default_key_budget_id: str | None = None
    members: tuple[Member, ...] = ()
    blocked: bool = False
    unblocked_at: datetime | None = None
    deleted_at: datetime | None = None


class CreateTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A new team. `account` names accounts should it get any. `again`: an earlier attempt of the same request may have
    made it already."""

    team_id: TeamId
    org_id: OrgId
    account: AccountId
    change: ScopeChange = ScopeChange()
    default_key_budget_id: str | None = None
    members: tuple[Member, ...] = ()
    blocked: bool = False
    again: bool = False


class UpdateTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A change of settings: UNSET stays as it is. The organization and `blocked` may be repeated, not changed."""

    team_id: TeamId
    account: AccountId
    change: ScopeChange = ScopeChange()
    default_key_budget_id: str | UnsetType | None = UNSET
    org_id: str | UnsetType = UNSET
    blocked: bool | UnsetType = UNSET


def decide_create(state: TeamState | None, command: CreateTeam, stamp: Stamp) -> list[AnyAuthEvent]:
    """A team comes to be. Raises ApiError 409 when its id is, or was, another team's, 400 for a senseless budget."""
    if state is not None:
        if command.again and _made_by(state, command, stamp):
            return []
        was = "exists already" if state.deleted_at is None else "was deleted, and an id is given once"
        raise ApiError(409, "team_exists", f"A team with the id {command.team_id!r} {was}.", param="team_id")
    settings = settings_after(None, command.change)
    check_settings(None, settings, aliases=ALIASES)
    created = TeamCreated(
        **stamp.envelope(0),
        **settings,
        team_id=command.team_id,
        org_id=command.org_id,
        default_key_budget_id=command.default_key_budget_id,
    )
    events: list[AnyAuthEvent] = [created]
    events += money_events(None, command.change.money, owner(command.team_id, command.account), stamp, 1)
    if command.members:
        joined = with_added((), command.members)
        events.append(TeamMembersChanged(**stamp.envelope(len(events)), team_id=command.team_id, joined=joined))
    if command.blocked:
        events.append(TeamBlocked(**stamp.envelope(len(events)), team_id=command.team_id))
    return events


def decide_update(state: TeamState | None, command: UpdateTeam, stamp: Stamp) -> list[AnyAuthEvent]:
    """The settings change; nothing comes of a request that changes nothing. Raises ApiError 404, 400."""
    team = living(state, command.team_id)
    if command.org_id is not UNSET and command.org_id != team.org_id:
        raise ApiError(
            400,
            "not_supported",
            "organization_id of a team cannot be changed: its spend belongs to where it is. Make a team there instead.",
            param="organization_id",
        )
    if command.blocked is not UNSET and command.blocked != team.blocked:
        route = "/team/block" if command.blocked else "/team/unblock"
        raise ApiError(400, "not_supported", f"blocked is changed by POST {route}.", param="blocked")
    settings = settings_after(team, command.change)
    check_settings(settings_of(team), settings, aliases=ALIASES)
    default = or_before(command.default_key_budget_id, team.default_key_budget_id)
    events: list[AnyAuthEvent] = []
    if (settings, default) != (settings_of(team), team.default_key_budget_id):
        updated = TeamUpdated(
            **stamp.envelope(0), **settings, team_id=team.team_id, org_id=team.org_id, default_key_budget_id=default
        )
        events.append(updated)
    money = money_events(team, command.change.money, owner(team.team_id, command.account), stamp, len(events))
    return [*events, *money]


def decide_follow(
    state: TeamState | None, attachment: Attachment, account: AccountId, stamp: Stamp
) -> list[AnyAuthEvent]:
    """The team takes over a newer version of its budget object; nothing comes of it for a dead team."""
    if state is None or state.deleted_at is not None:
        return []
    return [*follow(state, attachment, owner(state.team_id, account), stamp)]


def decide_block(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    """The team's keys are refused from now on; nothing comes of blocking it twice. Raises ApiError 404."""
    team = living(state)
    return [] if team.blocked else [TeamBlocked(**stamp.envelope(0), team_id=team.team_id)]


def decide_unblock(state: TeamState | None, stamp: Stamp, *, entry: datetime | None) -> list[AnyAuthEvent]:
    """The team's keys work again. `entry`: since when a revocation stands in the bucket, recorded
    here or not: the unblock is not older than that, whosever clock is ahead."""
    team = living(state)
    if not team.blocked and entry is None:
        return []
    return [TeamUnblocked(**stamp.not_before(entry).envelope(0), team_id=team.team_id)]


def decide_delete(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    """The team is gone for good; nothing comes of deleting it twice. Raises ApiError 404."""
    if state is not None and state.deleted_at is not None:
        return []
    return [TeamDeleted(**stamp.envelope(0), team_id=living(state).team_id)]


def decide_add_members(
    state: TeamState | None, team_id: str, added: Sequence[Member], stamp: Stamp
) -> list[AnyAuthEvent]:
    """Some belong to the team too from now on. Raises ApiError 404, and 409 when one does with another role."""
    team = living(state, team_id)
    return _members(team, with_added(team.members, added), stamp)


def decide_add_each(
    state: TeamState | None, team_id: str, added: Sequence[Member], stamp: Stamp
) -> tuple[list[AnyAuthEvent], tuple[ApiError | None, ...]]:
    """(one event for all that can join, for each why they cannot: None when they do). Raises ApiError 404."""
    team = living(state, team_id)
    members, refusals = each_added(team.members, added)
    return _members(team, members, stamp), refusals


def decide_remove_members(
    state: TeamState | None, team_id: str, user_ids: Sequence[UserId], stamp: Stamp
) -> list[AnyAuthEvent]:
    """Some are no members any more; nothing comes of it for those who were none. Raises ApiError 404."""
    team = living(state, team_id)
    return _members(team, without(team.members, user_ids), stamp)


def decide_member_role(
    state: TeamState | None, team_id: str, user_id: UserId, role: MemberRole, stamp: Stamp
) -> list[AnyAuthEvent]:
    """A member has another role. Raises ApiError 404."""
    team = living(state, team_id)
    return _members(team, with_role(team.members, user_id, role), stamp)


def _members(team: TeamState, members: tuple[Member, ...], stamp: Stamp) -> list[AnyAuthEvent]:
    """What is different, and nothing else: the size of an event does not depend on that of the team."""
    joined, left = difference(team.members, members)
    if not joined and not left:
        return []
    return [TeamMembersChanged(**stamp.envelope(0), team_id=team.team_id, joined=joined, left=left)]


def owner(team_id: TeamId, account: AccountId) -> Owner:
    """The team as the owner of accounts."""
    return Owner(kind="team", scope_id=team_id, fresh=account)


def living(state: TeamState | None, team_id: str | None = None) -> TeamState:
    """The team. Raises ApiError 404."""
    if state is None or state.deleted_at is not None:
        raise no_team(team_id or ("" if state is None else state.team_id))
    return state


def no_team(team_id: str) -> ApiError:
    """The answer about a team that is not there, was deleted, or is out of reach: always the same."""
    return ApiError(
        404,
        "team_not_found",
        f"There is no team {team_id!r}: make it with POST /team/new.",
        param="team_id",
        kind="not_found_error",
    )


def evolve(state: TeamState | None, event: AnyAuthEvent) -> TeamState:
    """The state after one more event."""
    if isinstance(event, TeamCreated) and not isinstance(event, TeamUpdated):
        return TeamState(
            **settings_of(event),
            team_id=event.team_id,
            org_id=event.org_id,
            default_key_budget_id=event.default_key_budget_id,
            created_at=event.at,
            created_by=event.actor,
            updated_at=event.at,
            updated_by=event.actor,
        )
    if state is None:
        raise ValueError(f"the first event of a team is not {type(event).__name__}")
    return _changed(msgspec.structs.replace(state, updated_at=event.at, updated_by=event.actor), event)


def _changed(state: TeamState, event: AnyAuthEvent) -> TeamState:
    replace = msgspec.structs.replace
    match event:
        case TeamUpdated():
            return replace(state, **settings_of(event), default_key_budget_id=event.default_key_budget_id)
        case BudgetSet():
            return with_money(state, event)
        case TeamMembersChanged():
            return replace(state, members=changed(state.members, event.joined, event.left))
        case TeamBlocked():
            return replace(state, blocked=True)
        case TeamUnblocked():
            return replace(state, blocked=False, unblocked_at=event.at)
        case TeamDeleted():
            return replace(state, members=(), deleted_at=event.at)
        case _:
            raise ValueError(f"{type(event).__name__} does not come here in the life of a team")


def _made_by(state: TeamState, command: CreateTeam, stamp: Stamp) -> bool:
    """Whether a living team is what an earlier attempt of the same request made."""
    asked = (stamp.actor, settings_after(None, command.change), command.org_id, command.members)
    return state.deleted_at is None and asked == (state.created_by, settings_of(state), state.org_id, state.members)
