"""How much money a call is likely to need: the prompt by what it is made of, the output by its cap.

These are the holds of keys in default mode: rarely below the truth, and what a call costs beyond its hold is recorded
as overdraft. `domain/strict.py` has the proven bounds. docs/estimates.md says what is counted, and why.
"""

import msgspec

from services.proxy.domain.dialect import Asked
from services.proxy.domain.facts import ModelFacts
from shared.pricing import TOKENS_PER_PRICE, PriceRow, estimate

DEFAULT_OUTPUT_TOKENS = 1_000

ASCII_BYTES_PER_TOKEN = 3
OTHER_BYTES_PER_TOKEN = 2
"""English has about four bytes in a token, code and JSON about three; other scripts two to five."""
MP3_CHARS_PER_TOKEN = 500
WAV_CHARS_PER_TOKEN = 1_000
"""Base64 characters of sound in a token of about a tenth of a second: at 32 kbit/s, and at 8,000 bytes/s."""
FILE_CHARS_PER_TOKEN = 8
FILE_TOKENS = 10_000
"""Base64 characters of a document in a token; tokens of a document that is only named."""

_ASCII = bytes(range(128))


class Need(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call may use, in tokens (`output`: all choices together), and what to hold for it in nano-dollars.

    `amount` is enough for `prompt` and `output`; up to `most` is welcome, where the output's cap is ours to choose.
    """

    prompt: int
    output: int
    amount: int
    most: int


class _ImageUrl(msgspec.Struct):
    url: msgspec.Raw = msgspec.Raw()
    detail: str | None = None


class _Audio(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    format: str | None = None


class _File(msgspec.Struct):
    file_data: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct):
    type: str | None = None
    image_url: _ImageUrl | str | None = None
    input_audio: _Audio | None = None
    file: _File | None = None


_parts: msgspec.json.Decoder[list[_Part | str]] = msgspec.json.Decoder(list[_Part | str])


def realistic(asked: Asked, body: bytes, facts: ModelFacts, row: PriceRow, default_output: int) -> Need:
    """What a call is likely to need at most. Without a cap of the caller's, `default_output` tokens are assumed."""
    prompt = prompt_tokens(asked, body, facts)
    cap = default_output if asked.output_cap is None else asked.output_cap
    if facts.max_output is not None and cap > facts.max_output:
        cap = facts.max_output
    output = cap * asked.choices
    amount = estimate(prompt, output, row)
    return Need(prompt=prompt, output=output, amount=amount, most=amount)


def prompt_tokens(asked: Asked, body: bytes, facts: ModelFacts) -> int:
    """Tokens of the prompt, by the kinds of things it has; never more than the model takes."""
    if not asked.chat:
        return _input_tokens(asked.input, body)
    tokens = text_tokens(body)
    if asked.parts:
        tokens += _beyond_text(asked.parts, facts)
    window = facts.context_window
    return tokens if window is None or tokens < window else window


def text_tokens(text: bytes) -> int:
    """Tokens of JSON or plain text: a third of its ASCII bytes, half of the others."""
    if text.isascii():
        return -(-len(text) // ASCII_BYTES_PER_TOKEN)
    other = len(text.translate(None, _ASCII))
    return -(-(len(text) - other) // ASCII_BYTES_PER_TOKEN) + -(-other // OTHER_BYTES_PER_TOKEN)


def affordable(nusd: int, prompt: int, row: PriceRow) -> int | None:
    """How many output tokens an amount pays for beside a prompt (negative: not even the prompt); None: output is
    free."""
    rates = row.rates_for(prompt)
    if rates.output <= 0:
        return None
    return (nusd * TOKENS_PER_PRICE - prompt * rates.highest_input()) // rates.output


def _input_tokens(given: msgspec.Raw, body: bytes) -> int:
    """Tokens of the input of embeddings: texts, or token ids, which need no guess."""
    ids = bytes(given)
    if ids and b'"' not in ids:
        return ids.count(b",") + 1
    return text_tokens(body)


def _beyond_text(contents: tuple[msgspec.Raw, ...], facts: ModelFacts) -> int:
    """Tokens of images, sound and documents, less those that their data was counted for as text."""
    data = tokens = 0
    for content in contents:
        try:
            parts = _parts.decode(content)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue  # Foundry will not know what to do with it either
        for part in parts:
            if isinstance(part, _Part):
                chars, guess = _of_part(part, facts)
                data += chars
                tokens += guess
    return tokens - data // ASCII_BYTES_PER_TOKEN


def _of_part(part: _Part, facts: ModelFacts) -> tuple[int, int]:
    """The bytes of a part that are no text, and what they are in tokens."""
    if part.image_url is not None:
        if isinstance(part.image_url, str):
            return len(part.image_url), facts.image_tokens[1]
        low, high = facts.image_tokens
        return len(bytes(part.image_url.url)), low if part.image_url.detail == "low" else high
    if part.input_audio is not None:
        chars = len(bytes(part.input_audio.data))
        per_token = WAV_CHARS_PER_TOKEN if part.input_audio.format == "wav" else MP3_CHARS_PER_TOKEN
        return chars, -(-chars // per_token)
    if part.file is not None:
        chars = len(bytes(part.file.file_data))
        return chars, max(FILE_TOKENS if not chars else 1, -(-chars // FILE_CHARS_PER_TOKEN))
    return 0, 0
