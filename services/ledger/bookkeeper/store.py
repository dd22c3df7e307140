"""The books in Postgres: a pool that may come late or go away, and the one transaction that writes events.

An event is stored if neither its id nor its number is there already; only what was stored is added to the
balances, and the checkpoint moves in the same transaction. So a batch may be delivered any number of times.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import msgspec

from services.ledger.bookkeeper import store_rows
from services.ledger.bookkeeper.store_rows import Row
from services.ledger.domain.books import Books, entry_of, fold
from services.ledger.domain.usage import Unreadable
from shared.errors import SettingsError, StoreError, StoreUnavailable, StreamChanged
from shared.pg import UNAVAILABLE, open_pool
from shared.topology import LEDGER

if TYPE_CHECKING:
    from shared.pg import Pg, PgConnection

SCHEMA = "ledger"
ACQUIRE_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 30

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
"""Errors that pass: the same work is to be tried again."""


class Unstorable(StoreError):
    """Postgres refuses the data itself; trying again does not help."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream is folded, and which stream of that name it was."""

    created: str
    seq: int


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of one message: an event to store with what its price gives, or something unreadable."""

    seq: int
    subject: str
    event: Row | None = None
    bad: Unreadable | None = None


class Database:
    """A pool whose connections see the schema `ledger`. `problem` says what is wrong with it, None if nothing is."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Pg | None = None
        self.problem: str | None = "not connected yet"

    async def open(self) -> None:
        """Connect if need be, and look for the tables. Raises StoreUnavailable; call it again then."""
        if self._pool is None:
            try:
                self._pool = await open_pool(self._url, schema=SCHEMA, name="tundish-ledger")
            except (StoreError, SettingsError) as error:
                self.problem = "does not answer"
                raise StoreUnavailable(str(error)) from error
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1 FROM checkpoint LIMIT 1", timeout=STATEMENT_TIMEOUT_S)  # pyright: ignore

    def close(self) -> None:
        """Drop the connections; what was not committed is rolled back and delivered again."""
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
            self.problem = "does not answer"
            raise StoreUnavailable(f"Postgres does not answer: {error!r}") from error
        except asyncpg.UndefinedTableError as error:
            self.problem = "the tables are missing: run `tundish migrate`"
            raise StoreUnavailable(f"Postgres: {self.problem}") from error
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise Unstorable(f"Postgres refuses the data: {error}") from error
        self.problem = None


async def rows(connection: "PgConnection", query: str, *arguments: object) -> list[Mapping[str, Any]]:
    """The rows of a query."""
    return await connection.fetch(query, *arguments, timeout=STATEMENT_TIMEOUT_S)  # pyright: ignore


async def execute(connection: "PgConnection", query: str, *arguments: object) -> None:
    """Run a statement."""
    await connection.execute(query, *arguments, timeout=STATEMENT_TIMEOUT_S)


async def position(database: Database) -> Position | None:
    """Where the books stand; None for empty books."""
    async with database.connection() as connection:
        found = await rows(connection, "SELECT stream_created, seq FROM checkpoint WHERE stream = $1", LEDGER)
    return None if not found else Position(created=found[0]["stream_created"], seq=found[0]["seq"])


async def commit(database: Database, items: Sequence[Item], reached: Position) -> int:
    """Store what is new in `items` and move the checkpoint; how many events were new.

    Raises StoreUnavailable (nothing was stored, or the outcome is unknown: repeat), StreamChanged when the books
    belong to another stream of this name, Unstorable.
    """
    async with database.connection() as connection, connection.transaction():
        fresh = await insert_events(
            connection, "usage_event", [(item.seq, item.event) for item in items if item.event is not None]
        )
        await add_balances(connection, fold(Books(), (entry_of(row.event) for row in fresh)))
        await _insert_dead(connection, reached.created, [item for item in items if item.bad is not None])
        moved = await rows(
            connection,
            "INSERT INTO checkpoint (stream, stream_created, seq) VALUES ($1, $2, $3)"
            " ON CONFLICT (stream) DO UPDATE SET seq = greatest(checkpoint.seq, excluded.seq)"
            " WHERE checkpoint.stream_created = excluded.stream_created RETURNING seq",
            LEDGER,
            reached.created,
            reached.seq,
        )
        if not moved:
            raise StreamChanged(
                f"the books were kept from another stream {LEDGER} than the one that is there now: restore the"
                " stream, or empty the schema `ledger` to keep new books"
            )
    return len(fresh)


async def insert_events(connection: "PgConnection", table: str, found: Sequence[tuple[int, Row]]) -> list[Row]:
    """Store events that are not there yet; those that were new."""
    if not found:
        return []
    ids = store_rows.ids([row for _, row in found])
    columns = store_rows.columns(ids, found)
    answer = await rows(connection, store_rows.insert_sql(table), *columns)
    new: set[UUID] = {row["event_id"] for row in answer}
    if len(new) < len(found):  # a repetition: the row keeps the earliest place in the log
        again = [(event_id, seq) for event_id, (seq, _) in zip(ids, found, strict=True) if event_id not in new]
        await execute(
            connection,
            f"UPDATE {table} SET stream_seq = again.seq FROM unnest($1::uuid[], $2::bigint[]) AS again (id, seq)"
            f" WHERE event_id = again.id AND stream_seq > again.seq",
            [event_id for event_id, _ in again],
            [seq for _, seq in again],
        )
    fresh: list[Row] = []
    for event_id, (_, row) in zip(ids, found, strict=True):
        if event_id in new:
            new.remove(event_id)  # twice in one batch is still one event
            fresh.append(row)
    return fresh


async def add_balances(connection: "PgConnection", books: Books) -> None:
    """Add to totals and account-windows, in a fixed order of rows so that two writers cannot block each other."""
    scopes = sorted(books.totals)
    if scopes:
        totals = [books.totals[scope] for scope in scopes]
        await execute(
            connection,
            "INSERT INTO spend (scope_kind, scope_id, total_nusd, calls, input_tokens, output_tokens, last_at)"
            " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],"
            " $7::timestamptz[])"
            " ON CONFLICT (scope_kind, scope_id) DO UPDATE SET total_nusd = spend.total_nusd + excluded.total_nusd,"
            " calls = spend.calls + excluded.calls, input_tokens = spend.input_tokens + excluded.input_tokens,"
            " output_tokens = spend.output_tokens + excluded.output_tokens,"
            " last_at = greatest(spend.last_at, excluded.last_at)",
            [kind for kind, _ in scopes],
            [store_rows.text(scope_id) for _, scope_id in scopes],
            [total.total_nusd for total in totals],
            [total.calls for total in totals],
            [total.input_tokens for total in totals],
            [total.output_tokens for total in totals],
            [total.last_at for total in totals],
        )
    accounts = sorted(books.accounts)
    if accounts:
        await execute(
            connection,
            "INSERT INTO account_spend (account, window_index, spent_nusd)"
            " SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[])"
            " ON CONFLICT (account, window_index) DO UPDATE"
            " SET spent_nusd = account_spend.spent_nusd + excluded.spent_nusd",
            [store_rows.text(account) for account, _ in accounts],
            [index for _, index in accounts],
            [books.accounts[key] for key in accounts],
        )


async def _insert_dead(connection: "PgConnection", created: str, items: Sequence[Item]) -> None:
    for item in items:
        assert item.bad is not None
        await execute(
            connection,
            "INSERT INTO dead_letter (stream, stream_created, seq, piece, subject, data, reason)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            LEDGER,
            created,
            item.seq,
            item.bad.index,
            store_rows.text(item.subject),
            item.bad.data,
            store_rows.text(item.bad.reason),
        )
