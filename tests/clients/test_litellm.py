"""LiteLLM's library as a client, by its `openai/`, `azure/` and `anthropic/` providers."""

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what its import says is its own affair
    import litellm
    from litellm import exceptions

from tests.clients.either import settle
from tests.clients.tape import Tape

PROVIDERS = ["openai/", "anthropic/"]
WAYS = pytest.mark.parametrize("way", ["sync", "async"])
MODELS = ["phi-4", "claude"]
"""Names that the library does not know as OpenAI's: those it sends there whatever the provider says."""
HI = [{"role": "user", "content": "Hi [[sim completion=5]]"}]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "pour",
        "description": "Pour metal.",
        "parameters": {"type": "object", "properties": {"heat": {"type": "integer"}}, "required": ["heat"]},
    },
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:litellm"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Nothing is sent anywhere, nothing is repeated; what the library leaves open is collected here."""
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.num_retries = 0
    litellm.disable_aiohttp_transport = True
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()
    gc.collect()


@pytest.fixture(params=PROVIDERS)
def client(request: pytest.FixtureRequest) -> str:
    return request.param


def where(client: str, tape: Tape, model: str) -> dict[str, Any]:
    base = tape.url if client == "anthropic/" else f"{tape.url}/v1"
    return {"model": f"{client}{model}", "api_base": base, "api_key": tape.key, "max_retries": 0}


async def complete(way: str, **asked: Any) -> Any:
    return await settle(litellm.completion(**asked) if way == "sync" else litellm.acompletion(**asked))


@pytest.mark.row("Completion")
@pytest.mark.parametrize("model", MODELS)
@WAYS
async def test_completion(client: str, tape: Tape, model: str, way: str) -> None:
    answer = await complete(way, messages=HI, max_tokens=20, **where(client, tape, model))
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 5


@pytest.mark.row("Completion", mode="stream")
@pytest.mark.parametrize("model", MODELS)
@WAYS
async def test_stream(client: str, tape: Tape, model: str, way: str) -> None:
    stream = await complete(way, messages=HI, max_tokens=20, stream=True, **where(client, tape, model))
    stream = (chunk for chunk in stream) if way == "sync" else stream  # one object for both ways of iterating
    chunks = [chunk async for chunk in tape.each(stream)]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert len(text.split()) == 5


@pytest.mark.row("Completion: tools")
@WAYS
async def test_tools(client: str, tape: Tape, way: str) -> None:
    answer = await complete(
        way, messages=HI, max_tokens=200, tools=[TOOL], tool_choice="required", **where(client, tape, "phi-4")
    )
    assert answer.choices[0].message.tool_calls[0].function.name == "pour"


@pytest.mark.row("Embedding", client="openai/")
@WAYS
async def test_embedding(tape: Tape, way: str) -> None:
    asked: dict[str, Any] = {"input": ["alpha", "beta"], **where("openai/", tape, "embed")}
    answer = await settle(litellm.embedding(**asked) if way == "sync" else litellm.aembedding(**asked))
    assert len(answer.data) == 2


@pytest.mark.row("Errors: 401, 404, 429, 500")
@WAYS
async def test_errors(client: str, tape: Tape, way: str) -> None:
    async def fails(kind: type[Exception], **more: Any) -> None:
        with pytest.raises(kind):
            await complete(way, **{"messages": HI, "max_tokens": 20, **where(client, tape, "phi-4"), **more})

    await fails(exceptions.AuthenticationError, api_key="sk-nobody-knows-this-key")
    await fails(exceptions.NotFoundError, model=f"{client}gpt-9")
    tape.fault("phi-4-deployment", "rate_tokens")
    await fails(exceptions.RateLimitError)
    tape.fault("phi-4-deployment", "server_error")
    await fails(exceptions.InternalServerError)
