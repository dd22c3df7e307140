"""Cutting a byte stream into server-sent events, wherever the network cut it."""

FRAME_BYTES_MAX = 4 * 1024 * 1024


class FrameTooLong(ValueError):
    """An event larger than any that Foundry sends."""


class FrameSplitter:
    """Feed bytes in, take whole events out; each keeps its own bytes, separator included."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. Raises FrameTooLong."""
        buffer = self._rest + data if self._rest else data
        frames: list[bytes] = []
        start = 0
        if b"\r" not in buffer:
            while (end := buffer.find(b"\n\n", start)) >= 0:
                frames.append(buffer[start : end + 2])
                start = end + 2
        else:
            while (cut := _blank_line(buffer, start)) > 0:
                frames.append(buffer[start:cut])
                start = cut
        self._rest = buffer[start:]
        if len(self._rest) > FRAME_BYTES_MAX:
            raise FrameTooLong(f"an event of the stream is longer than {FRAME_BYTES_MAX} bytes")
        return frames

    def rest(self) -> bytes:
        """What came after the last whole event."""
        return self._rest


def _blank_line(buffer: bytes, start: int) -> int:
    """Where the first event after `start` ends, with any of the three line ends; 0 if none has ended yet."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := buffer.find(mark, start)) >= 0]
    return min(ends, default=0)


def data_of(frame: bytes) -> bytes:
    """The `data:` lines of an event, joined; empty for comments and the like."""
    if frame.startswith(b"data:") and frame.find(b"\n") >= len(frame) - 2:
        return frame[5:].strip()
    lines = [line[5:].strip() for line in frame.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
