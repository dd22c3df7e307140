"""The raw routes: a fixed table, this deployment alone, and nothing that stores or manages."""

from collections import defaultdict

import msgspec
import pytest

from services.proxy.domain.deployments import Deployment, Family, Surface
from services.proxy.domain.holds.prepare import prepare
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.raw import TABLE, raw_operation, raw_way
from services.proxy.domain.requests import read_request
from services.proxy.domain.surfaces import ways_of
from shared.pricing import PriceRow, Rates
from tests.support.raw_calls import apart, call_of

BASE = "https://res.services.ai.azure.com"


def deployment(name: str, family: Family, surface: Surface = "models", provider: str = "azure_ai") -> Deployment:
    return Deployment(
        model="public",
        name=name,
        provider=provider,
        host="res.services.ai.azure.com",
        base=BASE,
        headers=(),
        row=None,
        fixed_price=False,
        priced_by="",
        family=family,
        surface=surface,
        ways=ways_of(provider, name, BASE, None, family, surface),
    )


GPT = deployment("chat-eu", "openai", "classic", "azure")
CLAUDE = deployment("claude", "claude", "anthropic")
COHERE = deployment("rerank", "cohere", "providers")


@pytest.mark.parametrize(
    ("item", "provider", "rest", "url"),
    [
        (
            GPT,
            "azure",
            "chat/completions",
            f"{BASE}/openai/deployments/chat-eu/chat/completions?api-version=2024-10-21",
        ),
        (
            GPT,
            "azure",
            "openai/deployments/chat-eu/chat/completions",
            f"{BASE}/openai/deployments/chat-eu/chat/completions?api-version=2024-10-21",
        ),
        (GPT, "azure", "openai/v1/embeddings", f"{BASE}/openai/v1/embeddings"),
        (CLAUDE, "azure_ai", "anthropic/v1/messages", f"{BASE}/anthropic/v1/messages"),
        (COHERE, "azure_ai", "providers/cohere/v2/rerank", f"{BASE}/providers/cohere/v2/rerank"),
    ],
)
def test_a_row_leads_to_its_own_url(item: Deployment, provider: str, rest: str, url: str) -> None:
    found = raw_operation(provider, rest)
    assert found is not None
    way = raw_way(found[0], item, None)
    assert way is not None
    assert way.url == url


def test_the_path_may_name_this_deployment_only_and_says_which_it_named() -> None:
    found = raw_operation("azure", "openai/deployments/other/chat/completions")
    assert found is not None
    assert found[1] == "other"
    way = raw_way(found[0], GPT, None)
    assert way is not None
    assert "other" not in way.url


@pytest.mark.parametrize(
    ("version", "query"),
    [
        (None, "?api-version=2024-10-21"),
        ("2025-04-01-preview", "?api-version=2025-04-01-preview"),
        ("preview", "?api-version=preview"),
        ("1&x=/../", "?api-version=2024-10-21"),
        ("", "?api-version=2024-10-21"),
    ],
)
def test_an_api_version_passes_only_when_it_is_one(version: str | None, query: str) -> None:
    found = raw_operation("azure", "openai/deployments/chat-eu/embeddings")
    assert found is not None
    way = raw_way(found[0], GPT, version)
    assert way is not None
    assert way.url.endswith(f"/embeddings{query}")


@pytest.mark.parametrize("provider", sorted(TABLE))
@pytest.mark.parametrize(
    "rest",
    [
        "responses",
        "openai/v1/responses",
        "openai/responses",
        "openai/v1/files",
        "openai/files",
        "openai/v1/batches",
        "openai/v1/conversations",
        "openai/v1/assistants",
        "openai/v1/vector_stores",
        "openai/v1/fine_tuning/jobs",
        "openai/deployments",
        "openai/deployments/",
        "openai/deployments//chat/completions",
        "openai/deployments/a/b/chat/completions",
        "openai/deployments/chat-eu/responses",
        "openai/v1/models",
        "openai/v1/realtime",
        "info",
        "anthropic/v1/files",
        "anthropic/v1/models",
        "providers/cohere/v2",
        "management",
        "{deployment}",
    ],
)
def test_what_stores_manages_or_lists_is_not_offered(provider: str, rest: str) -> None:
    assert raw_operation(provider, rest) is None


def test_paths_of_one_vendor_lead_nowhere_for_the_models_of_another() -> None:
    for rest in (
        "anthropic/v1/messages",
        "providers/cohere/v2/chat",
        "providers/mistral/azure/ocr",
        "mai/v1/images/edits",
    ):
        found = raw_operation("azure_ai", rest)
        assert found is not None
        assert raw_way(found[0], GPT, None) is None


def test_claude_has_none_of_the_common_paths() -> None:
    for rest in ("models/chat/completions", "openai/v1/chat/completions", "models/embeddings"):
        found = raw_operation("azure_ai", rest)
        assert found is not None
        assert raw_way(found[0], CLAUDE, None) is None


def test_no_row_goes_by_way_of_a_translation() -> None:
    found = raw_operation("azure_ai", str(Endpoint.CHAT))
    assert found is not None
    assert CLAUDE.ways[Endpoint.CHAT].translation == "chat_to_messages"
    assert raw_way(found[0], CLAUDE, None) is None


def test_nothing_in_the_table_reaches_stored_objects() -> None:
    for rows in TABLE.values():
        for rest, row in rows.items():
            for word in ("responses", "files", "batches", "assistants", "threads", "vector", "fine"):
                assert word not in rest
                assert word not in row.path


ROW = PriceRow(
    model="m",
    rates=Rates(input=1, output=1, images=1, milliseconds=1, characters=1, queries=1, pages=1),
)
FAMILIES: dict[str, Family] = {
    "claude": "claude", "rerank": "cohere", "command": "cohere", "parse": "cohere", "cohere-embed": "cohere",
    "ocr": "mistral_ocr", "flux": "flux", "flux-flex": "flux", "kontext": "flux", "flux-1": "flux", "mai": "mai",
}  # fmt: skip


def made_of(provider: str, model: str) -> Deployment:
    """The deployment of a row's call. It reasons, so that parameters would be renamed if they were looked at."""
    family = FAMILIES.get(model, "openai" if provider == "azure" else "open")
    surface: Surface = "classic" if provider == "azure" else "anthropic" if family == "claude" else "models"
    made = deployment("this-deployment", family, surface, provider)
    made.row = made.hold_row = ROW
    made.facts = msgspec.structs.replace(made.facts, reasoning=True)
    return made


@pytest.mark.parametrize(("provider", "rest"), [(provider, rest) for provider, rows in TABLE.items() for rest in rows])
def test_a_body_passes_byte_for_byte_but_for_its_model(provider: str, rest: str) -> None:
    call = call_of(provider, rest, defaultdict(lambda: "this-deployment"), names="another-deployment")
    found = raw_operation(provider, call.rest)
    assert found is not None
    item = made_of(provider, call.model)
    way = raw_way(found[0], item, None)
    assert way is not None
    asked = read_request(call.body, found[0].reads, "public", call.content_type)
    ready = prepare(asked, call.body, item, way, ROW, strict=False, default_output=100)
    if way.body_model is None:
        assert ready.body == call.body
        return
    rest_sent, model = apart(ready.body, call.content_type)
    assert model == "this-deployment"
    assert rest_sent == apart(call.body, call.content_type)[0]
