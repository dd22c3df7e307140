"""The bookkeeper's process: the consumer, followers of policy and prices, one internal HTTP port."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from litestar import Litestar

from services.ledger.bookkeeper.api import Shelf, routes
from services.ledger.bookkeeper.catalog import Catalog
from services.ledger.bookkeeper.consumer import Consumer
from services.ledger.bookkeeper.corrections import Corrections
from services.ledger.bookkeeper.meters import Meters
from services.ledger.bookkeeper.policies import Policies
from services.ledger.bookkeeper.rebuild import Rebuilds
from services.ledger.bookkeeper.store import Database
from services.ledger.settings import BookkeeperSettings, bookkeeper_settings
from shared.access import Gatekeeper, SecretHasher
from shared.bus import Bus
from shared.bus.apply import verify
from shared.clock import Clock, SystemClock
from shared.errors import StoreUnavailable
from shared.http import Health, internal_app
from shared.ids import uuid7
from shared.people import People
from shared.program import HttpServer, refuse_taken_port
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import AUTH, CATALOG_BUCKET, KEYS_BUCKET, LEDGER, REVOKED_BUCKET

log = logging.getLogger(__name__)

DATABASE_RETRY_S = 1.0
DATABASE_LOOK_S = 5.0
CATALOG_WAIT_S = 10.0
"""How long the first events wait for the price rows; without them they are stored unchecked."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running bookkeeper."""

    app: Litestar
    consumer: Consumer
    database: Database


async def main(stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises TundishError when it cannot start."""
    settings = bookkeeper_settings()
    common = settings.common
    logging.getLogger("asyncpg").setLevel(logging.ERROR)  # it tells each failed reconnection with a traceback
    refuse_taken_port(common.internal_host, common.internal_port, "TUNDISH_INTERNAL_PORT")
    async with running(settings, SystemClock()) as service:
        server = HttpServer(service.app, common.internal_host, common.internal_port)
        server.start()
        log.info("the ledger's books answer on http://%s:%d", common.internal_host, common.internal_port)
        await stop.wait()
        await server.stop()


@asynccontextmanager
async def running(settings: BookkeeperSettings, clock: Clock) -> AsyncGenerator[Service, None]:
    """The service with everything behind it at work. It starts without Postgres, not without NATS.

    Raises BusUnavailable, StreamChanged when the topology is missing.
    """
    common = settings.common
    async with AsyncExitStack() as stack:
        bus = await Bus.open(common.nats_url, user="bookkeeper", name=f"ledger-bookkeeper-{uuid7()}")
        stack.push_async_callback(bus.close)
        await verify(bus, AUTH, LEDGER, *(f"KV_{name}" for name in (CATALOG_BUCKET, KEYS_BUCKET, REVOKED_BUCKET)))
        created = (await bus.stream_info(LEDGER)).created
        database = Database(settings.postgres_url)
        stack.callback(database.close)
        tasks = Supervisor()
        stack.push_async_callback(tasks.close)
        metrics = Metrics()
        meters = Meters(metrics)
        catalog, policies = Catalog(bus), Policies(bus, metrics)
        people = People(bus, SecretHasher(settings.peppers), clock)
        consumer = Consumer(bus, database, catalog, meters, created=created)
        rebuilds = Rebuilds(bus, database, consumer, catalog, meters, tasks, created=created)
        corrections = Corrections(bus, database, policies, consumer, clock, partitions=common.partitions)
        with suppress(StoreUnavailable):  # told by the task below, which goes on trying
            await database.open()
        tasks.keep("database", lambda: _keep(database))
        tasks.keep("catalog", catalog.mirror.run)
        tasks.keep("keys-mirror", people.keys_mirror.run)
        tasks.keep("revoked-mirror", people.revoked_mirror.run)
        tasks.keep("policies", policies.run)
        tasks.keep("corrections", corrections.run)
        tasks.start("consumer", _consume(tasks, catalog, consumer))
        _publish_gauges(metrics, consumer)
        app = internal_app(
            health=_health(bus, database, policies, consumer, corrections, people),
            metrics=metrics,
            gate=Gatekeeper(master_key=common.master_key, peer_tokens=common.peer_tokens, keyring=people),
            routes=routes(Shelf(bus, database, policies, consumer, rebuilds, corrections, clock)),
        )
        yield Service(app=app, consumer=consumer, database=database)


async def _consume(tasks: Supervisor, catalog: Catalog, consumer: Consumer) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CATALOG_WAIT_S):
            await catalog.mirror.wait_ready()
    tasks.keep("consumer", consumer.run)


async def _keep(database: Database) -> None:
    """Connect, and look from time to time whether the database still answers."""
    try:
        await database.open()
    except StoreUnavailable as error:
        log.warning("the database is away, usage waits in the log: %s", error)
        await asyncio.sleep(DATABASE_RETRY_S)
        return
    await asyncio.sleep(DATABASE_LOOK_S)


def _health(
    bus: Bus, database: Database, policies: Policies, consumer: Consumer, corrections: Corrections, people: People
) -> Health:
    health = Health()
    health.check("nats", lambda: None if bus.connected else "not connected")
    health.check("postgres", lambda: database.problem)
    health.check("policies", lambda: None if policies.ready else "reading auth's log")
    health.check("consumer", lambda: consumer.problem)
    health.check("corrections", lambda: corrections.problem)
    health.check("mirror", lambda: None if people.ready else "not loaded yet")
    return health


def _publish_gauges(metrics: Metrics, consumer: Consumer) -> None:
    metrics.gauge("tundish_books_lag_messages", "Messages of the log not in the books yet.", lambda: consumer.lag)
    metrics.gauge("tundish_books_position", "The sequence up to which nothing is missing.", lambda: consumer.position)
