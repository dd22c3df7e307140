"""The chain of the audit log: each event's hash covers the one before it, so that nothing can be changed unseen."""

from collections.abc import Sequence
from hashlib import sha256

import msgspec

GENESIS = bytes(32)
"""What stands before the first event."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One event as the database shows it: its row's columns as texts, where it belongs, and the hash beside it."""

    position: int
    texts: tuple[str | None, ...]
    hash: bytes | None


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """How far the chain was followed: kept elsewhere, it is an anchor."""

    position: int = 0
    hash: bytes = GENESIS

    @property
    def anchor(self) -> str:
        """As it is kept and given: `<position>:<hash in hex>`."""
        return f"{self.position}:{self.hash.hex()}"


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log is not what was written, and what is wrong there."""

    position: int
    what: str


def linked(before: bytes, texts: Sequence[str | None]) -> bytes:
    """The hash of an event: a text goes in with its length in bytes before it, an absent one as `-`."""
    parts = [before]
    for text in texts:
        raw = b"" if text is None else text.encode()
        parts.append(b"-" if text is None else f"{len(raw)}:".encode() + raw)
    return sha256(b"".join(parts)).digest()


def follow(head: Head, links: Sequence[Link]) -> tuple[Head, Break | None]:
    """Follow the chain over the next events; where it ends or breaks."""
    for link in links:
        if link.position != head.position + 1 or link.texts[0] is None:
            gone = head.position + 1
            return head, Break(position=gone, what=f"the event at position {gone} is missing")
        if link.hash is None:
            return head, Break(position=link.position, what="the event has no hash: it was put in, or its hash removed")
        if linked(head.hash, link.texts) != link.hash:
            what = "the event or its hash was changed, or an event before it was removed or put in"
            return head, Break(position=link.position, what=what)
        head = Head(position=link.position, hash=link.hash)
    return head, None
