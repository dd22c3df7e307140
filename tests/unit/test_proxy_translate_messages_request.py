"""A caller speaks Messages, the deployment speaks chat completions: what is asked."""

from typing import Any

import pytest

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.translate import to_chat
from tests.unit.translate_driver import body, loads

HELLO = [{"role": "user", "content": "hello"}]
TIME = {"name": "time", "description": "The time.", "input_schema": {"type": "object"}, "cache_control": {"type": "e"}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def asked(
    *,
    drop: bool = False,
    reasoning: bool = False,
    cap_field: str = "max_tokens",
    model: str | None = "gpt-dep",
    inject: bool = True,
    **fields: Any,
) -> Any:
    sent = {"messages": HELLO, "max_tokens": 64, "model": "any", **fields}
    made = to_chat(
        body(**sent), model=model, cap_field=cap_field, drop_params=drop, reasoning=reasoning, inject_usage=inject
    )
    return loads(made)


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        asked(**fields)
    return caught.value


def test_the_smallest_request() -> None:
    expected = {"model": "gpt-dep", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 64}
    assert asked() == expected
    made = asked(cap_field="max_completion_tokens", model=None)
    assert (made["max_completion_tokens"], made["model"]) == (64, "any")
    assert "max_tokens" not in made


def test_the_system_prompt_is_one_message() -> None:
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=0a1b2;"},
        {"type": "text", "text": "Be terse.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be kind."},
    ]
    assert asked(system=system)["messages"][0] == {"role": "system", "content": "Be terse.\n\nBe kind."}
    assert asked(system="x-anthropic-billing-header: cch=0;\nBe terse.")["messages"][0]["content"] == "Be terse."
    assert asked(system="Be terse.")["messages"][0] == {"role": "system", "content": "Be terse."}
    assert asked(system=[])["messages"][0]["role"] == "user"
    later = [*HELLO, {"role": "system", "content": [{"type": "text", "text": "Now shout."}]}]
    assert asked(messages=later)["messages"][1] == {"role": "system", "content": "Now shout."}


def test_a_round_of_tools_with_a_picture_in_the_result() -> None:
    made = asked(
        messages=[
            *HELLO,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "Let me "},
                    {"type": "text", "text": "look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "see", "input": {"at": "Kiel"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "so?"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "text", "text": "a"}, PNG, {"type": "text", "text": "b"}],
                    },
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": "noon", "is_error": False},
                    {"type": "tool_result", "tool_use_id": "toolu_3"},
                ],
            },
        ]
    )
    assert made["messages"][1] == {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "see", "arguments": '{"at": "Kiel"}'}},
            {"id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }
    first, second, third, said = made["messages"][2:]
    assert (first["role"], first["tool_call_id"]) == ("tool", "toolu_1")
    assert first["content"].startswith("a\nb\n")
    assert second == {"role": "tool", "tool_call_id": "toolu_2", "content": "noon"}
    assert third == {"role": "tool", "tool_call_id": "toolu_3", "content": ""}
    assert said["role"] == "user"
    assert said["content"][1:] == [PNG_PART, {"type": "text", "text": "so?"}]
    assert "toolu_1" in said["content"][0]["text"]


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (PNG, [PNG_PART]),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}],
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi"}},
            [{"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi"}}],
        ),
        ({"type": "document", "title": "T", "source": {"type": "text", "data": "words"}}, "T\n\nwords"),
        ({"type": "document", "source": {"type": "content", "content": "words"}}, "words"),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "w"}, PNG]}},
            [{"type": "text", "text": "w"}, PNG_PART],
        ),
        ({"type": "text", "text": "hi"}, "hi"),
    ],
)
def test_blocks_of_a_user(block: dict[str, Any], parts: object) -> None:
    assert asked(messages=[{"role": "user", "content": [block]}])["messages"] == [{"role": "user", "content": parts}]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "image"},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "document"}]}},
        {"type": "search_result", "content": [], "source": "a", "title": "b"},
        {"type": "server_tool_use", "id": "a", "name": "web_search", "input": {}},
        {"type": "tool_result"},
        {"type": "text"},
    ],
)
def test_blocks_that_chat_cannot_hold_are_refused_even_if_parameters_are_dropped(block: dict[str, Any]) -> None:
    assert refused(messages=[{"role": "user", "content": [block]}], drop=True).param == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "time", "disable_parallel_tool_use": True},
            {"tool_choice": {"type": "function", "function": {"name": "time"}}, "parallel_tool_calls": False},
        ),
    ],
)
def test_tools(choice: object, expected: dict[str, Any]) -> None:
    made = asked(tools=[TIME, {"type": "custom", "name": "x", "strict": True, "input_schema": {}}], tool_choice=choice)
    parameters = {"type": "object", "properties": {}}
    assert made["tools"] == [
        {"type": "function", "function": {"name": "time", "description": "The time.", "parameters": parameters}},
        {"type": "function", "function": {"name": "x", "parameters": parameters, "strict": True}},
    ]
    assert {name: made[name] for name in made if name in ("tool_choice", "parallel_tool_calls")} == expected


def test_tools_of_anthropics_are_refused_by_name() -> None:
    error = refused(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}], drop=True)
    assert error.code == "unsupported_parameter"
    assert "web_search_20250305" in str(error)


def test_parameters_that_have_a_counterpart() -> None:
    made = asked(
        stop_sequences=["a", "b"],
        temperature=0.2,
        top_p=0.9,
        stream=True,
        metadata={"user_id": "u" * 100},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert {name: made[name] for name in made if name not in ("messages", "model", "max_tokens")} == {
        "stop": ["a", "b"],
        "temperature": 0.2,
        "top_p": 0.9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "u" * 64,
        "response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object"}}},
    }
    assert "stream_options" not in asked(stream=True, inject=False)
    assert "stream_options" not in asked(stream=False)


def test_harmless_parameters_pass_silently() -> None:
    assert asked() == asked(
        service_tier="auto",
        context_management={"edits": []},
        cache_control={"type": "ephemeral"},
        metadata={},
        speed="standard",
        tool_choice={"type": "auto"},
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_k", 5), ("container", "c"), ("mcp_servers", [{}]), ("inference_geo", "us"), ("speed", "fast"), ("new", 1)],
)
def test_what_has_no_counterpart_is_refused_by_name_or_dropped(field: str, value: Any) -> None:
    error = refused(**{field: value})
    assert (error.code, error.param) == ("unsupported_parameter", field)
    assert asked(drop=True, **{field: value}) == asked()


def test_at_most_four_stop_sequences() -> None:
    assert refused(stop_sequences=list("abcde")).param == "stop_sequences"
    assert asked(stop_sequences=list("abcde"), drop=True)["stop"] == list("abcd")


@pytest.mark.parametrize(("field", "value"), [("temperature", 0.5), ("top_p", 0.9)])
def test_a_reasoning_model_takes_no_sampling(field: str, value: Any) -> None:
    one: dict[str, Any] = {field: 1}
    assert refused(reasoning=True, **{field: value}).param == field
    assert asked(reasoning=True, drop=True, **{field: value}) == asked()
    assert asked(reasoning=True, **one) == asked()


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, "high"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}}, None),
        ({"output_config": {"effort": "xhigh"}, "thinking": {"type": "adaptive"}}, "high"),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "enabled", "budget_tokens": 31999}}, "low"),
        ({}, None),
    ],
)
def test_thinking_is_an_effort_for_reasoning_models_and_nothing_for_others(
    fields: dict[str, Any], effort: str | None
) -> None:
    assert asked(reasoning=True, **fields).get("reasoning_effort") == effort
    assert asked(**fields) == asked()


def test_reasoning_models_that_take_tools_only_without_an_effort() -> None:
    def effort(**fields: Any) -> object:
        sent = {"messages": HELLO, "max_tokens": 64, "thinking": {"type": "enabled", "budget_tokens": 9999}, **fields}
        made = to_chat(
            body(**sent),
            model="m",
            cap_field="max_completion_tokens",
            drop_params=False,
            reasoning=True,
            inject_usage=True,
            effort_with_tools=False,
        )
        return loads(made)["reasoning_effort"]

    assert effort() == "medium"
    assert effort(tools=[TIME]) == "none"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": 1}]}]},
        {"messages": [{"role": "assistant", "content": [PNG]}]},
        {"system": [PNG]},
        {"max_tokens": None},
        {"max_tokens": 0},
        {"max_tokens": 10**30},
        {"temperature": 1.5},
        {"tool_choice": {"type": "any"}},
        {"tool_choice": {"type": "some"}},
        {"tools": [TIME], "tool_choice": {"type": "tool", "name": "other"}},
        {"tools": [{"input_schema": {}}]},
        {"thinking": {"type": "enabled"}},
        {"output_config": {"effort": "very"}},
        {"output_config": {"format": {"type": "grammar"}}},
    ],
)
def test_malformed_requests(fields: dict[str, Any]) -> None:
    refused(drop=True, reasoning=True, **fields)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{", b'{"messages":1}', b"\xff"])
def test_what_is_no_request(text: bytes) -> None:
    with pytest.raises(BadRequest):
        to_chat(text, model="m", cap_field="max_tokens", drop_params=True, reasoning=False, inject_usage=True)
