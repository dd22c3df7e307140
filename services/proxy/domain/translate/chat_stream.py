"""Claude's stream as a stream of chat completion chunks."""

import msgspec

from services.proxy.domain.sse import data_of
from services.proxy.domain.translate.chat_reply import Block, StopDetails, completion_id, input_text, thinking_block
from services.proxy.domain.translate.chat_tools import JSON_TOOL
from services.proxy.domain.translate.outcome import (
    CUT_SHORT,
    ClaudeUsage,
    chat_error,
    chat_usage,
    error_text,
    finish_reason,
)
from services.proxy.domain.translate.wire import (
    DONE,
    KEEP_ALIVE,
    Json,
    Untranslatable,
    data_event,
    given,
    held,
    is_object,
    upstream_json,
)


class _Start(msgspec.Struct, frozen=True):
    id: str = ""
    usage: ClaudeUsage | None = None


class _Delta(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    index: int = -1
    message: _Start | None = None
    content_block: Block | None = None
    delta: _Delta | None = None
    usage: ClaudeUsage | None = None
    error: msgspec.Raw = msgspec.Raw()


class _Open:
    """A content block that has begun and not ended; `call`: its number among the caller's tool calls; `answers`: its
    input is the JSON answer."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.call: int | None = None
        self.answers = False
        self.said_input = False
        self.thoughts: list[str] = [block.thinking]
        self.signature = block.signature


_event = msgspec.json.Decoder(_Event)


class ChatStream:
    """Feed whole events of Claude's in, take events for a chat completions caller out.

    `done`: the stream has come to its end; `failed`: it ended with an error. After either nothing more comes out.
    `wants_json`: Claude was given the tool for JSON answers. Text is held back then until the end, since it is the
    content only if that tool was not called.
    """

    def __init__(self, *, model: str, include_usage: bool, created: int = 0, wants_json: bool = False) -> None:
        self._model = model
        self._include_usage = include_usage
        self._wants_json = wants_json
        self._texts: list[str] = []
        self._answered = False
        self._created = created
        self._id = ""
        self._usage = ClaudeUsage()
        self._stop_reason: str | None = None
        self._open: dict[int, _Open] = {}
        self._calls = 0
        self._thoughts = 0
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
            return self._keep_alive()
        with upstream_json():
            return self._take(_event.decode(data.decode()))

    def end(self) -> bytes:
        """The last event when the upstream has ended: an error if the message was not whole."""
        if self.done or self.failed:
            return b""
        self.failed = True
        return data_event(chat_error(error_text(CUT_SHORT)))

    def _take(self, event: _Event) -> bytes:
        match event:
            case _Event(type="message_start", message=_Start() as start):
                return self._start(start)
            case _Event(type="content_block_start", content_block=Block() as block):
                return self._begin(event.index, block)
            case _Event(type="content_block_delta", delta=_Delta() as delta):
                return self._add(event.index, delta)
            case _Event(type="content_block_stop"):
                return self._end(event.index)
            case _Event(type="message_delta"):
                return self._note(event)
            case _Event(type="message_stop"):
                return self._stop()
            case _Event(error=error) if event.type == "error" or given(error):
                self.failed = True
                return data_event(chat_error(error))
            case _Event(type="ping"):
                return self._keep_alive()
            case _:
                return b""

    def _keep_alive(self) -> bytes:
        """A sign of life, once the caller has seen the beginning."""
        return KEEP_ALIVE if self.begun else b""

    def _start(self, start: _Start) -> bytes:
        if self.begun:
            raise Untranslatable("the deployment's stream began twice")
        self.begun = True
        self._id = completion_id(start.id)
        self._usage = start.usage or self._usage
        return self._chunk({"role": "assistant", "content": ""})

    def _begin(self, index: int, block: Block) -> bytes:
        if not self.begun or index in self._open:
            raise Untranslatable("the deployment's stream has a content block out of order")
        opened = self._open[index] = _Open(block)
        match block.type:
            case "text" if block.text:
                return self._text(block.text)
            case "thinking":
                return self._chunk({"reasoning_content": block.thinking}) if block.thinking else b""
            case "tool_use" if block.name == JSON_TOOL:
                opened.answers = not self._answered
                self._answered = True
                self._texts.clear()
                return b""
            case "tool_use":
                opened.call = self._calls
                self._calls += 1
                return self._call(opened.call, {"name": block.name, "arguments": ""}, block.id)
            case _:
                return b""

    def _add(self, index: int, delta: _Delta) -> bytes:
        opened = self._open.get(index)
        if opened is None:
            raise Untranslatable("the deployment's stream has a part of a content block that has not begun")
        match delta.type:
            case "text_delta" if delta.text:
                return self._text(delta.text)
            case "thinking_delta" if delta.thinking:
                self._held = held(self._held + len(delta.thinking))
                opened.thoughts.append(delta.thinking)
                return self._chunk({"reasoning_content": delta.thinking})
            case "signature_delta":
                opened.signature = delta.signature
                return b""
            case "input_json_delta" if delta.partial_json:
                return self._input(opened, delta.partial_json)
            case _:
                return b""

    def _text(self, text: str) -> bytes:
        if self._answered:
            return b""
        if not self._wants_json:
            return self._chunk({"content": text})
        self._held = held(self._held + len(text))
        self._texts.append(text)
        return b""

    def _input(self, opened: _Open, text: str) -> bytes:
        opened.said_input = True
        if opened.call is not None:
            return self._call(opened.call, {"arguments": text})
        return self._chunk({"content": text}) if opened.answers else b""

    def _end(self, index: int) -> bytes:
        opened = self._open.pop(index, None)
        if opened is None:
            return b""
        block = opened.block
        if block.type in ("thinking", "redacted_thinking"):
            thought = thinking_block(block, "".join(opened.thoughts), opened.signature)
            thought["index"] = self._thoughts  # as for tool calls: what joins chunks looks for it in every list
            self._thoughts += 1
            return self._chunk({"thinking_blocks": [thought]})
        if block.type == "tool_use" and not opened.said_input:
            return self._input(opened, input_text(block.input) if is_object(block.input) else "{}")
        return b""

    def _note(self, event: _Event) -> bytes:
        if event.usage is not None:
            self._usage = self._usage.updated(event.usage)
        delta = event.delta
        if delta is None:
            return b""
        self._stop_reason = delta.stop_reason or self._stop_reason
        if self.begun and delta.stop_details is not None and delta.stop_details.explanation:
            return self._chunk({"refusal": delta.stop_details.explanation})
        return b""

    def _stop(self) -> bytes:
        if not self.begun:
            raise Untranslatable("the deployment's stream ended before it began")
        self.done = True
        last = self._chunk({"content": "".join(self._texts)}) if self._texts else b""
        last += self._chunk({}, finish_reason(self._stop_reason, calls=self._calls > 0))
        if not self._include_usage:
            return last + DONE
        usage = chat_usage(self._usage)
        return last + (data_event({**self._head(), "choices": [], "usage": usage}) if usage else b"") + DONE

    def _call(self, number: int, function: Json, call_id: str | None = None) -> bytes:
        call: Json = {"index": number, "function": function}
        if call_id is not None:
            call = {"index": number, "id": call_id, "type": "function", "function": function}
        return self._chunk({"tool_calls": [call]})

    def _head(self) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice: Json = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk: Json = {**self._head(), "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return data_event(chunk)
