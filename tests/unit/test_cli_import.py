"""`tundish key import` and `bulk-update`: keys of LiteLLM by their hashes, each reported."""

import io
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest

from services.auth.domain.fields.keys import GENERATE_KEY
from services.auth.schemas.base import read
from services.auth.schemas.keys import GenerateKey
from services.cli.foreign import plan_of
from tests.support.cli import Front, error, run, stand_in

Capture = pytest.CaptureFixture[str]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HASH = "ab" * 32
OPTIONS = Namespace(team=None, no_teams=False, no_orgs=False, no_users=False)
FULL: dict[str, object] = {
    "token": HASH,
    "key_name": "sk-...abcd",
    "key_alias": "search",
    "spend": 1.5,
    "expires": "2026-11-24T12:00:00",
    "models": ["gpt-4o", "azure/*"],
    "aliases": {"fast": "gpt-4o"},
    "user_id": "u1",
    "team_id": "t1",
    "organization_id": None,
    "max_parallel_requests": 4,
    "metadata": {"model_rpm_limit": {"gpt-4o": 6}, "tags": ["a"], "owner": "Ada"},
    "blocked": None,
    "tpm_limit": 1000,
    "rpm_limit": None,
    "max_budget": 20.0,
    "budget_duration": "30d",
    "budget_limits": [{"budget_duration": "1d", "max_budget": 2.0, "reset_at": "2026-11-24T00:00:00Z"}],
    "allowed_routes": [],
    "permissions": {"get_spend_routes": True},
    "auto_rotate": True,
    "litellm_budget_table": None,
}


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    return stand_in(monkeypatch)


def test_a_key_keeps_all_that_means_the_same_here() -> None:
    plan = plan_of(FULL, OPTIONS, NOW)
    assert plan.skip is None
    assert plan.request == {
        "key_hash": HASH,
        "key_name": "sk-...abcd",
        "key_alias": "search",
        "models": ["gpt-4o", "azure/*"],
        "aliases": {"fast": "gpt-4o"},
        "max_parallel_requests": 4,
        "model_rpm_limit": {"gpt-4o": 6},
        "tags": ["a"],
        "metadata": {"owner": "Ada"},
        "tpm_limit": 1000,
        "max_budget": 20.0,
        "budget_duration": "30d",
        "budget_limits": [{"budget_duration": "1d", "max_budget": 2.0}],
        "user_id": "u1",
        "team_id": "t1",
        "duration": "86400s",
    }
    assert plan.notes == [
        "what was spent there is not taken over",
        "left out: auto_rotate; say with `tundish key update --auto-rotate` where new secrets go",
        "left out: permissions",
    ]


def test_terms_of_a_budget_object_become_the_keys_own() -> None:
    table = {"budget_id": "b1", "max_budget": 5.0, "soft_budget": 4.0, "budget_duration": "7d"}
    plan = plan_of({"token": HASH, "litellm_budget_table": table, "models": []}, OPTIONS, NOW)
    assert plan.request == {
        "key_hash": HASH,
        "key_name": "sk-...",
        "max_budget": 5.0,
        "soft_budget": 4.0,
        "budget_duration": "7d",
    }
    assert plan.notes == ["the terms of its budget object become its own"]


@pytest.mark.parametrize(
    ("changes", "owners"),
    [
        ({}, {"team_id": "t1", "user_id": "u1", "organization_id": "o1"}),
        ({"team": "t9"}, {"team_id": "t9", "user_id": "u1"}),
        ({"no_teams": True}, {"user_id": "u1", "organization_id": "o1"}),
        ({"no_users": True, "no_orgs": True}, {"team_id": "t1"}),
    ],
)
def test_owners(changes: dict[str, object], owners: dict[str, object]) -> None:
    options = Namespace(**(vars(OPTIONS) | changes))
    entry: dict[str, object] = {
        "token": HASH,
        "key_name": "n",
        "team_id": "t1",
        "user_id": "u1",
        "organization_id": "o1",
    }
    assert plan_of(entry, options, NOW).request == {"key_hash": HASH, "key_name": "n"} | owners


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({}, "no hash"), ({"token": "sk-plain"}, "no hash"), ({"token": 5}, "no hash"),
        ({"token": HASH, "expires": "2026-11-23T11:59:59Z"}, "expired"),
        ({"token": HASH, "expires": "2026-11-23T11:00:00+00:00"}, "expired"),
    ],
)  # fmt: skip
def test_what_is_skipped(entry: dict[str, object], why: str) -> None:
    assert why in (plan_of(entry, OPTIONS, NOW).skip or "")


def test_keys_are_imported_and_reported(front: Front, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "keys.json"
    entries = [{"token": f"{place:064x}", "key_name": f"sk-...{place}", "models": []} for place in range(3)]
    path.write_bytes(msgspec.json.encode({"keys": [*entries, {"token": "x"}], "total_count": 4}))
    taken = httpx.Response(409, json=error("A key with this secret is there already.", "key_exists"))
    front.say("POST /key/generate", {"token_id": "key_0", "key": None}, taken, {"token_id": "key_2"})
    assert run("key", "import", str(path)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[1:5]] == ["imported", "failed", "imported", "skipped"]
    assert lines[5] == "sk-...1: http://gateway.test answered 409: A key with this secret is there already."
    assert lines[-1] == "2 of 4 keys imported"
    assert len(set(front.once)) == 3


def test_a_dry_run_asks_for_nothing(front: Front, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode([FULL | {"expires": None}]))
    assert run("key", "import", str(path), "--dry-run", "--json") == 0
    (row,) = msgspec.json.decode(capsys.readouterr().out)["keys"]
    assert row["result"] == "planned"
    assert row["request"]["key_hash"] == HASH
    assert front.asked == []
    assert run("key", "import", str(path), "--dry-run") == 0
    assert "1 of 1 keys would be imported" in capsys.readouterr().out


def test_an_import_that_cannot_work_stops(front: Front, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode([{"token": f"{place:064x}"} for place in range(30)]))
    front.say("POST /key/generate", error("team t1 does not exist", "team_not_found"), status=404)
    assert run("key", "import", str(path), "--json") == 1
    rows = msgspec.json.decode(capsys.readouterr().out)["keys"]
    assert [row["result"] for row in rows] == ["failed"] * 20 + ["not tried"] * 10
    before = len(front.asked)
    front.say("POST /key/generate", error("no", "not_allowed"), status=403)
    assert run("key", "import", str(path)) == 1
    assert len(front.asked) == before + 1


def test_a_second_run_finds_what_is_here(front: Front, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode([{"token": HASH}]))
    taken = httpx.Response(409, json=error("this secret is that of another key", "key_taken"))
    front.say("POST /key/generate", taken)
    front.say("GET /key/info", {"key": HASH, "info": {"token_id": "key_1"}})
    assert run("key", "import", str(path)) == 0
    said = capsys.readouterr().out
    assert "here already" in said
    assert "key_1" in said
    assert "0 of 1 keys imported" in said
    front.say("POST /key/generate", httpx.Response(409, json=error("this secret was that of another key", "key_taken")))
    front.say("GET /key/info", httpx.Response(404, json=error("There is no such key.", "key_not_found")))
    assert run("key", "import", str(path)) == 1
    assert "this secret was that of another key" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", "5", '{"data": []}', '["hash"]'])
def test_a_file_that_lists_no_keys(front: Front, tmp_path: Path, capsys: Capture, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    assert run("key", "import", str(path)) == 2
    assert str(path) in capsys.readouterr().err
    assert run("key", "import", str(tmp_path / "absent")) == 2
    assert front.asked == []


def test_many_keys_are_changed(front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    content = msgspec.json.encode([{"key": "key_1", "max_budget": 5}, {"key_alias": "a", "tags": ["x"]}])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    failed = [{"key": "key_1", "failed_reason": "There is no such key."}]
    front.say("POST /key/bulk_update", {"successful_updates": [{"key": "key_2"}], "failed_updates": failed})
    assert run("key", "bulk-update", "-") == 1
    assert front.bodies == [{"keys": [{"key": "key_1", "max_budget": 5}, {"key_alias": "a", "tags": ["x"]}]}]
    said = capsys.readouterr().out
    assert "1 changed, 1 not" in said
    assert "There is no such key." in said


def test_auth_takes_what_an_import_sends() -> None:
    request = plan_of(
        FULL | {"blocked": True, "soft_budget": 1.0, "allowed_routes": ["/chat/completions"]}, OPTIONS, NOW
    )
    wanted = read(msgspec.json.encode(request.request), GENERATE_KEY, GenerateKey)
    assert (wanted.key_hash, wanted.duration, wanted.blocked) == (HASH, "86400s", True)
