"""Requests about secrets that should not be known: by those who administer keys, and by whoever found one."""

import re
import unicodedata
from collections.abc import Sequence
from typing import cast

import msgspec

from services.auth.domain import values
from services.auth.domain.fields import leaks as fields
from services.auth.schemas import base
from shared.access import SECRET_CHARS_MAX
from shared.errors import ApiError

TOKENS_MAX = 100
"""Tokens that one report may carry."""
TEXT_MAX = 300
WITHHELD = "(withheld: it contains the secret)"
_SECRET = re.compile(r"sk-[A-Za-z0-9_-]{12,}")
_UNSEEN = "".join(
    mark for mark in map(chr, range(0x80, 0x10000)) if unicodedata.category(mark) in ("Cc", "Cf", "Zl", "Zp")
)
"""What turns a line of text around, breaks it, or is not seen in it."""
_ODD = re.compile(rf"[^\x20-\x7e\u0080-\uffff]|[{_UNSEEN}]")


class RevokeSecret(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/revoke`: one secret (by itself, its SHA-256 or its stored hash), or all of a key (by id or alias)."""

    key: str | None = None
    key_alias: str | None = None
    leaked: bool = False
    reason: str | None = None


class ReportedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A plaintext that was found, who says so, and where; the texts are bounded and never contain the plaintext."""

    secret: str
    source: str = ""
    url: str = ""


class LeakReport(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/report-leak`."""

    tokens: tuple[ReportedToken, ...]


class _One(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    source: str | None = None
    url: str | None = None


def read_report(body: bytes) -> LeakReport:
    """A report from its body: `{"key": …}`, or the list that GitHub sends to a partner of its secret scanning.

    Raises ApiError 400; the text never repeats what was sent.
    """
    if body.lstrip()[:1] != b"[":
        one = base.read(body, fields.REPORT_LEAK, _One)
        return LeakReport(tokens=_tokens([(one.key, one.source, one.url)]))
    try:
        found: object = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, "invalid_json", "The body is not JSON that can be read.") from error
    entries = cast("list[object]", found)
    if not 1 <= len(entries) <= TOKENS_MAX:
        raise ApiError(400, "invalid_value", f"Send 1 to {TOKENS_MAX} tokens in one report.")
    return LeakReport(tokens=_tokens([_entry(entry) for entry in entries]))


def _entry(entry: object) -> tuple[str, str | None, str | None]:
    """(token, source, URL) of an entry of a list; its other fields mean nothing here."""
    found = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    token, source, url = found.get("token"), found.get("source"), found.get("url")
    if not isinstance(token, str):
        raise ApiError(400, "invalid_value", 'Each entry of the list is an object with "token", a text.', param="token")
    return token, source if isinstance(source, str) else None, url if isinstance(url, str) else None


def _tokens(found: list[tuple[str, str | None, str | None]]) -> tuple[ReportedToken, ...]:
    for token, _, _ in found:
        if not 0 < len(token) <= SECRET_CHARS_MAX:
            raise values.problem("key", f"use the plaintext of a secret, at most {SECRET_CHARS_MAX} characters")
    secrets = [token for token, _, _ in found]
    return tuple(
        ReportedToken(secret=token, source=plain_text(source, secrets), url=plain_text(url, secrets))
        for token, source, url in found
    )


def plain_text(text: str | None, secrets: Sequence[str]) -> str:
    """A text of somebody for the log: short, plain, and without any of the secrets."""
    if text is None:
        return ""
    seen = _ODD.sub("", text)[: TEXT_MAX + SECRET_CHARS_MAX]
    if any(secret and secret in seen for secret in secrets):
        return WITHHELD
    return _SECRET.sub("sk-...", seen)[:TEXT_MAX]
