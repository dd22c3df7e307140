"""Tells the world how budgets stand: levels for machines, signals for people.

A crossing is recorded once, and its signal's id follows from it. So after a crash the successor publishes what may not
be out again, and nobody is told twice. Levels are compared with what the bucket holds before they are written.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import msgspec

from services.ledger.domain.cross import signal_of, threshold_of, told
from services.ledger.domain.level import Board
from services.ledger.domain.state import LedgerState
from services.ledger.enforcer.meters import Meters
from shared.allotment import Level, decode_level
from shared.allotment import encode as encode_level
from shared.bus import Bucket, Bus, Tail
from shared.clock import Clock
from shared.errors import BusError, BusUnavailable
from shared.events import AccountWindow, SignalPublished, encode, type_of
from shared.ids import AccountId
from shared.topology import BUDGETS_BUCKET, signal_subject

log = logging.getLogger(__name__)

RETRY_S = 1.0
LEVELS_MAX = 200
"""Most levels looked at in one go."""


class Herald:
    """Works while `open`; `tell` takes the records that say what is out, `lease_fresh` says whether we may speak."""

    def __init__(
        self,
        bus: Bus,
        state: LedgerState,
        board: Board,
        clock: Clock,
        meters: Meters,
        *,
        source: str,
        tell: Callable[[SignalPublished], None],
        lease_fresh: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._bucket = Bucket(bus, BUDGETS_BUCKET)
        self._state = state
        self._board = board
        self._clock = clock
        self._meters = meters
        self._source = source
        self._tell = tell
        self._lease_fresh = lease_fresh
        self._out: set[tuple[str, int, str]] = set()
        self._loaded = False
        self._work = asyncio.Event()
        self.open = False

    def begin(self) -> None:
        """Start, with everything that may not be out."""
        self.open = True
        self._loaded = False
        self._out.clear()
        self._work.set()

    def wake(self) -> None:
        """Look for what is not told."""
        if self._state.untold or self._state.unposted:
            self._work.set()

    async def run(self) -> None:
        """Tell for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            if not self.open:
                continue
            try:
                await self._tell_all()
            except BusError as error:
                log.warning("levels and signals of budgets are not out yet: %s", error)
                await asyncio.sleep(RETRY_S)
                self._work.set()
            except Exception:
                self._work.set()  # whoever starts us again finds the work still to be done
                raise

    async def _tell_all(self) -> None:
        """Everything that is due now: levels first, because callers are stopped by them. Raises BusError."""
        if not self._loaded:
            self._board.begin(await self._levels())
            self._loaded = True
        while self.open and (due := self._board.due(self._clock.now(), LEVELS_MAX)):
            for level in due:
                await self._post(level)
        self._out &= self._state.untold
        for name in sorted(self._state.untold - self._out):
            if self.open:
                await self._publish(*name)
                self._out.add(name)

    async def _levels(self) -> list[Level]:
        """What the bucket holds of the accounts that this partition has a say in."""
        found: dict[str, Level] = {}
        prefix = f"$KV.{BUDGETS_BUCKET}."
        tail = Tail(self._bus, f"KV_{BUDGETS_BUCKET}", f"{prefix}>", last_per_subject=True)
        async with contextlib.aclosing(tail.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    account = self._state.accounts.get(message.subject.removeprefix(prefix))
                    level = _level(message.data) if account is not None and account.windows else None
                    if level is not None:
                        found[level.account] = level
                if batch.caught_up:
                    break
        return list(found.values())

    async def _post(self, level: Level) -> None:
        """Write one level, unless the bucket holds a later one."""
        if not self._lease_fresh():  # somebody else may speak now
            raise BusUnavailable("the lease is in doubt")
        entry = await self._bucket.get(level.account)
        before = None if entry is None else _level(entry.value)
        if before is not None and before.seq >= level.seq:
            self._board.load(before)
            return
        if entry is None:
            await self._bucket.create(level.account, encode_level(level))
        else:
            await self._bucket.update(level.account, encode_level(level), entry.revision)
        self._board.posted(level)
        self._meters.levels.add(1, level.state)

    async def _publish(self, account: str, index: int, name: str) -> None:
        """Publish the signal of one crossing; the log learns of it with the next append."""
        window = AccountWindow(AccountId(account), index)
        balance = self._state.seen(window)
        crossing = None if balance is None else balance.crossed.get(name)
        threshold, round_ = threshold_of(name)
        signal = crossing and signal_of(self._state.directory, window, threshold, crossing, self._source)
        if signal is not None:
            kind = type_of(signal).removesuffix(".v1")
            subject = signal_subject(kind, signal.scope_kind, signal.scope_id)
            await self._bus.publish(subject, encode(signal), msg_id=signal.id)
            self._meters.signals.add(1, kind)
        self._tell(told(window, threshold, round_))


def _level(data: bytes) -> Level | None:
    try:
        return decode_level(data)
    except msgspec.MsgspecError:
        return None
