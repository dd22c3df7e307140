"""LangChain's OpenAI package: chat and embeddings, both flavours, sync and async."""

from collections.abc import Callable
from typing import Any

import httpx
import langchain_core.tools
import langchain_openai
import openai
import pydantic
import pytest

from tests.clients.either import PLAIN, each, settle
from tests.clients.openai_clients import API_VERSION
from tests.clients.tape import Tape

CHAT = ["ChatOpenAI", "AzureChatOpenAI"]
EMBEDDINGS = ["OpenAIEmbeddings", "AzureOpenAIEmbeddings"]
MODELS = ["gpt-4o", "claude"]
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


class Pour(pydantic.BaseModel):
    """What is poured."""

    heat: int
    grade: str


@langchain_core.tools.tool
def pour(heat: int) -> str:
    """Pour metal."""
    return f"poured at {heat}"


@pytest.fixture
async def make(tape: Tape) -> Any:
    """Makes a client by name; its connections are closed at the end."""

    def made(name: str, **more: Any) -> Any:
        where = {"base_url": f"{tape.url}/v1"}
        if name.startswith("Azure"):
            where = {"azure_endpoint": tape.url, "api_version": API_VERSION}
        return getattr(langchain_openai, name)(
            api_key=tape.key, max_retries=0, http_client=sync, http_async_client=async_, **where, **more
        )

    with httpx.Client(verify=PLAIN) as sync:
        async with httpx.AsyncClient(verify=PLAIN) as async_:
            yield made


Make = Callable[..., Any]


@pytest.mark.row("Chat")
@pytest.mark.parametrize("client", CHAT)
@pytest.mark.parametrize("model", MODELS)
@BOTH
async def test_invoke(make: Make, client: str, model: str, way: str) -> None:
    chat = make(client, model=model)
    asked = "Hi [[sim completion=5]]"
    answer = chat.invoke(asked) if way == "sync" else await chat.ainvoke(asked)
    assert answer.content
    assert answer.usage_metadata["output_tokens"] == 5


@pytest.mark.row("Chat", mode="stream")
@pytest.mark.parametrize("client", CHAT)
@pytest.mark.parametrize("model", MODELS)
@BOTH
async def test_stream(make: Make, client: str, model: str, way: str, tape: Tape) -> None:
    chat = make(client, model=model, stream_usage=True)
    asked = "Hi [[sim completion=5]]"
    stream = chat.stream(asked) if way == "sync" else chat.astream(asked)
    chunks = [chunk async for chunk in tape.each(stream)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert len(whole.content.split()) == 5
    assert whole.usage_metadata["output_tokens"] == 5


@pytest.mark.row("Chat: tools")
@pytest.mark.parametrize("client", CHAT)
@pytest.mark.parametrize("model", MODELS)
@BOTH
async def test_tools(make: Make, client: str, model: str, way: str) -> None:
    chat = make(client, model=model).bind_tools([pour], tool_choice="any")
    answer = chat.invoke("Pour") if way == "sync" else await chat.ainvoke("Pour")
    (call,) = answer.tool_calls
    assert pour.invoke(call).content.startswith("poured at")


@pytest.mark.row("Chat: structured output")
@pytest.mark.parametrize("client", CHAT)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@BOTH
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
async def test_structured_output(make: Make, client: str, method: str, way: str) -> None:
    chat = make(client, model="gpt-4o").with_structured_output(Pour, method=method)
    answer = chat.invoke("Pour") if way == "sync" else await chat.ainvoke("Pour")
    assert isinstance(answer, Pour)


@pytest.mark.row("Chat over responses", client="ChatOpenAI")
@pytest.mark.parametrize("mode", ["plain", "stream"])
@BOTH
async def test_responses(make: Make, mode: str, way: str, tape: Tape) -> None:
    chat = make("ChatOpenAI", model="gpt-5-mini", use_responses_api=True)
    asked = "Hi [[sim completion=5]]"
    if mode == "plain":
        answer = chat.invoke(asked) if way == "sync" else await chat.ainvoke(asked)
        assert answer.usage_metadata["output_tokens"] == 5
    else:
        stream = chat.stream(asked) if way == "sync" else chat.astream(asked)
        assert "".join([str(chunk.text) async for chunk in tape.each(stream)])


@pytest.mark.row("Embeddings")
@pytest.mark.parametrize("client", EMBEDDINGS)
@BOTH
async def test_embeddings(make: Make, client: str, way: str) -> None:
    made = make(client, model="embed", check_embedding_ctx_length=False)
    texts = ["alpha", "beta"]
    vectors = made.embed_documents(texts) if way == "sync" else await made.aembed_documents(texts)
    assert len(vectors) == 2
    assert len(vectors[0]) == 3_072


@pytest.mark.row("Errors: 404, 429, 500")
@pytest.mark.parametrize("client", CHAT)
@BOTH
async def test_errors(make: Make, client: str, way: str, tape: Tape) -> None:
    async def fails(kind: type[Exception], model: str) -> None:
        chat = make(client, model=model)
        with pytest.raises(kind):
            await settle(chat.invoke("Hi") if way == "sync" else chat.ainvoke("Hi"))

    await fails(openai.NotFoundError, "gpt-9")
    tape.fault("gpt-4o-deployment", "rate_tokens")
    await fails(openai.RateLimitError, "gpt-4o")
    tape.fault("gpt-4o-deployment", "server_error")
    await fails(openai.InternalServerError, "gpt-4o")


@pytest.mark.row("Errors: in the middle of a stream", mode="stream")
@pytest.mark.estimated("Foundry's stream ended with an error before its usage")
@pytest.mark.parametrize("client", CHAT)
@BOTH
async def test_error_in_the_middle(make: Make, client: str, way: str, tape: Tape) -> None:
    tape.fault("gpt-4o-deployment", "midstream_error", after_events=6)
    chat = make(client, model="gpt-4o")
    asked = "Hi [[sim completion=12]]"
    with pytest.raises(openai.APIError):
        async for _ in tape.each(each(chat.stream(asked) if way == "sync" else chat.astream(asked))):
            pass
