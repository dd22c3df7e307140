"""The ledger's side of the conversation about money, in memory: one account, one enforcer, scripted faults."""

import asyncio
from collections import deque
from collections.abc import Callable

from shared.allotment import Ack, Answer, Ask, Figure, Known, NotActive, Refusal, Verdict, decode_request, encode
from shared.allotment import Request as Asked
from shared.errors import BusUnavailable
from shared.events import AccountWindow
from shared.ids import AccountId
from tests.support.clock import FakeClock

ACCOUNT = AccountId("acc-key")
TERM = (AccountWindow(ACCOUNT, 4),)


class FakeEnforcer:
    """Grants exactly what is needed while the limit allows; every figure is cumulative per serial.

    `short` is the verdict otherwise.
    `others` is what other instances have spent: with it, answers carry figures.
    `faults` are taken one per request: `lost`, `answer_lost`, `not_active`, `garbage`.
    """

    def __init__(self, clock: FakeClock, limit: int) -> None:
        self.clock = clock
        self.limit = limit
        self.epoch = 1
        self.admit_for_ms = 600_000
        self.granted: dict[int, int] = {}
        self.returned: dict[int, int] = {}
        self.spent: dict[int, int] = {}
        self.heard: list[Asked] = []
        self.faults: deque[str] = deque()
        self.verdict: Verdict | None = None
        self.short: Verdict = "exceeded"
        self.closed = False
        self.others: int | None = None
        self.gate: asyncio.Event | None = None
        self.on_ask: Callable[[Ask], None] = lambda _: None

    @property
    def asks(self) -> list[Ask]:
        """The asks that came, retransmissions included."""
        return [request for request in self.heard if isinstance(request, Ask)]

    def out(self) -> int:
        """Money granted and not returned."""
        return sum(self.granted.values()) - sum(self.returned.values())

    async def __call__(self, data: bytes) -> bytes:
        fault = self.faults.popleft() if self.faults else None
        if fault == "lost":
            self._time_passes()
        request = decode_request(data)
        self.heard.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if fault == "not_active":
            self.clock.advance(0.25)
            return encode(NotActive(sent_ms=request.sent_ms))
        if fault == "garbage":
            return b"rubbish"
        for row in getattr(request, "rows", ()):
            self.returned[row.serial] = max(row.returned, self.returned.get(row.serial, 0))
            self.spent[row.serial] = row.spent
        answer = encode(self._answer(request) if isinstance(request, Ask) else self._ack(request))
        if fault == "answer_lost":
            self._time_passes()
        return answer

    def _time_passes(self) -> None:
        self.clock.advance(0.25)
        raise BusUnavailable("no answer")

    def _answer(self, ask: Ask) -> Answer:
        self.on_ask(ask)
        have = self.granted.get(ask.serial, 0)
        verdict: Verdict = self.verdict or "ok"
        room = self.limit - self.out()
        refusal: Refusal | None = None
        if verdict == "ok":
            if ask.need - have <= room:
                have = max(have, min(ask.want, have + room))
                self.granted[ask.serial] = have
            else:
                verdict = self.short
        if verdict in ("exceeded", "reserved"):
            refusal = self.refusal()
        counted = self.spent.get(ask.serial, 0)
        figures: tuple[Figure, ...] = ()
        if self.others is not None:
            figures = (Figure(ACCOUNT, self.limit, self.others + sum(self.spent.values()), own=True),)
        return Answer(
            epoch=self.epoch,
            serial=ask.serial,
            rseq=ask.rseq,
            granted=have,
            verdict=verdict,
            sent_ms=ask.sent_ms,
            admit_for_ms=self.admit_for_ms,
            term=TERM if have else (),
            refusal=refusal,
            figures=figures,
            counted=counted if figures else 0,
        )

    def refusal(self) -> Refusal:
        """Why there is no money."""
        room = self.limit - self.out()
        return Refusal(
            account=ACCOUNT, scope_kind="key", scope_id="k1", limit=self.limit, spent=0, reserved=0, room=room,
            window_start_s=0,
        )  # fmt: skip

    def _ack(self, request: Asked) -> Ack:
        known = tuple(
            Known(serial, granted, self.returned.get(serial, 0), TERM, self.admit_for_ms)
            for serial, granted in self.granted.items()
        )
        return Ack(epoch=self.epoch, sent_ms=request.sent_ms, closed=self.closed, known=known)
