"""Secrets on their way: their sealed plaintext, where they are to be brought, and when older versions end.

What is on its way follows from the state of the key and is written in the transaction of each append (`follow_key`);
plaintext that nobody needs any more is erased by the very event that says so. Every method raises StoreUnavailable when
the database does not answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from services.auth.domain.key_state import KeyState
from services.auth.domain.versions import in_flight, living_versions, waiting, way_of
from services.auth.store_database import Database, execute, rows, value
from shared.events import (
    AnyAuthEvent,
    AnyKeySignal,
    KeyDeleted,
    KeyIssued,
    KeyRotationSet,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRetired,
    Target,
    encode,
)
from shared.ids import KeyId

if TYPE_CHECKING:
    from shared.pg import PgConnection

ENDED_MAX = 100
"""Keys with an ended version that one look finds."""
PER_WEBHOOK_HOST = 2
"""Deliveries to one host of webhooks that are under way at once."""
PER_STORE = 8
"""The same for one vault, and for Kubernetes."""
PER_OWNER = 8
"""The same for one team, or for an organization's keys without a team."""

_CLAIM = """
WITH open AS (
    SELECT d.key_id, d.version, d.way, d.attempts > 0 AS again, d.next_at,
           coalesce(d.claimed_until > $1, false) AS busy,
           CASE WHEN d.way LIKE 'webhook:%'
                THEN rtrim(lower(regexp_replace(split_part(d.way, '#', 1), ':[0-9]*$', '')), '.')
                WHEN d.way LIKE 'key_vault:%' THEN lower(split_part(d.way, '/', 1))
                ELSE split_part(d.way, ':', 1) END AS place,
           coalesce('t.' || k.team_id, 'o.' || k.org_id) AS owner
    FROM delivery d JOIN key_view k USING (key_id)
    WHERE d.claimed_until > $1 OR d.next_at <= $1
), ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY place ORDER BY busy DESC, again, next_at, key_id, version, way
    ) AS at_place FROM open
), fair AS (
    SELECT *, row_number() OVER (
        PARTITION BY owner ORDER BY busy DESC, again, next_at, key_id, version, way
    ) AS of_owner
    FROM ranked WHERE at_place <= CASE WHEN place LIKE 'webhook:%' THEN $4::bigint ELSE $5::bigint END
), taken AS (
    SELECT key_id, version, way FROM fair WHERE NOT busy AND of_owner <= $6
    ORDER BY again, of_owner, next_at LIMIT $3
)
UPDATE delivery d SET claimed_until = $2, attempts = d.attempts + 1 FROM taken t, pending_secret p
WHERE d.key_id = t.key_id AND d.version = t.version AND d.way = t.way AND p.key_id = d.key_id AND p.version = d.version
RETURNING d.key_id, d.version, d.way, d.target, d.attempts, d.created_at, d.signalled_at, p.sealed
"""

_FOLLOWED = (
    KeyIssued,
    KeyDeleted,
    KeyRotationSet,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRetired,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One delivery that was claimed. `attempts` counts this one too; `created_at` is when the secret was minted."""

    key_id: KeyId
    version: int
    way: str
    target: Target
    attempts: int
    created_at: datetime
    signalled_at: datetime | None
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How a delivery that is outstanding stands."""

    way: str
    version: int
    attempts: int
    last_error: str | None
    next_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A signal that is to be published."""

    id: str
    subject: str
    body: bytes


# ---- within the transaction of an append -------------------------------------------------------------


async def keep_secret(
    connection: "PgConnection", key_id: KeyId, version: int, sealed: bytes, minted_at: datetime
) -> None:
    """Keep the sealed plaintext of a version; call it beside the append that mints it."""
    await execute(
        connection,
        "INSERT INTO pending_secret (key_id, version, sealed, minted_at) VALUES ($1, $2, $3, $4)",
        key_id,
        version,
        sealed,
        minted_at,
    )


async def keep_collected(connection: "PgConnection", claim: str, version: int, sealed: bytes, at: datetime) -> None:
    """Keep for a while what a request collected, for the same request alone."""
    await execute(
        connection,
        "INSERT INTO collected_secret (claim, sealed, version, at) VALUES ($1, $2, $3, $4)",
        claim,
        sealed,
        version,
        at,
    )


async def put_signal(connection: "PgConnection", subject: str, signal: AnyKeySignal) -> None:
    """Put a signal where it is published from; one with the same id is there once."""
    await execute(
        connection,
        "INSERT INTO signal_outbox (id, subject, body) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
        signal.id,
        subject,
        encode(signal).decode(),
    )


async def follow_key(connection: "PgConnection", state: KeyState, events: Sequence[AnyAuthEvent]) -> None:
    """Bring what is on its way in line with a key's state, if events of these kinds may have changed it."""
    if not any(isinstance(event, _FOLLOWED) for event in events):
        return
    needed = waiting(state)
    await execute(
        connection,
        "DELETE FROM pending_secret WHERE key_id = $1 AND NOT version = ANY($2::integer[])",
        state.key_id,
        list(needed),
    )
    wanted = [(version, target) for version, targets in needed.items() for target in targets]
    await execute(
        connection,
        "DELETE FROM delivery d WHERE key_id = $1 AND NOT EXISTS (SELECT FROM"
        " unnest($2::integer[], $3::text[], $4::text[]) AS w(version, way, target) WHERE w.version = d.version"
        " AND w.way = d.way AND w.target::jsonb = d.target)",
        state.key_id,
        *_columns(wanted),
    )
    await execute(
        connection,
        "INSERT INTO delivery (key_id, version, way, target, created_at, next_at)"
        " SELECT p.key_id, p.version, w.way, w.target::jsonb, p.minted_at, p.minted_at"
        " FROM unnest($2::integer[], $3::text[], $4::text[]) AS w(version, way, target)"
        " JOIN pending_secret p ON p.key_id = $1 AND p.version = w.version ON CONFLICT DO NOTHING",
        state.key_id,
        *_columns(wanted),
    )
    await _keep_ends(connection, state, events[-1].at)


async def _keep_ends(connection: "PgConnection", state: KeyState, at: datetime) -> None:
    ends = {one.version: one.not_after for one in living_versions(state) if one.not_after is not None}
    stuck = in_flight(state)
    if stuck is not None and stuck.version not in waiting(state):
        ends[stuck.version] = at
    if state.deleted_at is not None:
        ends = {}
    await execute(
        connection,
        "DELETE FROM version_end WHERE key_id = $1 AND NOT version = ANY($2::integer[])",
        state.key_id,
        list(ends),
    )
    await execute(
        connection,
        "INSERT INTO version_end (key_id, version, not_after) SELECT $1, e.version, e.not_after"
        " FROM unnest($2::integer[], $3::timestamptz[]) AS e(version, not_after)"
        " ON CONFLICT (key_id, version) DO UPDATE SET not_after = excluded.not_after",
        state.key_id,
        list(ends),
        list(ends.values()),
    )


def _columns(wanted: Sequence[tuple[int, Target]]) -> tuple[list[int], list[str], list[str]]:
    return (
        [version for version, _ in wanted],
        [way_of(target) for _, target in wanted],
        [msgspec.json.encode(target).decode() for _, target in wanted],
    )


# ---- for the loops -----------------------------------------------------------------------------------


class Pending:
    """What is on its way, for those who bring it there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: datetime, *, lease: timedelta, most: int) -> list[Job]:
        """Deliveries that are to be tried now; nobody else gets them before the lease is over.

        What was never tried comes before what failed, and owners take turns. No place and no owner has more than a
        bounded number claimed at once, by all processes together: who does not answer keeps nobody else waiting.
        """
        async with self._database.connection() as connection, connection.transaction():
            await execute(connection, "SELECT pg_advisory_xact_lock(hashtext('tundish auth deliveries'))")
            found = await rows(
                connection,
                _CLAIM,
                now,
                now + lease,
                most,
                PER_WEBHOOK_HOST,
                PER_STORE,
                PER_OWNER,
            )
        return [_job(row) for row in found]

    async def failed(
        self, job: Job, *, reason: str, next_at: datetime, signal: tuple[str, AnyKeySignal] | None, now: datetime
    ) -> None:
        """Remember why a delivery failed, and when it is tried again; with the signal, if one is due."""
        async with self._database.connection() as connection, connection.transaction():
            await execute(
                connection,
                "UPDATE delivery SET claimed_until = NULL, next_at = $4, last_error = $5,"
                " signalled_at = coalesce($6, signalled_at)"
                " WHERE key_id = $1 AND version = $2 AND way = $3 AND attempts = $7",
                job.key_id,
                job.version,
                job.way,
                next_at,
                reason,
                None if signal is None else now,
                job.attempts,
            )
            if signal is not None:
                await put_signal(connection, *signal)

    async def hold(self, job: Job, next_at: datetime) -> None:
        """Leave a delivery for later without counting this attempt."""
        async with self._database.connection() as connection:
            await execute(
                connection,
                "UPDATE delivery SET claimed_until = NULL, next_at = $4, attempts = attempts - 1"
                " WHERE key_id = $1 AND version = $2 AND way = $3 AND attempts = $5",
                job.key_id,
                job.version,
                job.way,
                next_at,
                job.attempts,
            )

    async def sealed(self, key_id: KeyId, version: int) -> bytes | None:
        """The sealed plaintext of a version; None when it is not kept (any more)."""
        async with self._database.connection() as connection:
            found = await value(
                connection, "SELECT sealed FROM pending_secret WHERE key_id = $1 AND version = $2", key_id, version
            )
        return None if found is None else bytes(found)

    async def collected(self, claim: str) -> tuple[int, bytes] | None:
        """(version, sealed plaintext) of what the same request collected before; None when it did not."""
        async with self._database.connection() as connection:
            found = await rows(connection, "SELECT version, sealed FROM collected_secret WHERE claim = $1", claim)
        return (found[0]["version"], bytes(found[0]["sealed"])) if found else None

    async def forget_collected(self, before: datetime) -> None:
        """Erase what was collected before an instant."""
        async with self._database.connection() as connection:
            await execute(connection, "DELETE FROM collected_secret WHERE at < $1", before)

    async def ended(self, now: datetime) -> list[KeyId]:
        """Keys with versions whose time has run out, or that can reach nobody any more."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT key_id, min(not_after) FROM version_end WHERE not_after <= $1 GROUP BY key_id"
                " ORDER BY 2 LIMIT $2",
                now,
                ENDED_MAX,
            )
        return [KeyId(row["key_id"]) for row in found]

    async def troubles(self, key_ids: Sequence[str]) -> dict[str, list[Trouble]]:
        """The outstanding deliveries of some keys."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT key_id, version, way, attempts, last_error, next_at FROM delivery"
                " WHERE key_id = ANY($1::text[]) ORDER BY key_id, version, way",
                list(key_ids),
            )
        result: dict[str, list[Trouble]] = {}
        for row in found:
            trouble = Trouble(
                way=row["way"],
                version=row["version"],
                attempts=row["attempts"],
                last_error=row["last_error"],
                next_at=row["next_at"],
            )
            result.setdefault(row["key_id"], []).append(trouble)
        return result

    async def waiting(self) -> tuple[int, datetime | None]:
        """(how many deliveries are outstanding, since when the oldest of them is)."""
        async with self._database.connection() as connection:
            found = await rows(connection, "SELECT count(*) AS n, min(created_at) AS since FROM delivery")
        return found[0]["n"], found[0]["since"]

    async def rotating(
        self, org_id: str | None, team_id: str | None, *, page: int, size: int
    ) -> tuple[list[KeyState], int]:
        """(living keys that are renewed, of a page, newest first; how many there are in all)."""
        where = (
            "deleted_at IS NULL AND jsonb_typeof(body -> 'rotation') = 'object'"
            " AND ($1::text IS NULL OR (org_id = $1 AND reach IS DISTINCT FROM 'all'))"
            " AND ($2::text IS NULL OR (team_id = $2 AND reach IS DISTINCT FROM 'org'))"
        )
        async with self._database.connection() as connection:
            total: int = await value(connection, f"SELECT count(*) FROM key_view WHERE {where}", org_id, team_id)
            found = await rows(
                connection,
                f"SELECT body FROM key_view WHERE {where} ORDER BY created_at DESC, key_id DESC LIMIT $3 OFFSET $4",
                org_id,
                team_id,
                size,
                (page - 1) * size,
            )
        return [msgspec.json.decode(row["body"], type=KeyState) for row in found], total

    # ---- signals -------------------------------------------------------------------------------------

    async def put(self, subject: str, signal: AnyKeySignal) -> None:
        """Put a signal on its way."""
        async with self._database.connection() as connection:
            await put_signal(connection, subject, signal)

    async def outgoing(self, now: datetime, *, lease: timedelta, most: int) -> list[Outgoing]:
        """Signals that are to be published, oldest first; nobody else gets them before the lease is over."""
        async with self._database.connection() as connection, connection.transaction():
            found = await rows(
                connection,
                "WITH taken AS (SELECT id FROM signal_outbox WHERE claimed_until IS NULL OR claimed_until <= $1"
                " ORDER BY number LIMIT $3 FOR UPDATE SKIP LOCKED)"
                " UPDATE signal_outbox s SET claimed_until = $2 FROM taken t WHERE s.id = t.id"
                " RETURNING s.id, s.number, s.subject, s.body",
                now,
                now + lease,
                most,
            )
        ordered = sorted(found, key=lambda row: row["number"])
        return [Outgoing(id=str(row["id"]), subject=row["subject"], body=row["body"].encode()) for row in ordered]

    async def published(self, ids: Sequence[str]) -> None:
        """Signals that are in the stream are not needed here any more."""
        async with self._database.connection() as connection:
            await execute(connection, "DELETE FROM signal_outbox WHERE id = ANY($1::uuid[])", list(ids))


def _job(row: Mapping[str, Any]) -> Job:
    return Job(
        key_id=KeyId(row["key_id"]),
        version=row["version"],
        way=row["way"],
        target=msgspec.json.decode(row["target"], type=Target),
        attempts=row["attempts"],
        created_at=row["created_at"],
        signalled_at=row["signalled_at"],
        sealed=bytes(row["sealed"]),
    )
