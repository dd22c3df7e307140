"""Who of several schedulers ticks: the holder of a lease row. It saves work; the tick rows protect."""

import logging

from services.scheduler.store import Store
from shared.clock import Clock
from shared.errors import StoreError

log = logging.getLogger(__name__)

LEASE_S = 15
RENEW_S = 5
MARGIN_S = 2
"""We stop believing in our lease this long before others may take it."""


class Leadership:
    """`leading` while the lease was renewed recently enough; `renew` is called every RENEW_S seconds."""

    def __init__(self, store: Store, clock: Clock, node: str) -> None:
        self._store = store
        self._clock = clock
        self._node = node
        self._until_ms = 0
        self.epoch: int | None = None
        self._problem: str | None = "not asked yet"

    @property
    def leading(self) -> bool:
        """Whether we hold the lease, measured on our own clock from before we asked."""
        return self.epoch is not None and self._clock.monotonic_ms() < self._until_ms

    async def renew(self) -> None:
        """Take or renew the lease. Raises StoreError while the database is away."""
        asked_ms = self._clock.monotonic_ms()
        try:
            epoch = await self._store.take_lease(LEASE_S)
        except StoreError as error:
            self._problem = str(error)
            raise
        self._problem = None
        if epoch is not None and epoch != self.epoch:
            log.info("scheduler %s ticks from now on (epoch %d)", self._node, epoch)
        if epoch is None and self.epoch is not None:
            log.warning("another scheduler ticks now")
        self.epoch = epoch
        self._until_ms = asked_ms + (LEASE_S - MARGIN_S) * 1_000

    async def resign(self) -> None:
        """Give the lease up at an orderly end."""
        if self.epoch is None:
            return
        self.epoch = None
        try:
            await self._store.drop_lease()
        except StoreError as error:
            log.info("the lease could not be given up and will run out: %s", error)

    def problem(self) -> str | None:
        """What readiness should say of the database: None when the last question was answered."""
        return self._problem
