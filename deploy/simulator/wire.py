"""The ASGI side: types, request bodies and whole answers."""

from collections.abc import Awaitable, Callable
from typing import Literal, Required, TypedDict

MAX_BODY_BYTES = 64 * 1024 * 1024
JSON_TYPE = (b"content-type", b"application/json")

Headers = list[tuple[bytes, bytes]]
Client = tuple[str, int | str] | None
"""Address and port of the caller."""


class HttpScope(TypedDict):
    """The parts of an ASGI HTTP scope the simulator reads."""

    type: Literal["http"]
    method: str
    path: str
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    client: Client


class Incoming(TypedDict, total=False):
    """`http.request` or `http.disconnect`."""

    type: Required[str]
    body: bytes
    more_body: bool


class Outgoing(TypedDict, total=False):
    """`http.response.start` or `http.response.body`."""

    type: Required[str]
    status: int
    headers: Headers
    body: bytes
    more_body: bool


Receive = Callable[[], Awaitable[Incoming]]
Send = Callable[[Outgoing], Awaitable[None]]


class ReaderGoneError(Exception):
    """The caller left before its request was complete: nothing to answer, nothing to bill."""


class BodyTooLargeError(Exception):
    """The request body passes MAX_BODY_BYTES."""


class Caller:
    """What the request headers say; everything else in them is ignored."""

    __slots__ = ("api_key", "authorization", "client_request_id", "content_length", "usage")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.api_key: bytes | None = None
        self.authorization: bytes | None = None
        self.client_request_id: bytes | None = None
        self.content_length = 0
        self.usage: bytes | None = None
        for name, value in headers:
            if name == b"api-key":
                self.api_key = value
            elif name == b"authorization":
                self.authorization = value
            elif name == b"content-length":
                self.content_length = int(value) if value.isdigit() else 0
            elif name == b"x-ms-client-request-id":
                self.client_request_id = value[:256]
            elif name == b"x-sim-usage":
                self.usage = value


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
