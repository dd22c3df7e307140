"""Files that are replaced whole or not at all: a reader sees the old content or the new one."""

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import SettingsError
from shared.ids import uuid7

PRIVATE = 0o600
BYTES_MAX = 1024 * 1024
LOCK_WAIT_S = 60.0
LOCK_POLL_S = 0.05


def read_text(path: Path) -> str | None:
    """The content; None where there is no file. Raises SettingsError when it cannot be read as text."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror})") from error
    if len(content) > BYTES_MAX:
        raise SettingsError(f"{path} is larger than {BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text") from error


def replace_text(path: Path, text: str) -> None:
    """Put `text` in place of the content at once; mode and owner stay, a new file is its owner's only.

    It is on the disk when this returns. Raises SettingsError, and then the old content stands.
    """
    target = path.resolve()
    aside = target.with_name(f".{target.name}.{uuid7()}")
    try:
        try:
            _write(aside, text.encode(), _stat(target))
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        _sync(target.parent)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror})") from error


@contextmanager
def alone_in(folder: Path) -> Generator[None, None, None]:
    """One at a time in a folder, among all who ask by this. Raises SettingsError when it takes too long."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be opened ({error.strerror})") from error
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise SettingsError(f"another tundish is at work in {folder} for {LOCK_WAIT_S:g} s already") from None
            time.sleep(LOCK_POLL_S)
        else:
            return


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _write(path: Path, content: bytes, like: os.stat_result | None) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        if like is not None:
            with contextlib.suppress(PermissionError):  # only root may give a file to somebody else
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
            os.fchmod(file.fileno(), like.st_mode & 0o7777)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
