"""What the bill says, late and a little off: the public price list, and Cost Management over the served log."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec

from deploy.simulator import auth
from deploy.simulator.answers import Answer, decode
from deploy.simulator.asks import Ask
from deploy.simulator.batches import Batches
from deploy.simulator.errors import FoundryError, azure
from deploy.simulator.files import now_s, own_host, reply
from deploy.simulator.meters import CLAUDE_METER, Meter, all_meters, readings
from deploy.simulator.served import ServedCall

PRICES_PER_PAGE = 50
ROWS_PER_PAGE = 500
MAX_DAYS = 31
MAX_GROUPINGS = 2
MAX_FILTER_DEPTH = 8
BUSY_S = 15
AUDIENCES = (
    "https://management.azure.com",
    "https://management.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
)
RESOURCE = "/subscriptions/{}/resourcegroups/{}/providers/microsoft.cognitiveservices/accounts/sim"
GROUP = "llm"
MILLION = Decimal(1_000_000)
CLAUSE_PATTERN = re.compile(r"\s*(?:contains\(\s*(\w+)\s*,\s*'([^']*)'\s*\)|(\w+)\s+(eq|ne)\s+'([^']*)')\s*")
METRICS = ("Cost", "PreTaxCost", "CostUSD", "UsageQuantity")

Row = dict[str, Any]


async def prices(ask: Ask, match: re.Match[str]) -> Answer:
    """The public price list, by pages; `$filter` knows `eq`, `ne`, `contains`, `and`, `or`."""
    query = {name: values[0] for name, values in parse_qs(ask.scope["query_string"].decode("utf-8", "replace")).items()}
    wanted = query.get("$filter", "")
    fits = _price_filter(wanted)
    skip = query.get("$skip", "0")
    if not (skip.isascii() and skip.isdigit() and len(skip) < 8):
        raise FoundryError(400, azure("BadRequest", "Invalid $skip."))
    rows = [row for row in map(_price_row, all_meters()) if fits(row)]
    start = int(skip)
    shown = rows[start : start + PRICES_PER_PAGE]
    more = None
    if start + PRICES_PER_PAGE < len(rows):
        given = f"$filter={quote(wanted)}&" if wanted else ""
        more = f"{own_host(ask)}/api/retail/prices?{given}$skip={start + PRICES_PER_PAGE}"
    return reply(
        ask,
        {
            "BillingCurrency": "USD",
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": shown,
            "NextPageLink": more,
            "Count": len(shown),
        },
    )


def _price_row(one: Meter) -> Row:
    sku = one.name.removesuffix(" Tokens")
    number = sum(ord(letter) * (place + 1) for place, letter in enumerate(one.name))
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": float(one.usd),
        "unitPrice": float(one.usd),
        "armRegionName": "eastus",
        "location": "US East",
        "effectiveStartDate": "2026-01-01T00:00:00Z",
        "meterId": f"00000000-0000-0000-0000-{number:012x}",
        "meterName": one.name,
        "productId": "DZH318Z00000",
        "skuId": f"DZH318Z00000/{number % 10_000:04}",
        "productName": one.product,
        "skuName": sku,
        "serviceName": "Foundry Models",
        "serviceId": "DZH000000000",
        "serviceFamily": "AI + Machine Learning",
        "unitOfMeasure": one.unit,
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": sku,
    }


def _price_filter(text: str) -> Callable[[Row], bool]:
    """A predicate for `$filter`: alternatives of conjunctions, no brackets. Raises a 400 for anything else."""
    either: list[list[tuple[str, str, str]]] = []
    for alternative in re.split(r"\s+or\s+", text.strip()) if text.strip() else []:
        clauses: list[tuple[str, str, str]] = []
        for clause in re.split(
            r"\s+and\s+", alternative.strip("() ") if "contains" not in alternative else alternative
        ):
            found = CLAUSE_PATTERN.fullmatch(clause)
            if found is None:
                raise FoundryError(400, azure("BadRequest", f"Invalid OData parameters supplied: {clause}"))
            field = "type" if found[3] == "priceType" else (found[1] or found[3])
            clauses.append((field, "contains" if found[1] else found[4], found[2] if found[1] else found[5]))
        either.append(clauses)
    return lambda row: not either or any(all(_holds(row, *clause) for clause in clauses) for clauses in either)


def _holds(row: Row, field: str, how: str, value: str) -> bool:
    own = str(row.get(field))
    return value in own if how == "contains" else (own == value) == (how == "eq")


class Aggregate(msgspec.Struct):
    """One column to be summed up."""

    name: str
    function: str = "Sum"


class Grouping(msgspec.Struct):
    """One column to be grouped by."""

    name: str
    type: str = "Dimension"


class Dataset(msgspec.Struct):
    """What to sum up and how to split it."""

    granularity: str = "None"
    aggregation: dict[str, Aggregate] = {}
    grouping: list[Grouping] = []
    filter: dict[str, Any] | None = None


class Period(msgspec.Struct, rename={"begin": "from", "end": "to"}):
    """The span of a query."""

    begin: datetime
    end: datetime


class Query(msgspec.Struct, rename="camel"):
    """The body of a Cost Management query."""

    type: str
    timeframe: str
    dataset: Dataset
    time_period: Period | None = None


async def query(ask: Ask, match: re.Match[str]) -> Answer:
    """Costs and quantities by day and dimension, over the calls that were served long enough ago."""
    _enter(ask)
    asked = decode(ask.body, Query)
    begin, end = _span(asked, ask.site.clock.now())
    _check(asked)
    ask.site.one(Batches).advance(ask.site)
    columns, rows = _table(ask, asked, match[1], begin, end)
    if not rows:
        answer = reply(ask, b"")
        answer.status = 204
        return answer
    skip = parse_qs(ask.scope["query_string"].decode("latin-1")).get("$skiptoken", ["0"])[0]
    start = int(skip) if skip.isdigit() and len(skip) < 8 else 0
    path = ask.scope["path"]
    more = f"{own_host(ask)}{path}?api-version=2023-11-01&$skiptoken={start + ROWS_PER_PAGE}"
    name = ask.request_id
    properties = {
        "nextLink": more if start + ROWS_PER_PAGE < len(rows) else None,
        "columns": columns,
        "rows": rows[start : start + ROWS_PER_PAGE],
    }
    kind = "Microsoft.CostManagement/query"
    made = {"id": f"{path.strip('/')}/{name}", "name": name, "type": kind, "properties": properties}
    return reply(ask, made)


def _enter(ask: Ask) -> None:
    sent = ask.caller.authorization
    claims = auth.read_token(sent[7:].strip()) if sent is not None and sent[:7].lower() == b"bearer " else None
    if claims is None:
        raise FoundryError(
            401, azure("AuthenticationFailed", "Authentication failed. The token is missing or invalid.")
        )
    if claims.aud.rstrip("/") not in AUDIENCES:
        raise FoundryError(401, azure("InvalidAuthenticationTokenAudience", "The access token has the wrong audience."))
    if claims.exp <= now_s(ask):
        raise FoundryError(401, azure("ExpiredAuthenticationToken", "The access token has expired."))
    if ask.site.settings.costs_busy:
        headers = [(b"x-ms-ratelimit-microsoft.costmanagement-entity-retry-after", b"%d" % BUSY_S)]
        raise FoundryError(429, azure("429", "Too many requests. Please retry."), headers)


def _span(asked: Query, now: datetime) -> tuple[datetime, datetime]:
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if asked.timeframe == "MonthToDate":
        return month, now
    if asked.timeframe == "TheLastMonth":
        return (month - timedelta(days=1)).replace(day=1), month - timedelta(microseconds=1)
    if asked.timeframe != "Custom" or asked.time_period is None:
        raise FoundryError(400, azure("BadRequest", "Invalid timeframe: Custom needs a timePeriod."))
    begin, end = (_aware(one) for one in (asked.time_period.begin, asked.time_period.end))
    if end < begin or (asked.dataset.granularity == "Daily" and end - begin > timedelta(days=MAX_DAYS)):
        raise FoundryError(400, azure("BadRequest", f"The time period must be at most {MAX_DAYS} days."))
    return begin, end


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _check(asked: Query) -> None:
    data = asked.dataset
    if asked.type not in ("ActualCost", "AmortizedCost", "Usage"):
        raise FoundryError(400, azure("BadRequest", f"Invalid query type: {asked.type}"))
    if data.granularity not in ("Daily", "None"):
        raise FoundryError(400, azure("BadRequest", f"Invalid granularity: {data.granularity}"))
    if len(data.grouping) > MAX_GROUPINGS:
        raise FoundryError(400, azure("BadRequest", f"At most {MAX_GROUPINGS} groupings."))
    for one in data.aggregation.values():
        if one.name not in METRICS or one.function != "Sum":
            raise FoundryError(400, azure("BadRequest", f"Invalid aggregation: {one.name}"))


def _table(
    ask: Ask, asked: Query, subscription: str, begin: datetime, end: datetime
) -> tuple[list[Row], list[list[Any]]]:
    """The columns and rows of a query. Order: sums, day, groups, currency."""
    settings = ask.site.settings
    seen_until = ask.site.clock.now() - timedelta(seconds=settings.costs_lag_s)
    drift = 1 + settings.costs_drift_ppm / MILLION
    daily = asked.dataset.granularity == "Daily"
    groups = [one.name for one in asked.dataset.grouping]
    sums: dict[tuple[Any, ...], list[Decimal]] = {}
    for call in _calls(ask):
        if not begin <= call.at <= end or call.at > seen_until:
            continue
        for reading in readings(call, settings.costs_prices):
            facts = _facts(call, reading.meter, subscription)
            if not _passes(asked.dataset.filter, facts, 0):
                continue
            key = (int(f"{call.at:%Y%m%d}") if daily else None, *(facts.get(name, "") for name in groups))
            kept = sums.setdefault(key, [Decimal(0), Decimal(0)])
            kept[0] += reading.usd * drift
            kept[1] += reading.units * drift
    names = [one.name for one in asked.dataset.aggregation.values()]
    columns: list[Row] = [{"name": name, "type": "Number"} for name in names]
    columns += [{"name": "UsageDate", "type": "Number"}] if daily else []
    columns += [{"name": name, "type": "String"} for name in [*groups, "Currency"]]
    rows = [
        [
            *(float(kept[1] if name == "UsageQuantity" else kept[0]) for name in names),
            *(key if daily else key[1:]),
            "USD",
        ]
        for key, kept in sorted(sums.items(), key=lambda item: [str(part) for part in item[0]])
    ]
    return columns, rows


def _calls(ask: Ask) -> Iterator[ServedCall]:
    """All served calls that are kept, page by page."""
    since, more = 0, True
    while more:
        page = ask.site.served.page(since)
        yield from page.calls
        more = page.more
        since = page.calls[-1].seq if page.calls else since


def _facts(call: ServedCall, one: Meter, subscription: str) -> dict[str, str]:
    """A reading's dimensions."""
    claude = one.name == CLAUDE_METER
    return {
        "ResourceId": RESOURCE.format(subscription, GROUP),
        "ResourceGroupName": GROUP,
        "ServiceName": "SaaS" if claude else "Foundry Models",
        "MeterCategory": "SaaS" if claude else "Foundry Models",
        "MeterSubCategory": one.product,
        "Meter": one.name,
        "ChargeType": "Usage",
        "PublisherType": "Marketplace" if claude else "Azure",
    }


def _passes(wanted: dict[str, Any] | None, facts: dict[str, str], depth: int) -> bool:
    """Whether a reading passes a filter of `and`, `or` and `dimensions`."""
    if wanted is None:
        return True
    if depth > MAX_FILTER_DEPTH:
        raise FoundryError(400, azure("BadRequest", "The filter is nested too deeply."))
    if "and" in wanted:
        return all(_passes(one, facts, depth + 1) for one in wanted["and"])
    if "or" in wanted:
        return any(_passes(one, facts, depth + 1) for one in wanted["or"])
    clause = wanted.get("dimensions")
    if not isinstance(clause, dict):
        raise FoundryError(400, azure("BadRequest", "The filter must have dimensions, and, or."))
    values = [str(value).lower() for value in clause.get("values", [])]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]
    return facts.get(str(clause.get("name")), "").lower() in values  # pyright: ignore[reportUnknownArgumentType]
