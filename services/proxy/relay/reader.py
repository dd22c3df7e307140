"""The caller at the other end of a stream: waits for its head, may be slow, may leave; nothing of it stops metering."""

import asyncio
import logging
from typing import Any

from services.proxy.answers import Receive, Send
from shared.tasks import Supervisor

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 60.0
HOLD_BACK_BYTES = 256 * 1024
"""So many bytes of first events are held back at most; a response's first event repeats all its instructions."""
HOLD_BACK_S = 5.0
"""So long a caller waits at most for the head of a stream that has come but carries no content yet."""


class Reader:
    """Sends a stream to its caller. Head and first events are held back until `release`, so that a failure before
    any content can still become a real HTTP error; after HOLD_BACK_S they go out whatever has come."""

    def __init__(self, receive: Receive, send: Send, head: dict[str, Any]) -> None:
        self._receive = receive
        self._send = send
        self._head = head
        self._held: list[bytes] = []
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Task[None] | None = None
        self._closed = False
        self.released = False
        self.gone = False

    async def watch(self) -> None:
        """Notice that the caller has left."""
        while not self.gone:
            if (await self._receive())["type"] == "http.disconnect":
                self.gone = True

    def begin(self, tasks: Supervisor, name: str) -> None:
        """Hold back, for HOLD_BACK_S at most."""

        def due() -> None:
            self._late = tasks.start(name, self.release())

        self._timer = asyncio.get_running_loop().call_later(HOLD_BACK_S, due)

    async def release(self) -> None:
        """Send the head and what was held back; nothing is held back from now on."""
        async with self._lock:
            if self.released or self._closed:
                return
            self.released = True
            self._stop_timer()
            await self._deliver(self._head)
            held = b"".join(self._held)
            self._held.clear()
            if held:
                await self._deliver({"type": "http.response.body", "body": held, "more_body": True})

    async def pass_on(self, data: bytes) -> None:
        """Send bytes, or hold them back; those of a caller who has left are dropped."""
        if not data:
            return
        if not self.released:
            self._held.append(data)
            return
        async with self._lock:
            await self._deliver({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        """Send the last bytes, after everything that is still held back."""
        async with self._lock:
            if not self.released:
                self.released = True
                self._stop_timer()
                await self._deliver(self._head)
                data = b"".join((*self._held, data))
            await self._deliver({"type": "http.response.body", "body": data, "more_body": False})

    def refuse(self) -> None:
        """Nothing of the stream is ever sent: the caller gets another answer, through `answer`."""
        self._closed = True
        self._held.clear()
        self._stop_timer()

    async def answer(self, message: dict[str, Any]) -> None:
        """Send a message of another answer."""
        await self._deliver(message)

    def close(self) -> None:
        """Leave nothing running."""
        self._closed = True
        self._stop_timer()
        if self._late is not None:
            self._late.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _deliver(self, message: dict[str, Any]) -> None:
        if self.gone:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._send(message)
        except (TimeoutError, OSError, RuntimeError) as error:
            log.info("a caller stopped reading: %r", error)
            self.gone = True
