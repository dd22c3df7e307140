"""Plain HTTP: what has no client of its own, and the raw routes in Foundry's own words."""

from typing import Any

import pytest

from tests.clients.tape import Tape

CLIENT = "httpx"
HI = {"messages": [{"role": "user", "content": "Hi [[sim completion=5]]"}]}
RERANK = {"query": "hot [[sim queries=3]]", "documents": ["ladle", "tundish"]}
OCR = {"document": {"type": "document_url", "document_url": "https://foundry.invalid/a.pdf", "document_name": "a"}}
PDF = "data:application/pdf;base64,JVBERi0gL1R5cGUgL1BhZ2UgL1R5cGUgL1BhZ2UgL1R5cGUgL1BhZ2U="


def steered(words: str) -> dict[str, Any]:
    return {"document": {**OCR["document"], "document_name": f"a [[sim {words}]]"}}


@pytest.mark.row("Rerank", client=CLIENT)
@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank(tape: Tape, path: str) -> None:
    answer = tape.post(path, json={"model": "rerank", **RERANK})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == 2


@pytest.mark.row("OCR", client=CLIENT)
@pytest.mark.parametrize(
    ("body", "pages"), [(OCR, 1), (steered("pages=7"), 7), ({"document": {"document_url": PDF}}, 3)]
)
def test_ocr(tape: Tape, body: dict[str, Any], pages: int) -> None:
    answer = tape.post("/v1/ocr", json={"model": "ocr", **body})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage_info"]["pages_processed"] == pages


RAW = [
    ("/azure/gpt-4o/openai/deployments/gpt-4o-deployment/chat/completions?api-version=2024-10-21", HI),
    ("/azure/gpt-4o/chat/completions", HI),
    ("/azure/gpt-5-mini/openai/v1/chat/completions", {"model": "gpt-5-mini", **HI}),
    ("/azure/embed/embeddings", {"input": ["alpha"]}),
    ("/azure/image/openai/v1/images/generations", {"prompt": "A ladle", "quality": "low"}),
    ("/azure_ai/phi-4/models/chat/completions", HI),
    ("/azure_ai/claude/anthropic/v1/messages", {"max_tokens": 50, **HI}),
    ("/azure_ai/rerank/providers/cohere/v2/rerank", RERANK),
    ("/azure_ai/ocr/providers/mistral/azure/ocr", OCR),
    ("/azure_ai/flux/providers/blackforestlabs/v1/flux-2-pro", {"prompt": "A ladle"}),
]


@pytest.mark.row("Raw routes", client=CLIENT)
@pytest.mark.parametrize(("path", "body"), RAW, ids=[path.partition("?")[0] for path, _ in RAW])
def test_raw(tape: Tape, path: str, body: dict[str, Any]) -> None:
    answer = tape.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["x-tundish-cost-nusd"]) > 0


@pytest.mark.row("Raw routes", client=CLIENT, mode="stream")
@pytest.mark.parametrize(("path", "body"), [RAW[0], RAW[5], RAW[6]], ids=["chat", "models", "messages"])
def test_streamed_raw(tape: Tape, path: str, body: dict[str, Any]) -> None:
    answer = tape.post(path, json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    tape.events = answer.text.count("data: ")
    assert tape.events > 5
    assert "[DONE]" in answer.text or "message_stop" in answer.text


@pytest.mark.row("Raw routes: what is not offered", client=CLIENT)
@pytest.mark.parametrize(
    "path",
    [
        "/azure/gpt-4o/openai/deployments/phi-4-deployment/chat/completions",
        "/azure/gpt-4o/openai/v1/files",
        "/azure/gpt-4o/openai/v1/responses",
        "/azure/gpt-9/chat/completions",
    ],
)
def test_raw_refusals(tape: Tape, path: str) -> None:
    answer = tape.post(path, json=HI)
    assert answer.status_code in (400, 403, 404), answer.text
    assert answer.json()["error"]["code"]


@pytest.mark.row("Headers of answers", client=CLIENT)
def test_headers(tape: Tape) -> None:
    answer = tape.post("/v1/chat/completions", json={"model": "gpt-4o", **HI})
    (call,) = tape.gateway.served()
    head = answer.headers
    assert head["x-tundish-call-id"] == head["x-litellm-call-id"] == call["client_request_id"]
    assert head["apim-request-id"] == call["request_id"]
    assert head["x-tundish-model"] == "gpt-4o"
    assert head["x-tundish-retries"] == "0"
    assert float(head["x-litellm-response-cost"]) == float(head["x-tundish-cost"])
    assert round(float(head["x-tundish-cost"]) * 1e9) == int(head["x-tundish-cost-nusd"]) > 0


@pytest.mark.row("Engines, as old clients call them", client=CLIENT)
def test_engines(tape: Tape) -> None:
    answer = tape.post("/v1/engines/gpt-4o/chat/completions", json=HI)
    assert answer.status_code == 200, answer.text


@pytest.mark.row("Errors: rerank, OCR and raw", client=CLIENT)
@pytest.mark.parametrize(
    ("deployment", "path", "body"),
    [
        ("cohere-rerank-v4.0-pro", "/v1/rerank", {"model": "rerank", **RERANK}),
        ("mistral-ocr-2505", "/v1/ocr", {"model": "ocr", **OCR}),
        ("gpt-4o-deployment", RAW[0][0], HI),
    ],
    ids=["rerank", "ocr", "raw"],
)
@pytest.mark.parametrize(
    ("fault", "status"), [("rate_tokens", 429), ("server_error", 500), ("bad_key", 502), ("html", 502)]
)
def test_errors(tape: Tape, deployment: str, path: str, body: dict[str, Any], fault: str, status: int) -> None:
    tape.fault(deployment, fault)
    answer = tape.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
