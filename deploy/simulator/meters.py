"""Meters: which of them a served call moves, by how much, and what a unit costs.

List prices in USD for a million tokens or characters, or for one piece (`images`, `seconds`, `queries`,
`pages`). They are the simulator's own list: nothing here is shared with the program that is to be judged.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

import msgspec

from deploy.simulator.served import ServedCall
from deploy.simulator.usage import Usage

MILLION = Decimal(1_000_000)
CLAUDE_METER = "Claude Consumption Units"
TIERS = {"": Decimal(1), "batch": Decimal("0.5"), "flex": Decimal("0.5"), "priority": Decimal(2)}
ROUTER_FEE = "0.14"
"""USD for a million prompt tokens, on top of what the chosen model costs."""
LONG_CONTEXT = 272_000
LONG_INPUT, LONG_OUTPUT = Decimal(2), Decimal("1.5")
LONG_MODELS = ("gpt-5.4", "gpt-5.5", "gpt-5.6", "gpt-6")

PER_PIECE = ("images", "seconds", "queries", "pages")
WORDS = {
    "input": "Inp",
    "cached": "cached Inp",
    "write": "Cd Wr Inp",
    "write_1h": "Cd Wr 1h Inp",
    "output": "Outp",
    "audio_in": "Aud Inp",
    "audio_cached": "Aud cached Inp",
    "audio_out": "Aud Outp",
    "image_in": "Img Inp",
    "image_out": "Img Outp",
    "characters": "Characters",
    "images": "Images",
    "seconds": "Seconds",
    "queries": "Queries",
    "pages": "Pages",
}
"""Kind of a meter → how its name calls it."""
INSTEAD = {
    "cached": "input", "write": "input", "write_1h": "write", "audio_in": "input", "audio_cached": "cached",
    "audio_out": "output", "image_in": "input", "image_out": "output",
}  # fmt: skip
"""Kind without a price of its own → kind whose price counts."""


def _text(given: str, cached: str | None, out: str, write: str | None = None, **more: str) -> dict[str, str]:
    told = {"input": given, "output": out, **more}
    if cached is not None:
        told["cached"] = cached
    if write is not None:
        told["write"] = write
    return told


PRICES: dict[str, dict[str, str]] = {
    "gpt-4o": _text("2.5", "1.25", "10"),
    "gpt-4o-mini": _text("0.15", "0.075", "0.6"),
    "gpt-4.1": _text("2", "0.5", "8"),
    "gpt-4.1-mini": _text("0.4", "0.1", "1.6"),
    "gpt-4.1-nano": _text("0.1", "0.025", "0.4"),
    "gpt-5": _text("1.25", "0.125", "10"),
    "gpt-5.1": _text("1.25", "0.125", "10"),
    "gpt-5-mini": _text("0.25", "0.025", "2"),
    "gpt-5-nano": _text("0.05", "0.005", "0.4"),
    "gpt-5-pro": _text("15", None, "120"),
    "gpt-5.2": _text("1.75", "0.175", "14"),
    "gpt-5.4": _text("2.5", "0.25", "15"),
    "gpt-5.4-mini": _text("0.75", "0.075", "4.5"),
    "gpt-5.4-nano": _text("0.2", "0.02", "1.25"),
    "gpt-5.5": _text("5", "0.5", "30"),
    "gpt-5.6-sol": _text("4", "0.4", "20", "5"),
    "gpt-5.6-terra": _text("2", "0.2", "12", "2.5"),
    "gpt-5.6-luna": _text("0.2", "0.02", "1.2", "0.25"),
    "gpt-6-astra": _text("10", "1", "50", "12.5"),
    "gpt-6-sol": _text("2", "0.2", "10", "2.5"),
    "gpt-6-luna": _text("0.1", "0.01", "0.5", "0.125"),
    "o1": _text("15", "7.5", "60"),
    "o3": _text("2", "0.5", "8"),
    "o3-mini": _text("1.1", "0.55", "4.4"),
    "o4-mini": _text("1.1", "0.275", "4.4"),
    "claude-opus-5": _text("5", "0.5", "25", "6.25", write_1h="10"),
    "claude-opus-4": _text("5", "0.5", "25", "6.25", write_1h="10"),
    "claude-sonnet-5": _text("2", "0.2", "10", "2.5", write_1h="4"),
    "claude-sonnet-4": _text("3", "0.3", "15", "3.75", write_1h="6"),
    "claude-haiku-4": _text("1", "0.1", "5", "1.25", write_1h="2"),
    "grok-4": _text("3", None, "15"),
    "phi-4": _text("0.125", None, "0.5"),
    "llama-3.3-70b": _text("0.71", None, "0.71"),
    "mistral-large-3": _text("0.5", None, "1.5"),
    "cohere-command-a": _text("2.5", None, "10"),
    "text-embedding-3-small": {"input": "0.02"},
    "text-embedding-3-large": {"input": "0.13"},
    "text-embedding-ada-002": {"input": "0.1"},
    "embed-v-4-0": {"input": "0.12", "image_in": "0.47"},
    "cohere-embed-v3": {"input": "0.1"},
    "cohere-rerank-v4.0-pro": {"queries": "0.0025"},
    "cohere-rerank": {"queries": "0.002"},
    "cohere-parse": {"pages": "0.0015"},
    "mistral-ocr-2505": {"pages": "0.001"},
    "mistral-document-ai": {"pages": "0.003"},
    "gpt-image-1": {"input": "5", "image_in": "10", "image_out": "40"},
    "gpt-image-1-mini": {"input": "2", "image_in": "2.5", "image_out": "8"},
    "gpt-image-1.5": {"input": "5", "image_in": "8", "output": "10", "image_out": "32"},
    "dall-e-3": {"images": "0.044"},
    "flux": {"images": "0.04"},
    "mai-image": {"images": "0.048"},
    "whisper": {"seconds": "0.0001"},
    "gpt-4o-transcribe": _text("2.5", None, "10", audio_in="6"),
    "gpt-4o-mini-transcribe": _text("1.25", None, "5", audio_in="3"),
    "gpt-4o-mini-tts": _text("0.6", None, "10", audio_out="12"),
    "tts": {"characters": "15"},
    "tts-1-hd": {"characters": "33"},
    "gpt-realtime": _text("4", "0.4", "16", audio_in="32", audio_cached="0.4", audio_out="64", image_in="5"),
    "gpt-realtime-mini": _text("0.6", "0.06", "2.4", audio_in="10", audio_cached="0.3", audio_out="20", image_in="0.8"),
    "gpt-4o-realtime": _text("5", "2.5", "20", audio_in="40", audio_cached="2.5", audio_out="80"),
}  # fmt: skip
"""Beginning of a model's name → kind of meter → USD."""
DALLE = {
    "standard/1024-x-1024": "0.044",
    "hd/1024-x-1024": "0.088",
    "hd/1024-x-1792": "0.132",
    "hd/1792-x-1024": "0.132",
}
DALLE_LARGE = "0.088"


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """One meter. `unit` as price lists say it (`1K`, `1M`, `1`), `scale` what one unit counts, `usd` its price."""

    name: str
    product: str
    model: str
    kind: str
    unit: str
    scale: int
    usd: Decimal


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """By how much a call moved a meter: units, and what they cost in USD."""

    meter: Meter
    units: Decimal
    usd: Decimal


@lru_cache(maxsize=4_096)
def priced_as(model: str) -> str | None:
    """The longest beginning in PRICES that a model's name has; None when there is none."""
    lowered = model.lower()
    return max((known for known in PRICES if lowered.startswith(known)), key=len, default=None)


def meter(model: str, kind: str, usd: str, tier: str = "", long: bool = False) -> Meter:
    """The meter of a kind of use of a model, in the naming of its time: thousands first, millions later."""
    known = priced_as(model) or model.lower()
    short = known.removeprefix("gpt-").replace("-", " ")
    told = ["Batch"] if tier == "batch" else ["pp"] if tier == "priority" else ["Flex"] if tier == "flex" else []
    if kind in PER_PIECE:
        unit, scale, name = "1", 1, " ".join([short, WORDS[kind], *told, "glbl"])
    elif known.startswith(("gpt-5.", "gpt-6")):
        told = (["LongCo"] if long else []) + told
        unit, scale, name = "1M", 1_000_000, " ".join([short, *told, WORDS[kind].lower(), "Gl 1M Tokens"])
    else:
        shown = f"gpt {short}" if known.startswith("gpt-") else short
        unit, scale, name = "1K", 1_000, " ".join([shown, WORDS[kind], *told, "glbl Tokens"])
    price = Decimal(usd) if kind in PER_PIECE else Decimal(usd) * scale / MILLION
    return Meter(name=name, product=_product(known), model=known, kind=kind, unit=unit, scale=scale, usd=price)


def _product(known: str) -> str:
    if known.startswith(("gpt-5", "gpt-6")):
        return f"Azure OpenAI GPT{known[4]}"
    if known.startswith(("o1", "o3", "o4")):
        return "Azure OpenAI Reasoning"
    if "image" in known or known.startswith(("dall-e", "whisper", "tts", "gpt-realtime")):
        return "Azure OpenAI Media"
    if known.startswith(("gpt-", "text-embedding")):
        return "Azure OpenAI"
    return f"{known.partition('-')[0].title()} Models"


def amounts(usage: Usage) -> dict[str, Decimal]:
    """What a call used, by kind of meter: every token stands in exactly one of them."""
    audio_new = usage.audio_prompt - usage.audio_cached
    special = usage.cached + usage.cache_write + usage.cache_write_1h + audio_new + usage.image_prompt
    counts = {
        "input": usage.prompt - special,
        "cached": usage.cached - usage.audio_cached,
        "write": usage.cache_write,
        "write_1h": usage.cache_write_1h,
        "audio_in": audio_new,
        "audio_cached": usage.audio_cached,
        "image_in": usage.image_prompt,
        "output": usage.completion - usage.audio_completion - usage.image_completion,
        "audio_out": usage.audio_completion,
        "image_out": usage.image_completion,
        "images": usage.images,
        "characters": usage.characters,
        "queries": usage.queries,
        "pages": usage.pages,
    }
    told = {kind: Decimal(count) for kind, count in counts.items() if count > 0}
    if usage.milliseconds:
        told["seconds"] = Decimal(usage.milliseconds) / 1000
    return told


def readings(call: ServedCall, own: dict[str, dict[str, str]]) -> Iterator[Reading]:
    """What a served call moved. `own` prices (by model) come before the list; a call without a price moves
    its meters at no cost. Provisioned calls move nothing: they are paid by the hour."""
    if call.provisioned:
        return
    prices = own.get(call.model) or PRICES.get(priced_as(call.model) or "", {})
    usage = call.usage
    long = usage.prompt > LONG_CONTEXT and call.model.startswith(LONG_MODELS)
    factor = TIERS.get(usage.service_tier, Decimal(1))
    if call.routed:
        fee = meter("model-router", "input", ROUTER_FEE)
        yield Reading(meter=fee, units=Decimal(usage.prompt) / fee.scale, usd=usage.prompt * fee.usd / fee.scale)
    for kind, amount in amounts(usage).items():
        price = _price(prices, kind)
        if kind == "images" and call.model.lower().startswith("dall-e-3") and call.model not in own:
            price = DALLE.get(usage.image_kind, DALLE_LARGE)
        one = meter(call.model, kind, price, usage.service_tier, long)
        units = amount / one.scale
        stretch = (LONG_OUTPUT if kind in ("output", "audio_out", "image_out") else LONG_INPUT) if long else Decimal(1)
        usd = units * one.usd * factor * stretch
        if call.model.lower().startswith("claude"):
            one = Meter(
                name=CLAUDE_METER, product="Claude", model="claude", kind="usd", unit="1", scale=1, usd=Decimal(1)
            )
            units = usd
        yield Reading(meter=one, units=units, usd=usd)


def _price(prices: dict[str, str], kind: str) -> str:
    while kind not in prices:
        if kind not in INSTEAD:
            return "0"
        kind = INSTEAD[kind]
    return prices[kind]


def all_meters() -> Iterator[Meter]:
    """The price list: every meter but Claude's, which is sold elsewhere."""
    for model, prices in PRICES.items():
        if model.startswith("claude"):
            continue
        for kind, usd in prices.items():
            yield meter(model, kind, usd)
