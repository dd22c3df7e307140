"""Every row of the catalogue that names a price is priced, class by class, as its cells say: never a silent zero.

What a call must cost is computed here from the cells of the file alone, with fractions and without the loader.
"""

import csv
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from importlib.resources import files

import pytest

from services.proxy.domain.prices import PriceBook
from shared.catalogue import load, price_rows
from shared.pricing import CLASSES, PriceRow, Usage, price
from tests.support.usages import usage_of

DAY = date(2026, 11, 23)
COUNT = 1_000
Cells = dict[str, str]
NANO = 10**9
MILLION = 10**6

COLUMN_OF = {
    "input": "input",
    "cached": "cached_input",
    "cache_write": "cache_write",
    "cache_write_1h": "cache_write_1h",
    "output": "output",
    "images": "per_image",
}
WORD_OF = {
    "milliseconds": ("second", Fraction(1, 1_000)),
    "characters": ("million_characters", Fraction(1, MILLION)),
    "queries": ("query", Fraction(1)),
    "pages": ("page", Fraction(1)),
    "sessions": ("session", Fraction(1)),
}
TIER_COLUMN_OF = {
    "input": "tier_input",
    "cached": "tier_cached_input",
    "cache_write": "tier_cache_write",
    "output": "tier_output",
}


def cells() -> list[Cells]:
    text = files("shared.catalogue").joinpath("prices.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def words(row: Cells) -> dict[str, str]:
    return dict(word.split("=") for word in row["more"].split())


def usd_per_unit(row: Cells, name: str, service: str = "") -> Fraction | None:
    """Dollars of one unit of a class as the row's cells have it; None where it names none."""
    more = words(row)
    if service:
        found = more.get(f"{service}.{name}")
        return None if found is None else Fraction(found) / MILLION
    if name in COLUMN_OF:
        cell = row[COLUMN_OF[name]]
        per = 1 if name == "images" else MILLION
        return Fraction(cell) / per if cell else None
    word, part = WORD_OF.get(name, (name, Fraction(1, MILLION)))
    return Fraction(more[word]) * part if word in more else None


def cost(amount: Fraction) -> int:
    """Nano-dollars, rounded half up."""
    return int(amount * NANO + Fraction(1, 2))


NAMED = [row for row in cells() if any(row[column] for column in (*COLUMN_OF.values(), "more"))]
BOOK_ROWS = price_rows(load(), DAY)
PRICED = {(row.family, row.model): row for row in BOOK_ROWS}


def ident(value: object) -> str:
    return f"{value['family']}/{value['model']}" if isinstance(value, dict) else str(value)


def row_of(row: Cells) -> PriceRow:
    return PRICED[row["family"], row["model"]]


def test_all_but_one_row_of_the_catalogue_name_a_price() -> None:
    assert (len(cells()), len(NAMED)) == (479, 478)
    assert {row["model"] for row in cells()} - {row["model"] for row in NAMED} == {"standard/1024-x-1024/dall-e-2"}
    assert {(row["family"], row["model"]) for row in NAMED} <= PRICED.keys()


@pytest.mark.parametrize("row", NAMED, ids=ident)
def test_each_class_costs_what_its_cell_says(row: Cells) -> None:
    priced, compared = row_of(row), 0
    for name in CLASSES:
        each = usd_per_unit(row, name)
        if each is None:
            continue
        usage = usage_of({name: COUNT})
        assert priced.missing(usage) is None
        found = price(usage, priced)
        assert found == cost(each * COUNT), name
        free = (name == "output" and row["mode"] in ("embedding", "evaluation", "rerank")) or (
            name == "input" and row["mode"] == "rerank"
        )
        assert (found == 0) == free, name
        compared += not free
    assert compared or "fee" in words(row), "a row that names a price is not silently free"


@pytest.mark.parametrize("row", [row for row in NAMED if row["tier_above"]], ids=ident)
def test_a_long_prompt_costs_what_the_cells_of_its_tier_say(row: Cells) -> None:
    above = int(row["tier_above"])
    for name, column in TIER_COLUMN_OF.items():
        if row[column]:
            usage = usage_of({name: above + 1} if name != "output" else {"input": above + 1, "output": COUNT})
            wanted = Fraction(row[column]) / MILLION * (above + 1 if name != "output" else COUNT)
            if name == "output":
                wanted += Fraction(row["tier_input"]) / MILLION * (above + 1)
            assert price(usage, row_of(row)) == cost(wanted)
            assert price(usage, row_of(row)) > price(Usage(input=above), row_of(row)) / 20


@pytest.mark.parametrize("row", NAMED, ids=ident)
def test_service_tiers_cost_what_is_named_or_what_the_rule_says(row: Cells) -> None:
    for service in ("batch", "flex", "priority"):
        check_service(row, service)


def check_service(row: Cells, service: str) -> None:
    ruled = row["family"] == "azure" and row["mode"] in ("chat", "responses") and bool(row["input"])
    named = any(word.startswith(f"{service}.") for word in words(row))
    rule = {"batch": Fraction(1, 2), "flex": Fraction(1, 2), "priority": Fraction(2)}[service]
    for name in ("input", "cached", "cache_write", "output"):
        standard = usd_per_unit(row, name)
        if standard is None:
            continue
        own = usd_per_unit(row, name, service)
        wanted = own if own is not None else standard * rule if ruled or named else standard
        usage = usage_of({name: COUNT}, tier=service)
        assert price(usage, row_of(row)) == cost(wanted * COUNT)


def kinds() -> Iterator[tuple[Cells, str, str, str]]:
    for row in NAMED:
        quality, _, rest = row["model"].partition("/")
        size, _, model = rest.partition("/")
        if row["per_image"] and "-x-" in size:
            yield row, row["family"], model, f"{quality}/{size}"


@pytest.mark.parametrize(("row", "family", "model", "kind"), list(kinds()), ids=ident)
def test_an_image_by_quality_and_size_is_priced_under_its_model(row: Cells, family: str, model: str, kind: str) -> None:
    usage = Usage(images=3, kind=kind)
    assert price(usage, PRICED[family, model]) == cost(Fraction(row["per_image"]) * 3)


@pytest.mark.parametrize("row", [row for row in NAMED if "annotated_page" in words(row)], ids=ident)
def test_annotated_pages_have_their_own_price(row: Cells) -> None:
    usage = Usage(pages=COUNT, kind="annotated")
    assert price(usage, row_of(row)) == cost(Fraction(words(row)["annotated_page"]) * COUNT)


@pytest.mark.parametrize("row", [row for row in NAMED if "fee" in words(row)], ids=ident)
def test_a_router_costs_its_fee_and_the_model_it_chose(row: Cells) -> None:
    book = PriceBook(BOOK_ROWS)
    router = book.exact(f"{row['family']}/{row['model']}")
    assert router is not None
    fee = Fraction(words(row)["fee"]) / MILLION
    usage = Usage(input=COUNT, output=COUNT)
    chosen = book.served("gpt-4.1-mini-2025-04-14", router)
    plain = PRICED["azure", "gpt-4.1-mini-2025-04-14"]
    assert price(usage, chosen) == price(usage, plain) + cost(fee * COUNT)
    assert router.missing(usage) is None
    assert price(usage, router) >= price(usage, chosen)
    assert price(Usage(input=COUNT), row_of(row)) == cost(fee * COUNT)


def test_every_row_is_found_by_its_own_name() -> None:
    book = PriceBook(BOOK_ROWS)
    for row in BOOK_ROWS:
        found = book.exact(f"{row.family}/{row.model}")
        assert found is not None
        assert (found.model, found.family) == (row.model, row.family)
