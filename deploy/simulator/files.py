"""Files: uploads, kept in memory, and the files that batches write."""

import re
from typing import cast
from urllib.parse import parse_qs

import msgspec

from deploy.simulator import errors, multipart
from deploy.simulator.answers import Answer
from deploy.simulator.asks import Ask
from deploy.simulator.errors import FoundryError

MAX_FILES = 10_000
MAX_BYTES = 512 * 1024 * 1024
MAX_LISTED = 10_000
MIN_EXPIRY_S = 3_600
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
BYTES_TYPE = b"application/octet-stream"


class StoredFile(msgspec.Struct, kw_only=True, gc=False):
    """One file as answers show it. Times in Unix seconds."""

    object: str = "file"
    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str = "processed"
    expires_at: int | None = None


class Files:
    """The files of one resource, in the order they came."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[StoredFile, bytes]] = {}
        self._bytes = 0
        self._made = 0

    def add(self, serial: str, filename: str, purpose: str, data: bytes, now: int, expires: int | None) -> StoredFile:
        """Keep a file; raises a 400 when the resource is full."""
        if len(self._files) >= MAX_FILES or self._bytes + len(data) > MAX_BYTES:
            raise errors.invalid(f"This resource holds {len(self._files)} files: delete some first.", "file_limit")
        self._made += 1
        made = StoredFile(
            id=f"file-{serial}{self._made:x}",
            bytes=len(data),
            created_at=now,
            filename=filename,
            purpose=purpose,
            expires_at=expires,
        )
        self._files[made.id] = (made, data)
        self._bytes += len(data)
        return made

    def find(self, file_id: str, now: int) -> tuple[StoredFile, bytes] | None:
        """A file and its bytes; None when there is none or it has expired."""
        found = self._files.get(file_id)
        if found is not None and found[0].expires_at is not None and found[0].expires_at <= now:
            self.remove(file_id)
            return None
        return found

    def remove(self, file_id: str) -> bool:
        """Delete a file; False when there is none."""
        found = self._files.pop(file_id, None)
        if found is None:
            return False
        self._bytes -= found[0].bytes
        return True

    def all(self) -> list[StoredFile]:
        """All files, oldest first."""
        return [kept for kept, _ in self._files.values()]


def reply(ask: Ask, body: object, content_type: bytes = b"application/json") -> Answer:
    """A plain answer that is not billed."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Answer(id=ask.serial, usage=None, body=raw, content_type=content_type)


def own_host(ask: Ask) -> str:
    """How the caller reached this server: scheme and host."""
    scheme = cast("dict[str, object]", ask.scope).get("scheme", "https")
    return f"{scheme}://{ask.caller.headers.get(b'host', b'localhost').decode('latin-1')}"


def now_s(ask: Ask) -> int:
    """The time in Unix seconds."""
    return int(ask.site.clock.now().timestamp())


def no_such(kind: str, name: str) -> FoundryError:
    """404 of an object that is not there."""
    return FoundryError(404, errors.openai(f"No such {kind} object: {name}", None, "id"))


def page(ask: Ask, rows: list[tuple[str, object]], most: int, newest_first: bool = True) -> dict[str, object]:
    """A page of a list, as `limit`, `after` and `order` ask for it. `rows` are ids and objects, oldest first."""
    query = parse_qs(ask.scope["query_string"].decode("latin-1"))
    order = query.get("order", ["desc" if newest_first else "asc"])[0]
    given = query.get("limit", [str(most)])[0]
    if not (given.isascii() and given.isdigit() and len(given) < 8 and 1 <= int(given) <= most):
        raise errors.invalid(f"Invalid 'limit': it must be between 1 and {most}.", "invalid_value", "limit")
    ordered = rows[::-1] if order == "desc" else rows
    after = query.get("after", [None])[0]
    if after is not None:
        places = [place for place, (row_id, _) in enumerate(ordered) if row_id == after]
        ordered = ordered[places[0] + 1 :] if places else []
    shown = ordered[: int(given)]
    return {
        "object": "list",
        "data": [row for _, row in shown],
        "first_id": shown[0][0] if shown else None,
        "last_id": shown[-1][0] if shown else None,
        "has_more": len(ordered) > len(shown),
    }


async def create(ask: Ask, match: re.Match[str]) -> Answer:
    """Upload a file by a form with `purpose` and `file`."""
    form = multipart.parse(ask.body, ask.caller.content_type)
    uploads = form.uploads("file")
    purpose = form.text("purpose")
    if len(uploads) != 1:
        raise errors.invalid("Missing required parameter: 'file'.", "missing_required_parameter", "file")
    if purpose not in PURPOSES:
        message = f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'"
        raise errors.invalid(message, None, "purpose")
    if not uploads[0].data:
        raise errors.invalid("The file is empty.", "empty_file", "file")
    now = now_s(ask)
    expires = form.number("expires_after[seconds]")
    if expires is not None and expires < MIN_EXPIRY_S:
        raise errors.invalid(f"'expires_after[seconds]' must be at least {MIN_EXPIRY_S}.", "invalid_value")
    until = None if expires is None else now + expires
    files = ask.site.one(Files)
    return reply(ask, files.add(ask.serial, uploads[0].filename, purpose, uploads[0].data, now, until))


async def list_all(ask: Ask, match: re.Match[str]) -> Answer:
    """The files of a `purpose`, or all."""
    now = now_s(ask)
    files = ask.site.one(Files)
    purpose = parse_qs(ask.scope["query_string"].decode("latin-1")).get("purpose", [None])[0]
    kept = [one for one in files.all() if files.find(one.id, now) is not None]
    return reply(ask, page(ask, [(one.id, one) for one in kept if purpose in (None, one.purpose)], MAX_LISTED))


async def get(ask: Ask, match: re.Match[str]) -> Answer:
    """What is known of a file."""
    return reply(ask, _found(ask, match[1])[0])


async def content(ask: Ask, match: re.Match[str]) -> Answer:
    """The bytes of a file."""
    return reply(ask, _found(ask, match[1])[1], BYTES_TYPE)


async def delete(ask: Ask, match: re.Match[str]) -> Answer:
    """Delete a file."""
    _found(ask, match[1])
    ask.site.one(Files).remove(match[1])
    return reply(ask, {"id": match[1], "object": "file", "deleted": True})


def _found(ask: Ask, file_id: str) -> tuple[StoredFile, bytes]:
    found = ask.site.one(Files).find(file_id, now_s(ask))
    if found is None:
        raise no_such("File", file_id)
    return found
