"""`tundish exchange`: whoever holds a key collects its new secret, and a lost answer costs nothing.

What is asked is noted beside the file before it is asked, and the note goes when the new secret stands in the file. A
run that dies in between, or never hears the answer, leaves the note; the next one asks with the same `Idempotency-Key`
and is given the same secret again.
"""

import sys
from argparse import Namespace
from hashlib import sha256
from pathlib import Path

import msgspec

from services.cli.client import ApiFailure, Json, Patience, open_client
from services.cli.dotenv import is_name, value_in, with_value
from services.cli.files import alone_in, read_text, replace_text
from services.cli.output import plain, print_json, warn
from services.cli.where import Access, sendable
from shared.clock import SystemClock
from shared.errors import SettingsError, TundishError
from shared.ids import uuid7
from shared.settings import Env

PATH = "/key/exchange"
NOTHING = "nothing_to_collect"
IN_PROGRESS = "idempotency_in_progress"
KEPT_MS = 9 * 60 * 1000
"""How long a note is believed: the gateway keeps an answer for ten minutes."""
VARIABLE = "TUNDISH_API_KEY"


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the new secret, its version, and when the old one ends (None: that is not known yet)."""

    key: str
    token_id: str
    version: int
    old_key_expires: str | None = None
    warnings: list[str] = []


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked: with which `Idempotency-Key`, since when, and by a digest for which secret."""

    once: str
    at_ms: int
    secret: str


def exchange(options: Namespace) -> int:
    """Collect the new secret, if there is one."""
    if not is_name(options.name):
        raise SettingsError(f"--name={options.name!r} is not a name of a variable")
    if options.write is None:
        secret = _secret(None, options.name)
        return _tell(_collect(secret, uuid7(), options), options)
    path = Path(options.write)
    with alone_in(path.resolve().parent):
        return _into(path, options)


def _into(path: Path, options: Namespace) -> int:
    text = read_text(path)
    secret = _secret(None if text is None else value_in(text, options.name), options.name)
    noted = path.resolve().with_name(f".{path.resolve().name}.exchange")
    once = _noted(noted, secret)
    try:
        collected = _collect(secret, once, options)
    except ApiFailure as failure:
        if failure.status < 500 and failure.code != IN_PROGRESS:  # it was answered: there is nothing to ask for again
            noted.unlink(missing_ok=True)
        raise
    if collected is not None:
        replace_text(path, with_value(text or "", options.name, sendable(collected.key, "the answer")))
    noted.unlink(missing_ok=True)
    return _tell(collected, options)


def _secret(in_file: str | None, name: str) -> str:
    """What stands in the file is newer than the environment of a process that began before an exchange."""
    secret = in_file or Env().credential(VARIABLE)
    if not secret:
        raise SettingsError(f"no secret to exchange: set {VARIABLE}, or {name} in the file of --write")
    return sendable(secret, name if in_file else VARIABLE)


def _noted(path: Path, secret: str) -> str:
    """The `Idempotency-Key` to ask with: that of a run for the same secret which did not get to its end, or a new one,
    on the disk before it is used."""
    now_ms = int(SystemClock().now().timestamp() * 1000)
    digest = sha256(f"exchange:{secret}".encode()).hexdigest()
    try:
        note = msgspec.json.decode(read_text(path) or "", type=Note)
    except msgspec.MsgspecError:
        note = None
    if note is not None and note.secret == digest and 0 <= now_ms - note.at_ms <= KEPT_MS:
        return note.once
    note = Note(once=uuid7(), at_ms=now_ms, secret=digest)
    replace_text(path, msgspec.json.encode(note).decode())
    return note.once


def _collect(secret: str, once: str, options: Namespace) -> Collected | None:
    """The new secret, or None when there is none to collect. Raises ApiFailure, Unreachable."""
    access = Access(key=secret, what="the key's own secret")
    patience: Patience = "none" if options.once else "absent"
    with open_client(access=access, once=once, url=options.url, patience=patience) as client:
        try:
            answer = client.raw("POST", PATH)
        except ApiFailure as failure:
            if failure.status == 404 and failure.code == NOTHING:
                return None
            raise
    try:
        return msgspec.json.decode(answer, type=Collected)
    except msgspec.MsgspecError as error:
        raise TundishError(f"the answer is not that of an exchange, so this is not Tundish: {error}") from error


def _tell(collected: Collected | None, options: Namespace) -> int:
    if options.json:
        print_json(_as_json(collected, options))
        return 0
    if collected is None:
        print("nothing to collect: the key has no newer secret", file=sys.stderr)
        return 0
    if options.write is None:
        print(collected.key)
    ends = "" if collected.old_key_expires is None else f"; the old secret ends at {plain(collected.old_key_expires)}"
    where = "" if options.write is None else f" and written to {options.name} in {options.write}"
    print(f"collected: version {collected.version} of {plain(collected.token_id)}{where}{ends}", file=sys.stderr)
    warn({"warnings": collected.warnings})
    return 0


def _as_json(collected: Collected | None, options: Namespace) -> Json:
    if collected is None:
        return {"result": NOTHING}
    said: Json = {
        "result": "exchanged",
        "token_id": collected.token_id,
        "version": collected.version,
        "old_key_expires": collected.old_key_expires,
        "written": options.write,
    }
    return said if options.write is not None else said | {"key": collected.key}
