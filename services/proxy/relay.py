"""Passing a reply on: whole or event by event, bytes unchanged, settled before the caller has the last of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any

import msgspec

from services.proxy.domain.dialect import error_body, error_event
from services.proxy.domain.meter import StreamMeter, content_tokens, read_body
from services.proxy.domain.sse import FrameSplitter, FrameTooLong
from services.proxy.till import Call, Till
from services.proxy.upstream import Reply, UpstreamError
from shared.events import Outcome
from shared.tasks import Supervisor

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

REPLY_BYTES_MAX = 64 * 1024 * 1024
SEND_TIMEOUT_S = 60.0
DRAIN_MAX_S = 120.0
"""How long a reply is read on after its caller has left, so that it is metered and not guessed."""
END_WAIT_S = 1.0

SAFE_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
    (b"cache-control", b"no-store"),
]
PASSED_ON = (
    "apim-request-id",
    "x-request-id",
    "x-ms-region",
    "x-ms-rai-invoked",
    "openai-processing-ms",
    "retry-after",
    "retry-after-ms",
)
JSON_TYPE = b"application/json"
STREAM_TYPE = b"text/event-stream; charset=utf-8"


def head(status: int, content_type: bytes, headers: Headers) -> dict[str, Any]:
    """The start of an answer to the caller."""
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), *SAFE_HEADERS, *headers],
    }


def passed_on(reply: Reply) -> Headers:
    """The headers of Foundry's that callers may see."""
    return [
        (name.encode(), value.encode("latin-1", "replace"))
        for name in PASSED_ON
        if (value := reply.header(name)) is not None
    ]


class WholeRelay:
    """Replies that are read whole before they are passed on."""

    def __init__(self, till: Till) -> None:
        self._till = till

    async def relay(self, call: Call, reply: Reply, send: Send, headers: Headers) -> None:
        """Read, settle, pass on. Raises UpstreamError while nothing was sent yet."""
        body = await _read_whole(reply)
        call.upstream_until_ns = perf_counter_ns()
        if body is None:
            self._till.settle_lost(call, outcome="upstream_error", status=reply.status)
            text = f"Foundry's reply is larger than {REPLY_BYTES_MAX} bytes."
            await send_error(send, 502, "upstream_reply_too_large", text, [*headers, *call.limits_left])
        elif reply.status == 200:
            await self._good(call, reply, body, send, headers)
        else:
            self._till.settle_free(call, outcome=_outcome(reply.status, body), status=reply.status)
            await _bad(reply, body, send, [*headers, *call.limits_left])

    async def _good(self, call: Call, reply: Reply, body: bytes, send: Send, headers: Headers) -> None:
        reading = read_body(body)
        kind = (reply.header("content-type") or "").lower()
        is_json = kind.startswith("application/json") and body.lstrip()[:1] == b"{"
        outcome: Outcome = "ok" if is_json else "upstream_error"
        tokens = 0 if reading.usage is not None else content_tokens(body)
        cost = self._till.settle_reading(call, reading, tokens, outcome=outcome, status=200)
        headers = [*headers, *call.limits_left]
        if not is_json:
            text = "Foundry answered with something that is not a model's reply."
            await send_error(send, 502, "upstream_bad_reply", text, headers)
            return
        headers = [
            *headers,
            *passed_on(reply),
            (b"x-tundish-cost-nusd", str(cost).encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send(head(200, JSON_TYPE, headers))
        await send({"type": "http.response.body", "body": body})


class StreamRelay:
    """Replies that are passed on event by event."""

    def __init__(self, till: Till, tasks: Supervisor) -> None:
        self._till = till
        self._tasks = tasks

    async def relay(
        self, call: Call, reply: Reply, receive: Receive, send: Send, headers: Headers, *, hide_usage: bool
    ) -> None:
        """Pass a stream on. What goes wrong after its head was sent ends it with an error event."""
        meter = StreamMeter(hide_usage=hide_usage)
        reader = _Reader(receive, send)
        assert call.opened is not None
        watch = self._tasks.start(f"watch-{call.opened.call_id}", reader.watch())
        failure: str | None = None
        try:
            await reader.start(head(200, STREAM_TYPE, [*headers, *call.limits_left, *passed_on(reply)]))
            last = await self._pump(call, reply, meter, reader)
        except (UpstreamError, FrameTooLong, TimeoutError) as error:
            failure, last = str(error) or "the caller left and the reply took too long", b""
        finally:
            watch.cancel()
        call.upstream_until_ns = perf_counter_ns()
        self._settle(call, meter, reader, failure)
        if failure is not None:
            log.info("a stream of deployment %s broke: %s", call.deployment.name, failure)
            last = error_event("The stream from Foundry broke off.", kind="server_error", code="upstream_stream_broken")
        await reader.pass_on(last, more=False)
        if failure is None:
            await _to_the_end(reply)

    async def _pump(self, call: Call, reply: Reply, meter: StreamMeter, reader: "_Reader") -> bytes:
        """Pass events on until the stream is done; the bytes held back until the call is settled."""
        splitter = FrameSplitter()
        left_at = 0
        while (chunk := await reply.chunk()) is not None:
            if not call.first_byte_ns:
                call.first_byte_ns = perf_counter_ns()
            out: list[bytes] = []
            for frame in splitter.feed(chunk):
                passed = meter.feed(frame)
                if meter.done:
                    await reader.pass_on(b"".join(out), more=True)
                    return passed
                out.append(passed)
            await reader.pass_on(b"".join(out), more=True)
            if reader.gone:
                left_at = left_at or perf_counter_ns()
                if perf_counter_ns() - left_at > DRAIN_MAX_S * 1e9:
                    raise TimeoutError
        rest = splitter.rest()
        return meter.feed(rest) if rest else b""

    def _settle(self, call: Call, meter: StreamMeter, reader: "_Reader", failure: str | None) -> None:
        outcome: Outcome = "ok"
        if failure is not None or meter.failed or not meter.done:
            outcome = "upstream_error"
        if reader.gone:
            outcome = "client_gone"
        whole = failure is None and meter.done
        self._till.settle_reading(call, meter.reading(), meter.content_frames, outcome=outcome, status=200, whole=whole)


class _Reader:
    """The caller at the other end of a stream: may be slow, may leave; neither stops the metering."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.gone = False

    async def watch(self) -> None:
        """Notice that the caller has left."""
        while not self.gone:
            if (await self._receive())["type"] == "http.disconnect":
                self.gone = True

    async def start(self, message: dict[str, Any]) -> None:
        """Send the head."""
        await self._deliver(message)

    async def pass_on(self, data: bytes, *, more: bool) -> None:
        """Send bytes unless the caller has left; empty pieces are not sent."""
        if data or not more:
            await self._deliver({"type": "http.response.body", "body": data, "more_body": more})

    async def _deliver(self, message: dict[str, Any]) -> None:
        if self.gone:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._send(message)
        except (TimeoutError, OSError, RuntimeError) as error:
            log.info("a caller stopped reading: %r", error)
            self.gone = True


async def send_error(
    send: Send, status: int, code: str, message: str, headers: Headers, *, kind: str = "server_error"
) -> None:
    """An answer of ours in OpenAI's error shape."""
    body = error_body(message, kind=kind, code=code)
    await send(head(status, JSON_TYPE, [*headers, (b"content-length", str(len(body)).encode())]))
    await send({"type": "http.response.body", "body": body})


async def _read_whole(reply: Reply) -> bytes | None:
    """The body; None when it is larger than we take."""
    first = await reply.chunk()
    if first is None:
        return b""
    second = await reply.chunk()
    if second is None:
        return first
    parts = [first, second]
    size = len(first) + len(second)
    while (part := await reply.chunk()) is not None:
        size += len(part)
        if size > REPLY_BYTES_MAX:
            return None
        parts.append(part)
    return b"".join(parts)


async def _to_the_end(reply: Reply) -> None:
    """Read what follows the last event, so that the connection can serve again."""
    try:
        async with asyncio.timeout(END_WAIT_S):
            while await reply.chunk() is not None:
                pass
    except (UpstreamError, TimeoutError):
        return


class _ErrorObject(msgspec.Struct):
    code: str | int | None = None
    message: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorObject | None = None
    message: str | None = None


def _error_of(body: bytes) -> _ErrorObject | None:
    try:
        said = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.MsgspecError, ValueError):
        return None
    return said.error or (_ErrorObject(message=said.message) if said.message else None)


def _outcome(status: int, body: bytes) -> Outcome:
    if status == 400:
        error = _error_of(body)
        return "filtered" if error is not None and error.code == "content_filter" else "upstream_error"
    return "timeout" if status in (408, 504) else "upstream_error"


async def _bad(reply: Reply, body: bytes, send: Send, headers: Headers) -> None:
    """Pass an error of Foundry's on in the caller's shape; what only the platform team can mend becomes a 502."""
    status = reply.status
    headers = [*headers, *passed_on(reply)]
    error = _error_of(body)
    code = str(error.code) if error is not None and error.code is not None else None
    if 300 <= status < 400:
        text = "Foundry answered with a redirect, which is never followed. Check api_base of this deployment."
        await send_error(send, 502, "upstream_redirect", text, headers)
    elif status in (401, 403):
        text = "Foundry refused the gateway's own credential. The platform team must check this deployment."
        await send_error(send, 502, "upstream_auth_failed", text, [*headers, (b"x-should-retry", b"false")])
    elif status == 404 and code in ("DeploymentNotFound", "404", None):
        text = "Foundry does not know this deployment. The platform team must check the gateway's configuration."
        await send_error(send, 502, "upstream_deployment_not_found", text, [*headers, (b"x-should-retry", b"false")])
    elif error is not None and body.lstrip()[:9].startswith(b'{"error"'):
        await send(head(status, JSON_TYPE, [*headers, (b"content-length", str(len(body)).encode())]))
        await send({"type": "http.response.body", "body": body})
    else:
        text = (error.message if error is not None else None) or f"Foundry answered with HTTP {status}."
        kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
        await send_error(
            send, status if 400 <= status < 600 else 502, code or "upstream_error", text, headers, kind=kind
        )
