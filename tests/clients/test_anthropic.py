"""Anthropic's two clients, against Claude and against deployments of other models."""

import base64
import contextlib
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anthropic
import pytest

from tests.clients.either import PLAIN, each, entered, settle
from tests.clients.tape import Tape

TWO = ["Anthropic", "AsyncAnthropic"]
MODELS = ["claude", "gpt-4o", "gpt-5-mini", "phi-4"]
DEPLOYMENTS = {"gpt-4o": "gpt-4o-deployment", "claude": "claude-sonnet-4-5-deployment"}
PNG_HEAD = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 512, 512, 8, 0, 0, 0, 0, 0)
TOOL: dict[str, Any] = {
    "name": "pour",
    "description": "Pour metal.",
    "input_schema": {"type": "object", "properties": {"heat": {"type": "integer"}}, "required": ["heat"]},
}


@contextlib.asynccontextmanager
async def made(name: str, tape: Tape, base_url: str | None = None) -> AsyncGenerator[Any]:
    http = anthropic.DefaultAsyncHttpxClient if name.startswith("Async") else anthropic.DefaultHttpxClient
    client = getattr(anthropic, name)(
        api_key=tape.key,
        base_url=base_url or tape.url,
        max_retries=0,
        http_client=http(verify=PLAIN, trust_env=False, timeout=30),
    )
    try:
        yield client
    finally:
        await settle(client.close())


@pytest.fixture(params=TWO)
async def client(request: pytest.FixtureRequest, tape: Tape) -> AsyncIterator[Any]:
    async with made(request.param, tape) as one:
        yield one


def say(text: str, **steering: int) -> list[dict[str, Any]]:
    words = " ".join(f"{name}={value}" for name, value in steering.items())
    return [{"role": "user", "content": f"{text} [[sim {words}]]" if words else text}]


async def fails(kind: type[anthropic.APIError], call: Any) -> Any:
    with pytest.raises(kind) as caught:
        await settle(call())
    return caught.value


@pytest.mark.row("Messages")
@pytest.mark.parametrize("model", MODELS)
async def test_messages(client: Any, model: str) -> None:
    answer = await settle(
        client.messages.create(model=model, max_tokens=50, system="Be terse.", messages=say("Hi", completion=5))
    )
    assert answer.content[0].text
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 5)


@pytest.mark.row("Messages", mode="stream")
@pytest.mark.parametrize("model", MODELS)
async def test_streamed_messages(client: Any, model: str, tape: Tape) -> None:
    stream = await settle(
        client.messages.create(model=model, max_tokens=50, messages=say("Hi", completion=5), stream=True)
    )
    events = [event async for event in tape.each(stream)]
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    (last,) = [event for event in events if event.type == "message_delta"]
    assert (last.delta.stop_reason, last.usage.output_tokens) == ("end_turn", 5)


@pytest.mark.row("Messages: stream helper", mode="stream")
@pytest.mark.parametrize("model", MODELS)
async def test_stream_helper(client: Any, model: str, tape: Tape) -> None:
    async with entered(client.messages.stream(model=model, max_tokens=50, messages=say("Hi", completion=5))) as stream:
        text = "".join([piece async for piece in tape.each(stream.text_stream)])
        final = await settle(stream.get_final_message())
    assert text == final.content[0].text


@pytest.mark.row("Messages: tools")
@pytest.mark.parametrize("model", MODELS)
async def test_tools(client: Any, model: str) -> None:
    messages = say("Pour", completion=12)
    answer = await settle(
        client.messages.create(
            model=model, max_tokens=200, messages=messages, tools=[TOOL], tool_choice={"type": "any"}
        )
    )
    (use,) = [block for block in answer.content if block.type == "tool_use"]
    assert (use.name, answer.stop_reason) == ("pour", "tool_use")
    assert isinstance(use.input["heat"], int)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "poured"}
    messages = [
        *messages,
        {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
        {"role": "user", "content": [result]},
    ]
    after = await settle(client.messages.create(model=model, max_tokens=200, messages=messages, tools=[TOOL]))
    assert after.stop_reason == "end_turn"


@pytest.mark.row("Messages: tools", mode="stream")
@pytest.mark.parametrize("model", MODELS)
async def test_streamed_tools(client: Any, model: str, tape: Tape) -> None:
    async with entered(
        client.messages.stream(
            model=model,
            max_tokens=200,
            messages=say("Pour", completion=12),
            tools=[TOOL],
            tool_choice={"type": "tool", "name": "pour"},
        )
    ) as stream:
        async for _ in tape.each(stream):
            pass
        final = await settle(stream.get_final_message())
    (use,) = [block for block in final.content if block.type == "tool_use"]
    assert isinstance(use.input["heat"], int)
    assert final.stop_reason == "tool_use"


@pytest.mark.row("Messages: thinking")
@pytest.mark.parametrize("mode", ["plain", "stream"])
async def test_thinking(client: Any, mode: str, tape: Tape) -> None:
    asked: dict[str, Any] = {
        "model": "claude",
        "max_tokens": 4_000,
        "thinking": {"type": "enabled", "budget_tokens": 2_000},
        "messages": say("Think", completion=60, thinking=20),
    }
    if mode == "plain":
        answer = await settle(client.messages.create(**asked))
    else:
        async with entered(client.messages.stream(**asked)) as stream:
            async for _ in tape.each(stream):
                pass
            answer = await settle(stream.get_final_message())
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.content[0].signature


@pytest.mark.row("Messages: reasoning models think too")
async def test_thinking_of_other_models(client: Any) -> None:
    answer = await settle(
        client.messages.create(
            model="gpt-5-mini",
            max_tokens=4_000,
            thinking={"type": "enabled", "budget_tokens": 2_000},
            messages=say("Think", completion=60, reasoning=20),
        )
    )
    assert answer.usage.output_tokens == 60


@pytest.mark.row("Messages: vision")
@pytest.mark.parametrize("model", ["claude", "gpt-4o"])
async def test_vision(client: Any, model: str) -> None:
    data = base64.b64encode(PNG_HEAD + bytes(32)).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    messages = [{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]
    answer = await settle(client.messages.create(model=model, max_tokens=50, messages=messages))
    assert answer.usage.input_tokens > 85


@pytest.mark.row("Messages: usage classes")
@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize(
    ("model", "steering"),
    [
        ("claude", {"prompt": 3000, "cached": 1000, "cache_write": 500, "cache_write_1h": 300, "completion": 20}),
        ("claude", {"prompt": 3000, "cached": 1000, "completion": 20, "partial": 1}),
        ("gpt-4o", {"prompt": 2000, "cached": 1024, "completion": 20}),
        ("gpt-5-mini", {"prompt": 2000, "completion": 90, "reasoning": 64}),
    ],
    ids=["cache-writes", "partial-usage", "translated-cached", "translated-reasoning"],
)
async def test_usage_classes(client: Any, mode: str, model: str, steering: dict[str, int], tape: Tape) -> None:
    asked: dict[str, Any] = {"model": model, "max_tokens": 4_000, "messages": say("Count", **steering)}
    if mode == "plain":
        answer = await settle(client.messages.create(**asked))
    else:
        async with entered(client.messages.stream(**asked)) as stream:
            async for _ in tape.each(stream):
                pass
            answer = await settle(stream.get_final_message())
    assert answer.usage.output_tokens == steering["completion"]
    assert answer.usage.cache_read_input_tokens == steering.get("cached", 0)


@pytest.mark.row("Messages: count tokens")
@pytest.mark.parametrize("model", MODELS)
async def test_count_tokens(client: Any, model: str) -> None:
    assert (await settle(client.messages.count_tokens(model=model, messages=say("Hi")))).input_tokens > 0


@pytest.mark.row("Messages: below /anthropic, as Azure's clients call it")
@pytest.mark.parametrize("client", TWO)
async def test_base_of_azure(tape: Tape, client: str) -> None:
    async with made(client, tape, f"{tape.url}/anthropic") as one:
        assert (await settle(one.messages.create(model="claude", max_tokens=50, messages=say("Hi")))).content
        assert (await settle(one.messages.count_tokens(model="claude", messages=say("Hi")))).input_tokens > 0
        assert "claude" in [model.id async for model in each(await settle(one.models.list()))]


@pytest.mark.row("Models")
async def test_models(client: Any) -> None:
    assert "claude" in [model.id async for model in each(await settle(client.models.list()))]
    assert (await settle(client.models.retrieve("gpt-4o"))).id == "gpt-4o"


@pytest.mark.row("Errors: every status")
@pytest.mark.parametrize("model", list(DEPLOYMENTS))
@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize(
    ("fault", "kind", "word"),
    [
        ("rate_tokens", anthropic.RateLimitError, "rate_limit_error"),
        ("server_error", anthropic.InternalServerError, "api_error"),
        ("overloaded", anthropic.InternalServerError, "overloaded_error"),
        ("overloaded_529", anthropic.InternalServerError, "overloaded_error"),
        ("bad_key", anthropic.InternalServerError, "api_error"),
    ],
)
async def test_faults(
    client: Any, tape: Tape, model: str, mode: str, fault: str, kind: type[anthropic.APIError], word: str
) -> None:
    tape.fault(DEPLOYMENTS[model], fault)
    error = await fails(
        kind,
        lambda: client.messages.create(model=model, max_tokens=9, messages=say("Hi"), stream=mode == "stream"),
    )
    assert error.body["type"] == "error"
    assert error.body["error"]["type"] == word
    if fault == "rate_tokens":
        assert int(error.response.headers["retry-after"]) >= 1


@pytest.mark.row("Errors: 400, 401, 402, 403, 404")
@pytest.mark.parametrize("model", list(DEPLOYMENTS))
async def test_refusals(client: Any, tape: Tape, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "max_tokens": 9, "messages": say("Hi")}
    error = await fails(anthropic.BadRequestError, lambda: client.messages.create(**{**asked, "messages": []}))
    assert error.body["error"]["type"] == "invalid_request_error"
    error = await fails(anthropic.NotFoundError, lambda: client.messages.create(**{**asked, "model": "claude-9"}))
    assert error.body["error"]["code"] == "model_not_found"
    client.api_key = tape.mint(max_budget=0.000001)
    error = await fails(anthropic.APIStatusError, lambda: client.messages.create(**asked))
    assert (error.status_code, error.body["error"]["type"]) == (402, "billing_error")
    client.api_key = tape.mint(models=["phi-4"])
    error = await fails(anthropic.PermissionDeniedError, lambda: client.messages.create(**asked))
    assert error.body["error"]["code"] == "model_not_allowed"
    client.api_key = "sk-nobody-knows-this-key"
    error = await fails(anthropic.AuthenticationError, lambda: client.messages.create(**asked))
    assert error.body["error"]["code"] == "invalid_api_key"


@pytest.mark.row("Errors: in the middle of a stream", mode="stream")
@pytest.mark.estimated("Foundry's stream ended with an error before its usage")
@pytest.mark.parametrize("model", list(DEPLOYMENTS))
async def test_error_in_the_middle(client: Any, tape: Tape, model: str) -> None:
    tape.fault(DEPLOYMENTS[model], "midstream_error", after_events=6)
    stream = await settle(
        client.messages.create(model=model, max_tokens=50, messages=say("Hi", completion=12), stream=True)
    )
    with pytest.raises(anthropic.APIStatusError) as caught:
        async for _ in tape.each(stream):
            pass
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert tape.events > 2


@pytest.mark.row("Errors: a stream that fails before its content", mode="stream")
@pytest.mark.parametrize("model", list(DEPLOYMENTS))
async def test_early_failure(client: Any, tape: Tape, model: str) -> None:
    tape.fault(DEPLOYMENTS[model], "midstream_error", after_events=1)
    error = await fails(
        anthropic.InternalServerError,
        lambda: client.messages.create(model=model, max_tokens=50, messages=say("Hi"), stream=True),
    )
    assert error.status_code >= 500


@pytest.mark.row("Errors: 400 content filter")
@pytest.mark.estimated("Foundry bills the prompt that its filter refused, and tells no usage of it")
async def test_content_filter(client: Any) -> None:
    error = await fails(
        anthropic.BadRequestError,
        lambda: client.messages.create(model="gpt-4o", max_tokens=50, messages=say("Hi", filter=1)),
    )
    assert error.body["error"]["code"] == "content_filter"
    assert error.body["error"]["innererror"]["content_filter_result"]
