"""How much money a call is likely to need: the prompt by what it is made of, the output by its cap, the rest by units.

These are the holds of keys in default mode: rarely below the truth, and what a call costs beyond its hold is recorded
as overdraft. `domain/holds/strict.py` has the proven bounds. docs/estimates.md says what is counted, and why.
"""

import msgspec

from services.proxy.domain.asked import NO_UNITS, Asked
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.parts import FILE_TOKENS, beyond_text
from services.proxy.domain.holds.tokens import ASCII_BYTES_PER_TOKEN, OTHER_BYTES_PER_TOKEN, text_tokens
from services.proxy.domain.holds.units import likely_images, likely_sound, likely_speech
from services.proxy.domain.paths import Endpoint
from shared.pricing import PROMPT_CLASSES, TOKENS_PER_PRICE, PriceRow, Rates, Usage, dearest, estimate, price

__all__ = [
    "ASCII_BYTES_PER_TOKEN",
    "DEFAULT_OUTPUT_TOKENS",
    "FILE_TOKENS",
    "OTHER_BYTES_PER_TOKEN",
    "Need",
    "affordable",
    "dearest_prompt",
    "likely",
    "need_of",
    "prompt_tokens",
    "realistic",
    "row_of_tier",
    "text_tokens",
]

DEFAULT_OUTPUT_TOKENS = 1_000

_CHAT = Endpoint.CHAT
_CACHE_MARK, _HOUR_MARK = b'"cache_control"', b'"1h"'
_MIXED = (Endpoint.IMAGES, Endpoint.IMAGE_EDITS)
_SOUND = (Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS)
_TEXTS = (Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS)


class Need(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call may use, in tokens (`output`: all choices together), and what to hold for it in nano-dollars.

    `amount` is enough for `prompt` and `output`; up to `most` is welcome, where the output's cap is ours to choose.
    """

    prompt: int
    output: int
    amount: int
    most: int


def realistic(asked: Asked, body: bytes, facts: ModelFacts, row: PriceRow, default_output: int) -> Need:
    """What a call of text is likely to need at most. Without a cap of the caller's, `default_output` tokens are
    assumed."""
    prompt = prompt_tokens(asked, body, facts)
    output = _output_tokens(asked, facts, default_output)
    amount = estimate(prompt, output, row)
    return Need(prompt=prompt, output=output, amount=amount, most=amount)


def likely(
    asked: Asked, body: bytes, facts: ModelFacts, row: PriceRow, default_output: int, wire: Endpoint | None = None
) -> Usage:
    """What a call is likely to use at most, class by class, as its price row bills it.

    `wire` is the operation of the deployment, where it is not the caller's.
    """
    endpoint = asked.endpoint
    if asked.chat or endpoint is Endpoint.EMBEDDINGS:
        return _likely_tokens(asked, body, facts, default_output, wire or endpoint)
    if endpoint in _MIXED:
        return likely_images(asked, row)
    if endpoint in _SOUND:
        return likely_sound(asked, facts, row)
    if endpoint is Endpoint.SPEECH:
        return likely_speech(asked, row)
    if endpoint is Endpoint.RERANK:
        return asked.units
    if endpoint is Endpoint.OCR:
        return asked.guess
    return NO_UNITS


def need_of(usage: Usage, row: PriceRow, wire: Endpoint) -> Need:
    """What to hold for a likely usage: each class at the dearest rate that fits it.

    Claude's cache is used only where the request asks for it, so the classes of such a usage say it all.
    """
    amount = price(usage, row) if wire is Endpoint.MESSAGES else _worth(usage, row)
    return Need(prompt=usage.prompt, output=usage.completion, amount=amount, most=amount)


def prompt_tokens(asked: Asked, body: bytes, facts: ModelFacts) -> int:
    """Tokens of the prompt, by the kinds of things it has; never more than the model takes."""
    if asked.parts or asked.endpoint is not _CHAT:
        return _prompt(asked, body, facts).prompt
    tokens = text_tokens(body)
    window = facts.context_window
    return tokens if window is None or tokens < window else window


def affordable(nusd: int, prompt: int, row: PriceRow) -> int | None:
    """How many output tokens an amount pays for beside a prompt (negative: not even the prompt); None: output is
    free."""
    rates = row.rates_for(prompt)
    output = max(rates.output or 0, rates.reasoning or 0)
    if output <= 0:
        return None
    return (nusd * TOKENS_PER_PRICE - prompt * (rates.highest_input() + row.fee)) // output


def dearest_prompt(rates: Rates) -> int:
    """The dearest way in which any token of a prompt may be billed, be it of text, sound or a picture."""
    return max(rates.rate(name) or 0 for name in PROMPT_CLASSES)


def row_of_tier(row: PriceRow, tier: str) -> PriceRow:
    """The row by which to hold for a service tier: as dear as the tier, and as the standard that may serve instead."""
    service = row.services.get(tier)
    if service is None:
        return row
    tiered = service.tier or (service.rates if row.tier is not None else None)
    return dearest(row, msgspec.structs.replace(row, rates=service.rates, tier=tiered, services={}))


def _worth(usage: Usage, row: PriceRow) -> int:
    """The cost of a usage if its prompt is billed in the dearest way, in nano-dollars."""
    prompt, rates = usage.prompt, row.rates_for(usage.prompt)
    text = rates.highest_input()
    held = estimate(usage.prompt, usage.output, row)
    if prompt == usage.input and usage.completion == usage.output and not _pieces(usage):
        return held
    more = usage.image_input * max(0, max(rates.rate("image_input") or 0, rates.rate("image_cached") or 0) - text)
    more += usage.audio_input * max(0, max(rates.rate("audio_input") or 0, rates.rate("audio_cached") or 0) - text)
    more += usage.audio_output * (rates.rate("audio_output") or 0)
    more += usage.image_output * (rates.rate("image_output") or 0)
    units = Usage(
        images=usage.images,
        kind=usage.kind,
        milliseconds=usage.milliseconds,
        characters=usage.characters,
        queries=usage.queries,
        pages=usage.pages,
    )
    return held + -(-more // TOKENS_PER_PRICE) + price(units, row)


def _pieces(usage: Usage) -> int:
    return usage.images + usage.milliseconds + usage.characters + usage.queries + usage.pages


def _output_tokens(asked: Asked, facts: ModelFacts, default_output: int) -> int:
    cap = default_output if asked.output_cap is None else asked.output_cap
    if facts.max_output is not None and cap > facts.max_output:
        cap = facts.max_output
    return cap * asked.choices


def _likely_tokens(asked: Asked, body: bytes, facts: ModelFacts, default_output: int, wire: Endpoint) -> Usage:
    prompt = _prompt(asked, body, facts)
    output = _output_tokens(asked, facts, default_output)
    if wire is Endpoint.MESSAGES:
        if _CACHE_MARK not in body:
            return Usage(input=prompt.prompt, output=output)
        if _HOUR_MARK in body:
            return Usage(cache_write_1h=prompt.prompt, output=output)
        return Usage(cache_write=prompt.prompt, output=output)
    return Usage(
        input=prompt.input,
        image_input=prompt.image_input,
        audio_input=prompt.audio_input,
        output=0 if asked.spoken else output,
        audio_output=output if asked.spoken else 0,
    )


def _prompt(asked: Asked, body: bytes, facts: ModelFacts) -> Usage:
    """The prompt by the kinds of things it has: text, pictures, sound; together never more than the model takes."""
    if asked.endpoint in _TEXTS:
        return _inputs(asked.input, body, facts)
    text = text_tokens(body) + asked.guess.input
    images, sound = asked.guess.image_input, asked.guess.audio_input
    if asked.parts:
        found = beyond_text(asked.parts, facts)
        text, images, sound = max(0, text + found.text), images + found.images, sound + found.sound
    over = 0 if facts.context_window is None else text + images + sound - facts.context_window
    if over > 0:
        cut = min(over, text)
        fewer = min(over - cut, images)
        text, images, sound = text - cut, images - fewer, sound - (over - cut - fewer)
    return Usage(input=text, image_input=images, audio_input=sound)


class _Pictured(msgspec.Struct):
    image: msgspec.Raw = msgspec.Raw()
    image_url: msgspec.Raw = msgspec.Raw()


_pictured = msgspec.json.Decoder(list[_Pictured])


def _inputs(given: msgspec.Raw, body: bytes, facts: ModelFacts) -> Usage:
    """The input of embeddings and completions: texts, pictures, or token ids, which need no guess."""
    ids = bytes(given)
    if ids and b'"' not in ids:
        return Usage(input=ids.count(b",") + 1)
    text, images = text_tokens(body), 0
    if ids[:1] == b"[" and ids[1:].lstrip()[:1] == b"{":
        try:
            for one in _pictured.decode(given):
                chars = len(one.image) + len(one.image_url)
                text -= chars // ASCII_BYTES_PER_TOKEN
                images += facts.image_tokens[1] if chars else 0
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return Usage(input=text_tokens(body))
    return Usage(input=max(0, text), image_input=images)
