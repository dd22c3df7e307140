"""The tick of rotation: what is due is decided in one transaction, and told from there until it is known to be told.

Whatever happens in between, nothing is lost (the decision stands in the outbox) and nothing is doubled (a due instant
is one row, and its event has one id, by which the stream drops a repetition and auth one that comes later).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from services.scheduler.projection import Projection
from services.scheduler.store_rotation import RotationStore, Unsent
from shared.bus import Bus
from shared.clock import Clock
from shared.events import RotationDue, encode
from shared.rotation import due_event_id
from shared.telemetry import Counter
from shared.topology import rotation_subject

log = logging.getLogger(__name__)

EVERY_S = 1
"""How often a scheduler looks whether a key is due."""
BATCH = 100
ROUNDS_MAX = 50
"""Most batches in one tick; what is left then waits for the next one."""
APART_MAX = timedelta(minutes=1)
"""A clock that is further from the database's decides nothing: ahead of it, a key's due instants up to a wrong date
would all be passed over, and auth would mint for none of them."""


class Rotator:
    """One scheduler's tick of rotation; any number of them may run."""

    def __init__(
        self,
        store: RotationStore,
        projection: Projection,
        clock: Clock,
        *,
        source: str,
        may_run: Callable[[], bool],
        rotations: Counter,
        common_time: Callable[[], Awaitable[datetime]] | None = None,
    ) -> None:
        """`common_time` is the clock that all schedulers share: the database's, unless another one is named."""
        self._store = store
        self._common_time = common_time or store.time
        self._apart: timedelta | None = None
        self._projection = projection
        self._clock = clock
        self._source = source
        self._may_run = may_run
        self._rotations = rotations
        self._earliest: datetime | None = None

    async def follow(self, event: asyncio.Event, bus: Bus) -> None:
        """For ever: wait for the event, then do what is due. Raises StoreError, BusUnavailable; run it again then."""
        while True:
            await event.wait()
            event.clear()
            await self.once(bus)

    async def once(self, bus: Bus) -> int:
        """Decide and tell what is due; how many events were told.

        While auth's log cannot be followed nothing is decided: several instants of a key would pile up, and the
        timetable might be out of date.
        """
        if not self._may_run() or not self._projection.fresh:
            return 0
        self._earliest = await self._store.earliest()
        if self._apart is None and (self._earliest is None or self._earliest > self._clock.now()):
            return 0
        await self.decide()
        told = await self.tell(bus)
        self._earliest = await self._store.earliest()
        return told

    async def decide(self) -> int:
        """Write down what is due; how many decisions are new. Raises StoreError."""
        decided = 0
        if await self._is_apart():
            return 0
        for _ in range(ROUNDS_MAX):
            runs = await self._store.decide(self._clock.now(), BATCH)
            for run in runs:
                self._rotations.add(1, "decided")
                if run.missed:
                    self._rotations.add(run.missed, "missed")
                    log.info("key %s: %d due instants were missed; it is due once", run.key_id, run.missed)
            decided += len(runs)
            if len(runs) < BATCH:
                break
        return decided

    async def tell(self, bus: Bus) -> int:
        """Publish the decisions in the outbox; how many. Raises StoreError, BusUnavailable: the rest stays there."""
        told = 0
        for _ in range(ROUNDS_MAX):
            found = await self._store.unsent(BATCH)
            for one in found:
                event = self._event(one)
                await bus.publish(rotation_subject(one.key_id), encode(event), msg_id=event.id)
                await self._store.sent(one.key_id, one.due_at, self._clock.now())
                self._rotations.add(1, "told")
                log.info("key %s: its secret is due to be replaced", one.key_id)
            told += len(found)
            if len(found) < BATCH:
                break
        return told

    def problem(self) -> str | None:
        """What readiness should say of the clock."""
        if self._apart is None:
            return None
        side = "ahead of" if self._apart > timedelta(0) else "behind"
        return f"this clock is {abs(self._apart)} {side} the database's: no rotation is decided"

    async def _is_apart(self) -> bool:
        """Whether this clock and the database's are too far apart; said in the log when it begins."""
        was, apart = self._apart, self._clock.now() - await self._common_time()
        self._apart = apart if abs(apart) > APART_MAX else None
        if self._apart is not None and was is None:
            log.error("%s", self.problem())
        return self._apart is not None

    def overdue_s(self) -> float:
        """Seconds since the oldest due instant that nobody was told of, while it is ours to tell."""
        if self._earliest is None or not self._may_run():
            return 0.0
        return max(0.0, (self._clock.now() - self._earliest).total_seconds())

    def _event(self, one: Unsent) -> RotationDue:
        return RotationDue(
            id=due_event_id(one.key_id, one.due_at),
            at=one.decided_at,
            source=self._source,
            key_id=one.key_id,
            due_at=one.due_at,
        )
