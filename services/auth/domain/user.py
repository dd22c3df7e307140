"""A user: somebody whom keys and memberships belong to. Spend and limits are those of keys, teams and organizations."""

import re
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain.scope import or_before
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import AnyAuthEvent, UserCreated, UserDeleted, UserRole, UserUpdated
from shared.ids import OrgId, UserId

ADDRESS_CHARS_MAX = 254
_ADDRESS = re.compile(r"[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+")


class UserState(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a user; times are UTC. `orgs` are organizations that they belong to directly."""

    user_id: UserId
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    email: str | None = None
    alias: str | None = None
    role: UserRole = "internal_user"
    orgs: tuple[OrgId, ...] = ()
    metadata: dict[str, object] = {}
    deleted_at: datetime | None = None


class CreateUser(msgspec.Struct, frozen=True, kw_only=True):
    """A new user. `again`: an earlier attempt of the same request may have made it already."""

    user_id: UserId
    email: str | None = None
    alias: str | None = None
    role: UserRole = "internal_user"
    orgs: tuple[OrgId, ...] = ()
    metadata: dict[str, object] = {}
    again: bool = False


class ChangeUser(msgspec.Struct, frozen=True, kw_only=True):
    """A change of what is known of a user: UNSET stays as it is. `join` and `leave` are organizations."""

    email: str | UnsetType | None = UNSET
    alias: str | UnsetType | None = UNSET
    role: UserRole | UnsetType = UNSET
    orgs: tuple[OrgId, ...] | UnsetType = UNSET
    metadata: dict[str, object] | UnsetType = UNSET
    join: tuple[OrgId, ...] = ()
    leave: tuple[OrgId, ...] = ()


def address(param: str, value: str | None) -> str | None:
    """An e-mail address, as somebody is known by it. Raises ApiError 400."""
    if value is None:
        return None
    if _ADDRESS.fullmatch(value) is None or len(value) > ADDRESS_CHARS_MAX:
        text = f"{param}: this is no e-mail address: use one such as 'ann@example.com'."
        raise ApiError(400, "invalid_value", text, param=param)
    return value


def decide_create(state: UserState | None, command: CreateUser, stamp: Stamp) -> list[AnyAuthEvent]:
    """A user comes to be. Raises ApiError 409 when the id is, or was, another user's."""
    created = UserCreated(
        **stamp.envelope(0),
        user_id=command.user_id,
        email=command.email,
        alias=command.alias,
        role=command.role,
        orgs=command.orgs,
        metadata=command.metadata,
    )
    if state is None:
        return [created]
    if command.again and state.deleted_at is None and _known(state) == _known(created):
        return []
    was = "exists already" if state.deleted_at is None else "was deleted, and an id is given once"
    raise ApiError(409, "user_exists", f"A user with the id {command.user_id!r} {was}.", param="user_id")


def decide_update(state: UserState | None, user_id: str, command: ChangeUser, stamp: Stamp) -> list[AnyAuthEvent]:
    """What is known changes; nothing comes of a request that changes nothing. Raises ApiError 404."""
    user = living(state, user_id)
    orgs = dict.fromkeys((*or_before(command.orgs, user.orgs), *command.join))
    updated = UserUpdated(
        **stamp.envelope(0),
        user_id=user.user_id,
        email=or_before(command.email, user.email),
        alias=or_before(command.alias, user.alias),
        role=or_before(command.role, user.role),
        orgs=tuple(org for org in orgs if org not in command.leave),
        metadata=or_before(command.metadata, user.metadata),
    )
    return [] if _known(user) == _known(updated) else [updated]


def decide_delete(state: UserState | None, user_id: str, stamp: Stamp) -> list[AnyAuthEvent]:
    """The user is gone; nothing comes of deleting them twice. Raises ApiError 404."""
    if state is not None and state.deleted_at is not None:
        return []
    return [UserDeleted(**stamp.envelope(0), user_id=living(state, user_id).user_id)]


def living(state: UserState | None, user_id: str) -> UserState:
    """The user. Raises ApiError 404."""
    if state is None or state.deleted_at is not None:
        raise no_user(user_id)
    return state


def no_user(user_id: str, *, param: str = "user_id") -> ApiError:
    """The answer about a user who is not there, was deleted, or is out of reach: always the same."""
    return ApiError(
        404,
        "user_not_found",
        f"There is no user {user_id!r}: make it with POST /user/new.",
        param=param,
        kind="not_found_error",
    )


def evolve(state: UserState | None, event: AnyAuthEvent) -> UserState:
    """The state after one more event."""
    if isinstance(event, UserDeleted) and state is not None:
        return msgspec.structs.replace(state, deleted_at=event.at, updated_at=event.at, updated_by=event.actor)
    if not isinstance(event, UserCreated):
        raise ValueError(f"{type(event).__name__} does not come here in the life of a user")
    return UserState(
        user_id=event.user_id,
        email=event.email,
        alias=event.alias,
        role=event.role,
        orgs=event.orgs,
        metadata=event.metadata,
        created_at=event.at if state is None else state.created_at,
        created_by=event.actor if state is None else state.created_by,
        updated_at=event.at,
        updated_by=event.actor,
    )


def _known(of: UserState | UserCreated) -> tuple[object, ...]:
    return of.email, of.alias, of.role, of.orgs, of.metadata
