"""Secrets that `make up` makes: strong, private, made once."""

import os
import re
from pathlib import Path

import pytest

from deploy.local.errors import UpError
from deploy.local.secrets import keep_secret, new_master_key, new_pepper, write_private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_shapes() -> None:
    assert re.fullmatch(r"sk-tundish-[0-9A-Za-z]{43}", new_master_key())
    assert re.fullmatch(r"p1:[0-9a-f]{64}", new_pepper())
    assert new_master_key() != new_master_key()


def test_made_once_and_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "tokens" / "auth"
    before = os.umask(0)
    try:
        assert keep_secret(path, "first") == "first"
        assert keep_secret(path, "second") == "first"
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert [each.name for each in path.parent.iterdir()] == ["auth"]


def test_a_secret_that_others_could_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_text("p1:00\n")
    path.chmod(0o644)
    assert keep_secret(path, "other") == "p1:00"
    assert mode(path) == 0o600


@pytest.mark.parametrize(("content", "says"), [("\n", "empty"), ("x" * 5000, "too long")])
def test_a_broken_secret_is_not_replaced_behind_ones_back(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text(content)
    with pytest.raises(UpError, match=says):
        keep_secret(path, "fresh")
    assert path.read_text() == content


def test_rewriting_keeps_a_file_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_private(path, "one")
    write_private(path, "two")
    assert (path.read_text(), mode(path)) == ("two", 0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]
