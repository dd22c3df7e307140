"""Passing a stream on: event by event, metered, its first events held back, settled before its last bytes."""

import asyncio
import logging
from time import perf_counter_ns

from services.proxy.answers import STREAM_TYPE, Headers, Receive, Send, head, passed_on, send_failure
from services.proxy.call import Call
from services.proxy.domain.errors.failures import Failure, error_event, own_failure
from services.proxy.domain.meters import stream_meter
from services.proxy.domain.sse import FrameSplitter, FrameTooLong
from services.proxy.relay.complaints import Complaints
from services.proxy.relay.reader import HOLD_BACK_BYTES, Reader
from services.proxy.relay.reading import believed, gateway_headers, grok, shown_to, with_wait
from services.proxy.till import Till
from services.proxy.upstream import Reply, UpstreamError
from shared.events import Outcome
from shared.tasks import Supervisor

log = logging.getLogger(__name__)

DRAIN_MAX_S = 120.0
"""How long a reply is read on after its caller has left, so that it is metered and not guessed."""
END_WAIT_S = 1.0
"""How long is waited for what follows the last event, or for the reason of a failure."""

_BROKEN = "The stream from Foundry broke off."


class StreamRelay:
    """Replies that are passed on event by event."""

    def __init__(self, till: Till, tasks: Supervisor, complaints: Complaints) -> None:
        self._till = till
        self._tasks = tasks
        self._complaints = complaints

    async def relay(self, call: Call, reply: Reply, receive: Receive, send: Send, headers: Headers) -> None:
        """Pass a stream on. What goes wrong before any content is a plain error answer, later an error event."""
        told = gateway_headers(call, [*headers, *call.limits_left, *passed_on(reply)], self._till.figures(call))
        reader = Reader(receive, send, head(200, STREAM_TYPE, told))
        passage = _Passage(call, reply, reader)
        watch = self._tasks.start(f"watch-{call.call_id}", reader.watch())
        reader.begin(self._tasks, f"release-{call.call_id}")
        try:
            try:
                await passage.run()
            finally:
                watch.cancel()
            call.upstream_until_ns = perf_counter_ns()
            await self._finish(call, reply, reader, passage, told)
        finally:
            reader.close()

    async def _finish(self, call: Call, reply: Reply, reader: Reader, passage: "_Passage", headers: Headers) -> None:
        """Settle, then let the caller have the rest, or the failure."""
        failure = passage.failure
        early = failure is not None and not passage.open and not reader.released
        if early:
            reader.refuse()
        self._settle(call, reply, reader, passage, early=early)
        if failure is None:
            await reader.end(passage.last)
            await _to_the_end(reply)
            return
        if passage.meter.failed:
            log.info("a stream of deployment %s failed: %s", call.deployment.name, failure.message)
        shown = shown_to(call, with_wait(failure, reply))
        self._complaints.note(call.deployment, failure, shown)
        if early:
            await send_failure(reader.answer, call.route.dialect, shown, headers, call.call_id)
            return
        last = passage.last
        if passage.must_tell:
            last += error_event(call.route.dialect, shown, call.call_id, endpoint=call.route.endpoint)
        await reader.end(last)

    def _settle(self, call: Call, reply: Reply, reader: Reader, passage: "_Passage", *, early: bool) -> None:
        meter, failure = passage.meter, passage.failure
        outcome: Outcome = "ok" if failure is None else failure.outcome
        status = failure.status if early and failure is not None else 200
        if reader.gone:
            outcome = "client_gone"
        reading = believed(meter.reading(), call, reply)
        if early and reading.usage is None and meter.failed:
            # Foundry said that it failed before it gave anything: as with an error's status, nothing is billed, but for
            # a prompt that its filter has read.
            if failure is not None and failure.outcome == "filtered":
                self._till.settle_filtered(call, outcome=outcome, status=status)
            else:
                self._till.settle_free(call, outcome=outcome, status=status)
            return
        self._till.settle_reading(
            call, reading, meter.content_frames, outcome=outcome, status=status, whole=failure is None
        )


class _Passage:
    """One stream on its way through meter and transform.

    `open`: content has come, so nothing is held back any more. `last`: the bytes that wait until the call is settled.
    `must_tell`: the caller has to be told of the failure in words of ours.
    """

    def __init__(self, call: Call, reply: Reply, reader: Reader) -> None:
        translated = call.way.translation is not None
        self.meter = stream_meter(
            call.way.wire, call.asked, hide_usage=call.prepared.inject and not translated, grok=grok(call.deployment)
        )
        self.open = False
        self.last = b""
        self.must_tell = False
        self._call = call
        self._reply = reply
        self._reader = reader
        self._translated = translated
        self._transform = call.transform
        self._broken: Failure | None = None
        self._mute = False
        self._out: list[bytes] = []
        self._held = 0
        self._left_ns = 0

    @property
    def failure(self) -> Failure | None:
        """What went wrong: what the stream told, else what broke it."""
        return self.meter.failure or self._broken

    async def run(self) -> None:
        """Pass everything on but the last bytes. Never raises for what upstream or the caller does."""
        splitter = FrameSplitter()
        try:
            while (chunk := await self._next()) is not None:
                if not self._call.first_byte_ns:
                    self._call.first_byte_ns = perf_counter_ns()
                for frame in splitter.feed(chunk):
                    self._take(frame)
                    if self.meter.done:
                        await self._flush()
                        return
                await self._flush()
            rest = splitter.rest()
            if rest:
                self._take(rest)
                await self._flush()
        except UpstreamError as error:
            self._break(self._lost(error), str(error))
        except FrameTooLong as error:
            self._break(own_failure(502, "upstream_stream_broken", _BROKEN), str(error))
        except TimeoutError:
            self._break(own_failure(504, "upstream_stream_broken", _BROKEN), "nothing more came in time")
        if not self.meter.done and not self.meter.ends_by_close and self.failure is None:
            self._break(own_failure(502, "upstream_stream_broken", _BROKEN), "it ended without its last event")
        elif self.failure is None and self._transform is not None:
            self.last += self._changed(None)

    def _lost(self, error: UpstreamError) -> Failure:
        """The failure of a connection that broke: before any content it is told as one of a whole reply is."""
        if self.open or self._reader.released:
            return own_failure(502, "upstream_stream_broken", _BROKEN)
        if error.kind == "timeout":
            return own_failure(504, "upstream_timeout", "Foundry did not answer in time.")
        text = "The connection to Foundry broke before its reply was whole."
        return own_failure(502, "upstream_reset", text)

    async def _next(self) -> bytes | None:
        """The next bytes. After a failure only its reason is waited for, after the caller has left only the usage."""
        if self.meter.failed:
            try:
                async with asyncio.timeout(END_WAIT_S):
                    return await self._reply.chunk()
            except (TimeoutError, UpstreamError):
                return None
        if self._reader.gone:
            self._left_ns = self._left_ns or perf_counter_ns()
            if perf_counter_ns() - self._left_ns > DRAIN_MAX_S * 1e9:
                raise TimeoutError
        return await self._reply.chunk()

    def _take(self, frame: bytes) -> None:
        """Meter one event and decide where its bytes go."""
        meter = self.meter
        failed_before = meter.failure
        passed = meter.feed(frame)
        if meter.failure is not None:
            self._take_failure(passed, told=meter.failure is not failed_before)
            return
        if self._transform is not None and passed:
            passed = self._changed(passed)
        if meter.done:
            end = self._changed(None) if self._transform is not None else b""
            self.last = passed + end
            return
        self._out.append(passed)
        if not self.open and self._broken is None:
            self._held += len(passed)
            self.open = meter.begun or self._held > HOLD_BACK_BYTES

    def _take_failure(self, passed: bytes, *, told: bool) -> None:
        """An error event, or what follows one. It passes as it came if there is nothing in it to hide."""
        failure = self.meter.failure
        assert failure is not None
        if told:
            self.must_tell = self._translated or shown_to(self._call, failure) != failure
        if self.must_tell:
            return
        self.last += self._changed(passed) if self._transform is not None and passed else passed

    def _changed(self, frame: bytes | None) -> bytes:
        """The caller's events for one event, or for the end (None). A stream that cannot be understood is no longer
        passed on, but still read, for its usage."""
        assert self._transform is not None
        if self._mute:
            return b""
        try:
            return self._transform.end() if frame is None else self._transform.feed(frame)
        except ValueError as error:
            self._mute = True
            text = "Foundry's stream cannot be put into the words of this API."
            self._break(own_failure(502, "upstream_bad_reply", text), str(error))
            return b""

    async def _flush(self) -> None:
        out = b"".join(self._out)
        self._out.clear()
        await self._reader.pass_on(out)
        if self.open and not self._reader.released:
            await self._reader.release()

    def _break(self, failure: Failure, why: str) -> None:
        log.info("a stream of deployment %s broke: %s", self._call.deployment.name, why)
        if self.meter.failure is None and self._broken is None:
            self._broken = failure
            self.must_tell = True


async def _to_the_end(reply: Reply) -> None:
    """Read what follows the last event, so that the connection can serve again."""
    try:
        async with asyncio.timeout(END_WAIT_S):
            while await reply.chunk() is not None:
                pass
    except (UpstreamError, TimeoutError):
        return
