"""Raw routes: every row of the table over the whole product, metered exactly; everything else is refused."""

import json

import httpx
import pytest
import yaml

from services.proxy.domain.raw import TABLE
from tests.support.raw_calls import RawCall, call_of
from tests.support.stack import Stack
from tests.support.surfaces import CONFIG, Ledger

pytestmark = pytest.mark.stack

DEPLOYMENT_OF = {
    one["model_name"]: one["litellm_params"]["model"].partition("/")[2]
    for one in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["model_list"]
}
ROWS = [(provider, rest) for provider, rows in TABLE.items() for rest in rows]
OTHERS = "gpt-5-mini-deployment"
"""A deployment that none of these calls is for."""


def send(stack: Stack, key: str, call: RawCall, query: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "content-type": call.content_type}
    url = f"{stack.url}/{call.provider}/{call.model}/{call.rest}{query}"
    return httpx.post(url, headers=headers, content=call.body, timeout=30, trust_env=False)


@pytest.mark.parametrize(("provider", "rest"), ROWS, ids=["/".join(row) for row in ROWS])
def test_every_row_is_served_and_booked_to_the_nano_dollar(
    surfaces: Stack, ledger: Ledger, provider: str, rest: str
) -> None:
    call = call_of(provider, rest, DEPLOYMENT_OF)
    answer = send(surfaces, ledger.mint(), call)
    assert answer.status_code == 200, answer.text
    if "count_tokens" in rest:
        assert ledger.equal().nusd == 0
        return
    (served,) = ledger.served()
    assert served["deployment"] == DEPLOYMENT_OF[call.model]
    assert ledger.equal().nusd > 0


@pytest.mark.parametrize(("provider", "rest"), ROWS, ids=["/".join(row) for row in ROWS])
def test_a_body_that_names_another_deployment_goes_to_this_one(
    surfaces: Stack, ledger: Ledger, provider: str, rest: str
) -> None:
    call = call_of(provider, rest, DEPLOYMENT_OF, names=OTHERS)
    answer = send(surfaces, ledger.mint(), call)
    assert answer.status_code == 200, answer.text
    ledger.equal()
    assert {served["deployment"] for served in ledger.served()} <= {DEPLOYMENT_OF[call.model]}


@pytest.mark.parametrize("rest", [rest for rest in TABLE["azure"] if "{deployment}" in rest])
def test_a_path_that_names_another_deployment_is_not_there(surfaces: Stack, ledger: Ledger, rest: str) -> None:
    call = call_of("azure", rest, {**DEPLOYMENT_OF, **dict.fromkeys(DEPLOYMENT_OF, OTHERS)})
    answer = send(surfaces, ledger.mint(), call)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert ledger.served() == []


STREAMED = [
    ("azure", "chat/completions"), ("azure", "openai/v1/chat/completions"), ("azure", "openai/v1/completions"),
    ("azure_ai", "models/chat/completions"), ("azure_ai", "anthropic/v1/messages"),
    ("azure_ai", "providers/cohere/v2/chat"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "rest"), STREAMED, ids=["/".join(row) for row in STREAMED])
def test_streams_are_booked_to_the_nano_dollar(surfaces: Stack, ledger: Ledger, provider: str, rest: str) -> None:
    call = call_of(provider, rest, DEPLOYMENT_OF)
    call = call._replace(body=json.dumps({**json.loads(call.body), "stream": True}).encode())
    answer = send(surfaces, ledger.mint(), call)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ledger.equal().nusd > 0


@pytest.mark.parametrize(
    "rest",
    [
        "responses", "openai/v1/responses", "openai/responses", "openai/v1/responses/resp_1", "openai/v1/files",
        "openai/v1/files/file-1/content", "openai/files", "openai/v1/batches", "openai/v1/conversations",
        "openai/v1/conversations/conv_1/items", "openai/v1/assistants", "openai/v1/threads", "openai/v1/vector_stores",
        "openai/v1/containers", "openai/v1/fine_tuning/jobs", "openai/v1/evals", "openai/v1/models",
        "openai/v1/realtime",
        "openai/realtime", "openai/deployments", "openai/deployments/gpt-4o-deployment",
        "openai/deployments/gpt-4o-deployment/extensions/chat/completions", "openai/deployments/a/b/chat/completions",
        "openai/v1/chat/completions/chatcmpl-1", "info", "models/images/embeddings",
        "models/info", "models/v1/rerank", "anthropic/v1/files",
        "anthropic/v1/messages/batches", "anthropic/v1/models", "anthropic/v1/skills", "providers/cohere/v2",
        "providers/cohere/v2/datasets", "providers/mistral/azure/files", "mai/v1/videos", "management",
        "subscriptions/1/providers/Microsoft.CostManagement/query", "_sim/served", "secrets/a", "api/projects/p/agents",
        "chat/completions/", "Chat/Completions", "{deployment}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["azure", "azure_ai"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_no_other_path_is_there(surfaces: Stack, ledger_key: str, provider: str, rest: str, method: str) -> None:
    url = f"{surfaces.url}/{provider}/gpt-4o/{rest}"
    answer = httpx.request(
        method, url, headers={"api-key": ledger_key}, json={"model": "x", "messages": []}, trust_env=False
    )
    if rest.endswith("/"):  # a path that could be read in two ways
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_path")
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_supported")


@pytest.mark.parametrize(
    "path",
    [
        "azure/gpt-4o/%2e%2e/claude/chat/completions",
        "azure/gpt-4o/openai/deployments/..%2fgpt-5-mini-deployment/chat/completions", "azure/gpt-4o//chat/completions",
        "azure/gpt-4o/openai/deployments/a%5cb/chat/completions", "azure/gpt-4o/chat%00/completions",
    ],
)  # fmt: skip
def test_odd_spellings_of_paths_are_refused(surfaces: Stack, ledger_key: str, path: str) -> None:
    with httpx.Client(trust_env=False) as client:
        request = client.build_request("POST", surfaces.url, headers={"api-key": ledger_key}, json={"messages": []})
        request.url = request.url.copy_with(raw_path=f"/{path}".encode())
        answer = client.send(request)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_path")


def test_a_raw_path_passes_the_same_gate(surfaces: Stack, ledger: Ledger) -> None:
    call = call_of("azure", "chat/completions", DEPLOYMENT_OF)
    assert send(surfaces, "sk-wrong", call).status_code == 401
    assert send(surfaces, ledger.mint(models=["claude"]), call).json()["error"]["code"] == "model_not_allowed"
    assert send(surfaces, ledger.mint(max_budget=0.000001), call).json()["error"]["code"] == "budget_exceeded"
    assert send(surfaces, ledger.mint(), call._replace(model="nothing")).json()["error"]["code"] == "model_not_found"
    assert ledger.served() == []


@pytest.mark.parametrize("rest", ["anthropic/v1/messages", "providers/cohere/v2/rerank", "mai/v1/images/edits"])
def test_paths_of_other_families_are_not_there(surfaces: Stack, ledger: Ledger, rest: str) -> None:
    call = call_of("azure_ai", rest, DEPLOYMENT_OF)._replace(model="phi-4")
    answer = send(surfaces, ledger.mint(), call)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_supported")
    assert ledger.served() == []


@pytest.mark.parametrize("version", ["2025-04-01-preview", "1&deployment=x", "../../x", ""])
def test_only_a_version_passes_into_the_query(surfaces: Stack, ledger: Ledger, version: str) -> None:
    call = call_of("azure", "openai/deployments/{deployment}/chat/completions", DEPLOYMENT_OF)
    answer = send(surfaces, ledger.mint(), call, f"?api-version={version}&deployment=gpt-5-mini-deployment")
    assert answer.status_code == 200, answer.text
    ledger.equal()
    assert [served["deployment"] for served in ledger.served()] == [DEPLOYMENT_OF["gpt-4o"]]
