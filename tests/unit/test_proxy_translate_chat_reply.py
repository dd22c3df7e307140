"""A caller speaks chat completions, the deployment is Claude: what is answered, plain and in a stream."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from services.proxy.domain.translate import ChatStream, Untranslatable, to_chat_reply
from services.proxy.domain.translate.chat_tools import wants_json
from tests.unit.translate_driver import (
    CLAUDE_USAGE,
    chat_events,
    claude_message,
    claude_sse,
    claude_stream,
    loads,
    read_chat_stream,
    run,
)

TEXT = {"type": "text", "text": "Grüße aus Kiel 🌧"}
THOUGHT = {"type": "thinking", "thinking": "It rains there.", "signature": "sig=="}
REDACTED = {"type": "redacted_thinking", "data": "opaque"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Kiel", "days": [1, 2]}}
BARE_CALL = {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}}
JSON_ANSWER = {"type": "tool_use", "id": "toolu_3", "name": "json_response", "input": {"a": 1, "b": ["ü"]}}
BARE_ANSWER = {"type": "tool_use", "id": "toolu_4", "name": "json_response", "input": {}}
START = {"type": "message_start", "message": claude_message([])}
REPLIES: list[tuple[list[dict[str, Any]], str, str]] = [
    ([TEXT], "end_turn", "stop"),
    ([TEXT, {"type": "text", "text": " Bye."}], "stop_sequence", "stop"),
    ([TEXT], "max_tokens", "length"),
    ([TEXT], "model_context_window_exceeded", "length"),
    ([TEXT], "pause_turn", "length"),
    ([], "refusal", "content_filter"),
    ([TEXT], "a_new_reason", "stop"),
    ([THOUGHT, REDACTED, TEXT], "end_turn", "stop"),
    ([THOUGHT, TEXT, CALL, BARE_CALL], "tool_use", "tool_calls"),
    ([CALL], "tool_use", "tool_calls"),
    ([JSON_ANSWER], "tool_use", "stop"),
    ([JSON_ANSWER], "max_tokens", "length"),
    ([TEXT, JSON_ANSWER], "tool_use", "stop"),
    ([THOUGHT, TEXT, JSON_ANSWER, TEXT, BARE_ANSWER], "tool_use", "stop"),
    ([TEXT, CALL, JSON_ANSWER], "tool_use", "tool_calls"),
    ([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, TEXT], "end_turn", "stop"),
]


def plain(message: dict[str, Any]) -> ChatCompletion:
    made = to_chat_reply(json.dumps(message).encode(), model="sonnet", created=1795337700)
    return ChatCompletion.model_validate_json(made, strict=True)


def streamed(sse: bytes, *, include_usage: bool = True, wants_json: bool = False) -> bytes:
    stream = ChatStream(model="sonnet", include_usage=include_usage, created=1795337700, wants_json=wants_json)
    return run(stream.feed, [sse])


@pytest.mark.parametrize("wants_json", [False, True])
@pytest.mark.parametrize(("content", "stop_reason", "finish"), REPLIES)
def test_plain_and_stream_say_the_same(
    content: list[dict[str, Any]], stop_reason: str, finish: str, wants_json: bool
) -> None:
    message = claude_message(content, stop_reason)
    whole = plain(message)
    sse = streamed(claude_stream(message), wants_json=wants_json or JSON_ANSWER in content)
    joined = read_chat_stream(sse)
    assert whole.choices[0].finish_reason == joined.choices[0].finish_reason == finish
    one, other = whole.choices[0].message, joined.choices[0].message
    if JSON_ANSWER in content:
        assert loads((one.content or "").encode()) == loads((other.content or "").encode()) == JSON_ANSWER["input"]
    else:
        assert (one.content or "") == (other.content or "")
    calls = [
        [(call.id, call.type, call.function.name, loads(call.function.arguments.encode())) for call in said or []]  # type: ignore[union-attr]
        for said in (one.tool_calls, other.tool_calls)
    ]
    assert calls[0] == calls[1]
    assert whole.usage == joined.usage
    assert (whole.id, whole.model, whole.created) == (joined.id, joined.model, joined.created)
    one_extra, other_extra = one.model_extra or {}, other.model_extra or {}
    assert one_extra.get("reasoning_content") == other_extra.get("reasoning_content")
    blocks = one_extra.get("thinking_blocks", [])
    numbered = [{**block, "index": index} for index, block in enumerate(blocks)]
    assert numbered == other_extra.get("thinking_blocks", [])


def test_the_whole_reply() -> None:
    message = claude_message([THOUGHT, REDACTED, TEXT, CALL], "tool_use")
    assert loads(to_chat_reply(json.dumps(message).encode(), model="sonnet", created=5)) == {
        "id": "chatcmpl-sim01",
        "object": "chat.completion",
        "created": 5,
        "model": "sonnet",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": TEXT["text"],
                    "refusal": None,
                    "reasoning_content": "It rains there.",
                    "thinking_blocks": [THOUGHT, REDACTED],
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": json.dumps(CALL["input"])},
                        }
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 12 + 1024 + 300,
            "completion_tokens": 40,
            "total_tokens": 12 + 1024 + 300 + 40,
            "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 1024},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_only_tool_calls_leave_the_content_null_and_only_nothing_leaves_it_empty() -> None:
    assert plain(claude_message([CALL], "tool_use")).choices[0].message.content is None
    assert plain(claude_message([])).choices[0].message.content == ""


def test_text_is_held_back_only_where_a_json_answer_may_come() -> None:
    texts = [START, {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hi"}}]
    assert b"Hi" in streamed(claude_sse(*texts))
    assert b"Hi" not in streamed(claude_sse(*texts), wants_json=True)


def test_text_that_is_held_back_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.proxy.domain.translate.wire.HELD_CHARS_MAX", 5)
    streamed(claude_stream(claude_message([{"type": "text", "text": "12345"}])), wants_json=True)
    with pytest.raises(Untranslatable):
        streamed(claude_stream(claude_message([{"type": "text", "text": "123456"}])), wants_json=True)


def test_the_request_says_whether_a_json_answer_may_come() -> None:
    assert wants_json(b'{"messages":[],"tools":[{"name":"time"},{"name":"json_response","input_schema":{}}]}')
    assert not wants_json(b'{"messages":[{"role":"user","content":"json_response"}]}')
    assert not wants_json(b'{"messages":[],"tools":[{"name":"time","input_schema":{"name":"json_response"}}]}')


def test_a_refusal_says_why() -> None:
    message = claude_message([], "refusal", stop_details={"type": "refusal", "explanation": "No."})
    assert plain(message).choices[0].message.refusal == "No."
    assert read_chat_stream(streamed(claude_stream(message))).choices[0].message.refusal == "No."


def test_thinking_tokens_are_reasoning_tokens_and_missing_usage_is_not_zero() -> None:
    usage = {**CLAUDE_USAGE, "output_tokens_details": {"thinking_tokens": 30}}
    said = plain(claude_message([TEXT], usage=usage)).usage
    assert said is not None
    assert said.completion_tokens_details is not None
    assert said.completion_tokens_details.reasoning_tokens == 30
    bare = claude_message([TEXT])
    del bare["usage"]
    assert plain(bare).usage is None


def test_usage_only_if_asked_for() -> None:
    sse = streamed(claude_stream(claude_message([TEXT])), include_usage=False)
    assert b'"usage"' not in sse
    assert read_chat_stream(sse).usage is None
    asked = chat_events(streamed(claude_stream(claude_message([TEXT]))))
    assert all(event["usage"] is None for event in asked[:-1])
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 300, "cache_write_tokens": 1024}


def test_the_first_chunk_names_the_role_and_pings_keep_the_line_open() -> None:
    stream = ChatStream(model="m", include_usage=False)
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    assert stream.feed(ping) == b""
    assert chat_events(stream.feed(claude_sse(START)))[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert stream.feed(ping) == stream.feed(b": keep-alive\n\n") == b": ping\n\n"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "server_error", "overloaded"),
        ({"type": "rate_limit_error", "message": "Slower"}, "rate_limit_error", "rate_limit_exceeded"),
        ({"type": "invalid_request_error", "message": "No"}, "invalid_request_error", "invalid_request"),
        ({"code": 500, "message": "Oops"}, "server_error", "500"),
        ({"type": "new_error"}, "server_error", "server_error"),
        ("plain text", "server_error", "server_error"),
        (None, "server_error", "server_error"),
    ],
)
def test_an_error_in_mid_stream(error: Any, kind: str, code: str) -> None:
    stream = ChatStream(model="m", include_usage=True)
    stream.feed(claude_sse(START))
    (event,) = chat_events(stream.feed(claude_sse({"type": "error", "error": error})))
    assert (event["error"]["type"], event["error"]["code"]) == (kind, code)
    assert event["error"]["message"]
    assert stream.failed
    assert not stream.done
    assert stream.feed(claude_sse({"type": "message_stop"})) == b""


def test_an_error_object_without_a_type_is_an_error_too() -> None:
    stream = ChatStream(model="m", include_usage=True)
    out = stream.feed(b'data: {"error":{"code":"429","message":"Wait"}}\n\n')
    assert chat_events(out)[0]["error"]["message"] == "Wait"
    assert stream.failed


def test_nothing_after_the_end() -> None:
    stream = ChatStream(model="m", include_usage=False)
    run(stream.feed, [claude_stream(claude_message([TEXT]))])
    assert stream.done
    assert stream.feed(claude_sse(START)) == stream.end() == b""


def test_a_stream_that_is_cut_short() -> None:
    stream = ChatStream(model="m", include_usage=False)
    stream.feed(claude_sse(START))
    (event,) = chat_events(stream.end())
    assert event["error"]["type"] == "server_error"
    assert stream.failed


def test_events_that_are_new_to_us_are_passed_over() -> None:
    stream = ChatStream(model="m", include_usage=False)
    stream.feed(claude_sse(START))
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "hologram", "text": 1}}
    with pytest.raises(Untranslatable):
        stream.feed(claude_sse(block))
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "hologram", "colour": 1}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "hologram_delta", "colour": 2}}
    stop = {"type": "content_block_stop", "index": 0}
    assert stream.feed(claude_sse(block)) == stream.feed(claude_sse(delta)) == stream.feed(claude_sse(stop)) == b""
    assert stream.feed(claude_sse({"type": "from_the_future"})) == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[]",
        b'{"type":"error","error":{"type":"api_error","message":"x"}}',
        b'{"type":"completion","content":[]}',
        b'{"type":"message","content":"x"}',
        b'{"type":"message","content":[{"type":"tool_use","id":"a","name":"b","input":3}]}',
        b'{"type":"message","content":[],"id":"\xff"}',
    ],
)
def test_replies_that_cannot_be_understood(body: bytes) -> None:
    with pytest.raises(Untranslatable):
        to_chat_reply(body, model="m")


@pytest.mark.parametrize(
    "events",
    [
        [START, START],
        [{"type": "message_stop"}],
        [{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}],
        [START, {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}],
        [START, {"type": "content_block_start", "index": "0"}],
    ],
)
def test_streams_out_of_order(events: list[dict[str, Any]]) -> None:
    with pytest.raises(Untranslatable):
        streamed(claude_sse(*events))


def test_a_frame_that_is_no_json() -> None:
    with pytest.raises(Untranslatable):
        ChatStream(model="m", include_usage=False).feed(b"data: {\n\n")
