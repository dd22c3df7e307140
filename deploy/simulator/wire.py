"""The ASGI side: types, request headers and bodies, and whole answers."""

from collections.abc import Awaitable, Callable
from typing import Literal, Required, TypedDict

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_CLIENT_ID_BYTES = 256
JSON_TYPE = (b"content-type", b"application/json")

Headers = list[tuple[bytes, bytes]]
Client = tuple[str, int | str] | None
"""Address and port of the caller."""


class HttpScope(TypedDict):
    """The parts of an ASGI HTTP or websocket scope the simulator reads; a websocket's has no method."""

    type: Literal["http", "websocket"]
    method: str
    path: str
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    client: Client


class Incoming(TypedDict, total=False):
    """`http.request`, `http.disconnect`, `websocket.connect`, `websocket.receive` or `websocket.disconnect`."""

    type: Required[str]
    body: bytes
    more_body: bool
    bytes: bytes | None
    text: str | None
    code: int | None


class Outgoing(TypedDict, total=False):
    """`http.response.start`, `http.response.body`, `websocket.accept`, `websocket.send` or `websocket.close`."""

    type: Required[str]
    status: int
    headers: Headers
    body: bytes
    more_body: bool
    subprotocol: str | None
    bytes: bytes | None
    text: str | None
    code: int
    reason: str


Receive = Callable[[], Awaitable[Incoming]]
Send = Callable[[Outgoing], Awaitable[None]]


class ReaderGoneError(Exception):
    """The caller left before its request was complete: nothing to answer, nothing to bill."""


class BodyTooLargeError(Exception):
    """The request body passes MAX_BODY_BYTES."""


class Caller:
    """What the request headers say, by their lower-case names; of a repeated one the last counts."""

    __slots__ = ("api_key", "authorization", "client_request_id", "headers", "usage")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = dict(headers)
        get = self.headers.get
        self.api_key = get(b"api-key")
        self.authorization = get(b"authorization")
        self.usage = get(b"x-sim-usage")
        client_id = get(b"x-ms-client-request-id")
        self.client_request_id = None if client_id is None else client_id[:MAX_CLIENT_ID_BYTES]

    @property
    def content_length(self) -> int:
        """The announced size of the body; 0 when there is none."""
        value = self.headers.get(b"content-length", b"")
        return int(value) if value.isdigit() else 0

    @property
    def content_type(self) -> bytes:
        """The media type with its parameters, as sent."""
        return self.headers.get(b"content-type", b"")


async def read_body(receive: Receive, announced: int) -> bytes:
    """The whole request body, which may come in any number of pieces.

    Raises BodyTooLargeError beyond MAX_BODY_BYTES and ReaderGoneError when the caller leaves first.
    """
    if announced > MAX_BODY_BYTES:
        raise BodyTooLargeError
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return message.get("body", b"")
    pieces: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise BodyTooLargeError
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()
    raise ReaderGoneError


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """One answer with its length."""
    start: Headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
