"""docs/compatibility.md is the truth: it has every test of the suite and no other, and all of them pass."""

import ast
import re

import pytest

from tests.clients.rows import FOLDER, PAGE, said

AGAIN = "run `pytest tests/clients`, then `python -m tests.clients.table`"
ROW = re.compile(r"\| (?P<surface>[^|]+) \| (?P<client>[^|]*) \| (?P<mode>[^|]+) \| `(?P<test>test_\w+)` \|")


def page_rows() -> set[tuple[str, str, str, str]]:
    found: set[tuple[str, str, str, str]] = set()
    file = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            file = line.removeprefix("## ")
        match = ROW.match(line)
        if match is not None and file.startswith("test_"):
            found.add((match["surface"], match["client"], match["mode"], f"{file}::{match['test']}"))
    return found


def functions() -> set[str]:
    """Every test of the suite's files, without running anything."""
    return {
        f"{file.name}::{node.name}"
        for file in FOLDER.glob("test_*.py")
        if file.name != "test_page.py"
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_the_page_names_every_test_and_no_other() -> None:
    named = {test for _, _, _, test in page_rows()}
    assert named == functions(), AGAIN


def test_every_case_of_this_run_has_its_row(request: pytest.FixtureRequest) -> None:
    items = [item for item in request.session.items if item.path.is_relative_to(FOLDER)]
    run = {words for item in items if (words := said(item)) is not None}
    assert run <= page_rows(), AGAIN
    ran = {test for _, _, _, test in run}
    if functions() <= ran and not request.config.getoption("keyword"):
        assert page_rows() == run, AGAIN


def test_nothing_on_the_page_fails() -> None:
    assert page_rows()
    assert "**" not in PAGE.read_text(encoding="utf-8").split("\n## ", 1)[1], AGAIN


def test_every_test_says_which_row_it_is(request: pytest.FixtureRequest) -> None:
    items = [item for item in request.session.items if item.path.is_relative_to(FOLDER)]
    assert [item.nodeid for item in items if said(item) is None and item.path.name != "test_page.py"] == []
