"""How far the proxies are: each says up to which revision of `revoked` it refuses, at every change and as a heartbeat.

A revocation is in force when its entry stands in the bucket. What is told here is how soon the proxies, which hear of
it from the bucket, really refuse: with the answer to whoever revoked, and as a metric.
"""

import asyncio
import logging
from time import perf_counter

import msgspec

from services.auth.answers.revocations import FleetAnswer
from shared.bus import Bus
from shared.telemetry import Histogram
from shared.topology import APPLIED_SUBJECT

log = logging.getLogger(__name__)

WITHIN_MS = 250
"""How long the answer to a revocation waits for the proxies."""
ALIVE_S = 12.0
"""A proxy that was not heard for so long (it says something every 5 s) is not waited for."""
PROXIES_MAX = 10_000
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25)


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy says: it refuses all that stands in `revoked` up to `revision`."""

    instance: str
    revision: int
    at_ms: int = 0


class _Heard(msgspec.Struct, frozen=True):
    revision: int
    at_s: float


_decoder = msgspec.json.Decoder(Applied)


class Fleet:
    """Listens to the proxies. Times are those of the event loop."""

    def __init__(self, bus: Bus, *, seconds: Histogram) -> None:
        self._bus = bus
        self._seconds = seconds
        self._heard: dict[str, _Heard] = {}
        self._change = asyncio.Event()

    async def run(self) -> None:
        """Listen for ever; the subscription survives a lost connection. Raises BusUnavailable."""
        subscription = await self._bus.subscribe(APPLIED_SUBJECT, self.hear)
        try:
            await asyncio.Event().wait()
        finally:
            await subscription.unsubscribe()

    def hear(self, data: bytes) -> None:
        """Take one message of a proxy."""
        try:
            said = _decoder.decode(data)
        except msgspec.DecodeError as error:
            log.warning("a proxy says what it has applied in a way that cannot be read: %s", error)
            return
        if said.instance not in self._heard and len(self._heard) >= PROXIES_MAX:
            return
        self._heard[said.instance] = _Heard(said.revision, asyncio.get_running_loop().time())
        self._change.set()
        self._change = asyncio.Event()

    @property
    def alive(self) -> int:
        """How many proxies were heard lately."""
        return len(self._alive())

    async def applied(self, revision: int, *, began_s: float, within_ms: int = WITHIN_MS) -> FleetAnswer:
        """Wait until every living proxy refuses what stands at `revision`, or the time is over.

        `began_s` is when the revocation was begun, by `perf_counter`: the event loop's clock may go by milliseconds.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within_ms / 1000
        while True:
            alive = self._alive()
            done = sum(1 for heard in alive if heard.revision >= revision)
            left = until - loop.time()
            if done == len(alive) or left <= 0:
                break
            change = self._change
            try:
                async with asyncio.timeout(left):
                    await change.wait()
            except TimeoutError:
                continue
        took = max(0.0, perf_counter() - began_s)
        if alive and done == len(alive):
            self._seconds.observe(took)
        return FleetAnswer(proxies=len(alive), applied=done, ms=round(took * 1000, 2))

    def _alive(self) -> list[_Heard]:
        """The proxies heard lately; the others are forgotten."""
        since = asyncio.get_running_loop().time() - ALIVE_S
        for instance in [name for name, heard in self._heard.items() if heard.at_s < since]:
            del self._heard[instance]
        return list(self._heard.values())
