"""Foundry's errors: read from any of their shapes, judged once, and told to callers in words they can act on.

Whatever the shape, the HTTP status is believed first, then the code, then the type, then the text. A failure that only
the platform team can mend becomes a 502 that says so; nothing in it names hosts, credentials or foreign ids.
"""

import math
import re
from collections.abc import Iterable
from typing import cast

import msgspec

from services.proxy.domain.admission import Refused
from services.proxy.domain.errors.masking import masked, masked_value
from services.proxy.domain.errors.words import FILTERED, Failure, error_body, error_event, kind_of

__all__ = [
    "FILTERED",
    "Failure",
    "caller_failure",
    "error_body",
    "error_event",
    "failure_of_event",
    "failure_of_refusal",
    "kind_of",
    "own_failure",
    "read_failure",
]

BODY_BYTES_MAX = 256 * 1024
"""Larger bodies are no errors that anybody wrote; only their status counts."""
WAIT_S_MAX = 3_600
"""Longer waits (Foundry says a day) mean that this request never fits the deployment's quota."""
KEPT = (
    "innererror",
    "inner_error",
    "content_filter_result",
    "content_filter_results",
    "content_filters",
    "details",
    "status",
)
"""Fields of an error object that callers get beside message, type, param and code."""
_WAIT = re.compile(
    r"(?:retry after|try again in|please wait|retry in)\s+(\d{1,9}(?:\.\d{1,3})?)\s*(ms|milli|s|m|h)?", re.IGNORECASE
)
_UNIT_MS = {"ms": 1, "milli": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}

NO_DEPLOYMENT = ("DeploymentNotFound", "unknown_model", "unavailable_model", "no_model_name", "not_found_error")
PLATFORM = "The platform team must check this deployment in the gateway's configuration."

STATUS_OF_WORD = {
    "too_many_requests": 429,
    "rate_limit_exceeded": 429,
    "ratelimitreached": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
    "model_overloaded": 503,
    "timeout": 504,
    "timeout_error": 504,
    "content_filter": 400,
    "contentfilter": 400,
    "content_policy_violation": 400,
    "responsibleaipolicyviolation": 400,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "invalid_image": 400,
    "request_too_large": 413,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "server_error": 500,
    "api_error": 500,
}
"""What an error inside a stream would have been as a status, by its code or type."""


class _Said(msgspec.Struct):
    """The error as some body says it; `plain`: not as an error object, so that it has no code of its own."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    extra: dict[str, object] = msgspec.field(default_factory=dict[str, object])
    plain: bool = False


def read_failure(
    status: int, body: bytes, *, retry_after: str | None = None, retry_after_ms: str | None = None
) -> Failure:
    """The error of a reply whose status is not 200; `retry_after` and `retry_after_ms` are its headers."""
    said = _read(body) or _Said()
    status = 503 if status == 529 else status if 300 <= status <= 599 else 502
    wait_ms, date = _wait(said.message, retry_after, retry_after_ms)
    return _failure(status, said, wait_ms, date)


def failure_of_event(data: bytes) -> Failure | None:
    """The error that the JSON of a stream's event (or a whole body) carries; None for everything else.

    Foundry's `response.failed` may come without a reason, followed by an `error` event with it: its code is then
    `response_failed`.
    """
    if b'"error"' not in data and b'"response.failed"' not in data:
        return None
    try:
        event = _event.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    content: object = event.error
    if event.type == "response.failed":
        content = (event.response or _Response()).error
        if not content:
            content = {"code": "response_failed", "message": "Foundry could not finish this response."}
    elif event.type == "error" and not content:
        content = {"message": event.message, "code": event.code, "param": event.param}
    if not content:
        return None
    said = _said_of(content)
    wait_ms, _ = _wait(said.message, None, None)
    return _failure(_status_of(said), said, wait_ms, None)


def caller_failure(failure: Failure, *, hide: Iterable[str] = (), stored: bool = False) -> Failure:
    """What the caller is told. `hide` are texts that must not leave, such as the deployment's host and key.

    `stored`: the call was for a stored object that this gateway vouches for, so a 404 is about the object.
    """
    status, code = failure.status, failure.code
    if 300 <= status < 400:
        text = "Foundry answered with a redirect, which is never followed. Check api_base of this deployment."
        return _ours("upstream_redirect", text)
    if status in (401, 403):
        if code == "invalid_model_endpoint_authentication":
            return _ours("upstream_auth_failed", "Foundry failed to reach its own backend. Try again.", retryable=True)
        if "temporarily blocked" in failure.message:
            return _ours("upstream_blocked", f"Foundry has blocked the resource of this deployment. {PLATFORM}")
        return _ours("upstream_auth_failed", f"Foundry refused the gateway's own credential. {PLATFORM}")
    if status == 404 and stored:
        return Failure(
            status=404, kind="invalid_request_error", code="not_found", message="There is no such object.",
            retryable=False,
        )  # fmt: skip
    if (status in (400, 404) and code in NO_DEPLOYMENT[:-1]) or (status == 404 and _no_deployment(failure)):
        return _ours("upstream_deployment_not_found", f"Foundry does not know this deployment. {PLATFORM}")
    hide = tuple(hide)
    return msgspec.structs.replace(
        failure,
        message=masked(failure.message, hide),
        code=None if failure.code is None else masked(failure.code, hide),
        param=None if failure.param is None else masked(failure.param, hide),
        extra={key: masked_value(value, hide) for key, value in failure.extra.items()},
    )


def failure_of_refusal(refused: Refused) -> Failure:
    """An answer of our own as a failure; its headers are not part of it."""
    return Failure(
        status=refused.status,
        kind=refused.kind,
        code=refused.code,
        message=refused.message,
        param=refused.param,
        extra=refused.extra or {},
    )


def own_failure(
    status: int, code: str, message: str, *, kind: str | None = None, retryable: bool | None = None
) -> Failure:
    """An error of the gateway's own."""
    return Failure(status=status, kind=kind or kind_of(status), code=code, message=message, retryable=retryable)


def _ours(code: str, text: str, *, retryable: bool = False) -> Failure:
    return Failure(status=502, kind="server_error", code=code, message=text, retryable=retryable)


def _no_deployment(failure: Failure) -> bool:
    if failure.code in (*NO_DEPLOYMENT, "404"):
        return True
    return failure.code in (None, "upstream_error") and failure.param is None


def _failure(status: int, said: _Said, wait_ms: int | None, date: str | None) -> Failure:
    code, kind = said.code, said.type
    if kind is None or kind in STATUS_OF_WORD or kind in ("billing_error", "error", "Error"):
        if code is None and kind not in (None, "error", "Error", kind_of(status)):
            code = kind  # Anthropic's types say more than the status does
        kind = kind_of(status)
    retryable = status in (408, 409, 429) or status >= 500
    message = said.message
    if status == 429 and wait_ms is not None and wait_ms > WAIT_S_MAX * 1_000:
        code, retryable, wait_ms = "request_exceeds_quota", False, None
        message = "This request alone is larger than the quota of its deployment, so waiting does not help. " + message
    elif status not in (408, 409, 429) and status < 500:
        wait_ms = date = None
    if wait_ms is not None:
        date = str(math.ceil(wait_ms / 1_000))
    return Failure(
        status=status,
        kind=kind,
        code=code or (None if message and not said.plain else "upstream_error"),
        message=message or f"Foundry answered with HTTP {status}.",
        param=said.param,
        retry_after=date,
        retry_after_ms=wait_ms,
        extra=said.extra,
        retryable=retryable,
    )


class _Response(msgspec.Struct):
    error: object = None


class _Event(msgspec.Struct):
    type: object = None
    error: object = None
    response: _Response | None = None
    message: object = None
    code: object = None
    param: object = None


_event = msgspec.json.Decoder(_Event)


def _read(body: bytes) -> _Said | None:
    """The error that a body carries, whatever its shape; None when it says nothing."""
    if not body or len(body) > BODY_BYTES_MAX:
        return None
    try:
        content: object = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if isinstance(content, list) and content:
        content = cast(list[object], content)[0]
    if not isinstance(content, dict):
        return None
    table = cast(dict[str, object], content)
    inner = table.get("error")
    if inner:
        return _said_of(inner)
    if isinstance(table.get("message"), str):
        said = _said_of({key: value for key, value in table.items() if key not in ("status", "type")})
        said.plain = True
        return said
    for name in ("status", "detail"):
        text = table.get(name)
        if isinstance(text, str) and text:
            return _Said(message=text, plain=True)
    return None


def _said_of(content: object) -> _Said:
    if isinstance(content, str):
        return _Said(message=content, plain=True)
    if not isinstance(content, dict):
        return _Said()
    table = cast(dict[str, object], content)
    return _Said(
        message=_text(table.get("message")) or "",
        code=_text(table.get("code")),
        type=_text(table.get("type")),
        param=_text(table.get("param")),
        extra={key: table[key] for key in KEPT if table.get(key) is not None},
    )


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return str(value)
    return None


def _wait(message: str, retry_after: str | None, retry_after_ms: str | None) -> tuple[int | None, str | None]:
    """The longest wait that headers and text ask for, in milliseconds; and an HTTP date when only that is known."""
    waits: list[int] = []
    for value, unit_ms in ((retry_after, 1_000), (retry_after_ms, 1)):
        number = _number(value)
        if number is not None:
            waits.append(math.ceil(number * unit_ms))
    found = _WAIT.search(message)
    if found is not None:
        waits.append(math.ceil(float(found[1]) * _UNIT_MS[(found[2] or "s").lower()]))
    positive = [wait for wait in waits if wait > 0]
    if positive:
        return max(positive), None
    date = retry_after if retry_after and len(retry_after) <= 40 and retry_after.endswith("GMT") else None
    return (0 if waits else None), date


def _number(value: str | None) -> float | None:
    if not value or len(value) > 20:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number <= 1e12 else None


def _status_of(said: _Said) -> int:
    for word in (said.code, said.type):
        if word is None:
            continue
        if word.isdecimal() and word.isascii() and len(word) == 3 and 400 <= int(word) <= 599:
            return 503 if word == "529" else int(word)
        status = STATUS_OF_WORD.get(word.lower())
        if status is not None and not (status == 500 and "overloaded" in said.message):
            return status
    return 503 if "overloaded" in said.message.lower() else 500
