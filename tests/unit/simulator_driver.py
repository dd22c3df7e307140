"""Drives the Foundry simulator as an ASGI application in the same loop, with scripted readers."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from deploy.simulator import Simulator
from deploy.simulator.wire import HttpScope, Incoming, Outgoing

KEY = {"api-key": "sim-foundry-key"}
CHAT = "/openai/deployments/gpt-4o-deployment/chat/completions"
VERSION = "api-version=2024-10-21"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


class FixedClock:
    """Always the same moment."""

    def now(self) -> datetime:
        return NOW

    def monotonic_ms(self) -> int:
        return 0


class Reply:
    """What came back: `finished` says whether the last byte was sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.finished = False

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; `[DONE]` as it is."""
        texts = self.body.decode().removesuffix("\n\n").split("\n\n")
        assert all(text.startswith("data: ") for text in texts)
        data = [text.removeprefix("data: ") for text in texts]
        return [text if text == "[DONE]" else json.loads(text) for text in data]


async def ask(
    simulator: Simulator,
    path: str = CHAT,
    body: object = None,
    *,
    query: str = VERSION,
    headers: dict[str, str] = KEY,
    method: str = "POST",
    pieces: Sequence[bytes] | None = None,
    leave_after: int | None = None,
) -> Reply:
    """One request; `pieces` is its raw body in several messages. The reader leaves after so many parts."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    waiting = list([raw] if pieces is None else pieces)
    gone = asyncio.Event()
    reply = Reply()

    async def receive() -> Incoming:
        if waiting:
            piece = waiting.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Outgoing) -> None:
        if message["type"] == "http.response.start":
            assert "status" in message and "headers" in message
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            assert len(reply.headers) == len(message["headers"]), "a header twice"
        else:
            reply.parts.append(message.get("body", b""))
            reply.finished = not message.get("more_body", False)
        if leave_after is not None and len(reply.parts) >= leave_after:
            gone.set()

    if leave_after == 0:
        gone.set()
    scope: HttpScope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": None,
    }
    await simulator(scope, receive, send)
    return reply


def chat(text: str = "Say hi", **fields: object) -> dict[str, object]:
    """A chat request."""
    return {"messages": [{"role": "user", "content": text}], **fields}


async def served(simulator: Simulator, query: str = "") -> Any:
    """The served-call log as the control endpoint shows it."""
    return (await ask(simulator, "/_sim/served", method="GET", query=query, headers={})).json


async def fault(simulator: Simulator, **fields: object) -> Reply:
    """Put a fault in force."""
    return await ask(simulator, "/_sim/faults", fields, query="", headers={})
