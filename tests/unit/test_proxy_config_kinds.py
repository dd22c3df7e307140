"""Family, surface, facts and ids of deployments: declared, discovered or guessed, and never guessed in silence."""

import logging
from pathlib import Path

import pytest

from services.proxy.config.file import Config, load_config
from services.proxy.config.kinds import NAMED_MAX, described, guesses
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.refused import no_price, not_served
from services.proxy.domain.surfaces import serves
from services.proxy.models import info_entry
from shared.catalogue import load
from shared.errors import SettingsError

BOOK = PriceBook(row for entry in load() if (row := entry.price_row()) is not None)
FOUNDRY = "https://r.services.ai.azure.com/"
OPENAI = "https://r.openai.azure.com/"


def entry(model: str, *, base: str = FOUNDRY, public: str = "public", params: str = "", info: str = "") -> str:
    return (
        f"  - model_name: {public}\n    litellm_params:\n      model: {model}\n      api_base: {base}\n"
        f"      api_key: hush-hush-hush\n{params}" + (f"    model_info: {{{info}}}\n" if info else "")
    )


def read(tmp_path: Path, *entries: str, more: str = "") -> Config:
    path = tmp_path / "config.yaml"
    path.write_text("model_list:\n" + "".join(entries) + more)
    return load_config(path, {"SUB": "apim-key"}, BOOK)


def one(tmp_path: Path, model: str, **keys: str) -> Deployment:
    (deployments,) = read(tmp_path, entry(model, **keys)).models.values()
    return deployments[0]


def mistake(tmp_path: Path, *entries: str, more: str = "") -> str:
    with pytest.raises(SettingsError) as error:
        read(tmp_path, *entries, more=more)
    return str(error.value)


@pytest.mark.parametrize(
    ("model", "keys", "family", "surface", "how", "family_guessed"),
    [
        ("azure/prod", {"base": OPENAI}, "openai", "classic", "the prefix azure/", False),
        ("azure/prod", {"base": OPENAI + "openai/v1/"}, "openai", "v1", "the prefix azure/", False),
        ("azure/prod", {"params": "      api_version: preview\n"}, "openai", "v1", "the prefix azure/", False),
        ("azure_ai/phi-4", {}, "open", "models", "the deployment's name alone", True),
        ("azure_ai/prod", {"public": "phi-4"}, "open", "models", "model_name alone", True),
        ("azure_ai/prod", {}, "unknown", "models", "nothing", True),
        ("azure_ai/prod", {"params": "      api_version: v1\n"}, "unknown", "v1", "nothing", True),
        ("azure_ai/claude-sonnet-5", {}, "claude", "anthropic", "the deployment's name alone", True),
        ("azure_ai/prod", {"base": FOUNDRY + "anthropic"}, "claude", "anthropic", "the end of api_base", False),
        ("azure_ai/prod", {"info": "family: claude"}, "claude", "anthropic", "model_info.family", False),
        ("azure_ai/prod", {"info": "surface: anthropic"}, "claude", "anthropic", "surface: anthropic", False),
        ("azure_ai/prod", {"info": "base_model: claude-opus-5"}, "claude", "anthropic",
         "base_model claude-opus-5", False),
        ("azure_ai/prod", {"params": "      base_model: azure_ai/phi-4\n"}, "open", "models",
         "base_model azure_ai/phi-4", False),
        ("azure_ai/mistral-ocr-2505", {}, "mistral_ocr", "providers", "the deployment's name alone", True),
        ("azure_ai/MAI-Image-2.5", {}, "mai", "providers", "the deployment's name alone", True),
        ("azure_ai/FLUX.2-pro", {}, "flux", "models", "the deployment's name alone", True),
        ("azure_ai/cohere-rerank-v4.0-pro", {}, "cohere", "models", "the deployment's name alone", True),
        ("azure_ai/phi", {"base": "https://p.eastus.models.ai.azure.com"}, "unknown", "serverless", "nothing", True),
        ("azure/o_series/prod", {}, "openai", "classic", "the prefix o_series/", False),
        ("azure_ai/model_router/prod", {}, "openai", "models", "the prefix model_router/", False),
        ("azure/gpt5", {"info": "family: open, surface: v1"}, "open", "v1", "model_info.family", False),
    ],
)  # fmt: skip
def test_what_a_deployment_is(
    tmp_path: Path, model: str, keys: dict[str, str], family: str, surface: str, how: str, family_guessed: bool
) -> None:
    item = one(tmp_path, model, **keys)
    assert (item.family, item.surface) == (family, surface)
    assert (item.discovered_by, item.family_guessed) == (how, family_guessed)
    assert item.base in ("https://r.services.ai.azure.com", "https://r.openai.azure.com",
                         "https://p.eastus.models.ai.azure.com")  # fmt: skip


def test_credentials_by_surface(tmp_path: Path) -> None:
    assert one(tmp_path, "azure/prod").headers == (("api-key", "hush-hush-hush"),)
    claude = one(tmp_path, "azure_ai/claude-opus-5")
    assert claude.headers == (("x-api-key", "hush-hush-hush"),)
    assert "hush-hush-hush" in claude.secrets
    declared = one(tmp_path, "azure_ai/m", info="surface: serverless")
    assert declared.headers == (("authorization", "Bearer hush-hush-hush"),)
    assert "hush-hush-hush" in declared.secrets


@pytest.mark.parametrize("prefix", ["o_series/", "gpt5_series/"])
def test_series_declare_reasoning_models(tmp_path: Path, prefix: str) -> None:
    item = one(tmp_path, f"azure/{prefix}prod", base=OPENAI)
    assert item.name == "prod"
    assert item.facts.reasoning
    assert item.facts.cap_fields[0] == "max_completion_tokens"
    assert not one(tmp_path, "azure/prod").facts.reasoning


@pytest.mark.parametrize(
    ("base_model", "reasoning", "mode"),
    [
        ("gpt-5-mini", True, "chat"), ("gpt-5-chat", False, "chat"), ("gpt-5.3-chat", False, "chat"),
        ("o3", True, "chat"), ("o4-mini", True, "chat"), ("gpt-4o", False, "chat"), ("gpt-4.1", False, "chat"),
        ("gpt-5.1-codex", True, "responses"), ("gpt-6-sol", True, "chat"), ("gpt-chat-latest", False, "chat"),
        ("gpt-realtime-2", False, "realtime"), ("gpt-image-2", False, "image_generation"),
        ("gpt-oss-120b", False, "chat"), ("text-embedding-3-large", False, "embedding"), ("whisper", False,
        "audio_transcription"), ("codex-mini", True, "responses"),
    ],
)  # fmt: skip
def test_reasoning_and_mode_by_the_model(tmp_path: Path, base_model: str, reasoning: bool, mode: str) -> None:
    facts = one(tmp_path, "azure/prod", info=f"base_model: {base_model}, unpriced: allow").facts
    assert (facts.reasoning, facts.mode) == (reasoning, mode)


def test_reasoning_may_be_declared(tmp_path: Path) -> None:
    assert one(tmp_path, "azure/prod", info="supports_reasoning: true").facts.reasoning
    assert not one(tmp_path, "azure/gpt-5", info="supports_reasoning: false").facts.reasoning
    assert "true or false" in mistake(tmp_path, entry("azure/p", info="supports_reasoning: maybe"))


def test_a_declared_model_has_the_ways_of_its_mode(tmp_path: Path) -> None:
    codex = one(tmp_path, "azure/prod", info="base_model: gpt-5.1-codex")
    assert Endpoint.CHAT not in codex.ways
    assert Endpoint.RESPONSES in codex.ways
    assert Endpoint.CHAT in one(tmp_path, "azure/gpt-5.1-codex").ways  # a name alone closes no way


def test_an_unknown_mode_is_a_mistake(tmp_path: Path) -> None:
    said = mistake(tmp_path, entry("azure/gpt-4o", info="mode: chats"))
    assert "model_list[0].model_info.mode must be one of chat, responses, completion, embedding" in said
    assert one(tmp_path, "azure/gpt-4o", info="mode: embedding").facts.mode == "embedding"


CHATS = ["chat/completions", "messages", "messages/count_tokens"]
RESPONSES = ["responses", "responses/{id}", "responses/{id}/cancel", "responses/{id}/input_items"]
BATCHING = ["batches", "batches/{id}", "batches/{id}/cancel", "files", "files/{id}", "files/{id}/content"]


@pytest.mark.parametrize(
    ("model", "info", "shown"),
    [
        ("azure/whisper-1", "", ["audio/transcriptions", "audio/translations", "realtime"]),
        ("azure/tts-1", "", ["audio/speech"]),
        ("azure/prod", "base_model: tts-1", ["audio/speech"]),
        ("azure/gpt-image-1", "", ["images/edits", "images/generations"]),
        ("azure_ai/cohere-rerank-v4.0-pro", "", ["rerank"]),
        ("azure_ai/claude-opus-5", "", CHATS),
        ("azure_ai/phi-4", "mode: chat", [*CHATS, *RESPONSES]),
        ("azure_ai/phi-4", "", [*CHATS, *RESPONSES]),
        ("azure/gpt-4o", "", sorted([*CHATS, *RESPONSES, *BATCHING])),
    ],
)
def test_what_a_model_is_shown_to_do(tmp_path: Path, model: str, info: str, shown: list[str]) -> None:
    item = one(tmp_path, model, info=info)
    told = info_entry(item, address=False)["model_info"]
    assert isinstance(told, dict)
    assert told["endpoints"] == shown
    assert set(shown) <= {str(endpoint) for endpoint in item.ways}
    refused = not_served("public", Endpoint.OCR, item)
    assert f" does not serve ocr. It serves: {', '.join(shown)}." in str(refused)


def test_a_model_that_nobody_knows_is_shown_with_all_that_is_tried(tmp_path: Path) -> None:
    item = one(tmp_path, "azure/prod", info="unpriced: allow")
    assert serves(item) == sorted(item.ways)


@pytest.mark.parametrize(
    ("model", "info", "endpoint", "status", "ends"),
    [
        ("azure/tts-1", "", Endpoint.TRANSCRIPTIONS, 400, "must set model_info.base_model."),
        ("azure/prod", "base_model: tts-1, mode: audio_speech", Endpoint.CHAT, 400, "It serves: audio/speech."),
        ("azure/tts-1", "", Endpoint.SPEECH, 503, "model_info.unpriced: allow."),
        ("azure/prod", "", Endpoint.CHAT, 503, "model_info.unpriced: allow."),
    ],
)
def test_a_missing_price_of_what_a_model_does_not_do_is_the_callers_mistake(
    tmp_path: Path, model: str, info: str, endpoint: Endpoint, status: int, ends: str
) -> None:
    refused = no_price(one(tmp_path, model, info=info), endpoint, "milliseconds")
    assert (refused.status, refused.code) == (status, "endpoint_not_supported" if status == 400 else "price_unknown")
    assert str(refused).endswith(ends)


@pytest.mark.parametrize(
    ("model", "public", "there", "missing"),
    [
        (
            "azure_ai/phi-4",
            "public",
            {Endpoint.IMAGES, Endpoint.FILES, Endpoint.CHAT, Endpoint.SPEECH},
            Endpoint.RERANK,
        ),
        ("azure_ai/prod", "public", {Endpoint.IMAGES, Endpoint.FILES, Endpoint.CHAT}, Endpoint.RERANK),
        ("azure_ai/embed-v-4-0", "public", {Endpoint.EMBEDDINGS, Endpoint.RESPONSES, Endpoint.RERANK}, None),
    ],
)
def test_a_guess_leaves_all_ways_open(
    tmp_path: Path, model: str, public: str, there: set[Endpoint], missing: Endpoint | None
) -> None:
    item = one(tmp_path, model, public=public, info="unpriced: allow")
    assert there <= set(item.ways)
    assert missing not in item.ways
    assert (item.family_guessed, item.closed) == (True, False)
    assert "closes" not in described(item)


@pytest.mark.parametrize(
    ("model", "public", "there", "missing"),
    [
        ("azure_ai/claude-opus-5", "public", Endpoint.MESSAGES, Endpoint.EMBEDDINGS),
        ("azure_ai/prod", "claude-opus-5", Endpoint.MESSAGES, Endpoint.EMBEDDINGS),
        ("azure_ai/Cohere-rerank-v4.0-pro", "public", Endpoint.RERANK, Endpoint.RESPONSES),
        ("azure_ai/mistral-ocr-2505", "public", Endpoint.OCR, Endpoint.CHAT),
        ("azure_ai/FLUX.2-pro", "public", Endpoint.IMAGES, Endpoint.CHAT),
        ("azure_ai/MAI-Image-2.5", "public", Endpoint.IMAGES, Endpoint.CHAT),
    ],
)
def test_a_guess_of_models_with_a_place_of_their_own_closes_the_rest_and_says_so(
    tmp_path: Path, model: str, public: str, there: Endpoint, missing: Endpoint
) -> None:
    item = one(tmp_path, model, public=public)
    assert there in item.ways
    assert missing not in item.ways
    assert "set model_info.family to be sure" in described(item)
    told = info_entry(item, address=False)["model_info"]
    assert isinstance(told, dict)
    assert (told["family_guessed"], told["closed_by_name"]) == (True, True)
    declared = one(tmp_path, model, public=public, info=f"family: {item.family}")
    assert (declared.ways, declared.closed) == (item.ways, False)
    assert "set model_info.family" not in described(declared)


def test_a_declared_family_closes_ways(tmp_path: Path) -> None:
    assert Endpoint.IMAGES not in one(tmp_path, "azure_ai/prod", info="family: open").ways


@pytest.mark.parametrize("key", ["refuses_sampling", "effort_with_tools", "adaptive_thinking"])
def test_facts_may_be_declared(tmp_path: Path, key: str) -> None:
    for said in (True, False):
        item = one(tmp_path, "azure/gpt-5", info=f"{key}: {str(said).lower()}")
        assert getattr(item.facts, key) is said
        told = info_entry(item, address=False)["model_info"]
        assert isinstance(told, dict)
        assert told[key] is said
    assert f"model_info.{key} must be true or false" in mistake(tmp_path, entry("azure/p", info=f"{key}: maybe"))


def test_what_is_guessed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="services.proxy.config.file"):
        read(tmp_path, entry("azure_ai/phi-4", public="a"), entry("azure/x", public="b", info="base_model: gpt-4o"))
    guessed, known, once = (record.getMessage() for record in caplog.records)
    assert "family open, known by the deployment's name alone" in guessed
    assert guessed.endswith("taken for Phi-4")
    assert "base_model gpt-4o" in known
    assert once == "guessed from names until they have answered: a; set model_info.base_model to be sure"


def test_many_guesses_are_one_line(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(NAMED_MAX + 2)]
    config = read(tmp_path, *(entry("azure/x", public=name) for name in names), entry("azure/y", public="m0"))
    line = guesses([item for items in config.models.values() for item in items])
    assert ": m0, m1, " in line
    assert f", m{NAMED_MAX - 1} and 2 more;" in line


def test_the_first_answer_teaches(tmp_path: Path) -> None:
    config = read(tmp_path, entry("azure/prod-chat", base=OPENAI))
    item = config.models["public"][0]
    assert (item.guessed, item.facts.reasoning) == (True, False)
    for name in ("prod-chat", "something-new"):
        item.learn(name, config.facts)
    assert item.guessed
    item.learn("gpt-5-mini-2025-08-07", config.facts)
    assert (item.guessed, item.facts.reasoning, item.family) == (False, True, "openai")
    assert item.facts.cap_fields[0] == "max_completion_tokens"
    item.learn("gpt-4o-2024-08-06", config.facts)
    assert item.facts.reasoning
    assert not item.guessed


def test_an_answer_teaches_the_family_where_it_was_guessed(tmp_path: Path) -> None:
    config = read(tmp_path, entry("azure_ai/prod"))
    item = config.models["public"][0]
    item.learn("DeepSeek-V3.1", config.facts)
    assert (item.family, item.discovered_by) == ("open", "the answer that named DeepSeek-V3.1")


def test_what_the_file_says_stands_against_answers(tmp_path: Path) -> None:
    config = read(tmp_path, entry("azure/prod", info="max_output_tokens: 77, supports_reasoning: false, mode: chat"))
    item = config.models["public"][0]
    item.learn("gpt-5-mini-2025-08-07", config.facts)
    assert (item.facts.max_output, item.facts.reasoning, item.facts.mode) == (77, False, "chat")
    known = read(tmp_path, entry("azure/prod", info="base_model: gpt-4o")).models["public"][0]
    known.learn("gpt-5-mini-2025-08-07", config.facts)
    assert not known.facts.reasoning


@pytest.mark.parametrize("model", ["azure_ai/model_router/prod", "azure/model-router"])
def test_routers_learn_nothing(tmp_path: Path, model: str) -> None:
    config = read(tmp_path, entry(model))
    item = config.models["public"][0]
    item.learn("gpt-5-mini-2025-08-07", config.facts)
    assert not item.facts.reasoning


def test_ids_are_short_stable_and_ones_own(tmp_path: Path) -> None:
    first, again = (one(tmp_path, "azure/prod", base=base) for base in (OPENAI, OPENAI + "openai/v1"))
    assert first.id == again.id
    assert len(first.id) == 12
    assert int(first.id, 16) >= 0
    assert one(tmp_path, "azure/other", base=OPENAI).id != first.id
    assert one(tmp_path, "azure/prod", info="id: my-id").id == "my-id"
    twice = mistake(tmp_path, entry("azure/a", info="id: x"), entry("azure/b", info="id: x"))
    assert "every deployment has its own" in twice
    assert "at most 64" in mistake(tmp_path, entry("azure/a", info="id: 'a b'"))


def test_drop_params(tmp_path: Path) -> None:
    assert not one(tmp_path, "azure/p").drop_params
    assert one(tmp_path, "azure/p", params="      drop_params: true\n").drop_params
    whole = read(tmp_path, entry("azure/p"), entry("azure/q", params="      drop_params: false\n"),
                 more="litellm_settings: {drop_params: true}\n")  # fmt: skip
    assert [item.drop_params for item in whole.models["public"]] == [True, False]
    assert not any("drop_params" in warning.partition("config.yaml")[2] for warning in whole.warnings)
    assert "true or false" in mistake(tmp_path, entry("azure/p", params="      drop_params: 3\n"))


def test_unpriced_is_allowed_in_so_many_words(tmp_path: Path) -> None:
    config = read(tmp_path, entry("azure/p", info="unpriced: allow"))
    item = config.models["public"][0]
    assert item.unpriced
    assert item.row is not None
    assert item.row.rates.input is None
    (warning,) = config.warnings
    assert "cost nothing" in warning
    assert not one(tmp_path, "azure/p").unpriced
    assert not one(tmp_path, "azure/gpt-4o", info="unpriced: refuse").unpriced
    assert "must be allow" in mistake(tmp_path, entry("azure/p", info="unpriced: 'yes'"))


def test_extra_headers(tmp_path: Path) -> None:
    item = one(tmp_path, "azure/p", params="      extra_headers: {Ocp-Apim-Subscription-Key: os.environ/SUB, a: b}\n")
    assert item.headers[1:] == (("ocp-apim-subscription-key", "apim-key"), ("a", "b"))


@pytest.mark.parametrize(
    "name", ["Authorization", "api-key", "Host", "content-type", "x ", "", "x-ms-spillover-deployment"]
)
def test_headers_that_are_the_gateways_own(tmp_path: Path, name: str) -> None:
    assert "cannot be set" in mistake(tmp_path, entry("azure/p", params=f"      extra_headers: {{'{name}': v}}\n"))


def test_odd_extra_headers(tmp_path: Path) -> None:
    many = ", ".join(f"h{n}: v" for n in range(17))
    assert "more than 16" in mistake(tmp_path, entry("azure/p", params=f"      extra_headers: {{{many}}}\n"))
    assert "cannot stand" in mistake(tmp_path, entry("azure/p", params='      extra_headers: {a: "b\\nc"}\n'))


@pytest.mark.parametrize("version", ["2024", "v2", "2024-10-21-beta", "2024-10-21&x=1", "../v1"])
def test_odd_versions(tmp_path: Path, version: str) -> None:
    said = mistake(tmp_path, entry("azure/p", params=f"      api_version: '{version}'\n"))
    assert "litellm_params.api_version" in said
    assert "v1, preview or latest" in said


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ("family: gpt", "must be one of openai"),
        ("surface: cloud", "must be one of classic"),
        ("surface: anthropic, family: open", "does not go with"),
        ("surface: v1, family: claude", "does not go with"),
        ("surface: providers, family: open", "is for the families"),
    ],
)
def test_odd_kinds(tmp_path: Path, info: str, said: str) -> None:
    assert said in mistake(tmp_path, entry("azure_ai/p", info=info))


def test_what_does_not_go_together_is_warned_of(tmp_path: Path) -> None:
    dated = read(tmp_path, entry("azure/gpt-4o", base=OPENAI + "openai/v1", params="      api_version: '2024-10-21'\n"))
    assert "api_version 2024-10-21 is not used" in dated.warnings[0]
    claude = read(tmp_path, entry("azure/claude-opus-5"))
    assert any("azure_ai/claude-opus-5" in warning for warning in claude.warnings)
    organization = read(tmp_path, entry("azure/gpt-4o", params="      organization: org-1\n"))
    assert "no organizations" in organization.warnings[0]
    assert "names a deployment" in mistake(tmp_path, entry("azure/p", base=OPENAI + "openai/deployments/p"))
