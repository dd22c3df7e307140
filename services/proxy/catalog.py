"""Price rows that the ledger can look up: each is put into the `catalog` bucket under the hash of its content.

Until a row's put is acknowledged the row itself travels inside the usage events that it prices.
"""

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from shared.bus import Bucket, Bus, Mirror
from shared.ids import PriceId
from shared.pricing import PriceRow, price_id
from shared.topology import CATALOG_BUCKET, price_kv

log = logging.getLogger(__name__)

PUTS_AT_ONCE = 32


class PriceRegister:
    """Names rows, and makes the ledger know them."""

    def __init__(self, bus: Bus, rows: Iterable[PriceRow]) -> None:
        self._bucket = Bucket(bus, CATALOG_BUCKET)
        self._kept = list(rows)  # names go by identity, which needs the rows to live
        self._names = {id(row): price_id(row) for row in self._kept}
        self._rows = {self._names[id(row)]: row for row in self._kept}
        self._known: set[PriceId] = set()
        self._missing = asyncio.Event()
        self._missing.set()
        self.mirror = Mirror(bus, CATALOG_BUCKET, on_load=self._load, on_put=self._put, on_remove=self._remove)

    def name(self, row: PriceRow) -> tuple[PriceId, bool]:
        """A row's id, and whether the ledger can look it up already."""
        name = self._names.get(id(row))
        if name is None:
            name = price_id(row)
            self._kept.append(row)
            self._names[id(row)] = name
            if name not in self._rows:
                self._rows[name] = row
                self._missing.set()
        return name, name in self._known

    async def run(self) -> None:
        """Put what the bucket lacks, now and whenever a new row turns up. Raises BusError; run it again."""
        await self.mirror.wait_ready()
        while True:
            await self._missing.wait()
            self._missing.clear()
            missing = [name for name in self._rows if name not in self._known]
            try:
                for at in range(0, len(missing), PUTS_AT_ONCE):
                    async with asyncio.TaskGroup() as group:
                        for name in missing[at : at + PUTS_AT_ONCE]:
                            group.create_task(self._publish(name))
            except BaseException:
                self._missing.set()
                raise

    async def _publish(self, name: PriceId) -> None:
        await self._bucket.put(price_kv(name), msgspec.json.encode(self._rows[name]))
        self._known.add(name)

    def _load(self, content: dict[str, bytes]) -> None:
        self._known = {PriceId(key[2:]) for key in content if key.startswith("p.")}
        self._missing.set()

    def _put(self, key: str, value: bytes) -> None:
        self._known.add(PriceId(key[2:]))

    def _remove(self, key: str) -> None:
        self._known.discard(PriceId(key[2:]))
        self._missing.set()
