"""Reads `prices.csv`, whose head explains the columns. A wrong row is an error, never a price of zero."""

import csv
from collections.abc import Iterable
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

from shared.money import MoneyError, nusd_from_usd
from shared.pricing import PriceRow, Rates

DATA_FILE = "prices.csv"
MAX_ROWS = 100_000
COMMENT = "#"

COLUMNS = (
    "family",
    "model",
    "mode",
    "input",
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "output",
    "per_image",
    "context_window",
    "max_output",
    "tier_above",
    "tier_input",
    "tier_cached_input",
    "tier_cache_write",
    "tier_output",
    "source",
    "effective_from",
)
TEXTS = ("family", "model", "mode", "source", "effective_from")
COUNTS = ("context_window", "max_output", "tier_above")


class CatalogueError(ValueError):
    """A row of the catalogue that cannot be right: which one, and what is wrong with it."""


class CatalogueRow(msgspec.Struct, frozen=True, kw_only=True):
    """List prices and limits of one model.

    Prices are nano-dollars: per million tokens, `per_image` per image. None is unknown, never zero.
    `model` may begin with a zone (`us/gpt-4o`) or, for images, with quality and size
    (`high/1024-x-1024/gpt-image-1`).
    `tier_*` are the prices of the whole call when its prompt has more than `tier_above` tokens.
    """

    family: Literal["azure", "azure_ai"]
    model: str
    mode: str
    input: int | None
    cached_input: int | None
    cache_write: int | None
    cache_write_1h: int | None
    output: int | None
    per_image: int | None
    context_window: int | None
    max_output: int | None
    tier_above: int | None
    tier_input: int | None
    tier_cached_input: int | None
    tier_cache_write: int | None
    tier_output: int | None
    source: Literal["R", "P", "A", "V", "N"]
    effective_from: date

    def price_row(self) -> PriceRow | None:
        """The row as calls are priced by it; None when input or output has no known price per token."""
        if self.input is None or self.output is None:
            return None
        tier: Rates | None = None
        if self.tier_input is not None and self.tier_output is not None:
            tier = Rates(
                input=self.tier_input,
                output=self.tier_output,
                cached=self.tier_cached_input,
                cache_write=self.tier_cache_write,
            )
        return PriceRow(
            model=self.model,
            rates=Rates(
                input=self.input,
                output=self.output,
                cached=self.cached_input,
                cache_write=self.cache_write,
            ),
            tier_above=self.tier_above,
            tier=tier,
        )


@cache
def load() -> tuple[CatalogueRow, ...]:
    """The rows of the installed catalogue, in its order. Raises CatalogueError for a damaged one."""
    text = files("shared.catalogue").joinpath(DATA_FILE).read_text(encoding="utf-8")
    return parse(text.splitlines())


def parse(lines: Iterable[str]) -> tuple[CatalogueRow, ...]:
    """The rows of a catalogue in the form of `prices.csv`. Raises CatalogueError, naming the row."""
    reader = csv.reader(line for line in lines if line and not line.startswith(COMMENT))
    if tuple(next(reader, ())) != COLUMNS:
        raise CatalogueError(f"the columns must be {', '.join(COLUMNS)}")
    rows: list[CatalogueRow] = []
    known: set[tuple[str, str]] = set()
    for cells in reader:
        if len(rows) >= MAX_ROWS:
            raise CatalogueError(f"more than {MAX_ROWS} rows")
        if len(cells) != len(COLUMNS):
            raise CatalogueError(f"{'/'.join(cells[:2])}: {len(cells)} cells instead of {len(COLUMNS)}")
        row = _row(dict(zip(COLUMNS, cells, strict=True)))
        if (row.family, row.model) in known:
            raise CatalogueError(f"{row.family}/{row.model}: listed twice")
        known.add((row.family, row.model))
        rows.append(row)
    return tuple(rows)


def _row(cells: dict[str, str]) -> CatalogueRow:
    name = f"{cells['family']}/{cells['model']}"
    values: dict[str, object] = {column: cells[column] for column in TEXTS}
    for column in COUNTS:
        values[column] = _count(name, column, cells[column])
    for column in COLUMNS:
        if column not in values:
            values[column] = _price(name, column, cells[column])
    if not cells["model"] or not cells["mode"]:
        raise CatalogueError(f"{name}: model and mode must not be empty")
    try:
        row = msgspec.convert(values, CatalogueRow)
    except msgspec.ValidationError as error:
        raise CatalogueError(f"{name}: {error}") from error
    tier = (row.tier_above, row.tier_input, row.tier_output)
    if any(value is None for value in tier) and any(value is not None for value in tier):
        raise CatalogueError(f"{name}: tier_above, tier_input and tier_output come together or not at all")
    return row


def _price(name: str, column: str, cell: str) -> int | None:
    if cell == "":
        return None
    try:
        return nusd_from_usd(cell)
    except MoneyError as error:
        raise CatalogueError(f"{name}: {column}: {error}") from error


def _count(name: str, column: str, cell: str) -> int | None:
    if cell == "":
        return None
    if not (cell.isascii() and cell.isdigit()) or int(cell) == 0:
        raise CatalogueError(f"{name}: {column}: {cell!r} is not a number of tokens")
    return int(cell)
