"""Streams of events: broken off by a fault, and cut or padded as a caller steers."""

from collections.abc import Iterable, Iterator

import msgspec

from deploy.simulator import errors
from deploy.simulator.faults import Fault
from deploy.simulator.usage import Steering

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"


def event(data: object, name: str | None = None) -> bytes:
    """One event; `name` gives it an `event:` line."""
    head = b"" if name is None else b"event: %b\n" % name.encode()
    return head + b"data: %b\n\n" % msgspec.json.encode(data)


def chat_failure(fault: Fault, request_id: str) -> list[bytes]:
    """How a chat stream ends in an error: one event, with or without `[DONE]`."""
    error = fault.body_bytes() or msgspec.json.encode(errors.server_error(request_id))
    found = [b"data: " + error + b"\n\n"]
    return [*found, DONE] if fault.kind == "midstream_error_done" else found


def anthropic_failure(fault: Fault) -> list[bytes]:
    """How a Claude stream ends in an error."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    error = fault.body_bytes() or msgspec.json.encode(overloaded)
    return [b"event: error\ndata: " + error + b"\n\n"]


def broken(events: Iterable[bytes], before: int, failure: list[bytes]) -> Iterator[bytes]:
    """The first `before` events (never `[DONE]`), then the failure's."""
    for _, one in zip(range(before), events, strict=False):
        if one is DONE:
            break
        yield one
    yield from failure


def dressed(events: Iterable[bytes], steer: Steering) -> Iterable[bytes]:
    """The events with comments between them, joined, or cut to single bytes, as steered."""
    if not (steer.comments or steer.join or steer.tiny):
        return events
    return _dressed(events, steer)


def _dressed(events: Iterable[bytes], steer: Steering) -> Iterator[bytes]:
    kept: list[bytes] = []
    for one in events:
        kept.append(COMMENT + one if steer.comments else one)
        if len(kept) >= max(1, steer.join):
            yield from _cut(b"".join(kept), steer)
            kept.clear()
    if kept:
        yield from _cut(b"".join(kept), steer)


def _cut(piece: bytes, steer: Steering) -> Iterator[bytes]:
    if not steer.tiny:
        yield piece
        return
    for at in range(len(piece)):
        yield piece[at : at + 1]
