"""A caller speaks chat completions, the deployment is Claude: what is asked."""

from base64 import b64encode
from typing import Any

import pytest

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.translate import to_messages
from tests.unit.translate_driver import body, loads

HELLO = [{"role": "user", "content": "hello"}]
PDF = b64encode(b"%PDF-1.7 tiny").decode()
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "strict": True,
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def asked(*, drop: bool = False, adaptive: bool = False, **fields: Any) -> Any:
    fields.setdefault("messages", HELLO)
    made = to_messages(
        body(model="any", **fields),
        model="sonnet-dep",
        max_tokens_default=4096,
        drop_params=drop,
        adaptive_thinking=adaptive,
    )
    return loads(made)


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        asked(**fields)
    return caught.value


def test_the_smallest_request() -> None:
    assert asked() == {
        "model": "sonnet-dep",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }


def test_system_and_developer_messages_become_the_system_prompt() -> None:
    made = asked(
        messages=[
            {"role": "system", "content": "Be terse."},
            *HELLO,
            {
                "role": "developer",
                "content": [
                    {
                        "type": "text",
                        "text": "Be kind.",
                        "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "x"},
                    }
                ],
            },
        ]
    )
    assert made["system"] == [
        {"type": "text", "text": "Be terse."},
        {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert [turn["role"] for turn in made["messages"]] == ["user"]


def test_a_round_of_tools() -> None:
    made = asked(
        tools=[WEATHER],
        messages=[
            *HELLO,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"place": "Kiel"}'},
                    },
                    {"id": "call.2", "type": "function", "function": {"name": "weather", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            {
                "role": "tool",
                "tool_call_id": "call.2",
                "content": [
                    {"type": "text", "text": "a map"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {"role": "user", "content": "so?"},
        ],
    )
    call, answer = made["messages"][1:]
    assert call == {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"place": "Kiel"}},
            {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
        ],
    }
    assert answer["role"] == "user"
    assert answer["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
        {
            "type": "tool_result",
            "tool_use_id": "call_2",
            "content": [
                {"type": "text", "text": "a map"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            ],
        },
        {"type": "text", "text": "so?"},
    ]


def test_turns_of_the_same_role_become_one_and_empty_ones_none() -> None:
    made = asked(
        messages=[
            {"role": "user", "content": "a"},
            {"role": "user", "content": " "},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "It is: "},
        ]
    )
    assert made["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": text} for text in "abc"]},
        {"role": "assistant", "content": [{"type": "text", "text": "It is:"}]},
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:application/pdf;base64,{PDF}"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": PDF}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain;base64," + b64encode("grün".encode()).decode()}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "grün"}},
        ),
    ],
)
def test_pictures_and_files(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert asked(messages=[{"role": "user", "content": [part]}])["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,%%%"}},
        {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url"},
        {"type": "text"},
    ],
)
def test_content_that_claude_cannot_read_is_refused_even_if_parameters_are_dropped(part: dict[str, Any]) -> None:
    error = refused(messages=[{"role": "user", "content": [part]}], drop=True)
    assert error.param == "messages[0].content[0]"


def test_thinking_goes_back_with_its_signature_and_unsigned_thinking_stays_behind() -> None:
    made = asked(
        messages=[
            *HELLO,
            {
                "role": "assistant",
                "content": "42",
                "reasoning_content": "six times seven",
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "six times seven", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "opaque"},
                    {"type": "thinking", "thinking": "unsigned", "signature": ""},
                ],
            },
            {"role": "user", "content": "why?"},
        ]
    )
    assert made["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "six times seven", "signature": "sig"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": "42"},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", True, {"type": "any"}),
        ({"type": "function", "function": {"name": "time"}}, None, {"type": "tool", "name": "time"}),
    ],
)
def test_tool_choice(choice: object, parallel: bool | None, expected: object) -> None:
    made = asked(tools=[WEATHER, TIME], tool_choice=choice, parallel_tool_calls=parallel)
    assert made.get("tool_choice") == expected
    assert made["tools"] == [
        {
            "name": "weather",
            "description": "The weather of a place",
            "input_schema": WEATHER["function"]["parameters"],  # type: ignore[index]
        },
        {"name": "time", "input_schema": {"type": "object"}},
    ]


def test_allowed_tools_are_the_only_ones_sent() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}
    made = asked(tools=[WEATHER, TIME], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool["name"] for tool in made["tools"]] == ["time"]
    assert made["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
        {"tools": [{"type": "function", "function": {"name": "json_response"}}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tools": [WEATHER], "tool_choice": "sometimes"},
        {"tool_choice": "required"},
        {"response_format": {"type": "grammar"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}},
    ],
)
def test_tools_that_cannot_be_expressed_are_refused(fields: dict[str, Any]) -> None:
    assert refused(drop=True, **fields).param is not None


def test_structured_output_is_a_forced_tool() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "description": "An a."}}
    made = asked(response_format=wanted)
    assert made["tool_choice"] == {"type": "tool", "name": "json_response"}
    (tool,) = made["tools"]
    assert tool["input_schema"] == schema
    assert tool["description"].endswith("An a.")
    assert "tools" not in asked(response_format={"type": "text"})
    assert asked(response_format={"type": "json_object"})["tools"][0]["input_schema"]["additionalProperties"] is True


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [
        (None, {"type": "any"}, ["time", "json_response"]),
        ("none", {"type": "tool", "name": "json_response"}, ["time", "json_response"]),
        ("required", {"type": "any"}, ["time"]),
    ],
)
def test_structured_output_beside_tools(choice: object, expected: object, names: list[str]) -> None:
    made = asked(tools=[TIME], tool_choice=choice, response_format={"type": "json_object"})
    assert made["tool_choice"] == expected
    assert [tool["name"] for tool in made["tools"]] == names


def test_parameters_that_have_a_counterpart() -> None:
    made = asked(
        max_completion_tokens=100,
        max_tokens=50,
        stop=["END"],
        temperature=0.3,
        top_p=0.9,
        top_k=40,
        stream=True,
        user="u-1",
    )
    assert {name: made[name] for name in made if name not in ("messages", "model")} == {
        "max_tokens": 100,
        "stop_sequences": ["END"],
        "temperature": 0.3,
        "top_p": 0.9,
        "top_k": 40,
        "stream": True,
        "metadata": {"user_id": "u-1"},
    }
    assert asked(safety_identifier="f00f-12")["metadata"] == {"user_id": "f00f-12"}
    assert asked(stop="END", max_tokens=7)["stop_sequences"] == ["END"]
    assert asked(max_tokens=7)["max_tokens"] == 7


@pytest.mark.parametrize("user", ["ann@example.com", "+49 431 123456", "4314567890", "x" * 257, "", "a b"])
def test_a_user_who_could_be_recognized_is_not_named(user: str) -> None:
    assert asked(user=user) == asked()


def test_harmless_parameters_pass_silently() -> None:
    plain = asked()
    assert plain == asked(
        n=1,
        presence_penalty=0,
        frequency_penalty=0.0,
        logprobs=False,
        logit_bias={},
        store=True,
        metadata={"a": "b"},
        stream_options={"include_usage": True},
        service_tier="auto",
        modalities=["text"],
        seed=None,
        prompt_cache_key="k",
        verbosity="medium",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("seed", 1),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("logit_bias", {"1": 2}),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("audio", {"voice": "alloy", "format": "mp3"}),
        ("modalities", ["text", "audio"]),
        ("prediction", {"type": "content", "content": "x"}),
        ("service_tier", "flex"),
        ("web_search_options", {}),
        ("moderation", {}),
        ("verbosity", "low"),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("temperature", 1.5),
        ("stop", ["\n"]),
        ("what_is_this", 1),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name_or_dropped(field: str, value: Any) -> None:
    error = refused(**{field: value})
    assert (error.code, error.param) == ("unsupported_parameter", field)
    assert "drop_params" in str(error)
    assert asked(drop=True, **{field: value}) == asked()


@pytest.mark.parametrize(
    ("effort", "cap", "budget"),
    [
        ("none", 100_000, None),
        ("minimal", 100_000, 1024),
        ("low", 100_000, 2048),
        ("medium", 100_000, 8192),
        ("high", 100_000, 16384),
        ("xhigh", 100_000, 32768),
        ("max", 200_000, 65536),
        ("max", 100_000, 50_000),
        ("high", 4096, 2048),
        ("high", 2047, None),
    ],
)
def test_an_effort_is_a_budget_that_leaves_room_for_the_answer(effort: str, cap: int, budget: int | None) -> None:
    made = asked(reasoning_effort=effort, max_tokens=cap)
    expected = None if budget is None else {"type": "enabled", "budget_tokens": budget}
    assert made.get("thinking") == expected
    assert made["max_tokens"] == cap


def test_models_that_set_their_own_budget_get_the_effort() -> None:
    made = asked(reasoning_effort="minimal", adaptive=True)
    assert (made["thinking"], made["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})
    assert asked(reasoning_effort="none", adaptive=True)["thinking"] == {"type": "disabled"}


def test_thinking_of_the_callers_goes_out_as_it_is() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    assert asked(thinking=thinking, reasoning_effort="high")["thinking"] == thinking


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 0.2}, "temperature"),
        ({"top_k": 5}, "top_k"),
        ({"response_format": {"type": "json_object"}}, "reasoning_effort"),
        ({"tools": [TIME], "tool_choice": "required"}, "reasoning_effort"),
    ],
)
def test_what_does_not_go_together_with_thinking(fields: dict[str, Any], param: str) -> None:
    assert refused(reasoning_effort="low", **fields).param == param
    made = asked(reasoning_effort="low", drop=True, **fields)
    if param == "reasoning_effort":
        assert "thinking" not in made
    else:
        assert made["thinking"]["type"] == "enabled"
        assert param not in made
    assert asked(reasoning_effort="low", temperature=1)["temperature"] == 1


def test_no_budget_in_the_middle_of_tool_calls_that_showed_no_thinking() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    said: dict[str, Any] = {"role": "assistant", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
    assert "thinking" not in asked(reasoning_effort="low", tools=[TIME], messages=[*HELLO, said, result])
    shown = {**said, "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]}
    assert "thinking" in asked(reasoning_effort="low", tools=[TIME], messages=[*HELLO, shown, result])
    over = [*HELLO, said, result, {"role": "assistant", "content": "noon"}, *HELLO]
    assert "thinking" in asked(reasoning_effort="low", tools=[TIME], messages=over)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "function", "name": "f", "content": "x"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]}]},
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}]},
            ]
        },
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}]},
        {"messages": "hello"},
        {"max_tokens": 0},
        {"max_completion_tokens": 10**30},
        {"reasoning_effort": "very"},
        {"top_k": -1},
        {"stream": "yes"},
    ],
)
def test_malformed_requests(fields: dict[str, Any]) -> None:
    refused(drop=True, **fields)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{", b'{"messages":1}', b"\xff", b'{"x":"\xff","messages":[]}'])
def test_what_is_no_request(text: bytes) -> None:
    with pytest.raises(BadRequest):
        to_messages(text, model="m", max_tokens_default=1, drop_params=True)
