"""Prices and costs: pure integer arithmetic, the same in the proxy (charges) and the ledger (checks).

A price is nano-dollars per million units of a class: tokens, or images, milliseconds, characters, queries, pages and
sessions. A cost is rounded once per event, half up. docs/prices.md explains the classes.
"""

from hashlib import sha256

import msgspec

from shared.ids import PriceId

UNITS_PER_PRICE = 1_000_000
TOKENS_PER_PRICE = UNITS_PER_PRICE
MODEL_TEXT_MAX = 200

PROMPT_CLASSES = (
    "input",
    "cached",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_cached",
    "image_input",
    "image_cached",
)
OUTPUT_CLASSES = ("output", "audio_output", "image_output")
TOKEN_CLASSES = (*PROMPT_CLASSES, *OUTPUT_CLASSES)
UNIT_CLASSES = ("images", "milliseconds", "characters", "queries", "pages", "sessions")
KIND_CLASSES = ("images", "pages")
"""Units whose price may depend on their kind (see `PriceRow.kinds`)."""
CLASSES = (*TOKEN_CLASSES, *UNIT_CLASSES)
"""Everything that is billed, each once: the classes do not overlap."""

BASE = {
    "cached": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "audio_cached": "cached",
    "image_input": "input",
    "image_cached": "cached",
    "audio_output": "output",
    "image_output": "output",
    "reasoning": "output",
}
"""The class whose price stands in where a class has none of its own."""
FRESH = {"audio_cached": "audio_input", "image_cached": "image_input"}
"""Classes whose price, if it has one of its own, goes before the base of a class: what is not dearer than text when it
is fresh costs what text does in the cache, too."""
AUTO = "auto"
AUTO_KIND = ("standard", "1024-x-1024")
"""Quality and size of a picture billed by the piece whose request leaves them to Foundry (`auto`)."""

STANDARD, FLEX, PRIORITY, BATCH = "", "flex", "priority", "batch"
"""Service tiers by which Foundry bills; the standard tier has no name."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What one call used, by class as Foundry bills it: tokens first, then units.

    The classes do not overlap: `input` is text that was neither read from nor written to the cache, and has neither
    sound nor images in it; `output` has all tokens given but those of sound and images. `reasoning` is a part of
    `output`, given for information (and priced apart where a row says so). `tier` is the service tier that served;
    `kind` the quality and size of images that are billed by the piece (`hd/1024-x-1024`), or `annotated` for pages
    that were. `sessions` are those of a code interpreter.
    """

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    audio_cached: int = 0
    audio_output: int = 0
    image_input: int = 0
    image_cached: int = 0
    image_output: int = 0
    images: int = 0
    milliseconds: int = 0
    characters: int = 0
    queries: int = 0
    pages: int = 0
    sessions: int = 0
    tier: str = STANDARD
    kind: str = ""

    @property
    def prompt(self) -> int:
        """All tokens of the prompt, cached or not: what decides the context tier."""
        return (
            self.input
            + self.cached
            + self.cache_write
            + self.cache_write_1h
            + self.audio_input
            + self.audio_cached
            + self.image_input
            + self.image_cached
        )

    @property
    def completion(self) -> int:
        """All tokens that were given back."""
        return self.output + self.audio_output + self.image_output

    @property
    def has_units(self) -> bool:
        """Whether anything but tokens was used."""
        return bool(self.images or self.milliseconds or self.characters or self.queries or self.pages or self.sessions)


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-dollars per million units by class; None: no price of its own (see BASE). `images` and `pages` are the
    prices of those whose kind has none of its own in `PriceRow.kinds`."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_cached: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_cached: int | None = None
    image_output: int | None = None
    images: int | None = None
    milliseconds: int | None = None
    characters: int | None = None
    queries: int | None = None
    pages: int | None = None
    sessions: int | None = None

    def rate(self, name: str) -> int | None:
        """The price of a class, its own or its base's; None when none is known."""
        while True:
            own: int | None = getattr(self, name)
            if own is not None:
                return own
            fresh = FRESH.get(name)
            if fresh is not None and (own := getattr(self, fresh)) is not None:
                return own
            base = BASE.get(name)
            if base is None:
                return None
            name = base

    def highest_input(self) -> int:
        """The dearest way a token of a text prompt may be billed: what an upper bound must assume."""
        return max(self.input or 0, self.cached or 0, self.cache_write or 0, self.cache_write_1h or 0)


class Service(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rates of a service tier, beside the standard ones of its row."""

    rates: Rates
    tier: Rates | None = None


class PriceRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one model costs. `tier_above` prompt tokens, the whole call is billed by `tier`.

    `services` are the rates of the service tiers by name; a tier without rates is billed as the standard one.
    `kinds` are prices per million images, or pages, by kind. `fee` is billed on top per million tokens of the prompt
    (a router's), whatever model served. `family` is `azure` or `azure_ai` for rows of the catalogue: a few models are
    in both, at different prices.
    """

    model: str
    rates: Rates
    tier_above: int | None = None
    tier: Rates | None = None
    source: str = "catalogue"
    services: dict[str, Service] = {}
    kinds: dict[str, int] = {}
    fee: int = 0
    family: str = ""

    def rates_for(self, prompt_tokens: int, service: str = STANDARD) -> Rates:
        """The rates of a call with this many prompt tokens in a service tier."""
        rates, tier = self.rates, self.tier
        if service:
            other = self.services.get(service)
            if other is not None:
                rates, tier = other.rates, other.tier
        if tier is not None and self.tier_above is not None and prompt_tokens > self.tier_above:
            return tier
        return rates

    def missing(self, usage: Usage) -> str | None:
        """The first class of a usage that has no known price, None when all have one."""
        rates = self.rates_for(usage.prompt, usage.tier)
        if rates.input is None or rates.output is None:  # else all tokens have a price, their own or their base's
            for name in TOKEN_CLASSES:
                if getattr(usage, name) and rates.rate(name) is None:
                    return name
        if usage.has_units:
            for name in UNIT_CLASSES:
                if getattr(usage, name) and self._each(name, usage.kind, rates) is None:
                    return name
        return None

    def _each(self, name: str, kind: str, rates: Rates) -> int | None:
        """The price of a million units of a class that are no tokens."""
        if kind and name in KIND_CLASSES:
            own = self.of_kind(kind)
            if own is not None:
                return own
        rate: int | None = getattr(rates, name)
        return rate

    def of_kind(self, kind: str) -> int | None:
        """The price of a million pieces of a kind, None when it has none of its own; `auto` in it is the default."""
        own = self.kinds.get(kind)
        if own is None and AUTO in kind:
            told = zip(kind.split("/"), AUTO_KIND, strict=False)
            own = self.kinds.get("/".join(usual if word == AUTO else word for word, usual in told))
        return own

    def rare(self, usage: Usage, rates: Rates) -> int:
        """The cost of the classes that plain text calls do not have, in millionths of a nano-dollar."""
        total = 0
        for name in RARE_TOKENS:
            count: int = getattr(usage, name)
            if count:
                total += count * (rates.rate(name) or 0)
        for name in UNIT_CLASSES:
            units: int = getattr(usage, name)
            if units:
                total += units * (self._each(name, usage.kind, rates) or 0)
        return total


RARE_TOKENS = tuple(name for name in TOKEN_CLASSES if name not in ("input", "cached", "cache_write", "output"))


def price(usage: Usage, row: PriceRow) -> int:
    """The cost of a call in nano-dollars, rounded half up once. A class without a known price adds nothing: see
    `PriceRow.missing`."""
    text, cached, write, output = usage.input, usage.cached, usage.cache_write, usage.output
    beside = (
        usage.cache_write_1h + usage.audio_input + usage.audio_cached + usage.image_input + usage.image_cached
    )  # the prompt's tokens of other classes
    prompt = text + cached + write + beside
    rates = row.rates_for(prompt, usage.tier)
    inputs, outputs = rates.input or 0, rates.output or 0
    total = text * inputs + output * outputs + prompt * row.fee
    if cached:
        total += cached * (inputs if rates.cached is None else rates.cached)
    if write:
        total += write * (inputs if rates.cache_write is None else rates.cache_write)
    if rates.reasoning is not None and usage.reasoning:
        total += min(usage.reasoning, output) * (rates.reasoning - outputs)
    if beside or usage.audio_output or usage.image_output or usage.has_units:
        total += row.rare(usage, rates)
    return _round(total)


def estimate(prompt_tokens: int, output_tokens: int, row: PriceRow, service: str = STANDARD) -> int:
    """An upper bound of the cost of a text call with at most these tokens, in nano-dollars."""
    rates = row.rates_for(prompt_tokens, service)
    output = max(rates.output or 0, rates.reasoning or 0)
    return _round(prompt_tokens * (rates.highest_input() + row.fee) + output_tokens * output)


def dearest(one: PriceRow, other: PriceRow) -> PriceRow:
    """A row by which no call is cheaper than by either: what to hold when both models may serve."""
    if one == other:
        return one
    above = [row.tier_above for row in (one, other) if row.tier_above is not None]
    rates = _dearest(one.rates, other.rates)
    tier = rates
    for row in (one, other):
        if row.tier is not None:
            tier = _dearest(tier, row.tier)
    name = f"{one.model} or {other.model}"
    return PriceRow(
        model=name if len(name) <= MODEL_TEXT_MAX else one.model,
        rates=rates,
        tier_above=min(above, default=None),
        tier=tier if above else None,
        source="dearest",
        services={
            name: _dearest_service(name, one, other, rates, tier) for name in sorted({*one.services, *other.services})
        },
        kinds={kind: max(_kind(one, kind), _kind(other, kind)) for kind in sorted({*one.kinds, *other.kinds})},
        fee=max(one.fee, other.fee),
    )


def _dearest_service(name: str, one: PriceRow, other: PriceRow, rates: Rates, tier: Rates) -> Service:
    """A service tier of both rows; where one of them lacks it, its standard rates count, as they would be billed."""
    found = [row.services[name] for row in (one, other) if name in row.services]
    both, highest = (rates, tier) if len(found) == 1 else (found[0].rates, found[0].rates)
    for item in found:
        both = _dearest(both, item.rates)
        highest = _dearest(highest, item.rates if item.tier is None else _dearest(item.rates, item.tier))
    return Service(rates=both, tier=highest)


def _kind(row: PriceRow, kind: str) -> int:
    """What one kind costs by a row, whatever its units are."""
    own = row.of_kind(kind)
    if own is not None:
        return own
    rates = [row.rates, *(item.rates for item in row.services.values())]
    rates += [tier for tier in (row.tier, *(item.tier for item in row.services.values())) if tier is not None]
    return max(max(found.images or 0, found.pages or 0) for found in rates)


def _dearest(one: Rates, other: Rates) -> Rates:
    """By class the higher rate, each row's own or its base's. Text of a prompt costs the dearest of all its ways."""
    found: dict[str, int | None] = {}
    for name in Rates.__struct_fields__:
        known = [rate for rates in (one, other) if (rate := rates.rate(name)) is not None]
        found[name] = max(known, default=None)
    text = max(one.highest_input(), other.highest_input())
    if found["input"] is not None:
        found["cached"] = found["cache_write"] = text
        found["cache_write_1h"] = max(text, found["cache_write_1h"] or 0)
    return Rates(**found)


def price_id(row: PriceRow) -> PriceId:
    """The name of a row: a hash of its content, so that one id never means two prices."""
    return PriceId(sha256(msgspec.json.encode(row, order="deterministic")).hexdigest()[:32])


def _round(millionths: int) -> int:
    return (millionths + UNITS_PER_PRICE // 2) // UNITS_PER_PRICE
