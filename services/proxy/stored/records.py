"""The buckets of stored objects: single entries by key, all entries of a pattern, and the records that lists show."""

import contextlib
from typing import Protocol

import msgspec

from services.proxy.domain.objects.records import ObjectRecord, RecordKind
from services.proxy.domain.objects.seal import Opened, object_hash, owner_hash
from shared.bus import Bucket, Bus, Entry
from shared.bus.tail import Tail
from shared.errors import Conflict
from shared.topology import OBJECTS_BUCKET, object_kv

ENTRIES_MAX = 20_000
"""Records of one owner that a list is made of; older ones are not shown."""
TRIES_MAX = 10


class Shelf(Protocol):
    """One bucket. All raise BusError; `create` and `update` raise Conflict when somebody else was first."""

    async def get(self, key: str) -> Entry | None:
        """The value with its revision."""
        ...

    async def create(self, key: str, value: bytes) -> int:
        """Write what is not there; the revision."""
        ...

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if nobody has since; the revision."""
        ...

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove it."""
        ...

    async def entries(self, pattern: str) -> dict[str, bytes]:
        """All that match a pattern such as `abc.file.*`."""
        ...


class BucketShelf(Bucket):
    """A bucket of NATS as a Shelf."""

    def __init__(self, bus: Bus, name: str) -> None:
        super().__init__(bus, name)
        self._all = bus

    async def entries(self, pattern: str) -> dict[str, bytes]:
        """All that match, read in one go, at most ENTRIES_MAX."""
        prefix = f"$KV.{self.name}."
        found: dict[str, bytes] = {}
        tail = Tail(self._all, f"KV_{self.name}", prefix + pattern, last_per_subject=True)
        async with contextlib.aclosing(tail.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    if message.data and message.operation is None:
                        found[message.subject.removeprefix(prefix)] = message.data
                if batch.caught_up or len(found) >= ENTRIES_MAX:
                    break
        return found


class Records:
    """The records of files and batches."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    @classmethod
    def of(cls, bus: Bus) -> "Records":
        """Those in NATS."""
        return cls(BucketShelf(bus, OBJECTS_BUCKET))

    async def get(self, owner: str, opened: Opened) -> ObjectRecord | None:
        """An object's record; None when there is none any more."""
        entry = await self._shelf.get(_key(owner, opened))
        return None if entry is None else msgspec.json.decode(entry.value, type=ObjectRecord)

    async def create(self, owner: str, opened: Opened, record: ObjectRecord) -> None:
        """Write a new object down; one that stands there already is left."""
        with contextlib.suppress(Conflict):
            await self._shelf.create(_key(owner, opened), msgspec.json.encode(record))

    async def said(self, owner: str, opened: Opened, said: bytes) -> None:
        """Foundry has shown the object anew."""
        for _ in range(TRIES_MAX):
            entry = await self._shelf.get(_key(owner, opened))
            if entry is None:
                return
            record = msgspec.json.decode(entry.value, type=ObjectRecord)
            if bytes(record.said) == said:
                return
            value = msgspec.json.encode(msgspec.structs.replace(record, said=msgspec.Raw(said)))
            with contextlib.suppress(Conflict):
                await self._shelf.update(_key(owner, opened), value, entry.revision)
                return

    async def remove(self, owner: str, opened: Opened) -> None:
        """The object is deleted."""
        if await self._shelf.get(_key(owner, opened)) is not None:
            await self._shelf.delete(_key(owner, opened))

    async def all(self, owner: str, kind: RecordKind) -> list[ObjectRecord]:
        """An owner's objects of a kind, oldest first."""
        found = await self._shelf.entries(f"{owner_hash(owner)}.{kind}.*")
        records = [msgspec.json.decode(value, type=ObjectRecord) for value in found.values()]
        return sorted(records, key=lambda record: (record.created_at, record.upstream))


def _key(owner: str, opened: Opened) -> str:
    return object_kv(owner_hash(owner), opened.kind, object_hash(opened))
