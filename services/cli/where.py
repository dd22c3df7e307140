"""Where the front door is, and with what a command comes to it: from the environment and the data folder."""

import sys
from getpass import getpass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shared.errors import SettingsError
from shared.settings import Env

URL_DEFAULT = "http://127.0.0.1:4000"
KEY_FILE_BYTES_MAX = 4_096
RUN_FILE_BYTES_MAX = 1024 * 1024
SECRET_LINE_MAX = 4_096
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """A credential (None: none is sent), and how errors call it: never by its text."""

    key: str | None
    what: str


class _RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    url: str = ""


NOBODY = Access(key=None, what="requests without a key")


def front_door(env: Env, given: str | None = None) -> str:
    """The address to ask: the given one, TUNDISH_URL, or what runs here. Raises SettingsError."""
    name = "TUNDISH_URL" if given is None else "--url"
    url = (given or env.text("TUNDISH_URL", _running_here(env) or URL_DEFAULT)).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{name}={url!r} is not an address such as {URL_DEFAULT}")
    return url


def host_of(url: str) -> str:
    """The host of an address that was checked."""
    return urlsplit(url).hostname or ""


def admin_access(env: Env) -> Access:
    """TUNDISH_ADMIN_KEY (a key with a role), else the master key. Raises SettingsError."""
    role_key = env.credential("TUNDISH_ADMIN_KEY")
    if role_key is not None:
        return Access(key=sendable(role_key, "TUNDISH_ADMIN_KEY"), what="the key from TUNDISH_ADMIN_KEY")
    key, source = master_key(env)
    return Access(key=key, what=f"the master key from {source}")


def master_key(env: Env) -> tuple[str, str]:
    """(the key, where it came from): TUNDISH_MASTER_KEY, else the file that `make up` keeps."""
    key = env.credential("TUNDISH_MASTER_KEY")
    if key is not None:
        return sendable(key, "TUNDISH_MASTER_KEY"), "TUNDISH_MASTER_KEY"
    path = env.path("TUNDISH_HOME", ".tundish") / "master.key"
    return sendable(_read(path), str(path)), str(path)


def secret_from(given: str, prompt: str) -> str:
    """A secret that a command is told: as given, from standard input (`-`), or asked for where nobody looks on.

    Raises SettingsError when there is none, or it cannot be one.
    """
    if given == "-" or (not given and not sys.stdin.isatty()):
        line = sys.stdin.readline(SECRET_LINE_MAX)
    else:
        line = given or _asked(prompt)
    if not line.strip():
        raise SettingsError(f"{prompt}: nothing was given")
    return sendable(line.strip(), prompt)


def _asked(prompt: str) -> str:
    try:
        return getpass(f"{prompt}: ")
    except EOFError:
        return ""


def sendable(key: str, source: str) -> str:
    """The key itself, if it can stand in a header. Raises SettingsError."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"{source} does not look like a key: it holds blanks or odd characters")
    return key


def _running_here(env: Env) -> str | None:
    """Where the Tundish of this data folder answers, as `make up` has noted it; None if it did not."""
    try:
        with (env.path("TUNDISH_HOME", ".tundish") / "run.json").open("rb") as file:
            return msgspec.json.decode(file.read(RUN_FILE_BYTES_MAX), type=_RunRecord).url or None
    except (OSError, msgspec.MsgspecError):
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(KEY_FILE_BYTES_MAX).decode("latin-1").strip()
    except OSError as error:
        raise SettingsError(
            f"no master key: set TUNDISH_MASTER_KEY, or TUNDISH_HOME so that {path} can be read ({error.strerror})"
        ) from error
    if not text:
        raise SettingsError(f"{path} is empty; it should hold the master key")
    return text
