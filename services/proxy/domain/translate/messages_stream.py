"""A stream of chat completion chunks as Claude's stream of events.

Claude's blocks come one after the other. So text, thinking and the first tool call are passed on as they come, and
whatever would have to be told at the same time as an open tool call waits until that is whole.
"""

import msgspec

from services.proxy.domain.sse import data_of
from services.proxy.domain.translate.messages_reply import Function, Part, call_id, joined, tool_input
from services.proxy.domain.translate.outcome import CUT_SHORT, claude_error, claude_usage, error_text, stop_reason
from services.proxy.domain.translate.wire import Json, Untranslatable, given, held, named_event, upstream_json

CALLS_MAX = 128
"""More tool calls than any answer has."""
PING = named_event("ping", {"type": "ping"})


class _CallDelta(msgspec.Struct, frozen=True):
    index: int = 0
    id: str | None = None
    function: Function | None = None


class _Delta(msgspec.Struct, frozen=True):
    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _Call:
    """A tool call as far as it has come."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments: list[str] = []


_chunk = msgspec.json.Decoder(_Chunk)


class MessageStream:
    """Feed whole chat completion events in, take events for a Messages caller out; at the upstream's end call `end`.

    `done`: the stream has come to its end; `failed`: it ended with an error. After either nothing more comes out.
    """

    def __init__(self, *, model: str, message_id: str) -> None:
        self._model = model
        self._message_id = message_id
        self._usage = msgspec.Raw()
        self._finish: str | None = None
        self._index = 0
        self._kind: str | None = None
        self._calls: dict[int, _Call] = {}
        self._live: _Call | None = None
        self._late: list[tuple[str, str]] = []
        self._held = 0
        self.begun = False
        self.done = False
        self.failed = False

    def feed(self, frame: bytes) -> bytes:
        """The events to pass on for one upstream event (empty: none). Raises Untranslatable."""
        if self.done or self.failed:
            return b""
        data = data_of(frame)
        if not data:
            return PING if self.begun else b""
        if data == b"[DONE]":
            return self._close()
        with upstream_json():
            return self._take(_chunk.decode(data.decode()))

    def end(self) -> bytes:
        """The last events when the upstream has ended without `[DONE]`: an error if its answer was not whole."""
        if self.done or self.failed:
            return b""
        return self._close() if self._finish else self._fail(error_text(CUT_SHORT))

    def _take(self, chunk: _Chunk) -> bytes:
        if given(chunk.error):
            return self._fail(chunk.error)
        if given(chunk.usage):
            self._usage = chunk.usage
        out = b""
        for choice in chunk.choices or ():
            if choice.index == 0:
                out += self._choice(choice)
        return out

    def _choice(self, choice: _Choice) -> bytes:
        self._finish = choice.finish_reason or self._finish
        delta = choice.delta
        if delta is None:
            return b""
        out = self._begin()
        if delta.reasoning_content:
            out += self._say("thinking", delta.reasoning_content)
        text = joined(delta.content) + (delta.refusal or "")
        if text:
            out += self._say("text", text)
        for call in delta.tool_calls or ():
            out += self._call(call)
        return out

    def _begin(self) -> bytes:
        if self.begun:
            return b""
        self.begun = True
        message: Json = {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return named_event("message_start", {"type": "message_start", "message": message})

    def _say(self, kind: str, text: str) -> bytes:
        """A piece of text or thinking; it waits if a tool call has begun."""
        if self._calls:
            self._held = held(self._held + len(text))
            self._late.append((kind, text))
            return b""
        return self._write(kind, text)

    def _write(self, kind: str, text: str) -> bytes:
        out = b""
        if self._kind != kind:
            empty: Json = {"type": kind, kind: ""}
            out = self._stop() + self._start({**empty, "signature": ""} if kind == "thinking" else empty)
        return out + self._add({"type": f"{kind}_delta", kind: text})

    def _call(self, said: _CallDelta) -> bytes:
        call = self._calls.get(said.index)
        if call is None:
            if len(self._calls) >= CALLS_MAX:
                raise Untranslatable(f"the deployment's stream has more than {CALLS_MAX} tool calls")
            call = self._calls[said.index] = _Call()
        call.id = call.id or said.id
        function = said.function
        if function is None:
            return b""
        call.name = call.name or function.name or ""
        piece = function.arguments or ""
        if call is self._live:
            return self._input(piece)
        self._held = held(self._held + len(piece))
        call.arguments.append(piece)
        if self._live is None and call.name and len(self._calls) == 1:
            self._live = call
            return self._stop() + self._start(self._head(call, 0)) + self._input("".join(call.arguments))
        return b""

    def _head(self, call: _Call, number: int) -> Json:
        return {"type": "tool_use", "id": call_id(call.id, self._message_id, number), "name": call.name, "input": {}}

    def _input(self, piece: str) -> bytes:
        return self._add({"type": "input_json_delta", "partial_json": piece}) if piece else b""

    def _start(self, block: Json) -> bytes:
        self._kind = str(block["type"])
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return named_event("content_block_start", start)

    def _add(self, delta: Json) -> bytes:
        return named_event("content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        if self._kind is None:
            return b""
        stop = named_event("content_block_stop", {"type": "content_block_stop", "index": self._index})
        self._kind = None
        self._index += 1
        return stop

    def _close(self) -> bytes:
        """The end of a whole answer: what has waited, then how it ended and what it used."""
        self.done = True
        out = self._begin() + self._stop()
        for kind, text in self._late:
            out += self._write(kind, text)
        out += self._stop()
        for number, call in enumerate(self._calls.values()):
            if call is self._live:
                continue
            if not call.name:
                return out + self._fail(error_text("The deployment called a tool without naming it."))
            made = bytes(tool_input("".join(call.arguments))).decode()
            out += self._start(self._head(call, number)) + self._input(made) + self._stop()
        delta: Json = {"stop_reason": stop_reason(self._finish, calls=bool(self._calls)), "stop_sequence": None}
        last: Json = {"type": "message_delta", "delta": delta, "usage": claude_usage(self._usage)}
        return out + named_event("message_delta", last) + named_event("message_stop", {"type": "message_stop"})

    def _fail(self, error: msgspec.Raw) -> bytes:
        self.done, self.failed = False, True
        return named_event("error", claude_error(error))
