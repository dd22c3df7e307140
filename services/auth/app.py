"""The auth service: builds its parts, serves them, and takes them down in order."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from litestar import Litestar

from services.auth import settings as settings_of
from services.auth.api.audit import audit_operations
from services.auth.api.budgets import budget_operations
from services.auth.api.keys import key_operations
from services.auth.api.leaks import leak_operations
from services.auth.api.pace import Pace
from services.auth.api.pages import pages
from services.auth.api.pepper import pepper_operations
from services.auth.api.rotation import rotation_operations
from services.auth.api.routes import routes
from services.auth.audit.reading import Audit
from services.auth.audit.verifying import Verifier
from services.auth.commits import Commits
from services.auth.fleet import BUCKETS_S, Fleet
from services.auth.keys.killing import Killing
from services.auth.keys.leaks import Leaks
from services.auth.keys.managing import Keys
from services.auth.keys.reading import KeyReading
from services.auth.keys.revocations import Revocations
from services.auth.keys.revoking import Revoking
from services.auth.once import Once
from services.auth.parts import Parts
from services.auth.people.owners import Owners
from services.auth.pepper import Peppers, Rehashing, Watching
from services.auth.relay import Relay
from services.auth.rotation.rotating import Rotating
from services.auth.rotation.signing import Signing
from services.auth.rotation.targets.couriers import couriers
from services.auth.rotation.wiring import Rotation
from services.auth.scopes.budgets import Budgets
from services.auth.scopes.corrections import Corrections
from services.auth.scopes.following import Following
from services.auth.scopes.wiring import Scopes
from services.auth.secret import Vault
from services.auth.settings import Settings
from services.auth.spend import Ledger
from services.auth.store import EventStore
from services.auth.store_audit import AuditStore
from services.auth.store_database import Database
from services.auth.store_once import OnceStore
from services.auth.store_people import PeopleViews
from services.auth.store_pepper import PepperStore
from services.auth.store_views import Views
from shared.access import Gatekeeper
from shared.bus import Bucket, Bus
from shared.bus.apply import verify
from shared.clock import Clock, SystemClock
from shared.errors import BusUnavailable, StoreUnavailable
from shared.http import Health, internal_app
from shared.ids import uuid7
from shared.people import People
from shared.program import HttpServer, refuse_taken_port
from shared.sealing import Sealer
from shared.tasks import Supervisor
from shared.telemetry import Metrics, configure_logging
from shared.topology import AUTH, KEYS_BUCKET, REVOKED_BUCKET, SIGNALS, WORK

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
        await verify(bus, AUTH, f"KV_{KEYS_BUCKET}", f"KV_{REVOKED_BUCKET}", WORK, SIGNALS)
        database = Database(settings.postgres_url)
        stack.callback(database.close)
        ledger = Ledger(common.ledger_url, common.token, wait_ms=settings.spend_wait_ms)
        stack.push_async_callback(ledger.close)
        tasks = Supervisor()
        metrics = Metrics()
        parts, fleet = build(bus, database, ledger, tasks, clock, settings, metrics)
        stack.push_async_callback(parts.couriers.close)
        stack.push_async_callback(tasks.close)
        scopes = Scopes(parts, database)
        following = Following(parts.commits, parts.views, parts.relay, clock)
        with suppress(StoreUnavailable):  # told by the task below, which goes on trying
            await database.open()
        tasks.keep("keys-mirror", parts.people.keys_mirror.run)
        tasks.keep("revoked-mirror", parts.people.revoked_mirror.run)
        tasks.keep("relay", parts.relay.run)
        tasks.keep("fleet", fleet.run)
        tasks.keep("budget-objects", following.run)
        tasks.keep("cascade", scopes.cascade.run)
        tasks.keep("database", lambda: _keep_database(database, scopes))
        rotation = Rotation(parts, bus, database, Sealer(settings.peppers), settings.rotation, metrics)
        rotation.keep(tasks)
        app = application(bus, database, parts, scopes, following, settings, metrics, rotation)
        yield Service(app=app, parts=parts, bus=bus, database=database)


def build(
    bus: Bus,
    database: Database,
    ledger: Ledger,
    tasks: Supervisor,
    clock: Clock,
    settings: Settings,
    metrics: Metrics,
) -> tuple[Parts, Fleet]:
    """The parts of the use cases, wired, and what listens to the proxies; nothing runs yet."""
    vault, signing = Vault(settings.peppers), Signing(settings.peppers)
    store, views, users = EventStore(database), Views(database), PeopleViews(database)
    commits = Commits(store, clock, f"auth/{uuid7()}")
    people = People(bus, vault.hasher, clock)
    revocations = Revocations(Bucket(bus, REVOKED_BUCKET), people, commits, views, clock)
    relay = Relay(bus, store, clock, revocations.reconcile, metrics, wait_ms=settings.relay_wait_ms)
    fleet = Fleet(
        bus,
        seconds=metrics.histogram(
            "tundish_auth_revocation_fleet_seconds",
            "From the beginning of a revocation until every living proxy refused.",
            BUCKETS_S,
        ),
    )
    metrics.gauge("tundish_auth_fleet_proxies", "Proxy processes that were heard lately.", lambda: fleet.alive)
    revoked = metrics.counter(
        "tundish_auth_revocations_total", "Revocations put in force since the start.", "kind", "recorded"
    )
    revoking = Revoking(revocations, people, views, relay, fleet, tasks, counted=revoked)
    parts = Parts(
        commits=commits,
        views=views,
        people=people,
        revocations=revocations,
        revoking=revoking,
        relay=relay,
        vault=vault,
        couriers=couriers(
            signing=signing,
            clock=clock,
            vaults=settings.rotation.vaults,
            webhook_allow=settings.rotation.webhook_allow,
            cluster=settings.rotation.cluster,
        ),
        signing=signing,
        ledger=ledger,
        tasks=tasks,
        clock=clock,
        users=users,
        owners=Owners(users),
    )
    return parts, fleet


def application(
    bus: Bus,
    database: Database,
    parts: Parts,
    scopes: Scopes,
    following: Following,
    settings: Settings,
    metrics: Metrics,
    rotation: Rotation,
) -> Litestar:
    """The HTTP side: routes, health, metrics."""
    common = settings.common
    minted = metrics.counter("tundish_auth_keys_minted_total", "Keys minted since the start.")
    metrics.gauge(
        "tundish_auth_relay_lag_events", "Committed events that are not in force yet.", lambda: parts.relay.lag
    )
    health = Health()
    health.check("nats", lambda: None if bus.connected else "not connected")
    health.check("postgres", lambda: database.problem or (None if scopes.orgs.complete else "not prepared yet"))
    health.check("relay", parts.relay.problem)
    health.tell("relay", parts.relay.word)
    health.check("mirror", lambda: None if parts.people.fresh else "not following the buckets")
    rehashing = Rehashing(
        bus,
        parts.commits,
        parts.people,
        parts.relay,
        parts.vault,
        Sealer(settings.peppers),
        outcomes=metrics.counter(
            "tundish_auth_rehashed_total", "Secrets seen under an older pepper since the start.", "outcome"
        ),
    )
    parts.tasks.keep("rehash", rehashing.run)
    parts.tasks.keep("rehash-own", rehashing.run_own)
    keyring = Watching(parts.people, rehashing)
    gate = Gatekeeper(master_key=common.master_key, peer_tokens=common.peer_tokens, keyring=keyring)
    reserved = frozenset({common.master_key, common.token, *common.peer_tokens.values()})
    keys = Keys(parts, reserved=reserved, minted=minted, couriers=parts.couriers, signing=parts.signing)
    once = Once(OnceStore(database), Sealer(settings.peppers), parts.clock)
    parts.tasks.keep("once", once.sweep)
    leaks = Leaks(
        parts,
        bus,
        action=settings.leak_action,
        minting=rotation.minting,
        reported=metrics.counter("tundish_auth_leak_reports_total", "Tokens reported as leaked.", "outcome"),
    )
    log_of_changes = AuditStore(database)
    operations = [
        *key_operations(keys, KeyReading(parts), Killing(parts)),
        *rotation_operations(Rotating(parts, keys, rotation), rotation.exchanging),
        *scopes.operations(keys.generate),
        *budget_operations(Budgets(parts, following), Corrections(parts)),
        *leak_operations(leaks),
        *audit_operations(Audit(log_of_changes), Verifier(log_of_changes, bus)),
        *pepper_operations(Peppers(PepperStore(database), tuple(settings.peppers))),
    ]
    return internal_app(
        health=health,
        metrics=metrics,
        gate=gate,
        routes=[*routes(gate, once, Pace(parts.clock), operations), *pages(operations)],
        state={"operations": operations},
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
            if not scopes.orgs.complete:
                await scopes.orgs.ensure_default()
        except StoreUnavailable as error:
            if not away:
                log.warning("%s; keys can be blocked and deleted, nothing else", error)
            away = True
        else:
            if away:
                log.info("Postgres answers again")
            away = False
        await asyncio.sleep(DATABASE_RETRY_S if away else DATABASE_LOOK_S)
