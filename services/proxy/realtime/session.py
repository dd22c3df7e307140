"""One open realtime session: what the caller says, what Foundry says, and a look at the clock.

The first of them that ends, ends all. Then the caller is told, and after that Foundry is asked to stop and heard out
within a bound, so that what it has made is paid for exactly.
"""

import asyncio
import logging
from typing import Any

import msgspec

from services.proxy.answers import Receive, Send
from services.proxy.domain.admission import Refused
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.errors.failures import Failure, failure_of_refusal, own_failure
from services.proxy.domain.realtime import END_EVENT, END_EVENT_ID, HEARD, ServerEvent, read_client, read_server
from services.proxy.realtime.turns import ANSWERS_MAX, Turns
from services.proxy.upstream import UpstreamError
from services.proxy.upstream.socket import Socket

log = logging.getLogger(__name__)

CALLER_MESSAGE_BYTES_MAX = 15 * 1024 * 1024
"""Below the 16 MiB at which the server of this process drops a frame, and the connection with it, without a word."""
CLOSE_POLICY, CLOSE_TOO_BIG, CLOSE_ERROR, CLOSE_GOING = 1008, 1009, 1011, 1001
REASON_BYTES_MAX = 120
TOLD_WAIT_S = 5.0
"""How long a caller who is told of the end may take to read it."""


class Clockwork(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a session, in seconds.

    `check_s`: how often it looks whether its key still may call. `renew_s`: how long a hold stands while nobody
    speaks. `answer_s`: how long a call with an answer in it may be open in all, below the longest call that the ledger
    relies on. `drain_s`: how long Foundry is heard out at the end. `send_s`: how long a caller may take to read.
    """

    check_s: float = 1.0
    renew_s: float = 240.0
    answer_s: float = 540.0
    drain_s: float = 10.0
    send_s: float = 60.0


class Ended(Exception):
    """A session that the gateway ends: what the caller is told, and the code of the close."""

    def __init__(self, failure: Failure, code: int = CLOSE_POLICY) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.code = code

    @classmethod
    def of(cls, refused: Refused) -> "Ended":
        """From what the gate says."""
        return cls(failure_of_refusal(refused))


class _Over(Exception):
    """One of both sides has left."""


class Session:
    """One open session. `run` lasts as long as it does."""

    def __init__(
        self,
        turns: Turns,
        socket: Socket,
        receive: Receive,
        send: Send,
        draining: asyncio.Event,
        clockwork: Clockwork,
    ) -> None:
        self._turns = turns
        self._socket = socket
        self._receive = receive
        self._send = send
        self._draining = draining
        self._clockwork = clockwork
        self._gone = False
        self._closed = False
        self._stopped = False

    async def run(self) -> None:
        """Pass on until one side leaves or the session has to end; then tell the caller, and hear Foundry out."""
        errors: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._hear())
                await self._listen()
        except* Exception as caught:
            errors = list(_flat(caught))
        await self._tell(_ended(errors))
        await self._hear_out()

    # ---- three things at once ----------------------------------------------------------------------------

    async def _hear(self) -> None:
        """What the caller sends, one message after the other."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._gone = True
                raise _Over
            text = message.get("text")
            data: bytes = text.encode() if text is not None else message.get("bytes") or b""
            if len(data) > CALLER_MESSAGE_BYTES_MAX:
                said = f"A message is larger than {CALLER_MESSAGE_BYTES_MAX} bytes."
                raise Ended(own_failure(413, "message_too_large", said), CLOSE_TOO_BIG)
            try:
                await self._pass_on(data)
            except BadRequest as error:
                failure = own_failure(400, error.code, str(error), kind="invalid_request_error")
                await self._say(msgspec.structs.replace(failure, param=error.param), data)

    async def _pass_on(self, data: bytes) -> None:
        """One event of the caller's. Raises BadRequest."""
        turns = self._turns
        try:
            event = read_client(data, turns.transcriber)
        except Refused as refused:
            await self._say(failure_of_refusal(refused), data)
            return
        if event.type == "response.create":
            if turns.asked >= ANSWERS_MAX:
                raise BadRequest("Too many answers were asked for at once.", code="too_many_answers")
            if self._draining.is_set():
                raise _stopping()
            turns.asked += 1
            await self._hold()
        try:
            await self._socket.send(event.message.decode())
        except UpstreamError as error:
            raise _Over from error

    async def _listen(self) -> None:
        """What Foundry sends; an answer is paid for before the caller hears that it is done."""
        while (data := await self._next()) is not None:
            event = read_server(data)
            message = {"type": "websocket.send", "text": data.decode(errors="replace")}
            try:
                await self._note(event, data)
            except Ended:  # it happened all the same
                await self._deliver(message)
                raise
            await self._deliver(message)
            if event.type == "response.done":
                if self._draining.is_set() and not self._turns.answering:
                    raise _stopping()
                await self._hold()
        self._closed = True
        raise _Over

    async def _watch(self) -> None:
        """End the session of a key that may no longer call, and renew the hold of a silent one."""
        turns, clockwork = self._turns, self._clockwork
        while True:
            await asyncio.sleep(clockwork.check_s)
            try:
                turns.caller()
                if self._draining.is_set() and turns.quiet:
                    raise _stopping()
                if turns.longest_s() > clockwork.answer_s:
                    raise Ended(own_failure(504, "upstream_timeout", "The answer took too long."), CLOSE_ERROR)
                await turns.renew(clockwork.renew_s)
            except Refused as refused:
                raise Ended.of(refused) from refused

    # ---- one event ---------------------------------------------------------------------------------------

    async def _next(self) -> bytes | None:
        message = await self._socket.receive()
        return message.encode() if isinstance(message, str) else message

    async def _note(self, event: ServerEvent, data: bytes) -> None:
        """What an event of Foundry's means for the bill. Raises Ended."""
        turns = self._turns
        match event.type:
            case "session.created" | "session.updated":
                turns.settings(event)
            case "transcription_session.created" | "transcription_session.updated":
                turns.settings(event)
            case "response.created":
                turns.answers(event)
            case "response.done":
                turns.done(event, data)
            case "input_audio_buffer.committed":
                turns.hears(event)
            case "error":
                turns.asked = 0 if event.answers == END_EVENT_ID else max(0, turns.asked - 1)
                self._stopped = self._stopped or event.answers == END_EVENT_ID
            case _ if event.type == f"{HEARD}failed":
                turns.not_heard(event)
            case _ if event.type == f"{HEARD}completed":
                try:
                    await turns.transcribed(event, data)
                except Refused as refused:
                    raise Ended.of(refused) from refused
            case _:
                pass

    async def _hold(self) -> None:
        """Hold money for what is said next."""
        try:
            await self._turns.ready()
        except Refused as refused:
            raise Ended.of(refused) from refused

    # ---- to the caller -----------------------------------------------------------------------------------

    async def _deliver(self, message: dict[str, Any]) -> None:
        """Give the caller a message. Raises _Over when it takes none any more."""
        if self._gone:
            raise _Over
        try:
            async with asyncio.timeout(self._clockwork.send_s):
                await self._send(message)
        except (TimeoutError, OSError, RuntimeError) as error:
            log.info("a caller of a realtime session stopped reading: %r", error)
            self._gone = True
            raise _Over from error

    async def _say(self, failure: Failure, about: bytes | None = None) -> None:
        """Tell the caller of an error, in the session."""
        text = error_event(failure, None if about is None else _event_id(about)).decode()
        await self._deliver({"type": "websocket.send", "text": text})

    async def _tell(self, ended: Ended | None) -> None:
        """Close the session at the caller's end, after a word about why unless both sides simply are done."""
        code, reason = self._socket.closed_as if self._closed else (1000, "")
        if ended is None and code not in (1000, 1001) and not 3000 <= code < 5000:
            text = "Foundry has closed the session."
            ended = Ended(own_failure(502, "upstream_closed", text), CLOSE_ERROR)
        if self._gone:
            return
        if ended is not None:
            code, reason = ended.code, ended.failure.code or ""
        reason = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        try:
            async with asyncio.timeout(TOLD_WAIT_S):
                if ended is not None:
                    await self._say(ended.failure)
                await self._deliver({"type": "websocket.close", "code": code, "reason": reason})
        except (_Over, TimeoutError):
            pass
        self._gone = True

    # ---- the end at Foundry ------------------------------------------------------------------------------

    async def _hear_out(self) -> None:
        """Ask Foundry to stop, and read on until it has said what everything came to."""
        if self._closed:
            return
        try:
            async with asyncio.timeout(self._clockwork.drain_s):
                await self._socket.send(END_EVENT.decode())
                while not (self._stopped and self._turns.quiet):
                    data = await self._next()
                    if data is None:
                        return
                    event = read_server(data)
                    self._stopped = self._stopped or event.type == "response.done"
                    await self._note(event, data)
        except (TimeoutError, UpstreamError, Ended) as error:
            log.info("the end of a realtime session was not heard: %r", error)


def _flat(group: BaseExceptionGroup[Exception]) -> "list[Exception]":
    found: list[Exception] = []
    for error in group.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _ended(errors: list[Exception]) -> Ended | None:
    """Why the gateway ends a session; None when one of both sides did."""
    for error in errors:
        if not isinstance(error, (Ended, _Over)):
            log.error("a realtime session failed", exc_info=error)
            return Ended(own_failure(500, "internal_error", "The gateway failed."), CLOSE_ERROR)
    return next((error for error in errors if isinstance(error, Ended)), None)


def _stopping() -> Ended:
    return Ended(own_failure(503, "draining", "This instance is stopping; connect again."), CLOSE_GOING)


class _Named(msgspec.Struct):
    event_id: str | None = None


def _event_id(message: bytes) -> str | None:
    """How the caller calls an event of its own, if it does."""
    try:
        return msgspec.json.decode(message, type=_Named).event_id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def error_event(failure: Failure, event_id: str | None = None) -> bytes:
    """An error as realtime clients read it; `event_id` is that of the caller's event it is about."""
    error: dict[str, object] = {
        "type": failure.kind,
        "code": failure.code,
        "message": failure.message,
        "param": failure.param,
        "event_id": event_id,
        **failure.extra,
    }
    return msgspec.json.encode({"type": "error", "event_id": "event_tundish", "error": error})
