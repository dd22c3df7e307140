"""The bucket `keys` as the relay keeps it: read whole, then written, each write fenced by the revision before.

Every message in it is counted: when there are more than this process has read and written, somebody else wrote there
(another relay, or whoever had an acknowledgement put there, see `shared.auth_log`), and it is read and levelled again.
"""

import asyncio
import logging
from contextlib import aclosing
from datetime import datetime

import msgspec

from services.auth.domain.records import Record, Records, in_order
from shared.bus import Bucket, Bus, Tail
from shared.errors import Conflict
from shared.telemetry import Metrics
from shared.topology import BUCKETS, KEYS_BUCKET

log = logging.getLogger(__name__)

CHECKPOINT_NAME = "relay"
WRITES_AT_ONCE = 64
HEADERS_BYTES = 1024
"""What the headers of a message may take of the size that the bucket allows."""
VALUE_BYTES_MAX = next(bucket.max_value_size for bucket in BUCKETS if bucket.name == KEYS_BUCKET) - HEADERS_BYTES
_RECORD_PREFIXES = ("s.", "k.", "t.", "o.")


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far the bucket follows AUTH (`created` tells which AUTH that is)."""

    created: str
    seq: int
    position: int
    at: datetime

    def says_as_much(self, other: "Checkpoint") -> bool:
        """Whether the other one says the same."""
        return (self.created, self.seq, self.position) == (other.created, other.seq, other.position)


class KeysBucket:
    """The bucket's names with their revisions, as one relay knows them."""

    def __init__(self, bus: Bus, metrics: Metrics) -> None:
        self._bus = bus
        self._bucket = Bucket(bus, KEYS_BUCKET)
        self._revisions: dict[str, int] = {}
        self._standing: dict[str, bytes] = {}
        self._checkpoint: Checkpoint | None = None
        self._end = 0
        self._refused: set[str] = set()
        metrics.gauge(
            "tundish_auth_records_too_large",
            "Records that do not fit into the bucket `keys`: whom they concern is refused.",
            lambda: self.refused,
        )

    @property
    def refused(self) -> int:
        """How many records do not fit."""
        return len(self._refused)

    async def read(self) -> Checkpoint | None:
        """Learn what stands there; the checkpoint. Raises BusError."""
        content: dict[str, tuple[bytes, int]] = {}
        prefix = len(f"$KV.{KEYS_BUCKET}.")
        end = (await self._bus.stream_info(f"KV_{KEYS_BUCKET}")).state.last_seq
        tail = Tail(self._bus, f"KV_{KEYS_BUCKET}", f"$KV.{KEYS_BUCKET}.>", last_per_subject=True)
        async with aclosing(tail.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    value = b"" if message.operation is not None else message.data
                    content[message.subject[prefix:]] = (value, message.seq)
                    end = max(end, message.seq)
                if batch.caught_up:
                    break
        self._end = end
        self._revisions = {name: revision for name, (_, revision) in content.items()}
        self._standing = {name: value for name, (value, _) in content.items() if value}
        self._checkpoint = _checkpoint(self._standing.pop(CHECKPOINT_NAME, None))
        return self._checkpoint

    async def look(self) -> None:
        """Raises Conflict when somebody else has written there since it was read, BusUnavailable."""
        last = (await self._bus.stream_info(f"KV_{KEYS_BUCKET}")).state.last_seq
        if last != self._end:
            raise Conflict(f"the bucket {KEYS_BUCKET} was written by somebody else: it is read again")

    async def level(self, records: Records, checkpoint: Checkpoint) -> None:
        """Make the bucket say exactly what the records say, whatever was read there. Raises BusError."""
        by_name = records.by_name
        different = [name for name, record in by_name.items() if self._standing.get(name) != self._value(name, record)]
        different += [name for name in self._standing if name not in by_name and name.startswith(_RECORD_PREFIXES)]
        self._standing = {}
        if different:
            log.info("the bucket %s differs from AUTH in %d records", KEYS_BUCKET, len(different))
        await self.write(different, records, checkpoint)

    async def write(self, names: list[str], records: Records, checkpoint: Checkpoint) -> None:
        """Write the present records of these names, then the checkpoint. Raises BusError."""
        for group in in_order(names, records):
            for start in range(0, len(group), WRITES_AT_ONCE):
                await self._write_all(group[start : start + WRITES_AT_ONCE], records)
        if self._checkpoint is not None and self._checkpoint.says_as_much(checkpoint):
            return  # two relays would wake each other for ever
        await self._put(CHECKPOINT_NAME, msgspec.json.encode(checkpoint))
        self._checkpoint = checkpoint

    async def _write_all(self, names: list[str], records: Records) -> None:
        try:
            async with asyncio.TaskGroup() as writes:
                for name in names:
                    writes.create_task(self._write(name, records))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _write(self, name: str, records: Records) -> None:
        record = records.by_name.get(name)
        value = self._value(name, record)
        if value is not None:
            await self._put(name, value)
        elif name in self._revisions:
            await self._bucket.delete(name, self._revisions.pop(name))
            self._end += 1

    def _value(self, name: str, record: Record | None) -> bytes | None:
        """What is to stand under a name: nothing, if the record does not fit, so that it stops no other."""
        value = None if record is None else msgspec.json.encode(record)
        if value is None or len(value) <= VALUE_BYTES_MAX:
            self._refused.discard(name)
            return value
        if name not in self._refused:
            log.error("the record %s has %d bytes and does not fit: whom it concerns is refused", name, len(value))
            self._refused.add(name)
        return None

    async def _put(self, name: str, value: bytes) -> None:
        revision = self._revisions.get(name)
        if revision is None:
            self._revisions[name] = await self._bucket.create(name, value)
        else:
            self._revisions[name] = await self._bucket.update(name, value, revision)
        self._end += 1


def _checkpoint(value: bytes | None) -> Checkpoint | None:
    """What is no checkpoint is none: then everything is compared once more."""
    try:
        return None if value is None else msgspec.json.decode(value, type=Checkpoint)
    except msgspec.DecodeError:
        log.warning("the checkpoint of the relay cannot be read, and is written anew")
        return None
