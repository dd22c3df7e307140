"""The proxy process: everything is built here, started in order, and ended in order."""

import asyncio
import contextlib
import gc
import logging
import os
from pathlib import Path

from services.proxy.applied import Applied
from services.proxy.body import BODY_WAIT_S, Patience
from services.proxy.catalog import PriceRegister
from services.proxy.config.file import Config, load_config
from services.proxy.directory import Directory
from services.proxy.domain.choice import Models
from services.proxy.domain.objects import Places, Seal
from services.proxy.domain.prices import PriceBook
from services.proxy.forwarder import Forwarder
from services.proxy.front import FrontDoor
from services.proxy.gossip import Gossip
from services.proxy.incarnation import Incarnation
from services.proxy.inference import Inference
from services.proxy.journal import JournalError
from services.proxy.levels import Levels
from services.proxy.limits import RateLimits
from services.proxy.models import ModelPages
from services.proxy.price_days import PriceDays
from services.proxy.realtime.session import Clockwork
from services.proxy.realtime.sessions import Realtime
from services.proxy.recovery import Recovered, recover_all
from services.proxy.rehash import Rehash
from services.proxy.relay.reader import SEND_TIMEOUT_S
from services.proxy.settings import ProxySettings, load
from services.proxy.stored.objects import StoredObjects
from services.proxy.till import Till
from services.proxy.treasury import Treasury
from services.proxy.upstream import Upstream
from shared.access import Gatekeeper, SecretHasher
from shared.allotment import MAX_CALL_MS
from shared.bus import Bus
from shared.bus.apply import verify
from shared.catalogue import load as load_catalogue
from shared.catalogue import price_rows
from shared.clock import Clock, SystemClock
from shared.errors import TundishError
from shared.http import Health, internal_app
from shared.pricing import PriceRow
from shared.program import HttpServer
from shared.sealing import Sealer
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import LEDGER

log = logging.getLogger(__name__)

RECOVERY_S = 10.0
RENEWAL_RETRY_S = 1.0
CLOSE_WAIT_S = 5.0
HAND_OVER_S = 5.0
"""How long a stop waits until responses in the background are left to other processes."""
UPSTREAM_MAX_S = MAX_CALL_MS / 1_000 - SEND_TIMEOUT_S - 5
"""How long Foundry may take for a whole reply. What was read last may still stall on its way to the caller, and the
ledger relies on it that no call lasts longer than MAX_CALL_MS in all."""
GC_THRESHOLDS = (50_000, 50, 50)


async def main(stop: asyncio.Event) -> None:
    """Run the proxy until `stop` is set. Raises TundishError when it cannot start."""
    proxy = await Proxy.build(load())
    try:
        await proxy.run(stop)
    finally:
        await proxy.close()


class Proxy:
    """One process: its parts and their order."""

    def __init__(
        self, settings: ProxySettings, config: Config, book: PriceBook, bus: Bus, incarnation: Incarnation
    ) -> None:
        self.settings = settings
        self.bus = bus
        self.clock = SystemClock()
        self.incarnation = incarnation
        instance = incarnation.instance
        self.tasks = Supervisor()
        self.metrics = Metrics()
        self.health = Health()
        self.recovered = Recovered()
        self.renewals = 0
        partitions = settings.common.partitions
        hasher = SecretHasher(settings.peppers)
        self.directory = Directory(bus, hasher, partitions)
        self.applied = Applied(bus, self.directory.revoked, self.clock, instance)
        self.rehash = Rehash(bus, self.clock, Sealer(settings.peppers), instance, self.directory.forget)
        self.directory.outdated = self.rehash.seen
        deployments = [item for items in config.models.values() for item in items]
        self.price_days = PriceDays(book, load_catalogue(), lambda: deployments, self.clock)
        rows = [item.row for items in config.models.values() for item in items if item.row is not None]
        self.register = PriceRegister(bus, [*catalogue_rows(self.clock), *rows])
        self.treasury = Treasury(bus, self.directory, self.clock, instance, partitions)
        self.levels = Levels(bus, self.treasury)
        self.limits = RateLimits(self.clock, instance)
        self.gossip = Gossip(bus, self.limits, self.clock, instance)
        self.upstream = make_upstream(settings)
        self.till = Till(
            journal=incarnation.journal,
            publisher=incarnation.publisher,
            treasury=self.treasury,
            register=self.register,
            book=book,
            clock=self.clock,
            instance=instance,
            facts=config.facts,
        )
        patience = Patience(BODY_WAIT_S)
        places = Places(config.models)
        seal = Seal(settings.peppers)
        self.stored = StoredObjects(
            bus=bus,
            upstream=self.upstream,
            places=places,
            seal=seal,
            directory=self.directory,
            treasury=self.treasury,
            till=self.till,
            book=book,
            clock=self.clock,
            tasks=self.tasks,
            patience=patience,
            body_bytes_max=settings.body_bytes_max,
            default_output_tokens=settings.default_output_tokens,
            exceeded_status=settings.exceeded_status,
        )
        models = Models(config.models)
        self.inference = Inference(
            directory=self.directory,
            treasury=self.treasury,
            till=self.till,
            upstream=self.upstream,
            models=models,
            clock=self.clock,
            tasks=self.tasks,
            seal=seal,
            places=places,
            follow=self.stored.background,
            patience=patience,
            master_key=settings.common.master_key,
            body_bytes_max=settings.body_bytes_max,
            default_output_tokens=settings.default_output_tokens,
            exceeded_status=settings.exceeded_status,
            limits=self.limits,
        )
        self.forwarder = Forwarder(
            {
                "auth": settings.common.auth_url,
                "ledger": settings.common.ledger_url,
                "scheduler": settings.common.scheduler_url,
            }
        )
        self.door = FrontDoor(
            inference=self.inference,
            forwarder=self.forwarder,
            health=self.health,
            pages=ModelPages(config.models),
            calls=self.metrics.counter("tundish_calls_total", "Inference calls received.", "endpoint"),
            refused=self.metrics.counter("tundish_refused_total", "Requests answered with an error of ours.", "code"),
            admin=settings.admin,
        )
        self.realtime = Realtime(
            inference=self.inference,
            till=self.till,
            models=models,
            book=book,
            clockwork=Clockwork(renew_s=settings.realtime_renew_s),
        )
        self.door.stored = self.stored
        self.door.realtime = self.realtime
        self._declare()
        self.public = HttpServer(self.door, settings.host, settings.port, websockets=True)
        self.internal = HttpServer(
            internal_app(
                health=self.health,
                metrics=self.metrics,
                gate=Gatekeeper(master_key=settings.common.master_key, peer_tokens=settings.common.peer_tokens),
            ),
            settings.common.internal_host,
            settings.common.internal_port,
        )

    @classmethod
    async def build(cls, settings: ProxySettings) -> "Proxy":
        """Read the configuration, connect, take a journal. Raises TundishError."""
        book = PriceBook(catalogue_rows(SystemClock()))
        config = load_config(settings.config, os.environ, book)
        tell(config, settings)
        bus = await Bus.open(settings.common.nats_url, user="proxy", name="tundish-proxy")
        await verify(bus, LEDGER)
        try:
            incarnation = Incarnation(bus, SystemClock(), journal_root(settings), settings.common.partitions)
        except JournalError as error:
            raise TundishError(str(error)) from error
        return cls(settings, config, book, bus, incarnation)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, then drain: no call that has begun is cut within the drain time."""
        tasks = self.tasks
        tasks.keep("mirror-keys", self.directory.keys.run)
        tasks.keep("mirror-revoked", self.directory.revoked.run)
        tasks.keep("applied", self.applied.run)
        tasks.keep("rehash", self.rehash.run)
        tasks.keep("mirror-catalog", self.register.mirror.run)
        tasks.keep("catalog", self.register.run)
        tasks.keep("mirror-budgets", self.levels.mirror.run)
        self.incarnation.start()
        self.treasury.start(tasks)
        self.gossip.start(tasks)
        tasks.keep("patience", self.inference.patience.run)
        tasks.keep("stored", self.stored.run)
        tasks.keep("price-days", self.price_days.run)
        tasks.keep("recovery", self._recover)
        tasks.keep("renewal", self._renew_when_closed)
        self.internal.start()
        self.public.start()
        instance = self.incarnation.instance
        log.info("proxy instance %s listens on %s:%d", instance, self.settings.host, self.settings.port)
        spare_the_collector()
        await stop.wait()
        self.door.draining = True
        self.realtime.draining.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self.inference.idle.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_S):
                await self.stored.drain()
        await self.public.stop()

    async def close(self) -> None:
        """Give money back, hand all usage to the log, close this instance there, and leave."""
        finished = False
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self.gossip.close()
                await self.treasury.close()
                finished = await self.incarnation.finish()
        except TimeoutError:
            log.warning("the ledger does not answer: the journal stays for the next start")
        await self.treasury.stop()
        await self.tasks.close()
        await self.incarnation.end(finished=finished)
        await self.internal.stop()
        await self.upstream.close()
        await self.forwarder.close()
        await self.bus.close()

    async def _recover(self) -> None:
        """Finish dead instances, at the start and again and again."""
        root = journal_root(self.settings)
        partitions = self.settings.common.partitions
        while True:
            own = self.incarnation.instance
            handed = self.stored.handed_over
            await recover_all(self.bus, self.clock, root, own, partitions, self.recovered, handed)
            await asyncio.sleep(RECOVERY_S)

    async def _renew_when_closed(self) -> None:
        """The ledger has given this instance up, because it was not heard of for too long: go on under a new name.

        Calls that run are settled under the old one, calls that wait for money wait on under the new one.
        """
        await self.treasury.closed.wait()
        old = self.incarnation
        log.error("the ledger has closed instance %s; going on under a new name", old.instance)
        try:
            new = Incarnation(self.bus, self.clock, journal_root(self.settings), self.settings.common.partitions)
        except JournalError as error:
            log.error("%s; trying again", error)
            await asyncio.sleep(RENEWAL_RETRY_S)
            return
        new.start()
        self.incarnation = new
        self.till.renew(new.books)
        self.treasury.renew(new.instance)
        self.renewals += 1
        self.tasks.start(f"live-out-{old.instance}", old.live_out())
        log.info("proxy instance %s has taken over", new.instance)

    def _declare(self) -> None:
        """Health checks and gauges."""
        self.health.check("keys", lambda: None if self.directory.ready else "not loaded yet")
        self.health.check("journal", lambda: self.incarnation.journal.failed)
        gauge = self.metrics.gauge
        gauge("tundish_calls_running", "Inference calls in flight.", lambda: self.inference.running)
        gauge("tundish_bus_connected", "Whether NATS is connected.", lambda: int(self.bus.connected))
        self.till.declare(self.metrics)
        self._declare_usage()
        self._declare_money()

    def _declare_usage(self) -> None:
        """What goes to the log, and what was found of dead instances."""
        gauge = self.metrics.gauge
        gauge("tundish_usage_backlog", "Events the log does not have yet.", lambda: self.incarnation.publisher.backlog)
        gauge("tundish_usage_published", "Events the log has.", lambda: self.incarnation.publisher.published)
        gauge("tundish_usage_batches", "Messages those events went in.", lambda: self.incarnation.publisher.batches)
        gauge(
            "tundish_usage_failures",
            "Publishes that had to be repeated.",
            lambda: self.incarnation.publisher.failures,
        )
        gauge("tundish_cost_nusd", "Cost of settled calls.", lambda: self.till.cost_nusd)
        gauge("tundish_recovered_events", "Events recovered from dead instances.", lambda: self.recovered.events)
        gauge("tundish_recovered_lost", "Calls of dead instances charged as lost.", lambda: self.recovered.lost)
        gauge(
            "tundish_background_running", "Background responses followed here.", lambda: self.stored.background.running
        )
        gauge(
            "tundish_background_handed",
            "Background responses left to any proxy.",
            lambda: self.stored.background.handed,
        )
        gauge(
            "tundish_deferred_waiting",
            "Batches and responses to be charged when done.",
            lambda: self.stored.watcher.waiting,
        )
        gauge(
            "tundish_deferred_booked",
            "Batches and responses charged by this process.",
            lambda: self.stored.watcher.booked,
        )
        gauge("tundish_realtime_sessions", "Realtime sessions that are open.", lambda: self.realtime.open)
        revoked = self.directory.revoked
        gauge("tundish_revoked_revision", "The last revocation that is in force here.", lambda: revoked.revision)
        gauge("tundish_rehash_reported", "Secrets reported to auth for an old pepper.", lambda: self.rehash.reported)
        gauge("tundish_renewals", "Times the ledger closed this instance and it got a new name.", lambda: self.renewals)

    def _declare_money(self) -> None:
        """The conversation with the ledger about money, and what is at hand."""
        gauge = self.metrics.gauge
        treasury = self.treasury
        told = treasury.bank.refusals.told
        gauge("tundish_asks", "Requests for money to the ledger.", lambda: treasury.bank.asks)
        gauge("tundish_calls_waited", "Calls that waited for money.", lambda: treasury.bank.waits)
        gauge("tundish_grant_wait_p99_ms", "99th percentile of waits for money, of late.", treasury.wait_p99_ms)
        gauge("tundish_refused_exceeded", "Calls refused as exceeded without asking.", lambda: told["exceeded"])
        gauge("tundish_refused_reserved", "Calls refused as reserved without asking.", lambda: told["reserved"])
        gauge("tundish_recalls", "Recalls answered.", lambda: treasury.bank.recalls)
        gauge("tundish_recalled_nusd", "Money given back for recalls.", lambda: treasury.bank.recalled_nusd)
        gauge("tundish_idle_nusd", "Money allotted here that no call holds.", treasury.idle_nusd)
        gauge("tundish_held_nusd", "Money held by running calls.", treasury.held_nusd)
        gauge("tundish_lease_left_s", "How long calls go on if the ledger stays silent.", treasury.lease_left_s)
        gauge("tundish_accounts_exhausted", "Accounts the ledger shows as exhausted.", lambda: self.levels.exhausted)
        gauge("tundish_limits_refused", "Calls refused by rate limits.", lambda: self.limits.refused)


def journal_root(settings: ProxySettings) -> Path:
    """The folder of all journals; processes on one machine may share it, and finish each other's."""
    return settings.common.home / "journal"


def spare_the_collector() -> None:
    """Let the cycle collector run rarely and never over what was built at the start.

    A call makes no cycles; with Python's defaults the collector walks the whole heap many times a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def catalogue_rows(clock: Clock) -> list[PriceRow]:
    """The price rows of the built-in catalogue that are in force today."""
    return list(price_rows(load_catalogue(), clock.now().date()))


def make_upstream(settings: ProxySettings) -> Upstream:
    """The adapter that the settings name."""
    if settings.upstream == "httpx":
        from services.proxy.upstream.pure import HttpxUpstream

        return HttpxUpstream(total_s=UPSTREAM_MAX_S, idle_s=settings.upstream_idle_s)
    from services.proxy.upstream.reqwest import ReqwestUpstream

    return ReqwestUpstream(total_s=UPSTREAM_MAX_S, idle_s=settings.upstream_idle_s)


def tell(config: Config, settings: ProxySettings) -> None:
    """Say at the start which models are served, from where, and by which price."""
    for warning in config.warnings:
        log.warning("%s", warning)
    for deployments in config.models.values():
        for item in deployments:
            priced = f"priced as {item.row.model}, by {item.priced_by}" if item.row is not None else "WITHOUT A PRICE"
            log.info("model %s → deployment %s at %s, %s", item.model, item.name, item.host, priced)
    log.info("%d models from %s", len(config.models), settings.config)
