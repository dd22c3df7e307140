"""The simulator's chat beyond plain text: tools, structured output, sound, tiers, filters; and legacy completions."""

import base64
import json
import struct
from typing import Any

import pytest

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import CHAT, KEY, VERSION, FixedClock, Reply, ask, chat, served

V1 = "/openai/v1/chat/completions"
MODELS = "/models/chat/completions"
MODELS_VERSION = "api-version=2024-05-01-preview"
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "minItems": 2},
    },
    "$defs": {"day": {"type": "object", "properties": {"n": {"type": "integer"}, "hot": {"type": "boolean"}}}},
}
FITTING = {"city": "launder", "unit": "c", "days": [{"n": 1, "hot": True}] * 2}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "time"}},
]


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", width, height)
    return "data:image/png;base64," + base64.b64encode(head + b"\0" * 40).decode()


def deltas(reply: Reply) -> list[Any]:
    return [choice.get("delta", {}) for event in reply.events[:-1] for choice in event["choices"]]


async def last_usage(simulator: Simulator) -> Any:
    return (await served(simulator))["calls"][-1]["usage"]


async def test_tools_are_called_with_arguments_that_fit(simulator: Simulator) -> None:
    body = (await ask(simulator, body=chat("[[sim tool=3]]", tools=TOOLS))).json
    (choice,) = body["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    calls = choice["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "time", "weather"]
    assert json.loads(calls[0]["function"]["arguments"]) == FITTING
    assert len({call["id"] for call in calls}) == 3


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", ["weather"]),
        ({"type": "function", "function": {"name": "time"}}, ["time"]),
        ("auto", []),
        ("none", []),
    ],
)
async def test_a_tool_choice_forces_a_call(simulator: Simulator, choice: object, names: list[str]) -> None:
    body = (await ask(simulator, body=chat(tools=TOOLS, tool_choice=choice))).json
    calls = body["choices"][0]["message"].get("tool_calls", [])
    assert [call["function"]["name"] for call in calls] == names


async def test_tool_calls_stream_in_pieces(simulator: Simulator) -> None:
    reply = await ask(simulator, body=chat("[[sim tool=2]]", tools=TOOLS, stream=True))
    parts = [one for delta in deltas(reply) for one in delta.get("tool_calls", [])]
    assert [part["function"]["name"] for part in parts if "id" in part] == ["weather", "time"]
    texts = ["".join(p["function"]["arguments"] for p in parts if p["index"] == i) for i in (0, 1)]
    assert [json.loads(text) for text in texts] == [FITTING, {}]
    finish = [c["finish_reason"] for e in reply.events[:-1] for c in e["choices"] if c["finish_reason"]]
    assert finish == ["tool_calls"]


async def test_a_tools_answer_needs_its_call(simulator: Simulator) -> None:
    orphan = {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "1", "tool_call_id": "x"}]}
    assert (await ask(simulator, body=orphan)).status == 400
    called = {"id": "x", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    orphan["messages"].insert(1, {"role": "assistant", "tool_calls": [called]})  # type: ignore[dict-item]
    assert (await ask(simulator, body=orphan)).status == 200
    assert (await ask(simulator, body=chat(tool_choice="auto"))).json["error"]["param"] == "tool_choice"


async def test_structured_output_fits_its_schema(simulator: Simulator) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    plain = (await ask(simulator, body=chat(response_format=form))).json
    assert json.loads(plain["choices"][0]["message"]["content"]) == FITTING
    reply = await ask(simulator, body=chat(response_format=form, stream=True))
    assert json.loads("".join(delta.get("content", "") for delta in deltas(reply))) == FITTING
    free = (await ask(simulator, body=chat(response_format={"type": "json_object"}))).json
    assert json.loads(free["choices"][0]["message"]["content"])


async def test_refusals_and_filters(simulator: Simulator) -> None:
    refused = (await ask(simulator, body=chat("[[sim refuse=1]]"))).json["choices"][0]
    assert refused["message"]["content"] is None
    assert refused["message"]["refusal"].startswith("I'm sorry")
    cut = (await ask(simulator, body=chat("[[sim filter=2]]"))).json["choices"][0]
    assert (cut["finish_reason"], cut["content_filter_results"]["violence"]["filtered"]) == ("content_filter", True)
    prompt = await ask(simulator, body=chat("[[sim filter=1 prompt=77]]"))
    assert (prompt.status, prompt.json["error"]["code"]) == (400, "content_filter")
    billed = (await served(simulator))["calls"][-1]
    assert (billed["status"], billed["usage"]) == (400, {"prompt": 77})


async def test_a_filter_that_runs_apart_annotates_without_a_delta(simulator: Simulator) -> None:
    events = (await ask(simulator, body=chat("[[sim async_filter=1]]", stream=True))).events[:-1]
    apart = [event for event in events if event["choices"] and "delta" not in event["choices"][0]]
    assert [(event["id"], event["model"], event["object"]) for event in apart] == [("", "", "")]
    text = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"] if "delta" in c)
    assert apart[0]["choices"][0]["content_filter_offsets"]["end_offset"] == len(text)


async def test_streams_are_cut_joined_and_commented_as_steered(simulator: Simulator) -> None:
    whole = (await ask(simulator, body=chat("[[sim prompt=5]]", stream=True))).body
    tiny = await ask(simulator, body=chat("[[sim prompt=5 tiny=1]]", stream=True))
    assert {len(part) for part in tiny.parts} == {0, 1}
    assert len(tiny.body) == len(whole)
    joined = await ask(simulator, body=chat("[[sim prompt=5 join=5]]", stream=True))
    assert len(joined.parts) == -(-whole.count(b"\n\n") // 5) + 1
    commented = await ask(simulator, body=chat("[[sim prompt=5 comments=1]]", stream=True))
    assert commented.body.count(b": keep-alive\n\n") == whole.count(b"\n\n")


@pytest.mark.parametrize(
    ("fields", "marker", "tier"),
    [
        ({}, "", ""),
        ({"service_tier": "flex"}, "", "flex"),
        ({"service_tier": "priority"}, "", "priority"),
        ({"service_tier": "priority"}, "tier=0", ""),
        ({"service_tier": "auto"}, "tier=2", "priority"),
    ],
)
async def test_the_tier_that_served_is_told_and_billed(
    simulator: Simulator, fields: dict[str, Any], marker: str, tier: str
) -> None:
    text = f"[[sim {marker}]]" if marker else "hi"
    body = (await ask(simulator, body=chat(text, **fields))).json
    assert body["service_tier"] == (tier or "default")
    assert (await last_usage(simulator)).get("service_tier", "") == tier
    reply = await ask(simulator, body=chat(text, stream=True, **fields))
    told = {event.get("service_tier") for event in reply.events[1:-1]}
    assert told == ({tier or "default"} if fields else {None})
    assert (await ask(simulator, body=chat(service_tier="gold"))).status == 400


async def test_grok_tells_reasoning_beside_completion(simulator: Simulator) -> None:
    steered = chat("[[sim prompt=10 completion=30 reasoning=20]]", model="grok-4.3")
    usage = (await ask(simulator, V1, steered)).json["usage"]
    assert (usage["completion_tokens"], usage["total_tokens"]) == (10, 40)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 20
    assert await last_usage(simulator) == {"prompt": 10, "completion": 30, "reasoning": 20}
    marked = chat("[[sim prompt=10 completion=30 reasoning=20 grok=1]]", model="gpt-4o")
    assert (await ask(simulator, V1, marked)).json["usage"]["completion_tokens"] == 10


async def test_sound_in_and_out_is_counted_apart(simulator: Simulator) -> None:
    heard = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "wav"}}
    body = {
        "model": "gpt-audio",
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "[[sim completion=40]]"}, heard]}],
    }
    reply = (await ask(simulator, V1, body)).json
    message = reply["choices"][0]["message"]
    assert message["content"] is None
    assert base64.b64decode(message["audio"]["data"])
    usage = await last_usage(simulator)
    assert (usage["audio_prompt"], usage["audio_completion"]) == (15, 30)
    assert reply["usage"]["prompt_tokens_details"]["audio_tokens"] == 15
    assert reply["usage"]["completion_tokens_details"]["audio_tokens"] == 30
    reply = await ask(simulator, V1, {**body, "stream": True})
    spoken = [delta["audio"] for delta in deltas(reply) if "audio" in delta]
    assert any("data" in part for part in spoken)
    assert any("expires_at" in part for part in spoken)


@pytest.mark.parametrize(
    ("image", "tokens"),
    [
        ({"url": "https://a.example/b.png"}, 85),
        ({"url": "https://a.example/b.png", "detail": "high"}, 765),
        ({"url": png(4096, 4096), "detail": "low"}, 85),
        ({"url": png(512, 512)}, 255),
        ({"url": png(2048, 4096), "detail": "high"}, 1105),
    ],
)
async def test_images_are_counted_by_detail_and_size(simulator: Simulator, image: object, tokens: int) -> None:
    content = [{"type": "image_url", "image_url": image}]
    await ask(simulator, body={"messages": [{"role": "user", "content": content}]})
    assert (await last_usage(simulator))["prompt"] == tokens + 3


async def test_models_minds_extra_parameters(simulator: Simulator) -> None:
    body = chat(model="phi-4", safe_prompt=True, seed=3)
    for wish, status in ((None, 400), ("error", 400), ("drop", 200), ("pass-through", 200), ("odd", 400)):
        headers = KEY if wish is None else {**KEY, "extra-parameters": wish}
        reply = await ask(simulator, MODELS, body, query=MODELS_VERSION, headers=headers)
        assert reply.status == status
    assert (await ask(simulator, V1, body)).status == 200


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
async def test_serverless_takes_its_model_from_the_host(simulator: Simulator, path: str) -> None:
    key = {"authorization": "Bearer sim-foundry-key"}
    host = {**key, "host": "grok-3-xyz.eastus2.models.ai.azure.com"}
    assert (await ask(simulator, path, chat(), query="", headers=host)).json["model"] == "grok-3"
    assert (await ask(simulator, path, chat(model="phi-4"), query="", headers=key)).json["model"] == "Phi-4"
    assert (await ask(simulator, path, chat(), query="", headers=key)).json["model"] == "mistral-large-3"
    gone = {**key, "host": "missing.eastus2.models.ai.azure.com"}
    reply = await ask(simulator, path, chat(), query="", headers=gone)
    assert (reply.status, reply.json) == (404, {"status": "Serverless endpoint not found"})
    assert (await ask(simulator, path, chat(), query="")).status == 401
    assert {call["surface"] for call in (await served(simulator))["calls"]} == {"serverless"}


@pytest.mark.parametrize("name", ["gpt-5-codex", "o3-pro", "gpt-image-1", "whisper", "cohere-rerank-v4.0-pro"])
async def test_models_that_do_not_chat(simulator: Simulator, name: str) -> None:
    reply = await ask(simulator, V1, chat(model=name))
    assert (reply.status, reply.json["error"]["code"]) == (400, "OperationNotSupported")


async def test_legacy_completions(simulator: Simulator) -> None:
    path = "/openai/deployments/gpt-35-turbo-instruct/completions"
    body = (await ask(simulator, path, {"prompt": "Once", "max_tokens": 4, "n": 2, "best_of": 3})).json
    assert body["object"] == "text_completion"
    assert [choice["text"] for choice in body["choices"]] == ["The ladle tips and"] * 2
    assert body["usage"]["completion_tokens"] == 12
    stream = {"include_usage": True}
    reply = await ask(simulator, path, {"prompt": ["a", "b"], "stream": True, "stream_options": stream})
    assert reply.events[0]["choices"] == []
    assert reply.events[-2]["usage"]["completion_tokens"] == 32
    assert reply.events[-1] == "[DONE]"
    assert [call["operation"] for call in (await served(simulator))["calls"]] == ["completions"] * 2
    for wrong in ({"prompt": "a", "best_of": 2, "stream": True}, {"prompt": []}, {"prompt": "a", "max_tokens": 0}):
        assert (await ask(simulator, path, wrong)).status == 400
    assert (await ask(simulator, CHAT.replace("chat/", ""), {"prompt": "a"})).json["error"]["code"] == (
        "OperationNotSupported"
    )


async def test_image_embeddings_and_model_lists(simulator: Simulator) -> None:
    body = {"model": "embed-v-4-0", "input": [{"image": "AAAA"}, {"image": "BBBB", "text": "beta"}]}
    reply = (await ask(simulator, "/models/images/embeddings", body, query=MODELS_VERSION)).json
    assert list(reply) == ["id", "object", "data", "model", "usage"]
    assert len(reply["data"]) == 2
    assert await last_usage(simulator) == {"prompt": 2001, "image_prompt": 2000}
    listed = (await ask(simulator, "/openai/v1/models", method="GET", query="")).json["data"]
    names = {model["id"] for model in listed}
    assert {"gpt-4o-2024-08-06", "claude-sonnet-4-5", "FLUX-1.1-pro"} <= names
    classic = await ask(simulator, "/openai/models", method="GET", query=VERSION)
    assert len(classic.json["data"]) == len(listed)
    one = await ask(simulator, "/openai/v1/models/gpt-4o-2024-08-06", method="GET", query="")
    assert one.json["capabilities"]["chat_completion"] is True
    assert (await ask(simulator, "/openai/v1/models/nothing", method="GET", query="")).status == 404
    assert (await ask(simulator, "/openai/models", method="GET", query="")).status == 404
    assert (await ask(simulator, "/models/info", method="GET", query=MODELS_VERSION)).json["model_name"]
