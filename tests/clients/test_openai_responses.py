"""OpenAI's four clients: responses, plain, streaming, stored and in the background."""

from typing import Any

import openai
import pydantic
import pytest

from tests.clients.either import each, entered, settle
from tests.clients.openai_clients import FOUR, openai_client
from tests.clients.tape import Tape
from tests.support.stack import wait_until

MODELS = ["gpt-5-mini", "gpt-4o"]
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "pour",
    "description": "Pour metal.",
    "parameters": {"type": "object", "properties": {"heat": {"type": "integer"}}, "required": ["heat"]},
    "strict": False,
}
BACKGROUND_S = 15.0


class Pour(pydantic.BaseModel):
    heat: int
    grade: str


@pytest.fixture(params=FOUR)
async def client(request: pytest.FixtureRequest, tape: Tape) -> Any:
    async with openai_client(request.param, tape) as made:
        yield made


@pytest.mark.row("Responses")
@pytest.mark.parametrize("model", MODELS)
async def test_create(client: Any, model: str) -> None:
    answer = await settle(
        client.responses.create(model=model, input="Hi [[sim completion=7 prompt=50 cached=32]]", instructions="Terse.")
    )
    assert answer.status == "completed"
    assert answer.output_text
    assert answer.usage.output_tokens == 7
    assert answer.usage.input_tokens_details.cached_tokens == 32


@pytest.mark.row("Responses", mode="stream")
@pytest.mark.parametrize("model", MODELS)
async def test_stream(client: Any, model: str, tape: Tape) -> None:
    stream = await settle(
        client.responses.create(model=model, input="Hi [[sim completion=7 reasoning=2]]", stream=True)
    )
    events = [event async for event in tape.each(stream)]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.usage.output_tokens == 7


@pytest.mark.row("Responses: stream helper", mode="stream")
async def test_stream_helper(client: Any, tape: Tape) -> None:
    async with entered(client.responses.stream(model="gpt-5-mini", input="Hi [[sim completion=6]]")) as stream:
        async for _ in tape.each(stream):
            pass
        final = await settle(stream.get_final_response())
    assert final.output_text


@pytest.mark.row("Responses: tools")
async def test_tools(client: Any) -> None:
    answer = await settle(
        client.responses.create(model="gpt-5-mini", input="Pour", tools=[TOOL], tool_choice="required")
    )
    (call,) = [item for item in answer.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "poured"}
    after = await settle(
        client.responses.create(model="gpt-5-mini", input=[result], previous_response_id=answer.id, tools=[TOOL])
    )
    assert after.output_text


@pytest.mark.row("Responses: tools", mode="stream")
async def test_streamed_tools(client: Any, tape: Tape) -> None:
    stream = await settle(
        client.responses.create(model="gpt-5-mini", input="Pour", tools=[TOOL], tool_choice="required", stream=True)
    )
    kinds = [event.type async for event in tape.each(stream)]
    assert "response.function_call_arguments.done" in kinds


@pytest.mark.row("Responses: structured output")
async def test_structured_output(client: Any) -> None:
    answer = await settle(client.responses.parse(model="gpt-5-mini", input="Pour", text_format=Pour))
    assert isinstance(answer.output_parsed, Pour)


@pytest.mark.row("Responses: get, input_items, previous_response_id, delete")
async def test_stored(client: Any) -> None:
    first = await settle(client.responses.create(model="gpt-5-mini", input="One [[sim completion=4]]"))
    second = await settle(client.responses.create(model="gpt-5-mini", input="Two", previous_response_id=first.id))
    got = await settle(client.responses.retrieve(second.id))
    assert (got.id, got.previous_response_id, got.output_text) == (second.id, first.id, second.output_text)
    items = [item async for item in each(await settle(client.responses.input_items.list(second.id)))]
    assert items[0].content[0].text == "Two"
    await settle(client.responses.delete(first.id))
    with pytest.raises(openai.NotFoundError):
        await settle(client.responses.retrieve(first.id))


@pytest.mark.row("Responses: background")
async def test_background(client: Any) -> None:
    made = await settle(
        client.responses.create(
            model="gpt-5-mini", input="Long [[sim completion=40 background_ms=150]]", background=True
        )
    )
    assert made.status == "queued"
    answer = made
    for _ in range(100):
        answer = await settle(client.responses.retrieve(made.id))
        if answer.status == "completed":
            break
    assert answer.usage.output_tokens == 40


@pytest.mark.row("Responses: background", mode="stream")
async def test_a_background_stream_is_refused(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="is not streamed by this gateway") as refused:
        await settle(client.responses.create(model="gpt-5-mini", input="Long", background=True, stream=True))
    assert refused.value.code == "not_offered" or refused.value.param == "stream"


@pytest.mark.row("Responses: cancel")
@pytest.mark.estimated("Foundry tells no usage of a response that was cancelled")
async def test_cancel(client: Any) -> None:
    made = await settle(
        client.responses.create(
            model="gpt-5-mini", input="Long [[sim completion=40 background_ms=60000]]", background=True
        )
    )
    assert (await settle(client.responses.cancel(made.id))).status == "cancelled"
    assert (await settle(client.responses.retrieve(made.id))).status == "cancelled"


@pytest.mark.row("Responses: caller leaves in the background", mode="plain")
async def test_background_that_nobody_asks_for(client: Any, tape: Tape) -> None:
    await settle(
        client.responses.create(
            model="gpt-5-mini", input="Long [[sim completion=30 background_ms=100]]", background=True
        )
    )
    wait_until("it is served", tape.gateway.served, BACKGROUND_S)
