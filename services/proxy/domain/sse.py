"""Cutting a byte stream into server-sent events, wherever the network cut it."""

import re

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""The longest event: a large picture in base64."""
BOM = b"\xef\xbb\xbf"

_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))")
"""An event's last line end and the blank line after it. A carriage return at the very end may be half a line end, so
it ends nothing until the next byte is known."""
_REACH = 3
"""So many bytes before new ones may belong to the same end."""


class FrameTooLong(ValueError):
    """An event larger than any that Foundry sends."""


class FrameSplitter:
    """Feed bytes in, take whole events out; each keeps its own bytes, separator included."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0
        self._returns = False
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. Raises FrameTooLong, after all events before it were given out."""
        if self._too_long:
            raise _too_long()
        if not self._returns and b"\r" in data:
            self._returns = True
        total = self._seen + len(data)
        buffer: bytes | bytearray = data
        from_ = 0
        if self._rest:
            self._rest += data
            buffer, from_ = self._rest, max(0, self._seen - _REACH)
        frames, start = _by_ends(buffer, from_) if self._returns else _by_feeds(buffer, from_)
        if buffer is data:
            if start < len(data):
                self._rest += data[start:] if start else data
        else:
            del self._rest[:start]
        self._seen = len(self._rest)
        return frames if total <= FRAME_BYTES_MAX else self._checked(frames)

    def rest(self) -> bytes:
        """What came after the last whole event. Raises FrameTooLong."""
        if self._too_long:
            raise _too_long()
        return bytes(self._rest)

    def _checked(self, frames: list[bytes]) -> list[bytes]:
        """The events before the one that is too long are still given out, wherever the network cut the stream."""
        long = next((place for place, frame in enumerate(frames) if len(frame) > FRAME_BYTES_MAX), len(frames))
        if long == len(frames) and self._seen <= FRAME_BYTES_MAX:
            return frames
        self._too_long = True
        self._rest.clear()
        if not long:
            raise _too_long()
        return frames[:long]


def _by_feeds(buffer: bytes | bytearray, from_: int) -> tuple[list[bytes], int]:
    """The events of a stream whose lines end as they mostly do, and where what is left begins."""
    frames: list[bytes] = []
    start = 0
    while (at := buffer.find(b"\n\n", from_)) >= 0:
        frames.append(bytes(buffer[start : at + 2]))
        start = from_ = at + 2
    return frames, start


def _by_ends(buffer: bytes | bytearray, from_: int) -> tuple[list[bytes], int]:
    """The same with any line ends."""
    frames: list[bytes] = []
    start = 0
    while (found := _END.search(buffer, from_)) is not None:
        frames.append(bytes(buffer[start : found.end()]))
        start = from_ = found.end()
    return frames, start


def _too_long() -> FrameTooLong:
    return FrameTooLong(f"an event of the stream is longer than {FRAME_BYTES_MAX} bytes")


def data_of(frame: bytes) -> bytes:
    """The `data:` lines of an event, joined; empty for comments and the like."""
    if frame.startswith(b"data:") and frame.find(b"\n") >= len(frame) - 2 and b"\r" not in frame:
        return frame[5:].strip()
    lines = [line[5:].strip() for line in frame.removeprefix(BOM).splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
