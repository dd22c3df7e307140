"""A small HTTP server that remembers what it was sent: the other end of deliveries."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.simulator.tls import make

HEAD_MAX = 64 * 1024


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Receiver:
    """A running server. `answer` makes the reply to each request."""

    url: str
    port: int
    authority: Path | None
    answer: Callable[[Received], Reply] = lambda _request: (200, {}, b"")
    got: list[Received] = field(default_factory=list[Received])


@asynccontextmanager
async def receiving(folder: Path | None = None, host: str = "127.0.0.1") -> AsyncGenerator[Receiver, None]:
    """A server on a free port of loopback; over TLS with certificates made in `folder`, if it is given."""
    made = None if folder is None else make(folder, ("localhost", "127.0.0.1", "hooks.example.com"))
    context = None
    if made is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.certificate, made.key)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            request = Received(method, path, headers, body)
            receiver.got.append(request)
            status, more, content = receiver.answer(request)
            lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in more.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, host, 0, ssl=context, limit=HEAD_MAX)
    port = server.sockets[0].getsockname()[1]
    scheme = "http" if made is None else "https"
    receiver = Receiver(f"{scheme}://{host}:{port}", port, None if made is None else made.authority)
    async with server:
        yield receiver
