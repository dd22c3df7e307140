"""The connection of auth to Postgres: a pool that may come late or go away, and its errors in our words."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from shared.errors import SettingsError, StoreError, StoreUnavailable
from shared.pg import UNAVAILABLE, open_pool

if TYPE_CHECKING:
    from shared.pg import Pg, PgConnection

SCHEMA = "auth"
ACQUIRE_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 5
AWAY_WORD = "does not answer"

AWAY = (
    *UNAVAILABLE,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""Errors that pass when somebody repairs the database: the work is to be tried again later."""


class Database:
    """A pool whose connections see the schema `auth`.

    `problem` says in a few words (anybody may read the health page) what is wrong with it, None if nothing is.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Pg | None = None
        self.problem: str | None = "not connected yet"

    async def open(self) -> None:
        """Connect and look for the schema. Raises StoreUnavailable; call it again then."""
        if self._pool is None:
            try:
                self._pool = await open_pool(self._url, schema=SCHEMA, name="tundish-auth")
            except (StoreError, SettingsError) as error:
                self.problem = AWAY_WORD
                raise StoreUnavailable(str(error)) from error
        async with self.connection() as connection:
            await value(connection, "SELECT 1 FROM event LIMIT 1")

    def close(self) -> None:
        """Drop the connections; nothing is in flight any more when this is called."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> "AsyncGenerator[PgConnection, None]":
        """A connection of the pool. Raises StoreUnavailable when the database is away or not migrated."""
        if self._pool is None:
            raise StoreUnavailable("Postgres: not connected yet")
        try:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:  # pyright: ignore
                yield connection  # pyright: ignore
        except AWAY as error:
            self.problem = AWAY_WORD
            raise StoreUnavailable(f"Postgres does not answer: {error!r}") from error
        except asyncpg.UndefinedTableError as error:
            self.problem = "the tables are missing: run `tundish migrate`"
            raise StoreUnavailable(f"Postgres: {self.problem}") from error
        self.problem = None


async def rows(connection: "PgConnection", query: str, *arguments: object) -> list[Mapping[str, Any]]:
    """The rows of a query, within the time of a statement."""
    return await connection.fetch(query, *arguments, timeout=STATEMENT_TIMEOUT_S)  # pyright: ignore


async def value(connection: "PgConnection", query: str, *arguments: object) -> Any:
    """The first value of a query's first row, None if there is none."""
    return await connection.fetchval(query, *arguments, timeout=STATEMENT_TIMEOUT_S)  # pyright: ignore


async def execute(connection: "PgConnection", query: str, *arguments: object) -> None:
    """Run a statement."""
    await connection.execute(query, *arguments, timeout=STATEMENT_TIMEOUT_S)
