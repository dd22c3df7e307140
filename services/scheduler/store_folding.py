"""Folding auth's events into the tables of the timetable: load what they concern, let it evolve, write what changed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from services.scheduler.domain.timetable import (
    Minted,
    Place,
    Plan,
    evolve_place,
    evolve_plan,
    key_of,
    minted,
    place_of,
)
from shared.events import AnyAuthEvent
from shared.pg import execute, rows
from shared.policy import ScopeKind
from shared.topology import AUTH

if TYPE_CHECKING:
    from shared.pg import PgConnection

_PLAN = (
    ("key_id", "text"), ("org_id", "text"), ("team_id", "text"), ("reach", "text"), ("alias", "text"),
    ("blocked", "boolean"),
    ("expires_at", "timestamptz"), ("deleted_at", "timestamptz"), ("every", "text"), ("interval_s", "bigint"),
    ("anchor", "timestamptz"), ("next_due_at", "timestamptz"), ("version", "integer"), ("minted_at", "timestamptz"),
)  # fmt: skip
_PLACE = (
    ("kind", "text"), ("scope_id", "text"), ("org_id", "text"), ("blocked", "boolean"), ("deleted_at", "timestamptz"),
)  # fmt: skip
_FIELDS = {"every": "interval"}
"""Columns that are called otherwise than the field of the plan."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far auth's log is folded, and which stream of that name it was. `position` is auth's own commit order."""

    stream_created: str
    seq: int = 0
    position: int = 0
    complete: bool = False


async def checkpoint(connection: "PgConnection", *, lock: bool = False) -> Checkpoint | None:
    """Where the timetable stands; with `lock` nobody else moves it until the end of the transaction."""
    found = await rows(
        connection,
        "SELECT stream_created, seq, position, complete FROM checkpoint WHERE stream = $1"
        + (" FOR UPDATE" if lock else ""),
        AUTH,
    )
    return msgspec.convert(dict(found[0]), Checkpoint) if found else None


async def write(connection: "PgConnection", events: Sequence[AnyAuthEvent]) -> None:
    """Load the plans and places that events concern, let them evolve, write what has changed."""
    keys = {key_id for event in events if (key_id := key_of(event)) is not None}
    plans = {
        row["key_id"]: plan_of(row)
        for row in await rows(connection, "SELECT * FROM rotation WHERE key_id = ANY($1) FOR UPDATE", sorted(keys))
    }
    names = sorted({name for event in events if (name := place_of(event)) is not None})
    places = {
        (row["kind"], row["scope_id"]): msgspec.convert(dict(row), Place)
        for row in await rows(
            connection,
            "SELECT place.* FROM place JOIN unnest($1::text[], $2::text[]) AS wanted (kind, scope_id)"
            " USING (kind, scope_id)",
            [kind for kind, _ in names],
            [scope_id for _, scope_id in names],
        )
    }
    before: tuple[dict[str, Plan], dict[tuple[ScopeKind, str], Place]] = (dict(plans), dict(places))
    done: list[Minted] = []
    for event in events:
        key_id, name = key_of(event), place_of(event)
        if key_id is not None and (plan := evolve_plan(plans.get(key_id), event)) is not None:
            plans[key_id] = plan
        if name is not None and (place := evolve_place(places.get(name), event)) is not None:
            places[name] = place
        if (fact := minted(event)) is not None:
            done.append(fact)
    changed = [plans[key] for key in sorted(plans) if before[0].get(key) != plans[key]]
    await _upsert(connection, "rotation", _PLAN, "key_id", changed)
    moved = [places[name] for name in sorted(places) if before[1].get(name) != places[name]]
    await _upsert(connection, "place", _PLACE, "kind, scope_id", moved)
    if done:
        await execute(
            connection,
            "UPDATE rotation_run AS run SET version = w.version, minted_at = w.at"
            " FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::timestamptz[])"
            " AS w (key_id, due_at, version, at) WHERE run.key_id = w.key_id AND run.due_at = w.due_at",
            [fact.key_id for fact in done],
            [fact.due_at for fact in done],
            [fact.version for fact in done],
            [fact.at for fact in done],
        )


async def _upsert(
    connection: "PgConnection",
    table: str,
    columns: tuple[tuple[str, str], ...],
    key: str,
    found: Sequence[Plan] | Sequence[Place],
) -> None:
    """Write whole rows, in the order given, so that two writers cannot block each other."""
    if not found:
        return
    names = [name for name, _ in columns]
    arrays = ", ".join(f"${place}::{kind}[]" for place, (_, kind) in enumerate(columns, 1))
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key.split(", "))
    await execute(
        connection,
        f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM unnest({arrays})"
        f" ON CONFLICT ({key}) DO UPDATE SET {updates}",
        *([getattr(one, _FIELDS.get(name, name)) for one in found] for name in names),
    )


def plan_of(row: Mapping[str, Any]) -> Plan:
    """A row of the timetable."""
    return Plan(**{_FIELDS.get(name, name): row[name] for name, _ in _PLAN})
