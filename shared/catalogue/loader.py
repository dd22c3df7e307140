"""Reads `prices.csv`, whose head explains the columns. A wrong row is an error, never a price of zero."""

import csv
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from importlib.resources import files

import msgspec

from shared.catalogue.rows import ANNOTATED_PAGES, FEE, CatalogueRow
from shared.money import NUSD_PER_USD, MoneyError, nusd_from_usd
from shared.pricing import BATCH, FLEX, PRIORITY, UNITS_PER_PRICE

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
    "more",
    "source",
    "effective_from",
)
TEXTS = ("family", "model", "mode", "source", "effective_from")
COUNTS = ("context_window", "max_output", "tier_above")

MILLION_TOKENS = NUSD_PER_USD
ONE = NUSD_PER_USD * UNITS_PER_PRICE
MS_PER_SECOND = 1_000
SERVICE_CLASSES = ("input", "cached", "cache_write", "output")
WORDS: dict[str, tuple[str, int]] = {
    **{
        name: (name, MILLION_TOKENS)
        for name in (
            "audio_input",
            "audio_cached",
            "audio_output",
            "image_input",
            "image_cached",
            "image_output",
            "reasoning",
            FEE,
        )
    },
    **{
        f"{service}.{name}": (f"{service}.{name}", MILLION_TOKENS)
        for service in (BATCH, FLEX, PRIORITY)
        for name in SERVICE_CLASSES
    },
    "second": ("milliseconds", ONE // MS_PER_SECOND),
    "million_characters": ("characters", NUSD_PER_USD),
    "query": ("queries", ONE),
    "page": ("pages", ONE),
    "annotated_page": (ANNOTATED_PAGES, ONE),
    "session": ("sessions", ONE),
}
"""Names in the column `more`: (what they are called in a row, nano-dollars per million units in a dollar)."""


class CatalogueError(ValueError):
    """A row of the catalogue that cannot be right: which one, and what is wrong with it."""


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
    known: set[tuple[str, str, object]] = set()
    for cells in reader:
        if len(rows) >= MAX_ROWS:
            raise CatalogueError(f"more than {MAX_ROWS} rows")
        if len(cells) != len(COLUMNS):
            raise CatalogueError(f"{'/'.join(cells[:2])}: {len(cells)} cells instead of {len(COLUMNS)}")
        row = _row(dict(zip(COLUMNS, cells, strict=True)))
        name = (row.family, row.model, row.effective_from)
        if name in known:
            raise CatalogueError(f"{row.family}/{row.model}: listed twice from {row.effective_from}")
        known.add(name)
        rows.append(row)
    return tuple(rows)


def _row(cells: dict[str, str]) -> CatalogueRow:
    name = f"{cells['family']}/{cells['model']}"
    values: dict[str, object] = {column: cells[column] for column in TEXTS}
    for column in COUNTS:
        values[column] = _count(name, column, cells[column])
    values["more"] = _more(name, cells["more"])
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


def _more(name: str, cell: str) -> dict[str, int]:
    """The prices of the column `more`, in nano-dollars per million units."""
    found: dict[str, int] = {}
    for word in cell.split():
        key, _, amount = word.partition("=")
        if key not in WORDS:
            raise CatalogueError(f"{name}: more: {word!r} names no class of usage")
        known, nusd = WORDS[key]
        if known in found:
            raise CatalogueError(f"{name}: more: {key!r} is there twice")
        if not _price(name, f"more: {key}", amount or "nothing"):
            raise CatalogueError(f"{name}: more: {word!r} is no price")
        found[known] = int(Decimal(amount) * nusd + Decimal("0.5"))
    return found


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
