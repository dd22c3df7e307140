"""Answers to callers: the heads they begin with, the headers they may carry, and errors in the caller's dialect."""

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

from services.proxy.domain.errors.failures import Failure, error_body, own_failure
from services.proxy.domain.paths import Dialect
from services.proxy.upstream import Reply
from shared.money import NUSD_PER_USD

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SAFE_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
    (b"cache-control", b"no-store"),
]
PASSED_ON = (
    "apim-request-id",
    "x-request-id",
    "request-id",
    "x-ms-region",
    "x-ms-served-model",
    "x-ms-rai-invoked",
    "openai-processing-ms",
)
"""What callers get to see of a reply's head; a wait that Foundry asks for is told by the failure itself."""
_PASSED_ON = tuple((name, name.encode()) for name in PASSED_ON)
HEADER_CHARS_MAX = 256
JSON_TYPE = b"application/json"
STREAM_TYPE = b"text/event-stream; charset=utf-8"
TEXT_TYPE = b"text/plain; charset=utf-8"
LINES_TYPE = b"application/jsonl"
BINARY_TYPE = b"application/octet-stream"
AUDIO_TYPES = (
    "mpeg",
    "mp3",
    "ogg",
    "opus",
    "aac",
    "flac",
    "x-flac",
    "wav",
    "wave",
    "x-wav",
    "l16",
    "pcm",
    "webm",
    "mp4",
)
IMAGE_TYPES = ("png", "jpeg", "webp", "gif")
_TYPES = {
    "application/json": JSON_TYPE,
    "text/event-stream": STREAM_TYPE,
    "text/plain": TEXT_TYPE,
    "text/vtt": TEXT_TYPE,
    "application/x-subrip": TEXT_TYPE,
    "application/jsonl": LINES_TYPE,
    "application/x-ndjson": LINES_TYPE,
    "application/octet-stream": BINARY_TYPE,
    **{f"audio/{name}": f"audio/{name}".encode() for name in AUDIO_TYPES},
    **{f"image/{name}": f"image/{name}".encode() for name in IMAGE_TYPES},
}
_OWN_OF_FAILURES = (b"retry-after", b"retry-after-ms", b"x-should-retry", b"content-length")


def head(status: int, content_type: bytes, headers: Headers) -> dict[str, Any]:
    """The start of an answer to the caller."""
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), *SAFE_HEADERS, *headers],
    }


def passed_on(reply: Reply) -> Headers:
    """The headers of Foundry's that callers may see; of odd values none."""
    found: Headers = []
    for name, sent in _PASSED_ON:
        value = reply.header(name)
        if value is not None and len(value) <= HEADER_CHARS_MAX and value.isascii() and value.isprintable():
            found.append((sent, value.encode()))
    return found


def safe_type(content_type: str | None) -> bytes | None:
    """The content type to tell the caller for one of Foundry's; None for those that are never passed on.

    Only these exist, so that no browser ever runs what came from upstream.
    """
    if content_type is None:
        return None
    return _TYPES.get(content_type.partition(";")[0].strip().lower())


def attachment(filename: str) -> tuple[bytes, bytes]:
    """The header that makes a file's content a download."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in filename)[:100]
    return b"content-disposition", f'attachment; filename="{plain or "file"}"'.encode()


def answer_headers(
    *,
    call_id: str,
    model: str,
    deployment: str,
    cost_nusd: int | None = None,
    key_spend_nusd: int | None = None,
    budget_left_nusd: int | None = None,
    retries: int = 0,
    overhead_ns: int | None = None,
) -> Headers:
    """What every metered answer says of its call; figures that are None are left out (streams begin before they cost).

    `deployment` is the id of a deployment, `overhead_ns` the time that was spent in the gateway itself.
    """
    identity = call_id.encode()
    headers: Headers = [
        (b"x-tundish-call-id", identity),
        (b"x-litellm-call-id", identity),
        *_named(model, deployment),
        (b"x-tundish-retries", b"%d" % retries),
    ]
    if cost_nusd is not None:
        dollars = dollars_of(cost_nusd)
        headers += (
            (b"x-tundish-cost-nusd", b"%d" % cost_nusd),
            (b"x-tundish-cost", dollars),
            (b"x-litellm-response-cost", dollars),
        )
    if key_spend_nusd is not None:
        dollars = dollars_of(key_spend_nusd)
        headers += ((b"x-tundish-key-spend", dollars), (b"x-litellm-key-spend", dollars))
    if budget_left_nusd is not None:
        headers.append((b"x-tundish-budget-left", dollars_of(budget_left_nusd)))
    if overhead_ns is not None:
        headers.append((b"x-tundish-overhead-ms", b"%.2f" % (overhead_ns / 1e6)))
    return headers


@lru_cache(maxsize=4_096)
def _named(model: str, deployment: str) -> tuple[tuple[bytes, bytes], ...]:
    told = quote(model, safe="/:@ +,;=()!*'~$&").encode()
    identity = deployment.encode()
    return (
        (b"x-tundish-model", told),
        (b"x-tundish-deployment", identity),
        (b"x-litellm-model-id", identity),
    )


def dollars_of(nusd: int) -> bytes:
    """An amount in dollars as a plain decimal: exact, no exponent, no sign but a minus."""
    whole, nano = divmod(abs(nusd), NUSD_PER_USD)
    text = b"%d.%09d" % (whole, nano)
    return (b"-" if nusd < 0 else b"") + text.rstrip(b"0").rstrip(b".")


def failure_headers(failure: Failure, headers: Headers) -> Headers:
    """The headers of an error answer: the wait and `x-should-retry` are the failure's own where it has them."""
    own: Headers = []
    if failure.retry_after is not None:
        own.append((b"retry-after", failure.retry_after.encode("latin-1", "replace")))
        if failure.retry_after_ms:
            own.append((b"retry-after-ms", b"%d" % failure.retry_after_ms))
    if failure.retryable is not None:
        own.append((b"x-should-retry", b"true" if failure.retryable else b"false"))
        return [*(item for item in headers if item[0] not in _OWN_OF_FAILURES), *own]
    taken = {name for name, _ in own} | {b"content-length"}
    return [*(item for item in headers if item[0] not in taken), *own]


async def send_failure(send: Send, dialect: Dialect, failure: Failure, headers: Headers, call_id: str = "") -> None:
    """A whole error answer in the caller's dialect."""
    body = error_body(dialect, failure, call_id)
    out = [*failure_headers(failure, headers), (b"content-length", b"%d" % len(body))]
    await send(head(failure.status, JSON_TYPE, out))
    await send({"type": "http.response.body", "body": body})


async def send_failure_http(send: Send, dialect: Dialect, failure: Failure, headers: Headers) -> None:
    """The refusal of a WebSocket's handshake, as a plain HTTP answer."""
    body = error_body(dialect, failure)
    out = [*failure_headers(failure, headers), (b"content-length", b"%d" % len(body))]
    message = head(failure.status, JSON_TYPE, out)
    await send({**message, "type": "websocket.http.response.start"})
    await send({"type": "websocket.http.response.body", "body": body})


async def send_error(
    send: Send,
    status: int,
    code: str,
    message: str,
    headers: Headers,
    *,
    kind: str | None = "server_error",
    dialect: Dialect = "openai",
    retryable: bool | None = None,
) -> None:
    """An error of our own, in the caller's dialect."""
    await send_failure(send, dialect, own_failure(status, code, message, kind=kind, retryable=retryable), headers)


async def send_json(send: Send, status: int, content: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """A JSON answer."""
    await send_bytes(send, status, JSON_TYPE, msgspec.json.encode(content), headers)


async def send_bytes(
    send: Send, status: int, content_type: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """An answer whose bytes are at hand."""
    await send(head(status, content_type, [*headers, (b"content-length", b"%d" % len(body))]))
    await send({"type": "http.response.body", "body": body})
