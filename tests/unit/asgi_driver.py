"""Calls an ASGI application in this very loop: scripted `receive`, recorded `send`, nothing in between."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

GONE = {"type": "http.disconnect"}
Pause = Callable[[], Awaitable[None]]


class Exchange:
    """One request and what came back. `script` holds messages, or pauses to await before the next one."""

    def __init__(self, script: Sequence[dict[str, Any] | Pause], log: list[str] | None = None) -> None:
        self._script = list(script)
        self.sent: list[dict[str, Any]] = []
        self.log = log if log is not None else []
        self.waiting = asyncio.Event()
        self.on_send: Callable[[dict[str, Any]], Awaitable[None]] | None = None

    async def receive(self) -> dict[str, Any]:
        while self._script:
            step = self._script.pop(0)
            if isinstance(step, dict):
                return step
            await step()
        self.waiting.set()
        await asyncio.Event().wait()  # a caller who has said everything and listens
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(message)
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        self.log.append("head" if message["type"] == "http.response.start" else "last" if last else "body")

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode("latin-1") for name, value in self.sent[0]["headers"]}

    @property
    def chunks(self) -> list[bytes]:
        return [message["body"] for message in self.sent[1:]]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]

    @property
    def finished(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


def http_scope(method: str, path: str | bytes, headers: dict[str, str], query: bytes = b"") -> dict[str, Any]:
    raw = path.encode() if isinstance(path, str) else path
    return {
        "type": "http",
        "method": method,
        "path": raw.decode("latin-1"),
        "raw_path": raw,
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }


def pieces(*parts: bytes) -> list[dict[str, Any] | Pause]:
    """A request body in so many messages."""
    return [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1} for index, part in enumerate(parts)
    ]
