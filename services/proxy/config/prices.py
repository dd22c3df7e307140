"""The price keys of a config file, in LiteLLM's names: dollars per token, per image, per second and so on.

A key is `<what>[_above_<n>k_tokens][_flex|_priority|_batches]`. Wrong ones are refused by name: a price that is passed
over would charge calls too little.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import msgspec

from services.proxy.domain.price_keys import (
    ANNOTATED,
    ANNOTATED_KEY,
    CLASS_OF,
    KEYS_OF,
    SERVICE_SUFFIXES,
    TOKEN_CLASSES,
    units_per_key,
)
from services.proxy.domain.prices import PriceBook
from shared.errors import SettingsError
from shared.money import NUSD_PER_USD
from shared.pricing import STANDARD, UNITS_PER_PRICE, PriceRow, Rates, Service

USD_PER_UNIT_MAX = 1_000_000
MAIN = ("input", "output", "images", "milliseconds", "characters", "queries", "pages")
"""Classes whose price in the file takes the place of the catalogue's row; prices of others alone change it."""
SERVICE_OF = {suffix: service for service, suffix in SERVICE_SUFFIXES.items()}
THRESHOLDS_K = (100, 128, 200, 256, 272)
FORM = re.compile(r"(?P<what>.+?)(?:_above_(?P<above>[1-9]\d{0,4})k_tokens)?(?P<service>_flex|_priority|_batches)?")
REFUSED = {
    "input_cost_per_pixel": "set output_cost_per_image",
    "output_cost_per_pixel": "set output_cost_per_image",
    "input_cost_per_audio_per_second": "set input_cost_per_second",
    "output_cost_per_audio_per_second": "set output_cost_per_second",
    "input_cost_per_video_per_second": "set input_cost_per_second",
    "output_cost_per_video_per_second": "set output_cost_per_second",
    "input_cost_per_token_cache_hit": "set cache_read_input_token_cost",
    "cache_creation_input_audio_token_cost": "remove it",
    "citation_cost_per_token": "remove it",
    "search_context_cost_per_query": "remove it: searches are refused, or not charged with model_info.unpriced: allow",
    "file_search_cost_per_1k_calls": "remove it",
    "file_search_cost_per_gb_per_day": "remove it",
    "vector_store_cost_per_gb_per_day": "remove it",
    "computer_use_input_cost_per_1k_tokens": "set input_cost_per_token",
    "computer_use_output_cost_per_1k_tokens": "set output_cost_per_token",
    "tiered_pricing": "set input_cost_per_token_above_<n>k_tokens and output_cost_per_token_above_<n>k_tokens",
}
"""Price keys of LiteLLM's that no call can be charged by here, and what to do."""
PRICE_KEYS = frozenset(
    {
        *CLASS_OF,
        ANNOTATED_KEY,
        *REFUSED,
        *(
            f"{key}{above}{suffix}"
            for key, name in CLASS_OF.items()
            if name in TOKEN_CLASSES
            for above in ("", *(f"_above_{k}k_tokens" for k in THRESHOLDS_K))
            for suffix in SERVICE_OF
        ),
    }
)
"""Every key read here, for the list of known keys (other thresholds are understood as well)."""

Table = Mapping[str, Any]
Fail = Callable[[str, str], SettingsError]
Warn = Callable[[str, str], None]
Given = dict[tuple[str, int | None], dict[str, int]]
"""Rates by service tier and context threshold (in tokens; None below any)."""


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a deployment: its row (None: unknown), whether the file fixed it, and by what it was found."""

    row: PriceRow | None
    fixed: bool
    how: str


class PriceReader:
    """Reads the prices of one deployment after another. `fail` makes, and `warn` keeps, what is said of a place."""

    def __init__(self, book: PriceBook, fail: Fail, warn: Warn) -> None:
        self._book = book
        self._fail = fail
        self._warn = warn

    def read(self, params: Table, info: Table, name: str, public: str, place: str) -> Priced:
        """The price of the deployment `name` behind the public model name; `place` is its entry in the file.

        A key of litellm_params goes before the same one of model_info. Raises SettingsError.
        """
        given: Given = {}
        kinds: dict[str, int] = {}
        places: dict[str, str] = {}
        for key, (value, where) in _cost_keys(params, info, place).items():
            self._take(key, value, where, given, kinds, places)
        found = self._catalogue(params, info, name, public, place, needed=not given and not kinds)
        if not given and not kinds:
            return found
        standard = given.get((STANDARD, None), {})
        main = [name for name in MAIN if name in standard]
        if main:
            self._half(main, {**info, **params}, place)
            row = PriceRow(model=name, rates=Rates(**standard), source="config")
            how = " and ".join(key for key in places if CLASS_OF.get(key) in MAIN)
        elif found.row is None:
            first, where = next(iter(places.items()))
            raise self._fail(f"{where}.{first}", "changes a price that is not known: set input_cost_per_token too")
        else:
            row = msgspec.structs.replace(found.row, source="config")
            row = msgspec.structs.replace(row, rates=_over(row.rates, standard))
            how = f"{' and '.join(places)} over {found.how}"
        return Priced(row=self._with(row, given, kinds, places), fixed=True, how=how)

    def _catalogue(self, params: Table, info: Table, name: str, public: str, place: str, *, needed: bool) -> Priced:
        base: object = params["base_model"] if params.get("base_model") is not None else info.get("base_model")
        if base is not None and needed and self._book.exact(str(base)) is None:
            raise self._fail(
                f"{place}.model_info.base_model",
                f"{base!r} is not in the price catalogue; use a name from it, or set input_cost_per_token and"
                " output_cost_per_token",
            )
        provider = str(params.get("model", "")).partition("/")[0]
        row, how = self._book.resolve(None if base is None else str(base), name, public, provider)
        if row is None and needed:
            self._warn(
                place,
                f"no price is known for {public!r}: its calls are refused until you set model_info.base_model, or"
                " input_cost_per_token and output_cost_per_token",
            )
        return Priced(row=row, fixed=False, how=how)

    def _take(
        self, key: str, value: object, where: str, given: Given, kinds: dict[str, int], places: dict[str, str]
    ) -> None:
        """One key of the file into what is given."""
        if key == ANNOTATED_KEY:
            kinds[ANNOTATED] = self._rate(key, value, where, 1)
            places[key] = where
            return
        form = FORM.fullmatch(key)
        name = CLASS_OF.get(form["what"]) if form is not None else None
        qualified = form is not None and (form["above"] is not None or form["service"] is not None)
        if form is None or name is None or (qualified and name not in TOKEN_CLASSES):
            what = form["what"] if form is not None else key
            near = get_close_matches(key, PRICE_KEYS - REFUSED.keys(), n=1)
            remedy = REFUSED.get(key) or REFUSED.get(what) or (f"did you mean {near[0]!r}?" if near else "remove it")
            raise self._fail(f"{where}.{key}", f"is a price that calls cannot be charged by here; {remedy}")
        above = None if form["above"] is None else int(form["above"]) * 1_000
        rate = self._rate(key, value, where, units_per_key(name))
        rates = given.setdefault((SERVICE_OF[form["service"] or ""], above), {})
        if rates.get(name, rate) != rate and rates[name] and rate:
            raise self._fail(f"{where}.{key}", f"and {KEYS_OF[name][0]} differ, and a call counts those units once")
        rates[name] = max(rate, rates.get(name, 0))
        places[key] = where

    def _with(self, row: PriceRow, given: Given, kinds: dict[str, int], places: dict[str, str]) -> PriceRow:
        """The row with the context tier, service tiers and kinds that the file sets."""
        thresholds = sorted({above for _, above in given if above is not None})
        if len(thresholds) > 1:
            key, where = next(
                (key, where) for key, where in places.items() if f"_above_{thresholds[1] // 1000}k" in key
            )
            raise self._fail(
                f"{where}.{key}", f"is a second threshold beside {thresholds[0]} tokens; one can be priced"
            )
        above = thresholds[0] if thresholds else row.tier_above
        tier = row.tier
        if thresholds:
            tier = _over(
                row.tier if row.tier_above == above and row.tier else row.rates, given.get((STANDARD, above), {})
            )
        services = dict(row.services)
        for service in {service for service, _ in given if service}:
            old = row.services.get(service)
            rates = _over(old.rates if old else row.rates, given.get((service, None), {}))
            high = None
            if tier is not None:
                high = _over(_dearer(rates, old.tier if old and old.tier else tier), given.get((service, above), {}))
            services[service] = Service(rates=rates, tier=high)
        return msgspec.structs.replace(
            row, tier_above=above if tier else None, tier=tier, services=services, kinds={**row.kinds, **kinds}
        )

    def _half(self, main: list[str], keys: Table, place: str) -> None:
        """Half a token price is said at once: calls that need the other half are refused."""
        for name, other in (("input", "output"), ("output", "input")):
            if name in main and other not in main and keys.get("mode", "chat") in ("chat", "responses", "completion"):
                key, beside = KEYS_OF[other][0], KEYS_OF[name][0]
                self._warn(place, f"{key} is not set beside {beside}: calls with such tokens are refused; 0 is free")

    def _rate(self, key: str, value: object, where: str, per_unit: int) -> int:
        """Nano-dollars per million units from LiteLLM's dollars per unit (of `per_unit` of ours)."""
        try:
            amount = Decimal(str(value))
        except ArithmeticError as error:
            raise self._fail(f"{where}.{key}", f"{value!r} is not a price in dollars; write a number") from error
        if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount <= USD_PER_UNIT_MAX:
            raise self._fail(f"{where}.{key}", f"{value!r} is not a price in dollars; write a number, 0 if it is free")
        rate = amount * NUSD_PER_USD * UNITS_PER_PRICE / per_unit
        if 0 < rate < 1:
            raise self._fail(f"{where}.{key}", f"{value!r} is less than a price can be; write 0 if it is free")
        return int(rate + Decimal("0.5"))


def like_a_price(key: str) -> bool:
    """Whether a key is a price, or may have been meant as one."""
    return "cost" in key or key in PRICE_KEYS


def _cost_keys(params: Table, info: Table, place: str) -> dict[str, tuple[object, str]]:
    """Keys that are or look like prices, each with value and place; litellm_params first."""
    found: dict[str, tuple[object, str]] = {}
    for table, part in ((params, "litellm_params"), (info, "model_info")):
        for key, value in table.items():
            if value is not None and key not in found and like_a_price(key):
                found[key] = (value, f"{place}.{part}")
    return found


def _over(base: Rates, changed: dict[str, int]) -> Rates:
    return msgspec.structs.replace(base, **changed)


def _dearer(one: Rates, other: Rates) -> Rates:
    """By class the higher of two rates: what counts where the file does not say how tiers go together."""
    found: dict[str, int | None] = {}
    for name in Rates.__struct_fields__:
        known = [rate for rates in (one, other) if (rate := rates.rate(name)) is not None]
        found[name] = max(known, default=None)
    return Rates(**found)
