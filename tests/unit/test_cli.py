"""The operator's command line against an HTTP server that says what a test wants it to say."""

from pathlib import Path

import httpx
import msgspec
import pytest

from services.cli.client import open_client
from services.cli.where import admin_access, master_key
from shared.errors import SettingsError
from shared.settings import Env
from tests.support.cli import KEY, URL, Front, run, stand_in


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    return stand_in(monkeypatch)


def body(request: httpx.Request) -> object:
    return msgspec.json.decode(request.content)


Capture = pytest.CaptureFixture[str]


def test_the_master_key_goes_with_every_request(front: Front) -> None:
    front.say("GET /health/readiness", {"status": "ready", "checks": {"keys": "ok"}})
    assert run("status") == 0
    assert front.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_status_shows_what_is_wrong_and_fails(front: Front, capsys: Capture) -> None:
    front.say("GET /health/readiness", {"status": "not ready", "checks": {"ledger": "away"}}, status=503)
    assert run("status") == 1
    assert capsys.readouterr().out == "not ready\n  ledger: away\n"


def test_a_401_names_where_the_key_came_from_and_not_the_key(front: Front, capsys: Capture) -> None:
    front.say("GET /key/list", {"error": {"message": "not known here"}}, status=401)
    assert run("key", "list") == 1
    said = capsys.readouterr().err
    assert "does not accept the master key from TUNDISH_MASTER_KEY: not known here" in said
    assert KEY not in said


def test_an_address_without_anybody_is_named(front: Front, capsys: Capture) -> None:
    front.say("GET /key/list", httpx.ConnectError("refused"))
    assert run("key", "list") == 1
    assert f"{URL} does not answer (refused). Is Tundish running?" in capsys.readouterr().err


def test_something_else_than_tundish_is_named(front: Front, capsys: Capture) -> None:
    front.answers["GET /spend/keys"] = [httpx.Response(200, text="<html>")]
    assert run("spend", "keys") == 1
    assert "this is not Tundish" in capsys.readouterr().err
    front.answers["GET /spend/keys"] = [httpx.Response(502, text="<html>bad gateway")]
    assert run("spend", "keys") == 1
    assert "answered 502" in capsys.readouterr().err


def test_keys_are_a_table_or_json(front: Front, capsys: Capture) -> None:
    answer = {
        "keys": [
            {
                "token_id": "key_1",
                "key_name": "sk-...abcd",
                "key_alias": "evil\x1b[31m\nname",
                "max_budget": 0.000123,
                "status": "blocked",
            },
            {"token_id": "key_2", "key_name": "sk-...efgh", "max_budget": None, "status": "active"},
        ],
        "current_page": 1,
        "total_pages": 3,
    }
    front.say("GET /key/list", answer)
    assert run("key", "list", "--team", "team_1", "--size", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "KEY"
    assert "$0.000123" in lines[1]
    assert "evil?[31m?name" in lines[1], "a name cannot steer the terminal"
    assert "no limit" not in lines[2], "a team or an organization may limit it"
    assert lines[3] == "page 1 of 3 (--page N)"
    query = dict(front.asked[0].url.params)
    assert query == {"page": "1", "size": "2", "team_id": "team_1", "return_full_object": "true"}
    assert run("key", "list", "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out) == answer


def test_a_key_is_made_with_what_was_given_only(front: Front, capsys: Capture) -> None:
    front.say("POST /key/generate", {"key": "sk-new", "key_alias": "a", "max_budget": 0.05, "models": ["m"]})
    code = run("key", "generate", "--alias", "a", "--model", "m", "--max-budget", "0.05", "--budget-duration", "30d")
    assert code == 0
    assert body(front.asked[0]) == {
        "key_alias": "a",
        "models": ["m"],
        "max_budget": 0.05,
        "budget_duration": "30d",
    }
    said = capsys.readouterr().out
    assert said.startswith("sk-new\n")
    assert said.count("sk-new") == 1
    assert "only time" in said


@pytest.mark.parametrize("amount", ["nan", "inf", "-1", "ten", "1e30"])
def test_what_is_no_amount_never_becomes_a_key_without_limit(front: Front, capsys: Capture, amount: str) -> None:
    assert run("key", "generate", f"--max-budget={amount}") == 2
    assert "--max-budget" in capsys.readouterr().err
    assert front.asked == []


@pytest.mark.parametrize(
    ("action", "sent"),
    [("block", {"key": "key_1"}), ("unblock", {"key": "key_1"}), ("delete", {"keys": ["key_1"]})],
)
def test_actions_on_a_key(front: Front, action: str, sent: object) -> None:
    front.say(f"POST /key/{action}", {})
    assert run("key", action, "key_1") == 0
    assert body(front.asked[0]) == sent


@pytest.mark.parametrize(
    ("action", "sent"),
    [("block", {"key_alias": "a"}), ("unblock", {"key_alias": "a"}), ("delete", {"key_aliases": ["a"]})],
)
def test_actions_on_a_key_by_its_alias(front: Front, action: str, sent: object, capsys: Capture) -> None:
    front.say(f"POST /key/{action}", {})
    assert run("key", action, "--alias", "a") == 0
    assert body(front.asked[0]) == sent
    for wrong in ((), ("key_1", "--alias", "a")):
        assert run("key", action, *wrong) == 2
    assert len(front.asked) == 1
    assert "--alias" in capsys.readouterr().err


def test_info_by_alias(front: Front) -> None:
    front.say("GET /key/info", {"key": "key_1", "info": {"key_alias": "a"}})
    assert run("key", "info", "--alias", "a") == 0
    assert dict(front.asked[0].url.params) == {"key_alias": "a"}


BUDGET_OPTIONS = (
    "--max-budget", "100", "--budget-duration", "1mo", "--budget-timezone", "Europe/Berlin", "--budget-limit", "1d=5",
    "--budget-limit", "7d=20.5", "--model-budget", "gpt-4*=2/1d", "--model-budget", "o3=1", "--threshold", "50",
    "--threshold", "90", "--budget-mode", "strict", "--rpm-limit", "60", "--max-parallel", "4",
)  # fmt: skip
BUDGET_FIELDS = {
    "max_budget": 100.0,
    "budget_duration": "1mo",
    "budget_timezone": "Europe/Berlin",
    "budget_limits": [
        {"budget_duration": "1d", "max_budget": 5.0},
        {"budget_duration": "7d", "max_budget": 20.5},
    ],
    "model_max_budget": {"gpt-4*": {"budget_limit": 2.0, "time_period": "1d"}, "o3": {"budget_limit": 1.0}},
    "budget_thresholds": [50, 90],
    "budget_mode": "strict",
    "rpm_limit": 60,
    "max_parallel_requests": 4,
}


def test_a_budget_as_options(front: Front, capsys: Capture) -> None:
    front.say("POST /key/generate", {"key": "sk-new"})
    front.say("POST /budget/new", {"budget_id": "b1", "max_budget": 100, "version": 1})
    front.say("POST /budget/update", {"budget_id": "b1", "warnings": ["3 scopes follow"]})
    assert run("key", "generate", *BUDGET_OPTIONS, "--model-rpm", "gpt-4*=6", "--model-tpm", "o3=7") == 0
    assert run("key", "generate", "--budget-id", "b1") == 0
    assert run("budget", "new", "--id", "b1", *BUDGET_OPTIONS) == 0
    assert run("budget", "update", "b1", "--max-budget", "7", "--clear", "budget_limits", "--clear", "rpm_limit") == 0
    assert [body(request) for request in front.asked] == [
        {**BUDGET_FIELDS, "model_rpm_limit": {"gpt-4*": 6}, "model_tpm_limit": {"o3": 7}},
        {"budget_id": "b1"},
        {"budget_id": "b1", **BUDGET_FIELDS},
        {"budget_id": "b1", "budget_limits": None, "rpm_limit": None, "max_budget": 7.0},
    ]
    assert capsys.readouterr().err == "note: 3 scopes follow\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ("--budget-limit", "5"), ("--budget-limit", "soon=5"), ("--budget-limit", "1d=nan"), ("--budget-limit", "=5"),
        ("--model-budget", "gpt="), ("--model-budget", "gpt=5/soon"), ("--model-budget", "m=-1"), ("--threshold", "x"),
        ("--budget-mode", "hard"), ("--max-parallel", "0"), ("--model-rpm", "gpt=1.5"),
    ],
)  # fmt: skip
def test_options_of_a_budget_that_cannot_be_read(front: Front, wrong: tuple[str, str]) -> None:
    assert run("key", "generate", *wrong) == 2
    assert front.asked == []


def test_budget_objects_are_listed_and_deleted(front: Front, capsys: Capture) -> None:
    attached = {"keys": 2, "teams": 0, "organizations": 1, "behind": 0}
    front.say("GET /budget/list", [{"budget_id": "b1", "max_budget": 5, "attached": attached}])
    front.say("POST /budget/delete", {"budget_id": "b1", "deleted": True})
    assert run("budget", "list") == 0
    assert "$5.00" in (line := capsys.readouterr().out.splitlines()[1])
    assert "2 keys, 1 organizations" in line
    assert run("budget", "delete", "b1") == 0
    assert body(front.asked[1]) == {"id": "b1"}
    front.say("GET /budget/list", [])
    assert run("budget", "list") == 0
    assert "`tundish budget new`" in capsys.readouterr().out


def test_spend_is_set_back(front: Front, capsys: Capture) -> None:
    rows = [{"budget_duration": "30d", "model": None, "max_budget": 5, "before": 4.5, "after": 1}]
    front.say("POST /organization/o1/reset_spend", {"corrections": rows, "warnings": []})
    front.say("POST /key/a/b/reset_spend", {"corrections": [], "warnings": ["nothing was changed"]})
    assert run("budget", "reset", "org", "o1", "--to", "1", "--reason", "a test") == 0
    assert "$4.50" in capsys.readouterr().out
    assert body(front.asked[0]) == {"reset_to": 1.0, "reason": "a test"}
    assert run("budget", "reset", "key", "a/b") == 0
    assert front.asked[1].url.raw_path == b"/key/a%2Fb/reset_spend"
    assert body(front.asked[1]) == {}
    assert capsys.readouterr().err == "note: nothing was changed\n"


def test_a_key_is_found_by_its_alias_too(front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"error": {"message": "There is no such key."}}

    def only_by_alias(request: httpx.Request) -> httpx.Response:
        front.asked.append(request)
        said = dict(request.url.params) | (msgspec.json.decode(request.content) if request.content else {})
        if "search" in (said.get("key_alias"), *said.get("key_aliases", ())) or "key_7" in request.url.path:
            return httpx.Response(200, json={"info": {"token_id": "key_7"}, "corrections": []})
        return httpx.Response(404, json=error)

    monkeypatch.setattr(Front, "__call__", lambda _self, request: only_by_alias(request))
    for action in ("info", "block", "unblock", "delete"):
        assert run("key", action, "search") == 0, action
        assert run("key", action, "--alias", "search") == 0, action
    assert run("budget", "reset", "key", "search", "--to", "1") == 0
    assert (front.asked[-1].url.path, body(front.asked[-1])) == ("/key/key_7/reset_spend", {"reset_to": 1.0})
    capsys.readouterr()
    for words in (("key", "info", "other"), ("key", "delete", "other"), ("budget", "reset", "key", "other")):
        assert run(*words) == 1
        assert "There is no such key. No key has the alias 'other' either." in capsys.readouterr().err
    before = len(front.asked)
    assert run("key", "block", "sk-mistyped") == 1
    assert len(front.asked) == before + 1, "a secret is not sent as an alias"


def test_limits_of_other_kinds_in_the_list(front: Front, capsys: Capture) -> None:
    windows = [{"max_budget": 0.00001, "budget_duration": "1d"}, {"max_budget": 2, "budget_duration": "1h"}]
    keys = [
        {"token_id": "k1", "max_budget": None, "budget_limits": [], "model_max_budget": {"gpt-*": {"budget_limit": 1}}},
        {"token_id": "k2", "max_budget": None, "budget_limits": windows, "model_max_budget": {}},
        {"token_id": "k3", "max_budget": None, "team_id": "t", "budget_limits": [], "model_max_budget": {}},
        {"token_id": "k4", "max_budget": 0, "budget_limits": windows},
    ]
    front.say("GET /key/list", {"keys": keys, "total_pages": 1})
    assert run("key", "list") == 0
    model, several, team, zero = capsys.readouterr().out.splitlines()[1:]
    assert "per model" in model
    assert "$0.00001/1d, $2.00/1h" in several
    assert "no limit" not in team
    assert "$0.00" in zero


def test_small_amounts_have_no_exponent(front: Front, capsys: Capture) -> None:
    windows = [{"max_budget": 2e-7, "reset_at": None}]
    front.say("GET /key/info", {"info": {"spend": 1e-05, "rpm_limit": 5, "budget_limits": windows, "big": 2e16}})
    assert run("key", "info", "k") == 0
    out = capsys.readouterr().out
    assert "0.00001\n" in out
    assert '"max_budget":0.0000002' in out
    assert "e-0" not in out
    assert "20000000000000000" in out


def test_info_leaves_out_what_is_empty(front: Front, capsys: Capture) -> None:
    front.say("GET /key/info", {"key": "key_1", "info": {"key_alias": "a", "team_id": None, "spend": 0.5}})
    assert run("key", "info", "key_1") == 0
    assert capsys.readouterr().out == "key_alias  a\nspend      0.5\n"


def test_spend_that_nobody_knows_is_not_shown_as_zero(front: Front, capsys: Capture) -> None:
    rows = [{"key_name": "sk-...abcd", "spend": None}, {"key_name": "sk-...efgh", "spend": 0.05}]
    front.say("GET /spend/keys", {"data": rows, "current_page": 1, "total_pages": 1})
    assert run("spend", "keys") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "unknown" in lines[1]
    assert "$0.05" in lines[2]


def test_warnings_of_the_service_are_shown(front: Front, capsys: Capture) -> None:
    front.say("POST /key/block", {"warnings": ["it will be recorded later"]})
    assert run("key", "block", "key_1") == 0
    assert capsys.readouterr().err == "note: it will be recorded later\n"


def test_nothing_spent_is_a_sentence(front: Front, capsys: Capture) -> None:
    front.say("GET /spend/logs", {"data": [], "next": None})
    assert run("spend", "logs") == 0
    assert capsys.readouterr().out == "Nothing has been spent yet.\n"


def test_no_team_has_spent_does_not_say_that_nobody_has(front: Front, capsys: Capture) -> None:
    front.say("GET /spend/teams", {"data": [], "current_page": 1, "total_pages": 0})
    assert run("spend", "teams") == 0
    assert capsys.readouterr().out.startswith("No key of a team has spent anything yet")


def test_nothing_found_is_not_nothing_spent(front: Front, capsys: Capture) -> None:
    front.say("GET /spend/logs", {"data": [], "next": None})
    assert run("spend", "logs", "--measured", "lost") == 0
    assert capsys.readouterr().out.startswith("No call matches")
    assert dict(front.asked[0].url.params) == {"measured": "lost", "limit": "50"}


def test_a_rebuild_that_agrees(front: Front, capsys: Capture) -> None:
    front.say("POST /ledger/rebuild", {"job": "j/1"})
    front.say(
        "GET /ledger/rebuild/j/1",
        {"state": "running", "events": 0, "total": 10},
        {"state": "running", "events": 5, "total": 10},
        {"state": "done", "events": 10, "total": 10, "equal": True, "differences": [], "error": None},
    )
    assert run("ledger", "rebuild", "--check") == 0
    said = capsys.readouterr()
    assert said.out == "equal: 10 events of the log give exactly the balances in the books\n"
    assert said.err == "read 5 of 10 events of the log\n"
    assert body(front.asked[0]) == {"check": True}
    assert front.asked[1].url.raw_path == b"/ledger/rebuild/j%2F1"


def test_a_rebuild_that_differs_fails_and_shows_where(front: Front, capsys: Capture) -> None:
    front.say("POST /ledger/rebuild", {"job": "j"})
    difference = {"what": "account", "id": "acc_1", "books_nusd": 1_000_000_001, "log_nusd": 1_000_000_000}
    front.say(
        "GET /ledger/rebuild/j",
        {"state": "done", "events": 10, "total": 10, "equal": False, "differences": [difference]},
    )
    assert run("ledger", "rebuild", "--check") == 1
    said = capsys.readouterr().out
    assert "NOT equal: 1 balances differ" in said
    assert "account acc_1: books $1.000000001 (1000000001" in said
    assert run("ledger", "rebuild", "--json") == 1
    assert msgspec.json.decode(capsys.readouterr().out, type=dict[str, object])["equal"] is False


def test_a_rebuild_that_fails_or_never_ends(front: Front, capsys: Capture) -> None:
    front.say("POST /ledger/rebuild", {"job": "j"})
    front.say("GET /ledger/rebuild/j", {"state": "failed", "events": 3, "error": "the stream is gone"})
    assert run("ledger", "rebuild") == 1
    assert "failed after 3 events: the stream is gone" in capsys.readouterr().out
    front.say("GET /ledger/rebuild/j", {"state": "running", "events": 3, "total": None})
    assert run("ledger", "rebuild", "--wait", "1") == 1
    assert "still runs after 1 s" in capsys.readouterr().err


def test_a_rebuild_survives_a_front_door_that_is_away_for_a_moment(front: Front) -> None:
    front.say("POST /ledger/rebuild", {"job": "j"})
    front.say(
        "GET /ledger/rebuild/j",
        httpx.ConnectError("restarting"),
        {"state": "done", "events": 1, "equal": True},
    )
    assert run("ledger", "rebuild") == 0
    front.say("GET /ledger/rebuild/j", httpx.ConnectError("gone"))
    assert run("ledger", "rebuild") == 1


def test_the_key_comes_from_the_environment_or_the_file(tmp_path: Path) -> None:
    home = {"TUNDISH_HOME": str(tmp_path)}
    with pytest.raises(SettingsError, match=r"master\.key"):
        master_key(Env(home))
    (tmp_path / "master.key").write_text("\n")
    with pytest.raises(SettingsError, match="empty"):
        master_key(Env(home))
    (tmp_path / "master.key").write_text(KEY + "\n")
    assert master_key(Env(home)) == (KEY, str(tmp_path / "master.key"))
    assert master_key(Env({**home, "TUNDISH_MASTER_KEY": "sk-env"})) == ("sk-env", "TUNDISH_MASTER_KEY")
    with pytest.raises(SettingsError, match="odd characters"):
        master_key(Env({"TUNDISH_MASTER_KEY": "sk-ü"}))


@pytest.mark.parametrize("value", ["", "  "])
def test_a_credential_that_is_set_and_empty_gives_way_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    (tmp_path / "master.key").write_text(KEY)
    home = {"TUNDISH_HOME": str(tmp_path), "TUNDISH_MASTER_KEY": KEY}
    with pytest.raises(SettingsError, match="TUNDISH_ADMIN_KEY is set but empty"):
        admin_access(Env(home | {"TUNDISH_ADMIN_KEY": value}))
    with pytest.raises(SettingsError, match="TUNDISH_MASTER_KEY is set but empty"):
        admin_access(Env(home | {"TUNDISH_MASTER_KEY": value}))
    monkeypatch.setenv("TUNDISH_API_KEY", value)
    assert run("exchange") == 2
    assert "TUNDISH_API_KEY is set but empty" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["127.0.0.1:4000", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="TUNDISH_URL"), open_client(Env({"TUNDISH_URL": url})):
        pass


def test_every_command_takes_json(front: Front, capsys: Capture) -> None:
    for what in ("GET /key/list", "GET /key/info", "POST /key/generate", "GET /spend/teams"):
        front.say(what, {"answer": 1})
    for arguments in (("key", "list"), ("key", "info", "k"), ("key", "generate"), ("spend", "teams")):
        assert run(*arguments, "--json") == 0
        assert msgspec.json.decode(capsys.readouterr().out) == {"answer": 1}


def test_the_price_of_a_model_needs_no_server(capsys: Capture) -> None:
    assert run("prices", "show", "GPT-5-mini") == 0
    said = capsys.readouterr().out
    assert "azure/gpt-5-mini (chat)" in said
    assert "Azure's retail price list; in force since 2026-11-22" in said
    assert any(line.split()[:3] == ["input", "standard", "-"] and "0.25" in line for line in said.splitlines())
    assert any(line.split()[:2] == ["output", "priority"] and "3.6" in line for line in said.splitlines())


def test_a_price_as_json_is_exact_and_by_tier(capsys: Capture) -> None:
    assert run("prices", "show", "azure/gpt-5.5", "--json") == 0
    (record,) = msgspec.json.decode(capsys.readouterr().out)["data"]
    assert (record["model"], record["family"], record["source"], record["tier_above"]) == (
        "gpt-5.5",
        "azure",
        "R",
        272_000,
    )
    prices = {(line["class"], line["tier"], line["prompt"]): (line["usd"], line["per"]) for line in record["prices"]}
    assert prices["input", "standard", "≤ 272,000 tokens"] == ("5", "million tokens")
    assert prices["output", "standard", "> 272,000 tokens"] == ("45", "million tokens")
    assert prices["cached", "priority", "≤ 272,000 tokens"] == ("1.25", "million tokens")
    assert prices["sessions", "standard", "≤ 272,000 tokens"] == ("0.033", "session")


def test_a_model_of_both_families_is_shown_twice(capsys: Capture) -> None:
    assert run("prices", "show", "mistral-large-latest", "--json") == 0
    found = msgspec.json.decode(capsys.readouterr().out)["data"]
    inputs = {row["family"]: row["prices"][0]["usd"] for row in found}
    assert inputs == {"azure": "8", "azure_ai": "2"}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("gpt-5-mimi", "is not in the catalogue; the nearest names are gpt-5-mini"),
        ("dall-e-2", "has no known price"),
        ("qqqqqq", "'tundish prices list' shows all"),
    ],
)
def test_an_unknown_price_names_what_is_near(capsys: Capture, model: str, says: str) -> None:
    assert run("prices", "show", model) == 1
    assert says in capsys.readouterr().err


def test_all_prices_can_be_listed_by_mode(capsys: Capture) -> None:
    assert run("prices", "list") == 0
    assert "azure_ai/claude-sonnet-4-5" in capsys.readouterr().out
    assert run("prices", "list", "--mode", "rerank") == 0
    said = capsys.readouterr().out
    assert "0.0025 per query" in said
    assert "gpt-4o" not in said
    assert run("prices", "list", "--mode", "rerank", "--json") == 0
    assert len(msgspec.json.decode(capsys.readouterr().out)["data"]) == 4
    assert run("prices", "list", "--mode", "poetry") == 1
    assert "the modes are audio_speech" in capsys.readouterr().err
