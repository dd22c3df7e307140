"""Running what is due: find the tick, claim its row, do the work, write down the outcome."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from services.scheduler.domain.schedule import ATTEMPTS_MAX, Job, due, overdue_s, retry_after_s
from services.scheduler.store import Store
from shared.clock import Clock
from shared.telemetry import Counter

log = logging.getLogger(__name__)

RUN_S_MAX = 240
"""No run lasts longer."""
CLAIM_S = 300
"""How long a tick is ours; longer than a run, so that a claim runs out only if its scheduler died."""

Work = Callable[[datetime], Awaitable[str]]
"""The work of one tick: gets when it was due, gives a sentence on what it did. Harmless to repeat."""


class Worker:
    """One job: `once` runs what is due of it."""

    def __init__(
        self,
        job: Job,
        work: Work,
        *,
        store: Store,
        clock: Clock,
        may_run: Callable[[], bool],
        ticks: Counter,
    ) -> None:
        self.job = job
        self._work = work
        self._store = store
        self._clock = clock
        self._may_run = may_run
        self._ticks = ticks
        self._last_finished: datetime | None = None

    async def follow(self, event: asyncio.Event) -> None:
        """For ever: wait for the event, then run what is due. Raises StoreError; start it again then."""
        while True:
            await event.wait()
            event.clear()
            await self.once()

    async def once(self) -> bool:
        """Run the tick that is due, if any and if no other scheduler has it; whether we finished it."""
        if not self._may_run():
            return False
        self._last_finished = await self._store.last_finished(self.job.name)
        found = due(self.job, self._last_finished, self._clock.now())
        if found is None:
            return False
        attempt = await self._store.claim(self.job.name, found.due_at, for_s=CLAIM_S, attempts_max=ATTEMPTS_MAX)
        if attempt is None:
            return False
        if found.missed:
            log.info("%s: makes good %d missed ticks", self.job.name, found.missed)
        return await self._run(found.due_at, attempt)

    def overdue_s(self) -> float:
        """Seconds since the oldest tick we know to be outstanding was due, while it is ours to run."""
        if not self._may_run():
            return 0.0
        return overdue_s(self.job, self._last_finished, self._clock.now())

    async def _run(self, due_at: datetime, attempt: int) -> bool:
        name = self.job.name
        try:
            async with asyncio.timeout(RUN_S_MAX):
                outcome = await self._work(due_at)
        except Exception as error:
            self._ticks.add(1, name, "failed")
            wait_s = retry_after_s(attempt)
            log.warning(
                "%s failed (attempt %d of %d, %s: %s)",
                name,
                attempt,
                ATTEMPTS_MAX,
                type(error).__name__,
                error,
            )
            reason = f"{type(error).__name__}: {error}"
            await self._store.fail(name, due_at, attempt, reason, retry_after_s=wait_s)
            return False
        if not await self._store.finish(name, due_at, attempt, outcome):
            self._ticks.add(1, name, "lost")
            log.warning("%s: another scheduler took the tick of %s over", name, due_at.isoformat())
            return False
        self._ticks.add(1, name, "ok")
        self._last_finished = due_at
        log.info("%s: %s", name, outcome)
        return True
