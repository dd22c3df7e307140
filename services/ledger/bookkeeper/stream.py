"""Looking at the end of a stream without reading it."""

import msgspec

from shared.bus import Bus
from shared.errors import TundishError

NOT_FOUND = 10_037


class Stored(msgspec.Struct, frozen=True):
    """The last message of some subjects: sequence 0 and no data if there is none."""

    seq: int = 0
    data: bytes = b""


class _Problem(msgspec.Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    message: Stored = Stored()
    error: _Problem | None = None


async def last_message(bus: Bus, stream: str, subjects: str) -> Stored:
    """The last message whose subject matches. Raises BusUnavailable, TundishError."""
    raw = await bus.api(f"STREAM.MSG.GET.{stream}", msgspec.json.encode({"last_by_subj": subjects}))
    answer = msgspec.json.decode(raw, type=_Answer)
    if answer.error is not None and answer.error.err_code != NOT_FOUND:
        raise TundishError(f"the log cannot be read: {answer.error.description}")
    return answer.message
