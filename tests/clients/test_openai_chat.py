"""OpenAI's four clients: chat completions, completions, embeddings, models."""

import base64
import json
import struct
from typing import Any

import pydantic
import pytest

from tests.clients.either import each, entered, settle
from tests.clients.openai_clients import FOUR, openai_client
from tests.clients.tape import Tape

PNG_HEAD = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 512, 512, 8, 0, 0, 0, 0, 0)
PICTURE = "data:image/png;base64," + base64.b64encode(PNG_HEAD + bytes(32)).decode()
CHATTING = ["gpt-4o", "gpt-5-mini", "phi-4", "grok", "llama", "claude"]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "pour",
        "description": "Pour metal.",
        "parameters": {"type": "object", "properties": {"heat": {"type": "integer"}}, "required": ["heat"]},
    },
}


class Pour(pydantic.BaseModel):
    heat: int
    grade: str


@pytest.fixture(params=FOUR)
async def client(request: pytest.FixtureRequest, tape: Tape) -> Any:
    async with openai_client(request.param, tape) as made:
        yield made


def say(text: str, **steering: int) -> list[dict[str, Any]]:
    words = " ".join(f"{name}={value}" for name, value in steering.items())
    return [{"role": "user", "content": f"{text} [[sim {words}]]" if words else text}]


@pytest.mark.row("Chat completions")
@pytest.mark.parametrize("model", CHATTING)
async def test_chat(client: Any, model: str) -> None:
    answer = await settle(client.chat.completions.create(model=model, messages=say("Hi", completion=5), max_tokens=9))
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 5


@pytest.mark.row("Chat completions", mode="stream")
@pytest.mark.parametrize("model", CHATTING)
@pytest.mark.parametrize("asks", [False, True], ids=["plain", "with-usage"])
async def test_streamed_chat(client: Any, model: str, asks: bool, tape: Tape) -> None:
    options = {"stream_options": {"include_usage": True}} if asks else {}
    stream = await settle(
        client.chat.completions.create(
            model=model, messages=say("Hi", completion=5), max_tokens=9, stream=True, **options
        )
    )
    chunks = [chunk async for chunk in tape.each(stream)]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert len(text.split()) == 5
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    told = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(told) == asks


@pytest.mark.row("Chat completions: tools")
@pytest.mark.parametrize("model", CHATTING)
async def test_tools(client: Any, model: str) -> None:
    messages = say("Pour", completion=12)
    answer = await settle(
        client.chat.completions.create(model=model, messages=messages, tools=[TOOL], tool_choice="required")
    )
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, answer.choices[0].finish_reason) == ("pour", "tool_calls")
    messages = [
        *messages,
        answer.choices[0].message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": call.id, "content": "poured"},
    ]
    after = await settle(client.chat.completions.create(model=model, messages=messages, tools=[TOOL]))
    assert after.choices[0].finish_reason == "stop"


@pytest.mark.row("Chat completions: tools", mode="stream")
@pytest.mark.parametrize("model", CHATTING)
async def test_streamed_tools(client: Any, model: str, tape: Tape) -> None:
    stream = await settle(
        client.chat.completions.create(
            model=model, messages=say("Pour", completion=12, tool=2), tools=[TOOL], stream=True
        )
    )
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    async for chunk in tape.each(stream):
        for part in (part for choice in chunk.choices for part in choice.delta.tool_calls or []):
            names[part.index] = names.get(part.index, "") + (part.function.name or "")
            arguments[part.index] = arguments.get(part.index, "") + (part.function.arguments or "")
    assert names == {0: "pour", 1: "pour"}
    assert all(isinstance(json.loads(text)["heat"], int) for text in arguments.values())


@pytest.mark.row("Chat completions: structured output")
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5-mini", "claude"])
async def test_structured_output(client: Any, model: str) -> None:
    answer = await settle(client.chat.completions.parse(model=model, messages=say("Pour"), response_format=Pour))
    assert isinstance(answer.choices[0].message.parsed, Pour)


@pytest.mark.row("Chat completions: structured output", mode="stream")
@pytest.mark.parametrize("model", ["gpt-4o", "claude"])
async def test_streamed_structured_output(client: Any, tape: Tape, model: str) -> None:
    async with entered(
        client.chat.completions.stream(model=model, messages=say("Pour"), response_format=Pour)
    ) as stream:
        async for _ in tape.each(stream):
            pass
        final = await settle(stream.get_final_completion())
    assert isinstance(final.choices[0].message.parsed, Pour)


@pytest.mark.row("Chat completions: vision")
@pytest.mark.parametrize("model", ["gpt-4o", "claude"])
async def test_vision(client: Any, model: str) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    answer = await settle(client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}]))
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 85


@pytest.mark.row("Chat completions: usage classes")
@pytest.mark.parametrize(
    ("model", "steering"),
    [
        ("gpt-4o", {"prompt": 2000, "cached": 1024, "completion": 33}),
        ("gpt-5-mini", {"prompt": 900, "cached": 128, "completion": 300, "reasoning": 256}),
        ("grok", {"prompt": 900, "completion": 300, "reasoning": 256, "grok": 1}),
        ("claude", {"prompt": 3000, "cached": 1000, "cache_write": 500, "cache_write_1h": 300, "completion": 20}),
        (
            "gpt-audio",
            {"prompt": 500, "audio_prompt": 300, "cached": 100, "completion": 90, "audio_completion": 60},
        ),
        ("gpt-5.4", {"prompt": 300_000, "cached": 1024, "completion": 50}),
        ("gpt-5.4", {"prompt": 500, "completion": 50, "tier": 1}),
        ("gpt-5.4", {"prompt": 500, "completion": 50, "tier": 2}),
        ("router", {"prompt": 500, "completion": 50}),
    ],
    ids=["cached", "reasoning", "grok", "cache-writes", "sound", "long-context", "flex", "priority", "router"],
)
async def test_usage_classes(client: Any, model: str, steering: dict[str, int]) -> None:
    answer = await settle(client.chat.completions.create(model=model, messages=say("Count", **steering)))
    assert answer.usage.prompt_tokens == steering["prompt"]


@pytest.mark.row("Chat completions: usage classes", mode="stream")
@pytest.mark.parametrize(
    ("model", "steering"),
    [
        ("gpt-4o", {"prompt": 2000, "cached": 1024, "completion": 33}),
        ("claude", {"prompt": 3000, "cached": 1000, "cache_write": 500, "cache_write_1h": 300, "completion": 20}),
        ("gpt-5.4", {"prompt": 300_000, "completion": 50, "tier": 2}),
        ("phi-4", {"prompt": 500, "completion": 20, "comments": 1, "tiny": 1}),
    ],
    ids=["cached", "cache-writes", "long-priority", "byte-by-byte"],
)
async def test_streamed_usage_classes(client: Any, model: str, steering: dict[str, int], tape: Tape) -> None:
    stream = await settle(client.chat.completions.create(model=model, messages=say("Count", **steering), stream=True))
    assert [chunk async for chunk in tape.each(stream)]


@pytest.mark.row("Chat completions: service tier asked for")
@pytest.mark.parametrize("tier", ["flex", "priority"])
async def test_service_tier(client: Any, tier: str) -> None:
    answer = await settle(
        client.chat.completions.create(model="gpt-5.4", messages=say("Hi", completion=9), service_tier=tier)
    )
    assert answer.service_tier == tier


@pytest.mark.row("Chat completions: several choices")
async def test_several_choices(client: Any) -> None:
    answer = await settle(client.chat.completions.create(model="gpt-4o", messages=say("Hi", completion=5), n=3))
    assert len(answer.choices) == 3
    assert answer.usage.completion_tokens == 15


@pytest.mark.row("Chat completions: filtered answer")
async def test_a_filtered_answer(client: Any) -> None:
    answer = await settle(client.chat.completions.create(model="gpt-4o", messages=say("Hi", filter=2)))
    assert answer.choices[0].finish_reason == "content_filter"
    assert answer.choices[0].model_extra["content_filter_results"]["violence"]["filtered"] is True


@pytest.mark.row("Completions")
async def test_completions(client: Any) -> None:
    answer = await settle(client.completions.create(model="instruct", prompt="Hi [[sim completion=7]]", max_tokens=9))
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 7


@pytest.mark.row("Completions", mode="stream")
async def test_streamed_completions(client: Any, tape: Tape) -> None:
    stream = await settle(client.completions.create(model="instruct", prompt="Hi [[sim completion=7]]", stream=True))
    chunks = [chunk async for chunk in tape.each(stream)]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.row("Embeddings")
@pytest.mark.parametrize("form", ["default", "float", "base64"])
@pytest.mark.parametrize("model", ["embed", "cohere-embed"])
async def test_embeddings(client: Any, model: str, form: str) -> None:
    options = {} if form == "default" else {"encoding_format": form}
    answer = await settle(client.embeddings.create(model=model, input=["alpha", "beta"], **options))
    assert len(answer.data) == 2
    first = answer.data[0].embedding
    assert isinstance(first, str if form == "base64" else list)
    assert answer.usage.prompt_tokens > 0


@pytest.mark.row("Embeddings: tokens and dimensions")
async def test_embeddings_of_tokens(client: Any) -> None:
    answer = await settle(client.embeddings.create(model="embed", input=[[1, 2, 3], [4, 5]], dimensions=8))
    assert [len(item.embedding) for item in answer.data] == [8, 8]
    assert answer.usage.prompt_tokens == 5


@pytest.mark.row("Models")
async def test_models(client: Any) -> None:
    names = [model.id async for model in each(await settle(client.models.list()))]
    assert "gpt-4o" in names
    assert (await settle(client.models.retrieve("claude"))).id == "claude"
