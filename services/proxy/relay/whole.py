"""Passing whole replies on: read, settled, then sent, unchanged unless the caller speaks another dialect."""

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter_ns

import msgspec

from services.proxy.answers import (
    AUDIO_TYPES,
    BINARY_TYPE,
    IMAGE_TYPES,
    JSON_TYPE,
    TEXT_TYPE,
    Headers,
    Receive,
    Send,
    head,
    passed_on,
    safe_type,
    send_error,
    send_failure,
)
from services.proxy.call import Call
from services.proxy.domain.errors.failures import Failure, failure_of_event, own_failure, read_failure
from services.proxy.domain.meters import StreamMeter, content_tokens, read_reply, stream_meter
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.sse import FrameSplitter, FrameTooLong
from services.proxy.relay.complaints import Complaints
from services.proxy.relay.reader import SEND_TIMEOUT_S
from services.proxy.relay.reading import believed, gateway_headers, grok, shown_to
from services.proxy.relay.stream import StreamRelay
from services.proxy.till import Till
from services.proxy.upstream import Reply
from shared.events import Outcome

__all__ = [
    "JSON_TYPE",
    "SEND_TIMEOUT_S",
    "Follow",
    "Headers",
    "Receive",
    "Send",
    "StreamRelay",
    "WholeRelay",
    "head",
    "send_error",
]

log = logging.getLogger(__name__)

Follow = Callable[[Call, bytes], Awaitable[None]]
"""Takes a call over whose response is made in the background."""

REPLY_BYTES_MAX = 64 * 1024 * 1024

_SOUND = (*(f"audio/{name}".encode() for name in AUDIO_TYPES), BINARY_TYPE)
_PICTURES = tuple(f"image/{name}".encode() for name in IMAGE_TYPES)
_ONLY_JSON = (JSON_TYPE,)
PLAIN_JSON = JSON_TYPE.decode()
TYPES = {
    Endpoint.SPEECH: _SOUND,
    Endpoint.TRANSCRIPTIONS: (JSON_TYPE, TEXT_TYPE),
    Endpoint.TRANSLATIONS: (JSON_TYPE, TEXT_TYPE),
    Endpoint.RAW: (JSON_TYPE, TEXT_TYPE, *_SOUND, *_PICTURES),
}
"""The content types that are passed on, where they are not JSON alone."""


class WholeRelay:
    """Replies that are read whole before they are passed on."""

    def __init__(self, till: Till, complaints: Complaints, follow: Follow | None = None) -> None:
        self._till = till
        self._complaints = complaints
        self._follow = follow

    async def relay(self, call: Call, reply: Reply, send: Send, headers: Headers) -> None:
        """Read, settle, pass on. Raises UpstreamError while nothing was sent yet."""
        body = await _read_whole(reply)
        call.upstream_until_ns = perf_counter_ns()
        if body is None:
            self._till.settle_lost(call, outcome="upstream_error", status=reply.status)
            text = f"Foundry's reply is larger than {REPLY_BYTES_MAX} bytes."
            await self._fail(call, own_failure(502, "upstream_reply_too_large", text), send, headers)
        elif reply.status == 200:
            await self._good(call, reply, body, send, headers)
        else:
            failure = read_failure(
                reply.status,
                body,
                retry_after=reply.header("retry-after"),
                retry_after_ms=reply.header("retry-after-ms"),
            )
            await self._refused(call, reply, failure, send, headers, reply.status)

    async def _good(self, call: Call, reply: Reply, body: bytes, send: Send, headers: Headers) -> None:
        content_type = reply.header("content-type") or ""
        if content_type != PLAIN_JSON and content_type.lower().startswith("text/event-stream"):
            await self._streamed(call, reply, body, send, headers)
            return
        wire = call.way.wire
        reading = believed(read_reply(wire, body, content_type, call.asked), call, reply)
        if reading.usage is None and b'"error"' in body and wire is not Endpoint.RESPONSES:
            failure = failure_of_event(body)
            if failure is not None:
                await self._refused(call, reply, failure, send, headers, failure.status)
                return
        kind = _type_of(wire, content_type, body)
        if kind == JSON_TYPE and reading.usage is None and not _whole_json(body):
            kind = None
        out = body if kind is None else _changed(call, body)
        if call.asked.background and kind is not None and out is not None and self._follow is not None:
            call.followed = True
            await self._follow(call, body)
            await self._pass(call, reply, JSON_TYPE, out, send, headers, None)
            return
        outcome: Outcome = "ok" if out is not None and kind is not None else "upstream_error"
        tokens = 0 if reading.usage is not None else content_tokens(wire, body)
        cost = self._till.settle_reading(call, reading, tokens, outcome=outcome, status=200)
        if out is None or kind is None:
            text = "Foundry answered with something that is not a model's reply."
            await self._fail(call, own_failure(502, "upstream_bad_reply", text), send, headers)
            return
        await self._pass(call, reply, kind, out, send, headers, cost)

    async def _pass(
        self, call: Call, reply: Reply, kind: bytes, body: bytes, send: Send, headers: Headers, cost: int | None
    ) -> None:
        """Send a good answer; `cost` None: the call goes on."""
        given = [*headers, *call.limits_left, *passed_on(reply)]
        told = gateway_headers(call, given, self._till.figures(call), cost)
        await send(head(200, kind, [*told, (b"content-length", b"%d" % len(body))]))
        await send({"type": "http.response.body", "body": body})

    async def _streamed(self, call: Call, reply: Reply, body: bytes, send: Send, headers: Headers) -> None:
        """A stream that nobody asked for: it is metered and its failure told, but it is no answer to this call."""
        meter = stream_meter(call.way.wire, call.asked, hide_usage=False, grok=grok(call.deployment))
        _meter_whole(meter, body)
        reading = believed(meter.reading(), call, reply)
        if meter.failure is not None and reading.usage is None:
            await self._refused(call, reply, meter.failure, send, headers, meter.failure.status)
            return
        self._till.settle_reading(
            call, reading, meter.content_frames, outcome="upstream_error", status=200, whole=meter.done
        )
        text = "Foundry answered with a stream, which was not asked for."
        await self._fail(call, own_failure(502, "upstream_bad_reply", text), send, headers)

    async def _refused(
        self, call: Call, reply: Reply, failure: Failure, send: Send, headers: Headers, status: int
    ) -> None:
        """Foundry said no: nothing is charged, but for a prompt that its filter has read. What only the platform team
        can mend becomes a 502."""
        if failure.outcome == "filtered":
            self._till.settle_filtered(call, outcome="filtered", status=status)
        else:
            self._till.settle_free(call, outcome=failure.outcome, status=status)
        await self._fail(call, failure, send, [*headers, *passed_on(reply)])

    async def _fail(self, call: Call, failure: Failure, send: Send, headers: Headers) -> None:
        shown = shown_to(call, failure)
        self._complaints.note(call.deployment, failure, shown)
        told = gateway_headers(call, [*headers, *call.limits_left], self._till.figures(call))
        await send_failure(send, call.route.dialect, shown, told, call.call_id)


def _type_of(wire: Endpoint, content_type: str, body: bytes) -> bytes | None:
    """The content type for the caller; None for what is no reply of this wire."""
    if content_type == PLAIN_JSON and wire not in TYPES:
        return JSON_TYPE if body[:1] == b"{" or body.lstrip()[:1] == b"{" else None
    kind = safe_type(content_type)
    if kind is None or kind not in TYPES.get(wire, _ONLY_JSON):
        return None
    if kind == JSON_TYPE and body.lstrip()[:1] != b"{":
        return None
    return kind


def _whole_json(body: bytes) -> bool:
    """Whether a reply can be read to its end. One that told its usage has been."""
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _changed(call: Call, body: bytes) -> bytes | None:
    """The body for the caller; None when it cannot be put into the caller's dialect."""
    if call.transform is None:
        return body
    try:
        return call.transform.whole(body)
    except ValueError as error:
        log.warning("a reply of deployment %s cannot be translated: %s", call.deployment.name, error)
        return None


def _meter_whole(meter: StreamMeter, body: bytes) -> None:
    splitter = FrameSplitter()
    try:
        for frame in splitter.feed(body):
            meter.feed(frame)
        meter.feed(splitter.rest())
    except FrameTooLong:
        return


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
