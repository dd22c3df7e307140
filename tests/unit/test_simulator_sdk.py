"""The clients people use are content with the simulator: openai's on three surfaces, anthropic's for Foundry."""

import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from pydantic import BaseModel

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import ask, served

KEY = "sim-foundry-key"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options())


def http(simulator: Simulator) -> httpx2.AsyncClient:
    app: Any = simulator
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))


def classic(simulator: Simulator, version: str = "2024-10-21") -> openai.AsyncAzureOpenAI:
    return openai.AsyncAzureOpenAI(
        azure_endpoint="http://sim", api_key=KEY, api_version=version, http_client=http(simulator), max_retries=0
    )


def v1(simulator: Simulator) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url="http://sim/openai/v1/", api_key=KEY, http_client=http(simulator), max_retries=0)


def claude(simulator: Simulator) -> anthropic.AsyncAnthropicFoundry:
    return anthropic.AsyncAnthropicFoundry(
        api_key=KEY, base_url="http://sim/anthropic", http_client=http(simulator), max_retries=0
    )


async def test_openai_chats_and_calls_tools(simulator: Simulator) -> None:
    client = classic(simulator)
    asked: Any = [{"role": "user", "content": "hi [[sim tool=1]]"}]
    made = await client.chat.completions.create(model="gpt-4o-deployment", messages=asked, tools=[FUNCTION])
    assert made.choices[0].message.tool_calls
    pieces: list[str] = []
    stream = await client.chat.completions.create(
        model="gpt-4o-deployment",
        messages=asked,
        tools=[FUNCTION],
        stream=True,
        stream_options={"include_usage": True},
    )
    usage = None
    async for chunk in stream:
        usage = chunk.usage or usage
        calls = [call for choice in chunk.choices for call in choice.delta.tool_calls or []]
        pieces += [call.function.arguments or "" for call in calls if call.function is not None]
    assert json.loads("".join(pieces)) == {"city": "launder"}
    assert usage is not None
    billed = (await served(simulator))["calls"][-1]["usage"]
    assert (usage.prompt_tokens, usage.completion_tokens) == (billed["prompt"], billed["completion"])


async def test_openai_parses_structured_output(simulator: Simulator) -> None:
    class Town(BaseModel):
        name: str
        ages: list[int]

    client = v1(simulator)
    made = await client.chat.completions.parse(
        model="gpt-4.1", messages=[{"role": "user", "content": "x"}], response_format=Town
    )
    assert made.choices[0].message.parsed == Town(name="launder", ages=[1])
    parsed = await client.responses.parse(model="gpt-5", input="x", text_format=Town)
    assert parsed.output_parsed == Town(name="launder", ages=[1])


async def test_openai_responds_streams_and_stores(simulator: Simulator) -> None:
    client = v1(simulator)
    first = await client.responses.create(model="gpt-5-mini", input="hello")
    assert first.output_text.startswith("The ladle")
    async with client.responses.stream(model="gpt-5", input="x", previous_response_id=first.id) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert final.usage is not None
    assert (await client.responses.retrieve(final.id)).output_text == final.output_text
    assert (await client.responses.input_items.list(first.id)).data
    queued = await client.responses.create(model="gpt-5", input="[[sim background_ms=0]]", background=True)
    assert queued.status == "queued"
    found = await client.responses.retrieve(queued.id)
    assert found.status == "completed"
    assert found.usage is not None
    await client.responses.delete(found.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(found.id)
    old = classic(simulator, "2025-04-01-preview")
    assert (await old.responses.create(model="gpt-4.1", input="x")).model == "gpt-4.1"


async def test_openai_embeds_completes_and_lists(simulator: Simulator) -> None:
    client = v1(simulator)
    embedded = await client.embeddings.create(model="text-embedding-3-small", input=["a"])
    assert len(embedded.data[0].embedding) == 1536
    written = await client.completions.create(model="gpt-35-turbo-instruct", prompt="x")
    assert written.choices[0].text
    assert len((await client.models.list()).data) > 100


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("filter", openai.BadRequestError),
        ("bad_key", openai.AuthenticationError),
        ("network", openai.PermissionDeniedError),
        ("no_deployment", openai.NotFoundError),
        ("rate_tokens", openai.RateLimitError),
        ("html", openai.InternalServerError),
    ],
)
async def test_openai_knows_the_errors(simulator: Simulator, kind: str, error: type[openai.APIStatusError]) -> None:
    await ask(simulator, "/_sim/faults", {"kind": kind}, query="", headers={})
    with pytest.raises(error):
        await v1(simulator).chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])


async def test_openai_raises_an_error_in_mid_stream(simulator: Simulator) -> None:
    await ask(simulator, "/_sim/faults", {"kind": "midstream_error"}, query="", headers={})
    stream = await v1(simulator).chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "x"}], stream=True
    )
    with pytest.raises(openai.APIError, match="server had an error"):
        async for _ in stream:
            pass


async def test_anthropic_talks_thinks_and_calls_tools(simulator: Simulator) -> None:
    client = claude(simulator)
    tool: Any = {"name": "weather", "input_schema": SCHEMA}
    asked: Any = [{"role": "user", "content": "hi [[sim tool=1 completion=60 prompt=30 cached=10]]"}]
    async with client.messages.stream(
        model="claude-opus-4-5",
        max_tokens=4000,
        thinking={"type": "enabled", "budget_tokens": 2000},
        tools=[tool],
        messages=asked,
    ) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (20, 10, 60)
    result = {"type": "tool_result", "tool_use_id": final.content[-1].id, "content": "5"}  # type: ignore[union-attr]
    blocks: Any = [block.model_dump() for block in final.content]
    turns: Any = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": [result]},
    ]
    ended = await client.messages.create(model="claude-opus-4-5", max_tokens=100, messages=turns, tools=[tool])
    assert ended.stop_reason == "end_turn"
    counted = await client.messages.count_tokens(model="claude-opus-4-5", messages=asked)
    assert counted.input_tokens > 10


async def test_anthropic_knows_the_errors(simulator: Simulator) -> None:
    client = claude(simulator)
    with pytest.raises(anthropic.BadRequestError, match="Extra inputs are not permitted"):
        await client.messages.create(
            model="claude-opus-4-5",
            max_tokens=5,
            messages=[{"role": "user", "content": "x"}],
            extra_body={"stream_options": {}},
        )
    await ask(simulator, "/_sim/faults", {"kind": "rate_partner"}, query="", headers={})
    with pytest.raises(anthropic.RateLimitError):
        await client.messages.create(model="claude-opus-4-5", max_tokens=5, messages=[{"role": "user", "content": "x"}])
