"""A durable pull consumer: fetch a batch, do the work, commit, then acknowledge."""

import asyncio
import contextlib
from types import TracebackType

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.connection import Bus
from shared.bus.tail import HEARTBEAT_S, NS, SILENCE_MAX_S, Message, parse_message
from shared.errors import BusError, BusUnavailable

FETCH_EXPIRES_S = 5


class WorkQueue:
    """Messages of a durable consumer that `tundish migrate` made. Use as an async context manager."""

    def __init__(self, bus: Bus, stream: str, durable: str) -> None:
        self._bus = bus
        self._stream = stream
        self._durable = durable
        self._queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._inbox = ""
        self._left = 0
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> "WorkQueue":
        self._inbox, self._subscription = await self._bus.inbox(self._queue.put)
        self._bus.on_change(self._interrupt)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.off_change(self._interrupt)
        if self._subscription is not None:
            with contextlib.suppress(Exception):
                await self._subscription.unsubscribe()

    async def fetch(self, most: int) -> list[tuple[Message, str]]:
        """What is at hand, up to `most`, with what `ack` needs; an empty list when nothing came for seconds.

        One request to the server is open at a time and may serve several fetches. Raises BusUnavailable when
        the consumer is gone or the connection changed: open a new queue then.
        """
        incarnation = self._bus.incarnation
        got: list[tuple[Message, str]] = []
        if self._left == 0:
            await self._pull(most)
        while len(got) < most and self._left > 0 and not (got and self._queue.empty()):
            try:
                async with asyncio.timeout(SILENCE_MAX_S):
                    raw = await self._queue.get()
            except TimeoutError as error:
                raise BusUnavailable(f"no heartbeat from consumer {self._durable}") from error
            if raw is None or self._bus.incarnation != incarnation:
                raise BusUnavailable("connection changed while fetching")
            status = (raw.headers or {}).get("Status") if not raw.data else None
            if status is None:
                got.append((parse_message(raw), raw.reply))
                self._left -= 1
            elif status in ("404", "408"):
                self._left = 0
            elif status != "100":
                raise BusUnavailable(f"consumer {self._durable}: {status} {(raw.headers or {}).get('Description')}")
        return got

    def _interrupt(self) -> None:
        """The connection was lost or made anew: nobody should wait for the heartbeat to be missed."""
        self._queue.put_nowait(None)

    async def _pull(self, most: int) -> None:
        request = msgspec.json.encode(
            {"batch": most, "expires": FETCH_EXPIRES_S * NS, "idle_heartbeat": HEARTBEAT_S * NS}
        )
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        await self._bus.send(subject, request, reply=self._inbox)
        self._left = most

    async def ack(self, replies: list[str]) -> None:
        """Acknowledge after the commit; a lost acknowledgement costs a redelivery, nothing else."""
        for reply in replies:
            with contextlib.suppress(BusError):
                await self._bus.send(reply, b"+ACK")

    async def nak(self, reply: str, *, delay_s: float) -> None:
        """Give a message back: it comes again after a while."""
        with contextlib.suppress(BusError):
            await self._bus.send(reply, b"-NAK " + msgspec.json.encode({"delay": int(delay_s * NS)}))


def attempts_of(reply: str) -> int:
    """How often a message was given out, this time included, from what `ack` needs of it."""
    parts = reply.split(".")
    return int(parts[-5]) if len(parts) >= 9 and parts[-5].isdigit() else 1
