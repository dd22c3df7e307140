"""The `tundish` command: what it accepts, how it fails, and what it imports."""

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.__main__ import EXIT_SETTINGS, SERVICES, build_parser, main
from services.version import VERSION

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert project["scripts"]["tundish"] == "services.__main__:main"
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"tundish {VERSION}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["serve"], ["serve", "nothing"], ["key"], ["ledger", "rebuild", "--wait", "0"]]
)
def test_wrong_usage_leaves_with_2_and_says_how(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == EXIT_SETTINGS
    assert "usage: tundish" in capsys.readouterr().err


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_in_one_line_which_setting_is_missing(service: str) -> None:
    done = run("serve", service)
    assert done.returncode == EXIT_SETTINGS, done.stderr
    assert done.stderr.startswith("tundish: TUNDISH_")
    assert done.stderr.count("\n") == 1


def test_migrate_says_which_setting_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("TUNDISH_POSTGRES_URL", "TUNDISH_NATS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as left:
        main(["migrate"])
    assert left.value.code == EXIT_SETTINGS
    assert capsys.readouterr().err.startswith("tundish: TUNDISH_POSTGRES_URL is not set")


def test_a_bad_log_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TUNDISH_LOG", "xml")
    with pytest.raises(SystemExit) as left:
        main(["serve", "scheduler"])
    assert left.value.code == EXIT_SETTINGS
    assert "TUNDISH_LOG='xml'" in capsys.readouterr().err


def test_the_command_itself_imports_no_service_and_no_server() -> None:
    code = (
        "import sys; import services.__main__ as m; m.build_parser();"
        " print([n for n in sys.modules if n.split('.')[0] in"
        " ('granian', 'litestar', 'nats', 'asyncpg', 'httpx', 'pyreqwest', 'apscheduler')"
        " or n.startswith(('services.auth', 'services.proxy', 'services.ledger', 'services.scheduler'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def every_parser(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += every_parser(child)
    return found


def test_every_command_runs_something_and_has_help() -> None:
    for parser in every_parser(build_parser()):
        assert parser.format_help()
        leaf = not any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
        assert (parser.get_default("run") is not None) == leaf, parser.prog
