"""The simulator's bills: the price list, and Cost Management over what was served, late and a little off."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from deploy.simulator import Options, Simulator, costs
from deploy.simulator.identity import mint
from tests.unit.simulator_driver import Reply, ask, chat

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
QUERY = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement/query"
PRICES = "/api/retail/prices"


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic_ms(self) -> int:
        return 0


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def simulator(clock: Hands) -> Simulator:
    return Simulator(Options(), clock)


async def serve(simulator: Simulator, model: str = "gpt-4.1", words: str = "prompt=1000 completion=500") -> None:
    reply = await ask(simulator, "/openai/v1/chat/completions", chat(f"[[sim {words}]]", model=model), query="")
    assert reply.status == 200


def body(**changes: Any) -> dict[str, Any]:
    dataset = {
        "granularity": "Daily",
        "aggregation": {
            "totalCost": {"name": "Cost", "function": "Sum"},
            "qty": {"name": "UsageQuantity", "function": "Sum"},
        },
        "grouping": [{"type": "Dimension", "name": "ResourceId"}, {"type": "Dimension", "name": "Meter"}],
        **changes.pop("dataset", {}),
    }
    period = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-30T23:59:59Z"}
    return {"type": "ActualCost", "timeframe": "Custom", "timePeriod": period, "dataset": dataset, **changes}


async def bill(simulator: Simulator, query: str = "api-version=2023-11-01", path: str = QUERY, **changes: Any) -> Reply:
    now = int(simulator.site.clock.now().timestamp())
    token = mint("https://management.azure.com", now, 3_600, "c")
    headers = {"authorization": f"Bearer {token}", "host": "management.azure.com"}
    return await ask(simulator, path, body(**changes), query=query, headers=headers)


def rows(reply: Reply) -> list[dict[str, Any]]:
    """The rows by their columns' names."""
    told = reply.json["properties"]
    names = [column["name"] for column in told["columns"]]
    return [dict(zip(names, row, strict=True)) for row in told["rows"]]


async def settings(simulator: Simulator, **changes: object) -> None:
    assert (await ask(simulator, "/_sim/settings", changes, query="", headers={})).status == 200


async def test_the_bill_adds_up_by_day_and_meter(simulator: Simulator, clock: Hands) -> None:
    await serve(simulator)
    await serve(simulator, words="prompt=1000 cached=400 completion=100")
    clock.at += timedelta(hours=2)
    await serve(simulator, "gpt-5.4-mini", "prompt=2000 completion=10")
    reply = await bill(simulator)
    assert [column["name"] for column in reply.json["properties"]["columns"]] == [
        "Cost", "UsageQuantity", "UsageDate", "ResourceId", "Meter", "Currency",
    ]  # fmt: skip
    found = {(row["UsageDate"], row["Meter"]): (row["UsageQuantity"], round(row["Cost"], 9)) for row in rows(reply)}
    assert found == {
        (20261120, "gpt 4.1 Inp glbl Tokens"): (1.6, 0.0032),
        (20261120, "gpt 4.1 cached Inp glbl Tokens"): (0.4, 0.0002),
        (20261120, "gpt 4.1 Outp glbl Tokens"): (0.6, 0.0048),
        (20261121, "5.4 mini inp Gl 1M Tokens"): (0.002, 0.0015),
        (20261121, "5.4 mini outp Gl 1M Tokens"): (0.00001, 0.000045),
    }
    assert rows(reply)[0]["ResourceId"].startswith(f"/subscriptions/{SUBSCRIPTION}/")


async def test_calls_are_seen_late_and_a_little_off(simulator: Simulator, clock: Hands) -> None:
    await serve(simulator)
    await settings(simulator, costs_lag_s=7_200, costs_drift_ppm=10_000)
    assert (await bill(simulator)).status == 204
    clock.at += timedelta(hours=2)
    (one,) = rows(await bill(simulator, dataset={"granularity": "None", "grouping": []}))
    assert one == {"Cost": pytest.approx(0.006 * 1.01), "UsageQuantity": pytest.approx(1.515), "Currency": "USD"}


async def test_tiers_long_contexts_and_prices_of_ones_own(simulator: Simulator) -> None:
    await settings(simulator, costs_prices={"my-model": {"input": "7", "output": "9"}})
    await serve(simulator, "my-model", "prompt=1000000 completion=0")
    await serve(simulator, "gpt-5.4", "prompt=300000 completion=1000")
    await serve(simulator, "gpt-4o", "prompt=1000000 completion=0 tier=2")
    by_meter = {row["Meter"]: round(row["Cost"], 6) for row in rows(await bill(simulator))}
    assert by_meter["my model Inp glbl Tokens"] == 7
    assert by_meter["5.4 LongCo inp Gl 1M Tokens"] == 1.5
    assert by_meter["5.4 LongCo outp Gl 1M Tokens"] == 0.0225
    assert by_meter["gpt 4o Inp pp glbl Tokens"] == 5


async def test_filters_pages_and_claude(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    await serve(simulator)
    headers = {"x-api-key": "sim-foundry-key", "anthropic-version": "2023-06-01"}
    asked = chat("[[sim prompt=1000 completion=0]]", model="claude-sonnet-4-5", max_tokens=9)
    assert (await ask(simulator, "/anthropic/v1/messages", asked, query="", headers=headers)).status == 200
    only: Any = {"dimensions": {"name": "ServiceName", "operator": "In", "values": ["Foundry Models"]}}
    one: Any = {"dimensions": {"name": "Meter", "operator": "In", "values": ["gpt 4.1 Inp glbl Tokens"]}}
    both = {"and": [only, {"or": [one]}]}
    assert len(rows(await bill(simulator))) == 3
    assert len(rows(await bill(simulator, dataset={"filter": only}))) == 2
    assert len(rows(await bill(simulator, dataset={"filter": both}))) == 1
    units = [row for row in rows(await bill(simulator)) if row["Meter"] == "Claude Consumption Units"]
    assert [row["Cost"] for row in units] == [pytest.approx(0.003)]
    monkeypatch.setattr(costs, "ROWS_PER_PAGE", 2)
    first = await bill(simulator)
    link = urlsplit(first.json["properties"]["nextLink"])
    second = await bill(simulator, query=link.query, path=link.path)
    assert (len(rows(first)), len(rows(second)), second.json["properties"]["nextLink"]) == (2, 1, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Guess"},
        {"timeframe": "Never"},
        {"timePeriod": {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}},
        {"dataset": {"granularity": "Hourly"}},
        {"dataset": {"aggregation": {"a": {"name": "Love", "function": "Sum"}}}},
        {"dataset": {"grouping": [{"type": "Dimension", "name": name} for name in "abc"]}},
        {"dataset": {"filter": {"nothing": 1}}},
    ],
)
async def test_queries_that_are_refused(simulator: Simulator, changes: dict[str, Any]) -> None:
    await serve(simulator)
    assert (await bill(simulator, **changes)).status == 400


async def test_tokens_and_limits(simulator: Simulator) -> None:
    assert (await ask(simulator, QUERY, body(), query="", headers={})).status == 401
    wrong = mint("https://vault.azure.net", int(simulator.site.clock.now().timestamp()), 60, "c")
    headers = {"authorization": f"Bearer {wrong}"}
    assert (await ask(simulator, QUERY, body(), query="", headers=headers)).status == 401
    await settings(simulator, costs_busy=True)
    busy = await bill(simulator)
    assert (busy.status, busy.headers["x-ms-ratelimit-microsoft.costmanagement-entity-retry-after"]) == (429, "15")
    await settings(simulator, costs_busy=False)
    await serve(simulator)
    month = await bill(simulator, timeframe="MonthToDate")
    assert (month.status, (await bill(simulator, timeframe="TheLastMonth")).status) == (200, 204)


async def prices(simulator: Simulator, query: str) -> Any:
    return (await ask(simulator, PRICES, query=query, method="GET", headers={"host": "prices.azure.com"})).json


async def test_the_price_list_by_pages(simulator: Simulator) -> None:
    items: list[Any] = []
    page = await prices(simulator, "api-version=2023-01-01-preview&currencyCode='USD'")
    items += page["Items"]
    while page["NextPageLink"] is not None:
        page = await prices(simulator, urlsplit(page["NextPageLink"]).query)
        items += page["Items"]
    assert len(items) > 100
    assert len({item["meterName"] for item in items}) == len(items)
    assert {item["unitOfMeasure"] for item in items} == {"1K", "1M", "1"}
    assert not any("claude" in item["meterName"].lower() for item in items)


async def test_the_price_list_is_filtered(simulator: Simulator) -> None:
    wanted = (
        "serviceName eq 'Foundry Models' and armRegionName eq 'eastus' and priceType eq 'Consumption' "
        "and contains(meterName,'gpt 4.1 mini')"
    )
    page = await prices(simulator, urlencode({"$filter": wanted}))
    found = {item["meterName"]: (item["retailPrice"], item["unitOfMeasure"]) for item in page["Items"]}
    assert found == {
        "gpt 4.1 mini Inp glbl Tokens": (0.0004, "1K"),
        "gpt 4.1 mini cached Inp glbl Tokens": (0.0001, "1K"),
        "gpt 4.1 mini Outp glbl Tokens": (0.0016, "1K"),
    }
    either = "meterName eq 'gpt 4.1 Inp glbl Tokens' or meterName eq 'gpt 4o Inp glbl Tokens'"
    assert (await prices(simulator, urlencode({"$filter": either})))["Count"] == 2
    one = await prices(simulator, urlencode({"$filter": "serviceName eq 'Nothing'"}))
    assert (one["Count"], one["NextPageLink"]) == (0, None)
    broken = await ask(simulator, PRICES, query=urlencode({"$filter": "drop table"}), method="GET", headers={})
    assert broken.status == 400
    assert (await ask(simulator, PRICES, query="$skip=x", method="GET", headers={})).status == 400
