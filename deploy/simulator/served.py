"""The log of served calls: what Foundry's bill would say, call by call."""

import logging
import os
from collections import deque
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path

import msgspec

from deploy.simulator.usage import Usage

MAX_KEPT_CALLS = 1_000_000
MAX_PAGE_CALLS = 200_000
LINE_SHAPE = b'{"completed":null,'

log = logging.getLogger(__name__)


class ServedCall(msgspec.Struct, kw_only=True, gc=False):
    """One call that is billed.

    `completed`: True once the last byte was handed to the socket, False when the reader left or a fault cut
    the answer, None while it is under way (and for calls read back from the log file). `spilled_from`: the
    provisioned deployment that was full. `provisioned`: served by provisioned units, which are paid by the hour.
    `routed`: a model router chose the model and takes its fee.
    """

    completed: bool | None = None
    seq: int
    at: datetime
    id: str
    request_id: str
    deployment: str
    model: str
    surface: str
    operation: str
    stream: bool
    status: int
    usage: Usage
    fault: str | None
    client_request_id: str | None
    spilled_from: str | None = None
    provisioned: bool = False
    routed: bool = False


class ServedPage(msgspec.Struct, kw_only=True):
    """An answer to `GET /_sim/served`; `more` says that the next page begins after the last `seq`."""

    calls: list[ServedCall]
    total: int
    more: bool


class ServedLog:
    """The last MAX_KEPT_CALLS billed calls in memory, and all of them in a file when there is one.

    A line is written when the answer is decided, before its first byte, so that a killed simulator never
    served a call that its file does not know. The file is read again at the next start.
    """

    def __init__(self, path: Path | None = None, kept: int = MAX_KEPT_CALLS) -> None:
        self._calls: deque[ServedCall] = deque(maxlen=kept)
        self._seq = 0
        self._file: int | None = None
        self._before_reading: dict[object, Callable[[], None]] = {}
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        decoder = msgspec.json.Decoder(ServedCall)
        last = b"\n"
        with path.open("rb") as lines:
            for line in lines:
                last = line
                try:
                    call = decoder.decode(line)
                except msgspec.MsgspecError:
                    log.warning("%s: a line that is no served call was passed over", path)
                    continue
                self._calls.append(call)
                self._seq = max(self._seq, call.seq)
        if not last.endswith(b"\n"):
            os.write(self._file, b"\n")

    def before_reading(self, key: object, settle: Callable[[], None]) -> None:
        """Have `settle` called before every reading: it bills what has ended since. One for each key."""
        self._before_reading.setdefault(key, settle)

    def next_seq(self) -> int:
        """The number of the next call."""
        return self._seq + 1

    def add(self, call: ServedCall) -> None:
        """Remember a call (its `seq` from `next_seq`) and write its line."""
        self._seq = call.seq
        self._calls.append(call)
        if self._file is not None:
            os.write(self._file, b"{" + msgspec.json.encode(call)[len(LINE_SHAPE) :] + b"\n")

    def page(self, since: int, limit: int = MAX_PAGE_CALLS) -> ServedPage:
        """The calls with a `seq` above `since`, oldest first, at most `limit`."""
        for settle in self._before_reading.values():
            settle()
        oldest = self._calls[0].seq if self._calls else 0
        start = max(0, since + 1 - oldest)
        # Numbers are dense unless the log file had damaged lines; then the start is too late by their number.
        start = max(0, start - (self._seq + 1 - oldest - len(self._calls)))
        size = min(limit, MAX_PAGE_CALLS)
        fitting = (call for call in islice(self._calls, start, None) if call.seq > since)
        calls = list(islice(fitting, size))
        more = bool(calls) and calls[-1].seq < self._seq
        return ServedPage(calls=calls, total=self._seq, more=more)

    def clear(self) -> None:
        """Forget everything, in the file too; numbers begin at 1 again."""
        self._calls.clear()
        self._seq = 0
        if self._file is not None:
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
