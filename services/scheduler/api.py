"""`GET /scheduler/status`: who ticks, and how each job stands."""

from datetime import datetime

import msgspec
from litestar import get

from services.scheduler.domain.schedule import Job, next_due
from services.scheduler.leadership import Leadership
from services.scheduler.store import Store, TickRow
from shared.clock import Clock
from shared.http import HttpRequest, admin_of


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One job: its newest tick and when it is due next."""

    name: str
    every_s: int
    next_due_at: datetime
    last: TickRow | None


class SchedulerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `leader`: this process holds the lease."""

    node: str
    leader: bool
    epoch: int | None
    jobs: list[JobStatus]


class StatusSource:
    """What the route reads from."""

    def __init__(self, *, node: str, store: Store, clock: Clock, leadership: Leadership, jobs: tuple[Job, ...]) -> None:
        self._node = node
        self._store = store
        self._clock = clock
        self._leadership = leadership
        self._jobs = jobs

    async def read(self) -> SchedulerStatus:
        """The state now. Raises StoreError."""
        now = self._clock.now()
        return SchedulerStatus(
            node=self._node,
            leader=self._leadership.leading,
            epoch=self._leadership.epoch,
            jobs=[
                JobStatus(
                    name=job.name,
                    every_s=job.every_s,
                    next_due_at=next_due(job, now),
                    last=await self._store.newest(job.name),
                )
                for job in self._jobs
            ],
        )


@get("/scheduler/status", summary="Who ticks, and how each job stands")
async def scheduler_status(request: HttpRequest) -> SchedulerStatus:
    """For administrators."""
    admin_of(request)
    source: StatusSource = request.app.state.status
    return await source.read()
