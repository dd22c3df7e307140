"""Where each kind of deployment is called for what, and what it is not called for."""

import pytest

from services.proxy.domain.deployments import Surface, Way
from services.proxy.domain.facts import Family
from services.proxy.domain.paths import STORED, Endpoint
from services.proxy.domain.surfaces import base_of, narrows, ways_of

OPENAI = "https://r.openai.azure.com/"
FOUNDRY = "https://r.services.ai.azure.com"
CREATING = {
    Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.IMAGES, Endpoint.IMAGE_EDITS,
    Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS, Endpoint.SPEECH,
}  # fmt: skip
RESPONSES = {Endpoint.RESPONSES, Endpoint.RESPONSE, Endpoint.RESPONSE_CANCEL, Endpoint.RESPONSE_ITEMS}
TRANSLATED = {Endpoint.MESSAGES, Endpoint.COUNT_TOKENS}


def ways(
    family: Family = "openai",
    surface: Surface = "classic",
    *,
    provider: str = "azure",
    base: str = OPENAI,
    name: str = "dep",
    version: str | None = None,
    model: str | None = None,
    mode: str | None = None,
    narrow: bool = True,
) -> dict[Endpoint, Way]:
    return ways_of(provider, name, base, version, family, surface, model=model, mode=mode, narrow=narrow)


@pytest.mark.parametrize(
    "base",
    ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/", "/models", "/v1", "/anthropic", "/anthropic/v1/",
     "/anthropic/v1/messages", "/models/chat/completions", "/api/projects/p1", "/api/projects/p1/openai/v1"],
)  # fmt: skip
def test_bases_with_and_without_tails(base: str) -> None:
    assert base_of(FOUNDRY + base)[0] == FOUNDRY
    assert base_of(FOUNDRY + "/team" + base)[0] == FOUNDRY + "/team"


def test_classic() -> None:
    found = ways()
    root = "https://r.openai.azure.com/openai/deployments/dep"
    for endpoint in CREATING:
        assert found[endpoint] == Way(url=f"{root}/{endpoint}?api-version=2024-10-21", wire=endpoint)
    assert set(found) == CREATING | STORED | RESPONSES | TRANSLATED | {Endpoint.REALTIME}
    dated = ways(version="2024-06-01")[Endpoint.CHAT].url
    assert dated == f"{root}/chat/completions?api-version=2024-06-01"


def test_classic_in_a_preview_has_all_at_the_resource() -> None:
    found = ways(version="2025-04-01-preview", name="a b")
    query = "?api-version=2025-04-01-preview"
    assert found[Endpoint.RESPONSES] == Way(
        url=f"https://r.openai.azure.com/openai/responses{query}", wire=Endpoint.RESPONSES, body_model="a b"
    )
    assert found[Endpoint.FILES].url == f"https://r.openai.azure.com/openai/files{query}"
    assert found[Endpoint.BATCH_CANCEL].url == f"https://r.openai.azure.com/openai/batches/{{id}}/cancel{query}"
    assert found[Endpoint.REALTIME].url == f"wss://r.openai.azure.com/openai/realtime{query}&deployment=a%20b"


def test_classic_in_a_stable_version_takes_the_rest_from_v1() -> None:
    found = ways()
    assert found[Endpoint.RESPONSES].url == "https://r.openai.azure.com/openai/v1/responses"
    assert found[Endpoint.RESPONSES].body_model == "dep"
    assert found[Endpoint.REALTIME].url == "wss://r.openai.azure.com/openai/v1/realtime?model=dep"


@pytest.mark.parametrize(
    ("version", "query"),
    [("v1", ""), (None, ""), ("preview", "?api-version=preview"), ("latest", "?api-version=latest")],
)
def test_v1(version: str | None, query: str) -> None:
    found = ways(surface="v1", version=version, base="http://127.0.0.1:9/openai/v1/")
    for endpoint in CREATING | {Endpoint.RESPONSES}:
        url = f"http://127.0.0.1:9/openai/v1/{endpoint}{query}"
        assert found[endpoint] == Way(url=url, wire=endpoint, body_model="dep")
    assert found[Endpoint.RESPONSE].url == f"http://127.0.0.1:9/openai/v1/responses/{{id}}{query}"
    assert found[Endpoint.REALTIME].url.startswith("ws://127.0.0.1:9/openai/v1/realtime?model=dep")


def test_models() -> None:
    found = ways("open", "models", provider="azure_ai", base=FOUNDRY)
    url = f"{FOUNDRY}/models/chat/completions?api-version=2024-05-01-preview"
    assert found[Endpoint.CHAT] == Way(url=url, wire=Endpoint.CHAT, body_model="dep")
    assert found[Endpoint.RESPONSES].url == f"{FOUNDRY}/openai/v1/responses"
    assert not set(found) & {Endpoint.IMAGES, Endpoint.SPEECH, Endpoint.FILES, Endpoint.RERANK}
    dated = ways("open", "models", provider="azure_ai", base=FOUNDRY, version="2025-01-01-preview")
    assert dated[Endpoint.EMBEDDINGS].url.endswith("/models/embeddings?api-version=2025-01-01-preview")


@pytest.mark.parametrize("family", ["open", "cohere", "unknown"])
def test_a_family_that_closes_nothing(family: Family) -> None:
    found = set(ways(family, "models", provider="azure_ai", base=FOUNDRY, narrow=False))
    everything = CREATING | STORED | RESPONSES | TRANSLATED | {Endpoint.REALTIME}
    assert found == everything | ({Endpoint.RERANK, Endpoint.OCR} if family == "cohere" else set())


@pytest.mark.parametrize(
    ("family", "name", "guessed", "closes"),
    [
        ("claude", "claude-opus-5", True, True), ("mistral_ocr", "mistral-ocr", True, True), ("flux", "f", True, True),
        ("mai", "mai-image-2", True, True), ("cohere", "Cohere-rerank-v4", True, True),
        ("cohere", "embed-v-4-0", True, False), ("cohere", "command-a", True, False), ("open", "phi-4", True, False),
        ("unknown", "prod", True, False), ("open", "phi-4", False, True), ("cohere", "embed-v-4-0", False, True),
    ],
)  # fmt: skip
def test_which_guesses_close_ways(family: Family, name: str, guessed: bool, closes: bool) -> None:
    assert narrows(family, name, guessed=guessed) is closes


@pytest.mark.parametrize(("tail", "prefix"), [("", ""), ("/v1", "/v1"), ("/v1/chat/completions", "/v1")])
def test_serverless(tail: str, prefix: str) -> None:
    host = "https://m.eastus.models.ai.azure.com"
    found = ways("open", "serverless", provider="azure_ai", base=host + tail)
    assert found[Endpoint.CHAT].url == f"{host}{prefix}/chat/completions"
    assert set(found) == {Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS} | TRANSLATED
    cohere = ways("cohere", "serverless", provider="azure_ai", base=host)
    assert cohere[Endpoint.RERANK].url == f"{host}/v1/rerank"


@pytest.mark.parametrize("base", [FOUNDRY, FOUNDRY + "/anthropic", FOUNDRY + "/anthropic/v1/messages"])
def test_claude(base: str) -> None:
    found = ways("claude", "anthropic", provider="azure_ai", base=base)
    headers = (("anthropic-version", "2023-06-01"),)
    url = f"{FOUNDRY}/anthropic/v1/messages"
    assert found == {
        Endpoint.MESSAGES: Way(url=url, wire=Endpoint.MESSAGES, body_model="dep", headers=headers),
        Endpoint.COUNT_TOKENS: Way(
            url=f"{url}/count_tokens", wire=Endpoint.COUNT_TOKENS, body_model="dep", headers=headers
        ),
        Endpoint.CHAT: Way(
            url=url, wire=Endpoint.MESSAGES, body_model="dep", headers=headers, translation="chat_to_messages"
        ),
    }


def test_messages_on_a_chat_deployment_are_translated() -> None:
    found = ways()
    chat = found[Endpoint.CHAT]
    assert found[Endpoint.MESSAGES] == Way(url=chat.url, wire=Endpoint.CHAT, translation="messages_to_chat")
    assert found[Endpoint.COUNT_TOKENS] == Way(url="", wire=Endpoint.COUNT_TOKENS)


def test_partners() -> None:
    cohere = ways("cohere", "models", provider="azure_ai", base=FOUNDRY)
    assert cohere[Endpoint.RERANK] == Way(
        url=f"{FOUNDRY}/providers/cohere/v2/rerank", wire=Endpoint.RERANK, body_model="dep"
    )
    assert cohere[Endpoint.OCR].url == f"{FOUNDRY}/providers/cohere/v2/parse"
    assert cohere[Endpoint.EMBEDDINGS].url.startswith(f"{FOUNDRY}/models/embeddings?")
    ocr = ways("mistral_ocr", "providers", provider="azure_ai", base=FOUNDRY)
    url = f"{FOUNDRY}/providers/mistral/azure/ocr"
    assert ocr == {Endpoint.OCR: Way(url=url, wire=Endpoint.OCR, body_model="dep")}
    mai = ways("mai", "providers", provider="azure_ai", base=FOUNDRY)
    assert mai[Endpoint.IMAGE_EDITS].url == f"{FOUNDRY}/mai/v1/images/edits?api-version=preview"
    assert set(mai) == {Endpoint.IMAGES, Endpoint.IMAGE_EDITS}


@pytest.mark.parametrize(
    ("model", "surface", "path"),
    [
        ("FLUX.2-pro", "models", "/providers/blackforestlabs/v1/flux-2-pro?api-version=preview"),
        ("FLUX.2-flex", "models", "/providers/blackforestlabs/v1/flux-2-flex?api-version=preview"),
        ("FLUX.1-Kontext-pro", "models", "/openai/deployments/dep/images/generations?api-version=preview"),
        ("FLUX-1.1-pro", "models", "/openai/deployments/dep/images/generations?api-version=preview"),
        ("FLUX.1-Kontext-pro", "providers", "/providers/blackforestlabs/v1/flux-kontext-pro?api-version=preview"),
        ("FLUX-1.1-pro", "providers", "/providers/blackforestlabs/v1/flux-pro-1.1?api-version=preview"),
        (None, "models", "/openai/deployments/dep/images/generations?api-version=preview"),
    ],
)
def test_flux(model: str | None, surface: Surface, path: str) -> None:
    found = ways("flux", surface, provider="azure_ai", base=FOUNDRY, model=model)
    assert found[Endpoint.IMAGES].url == FOUNDRY + path
    assert (Endpoint.IMAGE_EDITS in found) == ("/openai/" in path)


@pytest.mark.parametrize(
    ("mode", "there", "missing"),
    [
        ("chat", {Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.MESSAGES}, {Endpoint.EMBEDDINGS, Endpoint.SPEECH}),
        ("responses", {Endpoint.RESPONSES, Endpoint.RESPONSE}, {Endpoint.CHAT, Endpoint.MESSAGES}),
        ("embedding", {Endpoint.EMBEDDINGS, Endpoint.BATCHES}, {Endpoint.CHAT}),
        ("audio_speech", {Endpoint.SPEECH}, {Endpoint.CHAT, Endpoint.TRANSCRIPTIONS}),
        ("realtime", {Endpoint.REALTIME}, {Endpoint.CHAT}),
        ("something", {Endpoint.CHAT, Endpoint.SPEECH}, set[Endpoint]()),
    ],
)
def test_a_declared_mode_leaves_only_its_own(mode: str, there: set[Endpoint], missing: set[Endpoint]) -> None:
    found = set(ways(mode=mode))
    assert there <= found
    assert not missing & found
