"""What callers send and what they are told, in OpenAI's words: request fields, bodies, errors."""

import msgspec

from services.proxy.domain.paths import Endpoint

MODEL_NAME_MAX = 200
TOKENS_MAX = 10_000_000
CHOICES_MAX = 128


class BadRequest(ValueError):
    """A body that cannot be understood: `code`, `param` and a text that says what to send."""

    def __init__(self, message: str, *, code: str = "invalid_request_body", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class StreamOptions(msgspec.Struct):
    """The part of `stream_options` that we read."""

    include_usage: bool | None = None


class _Asked(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What matters of a request body; the rest passes unread. `output_cap` is None without a cap."""

    model: str
    stream: bool
    include_usage: bool
    output_cap: int | None
    choices: int


_asked = msgspec.json.Decoder(_Asked)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


def read_request(body: bytes, endpoint: Endpoint, path_model: str | None) -> Asked:
    """The fields of a request body that decide its way. Raises BadRequest."""
    try:
        said = _asked.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request body has a field of the wrong type: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"The request body is not valid JSON: {error}. Send a JSON object.", code="invalid_json"
        ) from error
    model = path_model or said.model
    if not model:
        raise BadRequest("'model' is missing: name the model to call.", code="missing_model", param="model")
    if len(model) > MODEL_NAME_MAX:
        raise BadRequest("'model' is longer than any model name.", param="model")
    caps = [cap for cap in (said.max_completion_tokens, said.max_tokens) if cap is not None]
    if any(not 0 <= cap <= TOKENS_MAX for cap in caps):
        raise BadRequest(f"'max_tokens' must be between 0 and {TOKENS_MAX}.", param="max_tokens")
    choices = 1 if said.n is None else said.n
    if not 1 <= choices <= CHOICES_MAX:
        raise BadRequest(f"'n' must be between 1 and {CHOICES_MAX}.", param="n")
    chat = endpoint is Endpoint.CHAT
    return Asked(
        model=model,
        stream=chat and bool(said.stream),
        include_usage=said.stream_options is not None and bool(said.stream_options.include_usage),
        output_cap=(max(caps) if caps else None) if chat else 0,
        choices=choices,
    )


def outgoing_body(body: bytes, *, model: str | None, inject_usage: bool) -> bytes:
    """The body for Foundry: byte for byte the caller's unless the model's name or `stream_options` must change.

    All other fields keep their bytes. Raises BadRequest for what only a closer look shows to be no JSON.
    """
    if model is None and not inject_usage:
        return body
    try:
        return _changed(body, model, inject_usage)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(
            f"The request body is not valid JSON: {error}. Send a JSON object.", code="invalid_json"
        ) from error


def _changed(body: bytes, model: str | None, inject_usage: bool) -> bytes:
    fields = _fields.decode(body)
    if model is not None:
        fields["model"] = msgspec.Raw(_encode(model))
    if inject_usage:
        options = _fields.decode(bytes(fields["stream_options"])) if _is_object(fields) else {}
        options["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(_encode(options))
    return _encode(fields)


def _is_object(fields: dict[str, msgspec.Raw]) -> bool:
    return bytes(fields.get("stream_options", msgspec.Raw(b""))).lstrip().startswith(b"{")


def error_body(
    message: str,
    *,
    kind: str,
    code: str | None,
    param: str | None = None,
    extra: dict[str, object] | None = None,
) -> bytes:
    """An error object as OpenAI's clients read it; `extra` adds fields of our own inside `error`."""
    error: dict[str, object] = {"message": message, "type": kind, "param": param, "code": code}
    return _encode({"error": {**error, **(extra or {})}})


def error_event(message: str, *, kind: str, code: str) -> bytes:
    """An error inside a stream that has begun."""
    return b"data: " + error_body(message, kind=kind, code=code) + b"\n\n"
