"""Streams and replies of both dialects, made and read with the vendors' own libraries."""

import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, cast

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from services.proxy.domain.sse import FrameSplitter

EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)


def loads(data: bytes) -> Any:
    return json.loads(data)


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def claude_sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def chat_sse(*chunks: dict[str, Any], done: bool = True) -> bytes:
    text = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    return text + (b"data: [DONE]\n\n" if done else b"")


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def run(feed: Callable[[bytes], bytes], pieces: Iterable[bytes]) -> bytes:
    """Everything that comes out when the pieces arrive one by one."""
    splitter = FrameSplitter()
    return b"".join(feed(frame) for piece in pieces for frame in splitter.feed(piece))


def chat_events(sse: bytes) -> list[Any]:
    """The JSON of each `data:` line; keep-alive comments are passed over, as clients do."""
    frames = FrameSplitter().feed(sse)
    data = [frame[6:].strip() for frame in frames if frame.startswith(b"data: ")]
    return [loads(one) for one in data if one != b"[DONE]"]


def read_chat_stream(sse: bytes) -> ChatCompletion:
    """The completion that OpenAI's own accumulator makes of the chunks."""
    assert sse.endswith(b"data: [DONE]\n\n")
    state = ChatCompletionStreamState()
    for event in chat_events(sse):
        state.handle_chunk(ChatCompletionChunk.model_validate(event, strict=True))
    return cast(ChatCompletion, state.current_completion_snapshot)


def claude_events(sse: bytes) -> list[Any]:
    """The JSON of each event, whose name must stand on a line of its own."""
    events: list[Any] = []
    for frame in FrameSplitter().feed(sse):
        name, data = frame.strip().split(b"\n")
        event = loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    return events


def read_claude_stream(sse: bytes) -> Message:
    """The message that Anthropic's own accumulator makes of the events, which must come in order."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    events = [event for event in claude_events(sse) if event["type"] != "ping"]
    assert_in_order([(event["type"], event.get("index")) for event in events])
    for event in events:
        parsed = EVENTS.validate_python(event)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    return cast(Message, snapshot)


def assert_in_order(events: list[tuple[str, int | None]]) -> None:
    """Blocks are numbered from 0 and never overlap."""
    assert events[0][0] == "message_start"
    assert [name for name, _ in events[-2:]] == ["message_delta", "message_stop"]
    open_block, following = None, 0
    for name, index in events[1:-2]:
        if name == "content_block_start":
            assert open_block is None
            assert index == following
            open_block, following = index, following + 1
        elif name == "content_block_delta":
            assert index == open_block
        else:
            assert name == "content_block_stop"
            assert index == open_block
            open_block = None
    assert open_block is None


CLAUDE_USAGE: dict[str, Any] = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 1024,
    "cache_read_input_tokens": 300,
    "output_tokens": 40,
}


def claude_message(content: list[dict[str, Any]], stop_reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_sim01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": CLAUDE_USAGE,
        **more,
    }


def claude_stream(message: dict[str, Any], piece: int = 3) -> bytes:
    """The stream that says the same as a message, its texts in pieces of so many characters."""
    start = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        begun, deltas = _block_events(block, piece)
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    if "stop_details" in message:
        delta["stop_details"] = message["stop_details"]
    usage = {name: count for name, count in message["usage"].items() if name != "cache_read_input_tokens"}
    return claude_sse(*events, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"})


def _block_events(block: dict[str, Any], piece: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    def split(text: str) -> list[str]:
        return [text[at : at + piece] for at in range(0, len(text), piece)]

    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in split(block["text"])]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": part} for part in split(block["thinking"])]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*thoughts, signed]
        case "tool_use":
            said = json.dumps(block["input"]) if block["input"] else ""
            parts = [{"type": "input_json_delta", "partial_json": part} for part in ["", *split(said)]]
            return {**block, "input": {}}, parts
        case _:
            return block, []


def completion(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {
        "choices": [
            {"content_filter_results": {}, "finish_reason": finish, "index": 0, "logprobs": None, "message": message}
        ],
        "created": 1795337700,
        "id": "chatcmpl-Sim1",
        "model": "gpt-4.1-mini-2025-04-14",
        "object": "chat.completion",
        "prompt_filter_results": [],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
        **more,
    }


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"content_filter_results": {}, "finish_reason": finish, "index": 0}
    if delta is not None:
        choice["delta"] = delta
    return {
        "choices": [choice],
        "created": 1795337700,
        "id": "chatcmpl-Sim1",
        "obfuscation": "x",
        "usage": None,
        **more,
    }


def chat_stream(whole: dict[str, Any], piece: int = 3) -> bytes:
    """The stream that says the same as a completion, as Azure sends it: filter first, usage last."""
    choice = whole["choices"][0]
    message = choice["message"]
    chunks = [{"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}]
    chunks.append(chunk({"role": "assistant", "content": "", "refusal": None}))
    for field in ("reasoning_content", "content", "refusal"):
        text = message.get(field) or ""
        chunks += [chunk({field: text[at : at + piece]}) for at in range(0, len(text), piece)]
    for index, call in enumerate(message.get("tool_calls") or []):
        head = {"index": index, "id": call["id"], "type": "function"}
        chunks.append(
            chunk({"tool_calls": [{**head, "function": {"name": call["function"]["name"], "arguments": ""}}]})
        )
        said = call["function"]["arguments"]
        for at in range(0, len(said), piece):
            part = {"index": index, "function": {"arguments": said[at : at + piece]}}
            chunks.append(chunk({"tool_calls": [part]}))
    chunks.append(chunk(None, content_filter_offsets={"check_offset": 44}))
    chunks.append(chunk({}, choice["finish_reason"]))
    chunks.append({**chunk(None), "choices": [], "usage": whole["usage"]})
    return chat_sse(*chunks)
