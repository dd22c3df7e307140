"""The scheduler's HTTP API: how its jobs stand, whose secrets are due when, and the newest signals."""

from datetime import datetime

from litestar import get
from litestar.types import ControllerRouterHandler

from services.scheduler.alerts import Alerts, subject_of
from services.scheduler.domain.schedule import Job, next_due
from services.scheduler.leadership import Leadership
from services.scheduler.line import Line
from services.scheduler.projection import Projection
from services.scheduler.rotator import EVERY_S
from services.scheduler.schemas import (
    AlertPage,
    JobStatus,
    LastRotation,
    RotationStatus,
    ScheduledKey,
    SchedulePage,
    SchedulerStatus,
)
from services.scheduler.store import Store
from services.scheduler.store_rotation import RotationStore, ScheduleRow
from shared.access import Right
from shared.clock import Clock
from shared.http import HttpRequest, admitted
from shared.query import PAGE_SIZE, PAGE_SIZE_MAX, number, page_and_size, query_of

POSITION_MAX = 2**53
_SCHEDULE_QUERY = ("page", "size", "key_id")
_ALERT_QUERY = ("limit", "kind", "scope", "before")


class Desk:
    """What the routes read from."""

    def __init__(
        self,
        *,
        store: Store,
        rotations: RotationStore,
        projection: Projection,
        line: Line,
        clock: Clock,
        leadership: Leadership,
        jobs: tuple[Job, ...],
    ) -> None:
        self.rotations = rotations
        self.line = line
        self.clock = clock
        self.alerts = Alerts(rotations)
        self._store = store
        self._projection = projection
        self._leadership = leadership
        self._jobs = jobs

    async def status(self) -> SchedulerStatus:
        """The state now. Raises StoreError."""
        now = self.clock.now()
        return SchedulerStatus(
            node=self._store.node,
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
            rotation=await self._rotation(now),
        )

    async def _rotation(self, now: datetime) -> RotationStatus:
        found = await self.rotations.summary(now)
        return RotationStatus(
            every_s=EVERY_S,
            scheduled=found.scheduled,
            overdue=found.overdue,
            unpublished=found.unpublished,
            next_due_at=found.next_due_at,
            last_due_at=found.last_due_at,
            position=self._projection.position,
            lag=self._projection.lag,
            problem=self._projection.problem(),
        )


def routes(desk: Desk) -> list[ControllerRouterHandler]:
    """`/scheduler/status`, `/rotation/schedule` and `/alerts`."""

    @get("/scheduler/status")
    async def status(request: HttpRequest) -> SchedulerStatus:
        admitted(request, Right.OPERATE, everywhere=True)
        query_of(request)
        return await desk.status()

    @get("/rotation/schedule")
    async def schedule(request: HttpRequest) -> SchedulePage:
        caller = admitted(request, Right.KEY_READ)
        query = query_of(request, *_SCHEDULE_QUERY)
        page, size = page_and_size(query)
        count, found = await desk.rotations.schedule(
            caller.bounds(), key_id=query.get("key_id"), limit=size, offset=(page - 1) * size
        )
        now = desk.clock.now()
        data = [_scheduled(row, now) for row in found]
        return SchedulePage(data=data, total_count=count, current_page=page, total_pages=-(-count // size))

    @get("/alerts")
    async def alerts(request: HttpRequest) -> AlertPage:
        caller = admitted(request, Right.KEY_READ)
        query = query_of(request, *_ALERT_QUERY)
        subject = subject_of(query.get("kind"), query.get("scope"))
        limit = number(query, "limit", PAGE_SIZE, PAGE_SIZE_MAX)
        before = number(query, "before", 1, POSITION_MAX) if "before" in query else None
        return await desk.alerts.page(desk.line.bus, caller, subject, limit=limit, before=before)

    return [status, schedule, alerts]


def _scheduled(row: ScheduleRow, now: datetime) -> ScheduledKey:
    plan, run = row.plan, row.last
    assert plan.interval is not None
    assert plan.interval_s is not None
    assert plan.anchor is not None
    assert plan.next_due_at is not None
    ended = plan.expires_at is not None and plan.expires_at <= max(plan.next_due_at, now)
    last = None
    if run is not None:
        last = LastRotation(
            due_at=run.due_at,
            missed=run.missed,
            told_at=run.published_at,
            version=run.version,
            minted_at=run.minted_at,
        )
    return ScheduledKey(
        key_id=plan.key_id,
        key_alias=plan.alias,
        organization_id=plan.org_id,
        team_id=plan.team_id,
        rotation_interval=plan.interval,
        interval_s=plan.interval_s,
        anchor=plan.anchor,
        key_rotation_at=plan.next_due_at,
        overdue=plan.next_due_at <= now and not row.blocked and not ended,
        blocked=row.blocked,
        expires=plan.expires_at,
        version=plan.version,
        last=last,
    )
