"""Who runs from a data folder: the lock, `run.json`, leftovers of a dead supervisor."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from deploy.local.down import already_running, stop_running
from deploy.local.errors import UpError
from deploy.local.processes import Identity, identify, is_alive, send_signal, wait_gone
from deploy.local.runfile import (
    ChildRecord,
    RunFile,
    RunRecord,
    locked,
    make_home,
    read_record,
    run_path,
    stop_leftovers,
    stop_time_s,
)

PATIENT = "import signal, sys; print('up', flush=True); sys.exit(signal.sigwait({signal.SIGTERM}) and 0)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


@contextmanager
def program(code: str) -> Generator[tuple[subprocess.Popen[str], Identity]]:
    """A running Python program that has said it is up."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if code is PATIENT else None
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            found = identify(process.pid)
            assert found is not None
            yield process, found
        finally:
            process.kill()


def child(process: Identity, *, rank: int = 0, grace_s: float = 5.0) -> ChildRecord:
    return ChildRecord(
        name=f"child-{process.pid}",
        process=process,
        stop_signal=signal.SIGTERM,
        grace_s=grace_s,
        stop_rank=rank,
    )


def test_a_leftover_is_stopped_politely_then_by_force() -> None:
    with program(PATIENT) as (polite, first), program(STUBBORN) as (stubborn, second):
        record = RunRecord(children={"a": child(second, rank=1, grace_s=0.2), "b": child(first)})
        said: list[str] = []
        assert stop_leftovers(record, said.append) == 2
        assert polite.wait() == 0
        assert stubborn.wait() == -signal.SIGKILL
        assert [str(first.pid) in said[0], str(second.pid) in said[1]] == [True, True]
        assert record.children == {}


def test_a_stranger_with_a_recorded_pid_is_left_alone() -> None:
    with program(PATIENT) as (stranger, found):
        old = Identity(found.pid, found.start + "0")
        assert stop_leftovers(RunRecord(children={"proxy": child(old)}), print) == 0
        assert not send_signal(old, signal.SIGKILL)
        assert wait_gone(old, 0.0)
        assert stranger.poll() is None
        assert is_alive(found)


def test_a_process_that_has_ended_is_gone_even_as_a_zombie() -> None:
    with program(PATIENT) as (process, found):
        process.terminate()
        assert wait_gone(found, 5.0)
        assert identify(process.pid) is None
        assert process.wait() == 0


def test_one_supervisor_per_data_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_home(home)
    with locked(home) as first, locked(home) as second:
        assert (first, second) == (True, False)
    with locked(home) as again:
        assert again
    assert home.stat().st_mode & 0o066 == 0
    assert (home / ".gitignore").read_text() == "*\n"


def test_what_is_written_is_read_again_without_those_that_ended(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    file = RunFile(run_path(tmp_path), RunRecord())
    file.open("http://127.0.0.1:4000", {"auth": 20_001})
    file.put_child(child(me))
    file.put_child(child(Identity(1, "long ago")))
    file.drop_child("child-1")
    record = read_record(tmp_path)
    assert record.supervisor == me
    assert record.ports == {"auth": 20_001}
    assert [each.process for each in record.children.values()] == [me]
    assert "http://127.0.0.1:4000" in already_running(tmp_path)
    assert str(me.pid) in already_running(tmp_path)
    file.close()
    assert read_record(tmp_path) == RunRecord(url="http://127.0.0.1:4000", ports={"auth": 20_001})


def test_an_orderly_stop_takes_as_long_as_its_slowest_of_each_rank() -> None:
    some = Identity(1, "x")
    children = [child(some, rank=0, grace_s=45.0), child(some, rank=0, grace_s=5.0), child(some, rank=3, grace_s=30.0)]
    record = RunRecord(children={str(number): each for number, each in enumerate(children)})
    assert stop_time_s(record) == 75.0


@pytest.mark.parametrize("content", [b"", b"{", b'{"children": 3}', b"\xff"])
def test_a_torn_record_is_no_record(content: bytes, tmp_path: Path) -> None:
    run_path(tmp_path).write_bytes(content)
    assert read_record(tmp_path) == RunRecord()


def test_down_ends_what_a_dead_supervisor_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with program(PATIENT) as (process, found):
        dead = Identity(found.pid, "long ago")
        record = RunRecord(supervisor=dead, children={"auth": child(found)})
        run_path(tmp_path).write_bytes(msgspec.json.encode(record))
        assert stop_running(tmp_path) == 0
        assert process.wait() == 0
    assert read_record(tmp_path).supervisor is None
    assert "Tundish has stopped." in capsys.readouterr().out
    assert stop_running(tmp_path) == 0
    assert capsys.readouterr().out == "Nothing runs.\n"
    assert stop_running(tmp_path / "none") == 0


def test_a_data_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UpError, match="TUNDISH_HOME"):
        make_home(tmp_path / "file" / "home")
