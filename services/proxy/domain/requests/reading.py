"""What all readers of requests share: one way to refuse what is no JSON, a model's name, counts, caps, tiers."""

import re
from typing import TypeVar

import msgspec

from services.proxy.domain.asked import BadRequest

MODEL_NAME_MAX = 200
TOKENS_MAX = 10_000_000
CHOICES_MAX = 128
WORD_MAX = 60
"""So much of a word of the caller's is repeated in an error."""

ABSENT = msgspec.Raw()
"""The default of a field that is read only if it was sent; compare by identity."""
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding raises for bytes that are no JSON, or JSON of another shape."""
TIERS = {b'"priority"': "priority", b'"flex"': "flex"}
"""Service tiers with prices of their own, as they stand in a body."""

T = TypeVar("T")

_PLACE = re.compile(r"`\$\.?([^`]{1,100})`")


class StreamOptions(msgspec.Struct):
    """The part of `stream_options` that we read."""

    include_usage: bool | None = None


def unreadable(error: Exception) -> BadRequest:
    """The refusal of a body that could not be decoded, with the field where it is known."""
    if isinstance(error, msgspec.ValidationError):
        place = _PLACE.search(str(error))
        param = None if place is None else place[1]
        return BadRequest(f"The request body has a field of the wrong type: {error}.", param=param)
    return BadRequest(f"The request body is not valid JSON: {error}. Send a JSON object.", code="invalid_json")


def field_of(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, name: str, what: str) -> T:
    """A field's value; `what` says what it has to be. Raises BadRequest naming it."""
    try:
        return decoder.decode(raw)
    except UNREADABLE as error:
        raise BadRequest(f"'{name}' must be {what}.", param=name) from error


def model_of(model: str | None) -> str:
    """The model's public name. Raises BadRequest without one."""
    if not model:
        raise BadRequest("'model' is missing: name the model to call.", code="missing_model", param="model")
    if len(model) > MODEL_NAME_MAX:
        raise BadRequest("'model' is longer than any model name.", param="model")
    return model


def count_of(count: int | None, name: str, *, default: int = 1, least: int = 1, most: int = CHOICES_MAX) -> int:
    """A whole number within its bounds, `default` when it was not sent. Raises BadRequest naming it."""
    if count is None:
        return default
    if not least <= count <= most:
        raise BadRequest(f"'{name}' must be between {least} and {most}.", param=name)
    return count


def cap_of(cap: int | None, name: str) -> int | None:
    """A cap on output tokens within reason, None when it was not sent. Raises BadRequest naming it."""
    return None if cap is None else count_of(cap, name, least=0, most=TOKENS_MAX)


def tier_of(raw: msgspec.Raw) -> str:
    """The service tier asked for, empty where the list price counts."""
    return "" if raw is ABSENT else TIERS.get(bytes(raw), "")


def is_list(raw: msgspec.Raw) -> bool:
    """Whether raw JSON is a list."""
    return starts(raw, b"[")


def starts(raw: msgspec.Raw, sign: bytes) -> bool:
    """Whether raw JSON begins with this one byte: `[` a list, `{` an object, `"` a text."""
    return bytes(memoryview(raw)[:1]) == sign


def quoted(word: str) -> str:
    """A word of the caller's for an error: printable and short."""
    return "".join(sign if sign.isprintable() else "?" for sign in word[:WORD_MAX])
