"""Changing a reply on its way to the caller: into another dialect, or its ids into sealed ones."""

from typing import Protocol


class Transform(Protocol):
    """Applied to a good reply after it was metered: `whole` to a whole body, `feed` to each event of a stream and
    `end` when the stream has ended."""

    def whole(self, body: bytes) -> bytes:
        """The body for the caller. Raises ValueError when the reply cannot be understood."""
        ...

    def feed(self, frame: bytes) -> bytes:
        """The events for the caller that one event becomes; empty: none."""
        ...

    def end(self) -> bytes:
        """What is still to be said when the stream is over."""
        ...

    def text(self, message: str) -> str:
        """The words of an error for the caller."""
        ...
