"""One connection to NATS: acknowledged publishes, fenced appends, requests, and the raw JetStream API.

Only the core protocol of nats-py is used. Its JetStream layer loses errors of asynchronous publishes and
hides a deleted consumer behind a time-out, so the few API calls we need are spoken here directly.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import unquote, urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.errors import BusError, BusUnavailable, Conflict, Rejected, StreamChanged
from shared.topology import inbox_prefix

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2
OPEN_TIMEOUT_S = 5
"""How long the first connection may take; nats-py itself would try for ever."""
RECONNECT_WAIT_S = 0.25
RECONNECT_FOR_EVER = -1
PING_INTERVAL_S = 5
PINGS_OUTSTANDING_MAX = 2
SUBSCRIPTION_MESSAGES_MAX = 10_000
SUBSCRIPTION_BYTES_MAX = 32 * 1024 * 1024
PENDING_BYTES_MAX = 32 * 1024 * 1024
FLUSHER_QUEUE_MAX = 4096
API_TIMEOUT_S = 5.0
PUBLISH_TIMEOUT_S = 5.0

WRONG_LAST_SEQUENCE = {10071, 10164}
NOT_FOUND = {10059, 10014, 10037}


class PubAck(msgspec.Struct, frozen=True):
    """Where a message stands in its stream; `duplicate`: it stood there already."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False


class ApiProblem(msgspec.Struct, frozen=True):
    """An error of the JetStream API."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _Reply(msgspec.Struct, frozen=True):
    error: ApiProblem | None = None
    stream: str = ""
    seq: int = 0
    duplicate: bool = False


class StreamState(msgspec.Struct, frozen=True):
    """How much a stream holds."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class StreamInfo(msgspec.Struct, frozen=True):
    """What the server says of a stream; `created` tells two streams of one name apart."""

    created: str = ""
    config: dict[str, object] = {}
    state: StreamState = StreamState()
    error: ApiProblem | None = None


class Request:
    """A request somebody sent to us; `respond` may be called once."""

    __slots__ = ("_message", "data", "subject")

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject = message.subject
        self.data = message.data

    async def respond(self, data: bytes) -> None:
        """Send the answer; an asker that has gone away is no error."""
        if self._message.reply:
            try:
                await self._message.respond(data)
            except nats.errors.Error as error:
                log.debug("an answer could not be sent: %s", error)


def raise_problem(problem: ApiProblem) -> None:
    """Raise the error of ours that an API error means."""
    text = f"NATS says {problem.code}/{problem.err_code}: {problem.description}"
    if problem.err_code in WRONG_LAST_SEQUENCE:
        raise Conflict(text)
    if problem.err_code in NOT_FOUND or problem.code == 404:
        raise StreamChanged(text)
    if problem.code in (408, 503):
        raise BusUnavailable(text)
    raise Rejected(text)


class Bus:
    """A connection that comes back by itself; `incarnation` counts how often it was (re)made."""

    def __init__(self, client: Client, user: str) -> None:
        self._client = client
        self.user = user
        self.incarnation = 1
        self._back = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._closing = False

    @classmethod
    async def open(cls, url: str, *, user: str, name: str) -> "Bus":
        """Connect as `user` (its inbox prefix) to a URL that may carry user and password.

        Raises BusUnavailable when the server cannot be reached or refuses the credentials.
        """
        client = Client()
        bus = cls(client, user)
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await client.connect(
                    servers=[f"nats://{parts.hostname}:{parts.port or 4222}"],
                    user=unquote(parts.username) if parts.username else None,
                    password=unquote(parts.password) if parts.password else None,
                    name=name,
                    inbox_prefix=inbox_prefix(user),
                    allow_reconnect=True,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # pyright: ignore[reportArgumentType]
                    max_reconnect_attempts=RECONNECT_FOR_EVER,
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=PINGS_OUTSTANDING_MAX,
                    pending_size=PENDING_BYTES_MAX,
                    flusher_queue_size=FLUSHER_QUEUE_MAX,
                    error_cb=bus._on_error,
                    disconnected_cb=bus._on_disconnected,
                    reconnected_cb=bus._on_reconnected,
                    closed_cb=bus._on_closed,
                )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            reason = client.last_error or error
            await bus.close()
            raise BusUnavailable(f"NATS at {parts.hostname}:{parts.port} cannot be reached: {reason}") from error
        return bus

    @property
    def connected(self) -> bool:
        """Whether the connection stands at this moment."""
        return self._client.is_connected

    async def until_connected(self) -> None:
        """Wait until the connection stands (again)."""
        while not self._client.is_connected:
            self._back.clear()
            await self._back.wait()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the connection was lost or made anew."""
        self._listeners.append(listener)

    def off_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` no more."""
        self._listeners.remove(listener)

    async def close(self) -> None:
        """Send what is buffered and close for good."""
        self._closing = True
        if self._client.is_closed:
            return
        if self._client.is_connected:
            try:
                await self._client.flush(timeout=2)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                log.debug("last flush failed: %s", error)
        await self._client.close()

    # ---- streams -------------------------------------------------------------------------------------

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        msg_id: str | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = PUBLISH_TIMEOUT_S,
    ) -> PubAck:
        """Publish into a stream and wait for the acknowledgement.

        Raises BusUnavailable (outcome unknown: repeat with the same `msg_id`), Conflict, Rejected.
        """
        all_headers = dict(headers or {})
        if msg_id is not None:
            all_headers["Nats-Msg-Id"] = msg_id
        raw = await self.request(subject, data, headers=all_headers or None, timeout_s=timeout_s)
        reply = msgspec.json.decode(raw, type=_Reply)
        if reply.error is not None:
            raise_problem(reply.error)
        return PubAck(stream=reply.stream, seq=reply.seq, duplicate=reply.duplicate)

    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        fence: str,
        expected: int,
        msg_id: str,
        timeout_s: float = PUBLISH_TIMEOUT_S,
    ) -> int:
        """Append only if the last sequence of all subjects matching `fence` is `expected`; the new sequence.

        Both headers are needed: without the second the server compares the exact subject only, and two
        writers with subjects of their own never conflict. Raises Conflict, BusUnavailable, Rejected.
        """
        ack = await self.publish(
            subject,
            data,
            msg_id=msg_id,
            headers={
                "Nats-Expected-Last-Subject-Sequence": str(expected),
                "Nats-Expected-Last-Subject-Sequence-Subject": fence,
            },
            timeout_s=timeout_s,
        )
        if ack.duplicate:
            raise Conflict(f"{msg_id} was appended before")
        return ack.seq

    async def stream_info(self, stream: str) -> StreamInfo:
        """Settings and state of a stream. Raises StreamChanged if there is none."""
        info = msgspec.json.decode(await self.api(f"STREAM.INFO.{stream}", b""), type=StreamInfo)
        if info.error is not None:
            raise_problem(info.error)
        return info

    async def api(self, path: str, payload: bytes) -> bytes:
        """One call of the JetStream API; the caller decodes the answer and its `error`."""
        return await self.request(f"$JS.API.{path}", payload, timeout_s=API_TIMEOUT_S)

    # ---- requests ------------------------------------------------------------------------------------

    async def request(
        self, subject: str, data: bytes, *, timeout_s: float, headers: dict[str, str] | None = None
    ) -> bytes:
        """Core request and reply. Raises BusUnavailable when nobody answers in time."""
        task = asyncio.current_task()
        cancelled = 0 if task is None else task.cancelling()
        try:
            message = await self._client.request(subject, data, timeout=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise BusUnavailable(f"nobody answers on {subject}") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BusUnavailable(f"no answer on {subject} within {timeout_s} s: {error!r}") from error
        if task is not None and task.cancelling() > cancelled:
            raise asyncio.CancelledError  # Python 3.11's wait_for loses a cancellation that meets the answer
        return message.data

    async def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Core publish without acknowledgement."""
        try:
            await self._client.publish(subject, data, reply=reply)
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable(f"{subject} could not be sent: {error!r}") from error

    async def serve(self, subject: str, handler: Callable[[Request], Awaitable[None]]) -> Subscription:
        """Answer requests on a subject, one after another in order of arrival."""

        async def on_message(message: Msg) -> None:
            try:
                await handler(Request(message))
            except Exception:
                log.exception("a request on %s failed", message.subject)

        subscription = await self._client.subscribe(subject, cb=on_message)
        # nats-py writes a PING at once and a SUB a moment later, so the first PONG may come before the server knows
        # the subscription; by then the SUB is on its way, and the second PONG proves it.
        for _ in range(2):
            await self._client.flush(timeout=CONNECT_TIMEOUT_S)
        return subscription

    async def subscribe(self, subject: str, handler: Callable[[bytes], None]) -> Subscription:
        """Hear every message on a subject, in order per sender; the server knows the subscription on return.

        What arrives faster than `handler` takes it is dropped beyond SUBSCRIPTION_MESSAGES_MAX, with a warning.
        Raises BusUnavailable.
        """

        async def on_message(message: Msg) -> None:
            try:
                handler(message.data)
            except Exception:
                log.exception("a message on %s failed", message.subject)

        try:
            subscription = await self._client.subscribe(
                subject,
                cb=on_message,
                pending_msgs_limit=SUBSCRIPTION_MESSAGES_MAX,
                pending_bytes_limit=SUBSCRIPTION_BYTES_MAX,
            )
            for _ in range(2):  # see `serve`
                await self._client.flush(timeout=CONNECT_TIMEOUT_S)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BusUnavailable(f"no subscription to {subject}: {error!r}") from error
        return subscription

    async def inbox(self, on_message: Callable[[Msg], Awaitable[None]]) -> tuple[str, Subscription]:
        """A fresh inbox of this user and its subscription."""
        subject = self._client.new_inbox()
        try:
            return subject, await self._client.subscribe(subject, cb=on_message)
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable(f"no inbox: {error!r}") from error

    # ---- callbacks -----------------------------------------------------------------------------------

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            log.warning("NATS: a subscription fell behind on %s", error.subject)
        else:
            log.info("NATS: %r", error)

    async def _on_disconnected(self) -> None:
        if not self._closing:
            log.warning("NATS: connection lost, reconnecting")
        self._changed()

    async def _on_reconnected(self) -> None:
        log.info("NATS: connected again")
        self._back.set()
        self._changed()

    async def _on_closed(self) -> None:
        self._changed()

    def _changed(self) -> None:
        self.incarnation += 1
        for listener in list(self._listeners):
            listener()


__all__ = ["ApiProblem", "Bus", "BusError", "PubAck", "Request", "StreamInfo", "StreamState", "raise_problem"]
