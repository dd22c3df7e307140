"""The enforcer's process: one office per partition, one internal HTTP port."""

import asyncio

from services.ledger.domain.tuning import Tuning
from services.ledger.enforcer.gauges import publish_gauges
from services.ledger.enforcer.meters import Meters
from services.ledger.enforcer.office import Office
from services.ledger.enforcer.snapshots import SnapshotStore, extents
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
from shared.topology import AUTH, BUDGETS_BUCKET, LEASES_BUCKET, LEDGER, SIGNALS, SNAPSHOTS_BUCKET

BUCKETS = (LEASES_BUCKET, BUDGETS_BUCKET, SNAPSHOTS_BUCKET)


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
        await verify(bus, AUTH, LEDGER, SIGNALS, *(f"KV_{bucket}" for bucket in BUCKETS))
        metrics = Metrics()
        fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        meters = Meters(metrics)
        tuning = Tuning(lease_ms=settings.lease_ms)
        offices = [
            await open_office(
                bus, partition, instance, meters, tuning=tuning, snapshot_every=settings.snapshot_every, fatal=fatal
            )
            for partition in range(common.partitions)
        ]
        publish_gauges(metrics, offices, meters)
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
        async with asyncio.TaskGroup() as group:
            for office in offices:
                group.create_task(office.retire())
        await supervisor.close()
        await server.stop()
        if fatal.done():
            fatal.result()
    finally:
        await bus.close()


async def open_office(
    bus: Bus,
    partition: int,
    instance: InstanceId,
    meters: Meters,
    *,
    tuning: Tuning,
    snapshot_every: int,
    fatal: "asyncio.Future[None]",
) -> Office:
    """A partition's office with its state as of the last snapshot. Raises TundishError."""
    streams = await extents(bus)
    store = SnapshotStore(bus, partition, instance)
    return Office(
        bus,
        await store.load(streams),
        instance,
        SystemClock(),
        meters,
        tuning=tuning,
        created={name: stream.created for name, stream in streams.items()},
        snapshots=store,
        snapshot_every=snapshot_every,
        fatal=fatal,
    )


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
        name = f"partition {office.state.partition}"
        health.check(name, office.problem)
        health.tell(name, office.word)
    return health
