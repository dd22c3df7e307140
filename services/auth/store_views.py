"""The tables that answers are read from: written in the transaction of each append, one row per scope.

Every method raises StoreUnavailable when the database does not answer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from services.auth.domain.budget_object import Attached, BudgetState
from services.auth.domain.key_state import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.team import TeamState
from services.auth.domain.user import UserState
from services.auth.store_database import execute, rows, value
from services.auth.store_keys import KeyViews, show_key
from services.auth.store_people import show_members, show_user
from shared.policy import ScopeKind

if TYPE_CHECKING:
    from shared.pg import PgConnection

State = KeyState | TeamState | OrgState | BudgetState | UserState


class TeamFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which living teams a list shows; None: no matter. `user_id` is that of a member; `reach_*` narrow the list
    whatever it asks for."""

    org_id: str | None = None
    team_id: str | None = None
    alias: str | None = None
    user_id: str | None = None
    reach_org: str | None = None
    reach_team: str | None = None


class Follower(msgspec.Struct, frozen=True, kw_only=True):
    """A scope that follows an older version of its budget object."""

    kind: ScopeKind
    scope_id: str
    budget_id: str


class Views(KeyViews):
    """Reads of the present state."""

    async def org(self, org_id: str) -> OrgState | None:
        """An organization, living or deleted."""
        body = await self._value("SELECT body FROM org_view WHERE org_id = $1", org_id)
        return None if body is None else msgspec.json.decode(body, type=OrgState)

    async def team(self, team_id: str) -> TeamState | None:
        """A team, living or deleted."""
        body = await self._value("SELECT body FROM team_view WHERE team_id = $1", team_id)
        return None if body is None else msgspec.json.decode(body, type=TeamState)

    async def teams(self, wanted: TeamFilter, *, page: int, size: int) -> tuple[list[TeamState], int]:
        """(living teams of a page, oldest first; how many there are in all)."""
        arguments = (
            wanted.org_id,
            wanted.team_id,
            wanted.alias,
            wanted.user_id,
            wanted.reach_org,
            wanted.reach_team,
        )
        async with self._database.connection() as connection:
            total: int = await value(connection, f"SELECT count(*) FROM team_view t WHERE {_TEAMS}", *arguments)
            found = await rows(
                connection,
                f"SELECT body FROM team_view t WHERE {_TEAMS} ORDER BY created_at, team_id LIMIT $7 OFFSET $8",
                *arguments,
                size,
                (page - 1) * size,
            )
        return [msgspec.json.decode(row["body"], type=TeamState) for row in found], total

    async def orgs(self, org_id: str | None, *, limit: int) -> list[OrgState]:
        """Living organizations (the one of an id if it is named), oldest first."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT body FROM org_view WHERE deleted_at IS NULL AND ($1::text IS NULL OR org_id = $1)"
                " ORDER BY created_at, org_id LIMIT $2",
                org_id,
                limit,
            )
        return [msgspec.json.decode(row["body"], type=OrgState) for row in found]

    # ---- budget objects ------------------------------------------------------------------------------

    async def budget(self, budget_id: str) -> BudgetState | None:
        """A budget object."""
        body = await self._value("SELECT body FROM budget_view WHERE budget_id = $1", budget_id)
        return None if body is None else msgspec.json.decode(body, type=BudgetState)

    async def budgets(self, ids: Sequence[str] | None, *, limit: int) -> list[BudgetState]:
        """Budget objects, those of some ids or all, oldest first."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT body FROM budget_view WHERE $1::text[] IS NULL OR budget_id = ANY($1)"
                " ORDER BY created_at, budget_id LIMIT $2",
                None if ids is None else list(ids),
                limit,
            )
        return [msgspec.json.decode(row["body"], type=BudgetState) for row in found]

    async def attached(self, ids: Sequence[str]) -> dict[str, Attached]:
        """What each of some budget objects is attached to."""
        async with self._database.connection() as connection:
            found = await rows(connection, _ATTACHED, list(ids))
        return {row["budget_id"]: msgspec.convert(dict(row), Attached) for row in found}

    async def followers(self, budget_id: str | None, *, limit: int) -> list[Follower]:
        """Scopes that follow an older version of their budget object (of one object if it is named)."""
        async with self._database.connection() as connection:
            found = await rows(connection, _FOLLOWERS, budget_id, limit)
        return [msgspec.convert(dict(row), Follower) for row in found]


async def show(connection: "PgConnection", state: State, version: int) -> None:
    """Write a scope's row: what its stream leads to at that version."""
    body = msgspec.json.encode(state).decode()
    match state:
        case OrgState():
            await execute(
                connection,
                "INSERT INTO org_view (org_id, alias, created_at, deleted_at, body, budget_id, budget_version)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id) DO UPDATE SET"
                " alias = CASE WHEN org_view.body ->> 'alias' = excluded.alias THEN org_view.alias"
                " ELSE excluded.alias END, deleted_at = excluded.deleted_at, body = excluded.body,"
                " budget_id = excluded.budget_id, budget_version = excluded.budget_version",
                state.org_id,
                state.alias,
                state.created_at,
                state.deleted_at,
                body,
                None if state.deleted_at is not None else state.budget_id,
                state.budget_version,
            )
        case TeamState():
            await execute(
                connection,
                "INSERT INTO team_view (team_id, org_id, alias, created_at, deleted_at, body, budget_id,"
                " budget_version, default_key_budget_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
                " ON CONFLICT (team_id) DO UPDATE SET alias = excluded.alias, deleted_at = excluded.deleted_at,"
                " body = excluded.body, budget_id = excluded.budget_id, budget_version = excluded.budget_version,"
                " default_key_budget_id = excluded.default_key_budget_id",
                state.team_id,
                state.org_id,
                state.alias,
                state.created_at,
                state.deleted_at,
                body,
                None if state.deleted_at is not None else state.budget_id,
                state.budget_version,
                None if state.deleted_at is not None else state.default_key_budget_id,
            )
            await show_members(connection, state)
        case KeyState():
            await show_key(connection, state, version)
        case UserState():
            await show_user(connection, state, body)
        case BudgetState():
            await _show_budget(connection, state, body)


async def _show_budget(connection: "PgConnection", state: BudgetState, body: str) -> None:
    if state.removed:
        await execute(connection, "DELETE FROM budget_view WHERE budget_id = $1", state.budget_id)
        return
    await execute(
        connection,
        "INSERT INTO budget_view (budget_id, version, created_at, body) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (budget_id) DO UPDATE SET version = excluded.version, body = excluded.body",
        state.budget_id,
        state.version,
        state.created_at,
        body,
    )


_TEAMS = (
    "t.deleted_at IS NULL AND ($1::text IS NULL OR t.org_id = $1) AND ($2::text IS NULL OR t.team_id = $2)"
    " AND ($3::text IS NULL OR t.alias = $3) AND ($4::text IS NULL OR EXISTS"
    " (SELECT 1 FROM member_view m WHERE m.team_id = t.team_id AND m.user_id = $4))"
    " AND ($5::text IS NULL OR t.org_id = $5) AND ($6::text IS NULL OR t.team_id = $6)"
)
_NAMED = (
    "SELECT 'key' AS kind, key_id AS scope_id, budget_id, budget_version FROM key_view WHERE budget_id IS NOT NULL"
    " UNION ALL SELECT 'team', team_id, budget_id, budget_version FROM team_view WHERE budget_id IS NOT NULL"
    " UNION ALL SELECT 'org', org_id, budget_id, budget_version FROM org_view WHERE budget_id IS NOT NULL"
)
_FOLLOWERS = (
    f"SELECT s.kind, s.scope_id, s.budget_id FROM ({_NAMED}) s JOIN budget_view b USING (budget_id)"
    " WHERE s.budget_version < b.version AND ($1::text IS NULL OR b.budget_id = $1) LIMIT $2"
)
_ATTACHED = (
    "SELECT b.budget_id, count(*) FILTER (WHERE s.kind = 'key') AS keys, count(*) FILTER (WHERE s.kind = 'team') AS"
    " teams, count(*) FILTER (WHERE s.kind = 'org') AS organizations,"
    " (SELECT count(*) FROM team_view t WHERE t.default_key_budget_id = b.budget_id) AS default_of_teams,"
    " count(*) FILTER (WHERE s.budget_version < b.version) AS behind"
    f" FROM budget_view b LEFT JOIN ({_NAMED}) s USING (budget_id) WHERE b.budget_id = ANY($1::text[])"
    " GROUP BY b.budget_id"
)
