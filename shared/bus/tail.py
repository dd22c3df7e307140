"""Reading a stream in order, without a hole, through a short-lived pull consumer of one's own.

A pull consumer names no delivery subject, needs no flow control, and its heartbeats tell within seconds that
it is gone (server restarted, stream made anew). Any doubt ends the tail with BusUnavailable or StreamChanged;
the reader starts a new one from the position it has reached.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec
from nats.aio.msg import Msg

from shared.bus.connection import ApiProblem, Bus, raise_problem
from shared.errors import BusError, BusUnavailable, StreamChanged
from shared.ids import uuid7

PULL_BATCH = 1_000
PULL_EXPIRES_S = 30
PULL_BYTES_MAX = 8 * 1024 * 1024
HEARTBEAT_S = 1
SILENCE_MAX_S = 3.5
CONSUMER_IDLE_S = 60
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message: `seq` in its stream, `delivered` its number at its consumer, `pending` how many match
    behind it."""

    subject: str
    data: bytes
    seq: int
    pending: int
    delivered: int = 0
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class TailBatch:
    """Messages in stream order; `caught_up`: nothing more was stored when the last of them was sent."""

    messages: list[Message]
    caught_up: bool


class _ConsumerInfo(msgspec.Struct, frozen=True):
    name: str = ""
    num_pending: int = 0
    error: ApiProblem | None = None


class Tail:
    """A reader of one stream and filter; see `batches`."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        subject: str,
        *,
        after: int = 0,
        last_per_subject: bool = False,
        created: str | None = None,
    ) -> None:
        """Read messages with a sequence above `after`, or first the last one of each subject.

        `created` is the creation time the stream must have; another one raises StreamChanged.
        """
        self._bus = bus
        self._stream = stream
        self._subject = subject
        self._after = after
        self._last_per_subject = last_per_subject
        self._created = created
        self._queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._taken = 0
        self._name = f"tail-{uuid7()}"

    async def batches(self) -> AsyncGenerator[TailBatch, None]:
        """Batches for ever; the first says whether anything is stored. Ends only by an exception."""
        await self._bus.until_connected()
        incarnation = self._bus.incarnation
        if self._created is not None:
            info = await self._bus.stream_info(self._stream)
            if info.created != self._created:
                raise StreamChanged(f"stream {self._stream} was made anew; its positions mean something else now")
        inbox, subscription = await self._bus.inbox(self._queue.put)
        self._bus.on_change(self._interrupt)
        try:
            pending = await self._create()
            if pending == 0:
                yield TailBatch([], caught_up=True)
            while True:
                left = PULL_BATCH
                await self._pull(inbox)
                while left > 0:
                    batch, ended = await self._gather(incarnation)
                    left -= len(batch)
                    if batch:
                        yield TailBatch(batch, caught_up=batch[-1].pending == 0)
                    if ended:
                        break
        finally:
            self._bus.off_change(self._interrupt)
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
            with contextlib.suppress(BusError):
                await self._bus.send(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}", b"")

    async def _create(self) -> int:
        config: dict[str, object] = {
            "name": self._name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": self._subject,
            "inactive_threshold": CONSUMER_IDLE_S * NS,
            "mem_storage": True,
            "num_replicas": 1,
            "max_waiting": 4,
        }
        if self._last_per_subject:
            config["deliver_policy"] = "last_per_subject"
        else:
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = self._after + 1
        request = msgspec.json.encode({"stream_name": self._stream, "config": config})
        raw = await self._bus.api(f"CONSUMER.CREATE.{self._stream}.{self._name}.{self._subject}", request)
        info = msgspec.json.decode(raw, type=_ConsumerInfo)
        if info.error is not None:
            raise_problem(info.error)
        return info.num_pending

    def _interrupt(self) -> None:
        """The connection was lost or made anew: the consumer may be gone, so nobody should wait for it."""
        self._queue.put_nowait(None)

    def _next(self, raw: Msg) -> Message:
        """One message; a hole in what the consumer has delivered raises BusUnavailable."""
        message = parse_message(raw)
        self._taken += 1
        if message.delivered != self._taken:
            raise BusUnavailable(f"a message of {self._stream} was lost on its way")
        return message

    async def _pull(self, inbox: str) -> None:
        request = msgspec.json.encode(
            {"batch": PULL_BATCH, "expires": PULL_EXPIRES_S * NS, "idle_heartbeat": HEARTBEAT_S * NS}
        )
        await self._bus.send(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}", request, reply=inbox)

    async def _gather(self, incarnation: int) -> tuple[list[Message], bool]:
        """The messages at hand (at least one notice was waited for), and whether this pull has ended."""
        batch: list[Message] = []
        try:
            async with asyncio.timeout(SILENCE_MAX_S):
                raw = await self._queue.get()
        except TimeoutError as error:
            raise BusUnavailable(f"no heartbeat from stream {self._stream}") from error
        while True:
            if raw is None or self._bus.incarnation != incarnation:
                raise BusUnavailable(f"connection changed while reading {self._stream}")
            status = (raw.headers or {}).get("Status") if not raw.data else None
            if status is None:
                batch.append(self._next(raw))
            elif status in ("404", "408"):
                return batch, True
            elif status != "100":
                raise BusUnavailable(f"reading {self._stream} ended: {status} {(raw.headers or {}).get('Description')}")
            if self._queue.empty():
                return batch, False
            raw = self._queue.get_nowait()


def parse_message(raw: Msg) -> Message:
    """A message with what its acknowledgement subject says of it (both formats of the server)."""
    tokens = raw.reply.split(".")
    at = 5 if len(tokens) == 9 else 7
    operation = (raw.headers or {}).get("KV-Operation")
    return Message(raw.subject, raw.data, int(tokens[at]), int(tokens[at + 3]), int(tokens[at + 1]), operation)
