"""The conversation of proxy instances about rate limits, over core NATS: nothing is stored, nothing is acknowledged.

An instance speaks every GOSSIP_MS when it has something to say, at once when somebody is short of rights that others
have, and every BEAT_MS to show that it lives. It hears itself, too: that is how it knows that others can hear it.
"""

import asyncio
import contextlib
import logging

from services.proxy.domain.limits.fleet import GOSSIP_MS, LIMITS_MAX
from services.proxy.domain.limits.gossip import News, decode, encode
from services.proxy.limits import RateLimits
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import BusError
from shared.ids import InstanceId
from shared.tasks import Supervisor
from shared.topology import GOSSIP_SUBJECT

log = logging.getLogger(__name__)

URGENT_GAP_S = 0.01
"""The least time between two messages, however urgent."""
CLOSE_WAIT_S = 1.0


class Gossip:
    """Speaks and hears for one instance's RateLimits."""

    def __init__(self, bus: Bus, limits: RateLimits, clock: Clock, instance: InstanceId) -> None:
        self._bus = bus
        self._limits = limits
        self._fleet = limits.fleet
        self._clock = clock
        self._instance = instance
        self._task: asyncio.Task[None] | None = None
        self._told_overflows = 0
        self.sent = 0
        self.heard = 0
        self.bad = 0

    def start(self, tasks: Supervisor) -> None:
        """Begin to hear and to speak; ended by `close` or with `tasks`."""
        self._task = tasks.keep("gossip", self._run)

    async def close(self) -> None:
        """Say the last word, so that the others share without this instance at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_WAIT_S)
        if self._bus.connected:
            with contextlib.suppress(BusError):
                await self._say(self._fleet.leave(self._clock.monotonic_ms()))

    async def _run(self) -> None:
        subscription = await self._bus.subscribe(GOSSIP_SUBJECT, self._on_message)
        self._bus.on_change(self._on_change)
        try:
            self._fleet.again()
            while True:
                if self._bus.connected:
                    await self._say(self._fleet.tick(self._clock.monotonic_ms()))
                self._tell_overflow()
                await asyncio.sleep(URGENT_GAP_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GOSSIP_MS / 1_000):
                        await self._limits.wake.wait()
                self._limits.wake.clear()
        finally:
            self._bus.off_change(self._on_change)
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    async def _say(self, messages: list[News]) -> None:
        for news in messages:
            await self._bus.send(GOSSIP_SUBJECT, encode(news))
            self.sent += 1

    def _tell_overflow(self) -> None:
        if self._fleet.overflows > self._told_overflows:
            self._told_overflows = self._fleet.overflows
            log.warning("more than %d rate limits are in use: the longest unused ones began anew", LIMITS_MAX)

    def _on_message(self, data: bytes) -> None:
        try:
            news = decode(data)
        except ValueError as error:  # msgspec's errors are ValueErrors
            self.bad += 1
            log.debug("gossip that cannot be read: %s", error)
            return
        self.heard += 1
        self._fleet.heard(news, self._clock.monotonic_ms())
        self._limits.moved()

    def _on_change(self) -> None:
        """The connection was lost or made anew: what was said meanwhile may be lost."""
        if self._bus.connected:
            self._fleet.again()
            self._limits.wake.set()
