"""The ledger's HTTP API, for administrators and for the other services."""

from datetime import UTC, datetime
from typing import Literal, cast, get_args
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.types import ControllerRouterHandler

from services.ledger.bookkeeper import store_corrections, store_views
from services.ledger.bookkeeper.consumer import Consumer
from services.ledger.bookkeeper.corrections import Corrections, corrected
from services.ledger.bookkeeper.policies import Policies
from services.ledger.bookkeeper.rebuild import Rebuilds
from services.ledger.bookkeeper.schemas import (
    AccountBalance,
    Corrected,
    CorrectionPage,
    CorrectionRow,
    CorrectSpend,
    KeyPage,
    KeySpend,
    LogPage,
    RebuildJob,
    ScopeBalance,
    StartedRebuild,
    StartRebuild,
    Status,
    TeamPage,
    TeamSpend,
)
from services.ledger.bookkeeper.store import Database
from services.ledger.bookkeeper.store_corrections import Correction
from services.ledger.bookkeeper.store_views import LogFilter
from services.ledger.domain.books import Spent, Total, WindowKey
from services.ledger.domain.directory import Directory, scope_name
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import ApiError
from shared.http import HttpRequest, admin_of
from shared.money import usd_from_nusd
from shared.policy import Budget, ScopeKind
from shared.topology import AUTH, LEDGER
from shared.windows import Window, window_at

PAGE_SIZE = 100
PAGE_SIZE_MAX = 1_000
PAGE_MAX = 1_000_000
TEXT_CHARS_MAX = 300

_SPEND_QUERY = ("page", "size")
_LOG_TEXTS = ("key_id", "team_id", "model", "outcome", "measured", "call_id")
_CORRECTION_QUERY = ("scope_kind", "scope_id", "limit", "cursor")
_LOG_QUERY = (*_LOG_TEXTS, "api_key", "request_id", "start", "end", "limit", "cursor")


class Shelf:
    """What the routes work with."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        policies: Policies,
        consumer: Consumer,
        rebuilds: Rebuilds,
        corrections: Corrections,
        clock: Clock,
    ) -> None:
        self.bus = bus
        self.database = database
        self.policies = policies
        self.consumer = consumer
        self.rebuilds = rebuilds
        self.corrections = corrections
        self.clock = clock


def routes(shelf: Shelf) -> list[ControllerRouterHandler]:
    """`/spend/*` and `/ledger/*`."""
    return [*_spend_routes(shelf), *_correction_routes(shelf), *_ledger_routes(shelf)]


def _spend_routes(shelf: Shelf) -> list[ControllerRouterHandler]:
    @get("/spend/balance")
    async def balance(request: HttpRequest) -> ScopeBalance:
        admin_of(request)
        kind, scope_id = _scope(_query(request, "scope_kind", "scope_id"))
        return await _balance(shelf, kind, scope_id)

    @get("/spend/keys")
    async def keys(request: HttpRequest) -> KeyPage:
        admin_of(request)
        page, size = _page(_query(request, *_SPEND_QUERY))
        directory = shelf.policies.directory
        count, found = await store_views.ranked(shelf.database, "key", size, (page - 1) * size)
        now = shelf.clock.now()
        data = [_key_spend(directory, key_id, total, now) for key_id, total in found]
        return KeyPage(data=data, total_count=count, current_page=page, total_pages=-(-count // size))

    @get("/spend/teams")
    async def teams(request: HttpRequest) -> TeamPage:
        admin_of(request)
        page, size = _page(_query(request, *_SPEND_QUERY))
        directory = shelf.policies.directory
        count, found = await store_views.ranked(shelf.database, "team", size, (page - 1) * size)
        now = shelf.clock.now()
        data = [_team_spend(directory, team_id, total, now) for team_id, total in found]
        return TeamPage(data=data, total_count=count, current_page=page, total_pages=-(-count // size))

    @get("/spend/logs")
    async def logs(request: HttpRequest) -> LogPage:
        admin_of(request)
        query = _query(request, *_LOG_QUERY)
        limit = _number(query, "limit", PAGE_SIZE, PAGE_SIZE_MAX)
        found = await store_views.calls(shelf.database, _log_filter(query), limit + 1)
        more = len(found) > limit
        return LogPage(data=found[:limit], next=found[limit - 1].event_id if more else None)

    return [balance, keys, teams, logs]


def _correction_routes(shelf: Shelf) -> list[ControllerRouterHandler]:
    @post("/spend/correct", status_code=200)
    async def correct(request: HttpRequest) -> Corrected:
        actor = admin_of(request).actor
        try:
            wanted = msgspec.json.decode(await request.body(), type=CorrectSpend)
        except msgspec.MsgspecError as error:
            raise ApiError(400, "bad_request", f"The body is no order to correct spend: {error}") from error
        return await shelf.corrections.order(wanted, actor)

    @get("/spend/corrections")
    async def corrections(request: HttpRequest) -> CorrectionPage:
        admin_of(request)
        query = _query(request, *_CORRECTION_QUERY)
        limit = _number(query, "limit", PAGE_SIZE, PAGE_SIZE_MAX)
        scope = _scope(query) if query.keys() & {"scope_kind", "scope_id"} else None
        found = await store_corrections.listed(shelf.database, scope, _cursor(query), limit + 1)
        data = [_correction_row(shelf.policies.directory, one) for one in found[:limit]]
        return CorrectionPage(data=data, next=data[-1].event_id if len(found) > limit else None)

    return [correct, corrections]


def _ledger_routes(shelf: Shelf) -> list[ControllerRouterHandler]:
    @post("/ledger/rebuild", status_code=202)
    async def rebuild(request: HttpRequest) -> StartedRebuild:
        admin_of(request)
        try:
            order = msgspec.json.decode(await request.body() or b"{}", type=StartRebuild)
        except msgspec.MsgspecError as error:
            raise ApiError(400, "bad_request", f'The body is not like {{"check": true}}: {error}') from error
        return StartedRebuild(job=shelf.rebuilds.start(check=order.check))

    @get("/ledger/rebuild/{job:str}")
    async def rebuild_job(request: HttpRequest) -> RebuildJob:
        admin_of(request)
        return shelf.rebuilds.get(str(request.path_params["job"]))

    @get("/ledger/status")
    async def status(request: HttpRequest) -> Status:
        admin_of(request)
        counts = await store_views.counts(shelf.database)
        info = await shelf.consumer.info()
        return Status(
            position=shelf.consumer.position,
            lag_messages=info.num_pending,
            unacknowledged=info.num_ack_pending,
            problem=shelf.consumer.problem,
            events=counts.events,
            corrections=counts.corrections,
            corrections_pending=counts.pending,
            mispriced=counts.mispriced,
            dead_letters=counts.dead,
            streams={name: await _stream(shelf.bus, name) for name in (AUTH, LEDGER)},
        )

    return [rebuild, rebuild_job, status]


async def _stream(bus: Bus, name: str) -> dict[str, object]:
    info = await bus.stream_info(name)
    return {
        "created": info.created,
        "messages": info.state.messages,
        "bytes": info.state.bytes,
        "first_seq": info.state.first_seq,
        "last_seq": info.state.last_seq,
    }


async def _balance(shelf: Shelf, kind: ScopeKind, scope_id: str) -> ScopeBalance:
    directory = shelf.policies.directory
    now = shelf.clock.now()
    budgets = [directory.budgets[name] for name in directory.scopes.get(scope_name(kind, scope_id), ())]
    current = {budget.account: window_at(budget.window, now) for budget in budgets}
    spent = await store_views.windows(
        shelf.database, [(budget.account, current[budget.account].index) for budget in budgets]
    )
    total = await store_views.total(shelf.database, kind, scope_id)
    return ScopeBalance(
        scope_kind=kind,
        scope_id=scope_id,
        total_nusd=total.total_nusd,
        overdraft_nusd=total.overdraft_nusd,
        accounts=[_account_balance(budget, current[budget.account], spent, now) for budget in budgets],
    )


def _account_balance(budget: Budget, window: Window, spent: dict[WindowKey, Spent], now: datetime) -> AccountBalance:
    sums = spent.get((budget.account, window.index), Spent())
    return AccountBalance(
        account=budget.account,
        index=window.index,
        spent_nusd=sums.spent_nusd,
        overdraft_nusd=sums.overdraft_nusd,
        start=window.start,
        end=window.end,
        limit_nusd=budget.limit_at(now),
        soft_nusd=budget.soft_nusd,
        duration=budget.window.duration,
        zone=budget.window.zone,
        model=budget.model,
    )


def _correction_row(directory: Directory, one: Correction) -> CorrectionRow:
    return CorrectionRow(
        event_id=str(one.event_id),
        at=one.at,
        scope_kind=one.scope_kind,
        scope_id=one.scope_id,
        alias=directory.alias(cast("ScopeKind", one.scope_kind), one.scope_id),
        actor=one.actor,
        reason=one.reason,
        changes=corrected(one.changes),
        pending=one.pending,
    )


def _key_spend(directory: Directory, key_id: str, total: Total, now: datetime) -> KeySpend:
    place = directory.keys.get(key_id)
    return KeySpend(
        token=key_id,
        key_id=key_id,
        key_alias=None if place is None else place.alias,
        key_name=None if place is None else place.hint,
        team_id=None if place is None else place.team_id,
        organization_id=None if place is None else place.org_id,
        spend=usd_from_nusd(total.total_nusd),
        spend_nusd=total.total_nusd,
        overdraft_nusd=total.overdraft_nusd,
        calls=total.calls,
        prompt_tokens=total.input_tokens,
        completion_tokens=total.output_tokens,
        total_tokens=total.input_tokens + total.output_tokens,
        max_budget=_max_budget(directory, "key", key_id, now),
        last_active=total.last_at,
    )


def _team_spend(directory: Directory, team_id: str, total: Total, now: datetime) -> TeamSpend:
    place = directory.teams.get(team_id)
    return TeamSpend(
        team_id=team_id,
        team_alias=None if place is None else place.alias,
        organization_id=None if place is None else place.org_id,
        spend=usd_from_nusd(total.total_nusd),
        spend_nusd=total.total_nusd,
        overdraft_nusd=total.overdraft_nusd,
        calls=total.calls,
        prompt_tokens=total.input_tokens,
        completion_tokens=total.output_tokens,
        total_tokens=total.input_tokens + total.output_tokens,
        max_budget=_max_budget(directory, "team", team_id, now),
        last_active=total.last_at,
    )


def _max_budget(directory: Directory, kind: Literal["key", "team"], scope_id: str, now: datetime) -> float | None:
    """The lowest limit in force on all calls of a scope, in dollars."""
    budgets = [directory.budgets[name] for name in directory.scopes.get(scope_name(kind, scope_id), ())]
    limits = [limit for one in budgets if one.model is None and (limit := one.limit_at(now)) is not None]
    return usd_from_nusd(min(limits)) if limits else None


# ---- what callers send -----------------------------------------------------------------------------------


def _query(request: HttpRequest, *known: str) -> dict[str, str]:
    """The query's fields, each once; raises ApiError 400 for one that is not known."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise ApiError(
                400, "unknown_parameter", f"Unknown parameter '{name}'. Known: {', '.join(known)}.", param=name
            )
        if len(value) > TEXT_CHARS_MAX or "\0" in value:
            raise ApiError(400, "bad_request", f"'{name}' is not a usable value.", param=name)
        if value:
            found[name] = value
    return found


def _scope(query: dict[str, str]) -> tuple[ScopeKind, str]:
    kind, scope_id = query.get("scope_kind", ""), query.get("scope_id", "")
    if kind not in get_args(ScopeKind):
        raise ApiError(400, "bad_request", "scope_kind must be key, team or org.", param="scope_kind")
    if not scope_id:
        raise ApiError(400, "bad_request", "scope_id is missing.", param="scope_id")
    return cast("ScopeKind", kind), scope_id


def _cursor(query: dict[str, str]) -> UUID | None:
    cursor = query.get("cursor")
    try:
        return None if cursor is None else UUID(cursor)
    except ValueError as error:
        raise ApiError(400, "bad_request", "'cursor' must be the `next` of an earlier page.", param="cursor") from error


def _number(query: dict[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= most:
        raise ApiError(400, "bad_request", f"'{name}' must be a whole number from 1 to {most}.", param=name)
    return int(text)


def _page(query: dict[str, str]) -> tuple[int, int]:
    return _number(query, "page", 1, PAGE_MAX), _number(query, "size", PAGE_SIZE, PAGE_SIZE_MAX)


def _log_filter(query: dict[str, str]) -> LogFilter:
    """`api_key` and `request_id` are LiteLLM's names of `key_id` and `call_id`."""
    return LogFilter(
        key_id=query.get("key_id") or query.get("api_key"),
        team_id=query.get("team_id"),
        model=query.get("model"),
        outcome=query.get("outcome"),
        measured=query.get("measured"),
        call_id=query.get("call_id") or query.get("request_id"),
        start=_time(query, "start"),
        end=_time(query, "end"),
        before=_cursor(query),
    )


def _time(query: dict[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ApiError(
            400, "bad_request", f"'{name}' must be a time such as 2026-11-01 or 2026-11-01T12:00:00Z.", param=name
        ) from error
