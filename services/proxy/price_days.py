"""Prices of the catalogue change over at midnight UTC of the day a new row begins, without a restart."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta

from services.proxy.domain.prices import PriceBook, Priced, reprice
from shared.catalogue import CatalogueRow, next_change, price_rows
from shared.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 900.0
"""Longest sleep: a machine that was asleep, or whose clock was set, is right again after it."""
LATE_S = 0.05
"""A little after midnight rather than a little before."""


class PriceDays:
    """Keeps a price book, and the deployments that are charged by it, at the prices of the day."""

    def __init__(
        self,
        book: PriceBook,
        rows: Sequence[CatalogueRow],
        deployments: Callable[[], Iterable[Priced]],
        clock: Clock,
    ) -> None:
        self._book = book
        self._rows = rows
        self._deployments = deployments
        self._clock = clock
        self._day = self._today()

    def turn(self) -> int:
        """Go over to the prices of today; how many deployments have another price now."""
        today = self._today()
        if today == self._day:
            return 0
        before, self._day = self._day, today
        first, last = min(before, today), max(before, today)
        begins = next_change(self._rows, first)
        if begins is None or begins > last:
            return 0
        self._book.replace(price_rows(self._rows, today))
        changed = sum(reprice(deployment, self._book) for deployment in self._deployments())
        log.info("prices of %s are in force: %d deployments have another price", today, changed)
        return changed

    async def run(self) -> None:
        """Turn at every midnight UTC, until cancelled."""
        while True:
            await asyncio.sleep(min(_until_midnight(self._clock.now()) + LATE_S, LOOK_S))
            self.turn()

    def _today(self) -> date:
        return self._clock.now().date()


def _until_midnight(now: datetime) -> float:
    """Seconds to the next midnight UTC."""
    tomorrow = datetime.combine(now.date() + timedelta(days=1), time(), tzinfo=now.tzinfo)
    return (tomorrow - now).total_seconds()
