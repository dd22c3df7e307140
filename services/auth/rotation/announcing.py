"""Signals from the table where they were put with what they are about, into the stream, once NATS takes them."""

import asyncio
import logging
from datetime import timedelta

from services.auth.store_rotation import Pending
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import BusError, Rejected, StoreUnavailable

log = logging.getLogger(__name__)

POLL_S = 2.0
BATCH = 50
LEASE = timedelta(seconds=20)


class Announcing:
    """The loop of signals. `wake` says that there are some."""

    def __init__(self, bus: Bus, pending: Pending, clock: Clock, *, wake: asyncio.Event) -> None:
        self._bus = bus
        self._pending = pending
        self._clock = clock
        self._wake = wake

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            try:
                if await self.step():
                    continue
            except (BusError, StoreUnavailable) as error:
                log.debug("signals wait: %s", error)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self) -> int:
        """Publish what is to be published; how many. Raises BusUnavailable, StoreUnavailable."""
        self._wake.clear()
        if not self._bus.connected:
            return 0
        waiting = await self._pending.outgoing(self._clock.now(), lease=LEASE, most=BATCH)
        done: list[str] = []
        try:
            for signal in waiting:
                try:
                    await self._bus.publish(signal.subject, signal.body, msg_id=signal.id)
                except Rejected as error:
                    log.error("a signal on %s is not taken and is dropped: %s", signal.subject, error)
                done.append(signal.id)
        finally:
            if done:
                await self._pending.published(done)
        return len(waiting)
