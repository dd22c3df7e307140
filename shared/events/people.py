"""AUTH: people and what they belong to."""

from typing import Literal

import msgspec

from shared.events.envelope import AuthEvent
from shared.ids import OrgId, TeamId, UserId

MemberRole = Literal["admin", "user"]
UserRole = Literal["proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"]


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody in a team; an `admin` may have keys that administer it.

    `address_known`: whoever added them knew their address, so whoever administers the team may see it.
    """

    user_id: UserId
    role: MemberRole = "user"
    address_known: bool = False


class TeamMembersChanged(AuthEvent, frozen=True, kw_only=True, tag="team.members_changed.v1"):
    """Who belongs to a team changed: `joined` are new in it or have another role in it now, `left` are gone."""

    team_id: TeamId
    joined: tuple[Member, ...] = ()
    left: tuple[UserId, ...] = ()


class UserCreated(AuthEvent, frozen=True, kw_only=True, tag="user.created.v1"):
    """Somebody whom keys and team memberships belong to. `orgs` are organizations that they belong to directly."""

    user_id: UserId
    email: str | None = None
    alias: str | None = None
    role: UserRole = "internal_user"
    orgs: tuple[OrgId, ...] = ()
    metadata: dict[str, object] = msgspec.field(default_factory=dict[str, object])


class UserUpdated(UserCreated, frozen=True, kw_only=True, tag="user.updated.v1"):
    """What is known of a user after an update, whole."""


class UserDeleted(AuthEvent, frozen=True, kw_only=True, tag="user.deleted.v1"):
    """The user is gone; the deletion of its keys and memberships follows."""

    user_id: UserId
