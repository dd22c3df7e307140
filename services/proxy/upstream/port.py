"""What the data plane needs of an HTTP client.

Every adapter: follows no redirect, uses no proxy of the environment, decompresses nothing, speaks HTTP/1.1,
hands out the head of a reply before its first chunk and each chunk as it comes, and never cancels a request
because of the caller.
"""

from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

CONNECT_TIMEOUT_S = 5.0
IDLE_CONNECTIONS_MAX = 1_024
KEEP_ALIVE_S = 60.0

FailureKind = Literal["connect", "timeout", "reset"]


class UpstreamError(Exception):
    """No (whole) reply: `connect` (nothing was sent), `timeout`, or `reset` (the connection broke)."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        super().__init__(text)
        self.kind: FailureKind = kind


class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    """A request with its whole body (empty: none). `whole`: nothing of the reply is needed before its end, so an
    adapter may read ahead within a bound."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = False
    method: Literal["POST", "GET", "DELETE"] = "POST"


class Reply(Protocol):
    """A reply whose head has arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    def header(self, name: str) -> str | None:
        """A header's first value; None also for one that is no text."""
        ...

    async def chunk(self) -> bytes | None:
        """The next bytes of the body, None at its end. Raises UpstreamError."""
        ...


class Upstream(Protocol):
    """An HTTP client."""

    def open(self, request: UpstreamRequest) -> AbstractAsyncContextManager[Reply]:
        """Send a request; entering gives the reply. Raises UpstreamError."""
        ...

    async def close(self) -> None:
        """Give up all connections."""
        ...
