"""Reading the books."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from services.ledger.bookkeeper.schemas import LogRow
from services.ledger.bookkeeper.store import Database
from services.ledger.bookkeeper.store_rows import usage_in
from services.ledger.domain.books import Spent, Total, WindowKey
from shared.money import usd_from_nusd
from shared.pg import rows

SUCCESS_BELOW = 400


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to show; None does not filter. `before` is the last event of the page before.

    `reach_org` and `reach_team` are what the asker may see; the other two what was asked for.
    """

    reach_org: str | None = None
    reach_team: str | None = None
    key_id: str | None = None
    team_id: str | None = None
    org_id: str | None = None
    model: str | None = None
    outcome: str | None = None
    measured: str | None = None
    call_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    before: UUID | None = None


_CONDITIONS = {
    "reach_org": "org_id = {}",
    "reach_team": "team_id = {}",
    "key_id": "key_id = {}",
    "team_id": "team_id = {}",
    "org_id": "org_id = {}",
    "model": "model = {}",
    "outcome": "outcome = {}",
    "measured": "measured = {}",
    "call_id": "call_id = {}",
    "start": "started_at >= {}",
    "end": "started_at < {}",
    "before": "event_id < {}",
}


async def total(database: Database, kind: str, scope_id: str) -> Total:
    """A scope's sums since the beginning."""
    async with database.connection() as connection:
        found = await rows(connection, "SELECT * FROM spend WHERE scope_kind = $1 AND scope_id = $2", kind, scope_id)
    return _total(found[0]) if found else Total()


async def windows(database: Database, wanted: list[WindowKey]) -> dict[WindowKey, Spent]:
    """What was spent in some account-windows; those nobody spent in are left out."""
    if not wanted:
        return {}
    async with database.connection() as connection:
        found = await rows(
            connection,
            "SELECT account, window_index, spent_nusd, overdraft_nusd FROM account_spend"
            " JOIN unnest($1::text[], $2::integer[]) AS wanted (account, window_index) USING (account, window_index)",
            [account for account, _ in wanted],
            [index for _, index in wanted],
        )
    return {
        (row["account"], row["window_index"]): Spent(spent_nusd=row["spent_nusd"], overdraft_nusd=row["overdraft_nusd"])
        for row in found
    }


async def ranked(
    database: Database, kind: str, among: Sequence[str] | None, limit: int, offset: int
) -> tuple[int, list[tuple[str, Total]]]:
    """(how many scopes of a kind have spent, a page of them with the dearest first); None for `among`: of all there
    are."""
    condition = "scope_kind = $1 AND ($2::text[] IS NULL OR scope_id = ANY($2))"
    ids = None if among is None else list(among)
    async with database.connection() as connection:
        count = await rows(connection, f"SELECT count(*) AS scopes FROM spend WHERE {condition}", kind, ids)
        found = await rows(
            connection,
            f"SELECT * FROM spend WHERE {condition} ORDER BY total_nusd DESC, scope_id LIMIT $3 OFFSET $4",
            kind,
            ids,
            limit,
            offset,
        )
    return count[0]["scopes"], [(row["scope_id"], _total(row)) for row in found]


async def uses(database: Database, key_id: str) -> dict[int, datetime]:
    """When each version of a key's secret was last used; those never used are left out."""
    async with database.connection() as connection:
        found = await rows(connection, "SELECT version, last_at FROM secret_use WHERE key_id = $1", key_id)
    return {row["version"]: row["last_at"] for row in found}


async def calls(database: Database, wanted: LogFilter, limit: int) -> list[LogRow]:
    """Calls, newest first."""
    conditions: list[str] = []
    arguments: list[object] = []
    for name, condition in _CONDITIONS.items():
        value: object = getattr(wanted, name)
        if value is not None:
            arguments.append(value)
            conditions.append(condition.format(f"${len(arguments)}"))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    arguments.append(limit)
    async with database.connection() as connection:
        found = await rows(
            connection,
            f"SELECT * FROM usage_event{where} ORDER BY event_id DESC LIMIT ${len(arguments)}",
            *arguments,
        )
    return [_log_row(row) for row in found]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much the books hold: calls, corrections, those not folded yet, calls priced otherwise, dead letters."""

    events: int
    corrections: int
    pending: int
    mispriced: int
    dead: int


async def counts(database: Database) -> Counts:
    """How much the books hold."""
    async with database.connection() as connection:
        found = await rows(
            connection,
            "SELECT (SELECT coalesce(sum(calls), 0)::bigint FROM spend WHERE scope_kind = 'org') AS events,"
            " (SELECT count(*) FROM correction) AS corrections,"
            " (SELECT count(*) FROM correction_outbox) AS pending,"
            " (SELECT count(*) FROM usage_event WHERE repriced_nusd IS NOT NULL) AS mispriced,"
            " (SELECT count(*) FROM dead_letter) AS dead",
        )
    return msgspec.convert(dict(found[0]), Counts)


def _total(row: Mapping[str, Any]) -> Total:
    return Total(
        total_nusd=row["total_nusd"],
        overdraft_nusd=row["overdraft_nusd"],
        calls=row["calls"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        last_at=row["last_at"],
    )


def _log_row(row: Any) -> LogRow:
    usage = usage_in(row)
    ok = row["outcome"] == "ok" and row["status"] < SUCCESS_BELOW
    return LogRow(
        request_id=row["call_id"],
        event_id=str(row["event_id"]),
        attempt=row["attempt"],
        call_type=row["endpoint"],
        api_key=row["key_id"],
        team_id=row["team_id"],
        organization_id=row["org_id"],
        spend=usd_from_nusd(row["cost_nusd"]),
        cost_nusd=row["cost_nusd"],
        held_nusd=row["held_nusd"],
        repriced_nusd=row["repriced_nusd"],
        total_tokens=usage.prompt + usage.completion,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        cached_tokens=usage.cached + usage.audio_cached + usage.image_cached,
        cache_write_tokens=usage.cache_write,
        cache_write_1h_tokens=usage.cache_write_1h,
        reasoning_tokens=usage.reasoning,
        audio_input_tokens=usage.audio_input,
        audio_cached_tokens=usage.audio_cached,
        audio_output_tokens=usage.audio_output,
        image_input_tokens=usage.image_input,
        image_cached_tokens=usage.image_cached,
        image_output_tokens=usage.image_output,
        images=usage.images,
        milliseconds=usage.milliseconds,
        characters=usage.characters,
        queries=usage.queries,
        pages=usage.pages,
        sessions=usage.sessions,
        service_tier=usage.tier,
        kind=usage.kind,
        start_time=row["started_at"],
        end_time=row["started_at"] + timedelta(milliseconds=row["duration_ms"]),
        request_duration_ms=row["duration_ms"],
        first_byte_ms=row["first_byte_ms"],
        overhead_us=row["overhead_us"],
        retries=row["retries"],
        model=row["model"],
        deployment=row["deployment"],
        served_model=row["served_model"],
        region=row["region"],
        status="success" if ok else "failure",
        outcome=row["outcome"],
        status_code=row["status"],
        measured=row["measured"],
        price_id=row["price_id"],
        secret_version=row["secret_version"],
        instance=row["instance"],
        n=row["n"],
        request_tags=msgspec.json.decode(row["tags"], type=list[str]),
        usage=msgspec.Raw((row["raw_usage"] or "null").encode()),
    )
