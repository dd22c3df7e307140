"""Putting the scheduler together and taking it apart."""

import asyncio
import logging

from services.scheduler.api import StatusSource, scheduler_status
from services.scheduler.housekeeping import HOUSEKEEPING, Housekeeping
from services.scheduler.leadership import RENEW_S, Leadership
from services.scheduler.settings import SchedulerSettings, load_settings
from services.scheduler.store import Store
from services.scheduler.ticker import Ticker
from services.scheduler.worker import Worker
from shared.access import Gatekeeper
from shared.clock import Clock, SystemClock
from shared.http import Health, internal_app
from shared.ids import short_id
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
    leadership = Leadership(store, clock, node)
    ticker = Ticker(clock)
    metrics = Metrics()
    ticks = metrics.counter("tundish_scheduler_ticks_total", "Ticks run, by job and outcome.", "job", "outcome")
    housekeeping = Housekeeping(store, settings.keep_days)
    workers = [
        Worker(
            HOUSEKEEPING,
            housekeeping.run,
            store=store,
            clock=clock,
            may_run=lambda: leadership.leading,
            ticks=ticks,
        )
    ]
    metrics.gauge("tundish_scheduler_leader", "1 while this process ticks.", lambda: int(leadership.leading))
    metrics.gauge(
        "tundish_scheduler_overdue_seconds",
        "Age of the oldest tick that is due and not finished.",
        lambda: max(worker.overdue_s() for worker in workers),
    )
    health = Health()
    health.check("postgres", leadership.problem)
    health.check("ticking", ticker.problem)
    status = StatusSource(
        node=node,
        store=store,
        clock=clock,
        leadership=leadership,
        jobs=tuple(worker.job for worker in workers),
    )
    app = internal_app(
        health=health,
        metrics=metrics,
        gate=Gatekeeper(master_key=common.master_key, peer_tokens=common.peer_tokens),
        routes=[scheduler_status],
        state={"status": status},
    )
    server = HttpServer(app, common.internal_host, common.internal_port)
    supervisor = Supervisor()
    events = [ticker.every(worker.job.name, CHECK_S) for worker in workers]
    renewing = ticker.every("lease", RENEW_S)

    async def lead() -> None:
        while True:
            await renewing.wait()
            renewing.clear()
            led = leadership.leading
            await leadership.renew()
            if leadership.leading and not led:
                for event in events:
                    event.set()

    server.start()
    ticker.start()
    supervisor.keep("lease", lead)
    for worker, event in zip(workers, events, strict=True):
        supervisor.keep(worker.job.name, lambda worker=worker, event=event: worker.follow(event))
    log.info("scheduler %s listens on %s:%d", node, common.internal_host, common.internal_port)
    try:
        await stop.wait()
    finally:
        ticker.stop()
        await supervisor.close()
        await leadership.resign()
        await store.close()
        await server.stop()
