"""Brings usage from the log into the books: fetch, one transaction, then acknowledge.

The broker may deliver anything again; the store takes each event once. While Postgres is away the batch is kept and
tried again, and the broker keeps the rest. A predecessor that was killed leaves messages that the broker holds back
for a while; they are read from the stream at once instead.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import msgspec

from services.ledger.bookkeeper import store
from services.ledger.bookkeeper.catalog import Catalog
from services.ledger.bookkeeper.meters import Meters
from services.ledger.bookkeeper.store import Database, Item, Position, Unstorable
from services.ledger.bookkeeper.store_rows import Row
from services.ledger.domain.books import repriced
from services.ledger.domain.usage import Unreadable, read_usage
from shared.bus import Bus, Message, Tail, WorkQueue
from shared.errors import BusUnavailable, StoreUnavailable
from shared.events import UsageCorrected, encode
from shared.topology import BOOKKEEPER_DURABLE, LEDGER

log = logging.getLogger(__name__)

USAGE_SUBJECTS = "usage.v1.>"
FETCH_MAX = 200
EVENTS_MAX = 5_000
"""Most events in one transaction."""
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 3.0
LOOK_S = 0.5


class _Sequences(msgspec.Struct, frozen=True):
    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct, frozen=True):
    """What the broker says of our consumer."""

    delivered: _Sequences = _Sequences()
    ack_floor: _Sequences = _Sequences()
    num_pending: int = 0
    num_ack_pending: int = 0
    error: dict[str, object] | None = None


def consumer_seq(reply: str) -> int:
    """The consumer's own count of a delivery, from its acknowledgement subject (both formats of the server)."""
    tokens = reply.split(".")
    return int(tokens[6] if len(tokens) == 9 else tokens[8])


def items_of(message: Message, catalog: Catalog, meters: Meters) -> list[Item]:
    """The events of a message, each checked against its price, and what of it cannot be read."""
    events, bad = read_usage(message.data)
    items: list[Item] = []
    for event in events:
        if isinstance(event, UsageCorrected):
            items.append(Item(seq=message.seq, subject=message.subject, correction=event))
            continue
        again = repriced(event, catalog.row_of(event))
        if again is not None:
            meters.mispriced.add()
            log.error(
                "call %s was charged %d nano-dollars, its price row %s gives %d",
                event.call_id,
                event.cost_nusd,
                event.price_id,
                again,
            )
        items.append(Item(seq=message.seq, subject=message.subject, event=Row(event, again)))
    for piece in bad:
        meters.dead.add()
        log.error("message %d of %s, piece %d, is set aside: %s", message.seq, LEDGER, piece.index, piece.reason)
        items.append(Item(seq=message.seq, subject=message.subject, bad=piece))
    return items


class Consumer:
    """The one that writes the books. `position`: no usage at or below this sequence is missing in them."""

    def __init__(self, bus: Bus, database: Database, catalog: Catalog, meters: Meters, *, created: str) -> None:
        self._bus = bus
        self._database = database
        self._catalog = catalog
        self._meters = meters
        self._created = created
        self._expected = 0
        self._moved = asyncio.Event()
        self.position = 0
        self.lag = 0
        self.problem: str | None = "starting"

    async def run(self) -> None:
        """Consume until something is in doubt. Raises BusUnavailable, StreamChanged."""
        try:
            async with WorkQueue(self._bus, LEDGER, BOOKKEEPER_DURABLE) as queue:
                await self._read_what_is_held_back()
                while True:
                    self.problem = None
                    await self._consume(queue)
        except BaseException as error:
            self.problem = str(error) or type(error).__name__
            raise

    async def reach(self, seq: int, within_s: float) -> bool:
        """Wait until the books hold everything up to a sequence; False if they do not within the time.

        Raises BusUnavailable.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.position < seq:
                    await self._move()
        return self.position >= seq

    async def _move(self) -> None:
        """Wait a bounded time for progress; what another process has acknowledged is in the books too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._moved.wait()
                return
        self._reached((await self.info()).ack_floor.stream_seq)

    async def info(self) -> ConsumerInfo:
        """What the broker says of our consumer. Raises BusUnavailable."""
        raw = await self._bus.api(f"CONSUMER.INFO.{LEDGER}.{BOOKKEEPER_DURABLE}", b"")
        info = msgspec.json.decode(raw, type=ConsumerInfo)
        if info.error is not None:
            raise BusUnavailable(f"consumer {BOOKKEEPER_DURABLE}: {info.error.get('description')}")
        return info

    async def _consume(self, queue: WorkQueue) -> None:
        fetched = await queue.fetch(FETCH_MAX)
        if not fetched:
            info = await self.info()  # also notices a consumer that is gone
            self.lag = info.num_pending
            self._reached(info.ack_floor.stream_seq)
            return
        counts = [consumer_seq(reply) for _, reply in fetched]
        if min(counts) > self._expected or max(counts) - min(counts) >= len(counts):
            await self._read_what_is_held_back()  # something went to another reader of this consumer
        self._expected = max(self._expected, max(counts) + 1)
        await self._store([message for message, _ in fetched])
        await queue.ack([reply for _, reply in fetched])
        self.lag = fetched[-1][0].pending

    async def _read_what_is_held_back(self) -> None:
        """Store what was delivered to somebody and never acknowledged, without waiting for it to come again."""
        info = await self.info()
        last = info.delivered.stream_seq
        if info.ack_floor.stream_seq < last:
            await self._read_stream(info.ack_floor.stream_seq, last)
        self._expected = info.delivered.consumer_seq + 1
        self._reached(last)

    async def _read_stream(self, after: int, last: int) -> None:
        async for batch in Tail(self._bus, LEDGER, USAGE_SUBJECTS, after=after, created=self._created).batches():
            await self._store([message for message in batch.messages if message.seq <= last], quiet=True)
            if batch.caught_up or batch.messages[-1].seq >= last:
                return

    async def _store(self, messages: Sequence[Message], *, quiet: bool = False) -> None:
        """Write messages into the books, for as long as it takes. `quiet`: the position is set by the caller."""
        items: list[Item] = []
        seq = 0
        for message in messages:
            items += items_of(message, self._catalog, self._meters)
            seq = max(seq, message.seq)
            if len(items) >= EVENTS_MAX:
                await self._commit(items, seq, quiet=quiet)
                items = []
        if messages:
            await self._commit(items, seq, quiet=quiet)

    async def _commit(self, items: Sequence[Item], seq: int, *, quiet: bool) -> None:
        seq = self.position if quiet else max(seq, self.position)
        delay = RETRY_FIRST_S
        while True:
            try:
                await self._write(items, Position(created=self._created, seq=seq))
                break
            except StoreUnavailable as error:
                self.problem = "waiting for the database"
                log.warning("%d events wait for the database: %s", len(items), error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S)
        self.problem = None
        self._reached(seq)

    async def _write(self, items: Sequence[Item], reached: Position) -> None:
        """One transaction; data that Postgres refuses is found by halving and set aside."""
        try:
            fresh = await store.commit(self._database, items, reached)
        except Unstorable as error:
            if len(items) > 1:
                half = len(items) // 2
                behind = Position(created=reached.created, seq=0)
                await self._write(items[:half], behind)
                await self._write(items[half:], reached)
                return
            await store.commit(self._database, [_set_aside(items[0], error)], reached)
            self._meters.dead.add()
            return
        self._meters.events.add(fresh)
        self._meters.repeated.add(sum(item.bad is None for item in items) - fresh)

    def _reached(self, seq: int) -> None:
        self.position = max(self.position, seq)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _set_aside(item: Item, error: Unstorable) -> Item:
    event = item.event.event if item.event is not None else item.correction
    if event is None:
        raise error
    log.error("an event of message %d is set aside: %s", item.seq, error)
    bad = Unreadable(index=event.n % 2**31, data=encode(event), reason=str(error))
    return Item(seq=item.seq, subject=item.subject, bad=bad)
