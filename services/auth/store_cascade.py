"""What is left to end below scopes that were deleted, as a query: after a crash as before it.

Every method raises StoreUnavailable when the database does not answer.
"""

from typing import Literal

import msgspec

from services.auth.store_database import Database, rows


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """A living team or key below something that was deleted by `actor`."""

    kind: Literal["team", "key"]
    scope_id: str
    below: Literal["team", "org"]
    below_id: str
    actor: str


class CascadeViews:
    """Reads of the present state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def orphans(self, *, limit: int) -> list[Orphan]:
        """Some of them, teams first; what is below an organization and a team is named below the organization."""
        async with self._database.connection() as connection:
            found = await rows(connection, _ORPHANS, limit)
        return [msgspec.convert(dict(row), Orphan) for row in found]


_ORPHANS = (
    "SELECT 'team' AS kind, t.team_id AS scope_id, 'org' AS below, o.org_id AS below_id,"
    " o.body ->> 'updated_by' AS actor FROM org_view o JOIN team_view t ON t.org_id = o.org_id"
    " AND t.deleted_at IS NULL WHERE o.deleted_at IS NOT NULL"
    " UNION ALL SELECT 'key', k.key_id, 'org', o.org_id, o.body ->> 'updated_by' FROM org_view o"
    " JOIN key_view k ON k.org_id = o.org_id AND k.deleted_at IS NULL WHERE o.deleted_at IS NOT NULL"
    " UNION ALL SELECT 'key', k.key_id, 'team', t.team_id, t.body ->> 'updated_by' FROM team_view t"
    " JOIN org_view o ON o.org_id = t.org_id AND o.deleted_at IS NULL"
    " JOIN key_view k ON k.team_id = t.team_id AND k.deleted_at IS NULL WHERE t.deleted_at IS NOT NULL LIMIT $1"
)
