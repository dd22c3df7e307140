"""`tundish exchange`: the new secret gets into the file, and a lost answer costs nothing."""

import stat
from pathlib import Path

import httpx
import msgspec
import pytest

from services.cli.dotenv import value_in, with_value
from services.cli.files import alone_in
from shared.errors import SettingsError
from tests.support.cli import Front, error, run, stand_in

Capture = pytest.CaptureFixture[str]
OLD = "sk-" + "o1d0" * 12
NEW = "sk-" + "n3w0" * 12
ASKED = "POST /key/exchange"
ANSWER = {"key": NEW, "token_id": "key_1", "version": 2, "old_key_expires": "2026-11-23T10:00:00Z"}
NOTHING = error("The key has no newer secret.", "nothing_to_collect")
BEFORE = f"# ours\nexport OTHER='x y'\nOPENAI_API_KEY={OLD} # of the team\n\nLAST=1"


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    front = stand_in(monkeypatch)
    monkeypatch.delenv("TUNDISH_MASTER_KEY")
    return front


@pytest.fixture
def env(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(BEFORE)
    path.chmod(0o640)
    return path


def test_the_new_secret_replaces_the_old_one_and_nothing_else(front: Front, env: Path, capsys: Capture) -> None:
    front.say(ASKED, ANSWER)
    assert run("exchange", "--write", str(env)) == 0
    assert front.asked[0].headers["authorization"] == f"Bearer {OLD}"
    assert front.asked[0].content == b""
    assert front.once[0]
    assert env.read_text() == BEFORE.replace(OLD, NEW)
    assert stat.S_IMODE(env.stat().st_mode) == 0o640
    assert [path.name for path in env.parent.iterdir()] == [".env"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "version 2 of key_1 and written to OPENAI_API_KEY" in said.err
    assert "ends at 2026-11-23T10:00:00Z" in said.err
    assert NEW not in said.err


def test_nothing_to_collect_is_no_failure(front: Front, env: Path, capsys: Capture) -> None:
    front.say(ASKED, NOTHING, status=404)
    assert run("exchange", "--write", str(env)) == 0
    assert "nothing to collect" in capsys.readouterr().err
    assert run("exchange", "--write", str(env), "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"result": "nothing_to_collect"}
    assert env.read_text() == BEFORE
    assert [path.name for path in env.parent.iterdir()] == [".env"]


def test_json_says_what_was_done_without_the_secret(front: Front, env: Path, capsys: Capture) -> None:
    front.say(ASKED, ANSWER)
    assert run("exchange", "--write", str(env), "--json") == 0
    said = capsys.readouterr().out
    assert msgspec.json.decode(said) == {
        "result": "exchanged",
        "token_id": "key_1",
        "version": 2,
        "old_key_expires": "2026-11-23T10:00:00Z",
        "written": str(env),
    }


def test_a_lost_answer_is_asked_for_again_with_the_same_key(front: Front, env: Path) -> None:
    front.say(ASKED, httpx.ReadError("reset"))
    assert run("exchange", "--write", str(env)) == 1
    assert run("exchange", "--write", str(env), "--once") == 1
    assert len(front.asked) == 4, "three tries, and one"
    assert env.read_text() == BEFORE
    note = env.with_name("..env.exchange")
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert OLD not in note.read_text()
    front.say(ASKED, ANSWER)
    assert run("exchange", "--write", str(env)) == 0
    assert len(set(front.once)) == 1
    assert value_in(env.read_text(), "OPENAI_API_KEY") == NEW
    assert not note.exists()


def test_a_note_of_another_secret_or_of_long_ago_is_not_believed(
    front: Front, env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.say(ASKED, httpx.ReadError("reset"))
    assert run("exchange", "--write", str(env), "--once") == 1
    monkeypatch.setattr("services.cli.exchange.KEPT_MS", -1)
    assert run("exchange", "--write", str(env), "--once") == 1
    monkeypatch.undo()


def test_a_note_belongs_to_one_secret(front: Front, env: Path) -> None:
    front.say(ASKED, httpx.ReadError("reset"))
    assert run("exchange", "--write", str(env), "--once") == 1
    env.write_text(BEFORE.replace(OLD, "sk-third"))
    assert run("exchange", "--write", str(env), "--once") == 1
    assert len(set(front.once)) == 2
    env.with_name("..env.exchange").write_text("not a note")
    assert run("exchange", "--write", str(env), "--once") == 1
    assert len(set(front.once)) == 3


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (409, "already_collected")])
def test_a_refusal_fails_and_leaves_no_note(front: Front, env: Path, capsys: Capture, status: int, code: str) -> None:
    front.say(ASKED, error("It was collected at noon.", code), status=status)
    assert run("exchange", "--write", str(env)) == 1
    said = capsys.readouterr().err
    assert "It was collected at noon." in said
    assert OLD not in said
    assert [path.name for path in env.parent.iterdir()] == [".env"]


def test_a_file_that_cannot_be_written_keeps_the_note(
    front: Front, env: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.say(ASKED, ANSWER)

    def full(path: Path, text: str) -> None:
        raise SettingsError(f"{path} cannot be written (No space left on device)")

    with monkeypatch.context() as patched:
        from services.cli import exchange

        real = exchange.replace_text
        patched.setattr(
            "services.cli.exchange.replace_text",
            lambda path, text: full(path, text) if NEW in text else real(path, text),
        )
        assert run("exchange", "--write", str(env)) == 2
    assert "No space left" in capsys.readouterr().err
    assert env.read_text() == BEFORE
    assert run("exchange", "--write", str(env)) == 0
    assert len(set(front.once)) == 1
    assert env.read_text() == BEFORE.replace(OLD, NEW)


def test_without_a_file_the_environment_counts_and_the_secret_is_printed(
    front: Front, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("exchange") == 2
    assert "TUNDISH_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("TUNDISH_API_KEY", OLD)
    front.say(ASKED, ANSWER)
    assert run("exchange", "--url", "http://other.test") == 0
    assert front.asked[0].url.host == "other.test"
    assert capsys.readouterr().out == f"{NEW}\n"
    assert run("exchange", "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out)["key"] == NEW


def test_a_new_file_is_its_owners_only(front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_API_KEY", OLD)
    front.say(ASKED, ANSWER)
    path = tmp_path / "secrets.env"
    assert run("exchange", "--write", str(path), "--name", "SEARCH_KEY") == 0
    assert path.read_text() == f"SEARCH_KEY={NEW}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("exchange", "--write", str(path), "--name", "A=B") == 2


def test_the_file_is_newer_than_the_environment(front: Front, env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_API_KEY", "sk-of-the-start")
    front.say(ASKED, NOTHING, status=404)
    assert run("exchange", "--write", str(env)) == 0
    assert front.asked[0].headers["authorization"] == f"Bearer {OLD}"


def test_a_link_stays_a_link(front: Front, env: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.env"
    link.symlink_to(env)
    front.say(ASKED, ANSWER)
    assert run("exchange", "--write", str(link)) == 0
    assert link.is_symlink()
    assert value_in(env.read_text(), "OPENAI_API_KEY") == NEW


def test_two_at_once_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.files.LOCK_WAIT_S", 0)
    with alone_in(tmp_path), pytest.raises(SettingsError, match="another tundish"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "K=new\n"),
        ("A=1", "A=1\nK=new\n"),
        ("A=1\r\n", "A=1\r\nK=new\r\n"),
        ("K=old\n", "K=new\n"),
        ('K="old"  # why\nA=1\n', 'K="new"  # why\nA=1\n'),
        ("export K='old'\r\nA=1\r\n", "export K='new'\r\nA=1\r\n"),
        ("K=\nK=old", "K=new\nK=new"),
        ("# K=old\nXK=old\nKX=old\n", "# K=old\nXK=old\nKX=old\nK=new\n"),
    ],
)
def test_one_value_of_a_file_changes(before: str, after: str) -> None:
    assert with_value(before, "K", "new") == after
    assert value_in(after, "K") == "new"


@pytest.mark.parametrize(
    ("text", "value"),
    [("K=a", "a"), ("K=a\nK=b", "b"), ("K = 'a b'", "a b"), ("K=", None), ("#K=a", None), ("K=a#b", "a"), ("", None)],
)
def test_the_value_of_a_file(text: str, value: str | None) -> None:
    assert value_in(text, "K") == value
