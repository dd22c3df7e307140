"""A pool of connections with explicit bounds that may come late or go away, and its errors in our words."""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from shared.errors import SettingsError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from asyncpg import Connection, Pool

    Pg = Pool
    PgConnection = Connection

POOL_MIN = 1
POOL_MAX = 8
CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30
ACQUIRE_TIMEOUT_S = 5
AWAY_WORD = "does not answer"

UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
"""What asyncpg raises when the database is away; stores map these to StoreUnavailable."""

AWAY = (
    *UNAVAILABLE,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""Errors that pass, some when somebody repairs the database: the same work is to be tried again."""


@contextmanager
def mapped(what: str) -> Generator[None, None, None]:
    """Errors of asyncpg as errors of ours; `what` is what Postgres refused."""
    try:
        yield
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise SettingsError(f"the Postgres URL cannot be read: {error}") from error
    except UNAVAILABLE as error:
        raise StoreUnavailable(f"Postgres cannot be reached: {error!r}") from error
    except asyncpg.PostgresError as error:
        raise StoreError(f"Postgres refuses {what}: {error}") from error


async def open_pool(url: str, *, schema: str, name: str, command_timeout_s: float = COMMAND_TIMEOUT_S) -> "Pg":
    """A pool whose connections find tables in `schema`. Raises StoreUnavailable, StoreError, SettingsError."""
    with mapped("the database"):
        return await asyncpg.create_pool(
            url,
            min_size=POOL_MIN,
            max_size=POOL_MAX,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout_s,
            max_inactive_connection_lifetime=60,
            server_settings={
                "search_path": schema,
                "application_name": name,
                "idle_in_transaction_session_timeout": "30000",
                "timezone": "UTC",
            },
        )


class Database:
    """A pool whose connections see one schema; `table` is one of its tables, by which it is known to be migrated.

    `problem` says in a few words (anybody may read the health page) what is wrong with it, None if nothing is.
    """

    def __init__(self, url: str, *, schema: str, name: str, table: str, command_timeout_s: float) -> None:
        self._url = url
        self._schema = schema
        self._name = name
        self._table = table
        self._command_timeout_s = command_timeout_s
        self._pool: Pg | None = None
        self.problem: str | None = "not connected yet"

    async def open(self) -> None:
        """Connect if need be, and look for the tables. Raises StoreUnavailable; call it again then."""
        if self._pool is None:
            try:
                self._pool = await open_pool(
                    self._url, schema=self._schema, name=self._name, command_timeout_s=self._command_timeout_s
                )
            except (StoreError, SettingsError) as error:
                self.problem = AWAY_WORD
                raise StoreUnavailable(str(error)) from error
        async with self.connection() as connection:
            await value(connection, f"SELECT 1 FROM {self._table} LIMIT 1")

    def close(self) -> None:
        """Drop the connections; what was not committed is rolled back."""
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
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            self.problem = "the tables are missing or of an older version: run `tundish migrate`"
            raise StoreUnavailable(f"Postgres: {self.problem}") from error
        self.problem = None


async def rows(connection: "PgConnection", query: str, *arguments: object) -> list[Mapping[str, Any]]:
    """The rows of a query, within the pool's time for a statement."""
    return await connection.fetch(query, *arguments)  # pyright: ignore


async def value(connection: "PgConnection", query: str, *arguments: object) -> Any:
    """The first value of a query's first row, None if there is none."""
    return await connection.fetchval(query, *arguments)  # pyright: ignore


async def execute(connection: "PgConnection", query: str, *arguments: object) -> None:
    """Run a statement."""
    await connection.execute(query, *arguments)
