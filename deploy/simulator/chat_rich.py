"""Chat answers that are more than text: tool calls, structured output, refusals, filtered answers, speech, and
streams whose filter runs apart."""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from deploy.simulator import chat_bytes, schema
from deploy.simulator.chat_bytes import ChatShape, answer_text
from deploy.simulator.usage import CHARS_PER_TOKEN, Steering

REFUSAL = "I'm sorry, but I can't help with that."
SAFE: dict[str, Any] = {"filtered": False, "severity": "safe"}
FOUR = {"hate": SAFE, "self_harm": SAFE, "sexual": SAFE, "violence": SAFE}
VIOLENT = {**FOUR, "violence": {"filtered": True, "severity": "medium"}}
SPEECH_LIFETIME_S = 3_600
SPEECH_BYTES_PER_TOKEN = 48
ARGUMENT_PIECE = 12
PIECE_WORDS = 4


class Function(msgspec.Struct):
    """A function that may be called."""

    name: str = ""
    parameters: msgspec.Raw = msgspec.Raw(b"")


class Tool(msgspec.Struct):
    """One tool of a chat request. Only functions are called here."""

    type: str = "function"
    function: Function | None = None

    @property
    def size(self) -> bytes:
        """Bytes whose number says how much prompt the tool is."""
        if self.function is None:
            return b""
        return self.function.name.encode() + bytes(self.function.parameters)


class Shape(msgspec.Struct):
    """A named JSON schema."""

    name: str = ""
    schema: msgspec.Raw = msgspec.Raw(b"")


class ResponseFormat(msgspec.Struct):
    """`text`, `json_object`, or `json_schema` with its schema."""

    type: str = "text"
    json_schema: Shape | None = None


class Wish(msgspec.Struct, frozen=True):
    """What of the unusual is wanted of an answer: so many tool calls, or only of the named one; JSON."""

    calls: int = 0
    named: str | None = None
    json: bool = False
    schema: msgspec.Raw = msgspec.Raw(b"")


class Choice(msgspec.Struct):
    """A `tool_choice` that names its function."""

    type: str = ""
    function: Function | None = None
    name: str | None = None


class Rich(msgspec.Struct, kw_only=True):
    """All that decides an unusual chat answer. `apart`: the filter's results come in events of their own."""

    shape: ChatShape
    tools: list[Tool]
    wish: Wish
    refused: bool
    filtered: bool
    speaks: bool
    apart: bool


def wanted(
    tools: list[Tool] | None, tool_choice: msgspec.Raw, form: ResponseFormat | None, steer: Steering
) -> Wish | None:
    """What is unusual about an answer; None for plain text."""
    asks_json = form is not None and form.type in ("json_object", "json_schema")
    calls, named = steer.tool if tools else 0, None
    if tools and tool_choice and not calls:
        calls, named = chosen(tool_choice)
    if not (calls or asks_json or steer.json or steer.refuse or steer.filter):
        return None
    inner = form.json_schema if form is not None else None
    return Wish(
        calls=calls,
        named=named,
        json=asks_json or bool(steer.json),
        schema=msgspec.Raw(b"") if inner is None else inner.schema,
    )


def chosen(raw: msgspec.Raw) -> tuple[int, str | None]:
    """How many calls a `tool_choice` forces, and of which function."""
    text = bytes(raw)
    if not text.startswith(b"{"):
        return (1 if text == b'"required"' else 0), None
    try:
        choice = msgspec.json.decode(raw, type=Choice)
    except msgspec.MsgspecError:
        return 0, None
    return 1, choice.name or (None if choice.function is None else choice.function.name)


def call_names(tools: list[Tool], calls: int, named: str | None) -> list[tuple[str, str]]:
    """Names and arguments (JSON text) of the calls: the named function, else the functions in turn."""
    functions = [tool.function for tool in tools if tool.function is not None]
    if named is not None:
        functions = [one for one in functions if one.name == named] or functions
    if not functions:
        return []
    turns = [functions[i % len(functions)] for i in range(calls)]
    return [(one.name, msgspec.json.encode(schema.example(one.parameters)).decode()) for one in turns]


def text_of(told: Rich) -> str:
    """The visible text of an answer."""
    if not told.wish.json:
        text = answer_text(told.shape.text_tokens)
        return text[: len(text) // 2] if told.filtered else text
    text = msgspec.json.encode(schema.example(told.wish.schema) or {"answer": "launder"}).decode()
    return text[: told.shape.text_tokens * CHARS_PER_TOKEN] if told.shape.finish == b"length" else text


def speech(tokens: int) -> str:
    """A sound of so many tokens in base64: silence."""
    return base64.b64encode(b"\0" * (tokens * SPEECH_BYTES_PER_TOKEN)).decode()


def _finish(told: Rich, called: bool) -> str:
    if told.filtered:
        return "content_filter"
    return "tool_calls" if called else told.shape.finish.decode()


def _calls(told: Rich, index: int) -> list[dict[str, Any]]:
    names = call_names(told.tools, told.wish.calls, told.wish.named)
    serial = told.shape.id.removeprefix("chatcmpl-")
    return [
        {
            "function": {"arguments": arguments, "name": name},
            "id": f"call_{serial}{index:x}{number:02x}",
            "type": "function",
        }
        for number, (name, arguments) in enumerate(names)
    ]


def plain(told: Rich) -> bytes:
    """The body of a plain answer."""
    choices = [msgspec.json.encode(_choice(told, index)) for index in range(told.shape.choices)]
    return chat_bytes.whole(told.shape, b",".join(choices))


def _choice(told: Rich, index: int) -> dict[str, Any]:
    calls = _calls(told, index)
    message: dict[str, Any] = {"annotations": [], "content": None, "refusal": None, "role": "assistant"}
    if told.refused:
        message["refusal"] = REFUSAL
    elif calls:
        message["tool_calls"] = calls
    elif told.speaks:
        message["audio"] = {
            "data": speech(told.shape.usage.audio_completion // told.shape.choices),
            "expires_at": told.shape.created + SPEECH_LIFETIME_S,
            "id": f"audio_{told.shape.id.removeprefix('chatcmpl-')}{index:x}",
            "transcript": text_of(told),
        }
    else:
        message["content"] = text_of(told)
    return {
        "content_filter_results": VIOLENT if told.filtered else FOUR,
        "finish_reason": _finish(told, bool(calls)),
        "index": index,
        "logprobs": None,
        "message": message,
    }


def stream(told: Rich) -> Iterator[bytes]:
    """The events of a streamed answer."""
    shape = told.shape
    yield chat_bytes.FIRST_CHUNK
    for index in range(told.shape.choices):
        role = {"content": None if told.wish.calls else "", "refusal": None, "role": "assistant"}
        yield chat_bytes.chunk(shape, _delta(role, index, None, {}), 3)
    for index in range(told.shape.choices):
        results = {} if told.apart else FOUR
        length = 0
        for number, delta in enumerate(_deltas(told, index)):
            yield chat_bytes.chunk(shape, _delta(delta, index, None, results), number)
            length += len(delta.get("content") or "")
        if told.apart and length:
            yield _annotation(index, length, told.filtered)
        called = bool(told.wish.calls and told.tools and not told.refused)
        last = VIOLENT if told.filtered else {}
        yield chat_bytes.chunk(shape, _delta({}, index, _finish(told, called), last), 0)
    yield from chat_bytes.ending(told.shape)


def _delta(delta: dict[str, Any], index: int, finish: str | None, results: dict[str, Any]) -> bytes:
    choice = {
        "content_filter_results": results,
        "delta": delta,
        "finish_reason": finish,
        "index": index,
        "logprobs": None,
    }
    return msgspec.json.encode(choice)


def _annotation(index: int, length: int, filtered: bool) -> bytes:
    """What a filter that runs apart found: no `delta`, empty ids."""
    offsets = {"check_offset": 0, "start_offset": 0, "end_offset": length}
    choice = {
        "index": index,
        "finish_reason": None,
        "content_filter_results": VIOLENT if filtered else FOUR,
        "content_filter_offsets": offsets,
    }
    found = {"id": "", "object": "", "created": 0, "model": "", "choices": [choice]}
    return b"data: " + msgspec.json.encode(found) + b"\n\n"


def _deltas(told: Rich, index: int) -> Iterator[dict[str, Any]]:
    if told.refused:
        for piece in _words(REFUSAL):
            yield {"refusal": piece}
        return
    calls = _calls(told, index)
    for number, call in enumerate(calls):
        arguments = call["function"]["arguments"]
        first = {**call, "function": {**call["function"], "arguments": ""}, "index": number}
        yield {"tool_calls": [first]}
        for at in range(0, len(arguments), ARGUMENT_PIECE):
            part = {"arguments": arguments[at : at + ARGUMENT_PIECE]}
            yield {"tool_calls": [{"function": part, "index": number}]}
    if calls:
        return
    if told.speaks:
        yield from _spoken(told, index)
        return
    for piece in _words(text_of(told)):
        yield {"content": piece}


def _spoken(told: Rich, index: int) -> Iterator[dict[str, Any]]:
    spoken = f"audio_{told.shape.id.removeprefix('chatcmpl-')}{index:x}"
    yield {"audio": {"id": spoken, "transcript": ""}}
    for piece in _words(text_of(told)):
        yield {"audio": {"transcript": piece}}
    yield {"audio": {"data": speech(told.shape.usage.audio_completion // told.shape.choices)}}
    yield {"audio": {"expires_at": told.shape.created + SPEECH_LIFETIME_S}}


def _words(text: str) -> Iterator[str]:
    """A text in pieces of a few words."""
    words = text.split(" ")
    for at in range(0, len(words), PIECE_WORDS):
        yield (" " if at else "") + " ".join(words[at : at + PIECE_WORDS])
