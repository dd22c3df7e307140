"""Users, who belongs to which team, and whose keys are whose, as they are read.

Every method raises StoreUnavailable when the database does not answer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from services.auth.domain.user import UserState
from services.auth.store_database import Database, execute, rows, value
from shared.events import MemberRole, UserRole
from shared.ids import KeyId, OrgId, TeamId, UserId
from shared.policy import Reach, Role

if TYPE_CHECKING:
    from services.auth.domain.team import TeamState
    from shared.pg import PgConnection

OWNED_MAX = 10_000
"""Keys of one user that are looked at together."""


class UserFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which living users a list shows; None: no matter. `email` is part of the address; `reach_*` narrow to those who
    belong to an organization or to a team. Then a filter asks only about what is shown of them."""

    user_ids: Sequence[str] | None = None
    role: str | None = None
    email: str | None = None
    team_id: str | None = None
    reach_org: str | None = None
    reach_team: str | None = None


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A user in a living team."""

    team_id: TeamId
    org_id: OrgId
    alias: str | None
    role: MemberRole


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A living key that belongs to a user, and what is known of the user; `member_role` in the key's team."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None
    role: Role | None
    reach: Reach | None
    user_id: UserId
    user_role: UserRole
    user_deleted: bool
    member_role: MemberRole | None
    changed_by: str


class Ghost(msgspec.Struct, frozen=True, kw_only=True):
    """A membership of a user who was deleted."""

    team_id: TeamId
    user_id: UserId
    changed_by: str


class PeopleViews:
    """Reads of the present state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def user(self, user_id: str) -> UserState | None:
        """A user, living or deleted."""
        return await self._user("SELECT body FROM user_view WHERE user_id = $1", user_id)

    async def user_of_email(self, email: str) -> UserState | None:
        """The living user of an address, in whatever case it is written."""
        return await self._user(
            "SELECT body FROM user_view WHERE lower(email) = lower($1) AND deleted_at IS NULL", email
        )

    async def users_of(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        """Living users by their ids."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT body FROM user_view WHERE user_id = ANY($1::text[]) AND deleted_at IS NULL",
                list(user_ids),
            )
        states = [msgspec.json.decode(row["body"], type=UserState) for row in found]
        return {state.user_id: state for state in states}

    async def users(self, wanted: UserFilter, *, page: int, size: int) -> tuple[list[UserState], int]:
        """(living users of a page, newest first; how many there are in all)."""
        ids = None if wanted.user_ids is None else list(wanted.user_ids)
        arguments = (ids, wanted.role, wanted.email, wanted.team_id, wanted.reach_org, wanted.reach_team)
        async with self._database.connection() as connection:
            total: int = await value(connection, f"SELECT count(*) FROM user_view u WHERE {_USERS}", *arguments)
            found = await rows(
                connection,
                f"SELECT body FROM user_view u WHERE {_USERS}"
                " ORDER BY created_at DESC, user_id DESC LIMIT $7 OFFSET $8",
                *arguments,
                size,
                (page - 1) * size,
            )
        return [msgspec.json.decode(row["body"], type=UserState) for row in found], total

    async def teams_of(self, user_id: str) -> list[Membership]:
        """The living teams of a user."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT t.team_id, t.org_id, t.alias, m.role FROM member_view m JOIN team_view t USING (team_id)"
                " WHERE m.user_id = $1 AND t.deleted_at IS NULL ORDER BY t.created_at, t.team_id",
                user_id,
            )
        return [msgspec.convert(dict(row), Membership) for row in found]

    async def addressed(self, user_ids: Sequence[str], org_id: str, team_id: str | None) -> frozenset[str]:
        """Those of some users whose address was known to whoever added them to a living team of an organization (to
        one team, if it is named)."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                f"SELECT u.user_id FROM unnest($1::text[]) AS u (user_id) WHERE {_ADDRESSED.format(2, 3)}",
                list(user_ids),
                org_id,
                team_id,
            )
        return frozenset(row["user_id"] for row in found)

    async def member_role(self, team_id: str, user_id: str) -> MemberRole | None:
        """What a user is in a team; None for no member."""
        async with self._database.connection() as connection:
            return await value(
                connection, "SELECT role FROM member_view WHERE team_id = $1 AND user_id = $2", team_id, user_id
            )

    async def keys_of(self, user_id: str, team_id: str | None = None) -> list[Owned]:
        """The living keys of a user, those of one team if it is named."""
        return await self._owned(
            f"{_OWNED} AND k.user_id = $1 AND ($2::text IS NULL OR k.team_id = $2) LIMIT $3",
            user_id,
            team_id,
            OWNED_MAX,
        )

    async def strays(self, *, limit: int) -> list[Owned]:
        """Living keys that are more than their owner may have: the owner is gone, no member any more, or may not have
        the key's role."""
        return await self._owned(
            f"{_OWNED} AND (u.deleted_at IS NOT NULL OR (k.team_id IS NOT NULL AND m.user_id IS NULL)"
            " OR (k.role <> 'viewer' AND u.role <> 'proxy_admin' AND NOT (u.role = 'internal_user'"
            " AND k.role = 'team_admin' AND k.reach = 'team'"
            " AND coalesce(m.role, '') = 'admin'))) LIMIT $1",
            limit,
        )

    async def ghosts(self, *, limit: int) -> list[Ghost]:
        """Memberships in living teams of users who were deleted."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT m.team_id, m.user_id, u.body ->> 'updated_by' AS changed_by FROM user_view u JOIN member_view m"
                " USING (user_id) WHERE u.deleted_at IS NOT NULL LIMIT $1",
                limit,
            )
        return [msgspec.convert(dict(row), Ghost) for row in found]

    async def _user(self, query: str, argument: str) -> UserState | None:
        async with self._database.connection() as connection:
            body = await value(connection, query, argument)
        return None if body is None else msgspec.json.decode(body, type=UserState)

    async def _owned(self, query: str, *arguments: object) -> list[Owned]:
        async with self._database.connection() as connection:
            found = await rows(connection, query, *arguments)
        return [msgspec.convert(dict(row), Owned) for row in found]


async def show_user(connection: "PgConnection", state: UserState, body: str) -> None:
    """Write a user's row."""
    await execute(
        connection,
        "INSERT INTO user_view (user_id, email, role, orgs, created_at, deleted_at, body)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_id) DO UPDATE SET email = excluded.email,"
        " role = excluded.role, orgs = excluded.orgs, deleted_at = excluded.deleted_at, body = excluded.body",
        state.user_id,
        state.email,
        state.role,
        list(state.orgs),
        state.created_at,
        state.deleted_at,
        body,
    )


async def show_members(connection: "PgConnection", state: "TeamState") -> None:
    """Write who belongs to a team."""
    users = [member.user_id for member in state.members]
    await execute(
        connection,
        "DELETE FROM member_view WHERE team_id = $1 AND NOT user_id = ANY($2::text[])",
        state.team_id,
        users,
    )
    if not users:
        return
    await execute(
        connection,
        "INSERT INTO member_view (team_id, user_id, role, address_known)"
        " SELECT $1, m.* FROM unnest($2::text[], $3::text[], $4::boolean[]) AS m"
        " ON CONFLICT (team_id, user_id) DO UPDATE SET role = excluded.role, address_known = excluded.address_known"
        " WHERE (member_view.role, member_view.address_known) <> (excluded.role, excluded.address_known)",
        state.team_id,
        users,
        [member.role for member in state.members],
        [member.address_known for member in state.members],
    )


_ADDRESSED = (
    "EXISTS (SELECT 1 FROM member_view m JOIN team_view t USING (team_id) WHERE m.user_id = u.user_id"
    " AND m.address_known AND t.deleted_at IS NULL AND t.org_id = ${0} AND (${1}::text IS NULL OR t.team_id = ${1}))"
)
_SEEN = "($5::text IS NULL OR ($6::text IS NULL AND u.orgs @> ARRAY[$5]))"
"""Whether all of a user is shown: see `services.auth.rows.people.sees`."""
_USERS = (
    "u.deleted_at IS NULL AND ($1::text[] IS NULL OR u.user_id = ANY($1))"
    f" AND ($2::text IS NULL OR (u.role = $2 AND {_SEEN}))"
    " AND ($3::text IS NULL OR (position(lower($3) in lower(u.email)) > 0"
    f"  AND ({_SEEN} OR {_ADDRESSED.format(5, 6)})))"
    " AND ($4::text IS NULL OR EXISTS (SELECT 1 FROM member_view m JOIN team_view t USING (team_id)"
    "  WHERE m.user_id = u.user_id AND m.team_id = $4 AND ($5::text IS NULL OR t.org_id = $5)"
    "  AND ($6::text IS NULL OR t.team_id = $6)))"
    " AND ($5::text IS NULL OR $6::text IS NOT NULL OR u.orgs @> ARRAY[$5] OR EXISTS (SELECT 1 FROM member_view m"
    " JOIN team_view t USING (team_id) WHERE m.user_id = u.user_id AND t.org_id = $5))"
    " AND ($6::text IS NULL OR EXISTS (SELECT 1 FROM member_view m WHERE m.user_id = u.user_id AND m.team_id = $6))"
)
_OWNED = (
    "SELECT k.key_id, k.org_id, k.team_id, k.role, k.reach, u.user_id,"
    " u.role AS user_role, u.deleted_at IS NOT NULL AS user_deleted, m.role AS member_role,"
    " u.body ->> 'updated_by' AS changed_by"
    " FROM key_view k JOIN user_view u ON u.user_id = k.user_id"
    " LEFT JOIN member_view m ON m.team_id = k.team_id AND m.user_id = u.user_id"
    " WHERE k.deleted_at IS NULL AND k.user_id IS NOT NULL"
)
