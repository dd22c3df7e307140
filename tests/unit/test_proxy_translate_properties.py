"""What holds for every translation: any cut gives the same, nothing is lost, nothing breaks on bad input."""

import json
from typing import Any

import anthropic.types.message_create_params as claude_params
import openai.types.chat.completion_create_params as chat_params
import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.translate import (
    ChatStream,
    MessageStream,
    Untranslatable,
    to_chat,
    to_chat_reply,
    to_message_reply,
    to_messages,
)
from tests.unit.translate_driver import (
    chat_sse,
    chat_stream,
    claude_message,
    claude_sse,
    claude_stream,
    completion,
    cut,
    loads,
    read_chat_stream,
    read_claude_stream,
    run,
)

CLAUDE_BODY: TypeAdapter[Any] = TypeAdapter(claude_params.MessageCreateParams)
CHAT_BODY: TypeAdapter[Any] = TypeAdapter(chat_params.CompletionCreateParams)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True).filter(lambda name: name != "json_response")
places = st.lists(st.integers(0, 100_000), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
objects = st.dictionaries(texts, values, max_size=3)

claude_blocks = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, texts),
        st.builds(lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign}, texts, names),
        st.builds(lambda data: {"type": "redacted_thinking", "data": data}, names),
        st.builds(
            lambda at, name, made: {"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": made},
            names,
            names,
            objects,
        ),
    ),
    max_size=5,
)
chat_answers = st.fixed_dictionaries(
    {
        "content": st.none() | texts,
        "reasoning_content": st.none() | texts,
        "tool_calls": st.none()
        | st.lists(
            st.builds(
                lambda at, name, made: {
                    "id": f"call_{at}",
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(made)},
                },
                names,
                names,
                objects,
            ),
            max_size=4,
        ),
    }
)


json_answers = st.builds(
    lambda at, made: {"type": "tool_use", "id": f"toolu_{at}", "name": "json_response", "input": made}, names, objects
)


def chat_of(pieces: list[bytes], wants_json: bool = False) -> bytes:
    return run(ChatStream(model="m", include_usage=True, wants_json=wants_json).feed, pieces)


def claude_of(pieces: list[bytes]) -> bytes:
    stream = MessageStream(model="m", message_id="msg_Sim1")
    return run(stream.feed, pieces) + stream.end()


@given(claude_blocks, places, st.integers(1, 7))
def test_any_cut_of_claudes_stream_gives_the_same_chat(blocks: list[Any], at: list[int], piece: int) -> None:
    sse = claude_stream(claude_message(blocks), piece)
    whole = chat_of([sse])
    assert chat_of(cut(sse, at)) == whole
    plain = ChatCompletion.model_validate_json(to_chat_reply(json.dumps(claude_message(blocks)).encode(), model="m"))
    joined = read_chat_stream(whole)
    one, other = plain.choices[0], joined.choices[0]
    assert (one.message.content or "") == (other.message.content or "")
    assert [call.id for call in one.message.tool_calls or []] == [call.id for call in other.message.tool_calls or []]
    assert arguments(one.message) == arguments(other.message)
    assert (one.finish_reason, plain.usage) == (other.finish_reason, joined.usage)


@given(claude_blocks, json_answers, st.integers(0, 5), places, st.integers(1, 7))
def test_a_json_answer_stands_alone(
    blocks: list[Any], answer: dict[str, Any], place: int, at: list[int], piece: int
) -> None:
    blocks = [*blocks[:place], answer, *blocks[place:]]
    sse = claude_stream(claude_message(blocks, "tool_use"), piece)
    whole = chat_of([sse], wants_json=True)
    assert chat_of(cut(sse, at), wants_json=True) == whole
    plain = ChatCompletion.model_validate_json(to_chat_reply(json.dumps(claude_message(blocks)).encode(), model="m"))
    one, other = plain.choices[0].message, read_chat_stream(whole).choices[0].message
    assert json.loads(one.content or "") == json.loads(other.content or "") == answer["input"]
    assert arguments(one) == arguments(other)


@given(claude_blocks, st.integers(1, 7))
def test_without_a_json_answer_the_text_is_the_content(blocks: list[Any], piece: int) -> None:
    whole = chat_of([claude_stream(claude_message(blocks), piece)], wants_json=True)
    said = "".join(block["text"] for block in blocks if block["type"] == "text")
    assert (read_chat_stream(whole).choices[0].message.content or "") == said


def arguments(message: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


@given(chat_answers, places, st.integers(1, 7), st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_any_cut_of_a_chat_stream_gives_the_same_message(
    answer: dict[str, Any], at: list[int], piece: int, finish: str
) -> None:
    whole = completion({"role": "assistant", **answer}, finish)
    sse = chat_stream(whole, piece)
    made = claude_of([sse])
    assert claude_of(cut(sse, at)) == made
    plain = Message.model_validate_json(to_message_reply(json.dumps(whole).encode(), model="m"))
    assert plain.to_dict(exclude_none=True) == read_claude_stream(made).to_dict(exclude_none=True)


user_turns = st.builds(lambda text: {"role": "user", "content": text}, words)
assistant_turns = st.builds(lambda text: {"role": "assistant", "content": text}, words)
rounds = st.lists(st.tuples(user_turns, assistant_turns), max_size=3)


@given(words, rounds, user_turns)
def test_text_survives_to_claude_and_back(system: str, before: list[tuple[Any, Any]], last: Any) -> None:
    messages = [{"role": "system", "content": system}, *(turn for pair in before for turn in pair), last]
    asked = json.dumps({"model": "m", "messages": messages}).encode()
    there = to_messages(asked, model="claude", max_tokens_default=10, drop_params=False)
    CLAUDE_BODY.validate_json(there)
    back = to_chat(there, model="m", cap_field="max_tokens", drop_params=False, reasoning=False, inject_usage=False)
    CHAT_BODY.validate_json(back)
    assert loads(back)["messages"] == messages


@given(rounds, objects, names, words)
def test_tool_calls_survive_to_claude_and_back(
    before: list[tuple[Any, Any]], made: dict[str, Any], name: str, result: str
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": json.dumps(made)}}
    messages = [
        *(turn for pair in before for turn in pair),
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    asked = json.dumps({"model": "m", "messages": messages}).encode()
    there = to_messages(asked, model="claude", max_tokens_default=10, drop_params=False)
    back = to_chat(there, model="m", cap_field="max_tokens", drop_params=False, reasoning=False, inject_usage=False)
    assert loads(back)["messages"] == messages


@given(claude_blocks)
def test_an_answer_can_be_sent_back_as_it_came(blocks: list[dict[str, Any]]) -> None:
    reply = loads(to_chat_reply(json.dumps(claude_message(blocks)).encode(), model="m"))
    messages = [{"role": "user", "content": "go"}, reply["choices"][0]["message"], {"role": "user", "content": "on"}]
    there = loads(
        to_messages(json.dumps({"messages": messages}).encode(), model="m", max_tokens_default=1, drop_params=False)
    )
    sent = [block for turn in there["messages"] if turn["role"] == "assistant" for block in turn["content"]]
    for kind in ("thinking", "redacted_thinking", "tool_use"):
        assert [b for b in sent if b["type"] == kind] == [b for b in blocks if b["type"] == kind]
    said = "".join(block["text"] for block in blocks if block["type"] == "text")
    assert "".join(block["text"] for block in sent if block["type"] == "text") == (said if said.strip() else "")


def words_of(text: str) -> list[str]:
    return text.split()


CHAT_FIELDS = words_of("""
    model messages tools tool_choice stop temperature top_p top_k stream user n seed reasoning_effort thinking
    max_tokens max_completion_tokens response_format parallel_tool_calls metadata logit_bias
""")
MESSAGES_FIELDS = words_of("""
    model messages system max_tokens tools tool_choice stop_sequences temperature top_p top_k stream metadata
    thinking output_config output_format container
""")
INNER = words_of("""
    role content type text image_url url file file_data file_id tool_calls tool_call_id id function name arguments
    parameters thinking_blocks signature source media_type data tool_use_id input input_schema cache_control
    json_schema schema allowed_tools mode tools budget_tokens effort format title
""")
WORDS = words_of("""
    user assistant system developer tool text image image_url file document tool_use tool_result thinking function
    auto any none required json_schema json_object enabled adaptive base64 url content high
    data:image/png;base64,AA https://a/b
""")
odd = st.recursive(
    scalars | st.sampled_from(WORDS) | st.just("{}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=12,
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"]), "content": odd},
    optional={
        "tool_calls": odd,
        "tool_call_id": odd,
        "thinking_blocks": odd,
    },
)
drops = st.booleans()


def bodies(fields: list[str]) -> st.SearchStrategy[bytes]:
    some = st.dictionaries(st.sampled_from(fields), odd, max_size=6)
    with_turns = st.builds(
        lambda rest, said: {"max_tokens": 9, **rest, "messages": said}, some, st.lists(turns, min_size=1, max_size=3)
    )
    return st.one_of(st.binary(max_size=40), st.builds(lambda value: json.dumps(value).encode(), some | with_turns))


@given(bodies(CHAT_FIELDS), drops, st.booleans())
def test_no_chat_body_breaks_anything(asked: bytes, drop: bool, adaptive: bool) -> None:
    try:
        made = to_messages(asked, model="m", max_tokens_default=4000, drop_params=drop, adaptive_thinking=adaptive)
    except BadRequest:
        return
    assert loads(made)["messages"]


@given(bodies(MESSAGES_FIELDS), drops, st.booleans())
def test_no_messages_body_breaks_anything(asked: bytes, drop: bool, reasoning: bool) -> None:
    try:
        made = to_chat(
            asked, model="m", cap_field="max_tokens", drop_params=drop, reasoning=reasoning, inject_usage=True
        )
    except BadRequest:
        return
    assert loads(made)["messages"]


@pytest.mark.parametrize("opening", [b"[", b'{"messages":', b'{"messages":[{"role":"user","content":[{"type":'])
def test_nesting_without_end_is_a_bad_request(opening: bytes) -> None:
    deep = opening + b"[" * 100_000
    with pytest.raises(BadRequest):
        to_messages(deep, model="m", max_tokens_default=1, drop_params=True)
    with pytest.raises(BadRequest):
        to_chat(deep, model="m", cap_field="max_tokens", drop_params=True, reasoning=True, inject_usage=True)
    with pytest.raises(Untranslatable):
        to_chat_reply(deep, model="m")
    with pytest.raises(Untranslatable):
        to_message_reply(deep, model="m")


def test_deep_but_whole_values_break_nothing_either() -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    for asked in (
        b'{"max_tokens":5,"messages":[{"role":"user","content":"x"}],"seed":' + deep + b"}",
        b'{"max_tokens":5,"messages":[{"role":"user","content":"x"}],"n":' + deep + b"}",
        b'{"max_tokens":5,"messages":[{"role":"user","content":"x"}],"speed":' + deep + b"}",
    ):
        with pytest.raises(BadRequest):
            to_messages(asked, model="m", max_tokens_default=1, drop_params=False)
        with pytest.raises(BadRequest):
            to_chat(asked, model="m", cap_field="max_tokens", drop_params=False, reasoning=True, inject_usage=True)


@pytest.mark.parametrize("text", [rb'"\ud800"', rb'"\udc00x"'])
def test_half_characters_are_a_bad_request(text: bytes) -> None:
    asked = b'{"max_tokens":5,"messages":[{"role":"user","content":' + text + b"}]}"
    with pytest.raises(BadRequest):
        to_messages(asked, model="m", max_tokens_default=1, drop_params=False)
    with pytest.raises(BadRequest):
        to_chat(asked, model="m", cap_field="max_tokens", drop_params=False, reasoning=True, inject_usage=True)


claude_odd = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
                "ping",
                "error",
            ]
        )
    },
    optional={
        "index": st.integers(0, 2),
        "delta": odd,
        "content_block": odd,
        "message": odd,
        "usage": odd,
        "error": odd,
    },
)
chat_odd = st.dictionaries(
    st.sampled_from(["choices", "usage", "error", "id"]),
    odd | st.lists(st.fixed_dictionaries({"index": st.just(0), "delta": odd}), max_size=2),
    max_size=3,
)


@given(st.lists(claude_odd, max_size=8), st.binary(max_size=20))
def test_no_stream_of_claudes_breaks_anything(events: list[dict[str, Any]], noise: bytes) -> None:
    stream = ChatStream(model="m", include_usage=True)
    try:
        run(stream.feed, [claude_sse(*events), b"data: " + noise + b"\n\n"])
    except Untranslatable:
        pass
    assert not (stream.done and stream.failed)


@given(st.lists(chat_odd, max_size=8), st.binary(max_size=20))
def test_no_chat_stream_breaks_anything(chunks: list[dict[str, Any]], noise: bytes) -> None:
    stream = MessageStream(model="m", message_id="msg_1")
    try:
        run(stream.feed, [chat_sse(*chunks, done=False), b"data: " + noise + b"\n\n"])
        stream.end()
    except Untranslatable:
        pass
    assert not (stream.done and stream.failed)


@given(st.binary(max_size=40) | st.builds(lambda value: json.dumps(value).encode(), odd))
def test_no_reply_breaks_anything(reply: bytes) -> None:
    for translate in (to_chat_reply, to_message_reply):
        try:
            assert loads(translate(reply, model="m"))
        except Untranslatable:
            pass
