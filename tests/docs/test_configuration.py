"""The pages of docs/ name everything that the source has: settings, config keys, events, errors, routes, commands."""

import argparse
import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from services.__main__ import build_parser
from services.proxy.config.file import INFO_KNOWN, PARAMS_KNOWN
from services.proxy.config.prices import PRICE_KEYS, REFUSED
from services.proxy.domain.paths import ADMIN_TABLE, INFERENCE_TABLE
from services.proxy.domain.price_keys import ANNOTATED_KEY, CLASS_OF, SERVICE_SUFFIXES
from shared.events import AnyAuthEvent, AnySignal, GrantEntry, UsageRecorded
from shared.topology import BUCKETS, STREAMS

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\bTUNDISH_[A-Z0-9_]+\b")
CODE_PLACE = {"ApiError": 1, "Refused": 1, "send_error": 2, "own_failure": 1, "_ours": 0}
CODE_KEYWORD = {"ApiError", "Refused", "BadRequest", "error_event", "error_body"}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def variables_in(paths: Iterator[Path] | list[Path]) -> set[str]:
    return {name for path in paths for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}


def test_every_variable_of_the_source_is_documented() -> None:
    used = variables_in(sources("services", "shared", "deploy"))
    used |= variables_in([ROOT / "Makefile", ROOT / "compose.yaml"])
    assert used - set(VARIABLE.findall(page("configuration.md"))) == set()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_no_page_names_a_variable_that_does_not_exist(path: Path) -> None:
    known = variables_in(sources("services", "shared", "deploy"))
    assert set(VARIABLE.findall(path.read_text(encoding="utf-8"))) - known == set()


@pytest.mark.parametrize("key", sorted((PARAMS_KNOWN | INFO_KNOWN | {"model_name"}) - PRICE_KEYS))
def test_every_key_of_the_config_file_is_documented(key: str) -> None:
    assert re.search(rf"`(?:litellm_params\.|model_info\.)?{key}`", page("configuration.md"))


@pytest.mark.parametrize("key", sorted({*CLASS_OF, ANNOTATED_KEY, *REFUSED}))
def test_every_price_of_the_config_file_is_documented(key: str) -> None:
    """Tiers are endings of these keys, which the page has once."""
    said = page("prices.md")
    assert f"`{key}`" in said
    assert all(f"`{suffix}`" in said for suffix in (*filter(None, SERVICE_SUFFIXES.values()), "_above_<n>k_tokens"))


@pytest.mark.parametrize(
    "tag",
    [
        kind.__struct_config__.tag
        for kind in (*get_args(AnyAuthEvent), UsageRecorded, *get_args(GrantEntry), *get_args(AnySignal))
    ],
)
def test_every_event_is_documented(tag: str) -> None:
    assert f"`{tag}`" in page("events.md")


def test_streams_and_buckets_are_documented() -> None:
    text = page("events.md")
    assert [stream.name for stream in STREAMS if f"Stream {stream.name}" not in text] == []
    assert [bucket.name for bucket in BUCKETS if f"`{bucket.name}`" not in text] == []


def codes_in(path: Path) -> set[str]:
    """The error codes that a file hands to the classes and functions that make errors."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        place = CODE_PLACE.get(name)
        places = [node.args[place]] if place is not None and len(node.args) > place else []
        if name in CODE_KEYWORD:
            places += [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        for expression in places:
            if isinstance(expression, ast.JoinedStr):
                continue
            found |= {
                part.value
                for part in ast.walk(expression)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return found


def test_every_error_code_is_documented() -> None:
    used = {code for path in sources("services", "shared") for code in codes_in(path)}
    assert {"budget_exceeded", "invalid_value", "upstream_timeout"} <= used, "the search itself works"
    assert {code for code in used if f"`{code}`" not in page("errors.md")} == set()


@pytest.mark.parametrize("path", sorted(ADMIN_TABLE))
def test_every_admin_route_is_documented(path: bytes) -> None:
    text = page("api.md")
    for method in ADMIN_TABLE[path].methods:
        assert f"{method} {path.decode()}" in text


@pytest.mark.parametrize("path", sorted(INFERENCE_TABLE))
def test_every_other_route_is_documented(path: bytes) -> None:
    text = page("api.md")
    shown = path.decode().removeprefix("/openai/v1").removeprefix("/v1")
    assert shown in text or path.decode() in text


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    children = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not children:
        yield parser.prog
    for action in children:
        for child in action.choices.values():
            yield from commands(child)


@pytest.mark.parametrize("command", sorted(commands(build_parser())))
def test_every_command_is_documented(command: str) -> None:
    words = command.split()
    everything = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    pattern = " ".join(words[:2]) + ("" if len(words) < 3 else rf"[ a-z|]*\b{words[2]}\b")
    assert re.search(pattern, everything), command


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_lock_names_no_host_and_every_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|index-url|find-links", lock)
    pinned = {line.split("==")[0] for line in lock.splitlines() if "==" in line and not line.startswith(" ")}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = tomllib.loads(project)["project"]
    wanted = [*table["dependencies"], *(item for extra in table["optional-dependencies"].values() for item in extra)]
    names = {re.split(r"[<>=!~ \[;]", item, maxsplit=1)[0].lower() for item in wanted}
    assert names - pinned == set()
    blocks = re.split(r"\n(?=\S)", lock.strip())
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
