"""One row of the catalogue, and the price rows that follow from all of them on a day."""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Literal

import msgspec

from shared.pricing import BATCH, FLEX, PRIORITY, UNITS_PER_PRICE, PriceRow, Rates, Service

KIND_NAME = re.compile(r"(?P<kind>[^/]+/\d+-x-\d+)/(?P<model>.+)")
ANNOTATED = "annotated"
"""The kind of pages that were annotated as well as read."""
CONTAINER = "container"
TIERED_MODES = ("chat", "responses")
RULES = {BATCH: (1, 2), FLEX: (1, 2), PRIORITY: (2, 1)}
"""Service tiers as parts of the standard price, for classes whose price in a tier is not published."""
TIER_COLUMNS = {
    "input": "tier_input",
    "cached": "tier_cached_input",
    "cache_write": "tier_cache_write",
    "output": "tier_output",
}
CACHE_CLASSES = ("cached", "cache_write", "cache_write_1h")
FEE = "fee"
ANNOTATED_PAGES = "annotated_pages"


class CatalogueRow(msgspec.Struct, frozen=True, kw_only=True):
    """List prices and limits of one model.

    Prices are nano-dollars: per million tokens, `per_image` per image. None is unknown, never zero. `more` has the
    prices of rarer classes, per million units, by the class's name or by `<service tier>.<class>`, and the `fee`.
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
    more: dict[str, int]
    source: Literal["R", "P", "A", "V", "N"]
    effective_from: date

    @property
    def kind(self) -> tuple[str, str] | None:
        """(quality and size, model) of a row that has the price of one kind of image; else None."""
        found = KIND_NAME.fullmatch(self.model)
        return None if found is None else (found["kind"], found["model"])

    def price_row(self, *, sessions: int | None = None, kinds: Mapping[str, int] | None = None) -> PriceRow | None:
        """The row as calls are priced by it; None when no price is known.

        `sessions` is the price of a million code interpreter's sessions for models that can open one, `kinds` the
        prices of a million images by kind.
        """
        found: dict[str, int] = {
            name: price
            for name, price in (
                ("input", self.input),
                ("output", self.output),
                ("cached", self.cached_input),
                ("cache_write", self.cache_write),
                ("cache_write_1h", self.cache_write_1h),
                ("images", None if self.per_image is None else self.per_image * UNITS_PER_PRICE),
            )
            if price is not None
        }
        found |= {name: price for name, price in self.more.items() if name in Rates.__struct_fields__}
        every = dict(kinds or {})
        if ANNOTATED_PAGES in self.more:
            every[ANNOTATED] = self.more[ANNOTATED_PAGES]
        if not found and not every and FEE not in self.more:
            return None
        tiered = self.family == "azure" and self.mode in TIERED_MODES
        if tiered and sessions is not None and found:
            found["sessions"] = sessions
        tier = self._long(found)
        return PriceRow(
            model=self.model,
            rates=Rates(**found),
            tier_above=self.tier_above,
            tier=None if tier is None else Rates(**tier),
            services=self._services(found, tier, by_rule=tiered),
            kinds=every,
            fee=self.more.get(FEE, 0),
            family=self.family,
        )

    def _long(self, standard: dict[str, int]) -> dict[str, int] | None:
        """The rates of a long prompt: what is not tiered stays, but for the cache, which then costs what text does."""
        if self.tier_above is None:
            return None
        found = {name: price for name, price in standard.items() if name not in CACHE_CLASSES}
        for name, column in TIER_COLUMNS.items():
            price: int | None = getattr(self, column)
            if price is not None:
                found[name] = price
        if "cache_write_1h" in standard and "cache_write" in standard and "cache_write" in found:
            found["cache_write_1h"] = _scaled(
                standard["cache_write_1h"], (found["cache_write"], standard["cache_write"])
            )
        return found

    def _services(self, standard: dict[str, int], tier: dict[str, int] | None, *, by_rule: bool) -> dict[str, Service]:
        """The service tiers that the row names, and those that follow from the rules."""
        services: dict[str, Service] = {}
        for name, rule in RULES.items():
            named = {key.partition(".")[2]: price for key, price in self.more.items() if key.partition(".")[0] == name}
            if not named and not (by_rule and "input" in standard):
                continue
            rates = {
                key: price if key in PLAIN_UNITS else named.get(key, _scaled(price, rule))
                for key, price in standard.items()
            }
            long: Rates | None = None
            if tier is not None:
                long = Rates(
                    **{
                        key: price if key in PLAIN_UNITS else _scaled(price, (rates.get(key, 1), standard.get(key, 1)))
                        for key, price in tier.items()
                    }
                )
            services[name] = Service(rates=Rates(**{**rates, **named}), tier=long)
        return services


PLAIN_UNITS = ("images", "milliseconds", "characters", "queries", "pages", "sessions")
"""What costs the same in every tier."""


def price_rows(rows: Iterable[CatalogueRow], day: date) -> tuple[PriceRow, ...]:
    """The price rows in force on a day (UTC), one for each model of each family that has a known price.

    Of several rows of one model the latest that has begun counts, and the first one before any has. Prices of images
    by kind are also folded into the row of their model, which is made when it has no row of its own.
    """
    current = list(_in_force(rows, day))
    sessions: int | None = next(
        (row.more["sessions"] for row in current if row.model == CONTAINER and "sessions" in row.more), None
    )
    kinds: dict[tuple[str, str], dict[str, int]] = {}
    for row in current:
        if row.kind is not None and row.per_image is not None:
            kind, model = row.kind
            kinds.setdefault((row.family, model), {})[kind] = row.per_image * UNITS_PER_PRICE
    found = [row.price_row(sessions=sessions, kinds=kinds.pop((row.family, row.model), None)) for row in current]
    made = [PriceRow(model=model, rates=Rates(), kinds=each, family=family) for (family, model), each in kinds.items()]
    return tuple(row for row in [*found, *made] if row is not None)


def next_change(rows: Iterable[CatalogueRow], day: date) -> date | None:
    """The first day after `day` on which another row of some model begins to count; None when there is none."""
    firsts: dict[tuple[str, str], date] = {}
    rows = tuple(rows)
    for row in rows:
        name = (row.family, row.model)
        firsts[name] = min(row.effective_from, firsts.get(name, row.effective_from))
    later = (row.effective_from for row in rows if row.effective_from > firsts[row.family, row.model])
    return min((begins for begins in later if begins > day), default=None)


def _in_force(rows: Iterable[CatalogueRow], day: date) -> Iterable[CatalogueRow]:
    chosen: dict[tuple[str, str], CatalogueRow] = {}
    for row in rows:
        name = (row.family, row.model)
        known = chosen.get(name)
        if known is None or _better(row.effective_from, known.effective_from, day):
            chosen[name] = row
    return chosen.values()


def _better(new: date, old: date, day: date) -> bool:
    """Whether a row of the day `new` counts rather than one of `old`."""
    if (new <= day) != (old <= day):
        return new <= day
    return new > old if new <= day else new < old


def _scaled(price: int, part: tuple[int, int]) -> int:
    """A part of a price, rounded half up."""
    above, below = part
    return (price * above * 2 + below) // (2 * below) if below else price
