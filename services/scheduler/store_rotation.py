"""The timetable of rotation in Postgres: folded from auth's log, decided once per due instant, told from an outbox.

Every step is one transaction and harmless to repeat, by this scheduler or another one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from services.scheduler import store_folding
from services.scheduler.domain.timetable import Plan, Run, decide
from services.scheduler.store import Store
from services.scheduler.store_folding import Checkpoint, plan_of
from shared.errors import StreamChanged
from shared.events import AnyAuthEvent
from shared.ids import KeyId, OrgId, TeamId
from shared.pg import execute, rows, value
from shared.policy import Reach
from shared.topology import AUTH

_HELD = (
    "EXISTS (SELECT 1 FROM place WHERE (blocked OR deleted_at IS NOT NULL)"
    " AND ((kind = 'team' AND scope_id = r.team_id) OR (kind = 'org' AND scope_id = r.org_id)))"
)
_DUE = (
    "r.next_due_at IS NOT NULL AND NOT r.blocked AND (r.expires_at IS NULL OR r.expires_at > r.next_due_at)"
    f" AND NOT {_HELD}"
)
"""What may be due at all; its beginning is the index's own condition."""


class Unsent(msgspec.Struct, frozen=True, kw_only=True):
    """A decision to tell of."""

    key_id: KeyId
    due_at: datetime
    decided_at: datetime


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest decision about a key. `version` and `minted_at`: what came of it, None as long as nothing did."""

    due_at: datetime
    missed: int
    published_at: datetime | None
    version: int | None
    minted_at: datetime | None


class ScheduleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key with a schedule. `blocked`: by itself, or with its team or organization."""

    plan: Plan
    blocked: bool
    last: RunRow | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key stands, and how far its role reaches: what decides who may know of it."""

    org_id: OrgId
    team_id: TeamId | None
    reach: Reach | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Keys with a schedule, those of them that are due and not decided, decisions not told of, and the next instant."""

    scheduled: int
    overdue: int
    unpublished: int
    next_due_at: datetime | None
    last_due_at: datetime | None


class RotationStore:
    """All methods raise StoreUnavailable when Postgres is away, StoreError when the schema is missing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # ---- folding -------------------------------------------------------------------------------------

    async def checkpoint(self) -> Checkpoint | None:
        """Where the timetable stands; None before the first event."""
        async with self._store.connection() as connection:
            return await store_folding.checkpoint(connection)

    async def start_over(self, before: str | None, created: str) -> None:
        """Forget what was folded of the stream made at `before` (None: of none) and begin with the one made at
        `created`. Nothing happens when another scheduler did so already."""
        async with self._store.connection() as connection, connection.transaction():
            now = await store_folding.checkpoint(connection, lock=True)
            if (None if now is None else now.stream_created) != before:
                return
            await execute(connection, "DELETE FROM rotation")
            await execute(connection, "DELETE FROM place")
            await execute(
                connection,
                "INSERT INTO checkpoint (stream, stream_created, seq, position, complete) VALUES ($1, $2, 0, 0, false)"
                " ON CONFLICT (stream) DO UPDATE SET stream_created = $2, seq = 0, position = 0, complete = false",
                AUTH,
                created,
            )

    async def fold(self, created: str, events: Sequence[tuple[int, AnyAuthEvent]], seq: int, *, complete: bool) -> int:
        """Take in what is new among events (with their sequences), up to `seq`; how many were new.

        Raises StreamChanged when the timetable follows another stream by now.
        """
        async with self._store.connection() as connection, connection.transaction():
            now = await store_folding.checkpoint(connection, lock=True)
            if now is None or now.stream_created != created:
                raise StreamChanged("another scheduler reads the timetable anew")
            fresh: list[AnyAuthEvent] = []
            position = now.position
            for at, event in events:
                if at <= now.seq or (event.position and event.position <= position):
                    continue  # another scheduler was faster, or the relay said it twice
                position = event.position or position
                fresh.append(event)
            await store_folding.write(connection, fresh)
            await execute(
                connection,
                "UPDATE checkpoint SET seq = greatest(seq, $2), position = $3, complete = complete OR $4"
                " WHERE stream = $1",
                AUTH,
                seq,
                position,
                complete,
            )
        return len(fresh)

    # ---- deciding and telling ------------------------------------------------------------------------

    async def earliest(self) -> datetime | None:
        """The instant from which on something is to be done: the first due one, or that of a decision not told of."""
        async with self._store.connection() as connection:
            return await value(
                connection,
                f"SELECT least((SELECT r.next_due_at FROM rotation r WHERE {_DUE} ORDER BY r.next_due_at LIMIT 1),"
                " (SELECT min(due_at) FROM rotation_run WHERE published_at IS NULL AND NOT passed_over))",
            )

    async def time(self) -> datetime:
        """The database's clock."""
        async with self._store.connection() as connection:
            return await value(connection, "SELECT clock_timestamp()")

    async def decide(self, now: datetime, most: int) -> list[Run]:
        """Decide up to `most` keys that are due, each for the newest of its due instants; the decisions that are new.

        What was decided earlier and never told is passed over for a newer instant of the same key, and counts as
        missed. Nothing is decided before auth's log was read to its end.
        """
        async with self._store.connection() as connection, connection.transaction():
            stands = await store_folding.checkpoint(connection)
            if stands is None or not stands.complete:
                return []
            found = await rows(
                connection,
                f"SELECT * FROM rotation r WHERE {_DUE} AND r.next_due_at <= $1"
                " AND (r.expires_at IS NULL OR r.expires_at > $1)"
                " ORDER BY r.next_due_at LIMIT $2 FOR UPDATE SKIP LOCKED",
                now,
                most,
            )
            runs = [run for row in found if (run := decide(plan_of(row), now)) is not None]
            if not runs:
                return []
            wanted = [run.key_id for run in runs], [run.due_at for run in runs]
            new = await rows(
                connection,
                "WITH wanted AS (SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::integer[])"
                "  AS w (key_id, due_at, missed)),"
                " late AS (UPDATE rotation_run AS old SET passed_over = true FROM wanted"
                "  WHERE old.key_id = wanted.key_id AND old.due_at < wanted.due_at"
                "  AND old.published_at IS NULL AND NOT old.passed_over RETURNING old.key_id, old.missed)"
                " INSERT INTO rotation_run (key_id, due_at, missed, decided_at, decided_by)"
                " SELECT key_id, due_at, missed"
                "  + coalesce((SELECT sum(late.missed + 1) FROM late WHERE late.key_id = wanted.key_id), 0), $4, $5"
                " FROM wanted ON CONFLICT DO NOTHING RETURNING key_id, missed",
                *wanted,
                [run.missed for run in runs],
                now,
                self._store.node,
            )
            await execute(
                connection,
                "UPDATE rotation SET next_due_at = w.next_due_at"
                " FROM unnest($1::text[], $2::timestamptz[]) AS w (key_id, next_due_at)"
                " WHERE rotation.key_id = w.key_id",
                wanted[0],
                [run.next_due_at for run in runs],
            )
        missed = {row["key_id"]: row["missed"] for row in new}
        return [msgspec.structs.replace(run, missed=missed[run.key_id]) for run in runs if run.key_id in missed]

    async def unsent(self, most: int) -> list[Unsent]:
        """Decisions that nobody is known to have told of, the oldest first."""
        async with self._store.connection() as connection:
            found = await rows(
                connection,
                "SELECT key_id, due_at, decided_at FROM rotation_run WHERE published_at IS NULL AND NOT passed_over"
                " ORDER BY due_at, key_id LIMIT $1",
                most,
            )
        return [msgspec.convert(dict(row), Unsent) for row in found]

    async def sent(self, key_id: KeyId, due_at: datetime, now: datetime) -> None:
        """Remember that a decision was told of."""
        async with self._store.connection() as connection:
            await execute(
                connection,
                "UPDATE rotation_run SET published_at = coalesce(published_at, $3) WHERE key_id = $1 AND due_at = $2",
                key_id,
                due_at,
                now,
            )

    async def delete_runs(self, than: datetime, *, most: int) -> int:
        """Delete up to `most` decisions that were due before an instant; how many there were.

        The newest decision of a living key stays, whatever its age: it says that its instant is done with.
        """
        async with self._store.connection() as connection:
            return await value(
                connection,
                "WITH gone AS (DELETE FROM rotation_run WHERE (key_id, due_at) IN ("
                " SELECT key_id, due_at FROM rotation_run old WHERE due_at < $1"
                " AND (published_at IS NOT NULL OR passed_over)"
                " AND (NOT EXISTS (SELECT 1 FROM rotation r WHERE r.key_id = old.key_id AND r.deleted_at IS NULL)"
                "  OR due_at < (SELECT max(due_at) FROM rotation_run WHERE key_id = old.key_id))"
                " ORDER BY due_at LIMIT $2) RETURNING 1) SELECT count(*) FROM gone",
                than,
                most,
            )

    async def delete_keys(self, than: datetime, *, most: int) -> int:
        """Forget up to `most` keys that were deleted before an instant; how many there were."""
        async with self._store.connection() as connection:
            return await value(
                connection,
                "WITH gone AS (DELETE FROM rotation WHERE key_id IN (SELECT key_id FROM rotation"
                " WHERE deleted_at < $1 ORDER BY deleted_at LIMIT $2) RETURNING 1) SELECT count(*) FROM gone",
                than,
                most,
            )

    # ---- showing -------------------------------------------------------------------------------------

    async def schedule(
        self, bounds: tuple[OrgId | None, TeamId | None], *, key_id: str | None, limit: int, offset: int
    ) -> tuple[int, list[ScheduleRow]]:
        """(how many keys have a schedule within bounds, a page of them with the next one first)."""
        condition = (
            "r.next_due_at IS NOT NULL"
            " AND ($1::text IS NULL OR (r.org_id = $1 AND r.reach IS DISTINCT FROM 'all'))"
            " AND ($2::text IS NULL OR (r.team_id = $2 AND r.reach IS DISTINCT FROM 'org'))"
            " AND ($3::text IS NULL OR r.key_id = $3)"
        )
        async with self._store.connection() as connection:
            count = await value(connection, f"SELECT count(*) FROM rotation r WHERE {condition}", *bounds, key_id)
            found = await rows(
                connection,
                f"SELECT r.*, (r.blocked OR {_HELD}) AS held, run.due_at, run.missed, run.published_at,"
                " run.version AS run_version, run.minted_at AS run_minted_at FROM rotation r"
                " LEFT JOIN LATERAL (SELECT * FROM rotation_run WHERE key_id = r.key_id AND NOT passed_over"
                "  ORDER BY due_at DESC LIMIT 1) AS run ON true"
                f" WHERE {condition} ORDER BY r.next_due_at, r.key_id LIMIT $4 OFFSET $5",
                *bounds,
                key_id,
                limit,
                offset,
            )
        return count, [_schedule_row(row) for row in found]

    async def summary(self, now: datetime) -> Summary:
        """How the job stands."""
        async with self._store.connection() as connection:
            found = await rows(
                connection,
                "SELECT (SELECT count(*) FROM rotation WHERE next_due_at IS NOT NULL) AS scheduled,"
                f" (SELECT count(*) FROM rotation r WHERE {_DUE} AND r.next_due_at <= $1) AS overdue,"
                " (SELECT count(*) FROM rotation_run WHERE published_at IS NULL AND NOT passed_over) AS unpublished,"
                f" (SELECT r.next_due_at FROM rotation r WHERE {_DUE} ORDER BY r.next_due_at LIMIT 1) AS next_due_at,"
                " (SELECT max(due_at) FROM rotation_run) AS last_due_at",
                now,
            )
        return msgspec.convert(dict(found[0]), Summary)

    async def keys(self, key_ids: Sequence[str]) -> dict[str, Standing]:
        """Where keys stand, deleted ones too; keys nobody knows are left out."""
        async with self._store.connection() as connection:
            found = await rows(
                connection, "SELECT key_id, org_id, team_id, reach FROM rotation WHERE key_id = ANY($1)", list(key_ids)
            )
        return {row["key_id"]: msgspec.convert(dict(row), Standing) for row in found}

    async def teams(self, team_ids: Sequence[str]) -> dict[str, str]:
        """The organization of teams, deleted ones too."""
        async with self._store.connection() as connection:
            found = await rows(
                connection,
                "SELECT scope_id, org_id FROM place WHERE kind = 'team' AND scope_id = ANY($1)",
                list(team_ids),
            )
        return {row["scope_id"]: row["org_id"] for row in found}


def _schedule_row(row: Mapping[str, Any]) -> ScheduleRow:
    last = None
    if row["due_at"] is not None:
        last = RunRow(
            due_at=row["due_at"],
            missed=row["missed"],
            published_at=row["published_at"],
            version=row["run_version"],
            minted_at=row["run_minted_at"],
        )
    return ScheduleRow(plan=plan_of(row), blocked=row["held"], last=last)
