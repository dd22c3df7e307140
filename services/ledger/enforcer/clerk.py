"""Answers proxies. One append is in flight at a time; what arrives meanwhile is the next batch.

No reply leaves before the records it rests on were acknowledged. When the outcome of an append is unknown, or
somebody else has appended, the whole batch is dropped and the office is taken anew.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec

from services.ledger.domain.cross import crossings
from services.ledger.domain.decide import decide, knows_policy_of, listen
from services.ledger.domain.fold import fold_grants
from services.ledger.domain.state import LedgerState
from services.ledger.enforcer.meters import Meters
from shared.allotment import Answer, NotActive, Reply, Request, decode_request
from shared.allotment import encode as encode_reply
from shared.bus import Request as Letter
from shared.clock import Clock
from shared.errors import BusError
from shared.events import AllotmentGranted, GrantBatch, GrantEntry, ThresholdCrossed
from shared.events import encode as encode_event
from shared.ids import EventId, uuid7

log = logging.getLogger(__name__)

BATCH_MAX = 512
"""Most requests decided in one append."""
QUEUE_MAX = 20_000
"""Most requests waiting; more are told to ask again."""
PARKED_MAX = 2_000
PARK_MS = 1_000
"""How long an ask waits for the policy that its proxy knows and this enforcer does not know yet."""
PARK_TICK_S = 0.1
CROSSINGS_MAX = 200
APPEND_BYTES_MAX = 3 * 1024 * 1024
"""A larger batch is halved; the stream takes messages of 4 MiB."""

Append = Callable[[bytes, int, str], Awaitable[int]]
"""(data, expected last decision, message id) → sequence. Raises BusError."""


class _Waiting(msgspec.Struct):
    letter: Letter
    request: Request
    until_ms: int


class Clerk:
    """Serves one partition while `open`. `on_doubt` hears why it stopped, `on_commit` of each folded append."""

    def __init__(
        self,
        state: LedgerState,
        clock: Clock,
        meters: Meters,
        *,
        source: str,
        append: Append,
        lease_fresh: Callable[[], bool],
        on_doubt: Callable[[str], None],
        on_commit: Callable[[], None],
    ) -> None:
        self._state = state
        self._clock = clock
        self._meters = meters
        self._source = source
        self._append = append
        self._lease_fresh = lease_fresh
        self._on_doubt = on_doubt
        self._on_commit = on_commit
        self._queue: deque[_Waiting] = deque()
        self._parked: list[_Waiting] = []
        self._told: list[ThresholdCrossed] = []
        self._work = asyncio.Event()
        self.open = False

    @property
    def waiting(self) -> int:
        """How many requests wait for a decision."""
        return len(self._queue) + len(self._parked)

    def begin(self) -> None:
        """Start to decide: the office is taken."""
        self.open = True
        self._told.clear()
        self.wake()

    async def pause(self, reason: str) -> None:
        """Stop deciding and send those who wait away."""
        self.open = False
        left = [*self._queue, *self._parked]
        self._queue.clear()
        self._parked.clear()
        await self._send_away(left, reason)

    def wake(self) -> None:
        """Look for work: something was read or came in."""
        self._work.set()

    def tell(self, record: ThresholdCrossed) -> None:
        """Append with the next batch that a signal is out."""
        self._told.append(record)
        self.wake()

    async def receive(self, letter: Letter) -> None:
        """Take in one request of a proxy."""
        try:
            request = decode_request(letter.data)
        except msgspec.MsgspecError as error:
            self._meters.unreadable.add(1, "request")
            log.error("a request on %s cannot be read: %s", letter.subject, error)
            await letter.respond(encode_reply(NotActive(sent_ms=0, reason=f"unreadable: {error}")))
            return
        waiting = _Waiting(letter, request, self._clock.monotonic_ms() + PARK_MS)
        if not self.open or len(self._queue) >= QUEUE_MAX:
            reason = "busy: too many requests wait" if self.open else "this enforcer does not hold the office"
            await self._send_away([waiting], reason)
            return
        self._queue.append(waiting)
        self._work.set()

    async def run(self) -> None:
        """Decide for ever."""
        while True:
            self._work.clear()
            await self._unpark()
            while self.open and (self._queue or self._told or self._state.dirty):
                await self._commit(await self._next(BATCH_MAX))
                await self._unpark()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PARK_TICK_S if self._parked else None):
                    await self._work.wait()

    async def _next(self, most: int) -> list[_Waiting]:
        """The next requests in order of arrival; those of proxies with newer policy are set aside."""
        batch: list[_Waiting] = []
        too_many: list[_Waiting] = []
        while self._queue and len(batch) < most:
            waiting = self._queue.popleft()
            if knows_policy_of(self._state, waiting.request):
                batch.append(waiting)
            elif len(self._parked) < PARKED_MAX:
                self._parked.append(waiting)
            else:
                too_many.append(waiting)
        await self._send_away(too_many, "busy: too many requests wait for newer policy")
        return batch

    async def _unpark(self) -> None:
        """Put back those whose policy has arrived; send those away who have waited long enough."""
        if not self._parked:
            return
        now_ms = self._clock.monotonic_ms()
        ready: list[_Waiting] = []
        late: list[_Waiting] = []
        still: list[_Waiting] = []
        for entry in self._parked:
            known = knows_policy_of(self._state, entry.request)
            (ready if known else late if entry.until_ms <= now_ms else still).append(entry)
        self._parked = still
        self._queue.extendleft(reversed(ready))
        await self._send_away(late, "the policy this request refers to has not arrived here yet; ask again")

    async def _commit(self, batch: list[_Waiting]) -> None:
        """Decide a batch, append, fold, reply. A failed append closes the clerk."""
        for entry in batch:
            listen(self._state, entry.request)
        now, now_ms = self._clock.now(), self._clock.monotonic_ms()
        try:
            decided = decide(self._state, [entry.request for entry in batch], now, now_ms)
        except Exception as error:
            await self._isolate(batch, error)
            return
        told = self._told[:CROSSINGS_MAX]
        records = self._with_crossings(decided.records, now, told)
        if records:
            grants = GrantBatch(
                id=EventId(uuid7()),
                at=now,
                source=self._source,
                auth_pos=self._state.auth_pos,
                usage_pos=self._state.ledger_pos,
                records=records,
            )
            data = encode_event(grants)
            if len(data) > APPEND_BYTES_MAX:
                await self._isolate(batch, ValueError(f"{len(data)} bytes of records"))
                return
            try:
                seq = await self._append(data, self._state.grant_seq, grants.id)
            except BusError as error:
                await self._drop(batch, error)
                return
            fold_grants(self._state, grants, seq, now_ms)
            del self._told[: len(told)]
            self._count(records, len(data))
            self._on_commit()
        await self._reply(batch, decided.replies)

    async def _isolate(self, batch: list[_Waiting], error: Exception) -> None:
        """A batch that cannot be decided or is too large goes in halves; what fails alone is sent away."""
        if len(batch) > 1:
            half = len(batch) // 2
            self._queue.extendleft(reversed(batch[half:]))
            await self._commit(batch[:half])
            return
        log.error("a request cannot be decided: %s", batch[0].request if batch else "no request", exc_info=error)
        await self._send_away(batch, f"the request cannot be decided: {error}")

    def _with_crossings(
        self, records: tuple[GrantEntry, ...], now: datetime, told: list[ThresholdCrossed]
    ) -> tuple[GrantEntry, ...]:
        """Records of requests, then limits that spend has passed, then signals that are out."""
        named = {(record.window, record.threshold) for record in records if isinstance(record, ThresholdCrossed)}
        passed = [
            record
            for record in crossings(self._state, now, CROSSINGS_MAX)
            if (record.window, record.threshold) not in named
        ]
        return (*records, *passed, *told)

    async def _drop(self, batch: Sequence[_Waiting], error: BusError) -> None:
        """Nothing of the batch may leave: whether it is in the log will be known by reading."""
        self.open = False
        self._meters.dropped.add(1, type(error).__name__)
        self._on_doubt(f"an append failed: {error}")
        await self._send_away(batch, "the decision could not be recorded; ask again")

    async def _reply(self, batch: Sequence[_Waiting], replies: Sequence[Reply]) -> None:
        fresh = self._lease_fresh()
        for entry, reply in zip(batch, replies, strict=True):
            if isinstance(reply, Answer):
                self._meters.answers.add(1, reply.verdict)
                if reply.verdict != "ok" and not fresh:  # a refusal is an opinion; only the holder has one
                    reply = NotActive(sent_ms=reply.sent_ms, reason="the lease is in doubt; ask again")
            await entry.letter.respond(encode_reply(reply))

    async def _send_away(self, batch: Sequence[_Waiting], reason: str) -> None:
        for entry in batch:
            self._meters.sent_away.add()
            reply = NotActive(sent_ms=entry.request.sent_ms, reason=reason)
            await entry.letter.respond(encode_reply(reply))

    def _count(self, records: tuple[GrantEntry, ...], size: int) -> None:
        self._meters.batches.add()
        self._meters.records.add(len(records))
        self._meters.bytes.add(size)
        self._meters.grants.add(sum(isinstance(record, AllotmentGranted) for record in records))
