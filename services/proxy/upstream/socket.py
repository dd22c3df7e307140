"""WebSockets to Foundry, for realtime sessions: the `websockets` library with every bound stated."""

from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from services.proxy.upstream.port import CONNECT_TIMEOUT_S, UpstreamError

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The longest message that is taken from Foundry."""
QUEUE_MAX = 16
"""Messages read ahead of the caller; Foundry is not read on beyond them."""
PING_S = 20.0
CLOSE_WAIT_S = 5.0
REFUSAL_BYTES_MAX = 64 * 1024


class HandshakeRefused(Exception):
    """Foundry answered with an HTTP error in place of a session."""

    def __init__(self, status: int, body: bytes, retry_after: str | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.retry_after = retry_after


class Socket(Protocol):
    """An open connection. `receive` gives None at its end."""

    async def send(self, message: str | bytes) -> None:
        """Send one message. Raises UpstreamError when the connection is over."""
        ...

    async def receive(self) -> str | bytes | None:
        """The next message; None when Foundry has closed."""
        ...

    async def close(self) -> None:
        """End the connection within a bound."""
        ...

    @property
    def closed_as(self) -> tuple[int, str]:
        """Code and reason with which it was closed."""
        ...


class _Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise UpstreamError("reset", f"the realtime connection is closed: {error.__class__.__name__}") from error

    async def receive(self) -> str | bytes | None:
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            return None

    async def close(self) -> None:
        await self._connection.close()

    @property
    def closed_as(self) -> tuple[int, str]:
        return self._connection.close_code or 1006, self._connection.close_reason or ""


class _Connect(connect):
    """Follows no redirect: the library would hand `api-key` to wherever it leads."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """See the class."""
        return exc


async def open_socket(url: str, headers: tuple[tuple[str, str], ...], subprotocols: tuple[str, ...] = ()) -> Socket:
    """Connect. Raises HandshakeRefused for an HTTP answer, else UpstreamError."""
    try:
        connection = await _Connect(
            url,
            additional_headers=list(headers),
            subprotocols=[*subprotocols] or None,  # pyright: ignore[reportArgumentType]
            user_agent_header="tundish",
            compression=None,
            proxy=None,
            open_timeout=CONNECT_TIMEOUT_S,
            close_timeout=CLOSE_WAIT_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            max_size=MESSAGE_BYTES_MAX,
            max_queue=QUEUE_MAX,
        )
    except InvalidStatus as error:
        response = error.response
        raise HandshakeRefused(
            response.status_code, bytes(response.body or b"")[:REFUSAL_BYTES_MAX], response.headers.get("retry-after")
        ) from error
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
        raise UpstreamError("connect", f"the realtime connection could not be made: {error!r}") from error
    return _Socket(connection)
