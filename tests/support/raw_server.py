"""A raw TCP server on loopback that speaks HTTP/1.1 byte by byte, as each test scripts it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Asked:
    """One request as it came over the wire; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Conn:
    """One connection; `abort` resets it, leaving the rest unsaid."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader = reader
        self._writer = writer
        self.number = number

    async def read(self) -> Asked | None:
        try:
            first = await self._reader.readexactly(1)
            if not first.isalpha():
                return None  # a TLS handshake or the like
            head = first + await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return None
        line, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in rest if item)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Asked(line, headers, body, self.number)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def left(self) -> None:
        """Wait until the other side is gone."""
        try:
            while await self._reader.read(1_000):
                pass
        except OSError:
            pass

    def abort(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Conn, Asked], Awaitable[None]]


@dataclass
class RawServer:
    """Runs `script` for every request; connections stay open until the script ends them or the server stops."""

    script: Script
    asked: list[Asked] = field(default_factory=list[Asked])
    connections: int = 0
    port: int = 0
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/openai/deployments/d/chat/completions?api-version=1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        conn = Conn(reader, writer, self.connections)
        try:
            while (asked := await conn.read()) is not None:
                self.asked.append(asked)
                await self.script(conn, asked)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


@asynccontextmanager
async def raw_server(script: Script) -> AsyncGenerator[RawServer]:
    """A server on a free port for the length of the block."""
    server = RawServer(script)
    listener = await asyncio.start_server(server._serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        tasks = list(server._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def chunked(*parts: bytes) -> bytes:
    """Parts of a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A complete reply with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
