"""What both directions share: reading JSON with the right error, refusing a field, writing events, data URLs."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import msgspec

from services.proxy.domain.asked import BadRequest

Json = dict[str, object]
"""An object to be written; its values may be msgspec.Raw."""

Fields = dict[str, msgspec.Raw]
"""The fields of an object, each in its own bytes."""

TOKENS_MAX = 10_000_000
"""More than any answer can have."""
HELD_CHARS_MAX = 16 * 1024 * 1024
"""So much of a stream is held back at most, where a part must be whole before it can be passed on."""
QUOTED_MAX = 60
"""So much of a word of the caller's is repeated in an error."""
KEEP_ALIVE = b": ping\n\n"
DONE = b"data: [DONE]\n\n"

encode = msgspec.json.encode


class Untranslatable(ValueError):
    """A reply of a deployment that cannot be put into the caller's dialect."""


@contextmanager
def caller_json() -> Generator[None]:
    """What is no JSON, or JSON of another shape, is the caller's mistake: BadRequest."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request body has a field of the wrong type: {error}.") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadRequest("The request body is not valid JSON. Send a JSON object.", code="invalid_json") from error


@contextmanager
def upstream_json() -> Generator[None]:
    """What is no JSON, or JSON of another shape, cannot be translated: Untranslatable."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise Untranslatable(f"the deployment's reply has an unexpected shape: {error}") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Untranslatable("the deployment's reply is not valid JSON") from error


class Strictness(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to parameters that the other dialect cannot express; `target` names the deployment's kind."""

    drop_params: bool
    target: str

    def refuse(self, field: str, why: str, *, do: str = "Leave it out") -> None:
        """Returns only if the parameter is to be dropped. Raises BadRequest."""
        if self.drop_params:
            return
        raise BadRequest(
            f"'{field}' {why}: this model is served by {self.target}. {do}, or have drop_params set for this model, "
            "so that it is ignored.",
            code="unsupported_parameter",
            param=field,
        )


def inexpressible(field: str, message: str) -> NoReturn:
    """Refuse content that cannot be left out without changing what was asked. Raises BadRequest."""
    raise BadRequest(message, code="unsupported_parameter", param=field)


def malformed(field: str, message: str) -> NoReturn:
    """Refuse a value that no dialect allows. Raises BadRequest."""
    raise BadRequest(message, param=field)


def quoted(word: str) -> str:
    """A word of the caller's for an error: printable and short."""
    return "".join(sign if sign.isprintable() else "?" for sign in word[:QUOTED_MAX])


def checked_cap(field: str, cap: int) -> int:
    """A cap on output tokens within reason. Raises BadRequest."""
    if not 1 <= cap <= TOKENS_MAX:
        malformed(field, f"'{field}' must be between 1 and {TOKENS_MAX}.")
    return cap


def given(raw: msgspec.Raw) -> bool:
    """Whether a field was sent with another value than null."""
    return bytes(raw) not in (b"", b"null")


def is_object(raw: msgspec.Raw) -> bool:
    """Whether raw JSON is an object."""
    return bytes(raw).startswith(b"{")


def held(size: int) -> int:
    """How much of a stream is held back now, within the bound. Raises Untranslatable."""
    if size > HELD_CHARS_MAX:
        raise Untranslatable(f"the deployment's stream has a part longer than {HELD_CHARS_MAX} characters")
    return size


def data_event(data: object) -> bytes:
    """An event as chat completions send it."""
    return b"data: " + encode(data) + b"\n\n"


def named_event(name: str, data: object) -> bytes:
    """An event as Messages send it, with its name on a line of its own."""
    return b"event: " + name.encode() + b"\ndata: " + encode(data) + b"\n\n"


def split_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 data of a `data:` URL; None for another one."""
    head, comma, data = url.partition(",")
    scheme, colon, kind = head.partition(":")
    if scheme.lower() != "data" or not colon or not comma or not kind.lower().endswith(";base64"):
        return None
    return kind[: -len(";base64")].partition(";")[0].strip().lower(), data
