"""The tables that answers are read from: written in the transaction of each append, one row per scope.

Every method raises StoreUnavailable when the database does not answer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from services.auth.domain.budget_object import Attached, BudgetState
from services.auth.domain.key import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.team import TeamState
from services.auth.store_database import Database, execute, rows, value
from shared.events import KeySecretMinted
from shared.ids import KeyId
from shared.policy import ScopeKind

if TYPE_CHECKING:
    from shared.pg import PgConnection

State = KeyState | TeamState | OrgState | BudgetState


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which living keys a list shows; None: no matter."""

    team_id: str | None = None
    org_id: str | None = None
    alias: str | None = None


class Follower(msgspec.Struct, frozen=True, kw_only=True):
    """A scope that follows an older version of its budget object."""

    kind: ScopeKind
    scope_id: str
    budget_id: str


class Views:
    """Reads of the present state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def org(self, org_id: str) -> OrgState | None:
        """An organization."""
        body = await self._value("SELECT body FROM org_view WHERE org_id = $1", org_id)
        return None if body is None else msgspec.json.decode(body, type=OrgState)

    async def team(self, team_id: str) -> TeamState | None:
        """A team."""
        body = await self._value("SELECT body FROM team_view WHERE team_id = $1", team_id)
        return None if body is None else msgspec.json.decode(body, type=TeamState)

    async def key(self, key_id: str) -> KeyState | None:
        """A key, living or deleted."""
        body = await self._value("SELECT body FROM key_view WHERE key_id = $1", key_id)
        return None if body is None else msgspec.json.decode(body, type=KeyState)

    async def key_of_alias(self, alias: str) -> KeyId | None:
        """The living key of an alias."""
        found = await self._value("SELECT key_id FROM key_view WHERE alias = $1 AND deleted_at IS NULL", alias)
        return None if found is None else KeyId(found)

    async def key_of_digest(self, digests: Sequence[str]) -> KeyId | None:
        """The key, living or deleted, that has a secret with one of these hashes."""
        found = await self._value(
            "SELECT key_id FROM secret_view WHERE digest = ANY($1::text[]) LIMIT 1", list(digests)
        )
        return None if found is None else KeyId(found)

    async def keys(self, wanted: KeyFilter, *, page: int, size: int) -> tuple[list[KeyState], int]:
        """(living keys of a page, newest first; how many there are in all)."""
        where = (
            "deleted_at IS NULL AND ($1::text IS NULL OR team_id = $1)"
            " AND ($2::text IS NULL OR org_id = $2) AND ($3::text IS NULL OR alias = $3)"
        )
        arguments = (wanted.team_id, wanted.org_id, wanted.alias)
        order = "ORDER BY created_at DESC, key_id DESC LIMIT $4 OFFSET $5"
        async with self._database.connection() as connection:
            total: int = await value(connection, f"SELECT count(*) FROM key_view WHERE {where}", *arguments)
            found = await rows(
                connection,
                f"SELECT body FROM key_view WHERE {where} {order}",
                *arguments,
                size,
                (page - 1) * size,
            )
        return [msgspec.json.decode(row["body"], type=KeyState) for row in found], total

    async def teams(self, org_id: str | None, *, limit: int) -> list[TeamState]:
        """Teams, of one organization if it is named, oldest first."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT body FROM team_view WHERE $1::text IS NULL OR org_id = $1"
                " ORDER BY created_at, team_id LIMIT $2",
                org_id,
                limit,
            )
        return [msgspec.json.decode(row["body"], type=TeamState) for row in found]

    async def orgs(self, *, limit: int) -> list[OrgState]:
        """Organizations, oldest first."""
        async with self._database.connection() as connection:
            found = await rows(connection, "SELECT body FROM org_view ORDER BY created_at, org_id LIMIT $1", limit)
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

    async def _value(self, query: str, argument: object) -> str | None:
        async with self._database.connection() as connection:
            return await value(connection, query, argument)


async def show(connection: "PgConnection", state: State) -> None:
    """Write a scope's row."""
    body = msgspec.json.encode(state).decode()
    match state:
        case OrgState():
            await execute(
                connection,
                "INSERT INTO org_view (org_id, created_at, body, budget_id, budget_version) VALUES ($1, $2, $3, $4, $5)"
                " ON CONFLICT (org_id) DO UPDATE SET body = excluded.body,"
                " budget_id = excluded.budget_id, budget_version = excluded.budget_version",
                state.org_id,
                state.created_at,
                body,
                state.budget_id,
                state.budget_version,
            )
        case TeamState():
            await execute(
                connection,
                "INSERT INTO team_view (team_id, org_id, alias, created_at, body, budget_id, budget_version,"
                " default_key_budget_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
                " ON CONFLICT (team_id) DO UPDATE SET alias = excluded.alias, body = excluded.body,"
                " budget_id = excluded.budget_id, budget_version = excluded.budget_version,"
                " default_key_budget_id = excluded.default_key_budget_id",
                state.team_id,
                state.org_id,
                state.alias,
                state.created_at,
                body,
                state.budget_id,
                state.budget_version,
                state.default_key_budget_id,
            )
        case KeyState():
            await execute(
                connection,
                "INSERT INTO key_view (key_id, org_id, team_id, alias, created_at, deleted_at, body, budget_id,"
                " budget_version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (key_id) DO UPDATE SET"
                " alias = excluded.alias, deleted_at = excluded.deleted_at, body = excluded.body,"
                " budget_id = excluded.budget_id, budget_version = excluded.budget_version",
                state.key_id,
                state.org_id,
                state.team_id,
                state.alias,
                state.created_at,
                state.deleted_at,
                body,
                None if state.deleted_at is not None else state.budget_id,
                state.budget_version,
            )
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


async def show_secret(connection: "PgConnection", event: KeySecretMinted) -> None:
    """Write the row by which a secret's key is found."""
    await execute(
        connection,
        "INSERT INTO secret_view (label, digest, key_id, version) VALUES ($1, $2, $3, $4)",
        event.label,
        event.digest,
        event.key_id,
        event.version,
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
