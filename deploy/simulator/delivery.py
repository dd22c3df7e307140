"""Getting an answer to the reader: at once, piece by piece, late, halted, or cut off."""

import asyncio
from collections.abc import Iterable

from deploy.simulator import sockets
from deploy.simulator.answers import SSE_TYPE, Answer
from deploy.simulator.faults import Fault
from deploy.simulator.usage import MAX_DELAY_MS
from deploy.simulator.wire import JSON_TYPE, Client, Headers, Receive, Send, send_whole

STREAM_HEADERS: Headers = [SSE_TYPE, (b"x-accel-buffering", b"no")]


async def deliver(
    answer: Answer,
    headers: Headers,
    receive: Receive,
    send: Send,
    fault: Fault | None,
    client: Client,
) -> bool:
    """Send an answer; True when the last byte was handed over, False when the reader left or a fault cut it."""
    if answer.events is None and not answer.delay_ms and fault is None:
        await send_whole(send, answer.status, [*headers, (b"content-type", answer.content_type)], answer.body)
        return True
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(_until_gone(receive))
        try:
            return await _Delivery(send, gone, fault, client).run(answer, headers)
        finally:
            gone.cancel()


async def pause(receive: Receive, delay_ms: int) -> bool:
    """Wait so long, or until the reader leaves (True)."""
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(_until_gone(receive))
        try:
            return await _pause(gone, delay_ms)
        finally:
            gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pause(gone: asyncio.Task[None], delay_ms: int) -> bool:
    if delay_ms:
        await asyncio.wait({gone}, timeout=delay_ms / 1000)
    return gone.done()


class _Delivery:
    """One slow or broken delivery, with an eye on whether the reader is still there."""

    def __init__(self, send: Send, gone: asyncio.Task[None], fault: Fault | None, client: Client) -> None:
        self._send = send
        self._gone = gone
        self._fault = fault
        self._client = client
        self._kind = "" if fault is None else fault.kind
        self._fault_delay_ms = 0 if fault is None else fault.delay_ms

    async def run(self, answer: Answer, headers: Headers) -> bool:
        """True when everything was handed over."""
        before = answer.delay_ms
        if self._kind not in ("stall", "slow_first_byte"):
            before += self._fault_delay_ms
        if await _pause(self._gone, min(before, MAX_DELAY_MS)):
            return False
        if self._fault is not None and self._kind == "reset" and self._fault.after_events == 0:
            sockets.cut(self._client, at_once=True)
            return False
        await self._start(answer, headers)
        if self._kind == "slow_first_byte" and await self._late_first_byte():
            return False
        if not await self._pieces(answer):
            return False
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def _start(self, answer: Answer, headers: Headers) -> None:
        own: Headers = [] if self._fault is None else self._fault.header_pairs()
        named = {name for name, _ in own}
        sent = [pair for pair in headers if pair[0] not in named] + own
        if answer.events is None:
            sent += [(b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body))]
        else:
            plain = answer.content_type == JSON_TYPE[1]
            sent += STREAM_HEADERS if plain else [(b"content-type", answer.content_type)]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": sent})

    async def _late_first_byte(self) -> bool:
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        return await _pause(self._gone, self._fault_delay_ms)

    async def _pieces(self, answer: Answer) -> bool:
        """Send the pieces; False when the delivery ends before the last of them."""
        pieces, halt_after = self._split(answer)
        for number, piece in enumerate(pieces):
            if number == halt_after and not await self._halt():
                return False
            if number and await _pause(self._gone, answer.chunk_delay_ms):
                return False
            if self._gone.done():
                return False
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        return True

    def _split(self, answer: Answer) -> tuple[Iterable[bytes], int | None]:
        """The pieces of an answer and before which of them a fault strikes."""
        strikes = self._fault is not None and self._kind in ("stall", "reset")
        after = self._fault.after_events if strikes and self._fault is not None else None
        if answer.events is not None:
            return answer.events, after
        if after is None:
            return (answer.body,), None
        half = len(answer.body) // 2
        return (answer.body[:half], answer.body[half:]), min(after, 1)

    async def _halt(self) -> bool:
        """Where the fault strikes: a reset ends it, a stall ends or goes on after its time."""
        if self._kind == "reset":
            sockets.cut(self._client, at_once=False)
            return False
        left = await _pause(self._gone, self._fault_delay_ms or MAX_DELAY_MS)
        return not left and self._fault_delay_ms > 0
