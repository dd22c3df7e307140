"""Corrections in Postgres: ordered into an outbox, taken into the books when the log brings them, listed.

An order gets its number in the transaction that stores it, so numbers are dense whatever fails; it stays in the
outbox until it is folded, so an order that follows at once counts with it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from services.ledger.bookkeeper.store_rows import event_uuid, text
from shared.errors import StoreError
from shared.events import AccountWindow, Change, UsageCorrected, encode
from shared.ids import AccountId, InstanceId
from shared.pg import Database, execute, rows, value
from shared.policy import ScopeKind

if TYPE_CHECKING:
    from shared.pg import PgConnection

TABLE = "correction"
OUTBOX_MAX = 1_000
"""Most corrections that wait for the log; more are refused until it takes them."""

_FIELDS = "event_id, instance, partition, n, at, scope_kind, scope_id, actor, reason, changes"


class OutboxFull(StoreError):
    """Too many corrections wait for the log."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What the spend of an account-window shall be."""

    account: str
    index: int
    to_nusd: int


class Unsent(msgspec.Struct, frozen=True, kw_only=True):
    """A correction that is not known to be in the log."""

    event_id: UUID
    partition: int
    body: bytes


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the audit trail; `pending` until the log has brought it back."""

    event_id: UUID
    at: datetime
    scope_kind: str
    scope_id: str
    actor: str
    reason: str
    changes: tuple[Change, ...]
    pending: bool


Maker = Callable[[InstanceId, int, tuple[Change, ...]], UsageCorrected]
"""(instance, n, changes) to the event."""


async def order(
    database: Database, partition: int, name: InstanceId, targets: Sequence[Target], make: Maker
) -> tuple[tuple[Change, ...], UsageCorrected | None]:
    """Store the correction that brings account-windows to their targets; (every change, the event if one is needed).

    `name` becomes the instance of this partition's corrections if there is none yet. Orders of one partition wait for
    each other. Raises StoreUnavailable, OutboxFull.
    """
    async with database.connection() as connection, connection.transaction():
        await execute(
            connection,
            "INSERT INTO corrector (partition, instance, last_n) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING",
            partition,
            name,
        )
        (own,) = await rows(
            connection, "SELECT instance, last_n + 1 AS n FROM corrector WHERE partition = $1 FOR UPDATE", partition
        )
        if await value(connection, "SELECT count(*) FROM correction_outbox") >= OUTBOX_MAX:
            raise OutboxFull(f"{OUTBOX_MAX} corrections wait for the log")
        before = await _standing(connection, targets)
        changes = tuple(
            Change(window, target.to_nusd - spent, spent)
            for (window, spent), target in zip(before, targets, strict=True)
        )
        needed = tuple(change for change in changes if change.delta_nusd)
        if not needed:
            return changes, None
        event = make(InstanceId(own["instance"]), own["n"], needed)
        await execute(connection, "UPDATE corrector SET last_n = $2 WHERE partition = $1", partition, event.n)
        await execute(
            connection,
            f"INSERT INTO correction_outbox ({_FIELDS}, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            *_values(event),
            encode(event),
        )
    return changes, event


async def unsent(database: Database, limit: int) -> list[Unsent]:
    """Corrections to publish, in the order of their numbers."""
    async with database.connection() as connection:
        found = await rows(
            connection,
            "SELECT event_id, partition, body FROM correction_outbox WHERE sent_seq IS NULL"
            " ORDER BY partition, instance, n LIMIT $1",
            limit,
        )
    return [Unsent(event_id=row["event_id"], partition=row["partition"], body=row["body"]) for row in found]


async def sent(database: Database, event_id: UUID, seq: int) -> None:
    """Remember that the log has a correction."""
    async with database.connection() as connection:
        await execute(connection, "UPDATE correction_outbox SET sent_seq = $2 WHERE event_id = $1", event_id, seq)


async def place(database: Database, event_id: UUID) -> int | None:
    """The sequence at which the log has a correction that is not folded yet; None when it is folded (or not sent)."""
    async with database.connection() as connection:
        return await value(connection, "SELECT sent_seq FROM correction_outbox WHERE event_id = $1", event_id)


async def correctors(database: Database) -> list[tuple[int, str]]:
    """(partition, instance) of every name under which this database gives corrections to the log."""
    async with database.connection() as connection:
        found = await rows(connection, "SELECT partition, instance FROM corrector ORDER BY partition")
    return [(row["partition"], row["instance"]) for row in found]


async def raise_number(database: Database, partition: int, instance: str, n: int) -> None:
    """Never give a number again that the log has: a database may have been restored from an older copy."""
    async with database.connection() as connection:
        await _raise_number(connection, partition, instance, n)


async def rename(database: Database, partition: int, instance: str, fresh: InstanceId) -> None:
    """Give further corrections of a partition under a name that the log has never seen."""
    async with database.connection() as connection:
        await execute(
            connection,
            "UPDATE corrector SET instance = $3, last_n = 0 WHERE partition = $1 AND instance = $2",
            partition,
            instance,
            fresh,
        )


async def take(connection: "PgConnection", found: Sequence[tuple[int, UsageCorrected]]) -> list[UsageCorrected]:
    """Store corrections that the log brings; those that were new. They leave the outbox."""
    fresh: list[UsageCorrected] = []
    for seq, event in found:
        if await insert(connection, TABLE, seq, event):
            fresh.append(event)
        instance = text(event.instance)
        await execute(
            connection,
            "DELETE FROM correction_outbox WHERE instance = $1 AND partition = $2 AND n = $3",
            instance,
            event.partition,
            event.n,
        )
        await _raise_number(connection, event.partition, instance, event.n)
    return fresh


async def insert(connection: "PgConnection", table: str, seq: int, event: UsageCorrected) -> bool:
    """Store a correction with its place in the log; False if it is there (the earliest place is kept)."""
    new = await rows(
        connection,
        f"INSERT INTO {table} ({_FIELDS}, stream_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        " ON CONFLICT DO NOTHING RETURNING event_id",
        *_values(event),
        seq,
    )
    if not new:
        await execute(
            connection,
            f"UPDATE {table} SET stream_seq = $4 WHERE instance = $1 AND partition = $2 AND n = $3 AND stream_seq > $4",
            text(event.instance),
            event.partition,
            event.n,
            seq,
        )
    return bool(new)


async def listed(
    database: Database,
    scope: tuple[str, str] | None,
    among: Mapping[ScopeKind, Sequence[str]] | None,
    before: UUID | None,
    limit: int,
) -> list[Correction]:
    """Corrections, of one scope (kind, id) if it is named, newest first; `before` is the last of the page before.

    `among` names the scopes of each kind that may be shown; None: all.
    """
    visible = among or {}
    async with database.connection() as connection:
        found = await rows(
            connection,
            f"SELECT * FROM (SELECT {_FIELDS}, false AS pending FROM correction"
            f" UNION ALL SELECT {_FIELDS}, true FROM correction_outbox) AS every"
            " WHERE ($1::text IS NULL OR (scope_kind = $1 AND scope_id = $2)) AND ($3::uuid IS NULL OR event_id < $3)"
            " AND ($5::boolean OR (scope_kind = 'key' AND scope_id = ANY($6::text[]))"
            "  OR (scope_kind = 'team' AND scope_id = ANY($7::text[]))"
            "  OR (scope_kind = 'org' AND scope_id = ANY($8::text[])))"
            " ORDER BY event_id DESC LIMIT $4",
            None if scope is None else scope[0],
            None if scope is None else scope[1],
            before,
            limit,
            among is None,
            *(list(visible.get(kind, ())) for kind in ("key", "team", "org")),
        )
    return [_correction(row) for row in found]


def changes_in(stored: str) -> tuple[Change, ...]:
    """The changes of a stored correction."""
    return msgspec.json.decode(stored, type=tuple[Change, ...])


def _correction(row: Any) -> Correction:
    return Correction(
        event_id=row["event_id"],
        at=row["at"],
        scope_kind=row["scope_kind"],
        scope_id=row["scope_id"],
        actor=row["actor"],
        reason=row["reason"],
        changes=changes_in(row["changes"]),
        pending=row["pending"],
    )


def _values(event: UsageCorrected) -> tuple[object, ...]:
    """The columns of `_FIELDS`."""
    return (
        event_uuid(event.id),
        text(event.instance),
        event.partition,
        event.n,
        event.at,
        event.scope_kind,
        text(event.scope_id),
        text(event.actor),
        text(event.reason),
        text(msgspec.json.encode(event.changes).decode()).replace("\\u0000", "\ufffd"),
    )


async def _standing(connection: "PgConnection", targets: Sequence[Target]) -> list[tuple[AccountWindow, int]]:
    """The account-windows of targets, each with its spend: what is folded and what corrections on their way add."""
    found = await rows(
        connection,
        "SELECT coalesce((SELECT spent_nusd FROM account_spend"
        "  WHERE account = wanted.account AND window_index = wanted.window_index), 0)"
        " + coalesce((SELECT sum((change ->> 1)::bigint)"
        "  FROM correction_outbox, jsonb_array_elements(changes) AS change"
        "  WHERE change -> 0 ->> 0 = wanted.account AND (change -> 0 ->> 1)::integer = wanted.window_index), 0)::bigint"
        " AS spent"
        " FROM unnest($1::text[], $2::integer[]) WITH ORDINALITY AS wanted (account, window_index, place)"
        " ORDER BY place",
        [target.account for target in targets],
        [target.index for target in targets],
    )
    return [
        (AccountWindow(AccountId(target.account), target.index), row["spent"])
        for target, row in zip(targets, found, strict=True)
    ]


async def _raise_number(connection: "PgConnection", partition: int, instance: str, n: int) -> None:
    await execute(
        connection,
        "UPDATE corrector SET last_n = $3 WHERE partition = $1 AND instance = $2 AND last_n < $3",
        partition,
        instance,
        n,
    )
