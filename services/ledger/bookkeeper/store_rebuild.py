"""Reading the books whole, to compare them with the log, and replacing them by what the log says."""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from services.ledger.bookkeeper.store import Database, add_balances, execute, insert_events, rows
from services.ledger.bookkeeper.store_rows import Row
from services.ledger.domain.books import Books, Entry, Total, fold
from shared.events import AccountWindow
from shared.pricing import Usage

if TYPE_CHECKING:
    from shared.pg import PgConnection

SHADOW = "usage_event_rebuilt"
PAGE = 5_000
LOCK_TIMEOUT = "10s"
TIMEOUT_S = 600

Number = tuple[str, int, int]
"""(instance, partition, n): what an event is known by in every fold."""


async def books_at(database: Database, seq: int) -> tuple[Books, Books]:
    """(the balances that the books show, those of events behind `seq`), both of one moment."""
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        return await _balances(connection), await _later(connection, seq)


async def stored_costs(database: Database, numbers: Sequence[Number]) -> dict[Number, int]:
    """What the books say that events cost, by their numbers; events they do not hold are left out."""
    async with database.connection() as connection:
        found = await rows(
            connection,
            "SELECT instance, partition, n, cost_nusd FROM usage_event"
            " JOIN unnest($1::text[], $2::integer[], $3::bigint[]) AS wanted (instance, partition, n)"
            " USING (instance, partition, n)",
            [instance for instance, _, _ in numbers],
            [partition for _, partition, _ in numbers],
            [n for _, _, n in numbers],
        )
    return {(row["instance"], row["partition"], row["n"]): row["cost_nusd"] for row in found}


async def empty_shadow(database: Database) -> None:
    """An empty table beside the books, of the same form."""
    async with database.connection() as connection, connection.transaction():
        await execute(connection, f"DROP TABLE IF EXISTS {SHADOW}")
        await execute(connection, f"CREATE UNLOGGED TABLE {SHADOW} (LIKE usage_event INCLUDING ALL)")


async def drop_shadow(database: Database) -> None:
    """Take the table away again."""
    async with database.connection() as connection:
        await execute(connection, f"DROP TABLE IF EXISTS {SHADOW}")


async def fill_shadow(database: Database, found: Sequence[tuple[int, Row]]) -> None:
    """Add events to the table beside the books."""
    async with database.connection() as connection, connection.transaction():
        await insert_events(connection, SHADOW, found)


async def replace(database: Database, seq: int) -> tuple[Books, Books]:
    """Put the shadow and what came behind `seq` in the place of the books; (what they showed, what they show).

    One transaction with the books locked, so whoever reads sees the old books or the new ones. Writers wait.
    """
    async with database.connection() as connection, connection.transaction():
        await _execute(connection, f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await _execute(connection, "LOCK TABLE usage_event, spend, account_spend, checkpoint IN ACCESS EXCLUSIVE MODE")
        shown = await _balances(connection)
        await _execute(
            connection,
            f"INSERT INTO {SHADOW} SELECT * FROM usage_event WHERE stream_seq > $1 ON CONFLICT DO NOTHING",
            seq,
        )
        await _execute(connection, "TRUNCATE usage_event, spend, account_spend")
        await _execute(connection, f"INSERT INTO usage_event SELECT * FROM {SHADOW}")
        rebuilt = Books()
        async for entries in _entries(connection, 0):
            fold(rebuilt, entries)
        await add_balances(connection, rebuilt)
        await _execute(connection, f"DROP TABLE {SHADOW}")
    return shown, rebuilt


async def _balances(connection: "PgConnection") -> Books:
    """The balances as they stand in the tables; the count of events is the number of rows."""
    books = Books()
    for row in await _all(connection, "SELECT * FROM spend"):
        books.totals[row["scope_kind"], row["scope_id"]] = Total(
            total_nusd=row["total_nusd"],
            calls=row["calls"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            last_at=row["last_at"],
        )
    for row in await _all(connection, "SELECT * FROM account_spend"):
        books.accounts[row["account"], row["window_index"]] = row["spent_nusd"]
    books.events = (await _all(connection, "SELECT count(*) AS events FROM usage_event"))[0]["events"]
    return books


async def _later(connection: "PgConnection", seq: int) -> Books:
    later = Books()
    async for entries in _entries(connection, seq):
        fold(later, entries)
    return later


async def _entries(connection: "PgConnection", after: int) -> AsyncGenerator[list[Entry], None]:
    """Stored events behind a sequence, page by page."""
    last: tuple[int, UUID] = (after, UUID(int=2**128 - 1))
    while True:
        found = await _all(
            connection,
            "SELECT event_id, stream_seq, key_id, team_id, org_id, windows, cost_nusd, input_tokens, cached_tokens,"
            " cache_write_tokens, output_tokens, started_at FROM usage_event"
            " WHERE (stream_seq, event_id) > ($1, $2) ORDER BY stream_seq, event_id LIMIT $3",
            last[0],
            last[1],
            PAGE,
        )
        if found:
            last = (found[-1]["stream_seq"], found[-1]["event_id"])
            yield [_entry(row) for row in found]
        if len(found) < PAGE:
            return


def _entry(row: Any) -> Entry:
    return Entry(
        key_id=row["key_id"],
        team_id=row["team_id"],
        org_id=row["org_id"],
        windows=msgspec.json.decode(row["windows"], type=tuple[AccountWindow, ...]),
        cost_nusd=row["cost_nusd"],
        usage=Usage(
            input=row["input_tokens"],
            cached=row["cached_tokens"],
            cache_write=row["cache_write_tokens"],
            output=row["output_tokens"],
        ),
        started_at=row["started_at"],
    )


async def _all(connection: "PgConnection", query: str, *arguments: object) -> list[Any]:
    return await connection.fetch(query, *arguments, timeout=TIMEOUT_S)  # pyright: ignore


async def _execute(connection: "PgConnection", query: str, *arguments: object) -> None:
    await connection.execute(query, *arguments, timeout=TIMEOUT_S)
