"""`tundish rotation|alerts|models|audit|pepper|completion …`."""

import argparse
import re
import stat
import subprocess
from pathlib import Path

import httpx
import msgspec
import pytest

from services.__main__ import build_parser
from services.cli.parser import NOUNS
from shared.settings import Env, peppers
from tests.support.cli import Front, run, stand_in

Capture = pytest.CaptureFixture[str]
OLD = "p1:" + "0a" * 32


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    return stand_in(monkeypatch)


def test_rotations_and_when_they_are_due(front: Front, capsys: Capture) -> None:
    row = {"token_id": "key_1", "key_alias": "search", "state": "overlap", "version": 2, "last_error": None}
    front.say("GET /rotation/list", {"keys": [row], "current_page": 1, "total_pages": 2})
    due = {"key_id": "key_1", "key_alias": "search", "key_rotation_at": "2026-12-01T00:00:00Z", "overdue": False}
    front.say("GET /rotation/schedule", {"data": [due | {"last": {"due_at": "2026-11-01T00:00:00Z"}}]})
    assert run("rotation", "list") == 0
    said = capsys.readouterr().out
    assert "overlap" in said
    assert "page 1 of 2" in said
    assert run("rotation", "schedule", "--key", "key_1") == 0
    assert dict(front.asked[1].url.params)["key_id"] == "key_1"
    said = capsys.readouterr().out
    assert "2026-12-01T00:00:00Z" in said
    assert "2026-11-01T00:00:00Z" in said


def test_alerts_say_what_is_in_the_signal(front: Front, capsys: Capture) -> None:
    signal = {"type": "budget.exceeded.v1", "id": "s1", "scope_id": "t1", "spent_nusd": 2_500_000_000, "model": "o3"}
    row = {"position": 9, "at": "2026-11-23T00:00:00Z", "kind": "budget.exceeded", "scope_kind": "team"}
    front.say("GET /alerts", {"data": [row | {"scope_id": "t1", "alias": "Search", "signal": signal}], "next": 9})
    assert run("alerts", "list", "--limit", "1", "--kind", "budget.exceeded") == 0
    assert dict(front.asked[0].url.params) == {"limit": "1", "kind": "budget.exceeded"}
    said = capsys.readouterr().out
    assert "spent $2.50, model o3" in said
    assert "--before 9" in said


KEY_SIGNALS = {
    "key.leaked": (
        {"version": 1, "action": "rotated", "reporter": "leak-report", "found_by": "github", "found_at": "https://x/1"},
        "version 1 leaked and is being replaced; the old one works until 2026-11-24T00:00:00Z; reported by leak-report"
        " (who calls themselves 'github'), found at https://x/1",
    ),
    "key.collected_again": (
        {"version": 2, "blocked": True},
        "version 2 was asked for a second time: one of the two is not the owner, and the key is blocked",
    ),
    "rotation.delivered": (
        {"version": 3, "target": "webhook:h.example#fbbfd581"},
        "version 3 reached its owner by webhook:h.example#fbbfd581; the old one works until 2026-11-24T00:00:00Z",
    ),
    "rotation.failed": (
        {"version": 3, "target": "webhook:h.example#fb", "reason": "it answered 500", "attempts": 3},
        "version 3 did not reach webhook:h.example#fb in 3 attempts: it answered 500",
    ),
}


@pytest.mark.parametrize("kind", KEY_SIGNALS)
def test_alerts_about_secrets_say_in_words_what_happened(front: Front, capsys: Capture, kind: str) -> None:
    more, words = KEY_SIGNALS[kind]
    signal = {"type": f"{kind}.v1", "id": "s1", "source": "auth/0199", "key_id": "key_1", "org_id": "o", **more}
    if "works until" in words:
        signal["old_ends_at"] = "2026-11-24T00:00:00Z"
    row = {"position": 9, "at": "2026-11-23T00:00:00Z", "kind": kind, "scope_kind": "key", "scope_id": "key_1"}
    front.say("GET /alerts", {"data": [row | {"alias": "Search", "signal": signal}], "next": None})
    assert run("alerts", "list") == 0
    said = capsys.readouterr().out
    assert "Search (key_1)" in said
    assert words in said
    assert "auth/0199" not in said


def test_spend_by_organization(front: Front, capsys: Capture) -> None:
    front.say("GET /spend/orgs", {"data": [{"organization_id": "o1", "spend": 2.5, "calls": 3}]})
    assert run("spend", "orgs") == 0
    assert "$2.50" in capsys.readouterr().out


def test_models_with_prices_a_million_tokens(front: Front, capsys: Capture) -> None:
    info = {"mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "max_input_tokens": 128000}
    front.say(
        "GET /v1/model/info",
        {"data": [{"model_name": "gpt-4o", "litellm_params": {"model": "azure/gpt-4o"}, "model_info": info}]},
    )
    assert run("models", "list") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "gpt-4o",
        "chat",
        "azure/gpt-4o",
        "2.5",
        "10.0",
        "128000",
        "-",
    ]


def test_the_audit_log_is_filtered_and_shown(front: Front, capsys: Capture) -> None:
    entry = {
        "id": "e1",
        "updated_at": "2026-11-22T10:00:00Z",
        "changed_by": "master-key",
        "action": "updated",
        "table_name": "keys",
        "object_id": "key_1",
        "updated_values": {"tags": [], "max_budget": 5},
        "position": 7,
    }
    front.say("GET /audit", {"audit_logs": [entry], "page": 1, "total_pages": 1})
    assert run("audit", "list", "--by", "master-key", "--object", "key_1", "--start", "2026-11-01T00:00:00Z") == 0
    query = dict(front.asked[0].url.params)
    assert (query["changed_by"], query["object_id"], query["start"]) == ("master-key", "key_1", "2026-11-01T00:00:00Z")
    assert "max_budget, tags" in capsys.readouterr().out


def test_the_chain_is_verified(front: Front, capsys: Capture) -> None:
    head = {"position": 9, "hash": "ab" * 32}
    part = {"ok": True, "events": 4, "in_stream": 3, "head": {"position": 4, "hash": "cd" * 32}, "next": 4}
    front.say("GET /audit/verify", part, {"ok": True, "events": 5, "in_stream": 5, "head": head, "next": None})
    assert run("audit", "verify", "--anchor", "5:cd") == 0
    assert [dict(each.url.params) for each in front.asked] == [{"anchor": "5:cd"}, {"anchor": "5:cd", "after": "4"}]
    said = capsys.readouterr().out
    assert "whole: 9 changes, 8 of them compared with AUTH" in said
    assert f"9:{'ab' * 32}" in said
    front.say(
        "GET /audit/verify", {"ok": False, "events": 9, "head": None, "broken_at": 4, "what": "row 4 was changed"}
    )
    assert run("audit", "verify") == 1
    assert "NOT whole, from position 4 on: row 4 was changed" in capsys.readouterr().out
    assert run("audit", "verify", "--json") == 1


def lines(*positions: int, following: int | None) -> httpx.Response:
    entries = [msgspec.json.encode({"position": position, "action": "created"}) for position in positions]
    return httpx.Response(200, content=b"\n".join([*entries, msgspec.json.encode({"next": following})]) + b"\n")


def test_the_audit_log_is_exported_whole(front: Front, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "audit.jsonl"
    front.say("GET /audit/export", lines(1, 2, following=2), lines(3, following=None))
    assert run("audit", "export", str(path), "--rows", "2") == 0
    assert [dict(request.url.params)["position"] for request in front.asked] == ["0", "2"]
    assert [msgspec.json.decode(line)["position"] for line in path.read_text().splitlines()] == [1, 2, 3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = capsys.readouterr()
    assert said.out == ""
    assert "2 changes, up to position 2" in said.err
    assert "3 changes exported" in said.err
    assert run("audit", "export", str(path)) == 2, "a file that is there stays"
    front.say("GET /audit/export", lines(1, following=None))
    assert run("audit", "export", str(path), "--force") == 0
    assert len(path.read_text().splitlines()) == 1


def test_an_export_that_breaks_off_leaves_no_file(front: Front, tmp_path: Path) -> None:
    front.say("GET /audit/export", lines(1, following=1), httpx.ReadError("reset"))
    assert run("audit", "export", str(tmp_path / "audit.jsonl")) == 1
    front.say("GET /audit/export", lines(1, following=1), lines(1, following=1))
    assert run("audit", "export", str(tmp_path / "audit.jsonl")) == 1, "it does not go round in circles"
    assert [*tmp_path.iterdir()] == []


def test_a_pepper_of_this_installation(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNDISH_PEPPERS", raising=False)
    monkeypatch.setenv("TUNDISH_HOME", str(tmp_path))
    assert run("pepper", "rotate") == 2
    assert "no peppers" in capsys.readouterr().err
    path = tmp_path / "pepper"
    path.write_text(OLD + "\n")
    path.chmod(0o600)
    assert run("pepper", "rotate") == 0
    known = peppers(Env({"TUNDISH_PEPPERS": path.read_text()}))
    assert list(known) == ["p2", "p1"]
    assert len(known["p2"]) == 32
    assert known["p1"].hex() == "0a" * 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = capsys.readouterr().out
    assert known["p2"].hex() not in said
    assert "Restart Tundish" in said


def test_peppers_of_a_cluster_are_two_values(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_PEPPERS", OLD)
    assert run("pepper", "rotate") == 0
    first, then = re.findall(r"^p\d:.*$", capsys.readouterr().out, re.MULTILINE)
    assert list(peppers(Env({"TUNDISH_PEPPERS": first}))) == ["p1", "p2"]
    assert list(peppers(Env({"TUNDISH_PEPPERS": then}))) == ["p2", "p1"]
    assert sorted(first.split(",")) == sorted(then.split(","))


def test_a_pepper_goes_when_nothing_needs_it(
    front: Front, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNDISH_HOME", str(tmp_path))
    path = tmp_path / "pepper"
    both = f"p2:{'0b' * 32},{OLD}\n"
    path.write_text(both)
    rows = [
        {"label": "p2", "current": True, "secrets": 7, "removable": False},
        {"label": "p1", "current": False, "secrets": 3, "removable": False},
    ]
    front.say("GET /pepper/status", {"peppers": rows})
    assert run("pepper", "status") == 0
    assert "p1" in capsys.readouterr().out
    assert run("pepper", "drop", "p1") == 2
    assert "3 secrets are hashed with it" in capsys.readouterr().err
    assert path.read_text() == both
    assert run("pepper", "drop", "p9") == 2
    front.say("GET /pepper/status", {"peppers": [rows[0], rows[1] | {"secrets": 0, "removable": True}]})
    assert run("pepper", "drop", "p1") == 0
    assert path.read_text() == f"p2:{'0b' * 32}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_words(shell: str, capsys: Capture) -> None:
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    assert all(noun in script for noun in NOUNS)
    assert "report-leak" in script
    assert "--auto-rotate" in script or "auto-rotate" in script


def test_the_script_for_bash_completes(capsys: Capture, tmp_path: Path) -> None:
    assert run("completion", "bash") == 0
    script = tmp_path / "complete.sh"
    script.write_text(capsys.readouterr().out)
    ask = (
        f"source {script}; COMP_WORDS=(tundish key rot); COMP_CWORD=2; COMP_LINE='tundish key rot';"
        " $(complete -p tundish | sed 's/.*-F \\([^ ]*\\).*/\\1/') tundish rot key; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["rotate"]


def test_only_the_noun_that_is_called_is_loaded() -> None:
    parser = build_parser(["key", "list"])
    (nouns,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    whole = {name for name, child in nouns.choices.items() if len(child._actions) > 1}
    assert whole == {"serve", "key"}
