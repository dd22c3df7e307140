"""Answers proxies: the shell around the desk, which decides. One append is in flight at a time; what arrives meanwhile
is the next batch.

Nothing leaves before the records it rests on were acknowledged: no reply, no recall. When the outcome of an append is
unknown, or somebody else has appended, the whole batch is dropped and the office is taken anew.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from services.ledger.domain.desk import Batch, Desk, Out
from services.ledger.domain.level import Board
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from services.ledger.enforcer.meters import Meters
from shared.allotment import Answer, NotActive, Reply, decode_request, encode
from shared.bus import Request as Letter
from shared.clock import Clock
from shared.errors import BusError
from shared.events import AllotmentClosed, AllotmentGranted, GrantBatch, GrantEntry, SignalPublished
from shared.events import encode as encode_event
from shared.ids import EventId, InstanceId, uuid7

log = logging.getLogger(__name__)

APPEND_BYTES_MAX = 3 * 1024 * 1024
"""A larger batch is decided again in parts; the stream takes messages of 4 MiB."""
REST_MS_MIN = 1

Append = Callable[[bytes, int, str], Awaitable[int]]
"""(data, expected last decision, message id) → sequence. Raises BusError."""
SendRecall = Callable[[InstanceId, bytes], Awaitable[None]]
"""Sends a recall to one proxy instance. Raises BusError."""


class Clerk:
    """Serves one partition while `open`. `on_doubt` hears why it stopped, `on_commit` of each folded append."""

    def __init__(
        self,
        state: LedgerState,
        tuning: Tuning,
        clock: Clock,
        meters: Meters,
        *,
        source: str,
        append: Append,
        recall: SendRecall,
        lease_fresh: Callable[[], bool],
        on_doubt: Callable[[str], None],
        on_commit: Callable[[], None],
    ) -> None:
        self._state = state
        self._desk = Desk(state, tuning)
        self._clock = clock
        self._meters = meters
        self._source = source
        self._append = append
        self._recall = recall
        self._lease_fresh = lease_fresh
        self._on_doubt = on_doubt
        self._on_commit = on_commit
        self._letters: dict[int, Letter] = {}
        self._taken = 0
        self._term = 0
        self.deciding = False
        """Whether a decision is made and not folded yet: what it rests on must stay."""
        self._work = asyncio.Event()
        self.open = False

    @property
    def board(self) -> Board:
        """Which levels are to be written."""
        return self._desk.board

    @property
    def waiting(self) -> int:
        """How many requests wait for a decision."""
        return self._desk.waiting

    def begin(self) -> None:
        """Start to decide: the office is taken."""
        self._desk.begin(self._clock.monotonic_ms())
        self.open = True
        self.wake()

    def close(self) -> None:
        """Decide nothing more, from this moment on."""
        self.open = False

    async def pause(self, reason: str) -> None:
        """Stop deciding and send those who wait away. An append in flight goes on; its fold is the reader's."""
        self.close()
        self._term += 1
        await self._deliver(self._desk.leave(reason))

    def wake(self) -> None:
        """Look for work: something was read or came in."""
        self._work.set()

    def tell(self, record: SignalPublished) -> None:
        """Append with the next batch that a signal is out."""
        self._desk.told(record)
        self.wake()

    async def receive(self, letter: Letter) -> None:
        """Take in one request of a proxy."""
        try:
            request = decode_request(letter.data)
        except msgspec.MsgspecError as error:
            self._meters.unreadable.add(1, "request")
            log.error("a request on %s cannot be read: %s", letter.subject, error)
            await letter.respond(encode(NotActive(sent_ms=0, reason=f"unreadable: {error}")))
            return
        if not self.open:
            self._meters.sent_away.add()
            reason = "this enforcer does not hold the office"
            await letter.respond(encode(NotActive(sent_ms=request.sent_ms, reason=reason)))
            return
        self._taken += 1
        self._letters[self._taken] = letter
        self._desk.take(self._taken, request, self._clock.monotonic_ms())
        self.wake()

    async def run(self) -> None:
        """Decide for ever."""
        while True:
            self._work.clear()
            while self.open and await self._decide():
                pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rest_s()):
                    await self._work.wait()

    def _rest_s(self) -> float | None:
        """How long nothing need be done unless something comes in; None: for ever."""
        now_ms = self._clock.monotonic_ms()
        due_ms = self._desk.due_ms(now_ms) if self.open else None
        return None if due_ms is None else max(REST_MS_MIN, due_ms - now_ms) / 1000

    async def _decide(self) -> bool:
        """One batch from decision to replies; False when there is nothing to decide."""
        now_ms = self._clock.monotonic_ms()
        batch = self._desk.next_batch(self._clock.now(), now_ms)
        if batch is None:
            return False
        if batch.records:
            self.deciding = True
            try:
                await self._commit(batch)
            finally:
                self.deciding = False
        else:
            out = self._desk.committed(batch, None, None, now_ms)
            self._on_commit()
            await self._deliver(out)
            await asyncio.sleep(0)  # nothing was waited for, and others want to work, too
        return True

    async def _commit(self, batch: Batch) -> None:
        """Append, fold, let out what rests on it. A failed append closes the clerk."""
        grants = GrantBatch(
            id=EventId(uuid7()),
            at=batch.at,
            source=self._source,
            auth_pos=batch.auth_pos,
            usage_pos=batch.usage_pos,
            records=batch.records,
        )
        data = encode_event(grants)
        if len(data) > APPEND_BYTES_MAX:
            await self._deliver(self._desk.too_large(batch))
            return
        term = self._term
        try:
            seq = await self._append(data, batch.expected, grants.id)
        except BusError as error:
            await self._drop(batch, error, term)
            return
        self._count(grants.records, len(data))
        if term == self._term:  # else everybody was sent away meanwhile, and the tail brings the records
            out = self._desk.committed(batch, grants, seq, self._clock.monotonic_ms())
            self._on_commit()
            await self._deliver(out)

    async def _drop(self, batch: Batch, error: BusError, term: int) -> None:
        """Nothing of the batch may leave: whether it is in the log will be known by reading."""
        self._meters.dropped.add(1, type(error).__name__)
        if term == self._term:
            self.close()
            self._on_doubt(f"an append failed: {error}")
            await self._deliver(self._desk.dropped(batch, "the decision could not be recorded; ask again"))

    async def _deliver(self, out: Out) -> None:
        for request, error in out.failed:
            log.error("a request cannot be decided: %s", request, exc_info=error)
        fresh = self._lease_fresh()
        for token, reply in out.replies:
            letter = self._letters.pop(token, None)
            if letter is not None:
                await letter.respond(encode(self._checked(reply, fresh=fresh)))
        for instance, recall in out.recalls:
            self._meters.recalls.add()
            try:
                await self._recall(instance, encode(recall))
            except BusError as error:
                log.info("a recall could not be sent: %s", error)

    def _checked(self, reply: Reply, *, fresh: bool) -> Reply:
        """Count a reply. A refusal is an opinion, and only the holder of the lease has one."""
        if isinstance(reply, NotActive):
            self._meters.sent_away.add()
        elif isinstance(reply, Answer):
            if reply.verdict != "ok" and not fresh:
                self._meters.sent_away.add()
                return NotActive(sent_ms=reply.sent_ms, reason="the lease is in doubt; ask again")
            self._meters.answers.add(1, reply.verdict)
        return reply

    def _count(self, records: tuple[GrantEntry, ...], size: int) -> None:
        self._meters.batches.add()
        self._meters.records.add(len(records))
        self._meters.bytes.add(size)
        self._meters.grants.add(sum(isinstance(record, AllotmentGranted) for record in records))
        for record in records:
            if isinstance(record, AllotmentClosed):
                self._meters.closings.add(1, record.how)
