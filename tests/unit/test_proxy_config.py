"""`config.yaml`: the story's file as it stands, and clear words for every mistake."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.proxy.config import file as module
from services.proxy.config.file import Config, load_config
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.prices import PriceBook
from shared.catalogue import load
from shared.errors import SettingsError
from shared.pricing import Rates

BOOK = PriceBook(row for entry in load() if (row := entry.price_row()) is not None)
KEYS = {"AZURE_API_KEY": "azure-key", "AZURE_AI_API_KEY": "ai-key"}

STORY = """\
model_list:
  # OpenAI family on Foundry uses the azure/ prefix
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-deployment
      api_base: https://my-foundry.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY
      api_version: "2024-10-21"
  # Everything else in the Foundry catalog uses azure_ai/
  - model_name: phi-4
    litellm_params:
      model: azure_ai/phi-4-deployment
      api_base: https://my-foundry.services.ai.azure.com/
      api_key: os.environ/AZURE_AI_API_KEY
  # Embeddings, same idea
  - model_name: text-embedding-3-large
    litellm_params:
      model: azure/text-embedding-3-large-deployment
      api_base: https://my-foundry.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY
"""
ONE = """\
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-deployment
      api_base: https://x.openai.azure.com/
      api_key: secret-key
"""


def read(tmp_path: Path, text: str | bytes, environ: Mapping[str, str] = KEYS) -> Config:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, environ, BOOK)


def mistake(tmp_path: Path, text: str | bytes, environ: Mapping[str, str] = KEYS) -> str:
    with pytest.raises(SettingsError) as error:
        read(tmp_path, text, environ)
    said = str(error.value)
    assert said.startswith(str(tmp_path / "config.yaml"))
    return said


def test_the_storys_config_loads_unchanged(tmp_path: Path) -> None:
    config = read(tmp_path, STORY)
    assert list(config.models) == ["gpt-4o", "phi-4", "text-embedding-3-large"]
    assert config.warnings == ()
    gpt, phi, embed = (deployments[0] for deployments in config.models.values())
    assert gpt.ways[Endpoint.CHAT].url == (
        "https://my-foundry.openai.azure.com/openai/deployments/gpt-4o-deployment/chat/completions"
        "?api-version=2024-10-21"
    )
    assert gpt.ways[Endpoint.CHAT].body_model is None
    assert phi.ways[Endpoint.CHAT].url == (
        "https://my-foundry.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview"
    )
    assert phi.ways[Endpoint.CHAT].body_model == "phi-4-deployment"
    assert "/text-embedding-3-large-deployment/embeddings?" in embed.ways[Endpoint.EMBEDDINGS].url
    assert gpt.headers == (("api-key", "azure-key"),)
    assert phi.headers == (("api-key", "ai-key"),)
    for deployment in (gpt, phi, embed):
        assert deployment.row is not None
        assert deployment.row.model.lower() == deployment.model
        assert not deployment.fixed_price


@pytest.mark.parametrize(
    ("version", "url"),
    [
        ("v1", "https://x.openai.azure.com/openai/v1/chat/completions"),
        ("preview", "https://x.openai.azure.com/openai/v1/chat/completions?api-version=preview"),
    ],
)
def test_the_v1_surface(tmp_path: Path, version: str, url: str) -> None:
    target = read(tmp_path, ONE + f"      api_version: {version}\n").models["gpt-4o"][0].ways[Endpoint.CHAT]
    assert (target.url, target.body_model) == (url, "gpt-4o-deployment")


@pytest.mark.parametrize("base", ["https://x.services.ai.azure.com/models", "https://x.services.ai.azure.com/models/"])
def test_a_base_that_names_the_surface_already(tmp_path: Path, base: str) -> None:
    text = ONE.replace("https://x.openai.azure.com/", base).replace("azure/gpt", "azure_ai/gpt")
    target = read(tmp_path, text).models["gpt-4o"][0].ways[Endpoint.CHAT]
    assert target.url.startswith("https://x.services.ai.azure.com/models/chat/completions?")


def test_a_serverless_endpoint_takes_a_bearer_token(tmp_path: Path) -> None:
    text = ONE.replace("https://x.openai.azure.com/", "https://phi.eastus.models.ai.azure.com")
    deployment = read(tmp_path, text.replace("azure/", "azure_ai/")).models["gpt-4o"][0]
    assert deployment.headers == (("authorization", "Bearer secret-key"),)
    assert deployment.ways[Endpoint.CHAT].url == "https://phi.eastus.models.ai.azure.com/chat/completions"


def test_several_deployments_of_one_model(tmp_path: Path) -> None:
    second = ONE.partition("\n")[2].replace("gpt-4o-deployment", "gpt-4o-second")
    deployments = read(tmp_path, ONE + second).models["gpt-4o"]
    assert [item.name for item in deployments] == ["gpt-4o-deployment", "gpt-4o-second"]


def test_names_are_quoted_in_urls(tmp_path: Path) -> None:
    text = ONE.replace("azure/gpt-4o-deployment", "'azure/a/../b ?#c'")
    url = read(tmp_path, text).models["gpt-4o"][0].ways[Endpoint.CHAT].url
    assert "/openai/deployments/a%2F..%2Fb%20%3F%23c/chat/completions" in url


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("", "the file", "table"),
        ("[]", "the file", "table"),
        ("model_list: []", "model_list", "at least one model"),
        ("model_list: {}", "model_list", "list"),
        ("general_settings: {}", "model_list", "at least one model"),
        ("model_list: [7]", "model_list[0]", "indentation"),
        ("a: [", "not valid YAML", "line 1"),
        ("model_list:\n- litellm_params: {}", "model_list[0].model_name", "missing"),
        ("model_list:\n- model_name: m", "model_list[0].litellm_params", "indent"),
        ("model_list:\n- model_name: m\n  litellm_params:", "model_list[0].litellm_params", "indentation"),
        (ONE.replace("model_name: gpt-4o", "model_name: 7"), "model_list[0].model_name", "must be a text; put it in"),
        (ONE.replace("model_name: gpt-4o", "model_name: [a]"), "model_list[0].model_name", "must be a text"),
        (ONE.replace("azure/gpt-4o-deployment", "gpt-4o"), "litellm_params.model", "azure/<deployment>"),
        (ONE.replace("azure/gpt-4o-deployment", "azure/"), "litellm_params.model", "azure/<deployment>"),
        (ONE.replace("azure/gpt-4o-deployment", "azure/" + "x" * 201), "litellm_params.model", "azure/<deployment>"),
        (ONE.replace("      api_key: secret-key\n", ""), "litellm_params.api_key", "os.environ/NAME"),
        (ONE.replace("secret-key", '"a\\nb"'), "litellm_params.api_key", "header"),
        (ONE.replace("secret-key", "schlüssel"), "litellm_params.api_key", "header"),
        (ONE + "      api_version: 2024-10-21\n", "litellm_params.api_version", "quotes"),
        (ONE + "      base_model: gpt-99\n", "base_model", "input_cost_per_token"),
        (ONE + "    model_info: {base_model: 4}\n", "base_model", "input_cost_per_token"),
        (ONE + "    model_info: text\n", "model_list[0].model_info", "table"),
    ],
)
def test_every_error_names_file_place_and_remedy(tmp_path: Path, text: str, place: str, remedy: str) -> None:
    said = mistake(tmp_path, text)
    assert place in said
    assert remedy in said


@pytest.mark.parametrize("model", ["gemini/gemini-2.5-pro", "openai/gpt-4o", "anthropic/claude", "Azure/gpt-4o"])
def test_other_providers_are_refused_with_the_reason(tmp_path: Path, model: str) -> None:
    said = mistake(tmp_path, ONE.replace("azure/gpt-4o-deployment", model))
    assert "model_list[0].litellm_params.model" in said
    assert model in said
    assert "Azure AI Foundry only" in said


@pytest.mark.parametrize(
    "base",
    ["x.openai.azure.com", "ftp://x", "https://", "https:///openai", "https://x/?a=b", "https://x/?", "https://x/#f",
     "https://[::1", "https://x:port/", "https://x:99999/", "https://x y/", "https://user:hush@x/",
     "https://x\\y/", "//x"],
)  # fmt: skip
def test_odd_bases(tmp_path: Path, base: str) -> None:
    said = mistake(tmp_path, ONE.replace("https://x.openai.azure.com/", f"'{base}'"))
    assert "model_list[0].litellm_params.api_base" in said
    assert "https://<resource>.openai.azure.com/" in said
    assert "hush" not in said


def test_variables_that_are_not_set_are_named(tmp_path: Path) -> None:
    said = mistake(tmp_path, STORY, {"AZURE_API_KEY": "x"})
    assert "model_list[1].litellm_params.api_key" in said
    assert "AZURE_AI_API_KEY" in said
    assert "not set" in mistake(tmp_path, STORY, {"AZURE_API_KEY": " ", "AZURE_AI_API_KEY": "x"})


def test_variables_stand_anywhere_a_text_does(tmp_path: Path) -> None:
    text = ONE.replace("https://x.openai.azure.com/", "os.environ/BASE")
    assert read(tmp_path, text, {"BASE": "http://127.0.0.1:9/"}).models["gpt-4o"][0].host == "127.0.0.1:9"


def test_secrets_are_in_no_error(tmp_path: Path) -> None:
    text = ONE.replace("secret-key", "os.environ/KEY").replace("azure/gpt", "gemini/gpt")
    assert "hush" not in mistake(tmp_path, text, {"KEY": "hush"})
    assert "hush" not in mistake(tmp_path, ONE.replace("secret-key", "os.environ/KEY"), {"KEY": "hush\x01"})


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml.*TUNDISH_CONFIG"):
        load_config(tmp_path / "none.yaml", {}, BOOK)
    with pytest.raises(SettingsError, match="TUNDISH_CONFIG"):
        load_config(tmp_path, {}, BOOK)


def test_not_text(tmp_path: Path) -> None:
    assert "not valid YAML" in mistake(tmp_path, b"\xff\xfe\x00")


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODELS_MAX", 2)
    assert "more than 2 entries" in mistake(tmp_path, STORY)
    monkeypatch.setattr(module, "CONFIG_BYTES_MAX", 10)
    assert "larger than 10 bytes" in mistake(tmp_path, STORY)


def test_unknown_keys_are_warned_of_by_name(tmp_path: Path) -> None:
    text = ONE + "      rpm: 5\n    model_info: {colour: red}\n    extra: 1\nrouter_settings: {a: 1}\n"
    warnings = "\n".join(read(tmp_path, text).warnings)
    for place in ("router_settings", "model_list[0].litellm_params.rpm", "model_info.colour", "model_list[0].extra"):
        assert f"{place}: not in force in this version, ignored" in warnings


def test_keys_of_ignored_sections_are_named_one_by_one(tmp_path: Path) -> None:
    text = ONE + (
        "litellm_settings: {drop_params: true, num_retries: 2, max_budget: null}\n"
        "general_settings: {master_key: sk-x, database_url: y}\n"
    )
    warnings = read(tmp_path, text).warnings
    named = [warning.partition(": ")[2].partition(":")[0] for warning in warnings]
    assert named == [
        "litellm_settings.num_retries", "litellm_settings.max_budget",
        "general_settings.master_key", "general_settings.database_url",
    ]  # fmt: skip
    assert "TUNDISH_MASTER_KEY" in warnings[2]
    assert not any("sk-x" in warning for warning in warnings)
    [bare] = read(tmp_path, ONE + "litellm_settings:\n").warnings
    assert "litellm_settings: not in force" in bare


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("num_retries", "x-should-retry"), ("fallbacks", "no fallbacks"), ("cache", "not cached"),
        ("success_callback", "docs/operations.md"), ("callbacks", "usage events"),
        ("request_timeout", "TUNDISH_UPSTREAM_IDLE_S"), ("set_verbose", "TUNDISH_LOG_LEVEL"),
        ("nobody_knows", "docs/configuration.md"),
    ],
)  # fmt: skip
def test_usual_options_are_named_with_what_to_use_instead(tmp_path: Path, key: str, instead: str) -> None:
    (warning,) = read(tmp_path, ONE + f"litellm_settings: {{{key}: 1}}\n").warnings
    assert f"litellm_settings.{key}: not in force" in warning
    assert instead in warning


@pytest.mark.parametrize("section", ["litellm_params", "model_info"])
def test_a_misspelt_price_is_not_called_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture, section: str) -> None:
    key = "input_cost_per_tokn: 1e-6"
    more = f"      {key}\n" if section == "litellm_params" else f"    model_info: {{{key}}}\n"
    said = mistake(tmp_path, ONE + more)
    assert f"model_list[0].{section}.input_cost_per_tokn" in said
    assert "did you mean 'input_cost_per_token'?" in said
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "model", "place"),
    [
        ("'*'", "azure/gpt-4o-deployment", "model_name"),
        ("azure/*", "azure/*", "model_name"),
        ("gpt-4o", "azure/*", "litellm_params.model"),
        ("gpt-4o", "'*'", "litellm_params.model"),
    ],
)
def test_wildcards_are_refused_with_what_to_do(tmp_path: Path, name: str, model: str, place: str) -> None:
    text = ONE.replace("azure/gpt-4o-deployment", model).replace("model_name: gpt-4o", f"model_name: {name}")
    said = mistake(tmp_path, text)
    assert f"model_list[0].{place} " in said
    assert "list the deployments" in said


@pytest.mark.parametrize(
    ("more", "place", "instead"),
    [
        ("litellm_settings: {max_budget: 0}\n", "litellm_settings.max_budget", "/organization/update"),
        ("litellm_settings:\n  upperbound_key_generate_params: {max_budget: 5}\n",
         "litellm_settings.upperbound_key_generate_params", "max_budget of an organization"),
        ("litellm_settings:\n  default_key_generate_params: {max_budget: 5}\n",
         "litellm_settings.default_key_generate_params", "default_key_budget_id"),
        ("      max_budget: 5\n", "model_list[0].litellm_params.max_budget", "model_max_budget"),
    ],
)  # fmt: skip
def test_budgets_that_would_not_be_enforced_stop_the_start(tmp_path: Path, more: str, place: str, instead: str) -> None:
    said = mistake(tmp_path, ONE + more)
    assert f"{place} is not enforced" in said
    assert instead in said


def test_prices_of_the_file_stand(tmp_path: Path) -> None:
    prices = "input_cost_per_token: 0.0000025\n      output_cost_per_token: 1e-5\n"
    deployment = read(tmp_path, ONE + f"      {prices}      cache_read_input_token_cost: 1.25e-6\n").models["gpt-4o"][0]
    assert deployment.row is not None
    assert deployment.row.rates == Rates(input=2_500_000_000, output=10_000_000_000, cached=1_250_000_000)
    assert deployment.row.source == "config"
    assert deployment.fixed_price


def test_prices_may_stand_in_model_info(tmp_path: Path) -> None:
    text = ONE + "    model_info: {input_cost_per_token: 1e-6, output_cost_per_token: '2e-6'}\n"
    row = read(tmp_path, text).models["gpt-4o"][0].row
    assert row is not None
    assert row.rates == Rates(input=10**9, output=2 * 10**9)


@pytest.mark.parametrize(
    "price", ["x", "-1e-6", ".nan", ".inf", "true", "[]", "'1e999999999'", "1e-18", "'sNaN'", "'1e-17'"]
)
def test_odd_prices(tmp_path: Path, price: str) -> None:
    said = mistake(tmp_path, ONE + f"      input_cost_per_token: {price}\n")
    assert "input_cost_per_token" in said


def test_half_a_price_is_never_silent(tmp_path: Path) -> None:
    (warning,) = read(tmp_path, ONE + "      input_cost_per_token: 1e-6\n").warnings
    assert "output_cost_per_token is not set" in warning
    embedding = ONE + "      input_cost_per_token: 1e-6\n    model_info: {mode: embedding}\n"
    assert read(tmp_path, embedding).warnings == ()


def test_base_model_names_the_price(tmp_path: Path) -> None:
    text = ONE.replace("gpt-4o-deployment", "prod") + "    model_info: {base_model: azure/gpt-4.1}\n"
    deployment = read(tmp_path, text).models["gpt-4o"][0]
    assert deployment.row is not None
    assert (deployment.row.model, deployment.priced_by) == ("gpt-4.1", "base_model azure/gpt-4.1")


def test_a_model_without_price_is_warned_of(tmp_path: Path) -> None:
    config = read(tmp_path, ONE.replace("gpt-4o-deployment", "prod").replace("gpt-4o", "fast"))
    assert config.models["fast"][0].row is None
    (warning,) = config.warnings
    assert "model_list[0]" in warning
    assert "base_model" in warning


def test_what_is_known_of_the_model(tmp_path: Path) -> None:
    gpt, phi, embed = (deployments[0].facts for deployments in read(tmp_path, STORY).models.values())
    assert (gpt.context_window, gpt.max_output, gpt.cap_fields[0]) == (128_000, 16_384, "max_tokens")
    assert (phi.context_window, phi.cap_fields) == (16_384, ("max_tokens",))
    assert embed.context_window == 8_192


def test_the_file_says_how_large_a_model_is(tmp_path: Path) -> None:
    info = "    model_info: {max_input_tokens: 1000, max_output_tokens: 200, output_cap_field: max_completion_tokens}\n"
    facts = read(tmp_path, ONE + info).models["gpt-4o"][0].facts
    assert (facts.context_window, facts.max_output) == (1_000, 200)
    assert facts.cap_fields == ("max_completion_tokens", "max_tokens")


def test_a_price_of_the_file_leaves_the_models_facts(tmp_path: Path) -> None:
    priced = ONE + "      input_cost_per_token: 1e-6\n      output_cost_per_token: 1e-6\n"
    deployment = read(tmp_path, priced).models["gpt-4o"][0]
    assert (deployment.facts.max_output, deployment.versions_row) == (16_384, None)
    named = read(tmp_path, priced + "    model_info: {base_model: gpt-5}\n").models["gpt-4o"][0].facts
    assert named.cap_fields[0] == "max_completion_tokens"


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "true", "1000000000"])
@pytest.mark.parametrize("key", ["max_input_tokens", "max_output_tokens"])
def test_odd_sizes(tmp_path: Path, key: str, value: str) -> None:
    said = mistake(tmp_path, ONE + f"    model_info: {{{key}: {value}}}\n")
    assert f"model_list[0].model_info.{key}" in said


def test_an_odd_cap_field(tmp_path: Path) -> None:
    said = mistake(tmp_path, ONE + "    model_info: {output_cap_field: max}\n")
    assert "max_tokens or max_completion_tokens" in said


def test_a_deployment_known_by_its_name_alone_may_serve_any_version(tmp_path: Path) -> None:
    guessed = read(tmp_path, ONE).models["gpt-4o"][0]
    assert guessed.row is not None
    assert guessed.versions_row is not None
    assert (guessed.versions_row.rates.output or 0) > (guessed.row.rates.output or 0)
    told = read(tmp_path, ONE + "    model_info: {base_model: gpt-4o-2024-08-06}\n").models["gpt-4o"][0]
    assert told.versions_row == told.row
