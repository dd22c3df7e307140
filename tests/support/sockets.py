"""Realtime clients of tests: plain WebSockets that speak events."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

WAIT_S = 20.0

Event = dict[str, Any]


class Talk:
    """A session: events go out as dicts and come in as dicts."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def hear(self) -> Event:
        """The next event."""
        return json.loads(await self.connection.recv())

    async def until(self, *kinds: str) -> Event:
        """The next event of these kinds. Raises AssertionError for an error event that was not waited for."""
        while True:
            event = await self.hear()
            if event["type"] in kinds:
                return event
            assert event["type"] != "error", event

    async def write(self, text: str) -> None:
        """Put a message of the user's into the conversation."""
        content = [{"type": "input_text", "text": text}]
        await self.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})

    async def ask(self, text: str, **response: Any) -> Event:
        """Write, have it answered, and give the end of the answer."""
        await self.write(text)
        await self.say("response.create", **({"response": response} if response else {}))
        return (await self.until("response.done"))["response"]

    async def text_only(self) -> None:
        """Have answers in text."""
        await self.say("session.update", session={"type": "realtime", "output_modalities": ["text"]})
        await self.until("session.updated")

    async def end(self) -> tuple[list[Event], int, str]:
        """All further events, the code of the close and its reason."""
        events: list[Event] = []
        try:
            while True:
                events.append(await self.hear())
        except ConnectionClosed:
            return events, self.connection.close_code or 0, self.connection.close_reason or ""


@asynccontextmanager
async def talk(
    url: str, path: str, *, headers: dict[str, str] | None = None, subprotocols: list[str] | None = None
) -> AsyncGenerator[Talk]:
    """Open a session at a front door. Raises InvalidStatus where it is refused."""
    async with connect(
        url.replace("http", "ws", 1) + path,
        additional_headers=headers,
        subprotocols=subprotocols,  # type: ignore[arg-type]
        open_timeout=WAIT_S,
        proxy=None,
    ) as connection:
        yield Talk(connection)


async def refused(url: str, path: str, **how: Any) -> tuple[int, Event]:
    """Status and JSON with which a handshake is refused."""
    try:
        async with talk(url, path, **how):
            raise AssertionError(f"{path} was let in")
    except InvalidStatus as error:
        body = bytes(error.response.body or b"")
        return error.response.status_code, json.loads(body) if body else {}
