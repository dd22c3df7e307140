"""Requests about users and members, with LiteLLM's names."""

import msgspec
from msgspec import UNSET, UnsetType

from shared.events import MemberRole, UserRole

MEMBERS_PER_REQUEST_MAX = 500


class MemberRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody in a team, by id or by address; who is not known becomes a user."""

    role: MemberRole = "user"
    user_id: str | None = None
    user_email: str | None = None


class OrgMemberRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody in an organization, by id or by address. There are no roles in it: `role` may say so, and no more."""

    role: str | None = None
    user_id: str | None = None
    user_email: str | None = None


class AddMember(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /team/member_add`."""

    team_id: str
    member: MemberRequest | list[MemberRequest]


class AddMembers(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /team/bulk_member_add`."""

    team_id: str
    members: list[MemberRequest]


class UpdateMember(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /team/member_update`."""

    team_id: str
    user_id: str | None = None
    user_email: str | None = None
    role: MemberRole | None = None


class DeleteMember(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /team/member_delete`."""

    team_id: str
    user_id: str | None = None
    user_email: str | None = None


class AddOrgMember(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /organization/member_add`."""

    organization_id: str
    member: OrgMemberRequest | list[OrgMemberRequest]


class DeleteOrgMember(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /organization/member_delete`."""

    organization_id: str
    user_id: str | None = None
    user_email: str | None = None


class TeamOfUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of `teams`."""

    team_id: str
    user_role: MemberRole = "user"
    max_budget_in_team: None = None


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /user/new`. `key_alias` and `duration` are those of the key that is made along with the user."""

    user_id: str | None = None
    user_email: str | None = None
    user_alias: str | None = None
    user_role: UserRole = "internal_user"
    teams: list[str | TeamOfUser] | None = None
    organizations: list[str] | None = None
    metadata: dict[str, object] | None = None
    auto_create_key: bool = True
    key_alias: str | None = None
    duration: str | None = None


class UpdateUser(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /user/update`. `user_id` names the user; without it `user_email` does, and the address stays."""

    user_id: str | None = None
    user_email: str | UnsetType | None = UNSET
    user_alias: str | UnsetType | None = UNSET
    user_role: UserRole | UnsetType = UNSET
    organizations: list[str] | UnsetType | None = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET


class DeleteUsers(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /user/delete`."""

    user_ids: list[str]
