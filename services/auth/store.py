"""The event table: append with an expected version, load a stream, read on after a position.

Every method raises StoreUnavailable when the database does not answer.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from services.auth.domain.budget_object import BudgetState
from services.auth.domain.home import home_of
from services.auth.domain.key_state import KeyState
from services.auth.store_audit import RETURNED, last_link, put_link
from services.auth.store_database import Database, execute, rows, value
from services.auth.store_keys import LIVING_KEYS_MAX, living_keys, show_secret, standing_key
from services.auth.store_rotation import follow_key
from services.auth.store_views import State, show
from shared.errors import StoreError, StoreUnavailable, VersionConflict
from shared.events import AnyAuthEvent, KeySecretMinted, KeySecretRehashed, decode_auth, encode, type_of

if TYPE_CHECKING:
    from shared.pg import PgConnection

Also = Callable[["PgConnection"], Awaitable[None]]
"""What else is to be written in the transaction of an append."""
APPEND_LOCK = 0x6175_7468
"""Advisory lock of appends: positions are given in the order of commits, so a reader never skips one."""
READ_MAX = 500


class Duplicate(StoreError):
    """A value that must be unique is taken; `what` is `key_alias`, `team_alias`, `organization_alias`,
    `user_email` or `secret`."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is taken")
        self.what = what


class NoSuchBudget(StoreError):
    """What was to be written names a budget object that is not there (any more)."""


class BudgetInUse(StoreError):
    """A budget object was to go while something names it."""


class TooManyKeys(StoreError):
    """A team, or an organization outside of its teams, has as many living keys as it may; the text names it."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the table with its place in the order of commits and the id of its stream's subject."""

    position: int
    scope_id: str
    event: AnyAuthEvent


async def bound_keys(connection: "PgConnection", state: KeyState, _events: Sequence[AnyAuthEvent]) -> None:
    """Refuse a new key, whose row is written already, where there are enough. Raises TooManyKeys.

    Appends come one after another, so nobody slips in between.
    """
    if await living_keys(connection, state.org_id, state.team_id) > LIVING_KEYS_MAX:
        outside = f"the organization {state.org_id!r} outside of its teams"
        raise TooManyKeys(outside if state.team_id is None else f"the team {state.team_id!r}")


_UNIQUE = {
    "key_alias_of_living": "key_alias",
    "team_alias_in_org": "team_alias",
    "org_alias_of_living": "organization_alias",
    "user_email_of_living": "user_email",
    "secret_view_pkey": "secret",
}
_NAMES_BUDGET = ("key_has_budget", "team_has_budget", "org_has_budget", "team_gives_budget")
_VERSIONED = ("event_pkey", "event_position_key", "event_event_id_key")


class EventStore:
    """The system of record. Streams are named `key:<id>`, `team:<id>`, `org:<id>`, `user:<id>` and
    `budget:<id>`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, stream_id: str) -> list[AnyAuthEvent]:
        """All events of a stream in order; its version is their number."""
        async with self._database.connection() as connection:
            found = await rows(connection, "SELECT body FROM event WHERE stream_id = $1 ORDER BY version", stream_id)
        return [decode_auth(row["body"]) for row in found]

    async def key(self, key_id: str) -> tuple[KeyState, int] | None:
        """(what a key's events lead to, the version of its stream), from its row; None when there is no row, or it is
        not known to be what the events of now lead to: then they have to be read."""
        async with self._database.connection() as connection:
            return await standing_key(connection, key_id)

    async def append(
        self,
        stream_id: str,
        version: int,
        events: Sequence[AnyAuthEvent],
        state: State,
        *,
        also: Also | None = None,
    ) -> int:
        """Append to a stream whose version is `version`, with the state the events lead to; the last position.

        `also` writes in the same transaction what belongs to it.

        Raises VersionConflict when somebody was faster, Duplicate when a unique value is taken, NoSuchBudget and
        BudgetInUse.
        """
        try:
            async with self._database.connection() as connection, connection.transaction():
                await execute(connection, "SELECT pg_advisory_xact_lock($1)", APPEND_LOCK)
                head, mark = await last_link(connection)
                for n, event in enumerate(events, start=1):
                    inserted = await rows(
                        connection,
                        "INSERT INTO event (position, stream_id, version, event_id, type, body, actor, cause, at)"
                        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {RETURNED}",
                        head + n,
                        stream_id,
                        version + n,
                        event.id,
                        type_of(event),
                        encode(event).decode(),
                        event.actor,
                        event.cause,
                        event.at,
                    )
                    mark = await put_link(connection, head + n, mark, inserted[0], home_of(state))
                await show(connection, state, version + len(events))
                for event in events:
                    if isinstance(event, KeySecretMinted | KeySecretRehashed):
                        await show_secret(connection, event)
                if also is not None:
                    await also(connection)
                if isinstance(state, KeyState):
                    await follow_key(connection, state, events)
        except asyncpg.UniqueViolationError as error:
            constraint = str(getattr(error, "constraint_name", ""))
            if constraint in _VERSIONED:
                raise VersionConflict(f"{stream_id} was changed by somebody else") from error
            raise Duplicate(_UNIQUE.get(constraint, constraint)) from error
        except asyncpg.ForeignKeyViolationError as error:
            if str(getattr(error, "constraint_name", "")) in _NAMES_BUDGET:
                if isinstance(state, BudgetState):
                    raise BudgetInUse(stream_id) from error
                raise NoSuchBudget(stream_id) from error
            raise StoreUnavailable(f"what {stream_id} belongs to is not there yet") from error
        return head + len(events)

    async def after(self, position: int, limit: int = READ_MAX) -> list[Stored]:
        """Events above a position in the order of commits; each carries its position."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT position, stream_id, body FROM event WHERE position > $1 ORDER BY position LIMIT $2",
                position,
                limit,
            )
        return [
            Stored(
                position=row["position"],
                scope_id=str(row["stream_id"]).partition(":")[2],
                event=msgspec.structs.replace(decode_auth(row["body"]), position=row["position"]),
            )
            for row in found
        ]

    async def head(self) -> int:
        """The last position; 0 when there is no event."""
        async with self._database.connection() as connection:
            return await value(connection, "SELECT coalesce(max(position), 0) FROM event")

    async def event_id_at(self, position: int) -> str | None:
        """The id of the event at a position, None if there is none."""
        async with self._database.connection() as connection:
            found = await value(connection, "SELECT event_id FROM event WHERE position = $1", position)
        return None if found is None else str(found)
