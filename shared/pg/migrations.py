"""Numbered migrations of a schema, applied once under a lock."""

import hashlib
import re
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, cast

import asyncpg

from shared.errors import StoreError
from shared.pg.database import CONNECT_TIMEOUT_S, mapped

if TYPE_CHECKING:
    from shared.pg.database import PgConnection

MIGRATION_WAIT_MS = 60_000
"""How long a migration waits for another one that is running."""
MIGRATION_LOCK_TIMEOUT_MS = 4_000
MIGRATION_STATEMENT_TIMEOUT_MS = 60_000
LOCK_KEY = 0x7475_6E64

_MIGRATION = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


def migrations_of(package: str) -> list[tuple[int, str, str]]:
    """(number, file name, SQL) of a package's `migrations` folder, in order. Raises StoreError."""
    found: list[tuple[int, str, str]] = []
    for entry in resources.files(package).joinpath("migrations").iterdir():
        match = _MIGRATION.match(entry.name)
        if match is not None:
            found.append((int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    numbers = [number for number, _, _ in found]
    for number in numbers:
        if numbers.count(number) > 1:
            raise StoreError(f"{package} has two migrations with the number {number:04d}")
    return sorted(found)


async def migrate(url: str, *, schema: str, package: str, progress: Callable[[str], None]) -> None:
    """Apply the migrations of `package` that `schema` has not seen, each in a transaction of its own.

    Raises StoreError when an applied file was changed since, a migration fails, or another one runs for too
    long; StoreUnavailable when there is no database; SettingsError for a URL that cannot be read.
    """
    migrations = migrations_of(package)
    with mapped("the database"):
        connection = cast("PgConnection", await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S))
    try:
        with mapped(f"the schema {schema}"):
            await _lock(connection)
            await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            await connection.execute(f'SET search_path TO "{schema}"')
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS migration (number int PRIMARY KEY, name text NOT NULL,"
                " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            rows = cast("list[asyncpg.Record]", await connection.fetch("SELECT number, checksum FROM migration"))
        applied: dict[int, str] = {row["number"]: row["checksum"] for row in rows}
        for number, name, sql in migrations:
            with mapped(f"migration {schema}/{name}"):
                await _apply(connection, applied, number, name, sql, f"{schema}/{name}", progress)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _lock(connection: "PgConnection") -> None:
    """One migration at a time; the lock ends with the connection."""
    await connection.execute(f"SET lock_timeout = {MIGRATION_WAIT_MS}")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
    except asyncpg.LockNotAvailableError as error:
        raise StoreError(
            f"another migration has been running for more than {MIGRATION_WAIT_MS} ms: wait for its end"
        ) from error
    await connection.execute(f"SET lock_timeout = {MIGRATION_LOCK_TIMEOUT_MS}")


async def _apply(
    connection: "PgConnection",
    applied: dict[int, str],
    number: int,
    name: str,
    sql: str,
    label: str,
    progress: Callable[[str], None],
) -> None:
    checksum = hashlib.sha256(sql.encode()).hexdigest()
    if number in applied:
        if applied[number] != checksum:
            raise StoreError(f"migration {label} was changed after it had been applied: restore the file")
        progress(f"migration {label} applied before")
        return
    async with connection.transaction():
        await connection.execute(f"SET LOCAL statement_timeout = {MIGRATION_STATEMENT_TIMEOUT_MS}")
        await connection.execute(sql)
        await connection.execute(
            "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)", number, name, checksum
        )
    progress(f"migration {label} applied")
