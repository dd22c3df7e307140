"""Reads the logs of auth and of the ledger into the state, for ever, from where it stands."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import msgspec

from services.ledger.domain.fold import fold_auth, fold_correction, fold_grants, fold_usage
from services.ledger.domain.state import LedgerState, UnknownRecord
from services.ledger.domain.usage import read_usage
from services.ledger.enforcer.meters import Meters
from shared.auth_log import AUTH_SUBJECTS, LaterEvent
from shared.bus import Bus, Message, Tail
from shared.clock import Clock
from shared.errors import StreamChanged, TundishError
from shared.events import UsageCorrected, decode_grants
from shared.topology import AUTH, LEDGER

log = logging.getLogger(__name__)

YIELD_BYTES = 64 * 1024
"""After folding this much the loop gives way, so that proxies are answered while a backlog is read."""


class _Envelope(msgspec.Struct, frozen=True):
    """What every batch of decisions has, of any version."""

    id: str
    at: datetime
    source: str
    records: list[msgspec.Raw]


def partition_subjects(partition: int) -> str:
    """Usage and decisions of one partition, in their common order."""
    return f"*.v1.{partition}.>"


class Reader:
    """Two tails and one state. `on_foreign` hears of decisions that another enforcer appended."""

    def __init__(
        self,
        bus: Bus,
        state: LedgerState,
        clock: Clock,
        *,
        own_subject: str,
        created: dict[str, str],
        on_change: Callable[[], None],
        on_foreign: Callable[[str], None],
        on_fatal: Callable[[TundishError], None],
        meters: Meters,
    ) -> None:
        self._bus = bus
        self._state = state
        self._clock = clock
        self._own_subject = own_subject
        self._created = created
        self._on_change = on_change
        self._on_foreign = on_foreign
        self._on_fatal = on_fatal
        self._unreadable = meters.unreadable
        self._auth_log = meters.auth_log
        self._folded = meters.folded
        self._changed = asyncio.Event()
        self._unyielded = 0
        self.live: dict[str, bool] = {AUTH: False, LEDGER: False}
        self.lag: dict[str, int] = {AUTH: 0, LEDGER: 0}

    @property
    def caught_up(self) -> bool:
        """Whether both logs were read to their end on the connections of this moment."""
        return all(self.live.values())

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is true of what was read."""
        while not reached():
            await self._changed.wait()

    async def follow_auth(self) -> None:
        """Read auth's log until something is in doubt. Raises BusUnavailable."""
        await self._follow(AUTH, AUTH_SUBJECTS, self._state.auth_pos, self._state.auth_pos, self._fold_auth)

    async def follow_ledger(self) -> None:
        """Read this partition's usage and decisions until something is in doubt. Raises BusUnavailable."""
        state = self._state
        folded = max(state.ledger_pos, state.grant_seq)  # decisions of our own are folded when they are acknowledged
        await self._follow(LEDGER, partition_subjects(state.partition), state.ledger_pos, folded, self._fold_ledger)

    async def _follow(
        self, stream: str, subjects: str, after: int, folded: int, fold: Callable[[Message], None]
    ) -> None:
        tail = Tail(self._bus, stream, subjects, after=after, created=self._created[stream])
        try:
            await self._refuse_shorter_log(stream, folded)
            async for batch in tail.batches():
                self._folded.add(len(batch.messages), stream)
                for message in batch.messages:
                    fold(message)
                    self.lag[stream] = message.pending
                    await self._give_way(len(message.data))
                if batch.caught_up:
                    self.live[stream] = True
                self._tell()
        except (StreamChanged, UnknownRecord) as error:
            self._on_fatal(error if isinstance(error, TundishError) else TundishError(str(error)))
            raise
        finally:
            self.live[stream] = False
            self._tell()

    async def _refuse_shorter_log(self, stream: str, folded: int) -> None:
        """A server that lost its last writes numbers new messages like those we have folded: start from nothing."""
        last = (await self._bus.stream_info(stream)).state.last_seq
        if last < folded:
            raise StreamChanged(
                f"stream {stream} ends at {last}, but {folded} was folded: the server has lost what it had"
                " acknowledged; the log is read again from its beginning after a restart"
            )

    def _fold_auth(self, message: Message) -> None:
        try:
            event = self._auth_log.event(message)
        except LaterEvent as error:
            log.info("an event of auth is not for the ledger: %s", error)
            self._unreadable.add(1, "auth")
            event = None
        if event is None:
            self._state.auth_pos = max(self._state.auth_pos, message.seq)
        else:
            fold_auth(self._state, event, message.seq)

    def _fold_ledger(self, message: Message) -> None:
        if message.subject.startswith("usage."):
            self._fold_usage(message)
        else:
            self._fold_grants(message)
        self._state.ledger_pos = max(self._state.ledger_pos, message.seq)

    def _fold_usage(self, message: Message) -> None:
        events, bad = read_usage(message.data)
        for event in events:
            if isinstance(event, UsageCorrected):
                fold_correction(self._state, event)
            else:
                fold_usage(self._state, event)
        for piece in bad:
            log.error("message %d of %s, piece %d: %s", message.seq, LEDGER, piece.index, piece.reason)
            self._unreadable.add(1, "usage")

    def _fold_grants(self, message: Message) -> None:
        try:
            batch = decode_grants(message.data)
        except msgspec.MsgspecError as error:
            if not _is_batch(message.data):
                log.warning("message %d of %s holds no decisions and is passed over", message.seq, LEDGER)
                self._unreadable.add(1, "decisions")
                self._state.grant_seq = max(self._state.grant_seq, message.seq)  # the fence counts it
                return
            raise UnknownRecord(
                f"decision {message.seq} of {LEDGER} cannot be read ({error}): run the version that wrote it"
            ) from error
        folded = fold_grants(self._state, batch, message.seq, self._clock.monotonic_ms())
        if folded and message.subject != self._own_subject:
            self._on_foreign(batch.source)

    async def _give_way(self, size: int) -> None:
        self._unyielded += size
        if self._unyielded >= YIELD_BYTES:
            self._unyielded = 0
            await asyncio.sleep(0)

    def _tell(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()
        self._on_change()


def _is_batch(data: bytes) -> bool:
    """Whether an enforcer wrote this. A NATS server puts acknowledgements wherever the sender of a message says."""
    try:
        msgspec.json.decode(data, type=_Envelope)
    except msgspec.DecodeError:
        return False
    return True
