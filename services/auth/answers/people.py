"""Answers about users and members, with LiteLLM's names."""

from datetime import datetime

import msgspec

from services.auth.answers.keys import KeyRow
from services.auth.answers.revocations import FleetAnswer
from services.auth.answers.scopes import TeamAnswer, TeamRow


class UserRow(msgspec.Struct, kw_only=True):
    """A user. `organizations` are those that they belong to directly, as far as whoever asks may see them.

    Whoever does not reach everywhere, or an organization that the user belongs to directly, gets the id, the address if
    whoever added the user to the team knew it, and null for all else.
    """

    user_id: str
    user_email: str | None
    user_alias: str | None = None
    user_role: str | None = None
    organizations: list[str] | None = None
    metadata: dict[str, object] | None = None
    created_at: datetime | None = None
    created_by: str | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None


class UserTeam(msgspec.Struct, kw_only=True):
    """A team of a user, and what they are in it."""

    team_id: str
    team_alias: str | None
    organization_id: str
    role: str


class NewUserAnswer(UserRow, kw_only=True):
    """A new user with the key that was made along (null when none was); `key` is its secret, never shown again,
    and `team_id` the team of the key."""

    teams: list[str]
    key: str | None = None
    token_id: str | None = None
    token: str | None = None
    key_name: str | None = None
    key_alias: str | None = None
    key_type: str | None = None
    team_id: str | None = None
    expires: datetime | None = None
    warnings: list[str] = msgspec.field(default_factory=list[str])


class UserAnswer(msgspec.Struct, kw_only=True):
    """A user after a change; `deleted_keys` are those that they may not have any more."""

    user_id: str
    data: UserRow
    deleted_keys: list[str] = msgspec.field(default_factory=list[str])
    warnings: list[str] = msgspec.field(default_factory=list[str])


class UserInfo(msgspec.Struct, kw_only=True):
    """`GET /user/info`; `keys` are the newest ones (see `GET /key/list` for all), without their spend."""

    user_id: str
    user_info: UserRow
    keys: list[KeyRow]
    teams: list[UserTeam]
    warnings: list[str] = msgspec.field(default_factory=list[str])


class UserList(msgspec.Struct, kw_only=True):
    """`GET /user/list`."""

    users: list[UserRow]
    total: int
    page: int
    page_size: int
    total_pages: int


class DeletedUsers(msgspec.Struct, kw_only=True):
    """`POST /user/delete`: who is gone, and the ids of the keys that died with them."""

    deleted_users: list[str]
    deleted_keys: list[str]
    fleet: FleetAnswer | None = None
    warnings: list[str] = msgspec.field(default_factory=list[str])


class MembersAnswer(TeamAnswer, kw_only=True):
    """A team after members were added; `updated_users` are those members."""

    updated_users: list[UserRow]


class MemberAnswer(msgspec.Struct, kw_only=True):
    """A member after a change; `deleted_keys` are those that they may not have any more."""

    team_id: str
    user_id: str
    user_email: str | None
    role: str
    deleted_keys: list[str] = msgspec.field(default_factory=list[str])
    fleet: FleetAnswer | None = None
    warnings: list[str] = msgspec.field(default_factory=list[str])


class RemovedMember(TeamRow, kw_only=True):
    """A team after a member was removed; `deleted_keys` are those keys of the team that were the member's."""

    deleted_keys: list[str]
    fleet: FleetAnswer | None = None
    warnings: list[str] = msgspec.field(default_factory=list[str])


class BulkResult(msgspec.Struct, kw_only=True):
    """What became of one member of a list."""

    user_id: str | None
    user_email: str | None
    success: bool
    error: str | None = None


class BulkMembers(msgspec.Struct, kw_only=True):
    """`POST /team/bulk_member_add`."""

    team_id: str
    results: list[BulkResult]
    total_requested: int
    successful_additions: int
    failed_additions: int
    warnings: list[str] = msgspec.field(default_factory=list[str])


class OrgMembers(msgspec.Struct, kw_only=True):
    """Users after they joined or left an organization."""

    organization_id: str
    updated_users: list[UserRow]
