"""`tundish prices …`: the built-in catalogue, what each model costs, from where, and since when."""

import sys
from argparse import Namespace
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from difflib import get_close_matches

import msgspec

from services.cli.client import Json
from services.cli.output import Column, plain, print_json, print_table
from shared.catalogue import CatalogueRow, load, next_change, price_rows
from shared.catalogue.rows import KIND_NAME
from shared.clock import SystemClock
from shared.money import NUSD_PER_USD
from shared.pricing import STANDARD, UNITS_PER_PRICE, PriceRow, Rates

NEAREST = 5
NEAR_ENOUGH = 0.4
SOURCES = {
    "R": "Azure's retail price list",
    "P": "a Microsoft page",
    "A": "Azure's model catalogue",
    "V": "the vendor's list",
    "N": "a published price without a named source",
}
PER: dict[str, tuple[str, int]] = {
    "images": ("image", 1),
    "milliseconds": ("second", 1_000),
    "characters": ("million characters", UNITS_PER_PRICE),
    "queries": ("query", 1),
    "pages": ("page", 1),
    "sessions": ("session", 1),
}
"""How the price of a class is shown: (per what, our units in it). All others are tokens, per million."""
UNITS = tuple(per for per, _ in PER.values())
TOKENS = ("million tokens", UNITS_PER_PRICE)
SHORT: tuple[Column, ...] = (
    ("MODEL", "name", plain),
    ("MODE", "mode", plain),
    ("INPUT", "input", plain),
    ("CACHED", "cached", plain),
    ("OUTPUT", "output", plain),
    ("OTHER", "other", plain),
    ("SOURCE", "source", plain),
    ("SINCE", "effective_from", plain),
)
LONG: tuple[Column, ...] = (
    ("CLASS", "class", plain),
    ("TIER", "tier", plain),
    ("PROMPT", "prompt", plain),
    ("USD", "usd", plain),
    ("PER", "per", plain),
)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One price of a model. `usd` is an exact decimal number of dollars, `prompt` the tokens it is for."""

    name: str
    tier: str
    prompt: str
    usd: str
    per: str


def show(options: Namespace) -> int:
    """Everything about the price of one model; 1 with the nearest names when there is none."""
    today = _today()
    rows = {f"{row.family}/{row.model}".lower(): row for row in price_rows(load(), today)}
    name = str(options.model).strip().lower()
    found = [rows[key] for key in _keys(name) if key in rows]
    if not found:
        near = get_close_matches(name, _names(rows), n=NEAREST, cutoff=NEAR_ENOUGH)
        hint = f"the nearest names are {', '.join(near)}" if near else "'tundish prices list' shows all of them"
        why = "has no known price" if _known(name) else "is not in the catalogue"
        print(f"tundish: {options.model!r} {why}; {hint}", file=sys.stderr)
        return 1
    if options.json:
        print_json({"data": [_record(row, today) for row in found]})
        return 0
    for place, row in enumerate(found):
        if place:
            print()
        _print_row(row, today)
    return 0


def show_list(options: Namespace) -> int:
    """All priced models, in the order of the catalogue."""
    today = _today()
    modes = sorted({row.mode for row in load()})
    if options.mode is not None and options.mode not in modes:
        print(f"tundish: there is no mode {options.mode!r}; the modes are {', '.join(modes)}", file=sys.stderr)
        return 1
    listed = [row for row in price_rows(load(), today) if KIND_NAME.fullmatch(row.model) is None]
    rows = [row for row in listed if options.mode in (None, _entry(row, today).mode)]
    if options.json:
        print_json({"data": [_record(row, today) for row in rows]})
    else:
        print_table([_summary(row, today) for row in rows], SHORT, "The catalogue has no such model.")
        print(f"{len(rows)} models; dollars per million tokens; 'tundish prices show <model>' shows the rest")
    return 0


def lines_of(row: PriceRow) -> list[Line]:
    """Every price of a row, standard tier first."""
    lines: list[Line] = []
    named = [(STANDARD, row.rates, row.tier), *((name, it.rates, it.tier) for name, it in row.services.items())]
    short = "" if row.tier_above is None else f"≤ {row.tier_above:,} tokens"
    for tier, rates, long in named:
        lines += _rates(rates, tier, short)
        if long is not None and row.tier_above is not None:
            lines += _rates(long, tier, f"> {row.tier_above:,} tokens")
    for kind, rate in row.kinds.items():
        what, per = ("pages", "page") if kind == "annotated" else ("images", "image")
        lines.append(Line(name=f"{what} {kind}", tier="standard", prompt="", usd=_usd(rate, 1), per=per))
    if row.fee:
        usd = _usd(row.fee, UNITS_PER_PRICE)
        lines.append(Line(name="fee beside the routed model", tier="standard", prompt="", usd=usd, per=TOKENS[0]))
    return lines


def _rates(rates: Rates, tier: str, prompt: str) -> Iterable[Line]:
    for name in Rates.__struct_fields__:
        rate: int | None = getattr(rates, name)
        if rate is None or (tier and name in PER):  # units cost the same in every tier
            continue
        per, units = PER.get(name, TOKENS)
        shown = "seconds" if name == "milliseconds" else name
        yield Line(name=shown, tier=tier or "standard", prompt=prompt, usd=_usd(rate, units), per=per)


def _usd(rate: int, units: int) -> str:
    """Dollars of so many units, exact and without exponent."""
    amount = Decimal(rate) * units / (NUSD_PER_USD * UNITS_PER_PRICE)
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _print_row(row: PriceRow, today: date) -> None:
    entry = _entry(row, today)
    print(f"{row.family}/{row.model} ({entry.mode})")
    print(f"  source: {SOURCES[entry.source]}; in force since {entry.effective_from}")
    changes = next_change([each for each in load() if (each.family, each.model) == (entry.family, entry.model)], today)
    if changes is not None:
        print(f"  another price from {changes}")
    if entry.context_window or entry.max_output:
        print(f"  prompt up to {plain(entry.context_window)} tokens, output up to {plain(entry.max_output)}")
    ruled = [name for name in row.services if not any(key.startswith(f"{name}.") for key in entry.more)]
    if ruled:
        print(f"  {', '.join(ruled)}: no price is published; by the rule of docs/prices.md")
    table: list[Json] = [
        {"class": line.name, "tier": line.tier, "prompt": line.prompt or None, "usd": line.usd, "per": line.per}
        for line in lines_of(row)
    ]
    print_table(table, LONG, "  nothing")


def _record(row: PriceRow, today: date) -> Json:
    entry = _entry(row, today)
    return {
        "model": row.model,
        "family": row.family,
        "mode": entry.mode,
        "source": entry.source,
        "effective_from": str(entry.effective_from),
        "context_window": entry.context_window,
        "max_output": entry.max_output,
        "tier_above": row.tier_above,
        "prices": [
            {"class": line.name, "tier": line.tier, "prompt": line.prompt, "usd": line.usd, "per": line.per}
            for line in lines_of(row)
        ],
    }


def _summary(row: PriceRow, today: date) -> Json:
    entry = _entry(row, today)
    tokens = {line.name: line.usd for line in _rates(row.rates, "", "")}
    other = [line for line in lines_of(row) if line.tier == "standard" and line.name not in tokens]
    other += [line for line in _rates(row.rates, "", "") if line.per in UNITS and line.name != "sessions"]
    least = min(other, key=lambda line: Decimal(line.usd), default=None)
    said = None if least is None else f"{'from ' if row.kinds else ''}{least.usd} per {least.per}"
    return {
        "name": f"{row.family}/{row.model}",
        "mode": entry.mode,
        **{name: tokens.get(name) for name in ("input", "cached", "output")},
        "other": said if tokens.get("input") in (None, "0") else None,
        "source": entry.source,
        "effective_from": str(entry.effective_from),
    }


def _entry(row: PriceRow, today: date) -> CatalogueRow:
    """The catalogue's entry behind a price row; for a model that has images by kind only, the first of those."""
    entries = [each for each in load() if each.family == row.family]
    own = [each for each in entries if each.model == row.model]
    folded = own or [each for each in entries if each.kind is not None and each.kind[1] == row.model]
    begun = [each for each in folded if each.effective_from <= today]
    if begun:
        return max(begun, key=lambda each: each.effective_from)
    return min(folded, key=lambda each: each.effective_from)


def _keys(name: str) -> tuple[str, ...]:
    return (name,) if name.startswith(("azure/", "azure_ai/")) else (f"azure/{name}", f"azure_ai/{name}")


def _names(rows: Iterable[str]) -> list[str]:
    return sorted({name.partition("/")[2] for name in rows} | set(rows))


def _known(name: str) -> bool:
    bare = name.removeprefix("azure/").removeprefix("azure_ai/")
    return any(bare in (row.model.lower(), row.kind[1].lower() if row.kind else "") for row in load())


def _today() -> date:
    return SystemClock().now().date()
