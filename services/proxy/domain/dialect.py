"""What callers send and what they are told, in OpenAI's words: request fields, bodies, errors."""

import msgspec

from services.proxy.domain.paths import Endpoint

MODEL_NAME_MAX = 200
TOKENS_MAX = 10_000_000
CHOICES_MAX = 128


Fields = dict[str, msgspec.Raw]
"""The fields of a body, each in its own bytes."""


class BadRequest(ValueError):
    """A body that cannot be understood: `code`, `param` and a text that says what to send."""

    def __init__(self, message: str, *, code: str = "invalid_request_body", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class StreamOptions(msgspec.Struct):
    """The part of `stream_options` that we read."""

    include_usage: bool | None = None


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Embeddings(msgspec.Struct):
    model: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class _Chat(msgspec.Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What matters of a request body; the rest passes unread.

    `output_cap` is the larger of the caller's caps on one choice, None without a cap. `parts` are the contents that
    are lists of parts and no plain text; `input` is what embeddings are made of.
    """

    model: str
    chat: bool
    stream: bool = False
    include_usage: bool = False
    output_cap: int | None = None
    choices: int = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    parts: tuple[msgspec.Raw, ...] = ()
    input: msgspec.Raw = msgspec.Raw()


_chat = msgspec.json.Decoder(_Chat)
_embeddings = msgspec.json.Decoder(_Embeddings)
_LIST = ord("[")
_fields: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


def read_request(body: bytes, endpoint: Endpoint, path_model: str | None) -> Asked:
    """The fields of a request body that decide its way and its price. Raises BadRequest."""
    try:
        if endpoint is Endpoint.CHAT:
            return _read_chat(_chat.decode(body), path_model)
        said = _embeddings.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request body has a field of the wrong type: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"The request body is not valid JSON: {error}. Send a JSON object.", code="invalid_json"
        ) from error
    return Asked(model=_model(path_model or said.model), chat=False, output_cap=0, input=said.input)


def _read_chat(said: _Chat, path_model: str | None) -> Asked:
    model = _model(path_model or said.model)
    cap = _output_cap(said.max_tokens, said.max_completion_tokens)
    choices = 1 if said.n is None else said.n
    if not 1 <= choices <= CHOICES_MAX:
        raise BadRequest(f"'n' must be between 1 and {CHOICES_MAX}.", param="n")
    options = said.stream_options
    parts = [message.content for message in said.messages or () if memoryview(message.content)[0] == _LIST]
    return Asked(
        model=model,
        chat=True,
        stream=bool(said.stream),
        include_usage=options is not None and bool(options.include_usage),
        output_cap=cap,
        choices=choices,
        max_tokens=said.max_tokens,
        max_completion_tokens=said.max_completion_tokens,
        parts=tuple(parts),
    )


def _model(model: str | None) -> str:
    if not model:
        raise BadRequest("'model' is missing: name the model to call.", code="missing_model", param="model")
    if len(model) > MODEL_NAME_MAX:
        raise BadRequest("'model' is longer than any model name.", param="model")
    return model


def _output_cap(one: int | None, other: int | None) -> int | None:
    cap = one if other is None else other if one is None else max(one, other)
    if cap is not None and not (cap <= TOKENS_MAX and (one is None or one >= 0) and (other is None or other >= 0)):
        raise BadRequest(f"'max_tokens' must be between 0 and {TOKENS_MAX}.", param="max_tokens")
    return cap


def outgoing_body(body: bytes, *, model: str | None, inject_usage: bool) -> bytes:
    """The body for Foundry: byte for byte the caller's unless the model's name or `stream_options` must change.

    All other fields keep their bytes. Raises BadRequest for what only a closer look shows to be no JSON.
    """
    if model is None and not inject_usage:
        return body
    return written(outgoing_fields(body, model=model, inject_usage=inject_usage))


def outgoing_fields(body: bytes, *, model: str | None, inject_usage: bool) -> Fields:
    """The fields of the body for Foundry, to be looked at and written. Raises BadRequest for what is no JSON.

    A field that stood twice stands once, so that nobody reads another one than we do.
    """
    try:
        fields = _fields.decode(body)
        if model is not None:
            fields["model"] = msgspec.Raw(_encode(model))
        if inject_usage:
            options = _fields.decode(bytes(fields["stream_options"])) if _is_object(fields) else {}
            options["include_usage"] = msgspec.Raw(b"true")
            fields["stream_options"] = msgspec.Raw(_encode(options))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(
            f"The request body is not valid JSON: {error}. Send a JSON object.", code="invalid_json"
        ) from error
    return fields


def written(fields: Fields, cap_field: str | None = None, cap: int = 0) -> bytes:
    """The body of these fields, with an output cap of ours if `cap_field` names one."""
    if cap_field is not None:
        fields = {**fields, cap_field: msgspec.Raw(b"%d" % cap)}
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
