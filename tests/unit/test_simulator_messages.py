"""The simulator's Claude: messages, streams, tools, thinking, caches, refusals, counting of tokens."""

import json
from typing import Any

import pytest

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import FixedClock, Reply, ask, chat, fault, served

PATH = "/anthropic/v1/messages"
HEADERS = {"x-api-key": "sim-foundry-key", "anthropic-version": "2023-06-01"}
TOOLS = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


async def say(simulator: Simulator, text: object = "Say hi", **fields: Any) -> Reply:
    body = {
        "model": "claude-sonnet-4-5-deployment",
        "max_tokens": 3000,
        "messages": [{"role": "user", "content": text}],
        **fields,
    }
    return await ask(simulator, PATH, body, query="", headers=HEADERS)


def named(reply: Reply) -> list[Any]:
    """The data of a stream whose events are all named as their type."""
    found: list[Any] = []
    for text in reply.body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = text.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


async def test_a_message_counts_cached_tokens_apart(simulator: Simulator) -> None:
    steered = "[[sim prompt=1000 cached=100 cache_write=200 cache_write_1h=300 completion=5]]"
    body = (await say(simulator, steered)).json
    assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", "end_turn")
    assert body["content"] == [{"type": "text", "text": "The ladle tips and bright"}]
    assert body["usage"] == {
        "input_tokens": 400,
        "cache_creation_input_tokens": 500,
        "cache_read_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300},
        "output_tokens": 5,
        "service_tier": "standard",
    }
    (call,) = (await served(simulator))["calls"]
    assert (call["surface"], call["operation"], call["model"]) == ("anthropic", "messages", "claude-sonnet-4-5")
    assert call["usage"] == {
        "prompt": 1000, "cached": 100, "cache_write": 200, "cache_write_1h": 300, "completion": 5,
    }  # fmt: skip


async def test_a_stream_begins_with_usage_and_ends_with_all_of_it(simulator: Simulator) -> None:
    events = named(await say(simulator, "[[sim prompt=50 cached=10 completion=4]]", stream=True))
    assert [event["type"] for event in events] == [
        "message_start", "content_block_start", "ping", *["content_block_delta"] * 4, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert events[0]["message"]["content"] == []
    assert events[-2]["usage"] == {
        "input_tokens": 40, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 10, "output_tokens": 4,
    }  # fmt: skip
    partial = named(await say(simulator, "[[sim partial=1]]", stream=True))
    assert partial[-2]["usage"] == {"output_tokens": 16}
    assert [call["completed"] for call in (await served(simulator))["calls"]] == [True, True]


async def test_tools_are_called_and_their_results_taken(simulator: Simulator) -> None:
    body = (await say(simulator, "[[sim tool=1]]", tools=TOOLS)).json
    assert body["stop_reason"] == "tool_use"
    call = body["content"][-1]
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "weather", {"city": "launder"})
    forced = (await say(simulator, tools=TOOLS, tool_choice={"type": "tool", "name": "weather"})).json
    assert forced["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "5"}]}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": body["content"]},
        {"role": "user", "content": [result]},
    ]
    assert (await say(simulator, messages=turns, tools=TOOLS)).json["stop_reason"] == "end_turn"
    turns[2] = {"role": "user", "content": [{**result, "tool_use_id": "toolu_none"}]}
    assert "tool_use_id" in (await say(simulator, messages=turns, tools=TOOLS)).json["error"]["message"]
    events = named(await say(simulator, "[[sim tool=1]]", tools=TOOLS, stream=True))
    parts = [event["delta"].get("partial_json", "") for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == {"city": "launder"}


async def test_thinking_is_shown_where_it_is_asked_for(simulator: Simulator) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    body = (await say(simulator, thinking=thinking)).json
    assert [block["type"] for block in body["content"]] == ["thinking", "text"]
    assert body["usage"]["output_tokens"] == 16
    events = named(await say(simulator, thinking=thinking, stream=True))
    kinds = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert kinds[:3] == ["thinking_delta", "signature_delta", "text_delta"]
    for wrong in ({"type": "enabled", "budget_tokens": 5}, {"type": "enabled", "budget_tokens": 3000}):
        assert (await say(simulator, thinking=wrong)).status == 400


@pytest.mark.parametrize(
    ("marker", "fields", "reason"),
    [
        ("completion=9", {"max_tokens": 5}, "max_tokens"),
        ("refuse=1", {}, "refusal"),
        ("pause=1", {}, "pause_turn"),
        ("window=1", {}, "model_context_window_exceeded"),
        ("completion=9", {"stop_sequences": ["metal", "tips"]}, "stop_sequence"),
    ],
)
async def test_reasons_to_stop(simulator: Simulator, marker: str, fields: dict[str, Any], reason: str) -> None:
    reply = await say(simulator, f"[[sim {marker}]]", **fields)
    assert (reply.status, reply.json["stop_reason"]) == (200, reason)
    if reason == "stop_sequence":
        assert (reply.json["stop_sequence"], reply.json["content"][0]["text"]) == ("tips", "The ladle ")
        assert reply.json["usage"]["output_tokens"] == 2
    (call,) = (await served(simulator))["calls"]
    assert call["usage"]["completion"] == reply.json["usage"]["output_tokens"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options: Extra inputs are not permitted"),
        ({"n": 2}, "n: Extra inputs are not permitted"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "a"}]}, "first message"),
        ({"temperature": 1.5}, "temperature"),
        (
            {"system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "scope": "x"}}]},
            "system.0.cache_control.ephemeral.scope: Extra inputs are not permitted",
        ),
    ],
)
async def test_bad_requests_in_either_envelope(simulator: Simulator, fields: dict[str, Any], says: str) -> None:
    azure = await say(simulator, **fields)
    assert azure.status == 400
    assert says in azure.json["error"]["message"]
    await ask(simulator, "/_sim/settings", {"claude_errors": "anthropic"}, query="", headers={})
    own = await say(simulator, **fields)
    assert (own.json["type"], own.json["error"]["type"]) == ("error", "invalid_request_error")
    assert own.json["error"]["message"] == azure.json["error"]["message"]
    assert own.json["request_id"].startswith("req_")
    assert (await served(simulator))["total"] == 0


async def test_versions_and_other_models_are_refused(simulator: Simulator) -> None:
    body = {"model": "claude-opus-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
    key = {"x-api-key": "sim-foundry-key"}
    for headers in (key, {**key, "anthropic-version": "newest"}):
        assert (await ask(simulator, PATH, body, query="", headers=headers)).status == 400
    assert (await say(simulator, model="gpt-4o")).json["error"]["code"] == "api_not_supported"
    assert (await say(simulator, model="claude-missing")).json["error"]["code"] == "DeploymentNotFound"
    for path in ("/openai/v1/chat/completions", "/models/chat/completions"):
        reply = await ask(simulator, path, chat(model="claude-opus-4-5"), query="api-version=2024-10-21")
        assert reply.json["error"]["code"] == "api_not_supported"
    models = await ask(simulator, "/anthropic/v1/models", method="GET", query="", headers=HEADERS)
    assert models.status == 404


async def test_tokens_are_counted_and_not_billed(simulator: Simulator) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    fields = {"messages": [{"role": "user", "content": [{"type": "text", "text": "abcd"}, image]}], "system": "abcd"}
    body: dict[str, Any] = {"model": "claude-haiku-4-5", **fields}
    counted = await ask(simulator, PATH + "/count_tokens", body, query="", headers=HEADERS)
    assert counted.json == {"input_tokens": 1339}
    assert (await served(simulator))["total"] == 0
    real = (await say(simulator, **fields)).json["usage"]["input_tokens"]
    assert real == 1339
    wrong = await ask(simulator, PATH + "/count_tokens", {**body, "max_tokens": 5}, query="", headers=HEADERS)
    assert wrong.status == 400


@pytest.mark.parametrize(("events", "billed"), [(2, []), (5, [2]), (99, [16])])
async def test_a_stream_breaks_with_anthropics_error(simulator: Simulator, events: int, billed: list[int]) -> None:
    await fault(simulator, kind="midstream_error", after_events=events, operation="messages")
    found = named(await say(simulator, stream=True))
    assert found[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert [call["usage"]["completion"] for call in (await served(simulator))["calls"]] == billed
