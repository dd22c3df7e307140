"""Request bodies, bounded in size and time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.proxy.domain.admission import Refused

Receive = Callable[[], Awaitable[Any]]

BODY_WAIT_S = 60.0
SWEEP_S = 1.0


class Patience:
    """A time limit for many short waits. One sweep a second looks after all of them, where a timer for each would
    cost more than the wait."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now_s: float) -> None:
        """Interrupt the waits that have lasted too long."""
        overdue = [task for task, until_s in self._waiting.items() if now_s >= until_s]
        for task in overdue:
            del self._waiting[task]
            self._expired.add(task)
            task.cancel()

    def begin(self) -> "asyncio.Task[Any]":
        """The running task begins to wait."""
        task = asyncio.current_task()
        assert task is not None
        self._waiting[task] = asyncio.get_running_loop().time() + self._limit_s
        return task

    def end(self, task: "asyncio.Task[Any]") -> bool:
        """The wait is over; whether it was interrupted by a sweep."""
        self._waiting.pop(task, None)
        if task not in self._expired:
            return False
        self._expired.discard(task)
        task.uncancel()
        return True


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int, patience: Patience) -> bytes:
    """The request's body. Raises Refused when it is too large, too slow, or its sender left."""
    task = patience.begin()
    try:
        body = await _read(headers, receive, limit)
    except asyncio.CancelledError as error:
        if not patience.end(task):
            raise
        raise Refused(
            408, "request_timeout", f"The request body did not arrive within {BODY_WAIT_S:.0f} s.", kind="timeout_error"
        ) from error
    except BaseException:
        patience.end(task)
        raise
    patience.end(task)
    return body


async def _read(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise _too_large(limit)
    if message["type"] == "http.request":
        if not message.get("more_body", False):
            return body
        # Nothing follows what the declared length promises: no need to wait for the empty last piece.
        if headers.get(b"content-length") == str(len(body)).encode():
            return body
    parts = [body]
    size = len(body)
    while True:
        if message["type"] == "http.disconnect":
            raise Refused(400, "client_gone", "The caller left before its request was whole.")
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)


def _too_large(limit: int) -> Refused:
    return Refused(413, "request_too_large", f"The request body is larger than {limit} bytes.")
