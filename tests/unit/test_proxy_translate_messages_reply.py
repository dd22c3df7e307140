"""A caller speaks Messages, the deployment speaks chat completions: what is answered, plain and in a stream."""

import json
from typing import Any

import pytest
from anthropic.types import Message

from services.proxy.domain.translate import MessageStream, Untranslatable, to_message_reply
from tests.unit.translate_driver import (
    chat_sse,
    chat_stream,
    chunk,
    claude_events,
    completion,
    loads,
    read_claude_stream,
    run,
)


def call(number: int, arguments: str = '{"place": "Kiel"}') -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": f"tool{number}", "arguments": arguments}}


def piece(index: int, arguments: str = "", **head: Any) -> dict[str, Any]:
    """A piece of a tool call, the first with `name` and `id`."""
    function = {"arguments": arguments, **({"name": head.pop("name")} if "name" in head else {})}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


SAID = {"role": "assistant", "content": "Grüße 🌧", "refusal": None, "annotations": []}
USAGE = {
    "input_tokens": 30,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 60,
    "output_tokens": 20,
}
REPLIES: list[tuple[dict[str, Any], str, str]] = [
    (SAID, "stop", "end_turn"),
    (SAID, "length", "max_tokens"),
    (SAID, "content_filter", "refusal"),
    (SAID, "something_new", "end_turn"),
    ({"role": "assistant", "content": None, "refusal": "I will not."}, "stop", "end_turn"),
    ({**SAID, "reasoning_content": "It rains."}, "stop", "end_turn"),
    ({**SAID, "content": None, "tool_calls": [call(1)]}, "tool_calls", "tool_use"),
    ({**SAID, "reasoning_content": "r", "tool_calls": [call(1), call(2, ""), call(3)]}, "tool_calls", "tool_use"),
    ({**SAID, "tool_calls": [call(1)]}, "stop", "tool_use"),
    ({**SAID, "tool_calls": []}, "tool_calls", "end_turn"),
    ({"role": "assistant", "content": ""}, "stop", "end_turn"),
]


def plain(whole: dict[str, Any]) -> Message:
    made = to_message_reply(json.dumps(whole).encode(), model="gpt")
    return Message.model_validate_json(made, strict=True)


def streamed(sse: bytes) -> bytes:
    stream = MessageStream(model="gpt", message_id="msg_Sim1")
    return run(stream.feed, [sse]) + stream.end()


@pytest.mark.parametrize(("message", "finish", "stop_reason"), REPLIES)
def test_plain_and_stream_say_the_same(message: dict[str, Any], finish: str, stop_reason: str) -> None:
    whole = completion(message, finish)
    one, other = plain(whole), read_claude_stream(streamed(chat_stream(whole)))
    assert one.stop_reason == other.stop_reason == stop_reason
    assert one.to_dict(exclude_none=True) == other.to_dict(exclude_none=True)
    assert one.usage.to_dict() == USAGE


def test_the_whole_reply() -> None:
    message = {**SAID, "reasoning_content": "It rains.", "tool_calls": [call(1)]}
    assert loads(to_message_reply(json.dumps(completion(message, "tool_calls")).encode(), model="gpt")) == {
        "id": "msg_Sim1",
        "type": "message",
        "role": "assistant",
        "model": "gpt",
        "content": [
            {"type": "thinking", "thinking": "It rains.", "signature": ""},
            {"type": "text", "text": "Grüße 🌧"},
            {"type": "tool_use", "id": "call_1", "name": "tool1", "input": {"place": "Kiel"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": USAGE,
    }
    assert (
        loads(to_message_reply(json.dumps(completion(SAID)).encode(), model="m", message_id="msg_x"))["id"] == "msg_x"
    )


def test_reasoning_outside_completion_tokens_is_output() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45}
    assert plain(completion(SAID, usage=usage)).usage.output_tokens == 35
    assert plain(completion(SAID, usage=None)).usage.output_tokens == 0


def test_content_in_parts_and_calls_without_ids() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []}, {"type": "text", "text": "b"}]
    bare = {**call(1), "id": None}
    made = loads(to_message_reply(json.dumps(completion({"content": parts, "tool_calls": [bare]})).encode(), model="m"))
    assert made["content"][0]["text"] == "ab"
    assert made["content"][1]["id"] == "toolu_Sim1_0"


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", '"x"'])
def test_arguments_that_are_no_object_are_shown_as_they_are(arguments: str) -> None:
    message = plain(completion({**SAID, "tool_calls": [call(1), call(2, arguments)]}, "tool_calls"))
    assert message.content[-1].to_dict()["input"] == {"invalid_json": arguments}


def test_interleaved_tool_calls_come_out_one_after_the_other() -> None:
    sse = chat_sse(
        chunk({"role": "assistant", "content": "x"}),
        chunk(piece(0, id="a", name="one")),
        chunk(piece(1, '{"k"', id="b", name="two")),
        chunk(piece(0, '{"n":')),
        chunk({"content": "late", "reasoning_content": "thought"}),
        chunk(piece(1, ":2}")),
        chunk(piece(0, "1}")),
        chunk({}, "tool_calls"),
    )
    blocks = [block.to_dict() for block in read_claude_stream(streamed(sse)).content]
    assert blocks == [
        {"type": "text", "text": "x"},
        {"type": "tool_use", "id": "a", "name": "one", "input": {"n": 1}},
        {"type": "thinking", "thinking": "thought", "signature": ""},
        {"type": "text", "text": "late"},
        {"type": "tool_use", "id": "b", "name": "two", "input": {"k": 2}},
    ]


def test_the_first_tool_call_is_passed_on_as_it_comes() -> None:
    stream = MessageStream(model="m", message_id="msg_1")
    stream.feed(chat_sse(chunk(piece(0, id="a", name="one")), done=False))
    out = stream.feed(chat_sse(chunk(piece(0, '{"n":')), done=False))
    assert claude_events(out)[0]["delta"] == {"type": "input_json_delta", "partial_json": '{"n":'}


def test_the_end_waits_for_the_usage() -> None:
    stream = MessageStream(model="m", message_id="msg_1")
    stream.feed(chat_sse(chunk({"content": "x"}), done=False))
    assert stream.feed(chat_sse(chunk({}, "stop"), done=False)) == b""
    assert (
        stream.feed(chat_sse({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, done=False)) == b""
    )
    events = claude_events(stream.feed(b"data: [DONE]\n\n"))
    assert [event["type"] for event in events] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[1]["usage"]["output_tokens"] == 4
    assert stream.done
    assert stream.feed(b"data: [DONE]\n\n") == stream.end() == b""


def test_a_stream_that_ends_without_done() -> None:
    whole = chat_stream(completion(SAID)).removesuffix(b"data: [DONE]\n\n")
    assert read_claude_stream(streamed(whole)).stop_reason == "end_turn"
    stream = MessageStream(model="m", message_id="msg_1")
    stream.feed(chat_sse(chunk({"content": "x"}), done=False))
    (event,) = claude_events(stream.end())
    assert event["type"] == "error"
    assert event["error"]["type"] == "api_error"
    assert stream.failed


def test_keep_alives_become_pings() -> None:
    stream = MessageStream(model="m", message_id="msg_1")
    assert stream.feed(b": keep-alive\n\n") == b""
    stream.feed(chat_sse(chunk({"content": "x"}), done=False))
    assert stream.feed(b": keep-alive\n\n") == b'event: ping\ndata: {"type":"ping"}\n\n'


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "m", "type": "server_error", "param": None, "code": None}, "api_error"),
        ({"message": "That model is currently overloaded with other requests.", "code": None}, "overloaded_error"),
        ({"message": "m", "code": "429"}, "rate_limit_error"),
        ({"message": "m", "code": 429}, "rate_limit_error"),
        ({"message": "m", "code": "RateLimitReached"}, "rate_limit_error"),
        ({"message": "m", "type": "invalid_request_error", "code": "content_filter"}, "invalid_request_error"),
        ({"code": {}}, "api_error"),
        ("m", "api_error"),
    ],
)
def test_an_error_in_mid_stream(error: Any, kind: str) -> None:
    stream = MessageStream(model="m", message_id="msg_1")
    (event,) = claude_events(stream.feed(chat_sse({"error": error}, done=False)))
    assert event["type"] == "error"
    assert event["error"]["type"] == kind
    assert event["error"]["message"]
    assert stream.failed
    assert not stream.done
    assert stream.feed(b"data: [DONE]\n\n") == stream.end() == b""


def test_other_choices_are_passed_over() -> None:
    other = chunk({"content": "no"})
    other["choices"][0]["index"] = 1
    message = read_claude_stream(streamed(chat_sse(chunk({"content": "yes"}), other, chunk({}, "stop"))))
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "yes"}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"error":{"message":"x"}}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"a"}]}}]}',
        b'{"choices":[{"message":{"content":"x"}}],"id":"\xff"}',
    ],
)
def test_replies_that_cannot_be_understood(body: bytes) -> None:
    with pytest.raises(Untranslatable):
        to_message_reply(body, model="m")


def test_streams_that_cannot_be_understood() -> None:
    with pytest.raises(Untranslatable):
        streamed(b"data: {\n\n")
    many = [chunk(piece(index, id="a", name="n")) for index in range(129)]
    with pytest.raises(Untranslatable):
        streamed(chat_sse(*many))


def test_a_call_without_a_name_is_an_error() -> None:
    events = claude_events(
        streamed(chat_sse(chunk({"content": "x"}), chunk(piece(0, "{}", id="a")), chunk({}, "stop")))
    )
    assert events[-1]["type"] == "error"
