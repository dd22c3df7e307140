"""Publishes the signals of crossings that are in the log, until it is known that each is out.

A crossing is recorded once; its signal's id follows from it. So after a crash the successor publishes what may not
be out again, and nobody is told twice.
"""

import asyncio
import logging
from collections.abc import Callable

from services.ledger.domain.cross import signal_of, told
from services.ledger.domain.state import LedgerState
from services.ledger.enforcer.meters import Meters
from shared.bus import Bus
from shared.errors import BusError
from shared.events import AccountWindow, ThresholdCrossed, encode, type_of
from shared.ids import AccountId
from shared.topology import signal_subject

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Herald:
    """Works while `open`; `tell` takes the records that say what is out."""

    def __init__(
        self,
        bus: Bus,
        state: LedgerState,
        meters: Meters,
        *,
        source: str,
        tell: Callable[[ThresholdCrossed], None],
    ) -> None:
        self._bus = bus
        self._state = state
        self._meters = meters
        self._source = source
        self._tell = tell
        self._out: set[tuple[str, int, str]] = set()
        self._work = asyncio.Event()
        self.open = False

    def begin(self) -> None:
        """Start, with everything that may not be out."""
        self.open = True
        self._out.clear()
        self.wake()

    def wake(self) -> None:
        """Look for crossings that are not told."""
        if self._state.untold:
            self._work.set()

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            if not await self._publish_all():
                await asyncio.sleep(RETRY_S)
                self.wake()

    async def _publish_all(self) -> bool:
        """Publish what is untold; False when something could not be published now."""
        self._out &= self._state.untold
        for name in sorted(self._state.untold - self._out):
            if not self.open:
                return True
            try:
                await self._publish(*name)
            except BusError as error:
                log.warning("a budget signal is not out yet: %s", error)
                return False
            self._out.add(name)
        return True

    async def _publish(self, account: str, index: int, threshold: str) -> None:
        window = AccountWindow(AccountId(account), index)
        crossing = self._state.balance(window).crossed[threshold]
        signal = signal_of(self._state.directory, window, threshold, crossing, self._source)
        if signal is not None:
            kind = type_of(signal).removesuffix(".v1")
            subject = signal_subject(kind, signal.scope_kind, signal.scope_id)
            await self._bus.publish(subject, encode(signal), msg_id=signal.id)
            self._meters.signals.add(1, kind)
        self._tell(told(window, threshold, crossing.spent_nusd))
