"""An organization: the outermost scope. `default` is built in and holds keys and teams of no other."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

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
from services.auth.domain.size import check_settings
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    BudgetSet,
    OrgBlocked,
    OrgCreated,
    OrgDeleted,
    OrgUnblocked,
    OrgUpdated,
)
from shared.ids import DEFAULT_ORG, AccountId, OrgId

ALIASES = "model_aliases"
"""The field of other names for models."""


class OrgState(ScopeState, frozen=True, kw_only=True):
    """All that is known of an organization."""

    org_id: OrgId
    blocked: bool = False
    unblocked_at: datetime | None = None
    deleted_at: datetime | None = None


class CreateOrg(msgspec.Struct, frozen=True, kw_only=True):
    """A new organization. `account` names accounts should it get any. `again`: an earlier attempt of the same request
    may have made it already."""

    org_id: OrgId
    account: AccountId
    change: ScopeChange = ScopeChange()
    blocked: bool = False
    again: bool = False


class UpdateOrg(msgspec.Struct, frozen=True, kw_only=True):
    """A change of settings: UNSET stays as it is. `blocked` may be repeated, not changed."""

    org_id: OrgId
    account: AccountId
    change: ScopeChange = ScopeChange()
    blocked: bool | UnsetType = UNSET


def decide_create(state: OrgState | None, command: CreateOrg, stamp: Stamp) -> list[AnyAuthEvent]:
    """An organization comes to be. Raises ApiError 409 when its id is, or was, another one's, 400 for a senseless
    budget."""
    if state is not None:
        if command.again and _made_by(state, command, stamp):
            return []
        was = "exists already" if state.deleted_at is None else "was deleted, and an id is given once"
        raise ApiError(
            409,
            "organization_exists",
            f"An organization with the id {command.org_id!r} {was}.",
            param="organization_id",
        )
    settings = settings_after(None, command.change)
    check_settings(None, settings, aliases=ALIASES)
    events: list[AnyAuthEvent] = [OrgCreated(**stamp.envelope(0), **settings, org_id=command.org_id)]
    events += money_events(None, command.change.money, owner(command.org_id, command.account), stamp, 1)
    if command.blocked:
        events.append(OrgBlocked(**stamp.envelope(len(events)), org_id=command.org_id))
    return events


def decide_update(state: OrgState | None, command: UpdateOrg, stamp: Stamp) -> list[AnyAuthEvent]:
    """The settings change; nothing comes of a request that changes nothing. Raises ApiError 404, 400."""
    org = living(state, command.org_id)
    if command.blocked is not UNSET and command.blocked != org.blocked:
        route = "/organization/block" if command.blocked else "/organization/unblock"
        raise ApiError(400, "not_supported", f"blocked is changed by POST {route}.", param="blocked")
    settings = settings_after(org, command.change)
    check_settings(settings_of(org), settings, aliases=ALIASES)
    events: list[AnyAuthEvent] = []
    if settings != settings_of(org):
        events.append(OrgUpdated(**stamp.envelope(0), **settings, org_id=org.org_id))
    money = money_events(org, command.change.money, owner(org.org_id, command.account), stamp, len(events))
    return [*events, *money]


def decide_follow(
    state: OrgState | None, attachment: Attachment, account: AccountId, stamp: Stamp
) -> list[AnyAuthEvent]:
    """The organization takes over a newer version of its budget object; nothing comes of it for a dead one."""
    if state is None or state.deleted_at is not None:
        return []
    return [*follow(state, attachment, owner(state.org_id, account), stamp)]


def decide_block(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    """The organization's keys are refused from now on; nothing comes of blocking it twice. Raises ApiError 404, 400."""
    org = living(state)
    refuse_built_in(org.org_id)
    return [] if org.blocked else [OrgBlocked(**stamp.envelope(0), org_id=org.org_id)]


def decide_unblock(state: OrgState | None, stamp: Stamp, *, entry: datetime | None) -> list[AnyAuthEvent]:
    """The organization's keys work again. `entry`: since when a revocation stands in the bucket, recorded
    here or not: the unblock is not older than that, whosever clock is ahead."""
    org = living(state)
    if not org.blocked and entry is None:
        return []
    return [OrgUnblocked(**stamp.not_before(entry).envelope(0), org_id=org.org_id)]


def decide_delete(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    """The organization is gone for good; nothing comes of deleting it twice. Raises ApiError 404, 400."""
    if state is not None and state.deleted_at is not None:
        return []
    org = living(state)
    refuse_built_in(org.org_id)
    return [OrgDeleted(**stamp.envelope(0), org_id=org.org_id)]


def refuse_built_in(org_id: str) -> None:
    """The organization `default` is always there. Raises ApiError 400."""
    if org_id == DEFAULT_ORG:
        raise ApiError(
            400,
            "not_supported",
            f"The organization {DEFAULT_ORG!r} is built in and cannot be blocked or deleted: block or delete its teams"
            " and keys.",
            param="organization_id",
        )


def owner(org_id: OrgId, account: AccountId) -> Owner:
    """The organization as the owner of accounts."""
    return Owner(kind="org", scope_id=org_id, fresh=account)


def living(state: OrgState | None, org_id: str | None = None) -> OrgState:
    """The organization. Raises ApiError 404."""
    if state is None or state.deleted_at is not None:
        raise no_org(org_id or ("" if state is None else state.org_id))
    return state


def no_org(org_id: str) -> ApiError:
    """The answer about an organization that is not there, was deleted, or is out of reach: always the same."""
    return ApiError(
        404,
        "organization_not_found",
        f"There is no organization {org_id!r}: make it with POST /organization/new.",
        param="organization_id",
        kind="not_found_error",
    )


def evolve(state: OrgState | None, event: AnyAuthEvent) -> OrgState:
    """The state after one more event."""
    if isinstance(event, OrgCreated) and not isinstance(event, OrgUpdated):
        return OrgState(
            **settings_of(event),
            org_id=event.org_id,
            created_at=event.at,
            created_by=event.actor,
            updated_at=event.at,
            updated_by=event.actor,
        )
    if state is None:
        raise ValueError(f"the first event of an organization is not {type(event).__name__}")
    return _changed(msgspec.structs.replace(state, updated_at=event.at, updated_by=event.actor), event)


def _changed(state: OrgState, event: AnyAuthEvent) -> OrgState:
    replace = msgspec.structs.replace
    match event:
        case OrgUpdated():
            return replace(state, **settings_of(event))
        case BudgetSet():
            return with_money(state, event)
        case OrgBlocked():
            return replace(state, blocked=True)
        case OrgUnblocked():
            return replace(state, blocked=False, unblocked_at=event.at)
        case OrgDeleted():
            return replace(state, deleted_at=event.at)
        case _:
            raise ValueError(f"{type(event).__name__} does not come here in the life of an organization")


def _made_by(state: OrgState, command: CreateOrg, stamp: Stamp) -> bool:
    """Whether a living organization is what an earlier attempt of the same request made."""
    asked = (stamp.actor, settings_after(None, command.change))
    return state.deleted_at is None and asked == (state.created_by, settings_of(state))
