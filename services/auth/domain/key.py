"""A key: its decisions and its state as a fold of its events. `None` is the state of a key that never was."""

from datetime import datetime
from typing import TypedDict

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain.accounts import Owner
from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.rotation import NO_CHANGE, RotationChange, decide_rotation
from services.auth.domain.scope import (
    Attachment,
    ScopeChange,
    follow,
    money_events,
    or_before,
    settings_after,
    settings_of,
    with_money,
)
from services.auth.domain.size import check_settings
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import VersionEvent, evolve_versions
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    BudgetSet,
    KeyBlocked,
    KeyDeleted,
    KeyIssued,
    KeySecretMinted,
    KeyUnblocked,
    KeyUpdated,
)
from shared.ids import DEFAULT_ORG, AccountId, KeyId, OrgId, TeamId, UserId
from shared.policy import Reach, Role

ALIASES = "aliases"
"""The field of other names for models."""


class IssueKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key with its first secret. `account` names accounts should it get any.

    `again`: the key may have been made by an earlier attempt of the same request, which drew the same id.
    """

    key_id: KeyId
    org_id: OrgId
    secret: HashedSecret
    account: AccountId
    change: ScopeChange = ScopeChange()
    team_id: TeamId | None = None
    expires_at: datetime | None = None
    allowed_routes: tuple[str, ...] = ()
    user_id: UserId | None = None
    role: Role | None = None
    reach: Reach | None = None
    rotation: RotationChange = NO_CHANGE
    blocked: bool = False
    again: bool = False


class UpdateKey(msgspec.Struct, frozen=True, kw_only=True):
    """A change of settings: UNSET stays as it is. Team, organization, role and `blocked` may be repeated, not
    changed."""

    account: AccountId
    change: ScopeChange = ScopeChange()
    expires_at: datetime | UnsetType | None = UNSET
    allowed_routes: tuple[str, ...] | UnsetType = UNSET
    user_id: UserId | UnsetType | None = UNSET
    rotation: RotationChange = NO_CHANGE
    team_id: str | UnsetType | None = UNSET
    org_id: str | UnsetType | None = UNSET
    role: Role | UnsetType | None = UNSET
    blocked: bool | UnsetType = UNSET


class Own(TypedDict):
    """The settings that keys alone have."""

    expires_at: datetime | None
    allowed_routes: tuple[str, ...]
    user_id: UserId | None
    role: Role | None
    reach: Reach | None


def own_of(of: KeyState | KeyIssued | KeyUpdated | IssueKey) -> Own:
    """The settings of a state, an event or a command that keys alone have."""
    return Own(
        expires_at=of.expires_at,
        allowed_routes=of.allowed_routes,
        user_id=of.user_id,
        role=of.role,
        reach=of.reach,
    )


def decide_issue(state: KeyState | None, command: IssueKey, stamp: Stamp) -> list[AnyAuthEvent]:
    """A key comes to be. The secret is minted last: whoever can use it finds all its limits in place.

    Nothing comes of a repetition: the key is there.
    """
    if state is not None:
        if command.again:
            living(state)
            return []
        raise ApiError(409, "key_exists", f"The key {command.key_id} exists already.")
    key_id, secret = command.key_id, command.secret
    settings = settings_after(None, command.change)
    check_settings(None, settings, aliases=ALIASES, routes=((), command.allowed_routes))
    events: list[AnyAuthEvent] = [
        KeyIssued(
            **stamp.envelope(0),
            **settings,
            **own_of(command),
            key_id=key_id,
            org_id=command.org_id,
            team_id=command.team_id,
        )
    ]
    events += money_events(None, command.change.money, owner(key_id, command.account), stamp, len(events))
    events += decide_rotation(None, command.rotation, key_id, stamp, len(events))
    if command.blocked:
        events.append(KeyBlocked(**stamp.envelope(len(events)), key_id=key_id))
    events.append(
        KeySecretMinted(
            **stamp.envelope(len(events)),
            key_id=key_id,
            version=1,
            label=secret.label,
            digest=secret.digest,
            hint=secret.hint,
        )
    )
    return events


def decide_update(state: KeyState | None, command: UpdateKey, stamp: Stamp) -> list[AnyAuthEvent]:
    """The settings change; nothing comes of a request that changes nothing."""
    key = living(state)
    _refuse_moves(key, command)
    settings, own = settings_after(key, command.change), own_of(key)
    own["expires_at"] = or_before(command.expires_at, key.expires_at)
    own["allowed_routes"] = or_before(command.allowed_routes, key.allowed_routes)
    own["user_id"] = or_before(command.user_id, key.user_id)
    routes = (key.allowed_routes, own["allowed_routes"])
    check_settings(settings_of(key), settings, aliases=ALIASES, routes=routes)
    events: list[AnyAuthEvent] = []
    if (settings, own) != (settings_of(key), own_of(key)):
        events.append(KeyUpdated(**stamp.envelope(0), **settings, **own, key_id=key.key_id))
    events += money_events(key, command.change.money, owner(key.key_id, command.account), stamp, len(events))
    events += decide_rotation(key.rotation, command.rotation, key.key_id, stamp, len(events))
    return events


def decide_follow(
    state: KeyState | None, attachment: Attachment, account: AccountId, stamp: Stamp
) -> list[AnyAuthEvent]:
    """The key takes over a newer version of its budget object; nothing comes of it for a dead key."""
    if state is None or state.deleted_at is not None:
        return []
    return [*follow(state, attachment, owner(state.key_id, account), stamp)]


def owner(key_id: KeyId, account: AccountId) -> Owner:
    """The key as the owner of accounts."""
    return Owner(kind="key", scope_id=key_id, fresh=account)


def decide_block(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    """The key is refused from now on; nothing comes of blocking it twice."""
    key = living(state)
    return [] if key.blocked else [KeyBlocked(**stamp.envelope(0), key_id=key.key_id)]


def decide_unblock(state: KeyState | None, stamp: Stamp, *, entry: datetime | None) -> list[AnyAuthEvent]:
    """The key works again. `entry`: since when a revocation stands in the bucket, recorded
    here or not: the unblock is not older than that, whosever clock is ahead."""
    key = living(state)
    if not key.blocked and entry is None:
        return []
    return [KeyUnblocked(**stamp.not_before(entry).envelope(0), key_id=key.key_id)]


def decide_delete(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    """The key is dead for good; nothing comes of deleting it twice."""
    if state is not None and state.deleted_at is not None:
        return []
    return [KeyDeleted(**stamp.envelope(0), key_id=living(state).key_id)]


def evolve(state: KeyState | None, event: AnyAuthEvent) -> KeyState:
    """The state after one more event."""
    if isinstance(event, KeyIssued):
        return KeyState(
            **settings_of(event),
            **own_of(event),
            key_id=event.key_id,
            org_id=event.org_id,
            team_id=event.team_id,
            created_at=event.at,
            created_by=event.actor,
            updated_at=event.at,
            updated_by=event.actor,
        )
    if state is None:
        raise ValueError(f"the first event of a key is not {type(event).__name__}")
    return _changed(msgspec.structs.replace(state, updated_at=event.at, updated_by=event.actor), event)


def _changed(state: KeyState, event: AnyAuthEvent) -> KeyState:
    replace = msgspec.structs.replace
    if isinstance(event, VersionEvent):
        return evolve_versions(state, event)
    match event:
        case KeyUpdated():
            return replace(state, **settings_of(event), **own_of(event))
        case BudgetSet():
            return with_money(state, event)
        case KeyBlocked():
            return replace(state, blocked=True)
        case KeyUnblocked():
            return replace(state, blocked=False, unblocked_at=event.at)
        case KeyDeleted():
            return replace(state, deleted_at=event.at)
        case _:
            raise ValueError(f"{type(event).__name__} is no event of a key")


def living(state: KeyState | None) -> KeyState:
    """The key itself. Raises ApiError 404 when there is none, or it was deleted."""
    if state is None:
        raise ApiError(404, "key_not_found", "There is no such key.", param="key", kind="not_found_error")
    if state.deleted_at is not None:
        raise ApiError(
            404,
            "key_not_found",
            f"The key {state.key_id} was deleted at {state.deleted_at.isoformat(timespec='seconds')}.",
            param="key",
            kind="not_found_error",
        )
    return state


def _refuse_moves(key: KeyState, command: UpdateKey) -> None:
    org_id = DEFAULT_ORG if command.org_id is None else command.org_id
    moves = (("team_id", command.team_id, key.team_id), ("organization_id", org_id, key.org_id))
    for name, wanted, current in moves:
        if wanted is not UNSET and wanted != current:
            raise ApiError(
                400,
                "not_supported",
                f"{name} of a key cannot be changed: its spend belongs to where it is. Mint a key there instead.",
                param=name,
            )
    if command.role is not UNSET and command.role != key.role:
        raise ApiError(
            400,
            "not_supported",
            "key_type of a key cannot be changed: what calls models never administers, and the other way round. Mint"
            " another key instead.",
            param="key_type",
        )
    if command.blocked is not UNSET and command.blocked != key.blocked:
        route = "/key/block" if command.blocked else "/key/unblock"
        raise ApiError(400, "not_supported", f"blocked is changed by POST {route}.", param="blocked")
