"""Reading the books whole, to compare them with the log, and replacing them by what the log says."""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from services.ledger.bookkeeper import store_corrections
from services.ledger.bookkeeper.store import Database, add_balances, insert_events
from services.ledger.bookkeeper.store_corrections import changes_in
from services.ledger.bookkeeper.store_rows import USAGE_COLUMNS, Row, usage_in
from services.ledger.domain.books import Books, Entry, Spent, Total, correct, fold, overdraft
from shared.events import AccountWindow, Change, UsageCorrected
from shared.pg import execute, rows
from shared.pricing import Usage

if TYPE_CHECKING:
    from shared.pg import PgConnection

SHADOW = "usage_event_rebuilt"
SHADOW_CORRECTIONS = "correction_rebuilt"
SHADOWS = {"usage_event": SHADOW, "correction": SHADOW_CORRECTIONS}
PAGE = 5_000
LOCK_TIMEOUT = "10s"
TIMEOUT_S = 600

_USAGE = ", ".join(USAGE_COLUMNS.values())

Number = tuple[str, int, int]
"""(instance, partition, n): what an event is known by in every fold."""


async def books_at(database: Database, seq: int) -> tuple[Books, Books]:
    """(the balances that the books show, those of events behind `seq`), both of one moment."""
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        return await _balances(connection), await _folded(connection, seq)


async def stored_calls(database: Database, numbers: Sequence[Number]) -> dict[Number, tuple[int, Usage]]:
    """What the books say that calls cost and used, by their numbers; calls they do not hold are left out."""
    found = await _stored(database, "usage_event", f"cost_nusd, {_USAGE}", numbers)
    return {number: (row["cost_nusd"], usage_in(row)) for number, row in found}


async def stored_deltas(database: Database, numbers: Sequence[Number]) -> dict[Number, int]:
    """What the books say that corrections add in all, by their numbers; those they do not hold are left out."""
    found = await _stored(database, "correction", "changes", numbers)
    return {number: sum(change.delta_nusd for change in changes_in(row["changes"])) for number, row in found}


async def _stored(database: Database, table: str, wanted: str, numbers: Sequence[Number]) -> list[tuple[Number, Any]]:
    async with database.connection() as connection:
        found = await rows(
            connection,
            f"SELECT instance, partition, n, {wanted} FROM {table}"
            " JOIN unnest($1::text[], $2::integer[], $3::bigint[]) AS wanted (instance, partition, n)"
            " USING (instance, partition, n)",
            [instance for instance, _, _ in numbers],
            [partition for _, partition, _ in numbers],
            [n for _, _, n in numbers],
        )
    return [((row["instance"], row["partition"], row["n"]), row) for row in found]


async def empty_shadow(database: Database) -> None:
    """Empty tables beside the books, of the same form."""
    async with database.connection() as connection, connection.transaction():
        for table, shadow in SHADOWS.items():
            await execute(connection, f"DROP TABLE IF EXISTS {shadow}")
            await execute(connection, f"CREATE UNLOGGED TABLE {shadow} (LIKE {table} INCLUDING ALL)")


async def drop_shadow(database: Database) -> None:
    """Take the tables away again."""
    async with database.connection() as connection:
        for shadow in SHADOWS.values():
            await execute(connection, f"DROP TABLE IF EXISTS {shadow}")


async def fill_shadow(
    database: Database, found: Sequence[tuple[int, Row]], corrections: Sequence[tuple[int, UsageCorrected]]
) -> None:
    """Add events to the tables beside the books."""
    async with database.connection() as connection, connection.transaction():
        await insert_events(connection, SHADOW, found)
        for seq, event in corrections:
            await store_corrections.insert(connection, SHADOW_CORRECTIONS, seq, event)


async def replace(database: Database, seq: int) -> tuple[Books, Books]:
    """Put the shadow and what came behind `seq` in the place of the books; (what they showed, what they show).

    One transaction with the books locked, so whoever reads sees the old books or the new ones. Writers wait.
    """
    async with database.connection() as connection, connection.transaction():
        await _execute(connection, f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await _execute(
            connection,
            "LOCK TABLE usage_event, correction, spend, account_spend, secret_use, checkpoint IN ACCESS EXCLUSIVE MODE",
        )
        shown = await _balances(connection)
        for table, shadow in SHADOWS.items():
            await _execute(
                connection,
                f"INSERT INTO {shadow} SELECT * FROM {table} WHERE stream_seq > $1 ON CONFLICT DO NOTHING",
                seq,
            )
        await _execute(connection, "TRUNCATE usage_event, correction, spend, account_spend, secret_use")
        for table, shadow in SHADOWS.items():
            await _execute(connection, f"INSERT INTO {table} SELECT * FROM {shadow}")
            await _execute(connection, f"DROP TABLE {shadow}")
        await _execute(
            connection,
            "DELETE FROM correction_outbox WHERE (instance, partition, n) IN"
            " (SELECT instance, partition, n FROM correction)",
        )
        rebuilt = await _folded(connection, 0)
        await add_balances(connection, rebuilt)
    return shown, rebuilt


async def _balances(connection: "PgConnection") -> Books:
    """The balances as they stand in the tables; the count of events is the number of rows."""
    books = Books()
    for row in await _all(connection, "SELECT * FROM spend"):
        books.totals[row["scope_kind"], row["scope_id"]] = Total(
            total_nusd=row["total_nusd"],
            overdraft_nusd=row["overdraft_nusd"],
            calls=row["calls"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            last_at=row["last_at"],
        )
    for row in await _all(connection, "SELECT * FROM account_spend"):
        books.accounts[row["account"], row["window_index"]] = Spent(
            spent_nusd=row["spent_nusd"], overdraft_nusd=row["overdraft_nusd"]
        )
    books.events = (await _all(connection, "SELECT count(*) AS found FROM usage_event"))[0]["found"]
    books.corrections = (await _all(connection, "SELECT count(*) AS found FROM correction"))[0]["found"]
    return books


async def _folded(connection: "PgConnection", after: int) -> Books:
    """What stored events behind a sequence add up to."""
    books = Books()
    async for entries in _entries(connection, after):
        fold(books, entries)
    async for corrections in _corrections(connection, after):
        correct(books, corrections)
    return books


async def _entries(connection: "PgConnection", after: int) -> AsyncGenerator[list[Entry], None]:
    """Stored calls behind a sequence, page by page."""
    async for found in _pages(
        connection,
        "key_id, team_id, org_id, windows, cost_nusd, held_nusd, serial, started_at, secret_version,"
        f" {_USAGE} FROM usage_event",
        after,
    ):
        yield [_entry(row) for row in found]


async def _corrections(connection: "PgConnection", after: int) -> AsyncGenerator[list[tuple[Change, ...]], None]:
    """Stored corrections behind a sequence, page by page."""
    async for found in _pages(connection, "changes FROM correction", after):
        yield [changes_in(row["changes"]) for row in found]


async def _pages(connection: "PgConnection", columns_of: str, after: int) -> AsyncGenerator[list[Any], None]:
    last: tuple[int, UUID] = (after, UUID(int=2**128 - 1))
    while True:
        found = await _all(
            connection,
            f"SELECT event_id, stream_seq, {columns_of}"
            " WHERE (stream_seq, event_id) > ($1, $2) ORDER BY stream_seq, event_id LIMIT $3",
            last[0],
            last[1],
            PAGE,
        )
        if found:
            last = (found[-1]["stream_seq"], found[-1]["event_id"])
            yield found
        if len(found) < PAGE:
            return


def _entry(row: Any) -> Entry:
    return Entry(
        key_id=row["key_id"],
        team_id=row["team_id"],
        org_id=row["org_id"],
        windows=msgspec.json.decode(row["windows"], type=tuple[AccountWindow, ...]),
        cost_nusd=row["cost_nusd"],
        overdraft_nusd=overdraft(row["cost_nusd"], row["held_nusd"], row["serial"]),
        usage=usage_in(row),
        started_at=row["started_at"],
        secret_version=row["secret_version"],
    )


async def _all(connection: "PgConnection", query: str, *arguments: object) -> list[Any]:
    return await connection.fetch(query, *arguments, timeout=TIMEOUT_S)  # pyright: ignore


async def _execute(connection: "PgConnection", query: str, *arguments: object) -> None:
    await connection.execute(query, *arguments, timeout=TIMEOUT_S)
