"""Putting the scheduler together and taking it apart."""

import asyncio
import logging

from services.scheduler.api import Desk, routes
from services.scheduler.housekeeping import HOUSEKEEPING, Housekeeping
from services.scheduler.leadership import RENEW_S, Leadership
from services.scheduler.line import Line
from services.scheduler.projection import Projection
from services.scheduler.rotator import EVERY_S, Rotator
from services.scheduler.settings import SchedulerSettings, load_settings
from services.scheduler.store import Store
from services.scheduler.store_rotation import RotationStore
from services.scheduler.ticker import Ticker
from services.scheduler.worker import Worker
from shared.access import Gatekeeper, SecretHasher
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.http import Health, internal_app
from shared.ids import short_id
from shared.people import People
from shared.program import HttpServer, refuse_taken_port
from shared.tasks import Supervisor
from shared.telemetry import Metrics

log = logging.getLogger(__name__)

CHECK_S = 5.0
"""How often a worker looks whether its job is due."""


async def main(stop: asyncio.Event) -> None:
    """Run until `stop`. Raises SettingsError, or TundishError when the port is taken."""
    await run(load_settings(), SystemClock(), stop)


async def run(settings: SchedulerSettings, clock: Clock, stop: asyncio.Event) -> None:
    """The scheduler with given settings and clock."""
    common = settings.common
    refuse_taken_port(common.internal_host, common.internal_port, "TUNDISH_INTERNAL_PORT")
    node = short_id("scheduler")
    store = Store(settings.postgres_url, node)
    rotations = RotationStore(store)
    line = Line(common.nats_url, f"tundish-{node}", SecretHasher(settings.peppers), clock)
    leadership = Leadership(store, clock, node)
    ticker = Ticker(clock)
    metrics = Metrics()
    worker = Worker(
        HOUSEKEEPING,
        Housekeeping(store, rotations, settings.keep_days).run,
        store=store,
        clock=clock,
        may_run=lambda: leadership.leading,
        ticks=metrics.counter("tundish_scheduler_ticks_total", "Ticks run, by job and outcome.", "job", "outcome"),
    )
    projection = Projection(rotations, metrics)
    rotator = Rotator(
        rotations,
        projection,
        clock,
        source=node,
        may_run=lambda: leadership.leading,
        rotations=metrics.counter(
            "tundish_scheduler_rotations_total", "Due instants of keys: decided, told, or missed.", "what"
        ),
    )
    _publish_gauges(metrics, leadership, worker, rotator, projection)
    app = internal_app(
        health=_health(leadership, ticker, line, projection, rotator),
        metrics=metrics,
        gate=Gatekeeper(master_key=common.master_key, peer_tokens=common.peer_tokens, keyring=line),
        routes=routes(
            Desk(
                store=store,
                rotations=rotations,
                projection=projection,
                line=line,
                clock=clock,
                leadership=leadership,
                jobs=(worker.job,),
            )
        ),
    )
    server = HttpServer(app, common.internal_host, common.internal_port)
    tasks = Supervisor()
    housekeeping, rotating = ticker.every(worker.job.name, CHECK_S), ticker.every("rotation", EVERY_S)
    renewing = ticker.every("lease", RENEW_S)

    def connected(bus: Bus, people: People) -> None:
        tasks.keep("keys-mirror", people.keys_mirror.run)
        tasks.keep("revoked-mirror", people.revoked_mirror.run)
        tasks.keep("timetable", lambda: projection.run(bus))
        tasks.keep("rotation", lambda: rotator.follow(rotating, bus))

    server.start()
    ticker.start()
    tasks.keep("lease", lambda: _lead(leadership, renewing, (housekeeping, rotating)))
    tasks.keep(worker.job.name, lambda: worker.follow(housekeeping))
    tasks.start("nats", line.connect(connected))
    log.info("scheduler %s listens on %s:%d", node, common.internal_host, common.internal_port)
    try:
        await stop.wait()
    finally:
        ticker.stop()
        await tasks.close()
        await leadership.resign()
        await line.close()
        await store.close()
        await server.stop()


async def _lead(leadership: Leadership, renewing: asyncio.Event, work: tuple[asyncio.Event, ...]) -> None:
    """Renew the lease whenever it is time; who has just got it looks at once what is due."""
    while True:
        await renewing.wait()
        renewing.clear()
        led = leadership.leading
        await leadership.renew()
        if leadership.leading and not led:
            for event in work:
                event.set()


def _health(leadership: Leadership, ticker: Ticker, line: Line, projection: Projection, rotator: Rotator) -> Health:
    health = Health()
    health.check("postgres", leadership.problem)
    health.check("ticking", ticker.problem)
    health.check("nats", line.problem)
    health.check("mirror", line.keys_problem)
    health.check("timetable", projection.problem)
    health.check("clock", rotator.problem)
    return health


def _publish_gauges(
    metrics: Metrics, leadership: Leadership, worker: Worker, rotator: Rotator, projection: Projection
) -> None:
    metrics.gauge("tundish_scheduler_leader", "1 while this process ticks.", lambda: int(leadership.leading))
    metrics.gauge(
        "tundish_scheduler_overdue_seconds", "Age of the oldest tick that is due and not finished.", worker.overdue_s
    )
    metrics.gauge(
        "tundish_scheduler_rotation_overdue_seconds",
        "Age of the oldest due rotation that nobody was told of.",
        rotator.overdue_s,
    )
    metrics.gauge(
        "tundish_scheduler_timetable_lag_messages",
        "Messages of auth's log that are not in the timetable yet.",
        lambda: projection.lag,
    )
