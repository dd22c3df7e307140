"""The scheduler's tables: claiming and finishing ticks, the lease, and deleting what is old.

All durations are measured by the database's clock, so schedulers with different clocks agree.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import msgspec

from shared.errors import StoreError, StoreUnavailable
from shared.pg import UNAVAILABLE, open_pool

if TYPE_CHECKING:
    from shared.pg import Pg, PgConnection

SCHEMA = "scheduler"
LEASE_NAME = "scheduler"
OUTCOME_CHARS_MAX = 500
CLOSE_TIMEOUT_S = 3
ACQUIRE_TIMEOUT_S = 5


class TickRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest tick of a job, as the status page shows it."""

    due_at: datetime
    claimed_by: str
    attempts: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None


class Store:
    """All methods raise StoreUnavailable when Postgres is away, StoreError when the schema is missing."""

    def __init__(self, url: str, node: str) -> None:
        self._url = url
        self._node = node
        self._pool: Pg | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Give up the connections, within a bound."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    @property
    def node(self) -> str:
        """The name under which this process claims and decides."""
        return self._node

    @asynccontextmanager
    async def connection(self) -> "AsyncGenerator[PgConnection, None]":
        """A connection of the pool, for the other tables of the schema."""
        pool = await self._connected()
        with _mapped():
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:  # pyright: ignore
                yield connection  # pyright: ignore

    # ---- ticks ---------------------------------------------------------------------------------------

    async def last_finished(self, job: str) -> datetime | None:
        """When the newest finished tick of a job was due."""
        return await self._value("SELECT max(due_at) FROM tick WHERE job = $1 AND finished_at IS NOT NULL", job)

    async def claim(self, job: str, due_at: datetime, *, for_s: int, attempts_max: int) -> int | None:
        """Which attempt this is if the tick is ours now; None if it is finished, tried out or somebody's."""
        return await self._value(
            "INSERT INTO tick (job, due_at, claimed_by, claimed_until) VALUES ($1, $2, $3, now() + $4)"
            " ON CONFLICT (job, due_at) DO UPDATE SET claimed_by = $3, claimed_until = now() + $4,"
            " attempts = tick.attempts + 1, started_at = now()"
            " WHERE tick.finished_at IS NULL AND tick.claimed_until <= now() AND tick.attempts < $5"
            " RETURNING attempts",
            job, due_at, self._node, timedelta(seconds=for_s), attempts_max,
        )  # fmt: skip

    async def finish(self, job: str, due_at: datetime, attempt: int, outcome: str) -> bool:
        """Record that our attempt did its work; False if the claim is no longer ours."""
        return await self._changed(
            "UPDATE tick SET finished_at = now(), outcome = $5"
            " WHERE job = $1 AND due_at = $2 AND claimed_by = $3 AND attempts = $4 AND finished_at IS NULL",
            job, due_at, self._node, attempt, outcome[:OUTCOME_CHARS_MAX],
        )  # fmt: skip

    async def fail(self, job: str, due_at: datetime, attempt: int, reason: str, *, retry_after_s: int) -> bool:
        """Record a failure of ours and when to try again; False if the claim is no longer ours."""
        return await self._changed(
            "UPDATE tick SET claimed_until = now() + $6, outcome = $5"
            " WHERE job = $1 AND due_at = $2 AND claimed_by = $3 AND attempts = $4 AND finished_at IS NULL",
            job, due_at, self._node, attempt, reason[:OUTCOME_CHARS_MAX], timedelta(seconds=retry_after_s),
        )  # fmt: skip

    async def newest(self, job: str) -> TickRow | None:
        """The newest tick of a job, finished or not."""
        pool = await self._connected()
        with _mapped():
            row = cast(
                "asyncpg.Record | None",
                await pool.fetchrow(
                    "SELECT due_at, claimed_by, attempts, started_at, finished_at, outcome"
                    " FROM tick WHERE job = $1 ORDER BY due_at DESC LIMIT 1",
                    job,
                ),
            )
        return None if row is None else msgspec.convert(dict(row), TickRow)

    async def delete_older(self, than: datetime, *, most: int) -> int:
        """Delete up to `most` ticks that were due before an instant; how many there were.

        The newest finished tick of each job stays whatever its age: it says that the job is not due.
        """
        return await self._value(
            "WITH gone AS (DELETE FROM tick WHERE (job, due_at) IN ("
            " SELECT job, due_at FROM tick old WHERE due_at < $1 AND due_at <"
            " (SELECT max(due_at) FROM tick WHERE job = old.job AND finished_at IS NOT NULL)"
            " ORDER BY due_at LIMIT $2) RETURNING 1) SELECT count(*) FROM gone",
            than, most,
        )  # fmt: skip

    # ---- lease ---------------------------------------------------------------------------------------

    async def take_lease(self, for_s: int) -> int | None:
        """Take, or renew, the right to tick: its epoch, or None while somebody else has it."""
        return await self._value(
            "INSERT INTO lease (name, holder, expires_at) VALUES ($1, $2, now() + $3)"
            " ON CONFLICT (name) DO UPDATE SET holder = $2, renewed_at = now(), expires_at = now() + $3,"
            " epoch = lease.epoch + CASE WHEN lease.holder = $2 THEN 0 ELSE 1 END"
            " WHERE lease.holder = $2 OR lease.expires_at <= now() RETURNING epoch",
            LEASE_NAME, self._node, timedelta(seconds=for_s),
        )  # fmt: skip

    async def drop_lease(self) -> bool:
        """Let the next one take over at once; False if the lease is not ours."""
        return await self._changed(
            "UPDATE lease SET expires_at = now() WHERE name = $1 AND holder = $2", LEASE_NAME, self._node
        )

    # ---- inside --------------------------------------------------------------------------------------

    async def _value(self, sql: str, *arguments: object) -> Any:
        pool = await self._connected()
        with _mapped():
            return cast("Any", await pool.fetchval(sql, *arguments))

    async def _changed(self, sql: str, *arguments: object) -> bool:
        pool = await self._connected()
        with _mapped():
            return await pool.execute(sql, *arguments) == "UPDATE 1"

    async def _connected(self) -> "Pg":
        """The pool, opened at its first use so that the process can start before its database."""
        async with self._opening:
            if self._pool is None:
                self._pool = await open_pool(self._url, schema=SCHEMA, name="tundish-scheduler")
            return self._pool


@contextmanager
def _mapped() -> Generator[None, None, None]:
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise StoreError(f"the schema {SCHEMA} is not up to date ({error}): run `tundish migrate`") from error
    except UNAVAILABLE as error:
        raise StoreUnavailable(f"Postgres does not answer: {error!r}") from error
