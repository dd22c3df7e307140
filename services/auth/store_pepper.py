"""Which peppers are in use, counted in the database.

Every method raises StoreUnavailable when the database does not answer.
"""

from services.auth.store_database import Database, rows


class PepperStore:
    """Counts by label."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def living(self) -> dict[str, int]:
        """Label → living versions of secrets of living keys that stand under it."""
        return await self._counted(
            "SELECT s ->> 'label' AS label, count(*) AS n FROM key_view, jsonb_array_elements(body -> 'secrets') AS s"
            " WHERE deleted_at IS NULL AND s ->> 'retired_at' IS NULL GROUP BY 1"
        )

    async def sealed(self) -> dict[str, int]:
        """Label → plaintexts and answers that wait sealed under it. The label stands in front of a sealed text, after a
        byte for the format and one for its own length."""
        texts = "SELECT sealed FROM pending_secret UNION ALL SELECT seed FROM once UNION ALL SELECT answer FROM once"
        return await self._counted(
            "SELECT convert_from(substr(t.sealed, 3, get_byte(t.sealed, 1)), 'UTF8') AS label, count(*) AS n"
            f" FROM ({texts}) AS t(sealed) WHERE t.sealed IS NOT NULL AND length(t.sealed) > 2 GROUP BY 1"
        )

    async def _counted(self, query: str) -> dict[str, int]:
        async with self._database.connection() as connection:
            return {row["label"]: row["n"] for row in await rows(connection, query)}
