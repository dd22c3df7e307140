"""What all meters of streams have in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from services.proxy.domain.errors.failures import WAIT_S_MAX, Failure, failure_of_event
from services.proxy.domain.meters.reading import NOTHING, UNREADABLE, Reading
from services.proxy.domain.sse import data_of
from shared.pricing import Usage


class StreamMeter(ABC):
    """Reads a stream event by event.

    `begun`: something of the answer itself has come. `done`: the last event has. `failure`: the stream told of an
    error. `content_frames`: how many events carried content, about a token each. `ends_by_close`: the wire has no
    last event.
    """

    ends_by_close: ClassVar[bool] = False

    def __init__(self) -> None:
        self.begun = False
        self.done = False
        self.failure: Failure | None = None
        self.content_frames = 0

    @property
    def failed(self) -> bool:
        """Whether the stream told of an error."""
        return self.failure is not None

    @abstractmethod
    def feed(self, frame: bytes) -> bytes:
        """Note what an event says; the bytes to pass on (empty: none)."""

    @abstractmethod
    def reading(self) -> Reading:
        """What the stream has said so far."""

    def partial(self) -> Usage | None:
        """The least that a stream has used which has not told its usage yet; None where it says nothing before its
        end."""
        return None

    def _note_failure(self, data: bytes) -> None:
        """Keep the failure that says most: Foundry may send a bare one before the one with the reason."""
        failure = failure_of_event(data)
        if failure is not None and (self.failure is None or self.failure.code in (None, BARE)):
            self.failure = hinted(failure, data)


BARE = "response_failed"
"""The code of a failure whose reason is still to come."""


class _Hints(msgspec.Struct):
    headers: dict[str, str] = {}


class _Error(msgspec.Struct):
    error: _Hints | None = None


class _Event(msgspec.Struct):
    type: str = ""


_event = msgspec.json.Decoder(_Event)
_hints = msgspec.json.Decoder(_Error)


def hinted(failure: Failure, data: bytes) -> Failure:
    """A failure with the wait that the event's own `headers` ask for, unless its text already does."""
    if failure.retry_after is not None or b'"headers"' not in data:
        return failure
    try:
        error = _hints.decode(data).error
    except UNREADABLE:
        return failure
    said = {name.lower(): value for name, value in error.headers.items()} if error is not None else {}
    return waiting(failure, said.get("retry-after"), said.get("retry-after-ms"))


def waiting(failure: Failure, seconds: str | None, milliseconds: str | None) -> Failure:
    """A failure that says how long to wait, if it can be tried again and these headers say it."""
    waits = [int(value) * unit for value, unit in ((seconds, 1_000), (milliseconds, 1)) if _whole(value) and value]
    wait_ms = max(waits, default=0)
    if failure.retry_after is not None or not failure.retryable or not 0 < wait_ms <= WAIT_S_MAX * 1_000:
        return failure
    return msgspec.structs.replace(failure, retry_after=str(-(-wait_ms // 1_000)), retry_after_ms=wait_ms)


def _whole(value: str | None) -> bool:
    return value is not None and value.isascii() and value.isdecimal() and len(value) <= 9


class TypedMeter(StreamMeter):
    """Streams whose events say their `type` in JSON, with or without `event:` lines.

    `QUIET` are types that carry nothing of the answer yet. After the answer has begun, only events that hold one of
    `MARKS` in their bytes are read; all others are content.
    """

    QUIET: ClassVar[frozenset[str]] = frozenset()
    MARKS: ClassVar[tuple[bytes, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._reading = NOTHING

    def feed(self, frame: bytes) -> bytes:
        """Note what an event says; it passes as it came."""
        if self.begun and not any(mark in frame for mark in self.MARKS) and b"[DONE]" not in frame:
            if frame[:1] != b":":
                self.content_frames += 1
            return frame
        data = data_of(frame)
        if data == b"[DONE]":
            self.done = True
        elif data:
            self._look(data)
        return frame

    def reading(self) -> Reading:
        """What the stream has said so far."""
        return self._reading

    def _look(self, data: bytes) -> None:
        try:
            kind = _event.decode(data).type
        except UNREADABLE:
            return
        if b'"error"' in data:
            self._note_failure(data)
        if kind and kind not in self.QUIET and not self.failed:
            self.begun = True
            self.content_frames += 1
        self.event(kind, data)

    @abstractmethod
    def event(self, kind: str, data: bytes) -> None:
        """An event that must be read: its type and its JSON."""


class OpaqueMeter(StreamMeter):
    """Streams of which nothing is known: they pass, and end when they end."""

    ends_by_close = True

    def feed(self, frame: bytes) -> bytes:
        """Everything passes; anything but a comment is content."""
        if data_of(frame):
            self.begun = True
            self.content_frames += 1
        return frame

    def reading(self) -> Reading:
        """Nothing."""
        return NOTHING
