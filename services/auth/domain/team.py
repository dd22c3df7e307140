"""A team: a slice of an organization that keys belong to."""

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain.accounts import Owner
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
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import AnyAuthEvent, BudgetSet, TeamCreated, TeamUpdated
from shared.ids import AccountId, OrgId, TeamId


class TeamState(ScopeState, frozen=True, kw_only=True):
    """All that is known of a team. `default_key_budget_id` names the budget object of new keys that name none."""

    team_id: TeamId
    org_id: OrgId
    default_key_budget_id: str | None = None


class CreateTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A new team. `account` names accounts should it get any."""

    team_id: TeamId
    org_id: OrgId
    account: AccountId
    change: ScopeChange = ScopeChange()
    default_key_budget_id: str | None = None


class UpdateTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A change of settings: UNSET stays as it is. The organization may be repeated, not changed."""

    account: AccountId
    change: ScopeChange = ScopeChange()
    default_key_budget_id: str | UnsetType | None = UNSET
    org_id: str | UnsetType = UNSET


def decide_create(state: TeamState | None, command: CreateTeam, stamp: Stamp) -> list[AnyAuthEvent]:
    """A team comes to be. Raises ApiError 409 when its id is taken, 400 for a budget that makes no sense."""
    if state is not None:
        raise ApiError(409, "team_exists", f"A team with the id {command.team_id!r} exists already.", param="team_id")
    created = TeamCreated(
        **stamp.envelope(0),
        **settings_after(None, command.change),
        team_id=command.team_id,
        org_id=command.org_id,
        default_key_budget_id=command.default_key_budget_id,
    )
    return [created, *money_events(None, command.change.money, owner(command.team_id, command.account), stamp, 1)]


def decide_update(state: TeamState | None, command: UpdateTeam, stamp: Stamp) -> list[AnyAuthEvent]:
    """The settings change; nothing comes of a request that changes nothing."""
    team = existing(state)
    if command.org_id is not UNSET and command.org_id != team.org_id:
        raise ApiError(
            400,
            "not_supported",
            "organization_id of a team cannot be changed: its spend belongs to where it is. Make a team there instead.",
            param="organization_id",
        )
    settings = settings_after(team, command.change)
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
    """The team takes over a newer version of its budget object."""
    return [] if state is None else [*follow(state, attachment, owner(state.team_id, account), stamp)]


def owner(team_id: TeamId, account: AccountId) -> Owner:
    """The team as the owner of accounts."""
    return Owner(kind="team", scope_id=team_id, fresh=account)


def existing(state: TeamState | None) -> TeamState:
    """The team itself. Raises ApiError 404."""
    if state is None:
        raise ApiError(404, "team_not_found", "There is no such team.", param="team_id", kind="not_found_error")
    return state


def evolve(state: TeamState | None, event: AnyAuthEvent) -> TeamState:
    """The state after one more event."""
    replace = msgspec.structs.replace
    if isinstance(event, TeamUpdated) and state is not None:
        return replace(
            state,
            **settings_of(event),
            default_key_budget_id=event.default_key_budget_id,
            updated_at=event.at,
            updated_by=event.actor,
        )
    if isinstance(event, BudgetSet) and state is not None:
        return replace(with_money(state, event), updated_at=event.at, updated_by=event.actor)
    if not isinstance(event, TeamCreated) or isinstance(event, TeamUpdated):
        raise ValueError(f"{type(event).__name__} does not come here in the life of a team")
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
