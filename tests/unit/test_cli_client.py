"""Changes are made once, also when answers are lost; whom a command comes as; questions before something ends."""

import io

import httpx
import pytest

from services.cli.where import admin_access
from shared.settings import Env
from tests.support.cli import Front, error, run, stand_in

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    return stand_in(monkeypatch)


def test_every_change_has_a_key_of_its_own_and_reading_has_none(front: Front) -> None:
    front.say("POST /key/block", {})
    front.say("GET /key/list", {"keys": []})
    assert run("key", "block", "key_1") == 0
    assert run("key", "block", "key_1") == 0
    assert run("key", "list") == 0
    first, second, third = front.once
    assert first != second
    assert None not in (first, second)
    assert third is None


def test_a_lost_answer_is_asked_for_again_under_the_same_key(front: Front) -> None:
    front.say("POST /key/generate", httpx.ReadError("reset"), httpx.ConnectError("restarting"), {"key": "sk-new"})
    assert run("key", "generate") == 0
    assert len(front.asked) == 3
    assert len(set(front.once)) == 1
    assert len(set(map(str, front.bodies))) == 1


def test_nobody_there_at_first_is_said_at_once(front: Front, capsys: Capture) -> None:
    front.say("POST /key/generate", httpx.ConnectError("refused"))
    assert run("key", "generate") == 1
    assert len(front.asked) == 1
    assert "Is Tundish running?" in capsys.readouterr().err


def test_an_answer_that_stays_lost_says_how_to_get_it(front: Front, capsys: Capture) -> None:
    front.say("POST /key/generate", httpx.ReadTimeout("late"))
    assert run("key", "generate") == 1
    assert len(front.asked) == 3, "the number of tries is bounded"
    assert f"--idempotency-key {front.once[0]}" in capsys.readouterr().err
    front.say("POST /key/generate", {"key": "sk-new"})
    assert run("key", "generate", "--idempotency-key", str(front.once[0])) == 0
    assert front.once[-1] == front.once[0]


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [
        (409, "idempotency_in_progress", 2), (503, "service_unavailable", 2), (502, "", 2), (504, "", 2),
        (409, "alias_taken", 1), (503, "store_unavailable", 1), (500, "", 1), (429, "", 1),
    ],
)  # fmt: skip
def test_which_answers_may_pass(front: Front, status: int, code: str, tries: int) -> None:
    front.say("POST /key/block", httpx.Response(status, json=error("no", code)), httpx.Response(200, json={}))
    assert run("key", "block", "key_1") == (0 if tries == 2 else 1)
    assert len(front.asked) == tries
    assert len(set(front.once)) == 1


def test_several_changes_of_one_command_are_told_apart_and_repeatable(front: Front) -> None:
    front.say("POST /key/block", httpx.Response(404, json=error("no such key", "key_not_found")), {})
    assert run("key", "block", "search", "--idempotency-key", "mine") == 0
    assert front.once == ["mine", "mine.2"]


@pytest.mark.parametrize("wrong", ["", "a b", "ü", "x" * 151])
def test_what_cannot_be_such_a_key(front: Front, wrong: str) -> None:
    assert run("key", "block", "k", "--idempotency-key", wrong) == 2
    assert front.asked == []


def test_a_key_with_a_role_goes_before_the_master_key(
    front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNDISH_ADMIN_KEY", "sk-role")
    front.say("GET /key/list", error("not known", "invalid_api_key"), status=401)
    assert run("key", "list") == 1
    assert front.asked[0].headers["authorization"] == "Bearer sk-role"
    assert "does not accept the key from TUNDISH_ADMIN_KEY: not known" in capsys.readouterr().err
    assert admin_access(Env({"TUNDISH_MASTER_KEY": "sk-m"})).what == "the master key from TUNDISH_MASTER_KEY"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "words",
    [
        ("key", "delete", "k"), ("key", "revoke", "k"), ("key", "regenerate", "k"), ("team", "block", "t"),
        ("team", "delete", "t"), ("team", "member", "remove", "t", "--user", "u"), ("org", "block", "o"),
        ("org", "delete", "o"), ("org", "member", "remove", "o", "--user", "u"), ("user", "delete", "u"),
        ("budget", "delete", "b"),
    ],
)  # fmt: skip
def test_what_ends_something_asks_on_a_terminal(
    front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    front.other = lambda _request: httpx.Response(200, json={})
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert run(*words) == 1
    assert front.asked == []
    said = capsys.readouterr().err
    assert "[y/N]" in said
    assert "nothing was changed" in said
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert run(*words) == 0
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert run(*words, "--yes") == 0
    assert len(front.asked) == 2


def test_a_question_does_not_repeat_a_secret(front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert run("key", "delete", "sk-secret") == 1
    assert "sk-secret" not in capsys.readouterr().err
