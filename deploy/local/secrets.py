"""Secrets of a local installation: made once, kept in files that only their owner can read."""

import contextlib
import os
import secrets
from pathlib import Path

from deploy.local.errors import UpError

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_FILE_MAX = 4096


def random_text(length: int) -> str:
    """`length` random characters of 0-9, A-Z, a-z (5.95 bits each)."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def new_master_key() -> str:
    """A master key: `sk-tundish-` and 43 characters (256 bits)."""
    return "sk-tundish-" + random_text(43)


def new_pepper() -> str:
    """A labelled pepper, `p1:<64 hex digits>` (256 bits)."""
    return "p1:" + secrets.token_hex(32)


def keep_secret(path: Path, fresh: str) -> str:
    """The secret in the file; the file is made with `fresh` if there is none. Mode 0600 in every case.

    The file appears with its whole content or not at all. Raises UpError for an empty or huge file.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        _create(path, fresh)
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    with path.open("rb") as file:
        text = file.read(SECRET_FILE_MAX + 1)
    value = text.decode("ascii", "replace").strip()
    if not value or len(text) > SECRET_FILE_MAX:
        raise UpError(f"{path} should hold one secret and is {'too long' if value else 'empty'}. Restore it.")
    return value


def write_private(path: Path, text: str) -> None:
    """Replace a file's content at once; only its owner may read it, from the first byte on."""
    fresh = _written_aside(path, text)
    fresh.replace(path)


def _create(path: Path, secret: str) -> None:
    """Make the file, never overwriting one that appeared meanwhile."""
    fresh = _written_aside(path, secret + "\n")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    except OSError:  # a file system without hard links
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _written_aside(path: Path, text: str) -> Path:
    """A complete, synced, private file beside `path`, with a name of its own."""
    aside = path.with_name(f".{path.name}.{random_text(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return aside
