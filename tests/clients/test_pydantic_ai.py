"""Pydantic AI's agents over OpenAI's and Anthropic's dialects."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pydantic
import pydantic_ai
import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.tape import Tape

KINDS = ["OpenAIChatModel", "OpenAIResponsesModel", "AnthropicModel"]
MODELS = {"OpenAIChatModel": "gpt-4o", "OpenAIResponsesModel": "gpt-5-mini", "AnthropicModel": "claude"}
DEPLOYMENTS = {
    "OpenAIChatModel": "gpt-4o-deployment",
    "OpenAIResponsesModel": "gpt-5-mini-deployment",
    "AnthropicModel": "claude-sonnet-4-5-deployment",
}


class Pour(pydantic.BaseModel):
    """What is poured."""

    heat: int
    grade: str


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def model(client: str, tape: Tape) -> AsyncIterator[Any]:
    if client == "AnthropicModel":
        async with anthropic.AsyncAnthropic(base_url=tape.url, api_key=tape.key, max_retries=0) as raw:
            yield AnthropicModel(MODELS[client], provider=AnthropicProvider(anthropic_client=raw))
        return
    async with openai.AsyncOpenAI(base_url=f"{tape.url}/v1", api_key=tape.key, max_retries=0) as raw:
        kind = OpenAIChatModel if client == "OpenAIChatModel" else OpenAIResponsesModel
        yield kind(MODELS[client], provider=OpenAIProvider(openai_client=raw))


@pytest.mark.row("Agents: run")
async def test_run(model: Any) -> None:
    answer = await pydantic_ai.Agent(model, instructions="Be terse.").run("Hi [[sim completion=5]]")
    assert len(answer.output.split()) == 5
    assert answer.usage.output_tokens == 5


@pytest.mark.row("Agents: run", mode="stream")
async def test_stream(model: Any, tape: Tape) -> None:
    async with pydantic_ai.Agent(model).run_stream("Hi [[sim completion=5]]") as answer:
        text = "".join([piece async for piece in tape.each(answer.stream_text(delta=True, debounce_by=None))])
    assert len(text.split()) == 5


@pytest.mark.row("Agents: tools")
async def test_tools(model: Any) -> None:
    agent = pydantic_ai.Agent(model)
    heats: list[int] = []

    @agent.tool_plain
    def pour(heat: int) -> str:
        """Pour metal."""
        heats.append(heat)
        return "poured"

    # The simulator calls the tool as long as the user's last words ask for it: two requests are enough here.
    with contextlib.suppress(pydantic_ai.UsageLimitExceeded):
        await agent.run("Pour [[sim tool=1]]", usage_limits=pydantic_ai.UsageLimits(request_limit=2))
    assert heats


@pytest.mark.row("Agents: structured output")
async def test_structured_output(model: Any) -> None:
    answer = await pydantic_ai.Agent(model, output_type=Pour).run("Pour [[sim tool=1]]")
    assert isinstance(answer.output, Pour)


@pytest.mark.row("Agents: structured output", mode="stream")
async def test_streamed_structured_output(model: Any, tape: Tape) -> None:
    async with pydantic_ai.Agent(model, output_type=Pour).run_stream("Pour [[sim tool=1]]") as answer:
        async for _ in tape.each(answer.stream_output(debounce_by=None)):
            pass
        assert isinstance(await answer.get_output(), Pour)


@pytest.mark.row("Errors: 429, 500")
@pytest.mark.parametrize(("fault", "status"), [("rate_tokens", 429), ("server_error", 500)])
async def test_errors(model: Any, client: str, tape: Tape, fault: str, status: int) -> None:
    tape.fault(DEPLOYMENTS[client], fault)
    with pytest.raises(ModelHTTPError) as caught:
        await pydantic_ai.Agent(model).run("Hi")
    assert caught.value.status_code == status
