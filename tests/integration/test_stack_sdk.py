"""OpenAI's own clients against the running product: both flavours, sync and async, plain and streaming."""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from deploy.local.models import read_models
from deploy.local.settings import DEFAULT_CONFIG
from tests.support.stack import Stack

pytestmark = pytest.mark.stack

MESSAGES: list[dict[str, str]] = [{"role": "user", "content": "Say something about the tundish."}]
MODELS = [*read_models(DEFAULT_CONFIG).names]


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return stack.mint(key_alias="sdk", max_budget=5)


@pytest.fixture(params=["openai", "azure"])
def client(request: pytest.FixtureRequest, stack: Stack, key: str) -> Iterator[openai.OpenAI]:
    if request.param == "openai":
        made = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)
    else:
        made = openai.AzureOpenAI(azure_endpoint=stack.url, api_key=key, api_version="2024-10-21", max_retries=0)
    with made:
        yield made


@pytest.fixture(params=["openai", "azure"])
async def async_client(request: pytest.FixtureRequest, stack: Stack, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    if request.param == "openai":
        made = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)
    else:
        made = openai.AsyncAzureOpenAI(azure_endpoint=stack.url, api_key=key, api_version="2024-10-21", max_retries=0)
    async with made:
        yield made


@pytest.mark.parametrize("model", ["gpt-4o", "phi-4"])
def test_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8)  # type: ignore[arg-type]
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8


@pytest.mark.parametrize("model", ["gpt-4o", "phi-4"])
def test_streamed_chat_hides_usage_unless_asked(client: openai.OpenAI, model: str) -> None:
    text = ""
    with client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, stream=True) as stream:  # type: ignore[arg-type]
        for chunk in stream:
            assert chunk.usage is None
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text


def test_streamed_chat_with_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,  # type: ignore[arg-type]
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        seen = [chunk.usage for chunk in stream if chunk.usage is not None]
    assert len(seen) == 1
    assert seen[0].prompt_tokens > 0


def test_embeddings_in_the_clients_default_encoding(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="text-embedding-3-large", input=["alpha", "beta"])
    assert [len(item.embedding) > 0 for item in answer.data] == [True, True]
    assert answer.usage.prompt_tokens > 0


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == MODELS
    assert client.models.retrieve("phi-4").id == "phi-4"


async def test_async_chat_and_stream(async_client: openai.AsyncOpenAI) -> None:
    answer = await async_client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=5)  # type: ignore[arg-type]
    assert answer.choices[0].finish_reason in ("length", "stop")
    text = ""
    stream = await async_client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,  # type: ignore[arg-type]
        max_tokens=5,
        stream=True,
    )
    async with stream:
        async for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text


async def test_async_embeddings(async_client: openai.AsyncOpenAI) -> None:
    answer = await async_client.embeddings.create(model="text-embedding-3-large", input="alpha")
    assert len(answer.data) == 1


def test_a_key_sees_and_uses_only_its_models(stack: Stack) -> None:
    key = stack.mint(models=["phi-4"])
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as client:
        assert [model.id for model in client.models.list().data] == ["phi-4"]
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)  # type: ignore[arg-type]
    assert refused.value.code == "model_not_allowed"


def test_errors_are_the_clients_own_exceptions(stack: Stack, key: str) -> None:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.models.list()
        assert refused.value.code == "invalid_api_key"
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-nothing", messages=MESSAGES)  # type: ignore[arg-type]
        assert unknown.value.code == "model_not_found"
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.master_key, max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError) as master:
            client.models.list()
        assert master.value.code == "master_key_on_data_plane"
