"""Usage events as rows of Postgres: one table of columns, from which statements and arrays are made."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from shared.events import UsageRecorded
from shared.pricing import Usage

RAW_BYTES_MAX = 16 * 1024
"""A larger usage object of Foundry is left out; the counted tokens stand beside it."""

_json = msgspec.json.Encoder()


class Row(msgspec.Struct, frozen=True):
    """An event, and what its price gives where that is not what was charged."""

    event: UsageRecorded
    repriced_nusd: int | None = None


def text(value: str) -> str:
    """What Postgres can keep of a text: no NUL, no half characters."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _optional(value: str | None) -> str | None:
    return None if value is None else text(value)


def _raw(event: UsageRecorded) -> str | None:
    """Foundry's usage object as jsonb takes it; None when it is not there or cannot be kept."""
    if len(event.raw) > RAW_BYTES_MAX:
        return None
    try:
        value = msgspec.json.decode(event.raw)
        return None if value is None else text(_json.encode(value).decode()).replace("\\u0000", "\\ufffd")
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _of_json(value: object) -> str:
    return text(_json.encode(value).decode()).replace("\\u0000", "\\ufffd")


Column = tuple[str, str, Callable[[UsageRecorded], object]]

COLUMNS: tuple[Column, ...] = (
    ("instance", "text", lambda event: text(event.instance)),
    ("partition", "integer", lambda event: event.partition),
    ("n", "bigint", lambda event: event.n),
    ("at", "timestamptz", lambda event: event.at),
    ("call_id", "text", lambda event: text(event.call_id)),
    ("attempt", "integer", lambda event: event.attempt),
    ("key_id", "text", lambda event: text(event.key_id)),
    ("team_id", "text", lambda event: _optional(event.team_id)),
    ("org_id", "text", lambda event: text(event.org_id)),
    ("endpoint", "text", lambda event: text(event.endpoint)),
    ("model", "text", lambda event: text(event.model)),
    ("deployment", "text", lambda event: text(event.deployment)),
    ("served_model", "text", lambda event: _optional(event.served_model)),
    ("region", "text", lambda event: _optional(event.region)),
    ("serial", "bigint", lambda event: event.serial),
    ("windows", "jsonb", lambda event: _of_json(event.windows)),
    ("input_tokens", "bigint", lambda event: event.usage.input),
    ("cached_tokens", "bigint", lambda event: event.usage.cached),
    ("cache_write_tokens", "bigint", lambda event: event.usage.cache_write),
    ("output_tokens", "bigint", lambda event: event.usage.output),
    ("reasoning_tokens", "bigint", lambda event: event.usage.reasoning),
    ("raw_usage", "jsonb", _raw),
    ("cost_nusd", "bigint", lambda event: event.cost_nusd),
    ("held_nusd", "bigint", lambda event: event.held_nusd),
    ("price_id", "text", lambda event: _optional(event.price_id)),
    ("measured", "text", lambda event: event.measured),
    ("outcome", "text", lambda event: event.outcome),
    ("status", "integer", lambda event: event.status),
    ("started_at", "timestamptz", lambda event: event.started_at),
    ("duration_ms", "bigint", lambda event: event.duration_ms),
    ("first_byte_ms", "bigint", lambda event: event.first_byte_ms),
    ("overhead_us", "bigint", lambda event: event.overhead_us),
    ("retries", "integer", lambda event: event.retries),
    ("tags", "jsonb", lambda event: _of_json(event.tags)),
    ("cache_write_1h_tokens", "bigint", lambda event: event.usage.cache_write_1h),
    ("audio_input_tokens", "bigint", lambda event: event.usage.audio_input),
    ("audio_cached_tokens", "bigint", lambda event: event.usage.audio_cached),
    ("audio_output_tokens", "bigint", lambda event: event.usage.audio_output),
    ("image_input_tokens", "bigint", lambda event: event.usage.image_input),
    ("image_cached_tokens", "bigint", lambda event: event.usage.image_cached),
    ("image_output_tokens", "bigint", lambda event: event.usage.image_output),
    ("images", "bigint", lambda event: event.usage.images),
    ("milliseconds", "bigint", lambda event: event.usage.milliseconds),
    ("characters", "bigint", lambda event: event.usage.characters),
    ("queries", "bigint", lambda event: event.usage.queries),
    ("pages", "bigint", lambda event: event.usage.pages),
    ("sessions", "bigint", lambda event: event.usage.sessions),
    ("service_tier", "text", lambda event: text(event.usage.tier)),
    ("kind", "text", lambda event: text(event.usage.kind)),
    ("secret_version", "integer", lambda event: event.secret_version),
)

USAGE_COLUMNS = {
    "input": "input_tokens",
    "cached": "cached_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
    "audio_input": "audio_input_tokens",
    "audio_cached": "audio_cached_tokens",
    "audio_output": "audio_output_tokens",
    "image_input": "image_input_tokens",
    "image_cached": "image_cached_tokens",
    "image_output": "image_output_tokens",
    "images": "images",
    "milliseconds": "milliseconds",
    "characters": "characters",
    "queries": "queries",
    "pages": "pages",
    "sessions": "sessions",
    "tier": "service_tier",
    "kind": "kind",
}
"""Where each field of a usage is kept."""

_NAMES = ("event_id", "stream_seq", "repriced_nusd", *(name for name, _, _ in COLUMNS))
_TYPES = ("uuid", "bigint", "bigint", *(kind for _, kind, _ in COLUMNS))


def usage_in(row: Mapping[str, Any]) -> Usage:
    """The usage of a stored call; the row must have all of USAGE_COLUMNS."""
    return Usage(**{field: row[column] for field, column in USAGE_COLUMNS.items()})


def kept(usage: Usage) -> Usage:
    """A usage as it is read back: without what Postgres cannot keep of its texts."""
    tier, kind = text(usage.tier), text(usage.kind)
    if (tier, kind) == (usage.tier, usage.kind):
        return usage
    return msgspec.structs.replace(usage, tier=tier, kind=kind)


def insert_sql(table: str) -> str:
    """Insert arrays of columns; rows whose id or number is there already are left out, the others' ids come back."""
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_TYPES, 1))
    return (
        f"INSERT INTO {table} ({', '.join(_NAMES)}) SELECT * FROM unnest({arrays})"
        " ON CONFLICT DO NOTHING RETURNING event_id"
    )


def columns(event_ids: Sequence[UUID], found: Sequence[tuple[int, Row]]) -> list[list[object]]:
    """The arguments of `insert_sql`: one array per column."""
    events = [row.event for _, row in found]
    return [
        list(event_ids),
        [seq for seq, _ in found],
        [row.repriced_nusd for _, row in found],
        *([value(event) for event in events] for _, _, value in COLUMNS),
    ]


def ids(found: Sequence[Row]) -> list[UUID]:
    """The events' ids; one that is no UUID gets the UUID that follows from it."""
    return [event_uuid(row.event.id) for row in found]


def event_uuid(event_id: str) -> UUID:
    """The UUID of an event id."""
    try:
        return UUID(event_id)
    except ValueError:
        return UUID(bytes=sha256(event_id.encode("utf-8", "replace")).digest()[:16])
