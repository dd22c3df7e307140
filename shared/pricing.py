"""Prices and costs: pure integer arithmetic, the same in the proxy (charges) and the ledger (checks).

A price is nano-dollars per million tokens of a class. A cost is rounded once per event, half up.
"""

from hashlib import sha256

import msgspec

from shared.ids import PriceId

TOKENS_PER_PRICE = 1_000_000
MODEL_TEXT_MAX = 200


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens by class as Foundry bills them. `input` excludes the cached and cache-write tokens beside it;
    `output` includes `reasoning`, which is given for information only."""

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        """All tokens of the prompt, cached or not: what decides the context tier."""
        return self.input + self.cached + self.cache_write


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Nano-dollars per million tokens by class; a class without a price of its own costs as input."""

    input: int
    output: int
    cached: int | None = None
    cache_write: int | None = None

    def of(self, usage: Usage) -> int:
        """The exact cost in millionths of a nano-dollar."""
        cached = self.input if self.cached is None else self.cached
        write = self.input if self.cache_write is None else self.cache_write
        return usage.input * self.input + usage.cached * cached + usage.cache_write * write + usage.output * self.output

    def highest_input(self) -> int:
        """The dearest way a prompt token may be billed: what an upper bound must assume."""
        return max(self.input, self.cached or 0, self.cache_write or 0)


class PriceRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs. `tier_above` prompt tokens, the whole call is billed by `tier`."""

    model: str
    rates: Rates
    tier_above: int | None = None
    tier: Rates | None = None
    source: str = "catalogue"

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates of a call with this many prompt tokens."""
        if self.tier is not None and self.tier_above is not None and prompt_tokens > self.tier_above:
            return self.tier
        return self.rates


def price(usage: Usage, row: PriceRow) -> int:
    """The cost of a call in nano-dollars, rounded half up once."""
    return _round(row.rates_for(usage.prompt).of(usage))


def estimate(prompt_tokens: int, output_tokens: int, row: PriceRow) -> int:
    """An upper bound of the cost of a call with at most these tokens, in nano-dollars."""
    rates = row.rates_for(prompt_tokens)
    return _round(prompt_tokens * rates.highest_input() + output_tokens * rates.output)


def dearest(one: PriceRow, other: PriceRow) -> PriceRow:
    """A row by which no call is cheaper than by either: what to hold when both models may serve."""
    if one == other:
        return one
    tiers = [row.tier for row in (one, other) if row.tier is not None]
    above = [row.tier_above for row in (one, other) if row.tier_above is not None]
    rates = _dearest(one.rates, other.rates)
    tier = rates
    for candidate in tiers:
        tier = _dearest(tier, candidate)
    return PriceRow(
        model=f"{one.model} or {other.model}" if len(one.model) < MODEL_TEXT_MAX else one.model,
        rates=rates,
        tier_above=min(above, default=None),
        tier=tier if above else None,
        source="dearest",
    )


def _dearest(one: Rates, other: Rates) -> Rates:
    return Rates(
        input=max(one.input, other.input),
        output=max(one.output, other.output),
        cached=max(one.highest_input(), other.highest_input()),
        cache_write=max(one.highest_input(), other.highest_input()),
    )


def price_id(row: PriceRow) -> PriceId:
    """The name of a row: a hash of its content, so that one id never means two prices."""
    return PriceId(sha256(msgspec.json.encode(row, order="deterministic")).hexdigest()[:32])


def _round(millionths: int) -> int:
    return (millionths + TOKENS_PER_PRICE // 2) // TOKENS_PER_PRICE
