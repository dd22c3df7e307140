"""The books in Postgres: the one transaction that writes what the log says.

An event is stored if neither its id nor its number is there already; only what was stored is added to the
balances, and the checkpoint moves in the same transaction. So a batch may be delivered any number of times.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import msgspec

from services.ledger.bookkeeper import store_corrections, store_rows
from services.ledger.bookkeeper.store_rows import Row
from services.ledger.domain.books import Books, correct, entry_of, fold
from services.ledger.domain.usage import Unreadable
from shared import pg
from shared.errors import StoreError, StreamChanged
from shared.events import UsageCorrected
from shared.pg import execute, rows
from shared.topology import LEDGER

if TYPE_CHECKING:
    from shared.pg import PgConnection

STATEMENT_TIMEOUT_S = 30


class Unstorable(StoreError):
    """Postgres refuses the data itself; trying again does not help."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream is folded, and which stream of that name it was."""

    created: str
    seq: int


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of one message: a call with what its price gives, a correction, or something unreadable."""

    seq: int
    subject: str
    event: Row | None = None
    correction: UsageCorrected | None = None
    bad: Unreadable | None = None


class Database(pg.Database):
    """A pool whose connections see the schema `ledger`. Data that Postgres refuses raises Unstorable."""

    def __init__(self, url: str) -> None:
        super().__init__(
            url, schema="ledger", name="tundish-ledger", table="checkpoint", command_timeout_s=STATEMENT_TIMEOUT_S
        )

    @asynccontextmanager
    async def connection(self) -> "AsyncGenerator[PgConnection, None]":
        """A connection of the pool. Raises StoreUnavailable, Unstorable."""
        try:
            async with super().connection() as connection:
                yield connection
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise Unstorable(f"Postgres refuses the data: {error}") from error


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
        corrected = await store_corrections.take(
            connection, [(item.seq, item.correction) for item in items if item.correction is not None]
        )
        books = fold(Books(), (entry_of(row.event) for row in fresh))
        await add_balances(connection, correct(books, (event.changes for event in corrected)))
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
    return len(fresh) + len(corrected)


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
    """Add to totals, account-windows and uses of secrets, in a fixed order of rows, so that two writers cannot block
    each other."""
    scopes = sorted(books.totals)
    if scopes:
        totals = [books.totals[scope] for scope in scopes]
        await execute(
            connection,
            "INSERT INTO spend"
            " (scope_kind, scope_id, total_nusd, overdraft_nusd, calls, input_tokens, output_tokens, last_at)"
            " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],"
            " $7::bigint[], $8::timestamptz[])"
            " ON CONFLICT (scope_kind, scope_id) DO UPDATE SET total_nusd = spend.total_nusd + excluded.total_nusd,"
            " overdraft_nusd = spend.overdraft_nusd + excluded.overdraft_nusd,"
            " calls = spend.calls + excluded.calls, input_tokens = spend.input_tokens + excluded.input_tokens,"
            " output_tokens = spend.output_tokens + excluded.output_tokens,"
            " last_at = greatest(spend.last_at, excluded.last_at)",
            [kind for kind, _ in scopes],
            [store_rows.text(scope_id) for _, scope_id in scopes],
            [total.total_nusd for total in totals],
            [total.overdraft_nusd for total in totals],
            [total.calls for total in totals],
            [total.input_tokens for total in totals],
            [total.output_tokens for total in totals],
            [total.last_at for total in totals],
        )
    accounts = sorted(books.accounts)
    if accounts:
        await execute(
            connection,
            "INSERT INTO account_spend (account, window_index, spent_nusd, overdraft_nusd)"
            " SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])"
            " ON CONFLICT (account, window_index) DO UPDATE"
            " SET spent_nusd = account_spend.spent_nusd + excluded.spent_nusd,"
            " overdraft_nusd = account_spend.overdraft_nusd + excluded.overdraft_nusd",
            [store_rows.text(account) for account, _ in accounts],
            [index for _, index in accounts],
            [books.accounts[key].spent_nusd for key in accounts],
            [books.accounts[key].overdraft_nusd for key in accounts],
        )
    secrets = sorted(books.uses)
    if secrets:
        await execute(
            connection,
            "INSERT INTO secret_use (key_id, version, last_at)"
            " SELECT * FROM unnest($1::text[], $2::integer[], $3::timestamptz[])"
            " ON CONFLICT (key_id, version) DO UPDATE SET last_at = greatest(secret_use.last_at, excluded.last_at)",
            [store_rows.text(key_id) for key_id, _ in secrets],
            [version for _, version in secrets],
            [books.uses[secret] for secret in secrets],
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
