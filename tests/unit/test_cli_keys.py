"""`tundish key …`: what is sent, and what a person is told."""

import io

import httpx
import msgspec
import pytest

from tests.support.cli import Front, error, run, stand_in

Capture = pytest.CaptureFixture[str]
SECRET = "sk-" + "a1B2" * 12


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    return stand_in(monkeypatch)


def test_a_key_with_everything(front: Front, capsys: Capture) -> None:
    hook = {"type": "webhook", "url": "https://a.example/x", "signing_secret": "whsec_abc"}
    front.say("POST /key/generate", {"key": "sk-new", "token_id": "key_1", "rotation_delivery": [hook]})
    code = run(
        "key", "generate", "--type", "llm_api", "--user", "u1", "--team", "t1", "--tag", "a", "--tag", "b",
        "--alias-model", "fast=gpt-4o", "--route", "openai_routes", "--metadata", '{"n": 1}', "--auto-rotate",
        "--every", "30d", "--grace", "24h", "--deliver", "exchange", "--deliver", "webhook=https://a.example/x",
        "--deliver", "vault=https://kv1.vault.azure.net/team-search", "--deliver", "kubernetes=ns/sec/KEY",
        "--retire", "after-grace",
    )  # fmt: skip
    assert code == 0
    assert front.bodies == [
        {
            "key_type": "llm_api",
            "user_id": "u1",
            "team_id": "t1",
            "tags": ["a", "b"],
            "aliases": {"fast": "gpt-4o"},
            "allowed_routes": ["openai_routes"],
            "metadata": {"n": 1},
            "auto_rotate": True,
            "rotation_interval": "30d",
            "grace_period": "24h",
            "rotation_delivery": [
                {"type": "exchange"},
                {"type": "webhook", "url": "https://a.example/x"},
                {"type": "key_vault", "vault": "https://kv1.vault.azure.net", "secret": "team-search"},
                {"type": "kubernetes", "namespace": "ns", "secret": "sec", "entry": "KEY"},
            ],
            "rotation_retire": "after_grace",
        }
    ]
    assert "https://a.example/x gets deliveries signed with whsec_abc" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        ("--deliver", "mail=a@b"), ("--deliver", "webhook="), ("--deliver", "vault=https://kv1.vault.azure.net"),
        ("--deliver", "vault=kv1/name"), ("--deliver", "kubernetes=a/b"), ("--alias-model", "fast"),
        ("--metadata", "[1]"), ("--metadata", "{"), ("--type", "king"), ("--role", "viewer", "--type", "llm_api"),
        ("--raise", "nan"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_read(front: Front, wrong: tuple[str, ...]) -> None:
    assert run("key", "generate", *wrong) == 2
    assert front.asked == []


def test_a_role_is_a_type(front: Front) -> None:
    front.say("POST /key/generate", {"key": "sk-new"})
    assert run("key", "generate", "--role", "team_admin", "--team", "t") == 0
    assert front.bodies == [{"key_type": "team_admin", "team_id": "t"}]


def test_a_key_by_the_hash_of_its_secret(front: Front, capsys: Capture) -> None:
    front.say("POST /key/generate", {"key": None, "token_id": "key_1"})
    assert run("key", "generate", "--hash", "ab" * 32, "--key-name", "sk-...abcd") == 0
    assert front.bodies == [{"key_hash": "ab" * 32, "key_name": "sk-...abcd"}]
    assert "only time" not in capsys.readouterr().out


def test_a_secret_of_ones_own_comes_from_standard_input(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.say("POST /key/generate", {"key": SECRET})
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\n"))
    assert run("key", "generate", "--own-secret") == 0
    assert front.bodies == [{"key": SECRET}]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("key", "generate", "--own-secret") == 2
    assert len(front.asked) == 1


def test_a_service_account(front: Front) -> None:
    front.say("POST /key/service-account/generate", {"key": "sk-new"})
    assert run("key", "service-account", "--team", "t1", "--alias", "ci", "--max-budget", "5") == 0
    assert front.bodies == [{"team_id": "t1", "key_alias": "ci", "max_budget": 5.0}]
    assert run("key", "service-account") == 2


def test_filters_of_the_list_and_columns_only_where_something_stands(front: Front, capsys: Capture) -> None:
    front.say("GET /key/list", {"keys": [{"token_id": "key_1", "role": None, "user_id": "u1", "status": "active"}]})
    assert run("key", "list", "--user", "u1", "--org", "o1", "--alias", "a") == 0
    query = dict(front.asked[0].url.params)
    assert (query["user_id"], query["organization_id"], query["key_alias"]) == ("u1", "o1", "a")
    heading = capsys.readouterr().out.splitlines()[0]
    assert "USER" in heading
    assert "ROLE" not in heading


def test_info_shows_the_versions(front: Front, capsys: Capture) -> None:
    versions = [
        {"version": 1, "key_name": "sk-...aaaa", "status": "overlap", "last_used": "2026-11-22T10:00:00Z"},
        {"version": 2, "key_name": "sk-...bbbb", "status": "current", "last_used": None},
    ]
    front.say("GET /key/info", {"key": "key_1", "info": {"token_id": "key_1", "versions": versions}})
    assert run("key", "info", "key_1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["token_id  key_1", "", lines[2]]
    assert lines[2].startswith("VERSION  SECRET")
    assert "overlap" in lines[3]
    assert "current" in lines[4]


def test_update_sends_what_is_named_and_clears_what_is_said(front: Front) -> None:
    front.say("POST /key/update", {"token_id": "key_1"})
    code = run(
        "key", "update", "key_1", "--model", "gpt-4*", "--max-budget", "9", "--clear", "tags", "--no-auto-rotate",
        "--raise", "5", "--raise-until", "2026-12-01T00:00:00Z",
    )  # fmt: skip
    assert code == 0
    assert front.bodies == [
        {
            "key": "key_1",
            "tags": None,
            "models": ["gpt-4*"],
            "max_budget": 9.0,
            "auto_rotate": False,
            "temp_budget_increase": 5.0,
            "temp_budget_expiry": "2026-12-01T00:00:00Z",
        }
    ]
    assert run("key", "update", "key_1", "--clear", "spend") == 2


def test_renaming_names_the_key_by_its_id(front: Front) -> None:
    front.say("GET /key/info", {"key": "a", "info": {"token_id": "key_7"}})
    front.say("POST /key/update", {})
    assert run("key", "update", "--alias", "a", "--new-alias", "b") == 0
    assert front.bodies[-1] == {"key": "key_7", "key_alias": "b"}


def test_a_block_says_how_many_proxies_refuse(front: Front, capsys: Capture) -> None:
    front.say("POST /key/block", {"fleet": {"proxies": 3, "applied": 3, "ms": 4}})
    assert run("key", "block", "key_1") == 0
    assert capsys.readouterr().out == "blocked: every proxy refuses it now (3 of 3 proxies, 4 ms)\n"


def test_regenerate_shows_the_secret_once(front: Front, capsys: Capture) -> None:
    front.say("POST /key/regenerate", {"key": "sk-second", "token_id": "key_1"})
    assert run("key", "regenerate", "key_1", "--grace", "1h") == 0
    assert front.bodies == [{"key": "key_1", "grace_period": "1h"}]
    assert capsys.readouterr().out.count("sk-second") == 1


def test_regenerate_by_alias(front: Front) -> None:
    front.say("POST /key/regenerate", {"key": "sk-second"})
    assert run("key", "regenerate", "--alias", "search") == 0
    assert front.bodies == [{"key_alias": "search"}]


def test_rotate_has_no_secret_in_the_path(front: Front) -> None:
    front.say("GET /key/info", {"info": {"token_id": "key_7"}})
    front.say("POST /key/key_7/rotate", {"token_id": "key_7", "version": 2})
    assert run("key", "rotate", SECRET) == 0
    assert front.lines[-1] == "POST /key/key_7/rotate"


REVOKED = {
    "token_id": "key_1",
    "key_alias": "search",
    "team_id": "t1",
    "versions": [2],
    "versions_left": [3],
    "fleet": {"proxies": 3, "applied": 3, "ms": 4.5},
}


@pytest.mark.parametrize("how", ["argument", "standard input", "prompt"])
def test_a_leaked_secret_is_revoked_by_itself(
    front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    front.say("POST /key/revoke", REVOKED)
    words = {"argument": [SECRET], "standard input": ["-"], "prompt": []}[how]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\n"))
    assert run("key", "revoke", "--leaked", *words, "--reason", "a screenshot") == 0
    assert front.bodies == [{"key": SECRET, "leaked": True, "reason": "a screenshot"}]
    said = capsys.readouterr().out
    assert "revoked: every proxy refuses it now (3 of 3 proxies, 4.5 ms)" in said
    assert "version 2 of the secret of key_1 (search) of the team t1" in said
    assert "Version 3 still works" in said
    assert SECRET not in said


def test_a_prompt_does_not_show_what_is_typed(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return SECRET

    monkeypatch.setattr("services.cli.where.getpass", getpass)
    monkeypatch.setattr("services.cli.where.sys.stdin.isatty", lambda: True, raising=False)
    front.say("POST /key/revoke", {"token_id": "key_1", "versions": [1], "versions_left": []})
    assert run("key", "revoke", "--leaked", "--yes") == 0
    assert asked == ["the leaked secret or its SHA-256: "]


@pytest.mark.parametrize("command", [("key", "revoke", "--leaked", "--yes"), ("key", "report-leak")])
def test_a_prompt_that_is_left_by_its_end_is_no_crash(
    front: Front, monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: tuple[str, ...]
) -> None:
    def getpass(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("services.cli.where.getpass", getpass)
    monkeypatch.setattr("services.cli.where.sys.stdin.isatty", lambda: True, raising=False)
    assert run(*command) == 2
    assert "nothing was given" in capsys.readouterr().err
    assert front.asked == []


def test_a_question_without_an_answer_changes_nothing(
    front: Front, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    class Ended(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Ended(""))
    assert run("key", "delete", "key_1") == 2
    assert "no answer was given: nothing was changed" in capsys.readouterr().err
    assert front.asked == []


def test_all_secrets_of_a_key_are_revoked(front: Front, capsys: Capture) -> None:
    front.say("POST /key/revoke", {"token_id": "key_1", "versions": [1, 2], "versions_left": []})
    assert run("key", "revoke", "key_1", "--leaked") == 0
    assert run("key", "revoke", "--alias", "search") == 0
    assert front.bodies == [{"key": "key_1", "leaked": True}, {"key_alias": "search", "leaked": False}]
    assert "`tundish key regenerate key_1`" in capsys.readouterr().out


def test_revoke_has_to_know_what(front: Front, capsys: Capture) -> None:
    assert run("key", "revoke") == 2
    assert run("key", "revoke", "key_1", "--leaked", "sk-x") == 2
    assert front.asked == []
    assert "sk-x" not in capsys.readouterr().err


def test_a_leaked_secret_that_nobody_knows_is_not_sent_as_an_alias(front: Front) -> None:
    front.say("POST /key/revoke", httpx.Response(404, json=error("There is no such key.", "key_not_found")))
    assert run("key", "revoke", "--leaked", SECRET) == 1
    assert len(front.asked) == 1


def test_whoever_finds_a_secret_may_report_it(front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNDISH_MASTER_KEY")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\n"))
    front.say("POST /key/report-leak", {"received": 1})
    assert run("key", "report-leak", "--source", "scanner", "--where", "https://a.example") == 0
    assert front.bodies == [{"key": SECRET, "source": "scanner", "url": "https://a.example"}]
    assert "authorization" not in front.asked[0].headers
    assert "reported" in capsys.readouterr().out
    assert run("key", "report-leak", SECRET, "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"received": 1}
