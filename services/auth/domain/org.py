"""An organization: the outermost scope. `default` is built in and holds keys and teams of no other."""

import msgspec

from services.auth.domain.accounts import Owner
from services.auth.domain.scope import (
    Attachment,
    ScopeChange,
    ScopeState,
    follow,
    money_events,
    settings_after,
    settings_of,
    with_money,
)
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import AnyAuthEvent, BudgetSet, OrgCreated, OrgUpdated
from shared.ids import AccountId, OrgId


class OrgState(ScopeState, frozen=True, kw_only=True):
    """All that is known of an organization."""

    org_id: OrgId


class CreateOrg(msgspec.Struct, frozen=True, kw_only=True):
    """A new organization. `account` names accounts should it get any."""

    org_id: OrgId
    account: AccountId
    change: ScopeChange = ScopeChange()


class UpdateOrg(msgspec.Struct, frozen=True, kw_only=True):
    """A change of settings: UNSET stays as it is."""

    account: AccountId
    change: ScopeChange = ScopeChange()


def decide_create(state: OrgState | None, command: CreateOrg, stamp: Stamp) -> list[AnyAuthEvent]:
    """An organization comes to be. Raises ApiError 409 when its id is taken, 400 for a senseless budget."""
    if state is not None:
        raise ApiError(
            409,
            "organization_exists",
            f"An organization with the id {command.org_id!r} exists already.",
            param="organization_id",
        )
    created = OrgCreated(**stamp.envelope(0), **settings_after(None, command.change), org_id=command.org_id)
    return [created, *money_events(None, command.change.money, owner(command.org_id, command.account), stamp, 1)]


def decide_update(state: OrgState | None, command: UpdateOrg, stamp: Stamp) -> list[AnyAuthEvent]:
    """The settings change; nothing comes of a request that changes nothing."""
    org = existing(state)
    settings = settings_after(org, command.change)
    events: list[AnyAuthEvent] = []
    if settings != settings_of(org):
        events.append(OrgUpdated(**stamp.envelope(0), **settings, org_id=org.org_id))
    money = money_events(org, command.change.money, owner(org.org_id, command.account), stamp, len(events))
    return [*events, *money]


def decide_follow(
    state: OrgState | None, attachment: Attachment, account: AccountId, stamp: Stamp
) -> list[AnyAuthEvent]:
    """The organization takes over a newer version of its budget object."""
    return [] if state is None else [*follow(state, attachment, owner(state.org_id, account), stamp)]


def owner(org_id: OrgId, account: AccountId) -> Owner:
    """The organization as the owner of accounts."""
    return Owner(kind="org", scope_id=org_id, fresh=account)


def existing(state: OrgState | None) -> OrgState:
    """The organization itself. Raises ApiError 404."""
    if state is None:
        raise ApiError(
            404,
            "organization_not_found",
            "There is no such organization.",
            param="organization_id",
            kind="not_found_error",
        )
    return state


def evolve(state: OrgState | None, event: AnyAuthEvent) -> OrgState:
    """The state after one more event."""
    replace = msgspec.structs.replace
    if isinstance(event, OrgUpdated) and state is not None:
        return replace(state, **settings_of(event), updated_at=event.at, updated_by=event.actor)
    if isinstance(event, BudgetSet) and state is not None:
        return replace(with_money(state, event), updated_at=event.at, updated_by=event.actor)
    if not isinstance(event, OrgCreated) or isinstance(event, OrgUpdated):
        raise ValueError(f"{type(event).__name__} does not come here in the life of an organization")
    return OrgState(
        **settings_of(event),
        org_id=event.org_id,
        created_at=event.at,
        created_by=event.actor,
        updated_at=event.at,
        updated_by=event.actor,
    )
