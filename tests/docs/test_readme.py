"""README.md shows what is there: every page, models that `make up` serves, commands and snippets that are whole."""

import ast
import re
from pathlib import Path

import msgspec
import pytest
import yaml

from deploy.local.banner import FIRST_BUDGET
from deploy.local.models import read_models
from deploy.local.settings import DEFAULT_CONFIG
from services.proxy.config.file import Config, load_config
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.prices import PriceBook
from shared.catalogue import load, price_rows
from shared.clock import SystemClock

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
OF_MODEL = {
    "gpt-4o": Endpoint.CHAT,
    "phi-4": Endpoint.CHAT,
    "text-embedding-3-large": Endpoint.EMBEDDINGS,
    "gpt-5-mini": Endpoint.RESPONSES,
    "claude-sonnet-5-5": Endpoint.MESSAGES,
    "gpt-image-1": Endpoint.IMAGES,
    "whisper-1": Endpoint.TRANSCRIPTIONS,
    "tts-1": Endpoint.SPEECH,
    "gpt-realtime": Endpoint.REALTIME,
    "cohere-rerank-v4.0-pro": Endpoint.RERANK,
    "mistral-document-ai-2512": Endpoint.OCR,
    "model-router": Endpoint.CHAT,
}
"""One model of each kind: what the configuration of `make up` is there to show."""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def config() -> Config:
    environ = {"TUNDISH_SIMULATOR_URL": "http://127.0.0.1:9", "AZURE_API_KEY": "k", "AZURE_AI_API_KEY": "k"}
    return load_config(DEFAULT_CONFIG, environ, PriceBook(price_rows(load(), SystemClock().now().date())))


@pytest.mark.parametrize("name", [*PAGES])
def test_every_page_is_linked(name: str) -> None:
    assert f"](docs/{name})" in README


def test_every_decision_is_numbered_once() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert numbers == [*range(1, len(numbers) + 1)]


def test_every_model_of_the_readme_is_served_by_make_up() -> None:
    named = set(re.findall(r'model="([^"]+)"|"model": "([^"]+)"', README))
    used = {name for pair in named for name in pair if name}
    assert {"gpt-4o", "claude-sonnet-5-5", "cohere-rerank-v4.0-pro"} <= used, "the search itself works"
    assert used - set(read_models(DEFAULT_CONFIG).names) == set()


def test_make_up_serves_a_model_of_each_kind_and_knows_its_price(config: Config) -> None:
    assert list(config.warnings) == []
    assert set(config.models) == set(OF_MODEL)
    for name, endpoint in OF_MODEL.items():
        (deployment,) = config.models[name]
        assert endpoint in deployment.ways, name
        assert deployment.row is not None, name


def test_the_three_models_of_the_first_version_are_as_they_were() -> None:
    entries = yaml.safe_load(DEFAULT_CONFIG.read_text(encoding="utf-8"))["model_list"][:3]
    assert entries == [
        {
            "model_name": name,
            "litellm_params": {
                "model": model,
                "api_base": "os.environ/TUNDISH_SIMULATOR_URL",
                "api_key": f"os.environ/{key}",
                **version,
            },
        }
        for name, model, key, version in (
            ("gpt-4o", "azure/gpt-4o-deployment", "AZURE_API_KEY", {"api_version": "2024-10-21"}),
            ("phi-4", "azure_ai/phi-4-deployment", "AZURE_AI_API_KEY", {}),
            ("text-embedding-3-large", "azure/text-embedding-3-large-deployment", "AZURE_API_KEY", {}),
        )
    ]


def test_the_first_calls_are_those_of_the_banner() -> None:
    bodies = [msgspec.json.decode(text) for text in re.findall(r"-d '(\{.*?\})'", README)]
    assert bodies[:2] == [
        {"models": ["gpt-4o"], "max_budget": FIRST_BUDGET},
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]},
    ]


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_code_blocks_are_whole(name: str) -> None:
    text = README if name == "README.md" else PAGES[name]
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    for code in blocks(text, "python"):
        compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for code in blocks(text, "yaml"):
        assert yaml.safe_load(code)


def test_the_configuration_of_the_readme_loads(tmp_path: Path) -> None:
    (block,) = blocks(README, "yaml")
    path = tmp_path / "config.yaml"
    path.write_text(block)
    book = PriceBook(price_rows(load(), SystemClock().now().date()))
    assert set(load_config(path, {"AZURE_API_KEY": "k"}, book).models) == {"gpt-4o"}
