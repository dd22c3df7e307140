"""Printing: tables for people, JSON for scripts."""

import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import cast

import msgspec

from services.cli.client import Json
from shared.money import NUSD_PER_USD, nusd_from_usd, usd_text

CELL_MAX = 60
Column = tuple[str, str, Callable[[object], str]]
"""(heading, field of the row or several to choose from with `|`, how to show its value)."""


def print_json(value: object) -> None:
    """Any decoded answer, indented."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(rows: Sequence[Json], columns: Sequence[Column], empty: str, *, last_max: int = CELL_MAX) -> None:
    """Aligned columns under headings, or the sentence `empty` when there is no row. Cells are cut; those of the last
    column, which push nothing aside, at `last_max` characters."""
    if not rows:
        print(empty)
        return
    lines = [[heading for heading, _, _ in columns]]
    widest = [*[CELL_MAX] * (len(columns) - 1), last_max]
    lines += [
        [_cut(show(_first(row, fields)), most) for (_, fields, show), most in zip(columns, widest, strict=True)]
        for row in rows
    ]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_page(answer: object) -> None:
    """Which page of a list this is, when there are several."""
    page = record_of(answer, "")
    if page.get("total_pages") not in (None, 0, 1):
        print(f"page {plain(page.get('current_page', page.get('page')))} of {plain(page['total_pages'])} (--page N)")


def print_record(record: Json) -> None:
    """One field a line; fields without a value are left out."""
    shown = {name: value for name, value in record.items() if value not in (None, [], {}, "")}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name.ljust(width)}  {clean(plain(value))}")


def warn(answer: Json) -> None:
    """What a service adds to its answer: not recorded yet, spend unknown."""
    warnings = answer.get("warnings")
    if warnings:
        print(f"note: {clean(plain(warnings))}", file=sys.stderr)


def rows_of(answer: object, *names: str) -> list[Json]:
    """The rows of a list answer: a bare list, or the list under one of the names."""
    found: object = answer
    if isinstance(answer, dict):
        record = cast("Json", answer)
        found = next((record[name] for name in names if name in record), None)
    if not isinstance(found, list):
        return []
    return [cast("Json", row) for row in cast("list[object]", found) if isinstance(row, dict)]


def record_of(answer: object, name: str) -> Json:
    """The record under a name, or the answer itself."""
    if not isinstance(answer, dict):
        return {}
    found = cast("Json", answer)
    inner = found.get(name)
    return cast("Json", inner) if isinstance(inner, dict) else found


def plain(value: object) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in cast("Iterable[object]", value)) or "-"
    if isinstance(value, dict):
        return msgspec.json.encode(_written(cast("Json", value))).decode()
    return _decimals(value) if isinstance(value, float) else str(value)


def dollars(value: object) -> str:
    """A number of dollars; an unknown amount stays visible as such."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "unknown" if value is None else plain(value)
    return usd_text(nusd_from_usd(value) if value >= 0 else -nusd_from_usd(-value))


def limit(value: object) -> str:
    """A limit in dollars, or those of `budget_limits`, or that there are some per model.

    None is no statement that nothing limits the spend: a scope around this one may.
    """
    if value is None:
        return "-"
    if isinstance(value, dict):
        return "per model"
    if isinstance(value, list):
        windows = [record_of(item, "") for item in cast("list[object]", value)]
        return ", ".join(f"{dollars(item.get('max_budget'))}/{plain(item.get('budget_duration'))}" for item in windows)
    return dollars(value)


def nano_dollars(value: int) -> str:
    """An integer amount of nano-dollars, exact, for comparing books."""
    return f"{usd_text(value)} ({value} / {NUSD_PER_USD})"


def _decimals(value: float) -> str:
    """A number without exponent: `0.00001`, never `1e-05`."""
    return format(Decimal(repr(value)), "f")


def _written(value: object) -> object:
    """The same for every number within JSON."""
    if isinstance(value, float):
        return msgspec.Raw(_decimals(value).encode())
    if isinstance(value, dict):
        return {name: _written(item) for name, item in cast("Json", value).items()}
    if isinstance(value, list):
        return [_written(item) for item in cast("list[object]", value)]
    return value


def _first(row: Json, fields: str) -> object:
    """The first of several fields that says something."""
    return next((row[field] for field in fields.split("|") if row.get(field) not in (None, [], {})), None)


def _cut(text: str, most: int) -> str:
    text = clean(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def clean(text: str) -> str:
    """Names come from callers: nothing in them may steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
