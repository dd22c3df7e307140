"""Event table → stream AUTH → bucket `keys`, in order, from wherever it was left.

AUTH itself says how far it got (the position on its last event), and every write is fenced by what it
follows: two relays, or a message that arrives late, cannot put anything out of order.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from services.auth.domain.records import Records
from services.auth.keys_bucket import Checkpoint, KeysBucket
from services.auth.store import EventStore
from shared.auth_log import AUTH_SUBJECTS, AuthLog, LaterEvent
from shared.bus import Bus, Tail
from shared.clock import Clock
from shared.errors import BusError, BusUnavailable, Conflict, StoreError, StoreUnavailable
from shared.events import encode, type_of
from shared.telemetry import Metrics
from shared.topology import AUTH, auth_subject

log = logging.getLogger(__name__)

POLL_S = 1.0
SETTLE_S = 3.0
"""How often entries of `revoked` are compared with the events while all is well, and `keys` is looked at."""
RETRY_S = 0.5
CONFLICT_WAIT_S = 0.05
FLUSH_AFTER_EVENTS = 2_000
BEHIND_MS = 5_000
"""The relay is not ready when an event has waited for this long."""
STUCK_MS = 15_000
"""Nor when it has not come round for so long, whatever there was to do."""


class ForeignStream(StoreError):
    """The stream AUTH does not come from this database."""


class Relay:
    """One loop. `settle` turns unrecorded revocations into events; it runs before events are passed on."""

    def __init__(
        self,
        bus: Bus,
        store: EventStore,
        clock: Clock,
        settle: Callable[[Records], Awaitable[int]],
        metrics: Metrics,
        *,
        wait_ms: int,
    ) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._settle = settle
        self._wait_s = wait_ms / 1000
        self._log = AuthLog(metrics)
        self._bucket = KeysBucket(bus, metrics)
        self._records = Records()
        self._created: str = ""
        self._seq: int = 0
        self._last_id = ""
        self._position = 0
        self._levelled = False
        self._settle_due_ms = 0
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._error: str | None = "has not read AUTH yet"
        self.applied = 0
        self._head = 0
        self._moved_ms = self._round_ms = clock.monotonic_ms()

    # ---- for the API ---------------------------------------------------------------------------------

    async def applied_in_time(self, position: int | None) -> bool:
        """Wait until a commit is in force; False when that takes too long."""
        if position is None or position <= self.applied:
            return True
        self.tell(position)
        if not self._bus.connected:
            return False
        try:
            async with asyncio.timeout(self._wait_s):
                while self.applied < position:
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def tell(self, position: int | None) -> None:
        """Say that something was committed, without waiting for it."""
        if position is not None:
            self._saw(position)
            self._wake.set()

    @property
    def lag(self) -> int:
        """How many committed events are not in force yet, as far as is known."""
        return max(0, self._head - self.applied)

    def problem(self) -> str | None:
        """What is wrong, for the health page."""
        if self._error is not None:
            return self._error
        if self.lag and self._clock.monotonic_ms() - self._moved_ms > BEHIND_MS:
            return f"{self.lag} events wait to be passed on"
        if self._clock.monotonic_ms() - max(self._round_ms, self._moved_ms) > STUCK_MS:
            return "does not come to an end with what it has to do: see the log"
        return None

    def word(self) -> str | None:
        """What the health page says while all goes on; None: nothing but that."""
        refused = self._bucket.refused
        return (
            f"ok, but {refused} records are too large and whom they concern is refused: see the log"
            if refused
            else None
        )

    # ---- the loop ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Relay for ever. What goes wrong is told by `problem` and tried again."""
        while True:
            try:
                await self._session()
            except Conflict as error:
                log.info("another relay was faster: %s", error)
                await asyncio.sleep(CONFLICT_WAIT_S)
            except BusError as error:
                self._pause("the message bus does not take events: see the log", error)
                await asyncio.sleep(RETRY_S)
            except LaterEvent as error:
                self._pause("the stream AUTH is of a later version: see the log", error)
                await asyncio.sleep(RETRY_S)
            except ForeignStream as error:
                self._pause("the database and the bus do not belong together: see the log", error)
                self.applied = 0  # nothing of this database is in force
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                self._pause("failed: see the log", error)
                raise

    def _pause(self, word: str, error: Exception) -> None:
        """Remember why nothing moves; the log hears of it once."""
        if self._error != word:
            log.warning("the relay pauses: %s", error)
        self._error = word

    async def _session(self) -> None:
        """From reading up to following; ends by an exception only."""
        incarnation = self._bus.incarnation
        self._levelled = False
        self._settle_due_ms = 0
        checkpoint = await self._bucket.read()
        await self._read_auth()
        known = checkpoint is not None and checkpoint.created == self._created
        checked = False
        while True:
            self._wake.clear()
            if self._bus.incarnation != incarnation:
                raise BusUnavailable("the connection to NATS changed")
            whole = False
            try:
                if not checked:
                    await self._check_belonging()
                    checked = True
                await self._settle_when_due()
                await self._pass_on()
                known = whole = True
            except StoreUnavailable as error:
                self._settle_due_ms = 0
                self._pause("waits for the database", error)
            if known and not self._levelled:
                # Only now: before the table was read to its end, a fresh AUTH would empty the bucket.
                await self._level()
            if whole:
                self._error = None
            self._round_ms = self._clock.monotonic_ms()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _read_auth(self) -> None:
        """Fold what AUTH holds above what was folded; from the beginning when it was made anew."""
        info = await self._bus.stream_info(AUTH)
        if info.created != self._created:
            self._records, self._seq, self._position, self._last_id = Records(), 0, 0, ""
            self._created = info.created
        tail = Tail(self._bus, AUTH, AUTH_SUBJECTS, after=self._seq, created=self._created)
        async with aclosing(tail.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    event = self._log.event(message)
                    if event is not None:
                        self._records.apply(event, message.seq)
                        self._position, self._last_id = event.position, event.id
                    self._seq = message.seq
                if batch.caught_up:
                    break
        # All of ours up to there were read; what else the stream counted stands under no subject of its own.
        self._seq = max(self._seq, info.state.last_seq)

    async def _check_belonging(self) -> None:
        """Refuse to mix the events of one database with the stream of another."""
        if self._position and await self._store.event_id_at(self._position) != self._last_id:
            raise ForeignStream(
                f"the event table does not hold event {self._last_id} at position {self._position}, which the"
                " stream AUTH ends with: the database and NATS are not of the same installation, or one was"
                " restored from an older backup"
            )

    async def _settle_when_due(self) -> None:
        now = self._clock.monotonic_ms()
        if now >= self._settle_due_ms:
            await self._settle(self._records)
            if self._levelled:
                await self._bucket.look()
            self._settle_due_ms = now + int(SETTLE_S * 1000)

    async def _pass_on(self) -> None:
        """Publish what the table has beyond AUTH, then bring the bucket up to it."""
        touched: list[str] = []
        while True:
            stored = await self._store.after(self._position)
            if not stored:
                break
            self._saw(stored[-1].position)
            for item in stored:
                event = item.event
                ack = await self._bus.publish(
                    auth_subject(type_of(event), item.scope_id),
                    encode(event),
                    msg_id=event.id,
                    headers={"Nats-Expected-Last-Sequence": str(self._seq)},
                )
                touched += self._records.apply(event, ack.seq)
                self._seq, self._position, self._last_id = ack.seq, item.position, event.id
            if self._levelled and len(touched) > FLUSH_AFTER_EVENTS:
                await self._flush(touched)
                touched.clear()
        if self._levelled and self._position > self.applied:
            await self._flush(touched)

    # ---- the bucket ----------------------------------------------------------------------------------

    async def _level(self) -> None:
        """Make the bucket say exactly what the fold of AUTH says, whatever stood in it."""
        self._levelled = True
        await self._bucket.level(self._records, self._checkpoint())
        self._reached()

    async def _flush(self, names: list[str]) -> None:
        """Put the present records of these names in force; wake whoever waits for them."""
        await self._bucket.write(names, self._records, self._checkpoint())
        self._reached()

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(created=self._created, seq=self._seq, position=self._position, at=self._clock.now())

    def _reached(self) -> None:
        self.applied = self._position
        self._moved_ms = self._clock.monotonic_ms()
        self._progress.set()
        self._progress = asyncio.Event()

    def _saw(self, position: int) -> None:
        if position > self._head:
            if self._head <= self.applied:
                self._moved_ms = self._clock.monotonic_ms()
            self._head = position
