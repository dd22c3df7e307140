"""The simulator's partner paths: Cohere's rerank, embed, chat and parse, Mistral's OCR, the legacy hosts."""

import base64
import json
from typing import Any

import pytest

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import KEY, FixedClock, ask, fault, served

COHERE = "/providers/cohere/v2/"
BEARER = {"authorization": f"Bearer {KEY['api-key']}"}


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


async def last(simulator: Simulator) -> Any:
    return (await served(simulator))["calls"][-1]


async def test_rerank_counts_search_units(simulator: Simulator) -> None:
    documents = ["the ladle tips", "slag floats", "a ladle of bright metal"]
    body = {"model": "cohere-rerank-v4.0-pro", "query": "bright ladle", "documents": documents, "top_n": 2}
    reply = await ask(simulator, COHERE + "rerank", body, query="", headers=BEARER)
    assert [result["index"] for result in reply.json["results"]] == [2, 0]
    scores = [result["relevance_score"] for result in reply.json["results"]]
    assert scores == sorted(scores, reverse=True)
    assert reply.json["meta"] == {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    call = await last(simulator)
    assert (call["surface"], call["operation"], call["usage"]) == ("providers", "rerank", {"prompt": 0, "queries": 1})


@pytest.mark.parametrize(("documents", "units"), [(["a"] * 100, 1), (["a"] * 101, 2), (["x" * 8_000] * 30, 2)])
async def test_many_or_long_documents_are_more_units(simulator: Simulator, documents: list[str], units: int) -> None:
    body = {"model": "cohere-rerank-v4.0-fast", "query": "q", "documents": documents}
    reply = await ask(simulator, COHERE + "rerank", body, query="")
    assert reply.json["meta"]["billed_units"] == {"search_units": units}
    steered = await ask(simulator, COHERE + "rerank", {**body, "query": "q [[sim queries=7]]"}, query="")
    assert steered.json["meta"]["billed_units"] == {"search_units": 7}
    assert [call["usage"]["queries"] for call in (await served(simulator))["calls"]] == [units, 7]


async def test_embed_tells_text_and_images_apart(simulator: Simulator) -> None:
    body: dict[str, Any] = {
        "model": "embed-v-4-0", "texts": ["alpha beta"], "input_type": "search_document",
        "embedding_types": ["float", "int8", "binary"], "output_dimension": 256,
    }  # fmt: skip
    reply = await ask(simulator, COHERE + "embed", body, query="")
    vectors = reply.json["embeddings"]
    assert [len(vectors[kind][0]) for kind in ("float", "int8", "binary")] == [256, 256, 32]
    assert sum(value**2 for value in vectors["float"][0]) == pytest.approx(1, rel=1e-4)
    assert reply.json["meta"]["billed_units"] == {"input_tokens": 3}
    mixed = {**body, "texts": [], "inputs": [{"content": [{"type": "text", "text": "hi"}, {"type": "image_url"}]}]}
    reply = await ask(simulator, COHERE + "embed", mixed, query="")
    assert reply.json["meta"]["billed_units"] == {"input_tokens": 1, "image_tokens": 1000, "images": 1}
    assert (await last(simulator))["usage"] == {"prompt": 1001, "image_prompt": 1000}


async def test_chat_bills_less_than_it_counts(simulator: Simulator) -> None:
    message = {"role": "user", "content": "Say hi [[sim prompt=20 completion=4]]"}
    body = {"model": "cohere-command-a", "messages": [message], "max_tokens": 3}
    reply = await ask(simulator, COHERE + "chat", body, query="")
    assert reply.json["finish_reason"] == "MAX_TOKENS"
    assert reply.json["message"]["content"] == [{"type": "text", "text": "The ladle tips"}]
    assert reply.json["usage"]["billed_units"] == {"input_tokens": 20, "output_tokens": 3}
    assert reply.json["usage"]["tokens"] == {"input_tokens": 86, "output_tokens": 3}
    assert (await last(simulator))["usage"] == {"prompt": 20, "completion": 3}


async def test_chat_streams_coheres_events(simulator: Simulator) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hi [[sim completion=3]]"}]}
    body = {"model": "cohere-command-a", "messages": [message], "stream": True}
    reply = await ask(simulator, COHERE + "chat", body, query="")
    blocks = [block.split("\ndata: ") for block in reply.body.decode().strip().split("\n\n")]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [
        "message-start", "content-start", *["content-delta"] * 3, "content-end", "message-end",
    ]  # fmt: skip
    assert json.loads(blocks[-1][1])["delta"]["usage"]["billed_units"]["output_tokens"] == 3
    await fault(simulator, deployment="*", kind="midstream_error", after_events=4, count=1)
    await ask(simulator, COHERE + "chat", body, query="")
    assert (await last(simulator))["usage"]["completion"] == 2


async def test_documents_are_billed_by_the_page(simulator: Simulator) -> None:
    pdf = base64.b64encode(b"%PDF /Type /Pages /Type /Page x /Type/Page /Type /Page").decode()
    document = {"type": "document_url", "document_url": f"data:application/pdf;base64,{pdf}"}
    reply = await ask(simulator, "/providers/mistral/azure/ocr", {"model": "mistral-ocr-2512", "document": document})
    assert reply.json["usage_info"]["pages_processed"] == 3
    assert [page["index"] for page in reply.json["pages"]] == [0, 1, 2]
    assert (await last(simulator))["usage"] == {"prompt": 0, "pages": 3}
    body = {"model": "mistral-ocr-2512", "document": document, "pages": [2]}
    chosen = await ask(simulator, "/providers/mistral/azure/ocr", body)
    assert chosen.json["usage_info"]["pages_processed"] == 1
    named = {**document, "document_name": "[[sim pages=40]]"}
    parsed = await ask(simulator, COHERE + "parse", {"model": "Cohere-parse-v5", "document": named}, query="")
    assert parsed.json["meta"]["billed_units"] == {"pages": 40}
    assert (await last(simulator))["usage"]["pages"] == 40


async def test_the_legacy_hosts(simulator: Simulator) -> None:
    headers = {**BEARER, "host": "cohere-rerank-v3-english.eastus.models.ai.azure.com"}
    body = {"query": "a", "documents": [{"text": "a b"}, "c"], "return_documents": True}
    reply = await ask(simulator, "/v1/rerank", body, query="", headers=headers)
    assert reply.json["results"][0]["document"] == {"text": "a b"}
    assert reply.json["meta"]["api_version"] == {"version": "1"}
    assert int(reply.headers["num_tokens"]) > 0
    assert reply.headers["azureml-model-group"].startswith("offer-")
    call = await last(simulator)
    assert (call["surface"], call["deployment"]) == ("serverless", "cohere-rerank-v3-english")
    headers["host"] = "cohere-embed-v3-english.eastus.models.ai.azure.com"
    embedded = await ask(simulator, "/v1/embed", {"texts": ["a"]}, query="", headers=headers)
    assert len(embedded.json["embeddings"][0]) == 1024
    assert embedded.json["response_type"] == "embeddings_floats"


async def test_what_is_refused(simulator: Simulator) -> None:
    broken = {"model": "cohere-rerank-v4.0-pro", "query": "a", "documents": ["b"]}
    query = "api-version=2024-05-01-preview"
    assert (await ask(simulator, "/models/v1/rerank", broken, query=query)).status == 500
    for path, body in (
        ("rerank", {"model": "cohere-rerank-v4.0-pro", "query": "a", "documents": []}),
        ("rerank", {"model": "cohere-rerank-v4.0-pro", "query": "a", "documents": ["b"], "top_n": 0}),
        ("embed", {"model": "embed-v-4-0", "texts": ["a"]}),
        ("embed", {"model": "embed-v-4-0", "texts": [], "input_type": "x"}),
        ("embed", {"model": "cohere-rerank-v4.0-pro", "texts": ["a"], "input_type": "x"}),
        ("chat", {"model": "cohere-command-a", "messages": []}),
        ("parse", {"model": "Cohere-parse-v5", "document": {}}),
    ):
        assert (await ask(simulator, COHERE + path, body, query="")).status == 400
    wrong = await ask(simulator, COHERE + "rerank", {**broken, "model": "gpt-4o"}, query="")
    assert (wrong.status, wrong.json["error"]["code"]) == (404, "api_not_supported")
    assert (await served(simulator))["total"] == 0
