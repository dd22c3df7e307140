"""The auth service: builds its parts, serves them, and takes them down in order."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from litestar import Litestar

from services.auth import settings as settings_of
from services.auth.api import budget_routes, key_routes, scope_routes
from services.auth.budgets import Budgets
from services.auth.commits import Commits
from services.auth.corrections import Corrections
from services.auth.directory import Directory
from services.auth.door import Door
from services.auth.following import Following
from services.auth.keys import Keys
from services.auth.killing import Killing
from services.auth.parts import Parts
from services.auth.relay import Relay
from services.auth.revocations import Revocations
from services.auth.scopes import Scopes
from services.auth.secret import Vault
from services.auth.settings import Settings
from services.auth.spend import Ledger
from services.auth.store import EventStore
from services.auth.store_database import Database
from services.auth.store_views import Views
from shared.access import Gatekeeper
from shared.bus import Bucket, Bus
from shared.bus.apply import verify
from shared.clock import Clock, SystemClock
from shared.errors import BusUnavailable, StoreUnavailable
from shared.http import Health, internal_app
from shared.ids import uuid7
from shared.program import HttpServer, refuse_taken_port
from shared.tasks import Supervisor
from shared.telemetry import Metrics, configure_logging
from shared.topology import AUTH, KEYS_BUCKET, REVOKED_BUCKET

log = logging.getLogger(__name__)

BUS_WAIT_S = 60.0
"""How long a start waits for NATS; without it nothing can be revoked, so there is nothing to serve."""
RETRY_S = 0.5
DATABASE_RETRY_S = 1.0
DATABASE_LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: the application and what is behind it."""

    app: Litestar
    parts: Parts
    bus: Bus
    database: Database


async def main(stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    settings = settings_of.load()
    common = settings.common
    configure_logging(common.log_format, common.log_level)
    refuse_taken_port(common.internal_host, common.internal_port, "TUNDISH_INTERNAL_PORT")
    async with running(settings, SystemClock()) as service:
        server = HttpServer(service.app, common.internal_host, common.internal_port)
        server.start()
        log.info("auth answers on http://%s:%d", common.internal_host, common.internal_port)
        await stop.wait()
        log.info("auth stops")
        await server.stop()


@asynccontextmanager
async def running(settings: Settings, clock: Clock) -> AsyncGenerator[Service, None]:
    """The service with everything behind it at work; closed in reverse order at the end.

    It starts without Postgres (keys can be blocked and deleted then), not without NATS: raises BusUnavailable
    after a while, StreamChanged when the topology is missing.
    """
    common = settings.common
    async with AsyncExitStack() as stack:
        bus = await _open_bus(common.nats_url)
        stack.push_async_callback(bus.close)
        await verify(bus, AUTH, f"KV_{KEYS_BUCKET}", f"KV_{REVOKED_BUCKET}")
        database = Database(settings.postgres_url)
        stack.callback(database.close)
        ledger = Ledger(common.ledger_url, common.token, wait_ms=settings.spend_wait_ms)
        stack.push_async_callback(ledger.close)
        tasks = Supervisor()
        stack.push_async_callback(tasks.close)
        parts = build(bus, database, ledger, tasks, clock, settings)
        scopes = Scopes(parts)
        following = Following(parts.commits, parts.views, parts.relay, clock)
        with suppress(StoreUnavailable):  # told by the task below, which goes on trying
            await database.open()
        tasks.keep("keys-mirror", parts.directory.keys_mirror.run)
        tasks.keep("revoked-mirror", parts.directory.revoked_mirror.run)
        tasks.keep("relay", parts.relay.run)
        tasks.keep("budget-objects", following.run)
        tasks.keep("database", lambda: _keep_database(database, scopes))
        app = application(bus, database, parts, scopes, following, settings)
        yield Service(app=app, parts=parts, bus=bus, database=database)


def build(bus: Bus, database: Database, ledger: Ledger, tasks: Supervisor, clock: Clock, settings: Settings) -> Parts:
    """The parts of the use cases, wired; nothing runs yet."""
    vault = Vault(settings.peppers)
    store, views = EventStore(database), Views(database)
    commits = Commits(store, clock, f"auth/{uuid7()}")
    directory = Directory(bus, vault)
    revocations = Revocations(Bucket(bus, REVOKED_BUCKET), directory, commits, views, clock)
    relay = Relay(bus, store, clock, revocations.reconcile, wait_ms=settings.relay_wait_ms)
    return Parts(
        commits=commits,
        views=views,
        directory=directory,
        revocations=revocations,
        relay=relay,
        vault=vault,
        ledger=ledger,
        tasks=tasks,
        clock=clock,
    )


def application(
    bus: Bus, database: Database, parts: Parts, scopes: Scopes, following: Following, settings: Settings
) -> Litestar:
    """The HTTP side: routes, health, metrics."""
    common = settings.common
    metrics = Metrics()
    minted = metrics.counter("tundish_auth_keys_minted_total", "Keys minted since the start.")
    revoked = metrics.counter(
        "tundish_auth_revocations_total", "Revocations put in force since the start.", "kind", "recorded"
    )
    metrics.gauge(
        "tundish_auth_relay_lag_events", "Committed events that are not in force yet.", lambda: parts.relay.lag
    )
    health = Health()
    health.check("nats", lambda: None if bus.connected else "not connected")
    health.check("postgres", lambda: database.problem or (None if scopes.complete else "not prepared yet"))
    health.check("relay", parts.relay.problem)
    health.check("mirror", lambda: None if parts.directory.fresh else "not following the buckets")
    gate = Gatekeeper(master_key=common.master_key, peer_tokens=common.peer_tokens, hasher=parts.vault.hasher)
    door = Door(gate, parts.directory, parts.vault, parts.clock)
    reserved = frozenset({common.master_key, common.token, *common.peer_tokens.values()})
    keys = Keys(parts, reserved=reserved, minted=minted)
    return internal_app(
        health=health,
        metrics=metrics,
        gate=gate,
        routes=[
            *key_routes(door, keys, Killing(parts, revoked=revoked)),
            *scope_routes(door, scopes),
            *budget_routes(door, Budgets(parts, following), Corrections(parts)),
        ],
    )


async def _open_bus(url: str) -> Bus:
    """Connect to NATS, waiting for it for a while."""
    loop = asyncio.get_running_loop()
    until = loop.time() + BUS_WAIT_S
    while True:
        try:
            return await Bus.open(url, user="auth", name="tundish-auth")
        except BusUnavailable as error:
            if loop.time() > until:
                raise
            log.warning("%s; trying again", error)
            await asyncio.sleep(RETRY_S)


async def _keep_database(database: Database, scopes: Scopes) -> None:
    """Connect as soon as that is possible, make the built-in organization, then look now and then."""
    away = False
    while True:
        try:
            await database.open()
            if not scopes.complete:
                await scopes.ensure_default()
        except StoreUnavailable as error:
            if not away:
                log.warning("%s; keys can be blocked and deleted, nothing else", error)
            away = True
        else:
            if away:
                log.info("Postgres answers again")
            away = False
        await asyncio.sleep(DATABASE_RETRY_S if away else DATABASE_LOOK_S)
