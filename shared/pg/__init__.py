"""PostgreSQL, behind one door: a keeper of connections, and numbered migrations."""

from typing import TYPE_CHECKING

from shared.pg.database import UNAVAILABLE, Database, execute, open_pool, rows, value
from shared.pg.migrations import migrate, migrations_of

if TYPE_CHECKING:
    from shared.pg.database import Pg, PgConnection

__all__ = [
    "UNAVAILABLE",
    "Database",
    "Pg",
    "PgConnection",
    "execute",
    "migrate",
    "migrations_of",
    "open_pool",
    "rows",
    "value",
]
