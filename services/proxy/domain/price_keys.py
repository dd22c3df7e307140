"""LiteLLM's names of prices, by our classes of usage: read from config files, shown by `/model/info`."""

from decimal import Decimal

from shared.money import NUSD_PER_USD
from shared.pricing import BATCH, FLEX, PRIORITY, STANDARD, UNITS_PER_PRICE, PriceRow, Rates

MS_PER_SECOND = 1_000
KEYS_OF: dict[str, tuple[str, ...]] = {
    "input": ("input_cost_per_token",),
    "output": ("output_cost_per_token",),
    "cached": ("cache_read_input_token_cost",),
    "cache_write": ("cache_creation_input_token_cost",),
    "cache_write_1h": ("cache_creation_input_token_cost_above_1hr",),
    "reasoning": ("output_cost_per_reasoning_token",),
    "audio_input": ("input_cost_per_audio_token",),
    "audio_cached": ("cache_read_input_audio_token_cost",),
    "audio_output": ("output_cost_per_audio_token",),
    "image_input": ("input_cost_per_image_token",),
    "image_cached": ("cache_read_input_image_token_cost",),
    "image_output": ("output_cost_per_image_token",),
    "images": ("output_cost_per_image", "input_cost_per_image"),
    "milliseconds": ("input_cost_per_second", "output_cost_per_second"),
    "characters": ("input_cost_per_character", "output_cost_per_character"),
    "queries": ("input_cost_per_query", "output_cost_per_query"),
    "pages": ("ocr_cost_per_page", "input_cost_per_page", "output_cost_per_page"),
    "sessions": ("code_interpreter_cost_per_session",),
}
"""The keys of each class, the one we show first; several of a class are one price: a call counts its units once."""
ANNOTATED = "annotated"
ANNOTATED_KEY = "annotation_cost_per_page"
FEE_KEY = "router_cost_per_token"
"""Ours: LiteLLM has no name for what a router costs beside the model it chose."""
TOKEN_CLASSES = tuple(name for name, keys in KEYS_OF.items() if "token" in keys[0])
CLASS_OF = {key: name for name, keys in KEYS_OF.items() for key in keys}
SERVICE_SUFFIXES = {STANDARD: "", FLEX: "_flex", PRIORITY: "_priority", BATCH: "_batches"}


def units_per_key(name: str) -> int:
    """How many of our units one unit of the key is: a second is a thousand milliseconds."""
    return MS_PER_SECOND if name == "milliseconds" else 1


def price_keys(row: PriceRow) -> dict[str, float | int]:
    """A row in LiteLLM's words: dollars per token, second, character, query, page and image.

    Prices of images by quality and size have no such key; they stand in `row.kinds`.
    """
    found: dict[str, float | int] = {}
    above = f"_above_{row.tier_above // 1_000}k_tokens" if row.tier_above else ""
    named = [(STANDARD, row.rates, row.tier), *((name, it.rates, it.tier) for name, it in row.services.items())]
    for service, rates, tier in named:
        suffix = SERVICE_SUFFIXES.get(service, f"_{service}")
        found |= _keys(rates, suffix, tokens_only=bool(service))
        if tier is not None and above:
            found |= _keys(tier, above + suffix, tokens_only=True)
    if ANNOTATED in row.kinds:
        found[ANNOTATED_KEY] = _dollars(row.kinds[ANNOTATED])
    if row.fee:
        found[FEE_KEY] = _dollars(row.fee)
    return found


def _keys(rates: Rates, suffix: str, *, tokens_only: bool) -> dict[str, float | int]:
    found: dict[str, float | int] = {}
    for name in TOKEN_CLASSES if tokens_only else KEYS_OF:
        rate: int | None = getattr(rates, name)
        if rate is not None:
            found[KEYS_OF[name][0] + suffix] = _dollars(rate * units_per_key(name))
    return found


def _dollars(rate: int) -> float | int:
    """Dollars of one unit from nano-dollars of a million."""
    amount = Decimal(rate) / (NUSD_PER_USD * UNITS_PER_PRICE)
    return int(amount) if amount == int(amount) else float(amount)
