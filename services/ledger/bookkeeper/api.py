"""The ledger's HTTP API, for people with a role and for the other services."""

from uuid import UUID

import msgspec
from litestar import get, post
from litestar.types import ControllerRouterHandler

from services.ledger.bookkeeper import shown, store_corrections, store_views
from services.ledger.bookkeeper.consumer import Consumer
from services.ledger.bookkeeper.corrections import Corrections
from services.ledger.bookkeeper.policies import Policies
from services.ledger.bookkeeper.rebuild import Rebuilds
from services.ledger.bookkeeper.schemas import (
    Corrected,
    CorrectionPage,
    CorrectSpend,
    KeyPage,
    LogPage,
    OrgPage,
    RebuildJob,
    ScopeBalance,
    StartedRebuild,
    StartRebuild,
    Status,
    TeamPage,
)
from services.ledger.bookkeeper.store import Database
from services.ledger.bookkeeper.store_views import LogFilter
from services.ledger.domain.books import Total
from services.ledger.domain.directory import Directory, Realm, scope_name
from shared.access import Principal, Right
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import ApiError
from shared.http import HttpRequest, admitted
from shared.policy import ScopeKind
from shared.query import PAGE_SIZE, PAGE_SIZE_MAX, number, page_and_size, query_of, time_of
from shared.topology import AUTH, LEDGER
from shared.windows import window_at

KINDS: dict[str, ScopeKind] = {"key": "key", "team": "team", "org": "org"}

_SPEND_QUERY = ("page", "size")
_CORRECTION_QUERY = ("scope_kind", "scope_id", "limit", "cursor")
_LOG_QUERY = (
    "key_id", "team_id", "organization_id", "model", "outcome", "measured", "call_id", "api_key", "request_id",
    "start", "end", "limit", "cursor",
)  # fmt: skip


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
        admitted(request, Right.SPEND_READ, everywhere=True)
        kind, scope_id = _scope(query_of(request, "scope_kind", "scope_id"))
        return await _balance(shelf, kind, scope_id)

    @get("/spend/keys")
    async def keys(request: HttpRequest) -> KeyPage:
        page = await _page(shelf, request, "key")
        data = [shown.key_spend(page.directory, key_id, total, shelf.clock.now()) for key_id, total in page.found]
        return KeyPage(data=data, total_count=page.count, current_page=page.page, total_pages=page.pages)

    @get("/spend/teams")
    async def teams(request: HttpRequest) -> TeamPage:
        page = await _page(shelf, request, "team")
        data = [shown.team_spend(page.directory, team_id, total, shelf.clock.now()) for team_id, total in page.found]
        return TeamPage(data=data, total_count=page.count, current_page=page.page, total_pages=page.pages)

    @get("/spend/orgs")
    async def orgs(request: HttpRequest) -> OrgPage:
        page = await _page(shelf, request, "org")
        data = [shown.org_spend(page.directory, org_id, total, shelf.clock.now()) for org_id, total in page.found]
        return OrgPage(data=data, total_count=page.count, current_page=page.page, total_pages=page.pages)

    @get("/spend/logs")
    async def logs(request: HttpRequest) -> LogPage:
        caller = admitted(request, Right.SPEND_READ)
        query = query_of(request, *_LOG_QUERY)
        limit = number(query, "limit", PAGE_SIZE, PAGE_SIZE_MAX)
        found = await store_views.calls(shelf.database, _log_filter(query, caller), limit + 1)
        more = len(found) > limit
        return LogPage(data=found[:limit], next=found[limit - 1].event_id if more else None)

    return [balance, keys, teams, orgs, logs]


def _correction_routes(shelf: Shelf) -> list[ControllerRouterHandler]:
    @post("/spend/correct", status_code=200)
    async def correct(request: HttpRequest) -> Corrected:
        # For auth, which has looked at the reach of whom it acts for, and for administrators.
        actor = admitted(request, Right.SPEND_CORRECT, everywhere=True).actor
        try:
            wanted = msgspec.json.decode(await request.body(), type=CorrectSpend)
        except msgspec.MsgspecError as error:
            raise ApiError(400, "bad_request", f"The body is no order to correct spend: {error}") from error
        return await shelf.corrections.order(wanted, actor)

    @get("/spend/corrections")
    async def corrections(request: HttpRequest) -> CorrectionPage:
        caller = admitted(request, Right.SPEND_READ)
        query = query_of(request, *_CORRECTION_QUERY)
        limit = number(query, "limit", PAGE_SIZE, PAGE_SIZE_MAX)
        scope = _scope(query) if query.keys() & {"scope_kind", "scope_id"} else None
        directory = shelf.policies.directory
        among: dict[ScopeKind, list[str]] | None = None
        if not caller.everywhere:
            among = {kind: directory.within(kind, _realm(caller)) for kind in KINDS.values()}
        found = await store_corrections.listed(shelf.database, scope, among, _cursor(query), limit + 1)
        data = [shown.correction_row(directory, one) for one in found[:limit]]
        return CorrectionPage(data=data, next=data[-1].event_id if len(found) > limit else None)

    return [correct, corrections]


def _ledger_routes(shelf: Shelf) -> list[ControllerRouterHandler]:
    @post("/ledger/rebuild", status_code=202)
    async def rebuild(request: HttpRequest) -> StartedRebuild:
        admitted(request, Right.OPERATE, everywhere=True)
        try:
            order = msgspec.json.decode(await request.body() or b"{}", type=StartRebuild)
        except msgspec.MsgspecError as error:
            raise ApiError(400, "bad_request", f'The body is not like {{"check": true}}: {error}') from error
        return StartedRebuild(job=shelf.rebuilds.start(check=order.check))

    @get("/ledger/rebuild/{job:str}")
    async def rebuild_job(request: HttpRequest) -> RebuildJob:
        admitted(request, Right.OPERATE, everywhere=True)
        return shelf.rebuilds.get(str(request.path_params["job"]))

    @get("/ledger/status")
    async def status(request: HttpRequest) -> Status:
        admitted(request, Right.OPERATE, everywhere=True)
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
        accounts=[shown.account_balance(budget, current[budget.account], spent, now) for budget in budgets],
        versions=await store_views.uses(shelf.database, scope_id) if kind == "key" else {},
    )


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page of scopes with their sums."""

    directory: Directory
    found: list[tuple[str, Total]]
    count: int
    page: int
    pages: int


async def _page(shelf: Shelf, request: HttpRequest, kind: ScopeKind) -> _Found:
    """The page of scopes that a request asks for, of those that the caller may see."""
    caller = admitted(request, Right.SPEND_READ)
    page, size = page_and_size(query_of(request, *_SPEND_QUERY))
    directory = shelf.policies.directory
    among = None if caller.everywhere else directory.within(kind, _realm(caller))
    count, found = await store_views.ranked(shelf.database, kind, among, size, (page - 1) * size)
    return _Found(directory=directory, found=found, count=count, page=page, pages=-(-count // size))


# ---- what callers send -----------------------------------------------------------------------------------


def _realm(caller: Principal) -> Realm:
    """Where somebody's role holds, who does not reach everything."""
    org_id, team_id = caller.bounds()
    return Realm(org_id=org_id or "", team_id=team_id)


def _scope(query: dict[str, str]) -> tuple[ScopeKind, str]:
    scope_id = query.get("scope_id", "")
    kind = KINDS.get(query.get("scope_kind", ""))
    if kind is None:
        raise ApiError(400, "bad_request", "scope_kind must be key, team or org.", param="scope_kind")
    if not scope_id:
        raise ApiError(400, "bad_request", "scope_id is missing.", param="scope_id")
    return kind, scope_id


def _cursor(query: dict[str, str]) -> UUID | None:
    cursor = query.get("cursor")
    try:
        return None if cursor is None else UUID(cursor)
    except ValueError as error:
        raise ApiError(400, "bad_request", "'cursor' must be the `next` of an earlier page.", param="cursor") from error


def _log_filter(query: dict[str, str], caller: Principal) -> LogFilter:
    """`api_key` and `request_id` are LiteLLM's names of `key_id` and `call_id`."""
    realm = None if caller.everywhere else _realm(caller)
    return LogFilter(
        reach_org=None if realm is None else realm.org_id,
        reach_team=None if realm is None else realm.team_id,
        key_id=query.get("key_id") or query.get("api_key"),
        team_id=query.get("team_id"),
        org_id=query.get("organization_id"),
        model=query.get("model"),
        outcome=query.get("outcome"),
        measured=query.get("measured"),
        call_id=query.get("call_id") or query.get("request_id"),
        start=time_of(query, "start"),
        end=time_of(query, "end"),
        before=_cursor(query),
    )
