"""Price rows by the hash of their content: what a call was charged by, for checking."""

import logging

import msgspec

from shared.bus import Bus, Mirror
from shared.events import UsageRecorded
from shared.pricing import PriceRow
from shared.topology import CATALOG_BUCKET, price_kv

log = logging.getLogger(__name__)


class Catalog:
    """A mirror of the bucket `catalog`."""

    def __init__(self, bus: Bus) -> None:
        self._rows: dict[str, PriceRow] = {}
        self.mirror = Mirror(bus, CATALOG_BUCKET, on_load=self._load, on_put=self._put, on_remove=lambda _key: None)

    def row_of(self, event: UsageRecorded) -> PriceRow | None:
        """The row an event was priced by: from the bucket, else the one that travels with it, else None."""
        if event.price_id is not None:
            row = self._rows.get(price_kv(event.price_id))
            if row is not None:
                return row
        return event.price

    def _load(self, content: dict[str, bytes]) -> None:
        for key, value in content.items():
            self._put(key, value)

    def _put(self, key: str, value: bytes) -> None:
        if not key.startswith("p."):
            return
        try:
            self._rows[key] = msgspec.json.decode(value, type=PriceRow)
        except msgspec.MsgspecError as error:
            log.warning("price row %s cannot be read: %s", key, error)
