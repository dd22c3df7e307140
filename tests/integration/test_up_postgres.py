"""The embedded PostgreSQL as `make up` runs it: by whom, from where, with whose password."""

import asyncio
import io
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from deploy.local import postgres, postgres_place
from deploy.local.children import Child, Spec
from deploy.local.errors import UpError
from deploy.local.postgres_place import Place, find_place
from deploy.local.printer import Printer
from deploy.local.processes import identify, send_signal
from deploy.local.runfile import RunFile, RunRecord, make_home, run_path
from deploy.local.waiting import last_lines, wait_ready
from tests.support.servers import free_port

LIMIT_S = 60.0
AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as another user")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that others can pass through; what goes outside of a data folder goes to `state` in it."""
    path = Path(tempfile.mkdtemp(prefix="tundish-up-"))
    path.chmod(0o711)
    state = path / "state"
    state.mkdir()
    state.chmod(0o755)
    monkeypatch.setattr(postgres_place, "STATE_DIRECTORY", state)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def home(folder: Path) -> Path:
    path = folder / "home"
    make_home(path)
    return path


@pytest.fixture
def hidden_home(folder: Path) -> Path:
    """A data folder below one that only its owner can enter."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    path = closed / "home"
    make_home(path)
    return path


@asynccontextmanager
async def server(home: Path, place: Place) -> AsyncGenerator[tuple[Child, int]]:
    """The server of a data folder, with its database, stopped in an orderly way at the end."""
    printer = Printer(io.StringIO())
    run_file = RunFile(run_path(home), RunRecord())

    async def run_once(spec: Spec, limit_s: float) -> str | None:
        child = Child(spec, printer, run_file)
        failure = await child.run_once(limit_s)
        return None if failure is None else failure + last_lines(child)

    superuser, role = postgres.superuser_password(home), postgres.role_password(home)
    port = free_port()
    await postgres.make_cluster(place, superuser, run_once)
    postgres.clear_stale_pid(place, print)
    child = Child(postgres.server_spec(place, port, debug=True), printer, run_file)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.keep())
        try:
            probe = postgres.ready_probe(place, superuser, port, lambda: child.pid)
            await wait_ready("PostgreSQL", probe, LIMIT_S, child)
            await postgres.ensure_database(superuser, role, port)
            yield child, port
        finally:
            await child.stop()
            printer.close()


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_the_services_role_has_its_database_and_no_more(home: Path) -> None:
    async with server(home, find_place(home)) as (child, port):
        role = postgres.role_password(home)
        url = postgres.role_url(role, port)
        assert await fetch(url, "SELECT current_user || '@' || current_database()") == "tundish@tundish"
        assert await fetch(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert await fetch(url, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'") == 1
        await fetch(url, "CREATE TABLE kept (value int)")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(postgres.role_url("wrong", port), "SELECT 1")
        everything = url.replace(f"tundish:{role}", f"postgres:{postgres.superuser_password(home)}")
        for name, value in (
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("password_encryption", "scram-sha-256"),
            ("data_checksums", "on"),
            ("fsync", "on"),
            ("server_encoding", "UTF8"),
        ):
            assert await fetch(everything, f"SHOW {name}") == value, name
        assert role not in "\n".join(child.recent)
    assert child.falls == 0


async def test_the_next_start_finds_its_data_even_after_a_crash(home: Path) -> None:
    place = find_place(home)
    async with server(home, place) as (child, port):
        url = postgres.role_url(postgres.role_password(home), port)
        await fetch(url, "CREATE TABLE kept (value int)")
        killed = identify(child.pid or 0)
        assert killed is not None
        send_signal(killed, signal.SIGKILL)

        async def started_again() -> str | None:
            return "not yet" if child.pid in (None, killed.pid) else None

        await wait_ready("the next process", started_again, LIMIT_S)
        probe = postgres.ready_probe(place, postgres.superuser_password(home), port, lambda: child.pid)
        await wait_ready("PostgreSQL", probe, LIMIT_S, child)
        assert await fetch(url, "SELECT count(*) FROM kept") == 0
    async with server(home, find_place(home)) as (_, port):
        url = postgres.role_url(postgres.role_password(home), port)
        assert await fetch(url, "SELECT count(*) FROM kept") == 0


async def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(home: Path) -> None:
    """After a restart of a container the old server's pid may belong to anybody, ourselves included."""
    place = find_place(home)
    async with server(home, place):
        text = (place.data / "postmaster.pid").read_text()
    (place.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *text.splitlines()[1:]]) + "\n")
    async with server(home, place) as (child, _):
        assert child.falls == 0


async def test_a_server_left_running_is_stopped_before_the_next_one(home: Path) -> None:
    place = find_place(home)
    async with server(home, place) as (child, _):
        said: list[str] = []
        leftover = child.pid
        await asyncio.to_thread(postgres.clear_stale_pid, place, said.append)
        assert said == [f"stopping PostgreSQL (pid {leftover}), left over from a supervisor that died"]


async def test_lost_passwords(home: Path) -> None:
    place = find_place(home)
    async with server(home, place):
        pass
    (home / "postgres" / "tundish.pw").unlink()
    async with server(home, place) as (_, port):  # the role gets its new one
        assert await fetch(postgres.role_url(postgres.role_password(home), port), "SELECT 1") == 1
    (home / "postgres" / "postgres.pw").unlink()
    with pytest.raises(ExceptionGroup) as caught:
        async with server(home, place):
            pass
    assert caught.group_contains(UpError, match=r"postgres/postgres\.pw")


async def test_half_a_cluster_is_never_used(home: Path) -> None:
    place = find_place(home)
    (place.parent / "data.new").mkdir(exist_ok=True)
    (place.parent / "data.new" / "PG_VERSION").write_text("18\n")
    async with server(home, place) as (_, port):
        assert await fetch(postgres.role_url(postgres.role_password(home), port), "SELECT 1") == 1
    assert {each.name for each in place.parent.iterdir()} >= {"data"}
    assert not (place.parent / "data.new").exists()
    assert not (place.parent / "initdb.pw").exists()


async def test_a_cluster_of_another_version_is_refused(home: Path) -> None:
    place = find_place(home)
    place.data.mkdir()
    (place.data / "PG_VERSION").write_text("9\n")

    async def run_once(spec: Spec, limit_s: float) -> str | None:
        raise AssertionError("no program may run")

    with pytest.raises(UpError, match="made by PostgreSQL 9, and this is version"):
        await postgres.make_cluster(place, "secret", run_once)


@only_root
async def test_root_runs_it_as_nobody_in_the_data_folder(home: Path) -> None:
    place = find_place(home)
    assert (place.parent, place.outside) == (home / "postgres", False)
    assert place.user is not None
    assert place.user.uid != 0
    async with server(home, place) as (child, _):
        assert Path(f"/proc/{child.pid}").stat().st_uid == place.user.uid
    assert (place.data.stat().st_uid, place.data.stat().st_mode & 0o777) == (place.user.uid, 0o700)
    assert find_place(home) == place


@only_root
async def test_root_with_a_closed_data_folder_keeps_it_elsewhere(hidden_home: Path) -> None:
    place = find_place(hidden_home)
    assert place.outside
    assert place.parent.parent == postgres_place.STATE_DIRECTORY
    assert place.parent.stat().st_mode & 0o777 == 0o700
    async with server(hidden_home, place) as (_, port):
        url = postgres.role_url(postgres.role_password(hidden_home), port)
        assert await fetch(url, "SELECT 1") == 1
    assert find_place(hidden_home) == place
    assert hidden_home.parent.stat().st_mode & 0o777 == 0o700
    assert postgres.set_aside_orphan(place, hidden_home) is None
    shutil.rmtree(hidden_home)
    make_home(hidden_home)
    aside = postgres.set_aside_orphan(find_place(hidden_home), hidden_home)
    assert aside is not None
    assert (aside / "PG_VERSION").exists()
    assert not place.data.exists()


@only_root
async def test_programs_out_of_reach_are_copied(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = folder / "environment"
    closed.mkdir(mode=0o700)
    package = closed / postgres_place.MODULE
    original = postgres_place._package_folder()
    package.symlink_to(original)
    package.with_name(package.name + ".libs").symlink_to(original.with_name(original.name + ".libs"))
    monkeypatch.setattr(postgres_place, "_package_folder", lambda: package)
    place = find_place(home)
    assert place.programs.is_relative_to(home)
    assert not place.outside
    async with server(home, place) as (_, port):
        url = postgres.role_url(postgres.role_password(home), port)
        assert await fetch(url, "SELECT 1") == 1
    copied = place.programs.stat().st_mtime_ns
    assert find_place(home).programs.stat().st_mtime_ns == copied


@only_root
def test_a_folder_that_somebody_else_made_is_not_used(hidden_home: Path) -> None:
    user = postgres_place.unprivileged_user()
    squatted = postgres_place.state_folder(hidden_home, user)
    squatted.mkdir()
    squatted.chmod(0o777)
    with pytest.raises(UpError, match="Look who made it"):
        find_place(hidden_home)
    squatted.rmdir()
    squatted.symlink_to(hidden_home)
    with pytest.raises(UpError, match="Look who made it"):
        find_place(hidden_home)


@only_root
def test_a_data_folder_that_was_closed_later_is_not_replaced_by_an_empty_one(home: Path) -> None:
    place = find_place(home)
    place.data.mkdir(mode=0o700)
    (place.data / "PG_VERSION").write_text("18\n")
    assert place.user is not None
    os.chown(place.data, place.user.uid, place.user.gid)
    home.chmod(0o700)
    with pytest.raises(UpError, match="cannot reach it any more"):
        find_place(home)
