"""Errors in the caller's own dialect: OpenAI's error object, or Anthropic's; whole, or inside a stream."""

import msgspec

from services.proxy.domain.paths import Dialect, Endpoint
from shared.events import Outcome

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
FILTERED = ("content_filter", "contentFilter", "content_policy_violation", "ResponsibleAIPolicyViolation")
_encode = msgspec.json.encode


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error, on its way to a caller: HTTP status, OpenAI's `type` (`kind`), code, text and parameter.

    `retry_after` is the wait in whole seconds (or an HTTP date when nothing better is known), `retry_after_ms` the
    exact one. `extra` are further fields of the error object. `retryable` says whether sending the same request again
    can help; None leaves it to the caller's client.
    """

    status: int
    kind: str
    code: str | None
    message: str
    param: str | None = None
    retry_after: str | None = None
    retry_after_ms: int | None = None
    extra: dict[str, object] = msgspec.field(default_factory=dict[str, object])
    retryable: bool | None = None

    @property
    def filtered(self) -> bool:
        """Whether the content filter said no, so that Foundry has evaluated (and charges) the prompt."""
        return self.status == 400 and self.code in FILTERED

    @property
    def outcome(self) -> Outcome:
        """How usage events name the end of such a call."""
        if self.filtered:
            return "filtered"
        return "timeout" if self.status in (408, 504) else "upstream_error"


def kind_of(status: int) -> str:
    """OpenAI's `type` for a status."""
    if status == 401:
        return "authentication_error"
    if status == 403:
        return "permission_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def error_body(dialect: Dialect, failure: Failure, call_id: str = "") -> bytes:
    """An error as the caller's client reads it.

    Fields of ours (`budget`, content-filter details, …) stand inside the error object in both dialects, and
    Anthropic's has OpenAI's `code` beside its `type`, since only that names the reason.
    """
    if dialect == "anthropic":
        return _encode(_anthropic(failure, call_id))
    return _encode({"error": _openai(failure)})


def error_event(
    dialect: Dialect,
    failure: Failure,
    call_id: str = "",
    *,
    endpoint: Endpoint = Endpoint.CHAT,
    sequence: int = 0,
) -> bytes:
    """An error inside a stream that has begun: the last event of it.

    A stream of responses ends with an `error` event, told both ways that clients know: fields beside `type`, and an
    error object. `sequence` is the number of that event.
    """
    if dialect == "anthropic":
        return b"event: error\ndata: " + _encode(_anthropic(failure, call_id)) + b"\n\n"
    error = _openai(failure)
    if endpoint is Endpoint.RESPONSES or endpoint is Endpoint.RESPONSE:
        event = {
            "type": "error",
            "sequence_number": sequence,
            "code": failure.code,
            "message": failure.message,
            "param": failure.param,
            "error": error,
        }
        return b"event: error\ndata: " + _encode(event) + b"\n\n"
    return b"data: " + _encode({"error": error}) + b"\n\n"


def _openai(failure: Failure) -> dict[str, object]:
    error: dict[str, object] = {
        "message": failure.message,
        "type": failure.kind,
        "param": failure.param,
        "code": failure.code,
    }
    return {**error, **failure.extra}


def _anthropic(failure: Failure, call_id: str) -> dict[str, object]:
    status = failure.status
    kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error: dict[str, object] = {"type": kind, "message": failure.message}
    if failure.code is not None:
        error["code"] = failure.code
    if failure.param is not None:
        error["param"] = failure.param
    told: dict[str, object] = {"type": "error", "error": {**error, **failure.extra}}
    if call_id:
        told["request_id"] = call_id
    return told
