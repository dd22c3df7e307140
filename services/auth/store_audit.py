"""The audit log in the database: events with their place in the chain. Written beside each append, read for `/audit`.

Every method raises StoreUnavailable when the database does not answer.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from services.auth.domain.chain import GENESIS, Link, linked
from services.auth.store_database import Database, execute, rows, value
from shared.events import AnyAuthEvent, decode_auth

if TYPE_CHECKING:
    from shared.pg import PgConnection

_AT = "to_char({}at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
_TEXTS = (
    "{0}position::text, {0}stream_id, {0}version::text, {0}event_id::text, {0}type, {0}body::text, {0}actor, {0}cause, "
    + _AT.replace("{}", "{0}")
)
RETURNED = f"ARRAY[{_TEXTS.format('')}] AS texts"
"""What an INSERT into `event` returns: the row as the database shows it, which is what goes into its hash."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a list shows; None: no matter. `types` and `first_types` are those of the wanted action, the latter
    where the event is the first of its kind on its stream; `kinds_of_first` are all that have an action of their own
    then."""

    actor: str | None = None
    types: tuple[str, ...] | None = None
    first_types: tuple[str, ...] = ()
    kinds_of_first: tuple[str, ...] = ()
    stream_kind: str | None = None
    object_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    org_id: str | None = None
    team_id: str | None = None
    bound_org: str | None = None
    bound_team: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the table with its stream and its number on it."""

    position: int
    stream_id: str
    version: int
    event: AnyAuthEvent


async def last_link(connection: "PgConnection") -> tuple[int, bytes]:
    """(the last position, the hash beside it). Where it was taken away, the chain goes on from nothing and shows it."""
    found = await rows(
        connection,
        "SELECT e.position, c.hash FROM event e LEFT JOIN chain c USING (position) ORDER BY e.position DESC LIMIT 1",
    )
    if not found:
        return 0, GENESIS
    return found[0]["position"], found[0]["hash"] or GENESIS


async def put_link(
    connection: "PgConnection",
    position: int,
    before: bytes,
    row: Mapping[str, Any],
    home: tuple[str | None, str | None],
) -> bytes:
    """Write the link of an event from the row that its INSERT returned; its hash. `home` is (organization, team)."""
    mark = linked(before, (*row["texts"], *home))
    await execute(
        connection,
        "INSERT INTO chain (position, org_id, team_id, hash) VALUES ($1, $2, $3, $4)",
        position,
        *home,
        mark,
    )
    return mark


_WHERE = (
    "($1::text IS NULL OR e.actor = $1)"
    " AND ($2::text[] IS NULL OR CASE WHEN e.type = ANY($4::text[]) AND e.body ->> 'version' = '1'"
    " THEN e.type = ANY($3::text[]) ELSE e.type = ANY($2) END)"
    " AND ($5::text IS NULL OR e.stream_id LIKE $5 || ':%')"
    " AND ($6::text IS NULL OR substr(e.stream_id, strpos(e.stream_id, ':') + 1) = $6)"
    " AND ($7::timestamptz IS NULL OR e.at >= $7) AND ($8::timestamptz IS NULL OR e.at < $8)"
    " AND ($9::text IS NULL OR c.org_id = $9) AND ($10::text IS NULL OR c.team_id = $10)"
    " AND ($11::text IS NULL OR c.org_id = $11) AND ($12::text IS NULL OR c.team_id = $12)"
)
_FROM = f"FROM event e LEFT JOIN chain c USING (position) WHERE {_WHERE}"
_ENTRY = "SELECT e.position, e.stream_id, e.version, e.body"


class AuditStore:
    """Reads of the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Filter, *, page: int, size: int) -> tuple[list[Entry], int]:
        """(events of a page, newest first; how many there are in all)."""
        arguments = _arguments(wanted)
        async with self._database.connection() as connection:
            total: int = await value(connection, f"SELECT count(*) {_FROM}", *arguments)
            found = await rows(
                connection,
                f"{_ENTRY} {_FROM} ORDER BY e.position DESC LIMIT $13 OFFSET $14",
                *arguments,
                size,
                (page - 1) * size,
            )
        return [_entry(row) for row in found], total

    async def after(self, wanted: Filter, position: int, *, limit: int) -> list[Entry]:
        """Events above a position, oldest first."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                f"{_ENTRY} {_FROM} AND e.position > $13 ORDER BY e.position LIMIT $14",
                *_arguments(wanted),
                position,
                limit,
            )
        return [_entry(row) for row in found]

    async def stream(self, stream_id: str, *, up_to: int) -> list[AnyAuthEvent]:
        """The first events of a stream, in order."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT body FROM event WHERE stream_id = $1 AND version <= $2 ORDER BY version",
                stream_id,
                up_to,
            )
        return [decode_auth(row["body"]) for row in found]

    async def links(self, position: int, *, limit: int) -> list[tuple[Link, str]]:
        """The links above a position in order, each with its event's body; a hash without an event included."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                f"SELECT coalesce(e.position, c.position) AS place, ARRAY[{_TEXTS.format('e.')}] AS texts, e.body,"
                " c.org_id, c.team_id, c.hash"
                " FROM (SELECT * FROM event WHERE position > $1 ORDER BY position LIMIT $2) e"
                " FULL JOIN (SELECT * FROM chain WHERE position > $1 ORDER BY position LIMIT $2) c USING (position)"
                " ORDER BY place LIMIT $2",
                position,
                limit,
            )
        return [
            (
                Link(position=row["place"], texts=(*row["texts"], row["org_id"], row["team_id"]), hash=row["hash"]),
                row["body"] or "",
            )
            for row in found
        ]

    async def hash_at(self, position: int) -> bytes | None:
        """The hash beside the event at a position."""
        async with self._database.connection() as connection:
            return await value(connection, "SELECT hash FROM chain WHERE position = $1", position)


def _arguments(wanted: Filter) -> tuple[object, ...]:
    return (
        wanted.actor,
        None if wanted.types is None else list(wanted.types),
        list(wanted.first_types),
        list(wanted.kinds_of_first),
        wanted.stream_kind,
        wanted.object_id,
        wanted.start,
        wanted.end,
        wanted.org_id,
        wanted.team_id,
        wanted.bound_org,
        wanted.bound_team,
    )


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        position=row["position"], stream_id=row["stream_id"], version=row["version"], event=decode_auth(row["body"])
    )
