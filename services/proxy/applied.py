"""Tells the fleet up to which revision of `revoked` this process refuses, so that auth can say when all do.

Said after every change that was applied, changes of one moment together and one message at a time, and every BEAT_S to
show that this process lives. Nothing is stored: what is lost is said again by the next beat.
"""

import asyncio
import contextlib

import msgspec

from shared.bus import Bus, Mirror
from shared.clock import Clock
from shared.errors import BusError
from shared.topology import APPLIED_SUBJECT

BEAT_S = 5.0
"""How often a process says where it stands when nothing happens."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says: its name, the last change of `revoked` that it has applied, and when it says so."""

    instance: str
    revision: int
    at_ms: int


class Applied:
    """Speaks for one process, about one mirror."""

    def __init__(self, bus: Bus, mirror: Mirror, clock: Clock, instance: str) -> None:
        self._bus = bus
        self._mirror = mirror
        self._clock = clock
        self._instance = instance
        self._moved = asyncio.Event()
        self.sent = 0
        mirror.on_applied = self._moved.set

    async def run(self) -> None:
        """Speak, for ever. Nothing is said before the bucket was loaded whole: until then this process admits nobody,
        and knows no revision."""
        await self._mirror.wait_ready()
        while True:
            self._moved.clear()
            await self._say()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._moved.wait()

    async def _say(self) -> None:
        if not self._bus.connected:
            return
        now_ms = int(self._clock.now().timestamp() * 1_000)
        word = Word(instance=self._instance, revision=self._mirror.revision, at_ms=now_ms)
        with contextlib.suppress(BusError):
            await self._bus.send(APPLIED_SUBJECT, msgspec.json.encode(word))
            self.sent += 1
