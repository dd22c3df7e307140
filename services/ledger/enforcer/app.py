"""The enforcer's process: one office per partition, one internal HTTP port."""

import asyncio
import logging
from collections.abc import Callable

from services.ledger.enforcer.meters import Meters
from services.ledger.enforcer.office import Office, incarnations
from services.ledger.settings import EnforcerSettings, enforcer_settings
from shared.access import Gatekeeper
from shared.bus import Bus
from shared.bus.apply import verify
from shared.clock import SystemClock
from shared.http import Health, internal_app
from shared.ids import InstanceId, uuid7
from shared.program import HttpServer, refuse_taken_port
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import AUTH, LEASES_BUCKET, LEDGER, SIGNALS

log = logging.getLogger(__name__)


async def main(stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises TundishError when it cannot go on."""
    await run(enforcer_settings(), stop)


async def run(settings: EnforcerSettings, stop: asyncio.Event) -> None:
    """The same with given settings."""
    common = settings.common
    refuse_taken_port(common.internal_host, common.internal_port, "TUNDISH_INTERNAL_PORT")
    instance = InstanceId(uuid7())
    bus = await Bus.open(common.nats_url, user="enforcer", name=f"ledger-enforcer-{instance}")
    try:
        await verify(bus, AUTH, LEDGER, SIGNALS, f"KV_{LEASES_BUCKET}")
        metrics = Metrics()
        fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        created = await incarnations(bus)
        meters = Meters(metrics)
        offices = [
            Office(bus, partition, instance, SystemClock(), meters, created=created, fatal=fatal)
            for partition in range(common.partitions)
        ]
        _publish_gauges(metrics, offices)
        server = HttpServer(
            internal_app(
                health=_health(bus, offices),
                metrics=metrics,
                gate=Gatekeeper(master_key=common.master_key, peer_tokens=common.peer_tokens),
            ),
            common.internal_host,
            common.internal_port,
        )
        supervisor = Supervisor()
        for office in offices:
            office.start(supervisor)
        server.start()
        await _until(stop, fatal)
        await supervisor.close()
        for office in offices:
            await office.lease.release()
        await server.stop()
        if fatal.done():
            fatal.result()
    finally:
        await bus.close()


async def _until(stop: asyncio.Event, fatal: "asyncio.Future[None]") -> None:
    """Wait for the order to stop or for an error that a restart must heal."""
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(stop.wait())
        await asyncio.wait((stopping, fatal), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()


def _health(bus: Bus, offices: list[Office]) -> Health:
    health = Health()
    health.check("nats", lambda: None if bus.connected else "not connected")
    for office in offices:
        health.check(f"partition {office.state.partition}", office.problem)
    return health


def _publish_gauges(metrics: Metrics, offices: list[Office]) -> None:
    def total(read: Callable[[Office], int]) -> Callable[[], int]:
        return lambda: sum(read(office) for office in offices)

    metrics.gauge(
        "tundish_ledger_escrow_nusd",
        "Money granted and neither spent nor given back.",
        total(lambda office: office.state.escrow),
    )
    metrics.gauge(
        "tundish_ledger_lag_messages",
        "Messages of the logs not folded yet.",
        total(lambda office: sum(office.reader.lag.values())),
    )
    metrics.gauge(
        "tundish_ledger_active_partitions",
        "Partitions this process holds the office of.",
        total(lambda office: office.standing == "active"),
    )
    metrics.gauge(
        "tundish_ledger_epoch",
        "Sum of the epochs of all partitions: it rises with every change of office.",
        total(lambda office: office.state.epoch),
    )
    metrics.gauge(
        "tundish_ledger_waiting_requests",
        "Requests of proxies that wait for a decision.",
        total(lambda office: office.clerk.waiting),
    )
    metrics.gauge(
        "tundish_ledger_instances",
        "Proxy instances that are not closed.",
        total(lambda office: sum(not instance.final for instance in office.state.instances.values())),
    )
