"""The data folder's lock and `run.json`: who runs here, and what a dead supervisor left behind."""

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import msgspec

from deploy.local.errors import UpError
from deploy.local.processes import Identity, identify, is_alive, stop_process
from deploy.local.secrets import write_private

RUN_FILE_MAX = 1024 * 1024
OPEN_TO_SERVER = 0o711
PRIVATE = 0o700


class ChildRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A child process, and how to stop it when its supervisor is gone. Lower ranks stop first."""

    name: str
    process: Identity
    stop_signal: int
    grace_s: float
    stop_rank: int


class RunRecord(msgspec.Struct, kw_only=True):
    """Content of `run.json`. After a clean stop only the ports are left, for the next start."""

    supervisor: Identity | None = None
    url: str = ""
    ports: dict[str, int] = {}
    children: dict[str, ChildRecord] = {}


class RunFile:
    """`run.json`, written whole at every change by the supervisor that holds the lock.

    It is a help for the next start, so a full disk must not take a running process down: then it is old.
    """

    def __init__(self, path: Path, record: RunRecord) -> None:
        self._path = path
        self._record = record

    def put_child(self, child: ChildRecord) -> None:
        """Remember a child just started (in place of an earlier one of its name)."""
        self._record.children[child.name] = child
        self._write()

    def drop_child(self, name: str) -> None:
        """Forget a child that has ended."""
        if self._record.children.pop(name, None) is not None:
            self._write()

    def close(self) -> None:
        """Say that nothing runs here any more."""
        self._record.supervisor = None
        self._record.children.clear()
        self._write()

    def open(self, url: str, ports: Mapping[str, int]) -> None:
        """Say that this process is the supervisor now, and where everything listens.

        The next start takes the same internal ports if they are free.
        """
        self._record.supervisor = identify(os.getpid())
        self._record.url = url
        self._record.ports = dict(ports)
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            write_private(self._path, msgspec.json.format(msgspec.json.encode(self._record).decode()) + "\n")


def lock_path(home: Path) -> Path:
    """The file whose lock makes one process the supervisor of a data folder."""
    return home / "lock"


def run_path(home: Path) -> Path:
    """Where the supervisor writes who runs."""
    return home / "run.json"


def make_home(home: Path) -> None:
    """Make the data folder if there is none, ignored by git. Raises UpError if it cannot be used.

    For root others may pass through it (not list it), because PostgreSQL then runs as another user.
    """
    try:
        if not home.exists():
            home.mkdir(parents=True)
            home.chmod(OPEN_TO_SERVER if os.geteuid() == 0 else PRIVATE)
        elif home.stat().st_uid != os.geteuid():  # files of two owners would lock one of them out
            raise PermissionError(errno.EACCES, "it has another owner")
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise UpError(_unusable(home, error)) from None


def _unusable(home: Path, error: OSError) -> str:
    owner = ""
    with contextlib.suppress(OSError):
        if home.stat().st_uid != os.geteuid():
            owner = f" It belongs to the user with id {home.stat().st_uid}, and you are {os.geteuid()}."
    return (
        f"The data folder {home} cannot be used ({error.strerror}).{owner} "
        "Run as its owner, or set TUNDISH_HOME to a folder of your own."
    )


@contextlib.contextmanager
def locked(home: Path) -> Generator[bool]:
    """Hold the data folder's lock; yields False if another process holds it.

    The system frees it when this process ends, however it ends; children never inherit it.
    """
    try:
        handle = os.open(lock_path(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UpError(_unusable(home, error)) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def read_record(home: Path) -> RunRecord:
    """What `run.json` says; an empty record if there is none or it is torn (it is only ever a help)."""
    try:
        with run_path(home).open("rb") as file:
            return msgspec.json.decode(file.read(RUN_FILE_MAX), type=RunRecord)
    except (OSError, msgspec.DecodeError):
        return RunRecord()


def stop_time_s(record: RunRecord) -> float:
    """How long an orderly stop may take at most: ranks one after the other, those of a rank together."""
    graces: dict[int, float] = {}
    for child in record.children.values():
        graces[child.stop_rank] = max(graces.get(child.stop_rank, 0.0), child.grace_s)
    return sum(graces.values())


def stop_leftovers(record: RunRecord, say: Callable[[str], None]) -> int:
    """Stop what a dead supervisor left running, proxies first; returns how many processes there were.

    Only processes whose start time is the recorded one are touched.
    """
    stopped = 0
    for child in sorted(record.children.values(), key=lambda child: child.stop_rank):
        if not is_alive(child.process):
            continue
        say(f"stopping {child.name} (pid {child.process.pid}), left over from a supervisor that died")
        try:
            stopped += stop_process(child.process, signal.Signals(child.stop_signal), child.grace_s)
        except PermissionError:
            raise UpError(
                f"{child.name} (pid {child.process.pid}) still runs and belongs to another user; stop it."
            ) from None
    record.children.clear()
    return stopped
