"""Event table → stream AUTH → bucket `keys`, in order, from wherever it was left.

AUTH itself says how far it got (the position on its last event), and every write is fenced by what it
follows: two relays, or a message that arrives late, cannot put anything out of order.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

import msgspec

from services.auth.domain.records import Records, in_order
from services.auth.store import EventStore
from shared.bus import Bucket, Bus, Tail
from shared.clock import Clock
from shared.errors import BusError, BusUnavailable, Conflict, StoreError, StoreUnavailable
from shared.events import decode_auth, encode, type_of
from shared.topology import AUTH, KEYS_BUCKET, auth_subject

log = logging.getLogger(__name__)

CHECKPOINT_NAME = "relay"
POLL_S = 1.0
SETTLE_S = 3.0
"""How often entries of `revoked` are compared with the events while all is well."""
RETRY_S = 0.5
CONFLICT_WAIT_S = 0.05
FLUSH_AFTER_EVENTS = 2_000
WRITES_AT_ONCE = 64
BEHIND_MS = 5_000
"""The relay is not ready when an event has waited for this long."""

_RECORD_PREFIXES = ("s.", "k.", "t.", "o.")


class ForeignStream(StoreError):
    """The stream AUTH does not come from this database."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far the bucket follows AUTH (`created` tells which AUTH that is)."""

    created: str
    seq: int
    position: int
    at: datetime


class Relay:
    """One loop. `settle` turns unrecorded revocations into events; it runs before events are passed on."""

    def __init__(
        self,
        bus: Bus,
        store: EventStore,
        clock: Clock,
        settle: Callable[[Records], Awaitable[int]],
        *,
        wait_ms: int,
    ) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._settle = settle
        self._wait_s = wait_ms / 1000
        self._bucket = Bucket(bus, KEYS_BUCKET)
        self._records = Records()
        self._revisions: dict[str, int] = {}
        self._standing: dict[str, bytes] = {}
        self._created = ""
        self._seq = 0
        self._last_id = ""
        self._position = 0
        self._levelled = False
        self._settle_due_ms = 0
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._error: str | None = "has not read AUTH yet"
        self.applied = 0
        self._head = 0
        self._moved_ms = clock.monotonic_ms()

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
        return None

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
        checkpoint = await self._read_bucket()
        await self._read_auth()
        known = checkpoint is not None and checkpoint.created == self._created
        checked = False
        while True:
            self._wake.clear()
            if self._bus.incarnation != incarnation:
                raise BusUnavailable("the connection to NATS changed")
            try:
                if not checked:
                    await self._check_belonging()
                    checked = True
                await self._settle_when_due()
                await self._pass_on()
                known = True
                self._error = None
            except StoreUnavailable as error:
                self._settle_due_ms = 0
                self._pause("waits for the database", error)
            if known and not self._levelled:
                # Only now: before the table was read to its end, a fresh AUTH would empty the bucket.
                await self._level()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _read_bucket(self) -> Checkpoint | None:
        """Learn what stands in `keys`, with revisions; the checkpoint."""
        content: dict[str, tuple[bytes, int]] = {}
        prefix = len(f"$KV.{KEYS_BUCKET}.")
        tail = Tail(self._bus, f"KV_{KEYS_BUCKET}", f"$KV.{KEYS_BUCKET}.>", last_per_subject=True)
        async with aclosing(tail.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    value = b"" if message.operation is not None else message.data
                    content[message.subject[prefix:]] = (value, message.seq)
                if batch.caught_up:
                    break
        self._revisions = {name: revision for name, (_, revision) in content.items()}
        self._standing = {name: value for name, (value, _) in content.items() if value}
        value = self._standing.pop(CHECKPOINT_NAME, None)
        return None if value is None else msgspec.json.decode(value, type=Checkpoint)

    async def _read_auth(self) -> None:
        """Fold what AUTH holds above what was folded; from the beginning when it was made anew."""
        info = await self._bus.stream_info(AUTH)
        if info.created != self._created:
            self._records, self._seq, self._position, self._last_id = Records(), 0, 0, ""
            self._created = info.created
        tail = Tail(self._bus, AUTH, "auth.>", after=self._seq, created=self._created)
        async with aclosing(tail.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    event = decode_auth(message.data)
                    self._records.apply(event, message.seq)
                    self._seq, self._position, self._last_id = message.seq, event.position, event.id
                if batch.caught_up:
                    break

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
        by_name = self._records.by_name
        different = [
            name for name, record in by_name.items() if self._standing.get(name) != msgspec.json.encode(record)
        ]
        different += [name for name in self._standing if name not in by_name and name.startswith(_RECORD_PREFIXES)]
        self._standing = {}
        self._levelled = True
        if different:
            log.info("the bucket %s differs from AUTH in %d records", KEYS_BUCKET, len(different))
        await self._flush(different)

    async def _flush(self, names: list[str]) -> None:
        """Write the present records of these names, then the checkpoint; wake whoever waits for them."""
        for group in in_order(names, self._records):
            for start in range(0, len(group), WRITES_AT_ONCE):
                await self._write_all(group[start : start + WRITES_AT_ONCE])
        checkpoint = Checkpoint(created=self._created, seq=self._seq, position=self._position, at=self._clock.now())
        await self._put(CHECKPOINT_NAME, msgspec.json.encode(checkpoint))
        self.applied = self._position
        self._moved_ms = self._clock.monotonic_ms()
        self._progress.set()
        self._progress = asyncio.Event()

    async def _write_all(self, names: list[str]) -> None:
        try:
            async with asyncio.TaskGroup() as writes:
                for name in names:
                    writes.create_task(self._write(name))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _write(self, name: str) -> None:
        record = self._records.by_name.get(name)
        if record is not None:
            await self._put(name, msgspec.json.encode(record))
        elif name in self._revisions:
            await self._bucket.delete(name, self._revisions.pop(name))

    async def _put(self, name: str, value: bytes) -> None:
        revision = self._revisions.get(name)
        if revision is None:
            self._revisions[name] = await self._bucket.create(name, value)
        else:
            self._revisions[name] = await self._bucket.update(name, value, revision)

    def _saw(self, position: int) -> None:
        if position > self._head:
            if self._head <= self.applied:
                self._moved_ms = self._clock.monotonic_ms()
            self._head = position
