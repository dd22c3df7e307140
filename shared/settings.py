"""Settings from the environment: read once, at start, with errors that name the variable and the remedy."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.errors import SettingsError
from shared.strength import STRONG_CHARS_MIN, STRONG_DIFFERENT_MIN, guessable

SECRET_BYTES_MIN = 16


class Env:
    """A view of the environment; every getter raises SettingsError with the variable's name."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = os.environ if values is None else values

    def text(self, name: str, default: str | None = None, *, meaning: str = "") -> str:
        """A non-empty text, or the default."""
        value = self._values.get(name, "").strip() or default
        if value is None:
            raise SettingsError(f"{name} is not set{': ' + meaning if meaning else ''}")
        return value

    def credential(self, name: str) -> str | None:
        """A text, or None where the variable is not set. One that is set and empty is an error: whatever should have
        filled it failed, and another credential must not silently take its place."""
        value = self._values.get(name)
        if value is not None and not value.strip():
            raise SettingsError(f"{name} is set but empty: give it a key, or unset it")
        return None if value is None else value.strip()

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number between `low` and `high`."""
        text = self.text(name, str(default))
        try:
            value = int(text)
        except ValueError as error:
            raise SettingsError(f"{name}={text!r} is not a whole number") from error
        if not low <= value <= high:
            raise SettingsError(f"{name}={value} is out of range: use {low} to {high}")
        return value

    def choice(self, name: str, default: str, options: tuple[str, ...]) -> str:
        """One of some words."""
        value = self.text(name, default)
        if value not in options:
            raise SettingsError(f"{name}={value!r} is unknown: use one of {', '.join(options)}")
        return value

    def path(self, name: str, default: str) -> Path:
        """A path, absolute."""
        return Path(self.text(name, default)).expanduser().absolute()

    def pairs(self, name: str) -> dict[str, str]:
        """`a:x,b:y` as a dict in its order; empty when unset."""
        text = self._values.get(name, "").strip()
        result: dict[str, str] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            label, colon, value = part.partition(":")
            if not colon or not label or not value:
                raise SettingsError(f"{name} is not a list of name:value pairs separated by commas")
            result[label] = value
        return result


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that every service shares."""

    home: Path
    internal_host: str
    internal_port: int
    nats_url: str
    master_key: str
    token: str
    peer_tokens: dict[str, str]
    log_format: str
    log_level: str
    auth_url: str
    ledger_url: str
    scheduler_url: str
    partitions: int


INTERNAL_PORTS = {
    "auth": 4001,
    "ledger-bookkeeper": 4002,
    "scheduler": 4003,
    "ledger-enforcer": 4004,
    "proxy": 4005,
}


def common(service: str, env: Env | None = None) -> Common:
    """The shared settings of one service; raises SettingsError."""
    env = env or Env()
    master_key = env.text("TUNDISH_MASTER_KEY", meaning="the key that bootstraps administration")
    refuse_weak_master_key(master_key)
    return Common(
        home=env.path("TUNDISH_HOME", ".tundish"),
        internal_host=env.text("TUNDISH_INTERNAL_HOST", "127.0.0.1"),
        internal_port=env.integer("TUNDISH_INTERNAL_PORT", INTERNAL_PORTS[service], low=1, high=65_535),
        nats_url=env.text("TUNDISH_NATS_URL", meaning="such as nats://user:password@127.0.0.1:4222"),
        master_key=master_key,
        token=env.text("TUNDISH_TOKEN", meaning="this service's own token for its peers"),
        peer_tokens=env.pairs("TUNDISH_PEER_TOKENS"),
        log_format=env.choice("TUNDISH_LOG", "text", ("text", "json")),
        log_level=env.choice("TUNDISH_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        auth_url=env.text("TUNDISH_AUTH_URL", f"http://127.0.0.1:{INTERNAL_PORTS['auth']}"),
        ledger_url=env.text("TUNDISH_LEDGER_URL", f"http://127.0.0.1:{INTERNAL_PORTS['ledger-bookkeeper']}"),
        scheduler_url=env.text("TUNDISH_SCHEDULER_URL", f"http://127.0.0.1:{INTERNAL_PORTS['scheduler']}"),
        partitions=env.integer("TUNDISH_PARTITIONS", 1, low=1, high=1024),
    )


def postgres_url(env: Env | None = None) -> str:
    """The database of this service."""
    return (env or Env()).text("TUNDISH_POSTGRES_URL", meaning="such as postgresql://user:password@127.0.0.1/db")


def peppers(env: Env | None = None) -> dict[str, bytes]:
    """label → pepper for hashing secrets, the current one first."""
    result: dict[str, bytes] = {}
    for label, value in (env or Env()).pairs("TUNDISH_PEPPERS").items():
        try:
            pepper = bytes.fromhex(value)
        except ValueError as error:
            raise SettingsError(f"TUNDISH_PEPPERS: the pepper {label!r} is not hexadecimal") from error
        if len(pepper) < SECRET_BYTES_MIN:
            raise SettingsError(f"TUNDISH_PEPPERS: the pepper {label!r} is shorter than {SECRET_BYTES_MIN} bytes")
        result[label] = pepper
    if not result:
        raise SettingsError("TUNDISH_PEPPERS is not set: a label and 32 random bytes in hex, such as p1:00ff…")
    return result


def refuse_weak_master_key(key: str) -> None:
    """Raise SettingsError for a master key that could be guessed."""
    if guessable(key):
        raise SettingsError(
            f"TUNDISH_MASTER_KEY is too weak: use at least {STRONG_CHARS_MIN} characters with at least"
            f" {STRONG_DIFFERENT_MIN} different ones,"
            " such as the output of `python3 -c 'import secrets; print(\"sk-\" + secrets.token_urlsafe(32))'`"
        )
