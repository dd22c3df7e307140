"""The built-in catalogue: complete, exact, and honest about what it does not know."""

from datetime import date

import msgspec
import pytest

from deploy.simulator.catalogue import SERVED_MODELS
from shared.catalogue import CatalogueError, CatalogueRow, load, next_change, parse, price_rows
from shared.catalogue.loader import COLUMNS
from shared.money import NUSD_PER_USD
from shared.pricing import BATCH, FLEX, PRIORITY, Usage, price

HEAD = ",".join(COLUMNS)
GOOD = "azure,m,chat,2.5,1.25,,,10,,128000,16384,,,,,,,R,2026-11-22"
DAY = date(2026, 11, 23)


def row_of(family: str, model: str) -> CatalogueRow:
    return next(row for row in load() if (row.family, row.model) == (family, model))


def test_every_listed_model_is_there_once() -> None:
    rows = load()
    assert len(rows) == 479
    assert sum(row.family == "azure" for row in rows) == 329
    assert len({(row.family, row.model) for row in rows}) == len(rows)
    assert load() is rows


def test_prices_are_exact_nano_dollars() -> None:
    gpt = row_of("azure", "gpt-4o")
    assert (gpt.input, gpt.cached_input, gpt.output) == (2_500_000_000, 1_250_000_000, 10 * NUSD_PER_USD)
    assert (gpt.context_window, gpt.max_output) == (128_000, 16_384)
    phi = row_of("azure_ai", "Phi-4")
    assert (phi.input, phi.output) == (125_000_000, 500_000_000)
    assert row_of("azure", "us/gpt-4o").input == 2_750_000_000
    assert row_of("azure", "hd/1024-x-1024/dall-e-3").per_image == 88_000_000
    assert row_of("azure_ai", "claude-sonnet-4-5").cache_write == 3_750_000_000
    assert gpt.effective_from == date(2026, 11, 22)


@pytest.mark.parametrize(
    ("model", "base", "zone"),
    [
        ("text-embedding-3-small", 20_000_000, 22_000_000),
        ("text-embedding-3-large", 130_000_000, 143_000_000),
        ("text-embedding-ada-002", 100_000_000, 110_000_000),
    ],
)
def test_embeddings_cost_the_base_price_and_more_in_zones(model: str, base: int, zone: int) -> None:
    assert row_of("azure", model).input == base
    assert row_of("azure", f"us/{model}").input == row_of("azure", f"eu/{model}").input == zone
    assert row_of("azure", model).output == 0


def test_context_tiers_price_the_whole_call() -> None:
    row = row_of("azure", "gpt-5.4").price_row()
    assert row is not None
    assert row.tier_above == 272_000
    short, long = Usage(input=272_000, output=1_000), Usage(input=272_001, output=1_000)
    assert price(short, row) == 272_000 * 2_500 + 1_000 * 15_000
    assert price(long, row) == 272_001 * 5_000 + 1_000 * 22_500


def test_an_unknown_price_is_none_and_prices_no_call() -> None:
    assert row_of("azure", "gpt-4").price_row() is not None
    unpriced = [row.model for row in load() if row.price_row() is None]
    assert unpriced == ["standard/1024-x-1024/dall-e-2"]
    assert "dall-e-2" not in {row.model for row in price_rows(load(), DAY)}


def test_no_price_of_zero_but_where_there_is_nothing_to_bill() -> None:
    for row in load():
        prices = (row.cached_input, row.cache_write, row.cache_write_1h, row.per_image, *row.more.values())
        assert 0 not in prices, row.model
        assert row.input != 0 or row.mode == "rerank", row.model
        assert row.output != 0 or row.mode in ("embedding", "evaluation", "rerank"), row.model


def test_images_by_quality_and_size_are_folded_into_their_model() -> None:
    rows = {(row.family, row.model): row for row in price_rows(load(), DAY)}
    dall_e = rows["azure", "dall-e-3"]
    assert price(Usage(images=2, kind="hd/1024-x-1792"), dall_e) == 2 * 132_000_000
    assert dall_e.missing(Usage(images=1, kind="hd/512-x-512")) == "images"
    gpt = rows["azure", "gpt-image-1"]
    assert price(Usage(images=1, kind="low/1024-x-1024"), gpt) == 11_000_000
    assert price(Usage(input=10, image_output=100), gpt) == 10 * 5_000 + 100 * 40_000


def test_service_tiers_by_rule_only_where_no_price_is_named() -> None:
    rows = {(row.family, row.model): row for row in price_rows(load(), DAY)}
    usage = Usage(input=1_000, cached=1_000, output=1_000)
    named = rows["azure", "gpt-5.5"]
    assert price(msgspec.structs.replace(usage, tier=PRIORITY), named) == 12_500_000 + 1_250_000 + 75_000_000
    ruled = rows["azure", "gpt-4o"]
    assert price(usage, ruled) == 2_500_000 + 1_250_000 + 10_000_000
    assert price(msgspec.structs.replace(usage, tier=FLEX), ruled) * 2 == price(usage, ruled)
    assert price(msgspec.structs.replace(usage, tier=PRIORITY), ruled) == price(usage, ruled) * 2
    for family, model in (("azure_ai", "claude-opus-5"), ("azure", "text-embedding-3-small")):
        assert rows[family, model].services == {}


def test_a_code_interpreters_session_costs_models_that_can_open_one() -> None:
    rows = {(row.family, row.model): row for row in price_rows(load(), DAY)}
    assert price(Usage(sessions=2), rows["azure", "gpt-5.5"]) == 66_000_000
    assert price(Usage(sessions=1, tier=BATCH), rows["azure", "gpt-5.5"]) == 33_000_000
    assert rows["azure_ai", "claude-opus-5"].missing(Usage(sessions=1)) == "sessions"


def dated(*rows: tuple[str, str, str]) -> tuple[CatalogueRow, ...]:
    """Rows of (model, price of input, first day)."""
    lines = [
        GOOD.replace(",m,", f",{model},").replace("2.5", price).replace("2026-11-22", day) for model, price, day in rows
    ]
    return parse([HEAD, *lines])


def test_the_latest_price_that_has_begun_counts() -> None:
    rows = dated(("m", "1", "2026-01-01"), ("m", "3", "2026-03-01"), ("m", "2", "2026-02-01"), ("n", "9", "2026-02-15"))

    def inputs(day: date) -> dict[str, int | None]:
        return {row.model: row.rates.input for row in price_rows(rows, day)}

    usd = NUSD_PER_USD
    assert inputs(date(2025, 1, 1)) == {"m": usd, "n": 9 * usd}
    assert inputs(date(2026, 1, 31)) == {"m": usd, "n": 9 * usd}
    assert inputs(date(2026, 2, 1)) == {"m": 2 * usd, "n": 9 * usd}
    assert inputs(date(2027, 1, 1)) == {"m": 3 * usd, "n": 9 * usd}
    assert next_change(rows, date(2025, 1, 1)) == date(2026, 2, 1)
    assert next_change(rows, date(2026, 2, 1)) == date(2026, 3, 1)
    assert next_change(rows, date(2026, 3, 1)) is None


def test_every_model_the_simulator_serves_by_its_table_is_priced() -> None:
    priced = {row.model for row in load() if row.price_row() is not None}
    served = {model for name, model in SERVED_MODELS.items() if model.lower() != name}
    assert len(served) > 20
    assert served <= priced


def test_comments_and_blank_lines_are_passed_over() -> None:
    (row,) = parse(["# a comment", "", HEAD, "# another", GOOD])
    assert (row.model, row.input, row.tier_above) == ("m", 2_500_000_000, None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (GOOD.replace("2.5", "cheap"), "azure/m: input: 'cheap'"),
        (GOOD.replace("2.5", "-1"), "azure/m: input: '-1'"),
        (GOOD.replace("128000", "12k"), "azure/m: context_window: '12k'"),
        (GOOD.replace("azure,", "gemini,"), "gemini/m"),
        (GOOD.replace("2026-11-22", "today"), "azure/m"),
        (GOOD.replace("16384,,", "16384,272000,"), "come together"),
        (GOOD.replace(",m,", ",,"), "must not be empty"),
        (GOOD.replace(",,R", ",sound=3,R"), "'sound=3' names no class"),
        (GOOD.replace(",,R", ",query=1 query=2,R"), "'query' is there twice"),
        (GOOD.replace(",,R", ",query=0,R"), "'query=0' is no price"),
        (GOOD.replace(",,R", ",query,R"), "query: 'nothing'"),
        (GOOD + ",", "20 cells"),
        (GOOD.replace(",R", ""), "18 cells"),
    ],
)
def test_a_wrong_row_is_named(line: str, says: str) -> None:
    with pytest.raises(CatalogueError, match=says):
        parse([HEAD, line])


def test_a_row_twice_and_wrong_columns_are_refused() -> None:
    with pytest.raises(CatalogueError, match="azure/m: listed twice"):
        parse([HEAD, GOOD, GOOD])
    with pytest.raises(CatalogueError, match="columns must be"):
        parse(["model,price", "m,1"])
