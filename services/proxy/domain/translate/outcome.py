"""How an answer ended, what it used, and what went wrong in mid-stream: the two dialects' words side by side."""

import msgspec

from services.proxy.domain.meters.chat import usage_of
from services.proxy.domain.translate.wire import Json, encode

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""`stop_reason` → `finish_reason`; a reason that is new to us ends as `stop`."""
STOP = {"length": "max_tokens", "content_filter": "refusal"}
"""`finish_reason` → `stop_reason`; all others are `tool_use` if tools were called and `end_turn` if not."""
TO_CHAT_ERROR = {
    "overloaded_error": ("server_error", "overloaded"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "timeout_error": ("server_error", "timeout"),
    "api_error": ("server_error", "server_error"),
    "invalid_request_error": ("invalid_request_error", "invalid_request"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "authentication_error": ("server_error", "upstream_authentication"),
    "permission_error": ("server_error", "upstream_permission"),
    "billing_error": ("server_error", "upstream_billing"),
    "not_found_error": ("invalid_request_error", "not_found"),
}
"""`error.type` of Claude → `error.type` and `error.code` of a chat completion."""
TO_CLAUDE_ERROR = {
    "429": "rate_limit_error",
    "rate_limit_exceeded": "rate_limit_error",
    "rate_limit_error": "rate_limit_error",
    "ratelimitreached": "rate_limit_error",
    "too_many_requests": "rate_limit_error",
    "tokens": "rate_limit_error",
    "requests": "rate_limit_error",
    "503": "overloaded_error",
    "overloaded": "overloaded_error",
    "overloaded_error": "overloaded_error",
    "timeout": "timeout_error",
    "content_filter": "invalid_request_error",
    "context_length_exceeded": "invalid_request_error",
    "invalid_request_error": "invalid_request_error",
}
"""`error.code`, else `error.type`, of a chat completion → `error.type` of Claude; all others are `api_error`."""
OVERLOADED = "currently overloaded"
"""In the text of an overload, which has no code of its own."""
CUT_SHORT = "The deployment's stream ended before its answer did."
NO_TEXT = "The deployment reported an error without a text."


class ClaudeUsage(msgspec.Struct, frozen=True):
    """Token counts of a message; None: not said."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: "ClaudeOutput | None" = None

    def updated(self, later: "ClaudeUsage") -> "ClaudeUsage":
        """These counts with those that a later event says: its counts replace, they do not add."""
        said = {name: value for name, value in msgspec.structs.asdict(later).items() if value is not None}
        return msgspec.structs.replace(self, **said)


class ClaudeOutput(msgspec.Struct, frozen=True):
    """What of the output was thinking."""

    thinking_tokens: int = 0


def chat_usage(usage: ClaudeUsage | None) -> Json | None:
    """The `usage` of a chat completion; None, and not zero, if the message did not say."""
    if usage is None or usage.output_tokens is None:
        return None
    cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    prompt = (usage.input_tokens or 0) + cached + written
    thought = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def claude_usage(raw: msgspec.Raw) -> Json:
    """The `usage` of a message; a message must have one, so without counts it is zero."""
    usage = usage_of(bytes(raw))
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": usage.input + usage.image_input + usage.audio_input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached + usage.audio_cached,
        "output_tokens": usage.completion,
    }


def finish_reason(stop_reason: str | None, *, calls: bool) -> str:
    """Why a chat completion ended; `calls`: it calls tools of the caller's."""
    finish = FINISH.get(stop_reason or "", "stop")
    return "stop" if finish == "tool_calls" and not calls else finish


def stop_reason(finish: str | None, *, calls: bool) -> str:
    """Why a message ended. Some deployments say `stop` after a tool call."""
    return STOP.get(finish or "") or ("tool_use" if calls else "end_turn")


class _Error(msgspec.Struct, frozen=True):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


def chat_error(raw: msgspec.Raw) -> Json:
    """Claude's error object as a chat completion's, for mid-stream."""
    error = _read(raw)
    kind, code = TO_CHAT_ERROR.get(error.type or "", ("server_error", str(error.code or "server_error")))
    return {"error": {"message": error.message or NO_TEXT, "type": kind, "param": None, "code": code}}


def claude_error(raw: msgspec.Raw) -> Json:
    """A chat completion's error object as Claude's, for mid-stream."""
    error = _read(raw)
    words = (str(error.code or "").lower(), (error.type or "").lower())
    kind = next((TO_CLAUDE_ERROR[word] for word in words if word in TO_CLAUDE_ERROR), "api_error")
    if kind == "api_error" and error.message and OVERLOADED in error.message:
        kind = "overloaded_error"
    return {"type": "error", "error": {"type": kind, "message": error.message or NO_TEXT}}


def _read(raw: msgspec.Raw) -> _Error:
    try:
        return msgspec.json.decode(raw, type=_Error)
    except msgspec.ValidationError:
        pass
    try:
        return _Error(message=msgspec.json.decode(raw, type=str))
    except msgspec.ValidationError:
        return _Error()


def error_text(message: str) -> msgspec.Raw:
    """An error object of our own, in the form that both readers take."""
    return msgspec.Raw(encode({"message": message, "type": "server_error"}))
