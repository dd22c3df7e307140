"""Rows of keys and of their secrets: how they are found, listed and written.

Every method raises StoreUnavailable when the database does not answer.
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import msgspec

from services.auth.domain.key_state import FOLD, KeyState
from services.auth.store_database import Database, execute, rows, value
from shared.events import KeySecretMinted, KeySecretRehashed
from shared.ids import KeyId

if TYPE_CHECKING:
    from shared.pg import PgConnection

_SCHEMA = msgspec.json.schema(KeyState, schema_hook=lambda kind: {"title": kind.__name__})
KEY_SHAPE = f"{FOLD}:{sha256(msgspec.json.encode(_SCHEMA)).hexdigest()[:16]}"
"""By what rules, and into what, the events of a key are folded: rows of another shape are made anew from the events."""
LIVING_KEYS_MAX = 10_000
"""Of one team, and of one organization outside of its teams."""
KeyStatus = Literal["active", "expired", "blocked", "revoked", "deleted"]
KeyOrder = Literal["created_at", "updated_at", "expires", "key_alias", "token", "user_id", "team_id"]
_COLUMNS: dict[KeyOrder, str] = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "expires": "expires_at",
    "key_alias": "lower(alias)",
    "token": "key_id",
    "user_id": "user_id",
    "team_id": "team_id",
}


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys a list shows; None: no matter. Without a status it shows the living ones.

    `within` is what the list is narrowed to whatever it asks for: (organization, team). `text` is to be found in the
    alias, the id or the user's id; with `parts` the alias and the user's id need to be there in part only.
    """

    team_id: str | None = None
    org_id: str | None = None
    alias: str | None = None
    user_id: str | None = None
    key_id: str | None = None
    text: str | None = None
    parts: bool = False
    status: KeyStatus | None = None
    within: tuple[str | None, str | None] = (None, None)


class KeyViews:
    """Reads of the present state of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def key(self, key_id: str) -> KeyState | None:
        """A key, living or deleted."""
        body = await self._value("SELECT body FROM key_view WHERE key_id = $1", key_id)
        return None if body is None else msgspec.json.decode(body, type=KeyState)

    async def key_of_alias(self, alias: str) -> KeyId | None:
        """The living key of an alias."""
        found = await self._value("SELECT key_id FROM key_view WHERE alias = $1 AND deleted_at IS NULL", alias)
        return None if found is None else KeyId(found)

    async def key_of_digest(self, digests: Sequence[str]) -> KeyId | None:
        """The key, living or deleted, that has, or had, a secret with one of these hashes."""
        found = await self._value(
            "SELECT key_id FROM secret_view WHERE digest = ANY($1::text[]) LIMIT 1", list(digests)
        )
        return None if found is None else KeyId(found)

    async def keys_of_digests(self, digests: Sequence[str]) -> dict[str, KeyId]:
        """Those of many hashes that a secret has, or had, each with its key, living or deleted."""
        async with self._database.connection() as connection:
            query = "SELECT digest, key_id FROM secret_view WHERE digest = ANY($1::text[])"
            found = await rows(connection, query, list(digests))
        return {row["digest"]: KeyId(row["key_id"]) for row in found}

    async def versions_of_digest(self, key_id: KeyId, digests: Sequence[str]) -> frozenset[int]:
        """The versions of a key's secret that have, or had, one of these hashes."""
        async with self._database.connection() as connection:
            found = await rows(
                connection,
                "SELECT version FROM secret_view WHERE key_id = $1 AND digest = ANY($2::text[])",
                key_id,
                list(digests),
            )
        return frozenset(row["version"] for row in found)

    async def keys(
        self,
        wanted: KeyFilter,
        *,
        page: int,
        size: int,
        now: datetime | None = None,
        order: KeyOrder = "created_at",
        descending: bool = True,
    ) -> tuple[list[KeyState], int]:
        """(keys of a page, newest first unless said otherwise; how many there are in all).

        `now` is needed for a status.
        """
        where, arguments = _where(wanted, now)
        way = "DESC" if descending else "ASC"
        limit = f"LIMIT ${len(arguments) + 1} OFFSET ${len(arguments) + 2}"
        async with self._database.connection() as connection:
            total: int = await value(connection, f"SELECT count(*) FROM key_view WHERE {where}", *arguments)
            found = await rows(
                connection,
                f"SELECT body FROM key_view WHERE {where}"
                f" ORDER BY {_COLUMNS[order]} {way} NULLS LAST, key_id {way} {limit}",
                *arguments,
                size,
                (page - 1) * size,
            )
        return [msgspec.json.decode(row["body"], type=KeyState) for row in found], total

    async def key_aliases(self, wanted: KeyFilter, *, page: int, size: int) -> tuple[list[str], int]:
        """(aliases of living keys in the order of the alphabet; how many there are in all)."""
        where, arguments = _where(wanted, None)
        limit = f"LIMIT ${len(arguments) + 1} OFFSET ${len(arguments) + 2}"
        where = f"{where} AND alias IS NOT NULL"
        async with self._database.connection() as connection:
            total: int = await value(connection, f"SELECT count(*) FROM key_view WHERE {where}", *arguments)
            found = await rows(
                connection,
                f"SELECT alias FROM key_view WHERE {where} ORDER BY lower(alias), alias {limit}",
                *arguments,
                size,
                (page - 1) * size,
            )
        return [str(row["alias"]) for row in found], total

    async def _value(self, query: str, argument: object) -> str | None:
        async with self._database.connection() as connection:
            return await value(connection, query, argument)


_CONDITIONS = {
    "team_id": "team_id = {}",
    "org_id": "org_id = {}",
    "key_id": "key_id = {}",
    "text": (
        "(strpos(lower(alias), lower({0})) > 0 OR strpos(key_id, {0}) > 0 OR strpos(lower(user_id), lower({0})) > 0)"
    ),
}
_WHOLE = {"alias": "alias = {}", "user_id": "user_id = {}"}
_PARTS = {
    "alias": "strpos(lower(alias), lower({})) > 0",
    "user_id": "strpos(lower(user_id), lower({})) > 0",
}
_WORKS = (
    "EXISTS (SELECT FROM jsonb_array_elements(body -> 'secrets') s WHERE s ->> 'retired_at' IS NULL"
    " AND coalesce((s ->> 'not_after')::timestamptz > {0}, true))"
)
"""Whether a secret of the key works: `services.auth.domain.versions.works`."""
_STATUS: dict[KeyStatus, str] = {
    "active": f"deleted_at IS NULL AND NOT blocked AND (expires_at IS NULL OR expires_at > {{0}}) AND {_WORKS}",
    "expired": f"deleted_at IS NULL AND NOT blocked AND expires_at <= {{0}} AND {_WORKS}",
    "blocked": f"deleted_at IS NULL AND blocked AND {_WORKS}",
    "revoked": f"deleted_at IS NULL AND NOT {_WORKS}",
    "deleted": "deleted_at IS NOT NULL",
}


def _where(wanted: KeyFilter, now: datetime | None) -> tuple[str, list[object]]:
    """(the condition of a filter, its arguments)."""
    arguments: list[object] = []

    def condition(text: str, argument: object) -> str:
        if "{" not in text:
            return text
        arguments.append(argument)
        return text.format(f"${len(arguments)}::{'timestamptz' if isinstance(argument, datetime) else 'text'}")

    found = ["deleted_at IS NULL" if wanted.status is None else condition(_STATUS[wanted.status], now)]
    for name, text in {**_CONDITIONS, **(_PARTS if wanted.parts else _WHOLE)}.items():
        argument = getattr(wanted, name)
        if argument is not None:
            found.append(condition(text, argument))
    org_id, team_id = wanted.within
    if org_id is not None:
        found += [condition("org_id = {}", org_id), "reach IS DISTINCT FROM 'all'"]
    if team_id is not None:
        found += [condition("team_id = {}", team_id), "reach IS DISTINCT FROM 'org'"]
    return " AND ".join(found), arguments


async def standing_key(connection: "PgConnection", key_id: str) -> tuple[KeyState, int] | None:
    """(a key's state, the version of its stream), if its row was folded by this program's rules, and nothing was
    appended without it, as an older program does that knows nothing of versions."""
    found = await rows(
        connection,
        "SELECT body, version FROM key_view WHERE key_id = $1 AND shape = $2"
        " AND version = (SELECT max(version) FROM event WHERE stream_id = $3)",
        key_id,
        KEY_SHAPE,
        f"key:{key_id}",
    )
    return (msgspec.json.decode(found[0]["body"], type=KeyState), found[0]["version"]) if found else None


async def living_keys(connection: "PgConnection", org_id: str, team_id: str | None) -> int:
    """How many living keys a team has, or an organization outside of its teams; the count stops above the bound."""
    where, scope = ("team_id = $1", team_id) if team_id is not None else ("org_id = $1 AND team_id IS NULL", org_id)
    query = f"SELECT 1 FROM key_view WHERE {where} AND deleted_at IS NULL LIMIT $2"
    return await value(connection, f"SELECT count(*) FROM ({query}) k", scope, LIVING_KEYS_MAX + 1)


async def show_key(connection: "PgConnection", state: KeyState, version: int) -> None:
    """Write a key's row: what its stream leads to at that version."""
    await execute(
        connection,
        "INSERT INTO key_view (key_id, org_id, team_id, alias, created_at, deleted_at, body, budget_id,"
        " budget_version, user_id, role, reach, blocked, expires_at, updated_at, version, shape)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
        " ON CONFLICT (key_id) DO UPDATE SET"
        " alias = excluded.alias, deleted_at = excluded.deleted_at, body = excluded.body,"
        " budget_id = excluded.budget_id, budget_version = excluded.budget_version, user_id = excluded.user_id,"
        " role = excluded.role, reach = excluded.reach, blocked = excluded.blocked,"
        " expires_at = excluded.expires_at, updated_at = excluded.updated_at, version = excluded.version,"
        " shape = excluded.shape",
        state.key_id,
        state.org_id,
        state.team_id,
        state.alias,
        state.created_at,
        state.deleted_at,
        msgspec.json.encode(state).decode(),
        None if state.deleted_at is not None else state.budget_id,
        state.budget_version,
        state.user_id,
        state.role,
        state.reach,
        state.blocked,
        state.expires_at,
        state.updated_at,
        version,
        KEY_SHAPE,
    )


async def show_secret(connection: "PgConnection", event: KeySecretMinted | KeySecretRehashed) -> None:
    """Write the row by which a secret's key is found. A secret that is stored anew keeps its older rows too: it stays
    known, and taken, for ever."""
    rehashed = isinstance(event, KeySecretRehashed)
    await execute(
        connection,
        "INSERT INTO secret_view (label, digest, key_id, version) VALUES ($1, $2, $3, $4)"
        + (" ON CONFLICT (label, digest) DO NOTHING" if rehashed else ""),
        event.label,
        event.digest,
        event.key_id,
        event.version,
    )
