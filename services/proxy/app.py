"""The proxy process: everything is built here, started in order, and ended in order."""

import asyncio
import contextlib
import gc
import logging
import os
from typing import Any

from services.proxy.catalog import PriceRegister
from services.proxy.closing import close_instance
from services.proxy.config import Config, load_config
from services.proxy.directory import Directory
from services.proxy.domain.prices import PriceBook
from services.proxy.forwarder import Forwarder
from services.proxy.front import FrontDoor
from services.proxy.inference import Inference, Models
from services.proxy.journal import Journal, JournalError, sync_all
from services.proxy.publisher import Publisher
from services.proxy.recovery import Recovered, recover_all
from services.proxy.settings import ProxySettings, load
from services.proxy.till import Till
from services.proxy.treasury import Treasury
from services.proxy.upstream import Upstream
from shared.access import Gatekeeper, SecretHasher
from shared.allotment import MAX_CALL_MS
from shared.bus import Bus
from shared.bus.apply import verify
from shared.catalogue import load as load_catalogue
from shared.clock import SystemClock
from shared.errors import TundishError
from shared.http import Health, internal_app
from shared.ids import InstanceId, uuid7
from shared.program import HttpServer
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import LEDGER

log = logging.getLogger(__name__)

SYNC_S = 1.0
RECOVERY_S = 10.0
CLOSE_WAIT_S = 5.0
GC_THRESHOLDS = (50_000, 50, 50)


async def main(stop: asyncio.Event) -> None:
    """Run the proxy until `stop` is set. Raises TundishError when it cannot start."""
    proxy = await Proxy.build(load())
    try:
        await proxy.run(stop)
    finally:
        await proxy.close()


class Proxy:
    """One instance: its parts and their order."""

    def __init__(self, settings: ProxySettings, config: Config, book: PriceBook, bus: Bus, journal: Journal) -> None:
        self.settings = settings
        self.bus = bus
        self.clock = SystemClock()
        self.instance = journal.instance
        self.journal = journal
        self.tasks = Supervisor()
        self.metrics = Metrics()
        self.health = Health()
        self.recovered = Recovered()
        partitions = settings.common.partitions
        hasher = SecretHasher(settings.peppers)
        self.directory = Directory(bus, hasher, partitions)
        rows = {item.row for items in config.models.values() for item in items if item.row is not None}
        self.register = PriceRegister(bus, [*catalogue_rows(), *rows])
        self.publisher = Publisher(bus, journal, partitions)
        self.treasury = Treasury(bus, self.directory, self.clock, self.instance, partitions)
        self.upstream = make_upstream(settings)
        self.till = Till(
            journal=journal,
            publisher=self.publisher,
            treasury=self.treasury,
            register=self.register,
            book=book,
            clock=self.clock,
            instance=self.instance,
        )
        self.inference = Inference(
            directory=self.directory,
            treasury=self.treasury,
            till=self.till,
            publisher=self.publisher,
            upstream=self.upstream,
            models=Models(config.models),
            clock=self.clock,
            tasks=self.tasks,
            master_key=settings.common.master_key,
            body_bytes_max=settings.body_bytes_max,
            default_output_tokens=settings.default_output_tokens,
            exceeded_status=settings.exceeded_status,
        )
        self.forwarder = (
            Forwarder(
                {
                    "auth": settings.common.auth_url,
                    "ledger": settings.common.ledger_url,
                    "scheduler": settings.common.scheduler_url,
                }
            )
            if settings.admin
            else None
        )
        self.door = FrontDoor(
            inference=self.inference,
            forwarder=self.forwarder,
            health=self.health,
            calls=self.metrics.counter("tundish_calls_total", "Inference calls received.", "endpoint"),
            refused=self.metrics.counter("tundish_refused_total", "Requests answered with an error of ours.", "code"),
        )
        self._declare()
        self.public = HttpServer(self.door, settings.host, settings.port)
        self.internal = HttpServer(
            internal_app(
                health=self.health,
                metrics=self.metrics,
                gate=Gatekeeper(
                    master_key=settings.common.master_key, peer_tokens=settings.common.peer_tokens, hasher=None
                ),
            ),
            settings.common.internal_host,
            settings.common.internal_port,
        )

    @classmethod
    async def build(cls, settings: ProxySettings) -> "Proxy":
        """Read the configuration, connect, take a journal. Raises TundishError."""
        book = PriceBook(catalogue_rows())
        config = load_config(settings.config, os.environ, book)
        tell(config, settings)
        bus = await Bus.open(settings.common.nats_url, user="proxy", name="tundish-proxy")
        await verify(bus, LEDGER)
        try:
            journal = Journal(settings.common.home / "journal", InstanceId(uuid7()))
        except JournalError as error:
            raise TundishError(str(error)) from error
        return cls(settings, config, book, bus, journal)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, then drain: no call that has begun is cut within the drain time."""
        tasks = self.tasks
        tasks.keep("mirror-keys", self.directory.keys.run)
        tasks.keep("mirror-revoked", self.directory.revoked.run)
        tasks.keep("mirror-catalog", self.register.mirror.run)
        tasks.keep("catalog", self.register.run)
        self.publisher.start(tasks)
        self.treasury.start(tasks)
        tasks.keep("patience", self.inference.patience.run)
        tasks.keep("recovery", self._recover)
        tasks.keep("journal-sync", self._sync)
        tasks.start("closed-by-ledger", self._stop_when_closed(stop))
        self.internal.start()
        self.public.start()
        log.info("proxy instance %s listens on %s:%d", self.instance, self.settings.host, self.settings.port)
        spare_the_collector()
        await stop.wait()
        self.door.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self.inference.idle.wait()
        await self.public.stop()

    async def close(self) -> None:
        """Give money back, hand all usage to the log, close this instance there, and leave."""
        closed = False
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self.treasury.close()
                await self.publisher.drained()
                if not self.journal.calls_open:
                    closed = await self._close_at_ledger()
        except TimeoutError:
            log.warning("the ledger does not answer: the journal stays for the next start")
        await self.tasks.close()
        self.journal.close(remove=closed)
        await self.internal.stop()
        await self.upstream.close()
        if self.forwarder is not None:
            await self.forwarder.close()
        await self.bus.close()

    async def _close_at_ledger(self) -> bool:
        for partition in range(self.settings.common.partitions):
            last = self.publisher.last_n(partition)
            if not await close_instance(self.bus, self.clock, self.instance, partition, last, CLOSE_WAIT_S):
                return False
        return True

    async def _recover(self) -> None:
        """Finish dead instances, at the start and again and again."""
        root = self.settings.common.home / "journal"
        while True:
            await recover_all(
                self.bus, self.clock, root, self.instance, self.settings.common.partitions, self.recovered
            )
            await asyncio.sleep(RECOVERY_S)

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            await asyncio.to_thread(sync_all, self.journal.to_sync())

    async def _stop_when_closed(self, stop: asyncio.Event) -> None:
        """The ledger has given this instance up: nothing more may be admitted under its name."""
        await self.treasury.closed.wait()
        log.error("the ledger has closed this instance; it ends, and its successor starts under a new name")
        stop.set()

    def _declare(self) -> None:
        """Health checks and gauges."""
        self.health.check("keys", lambda: None if self.directory.ready else "not loaded yet")
        self.health.check("journal", lambda: self.journal.failed)
        gauge = self.metrics.gauge
        gauge("tundish_calls_running", "Inference calls in flight.", lambda: self.inference.running)
        gauge("tundish_bus_connected", "Whether NATS is connected.", lambda: int(self.bus.connected))
        gauge("tundish_usage_backlog", "Events the log does not have yet.", lambda: self.publisher.backlog)
        gauge("tundish_usage_published", "Events the log has.", lambda: self.publisher.published)
        gauge("tundish_usage_batches", "Messages those events went in.", lambda: self.publisher.batches)
        gauge("tundish_usage_failures", "Publishes that had to be repeated.", lambda: self.publisher.failures)
        gauge("tundish_asks", "Requests for money to the ledger.", lambda: self.treasury.asks)
        gauge("tundish_calls_waited", "Calls that waited for money.", lambda: self.treasury.waits)
        gauge("tundish_cost_nusd", "Cost of settled calls.", lambda: self.till.cost_nusd)
        gauge("tundish_overdraft_nusd", "Cost beyond what was held.", lambda: self.till.overdraft_nusd)
        gauge("tundish_recovered_events", "Events recovered from dead instances.", lambda: self.recovered.events)
        gauge("tundish_recovered_lost", "Calls of dead instances charged as lost.", lambda: self.recovered.lost)


def spare_the_collector() -> None:
    """Let the cycle collector run rarely and never over what was built at the start.

    A call makes no cycles; with Python's defaults the collector walks the whole heap many times a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def catalogue_rows() -> list[Any]:
    """The price rows of the built-in catalogue that have both prices."""
    return [row for entry in load_catalogue() if (row := entry.price_row()) is not None]


def make_upstream(settings: ProxySettings) -> Upstream:
    """The adapter that the settings name."""
    total_s = MAX_CALL_MS / 1000
    if settings.upstream == "httpx":
        from services.proxy.upstream.pure import HttpxUpstream

        return HttpxUpstream(total_s=total_s, idle_s=settings.upstream_idle_s)
    from services.proxy.upstream.reqwest import ReqwestUpstream

    return ReqwestUpstream(total_s=total_s, idle_s=settings.upstream_idle_s)


def tell(config: Config, settings: ProxySettings) -> None:
    """Say at the start which models are served, from where, and by which price."""
    for warning in config.warnings:
        log.warning("%s", warning)
    for deployments in config.models.values():
        for item in deployments:
            priced = f"priced as {item.row.model}, by {item.priced_by}" if item.row is not None else "WITHOUT A PRICE"
            log.info("model %s → deployment %s at %s, %s", item.model, item.name, item.host, priced)
    log.info("%d models from %s", len(config.models), settings.config)
