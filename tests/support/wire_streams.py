"""Streams of every wire as Foundry sends them, composed by hand: whole, failed, odd; for meters and relays."""

import json
from typing import Any, NamedTuple

from services.proxy.domain.paths import Endpoint
from shared.pricing import Usage


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def data(value: object) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def named(value: dict[str, Any]) -> bytes:
    return b"event: " + value["type"].encode() + b"\n" + data(value)


def chunk(*choices: object, **more: Any) -> bytes:
    shape = {"choices": list(choices), "id": "chatcmpl-1", "model": "gpt-4o-2024-08-06"}
    return data({**shape, "object": "chat.completion.chunk", **more})


def delta(**fields: Any) -> dict[str, Any]:
    return {"content_filter_results": {}, "delta": fields, "finish_reason": None, "index": 0}


DONE = b"data: [DONE]\n\n"
PING = b": keep-alive\n\n"
FILTERS = data({"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []})
ROLE = chunk(delta(role="assistant", content="", refusal=None), usage=None)
HI = chunk(delta(content="Grüße, 世界"), usage=None)
ASYNC = data({"id": "", "model": "", "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {}}]})
STOP = chunk({"delta": {}, "finish_reason": "stop", "index": 0}, usage=None)
CHAT_USAGE = chunk(usage={"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14})
CHAT_ERROR = data({"error": {"message": "overloaded", "type": "server_error", "param": None, "code": "x"}})
TEXT = data({"choices": [{"text": "Hi", "index": 0, "finish_reason": None}], "model": "m-1", "usage": None})


def response(status: str, usage: object = None, **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "model": "gpt5-mini", "usage": usage, **more}


R_USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 71,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 80,
}
R_CREATED = {"type": "response.created", "sequence_number": 0, "response": response("in_progress", error=None)}
R_ITEM = {"type": "response.output_item.added", "item": {"type": "message", "content": []}}
R_DELTA = {"type": "response.output_text.delta", "delta": 'Hi "response.completed" [DONE] "error"'}
R_COMPLETED = {
    "type": "response.completed",
    "response": response("completed", R_USAGE, error=None, service_tier="flex"),
}
R_FAILED = {"type": "response.failed", "sequence_number": 1, "response": response("failed", error=None)}
R_ERROR = {
    "type": "error",
    "sequence_number": 2,
    "error": {
        "type": "too_many_requests",
        "code": "rate_limit_exceeded",
        "headers": {"retry-after": "7"},
        "message": "Your requests to the deployment have exceeded rate limit.",
        "param": None,
    },
}

M_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude-sonnet-4-5-20250929",
        "content": [],
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 1024,
            "cache_read_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 24},
            "output_tokens": 1,
            "service_tier": "standard",
        },
    },
}
M_BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
M_PING = {"type": "ping"}
M_DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi."}}
M_END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
M_STOP = {"type": "message_stop"}
M_ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

I_PARTIAL = {"type": "image_generation.partial_image", "b64_json": "AAAA", "partial_image_index": 0}
I_DONE = {
    "type": "image_generation.completed",
    "b64_json": "AAAA",
    "usage": {
        "input_tokens": 50,
        "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
        "output_tokens": 1056,
        "total_tokens": 1106,
    },
}
T_DELTA = {"type": "transcript.text.delta", "delta": "Hi", "logprobs": []}
T_DONE = {
    "type": "transcript.text.done",
    "text": "Hi",
    "usage": {
        "type": "tokens",
        "input_tokens": 30,
        "input_token_details": {"text_tokens": 5, "audio_tokens": 25},
        "output_tokens": 2,
        "total_tokens": 32,
    },
}
S_DELTA = {"type": "speech.audio.delta", "audio": "AAAA"}
S_DONE = {"type": "speech.audio.done", "usage": {"input_tokens": 5, "output_tokens": 90, "total_tokens": 95}}

COHERE_START = {"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant", "content": []}}}
COHERE_TEXT = {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}
COHERE_DELTA = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": '"message-end"'}}}}
COHERE_STOP = {"type": "content-end", "index": 0}
COHERE_USAGE = {"billed_units": {"input_tokens": 500, "output_tokens": 100.0}, "tokens": {"input_tokens": 566}}
COHERE_END = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}}
COHERE = (COHERE_START, COHERE_TEXT, COHERE_DELTA, COHERE_STOP, COHERE_END)


class Sample(NamedTuple):
    """A stream that ends well, and what it used."""

    name: str
    wire: Endpoint
    frames: tuple[bytes, ...]
    usage: Usage | None
    model: str | None = None

    @property
    def bytes(self) -> bytes:
        return b"".join(self.frames)


GPT = "gpt-4o-2024-08-06"
CLAUDE = "claude-sonnet-4-5-20250929"
R_FRAMES = tuple(data(event) for event in (R_CREATED, R_ITEM, R_DELTA, R_COMPLETED))
R_NAMED = tuple(named(event) for event in (R_CREATED, R_ITEM, R_DELTA, R_COMPLETED))
M_EVENTS = (M_START, M_BLOCK, M_PING, M_DELTA, M_END, M_STOP)
R_USED = Usage(input=5, cached=4, output=71, reasoning=64, tier="flex")
M_USED = Usage(input=12, cached=100, cache_write=1000, cache_write_1h=24, output=4)
SAMPLES = (
    Sample("chat", Endpoint.CHAT, (FILTERS, ROLE, HI, HI, STOP, CHAT_USAGE, DONE), Usage(input=10, output=4), GPT),
    Sample(
        "chat alive", Endpoint.CHAT, (PING, ROLE, PING, HI, ASYNC, CHAT_USAGE, DONE), Usage(input=10, output=4), GPT
    ),
    Sample("chat without usage", Endpoint.CHAT, (FILTERS, ROLE, HI, STOP, DONE), None, GPT),
    Sample("chat, empty", Endpoint.CHAT, (FILTERS, CHAT_USAGE, DONE), Usage(input=10, output=4), GPT),
    Sample("completions", Endpoint.COMPLETIONS, (TEXT, TEXT, DONE), None, "m-1"),
    Sample("responses", Endpoint.RESPONSES, R_FRAMES, R_USED, "gpt5-mini"),
    Sample("responses named", Endpoint.RESPONSES, (*R_NAMED[:2], PING, *R_NAMED[2:]), R_USED, "gpt5-mini"),
    Sample("messages", Endpoint.MESSAGES, tuple(named(event) for event in M_EVENTS), M_USED, CLAUDE),
    Sample(
        "images",
        Endpoint.IMAGES,
        (named(I_PARTIAL), named(I_DONE)),
        Usage(input=10, image_input=40, image_output=1056),
    ),
    Sample(
        "transcript", Endpoint.TRANSCRIPTIONS, (data(T_DELTA), data(T_DONE)), Usage(input=5, audio_input=25, output=2)
    ),
    Sample("speech", Endpoint.SPEECH, (data(S_DELTA), data(S_DONE)), Usage(input=5, audio_output=90)),
    Sample("raw chat", Endpoint.RAW, (PING, ROLE, HI, CHAT_USAGE, DONE), Usage(input=10, output=4), GPT),
    Sample("raw messages", Endpoint.RAW, tuple(named(event) for event in M_EVENTS), M_USED, CLAUDE),
    Sample("raw cohere", Endpoint.RAW, tuple(named(event) for event in COHERE), Usage(input=500, output=100)),
    Sample("raw cohere bare", Endpoint.RAW, (PING, *map(data, COHERE)), Usage(input=500, output=100)),
)

FAILURES = (
    ("chat", Endpoint.CHAT, (FILTERS, ROLE), (HI,), (CHAT_ERROR,), "x"),
    ("responses", Endpoint.RESPONSES, (data(R_CREATED),), (data(R_DELTA),), (data(R_FAILED), data(R_ERROR)),
     "rate_limit_exceeded"),
    ("responses turned", Endpoint.RESPONSES, (named(R_CREATED),), (named(R_DELTA),), (named(R_ERROR), named(R_FAILED)),
     "rate_limit_exceeded"),
    ("messages", Endpoint.MESSAGES, (named(M_START), named(M_BLOCK)), (named(M_DELTA),), (named(M_ERROR),),
     "overloaded_error"),
    ("images", Endpoint.IMAGES, (), (named(I_PARTIAL),), (b"event: error\n" + CHAT_ERROR,), "x"),
    ("transcript", Endpoint.TRANSCRIPTIONS, (), (data(T_DELTA),), (CHAT_ERROR,), "x"),
    ("speech", Endpoint.SPEECH, (), (data(S_DELTA),), (CHAT_ERROR,), "x"),
)  # fmt: skip
"""Name, wire, first events without content, content, the events of a failure, its code."""
