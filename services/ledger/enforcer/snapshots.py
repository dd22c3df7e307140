"""Keeps snapshots of the folded state in a bucket, and starts from them.

Chunks are written first, the manifest last and with compare-and-set, so a manifest names only what is complete, and of
several replicas that write at once one wins. Each chunk is named with its revision, so that nobody removes or reads
what another one has written over it. A process uses two names in turn: the bucket's keys do not grow with time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

import msgspec

from services.ledger.domain.snapshot import (
    SHAPE,
    Chunk,
    Extent,
    Manifest,
    Unusable,
    check,
    cut,
    digest,
    freeze,
    pack,
    positions_of,
    read_manifest,
    restore,
)
from services.ledger.domain.state import LedgerState
from services.ledger.enforcer.meters import Meters
from shared.bus import Bucket, Bus, Entry
from shared.clock import Clock
from shared.errors import BusError, Conflict, TundishError
from shared.ids import InstanceId
from shared.topology import AUTH, LEDGER, SNAPSHOTS_BUCKET, chunk_kv, snapshot_kv

log = logging.getLogger(__name__)

READ_TRIES = 3
NEWS_MS = 10 * 60_000
"""A state with anything new in it is written at least this often."""
ACTIVE_WAIT_S = 2.0
"""Whoever is in office lets a standby go first: writing takes time that callers would wait for."""
GAP_S = 5.0
"""Least time between two snapshots of one process, however fast it reads."""
RETRY_S = 10.0


async def extents(bus: Bus) -> dict[str, Extent]:
    """The streams we read, as they stand. Raises BusUnavailable."""
    found: dict[str, Extent] = {}
    for stream in (AUTH, LEDGER):
        info = await bus.stream_info(stream)
        found[stream] = Extent(info.created, info.state.first_seq, info.state.last_seq)
    return found


class SnapshotStore:
    """The snapshots of one partition, as one process reads and writes them."""

    def __init__(self, bus: Bus, partition: int, instance: InstanceId) -> None:
        self._bucket = Bucket(bus, SNAPSHOTS_BUCKET)
        self._partition = partition
        self._key = snapshot_kv(partition)
        self._names = tuple(f"{partition}-{instance}-{turn}" for turn in (0, 1))
        self._swept = False
        self._bad_revision: int | None = None

    async def load(self, streams: Mapping[str, Extent]) -> LedgerState:
        """The newest usable state, or an empty one that reads the logs from their beginning.

        Raises BusUnavailable, and TundishError when the logs do not begin at their beginning any more.
        """
        for _ in range(READ_TRIES):
            entry = await self._bucket.get(self._key)
            if entry is None:
                break
            try:
                return await self._read(entry, streams)
            except Unusable as error:
                again = await self._bucket.get(self._key)
                if again is not None and again.revision != entry.revision:
                    continue  # a newer one has taken its place while we read
                log.warning("partition %d: the snapshot is not used: %s", self._partition, error)
                self._bad_revision = entry.revision
                break
        for name, stream in streams.items():
            if stream.first > 1:
                raise TundishError(
                    f"stream {name} begins at {stream.first} and no snapshot holds what came before:"
                    " restore the bucket of snapshots, or the stream"
                )
        return LedgerState(partition=self._partition)

    async def newest(self) -> Manifest | None:
        """The manifest in force, None when there is none or it was of no use to us. Raises BusUnavailable."""
        entry = await self._bucket.get(self._key)
        return None if entry is None or entry.revision == self._bad_revision else _manifest(entry)

    async def write(self, state: LedgerState, created: dict[str, str], clock: Clock) -> Manifest | None:
        """Store the state as it is now; None when another process was faster. Raises BusError."""
        swept, self._swept = self._swept, False
        entry = await self._bucket.get(self._key)
        before = None if entry is None else _manifest(entry)
        name = self._names[before is not None and before.snapshot == self._names[0]]
        frozen, positions, grant_seq, at = freeze(state), positions_of(state), state.grant_seq, clock.now()
        packed = await asyncio.to_thread(pack, frozen)
        chunks = tuple(
            [
                Chunk(number, await self._bucket.put(chunk_kv(name, number), piece))
                for number, piece in enumerate(cut(packed))
            ]
        )
        manifest = Manifest(
            snapshot=name,
            partition=self._partition,
            at=at,
            positions=positions,
            grant_seq=grant_seq,
            created=created,
            chunks=chunks,
            size=len(frozen),
            digest=digest(packed),
            shape=SHAPE,
        )
        try:
            revision = await self._replace(entry, manifest)
        except Conflict:
            await self._remove(manifest)
            self._swept = swept
            return None
        if before is not None:
            await self._remove(before)
        if not swept:
            await self._sweep(manifest, revision)
        self._swept = True
        return manifest

    async def _replace(self, entry: Entry | None, manifest: Manifest) -> int:
        data = msgspec.json.encode(manifest)
        if entry is None:
            return await self._bucket.create(self._key, data)
        return await self._bucket.update(self._key, data, entry.revision)

    async def _read(self, entry: Entry, streams: Mapping[str, Extent]) -> LedgerState:
        manifest = read_manifest(entry.value)
        check(manifest, self._partition, streams)
        chunks: list[bytes] = []
        for chunk in manifest.chunks:
            piece = await self._bucket.get(chunk_kv(manifest.snapshot, chunk.number))
            if piece is None or piece.revision != chunk.revision:
                raise Unusable(f"chunk {chunk.number} is gone")
            chunks.append(piece.value)
        state = restore(manifest, chunks)
        log.info(
            "partition %d: starting from the snapshot of %s (%d bytes), at %s",
            self._partition,
            manifest.at.isoformat(timespec="seconds"),
            manifest.size,
            manifest.positions,
        )
        return state

    async def _remove(self, manifest: Manifest) -> None:
        """Remove chunks that no manifest names any more; one that was written over meanwhile stays."""
        for chunk in manifest.chunks:
            with contextlib.suppress(Conflict):
                await self._bucket.delete(chunk_kv(manifest.snapshot, chunk.number), chunk.revision)

    async def _sweep(self, manifest: Manifest, revision: int) -> None:
        """Once, and again after a failure: remove chunks of processes that did not finish writing.

        A chunk that is older than the manifest in force and not named by it can never be named: its writer had read
        an older manifest, so its compare-and-set fails.
        """
        ours = {chunk_kv(manifest.snapshot, chunk.number) for chunk in manifest.chunks}
        for key in await self._bucket.keys("chunk.*.*"):
            if key in ours or not key.startswith(f"chunk.{self._partition}-"):
                continue
            entry = await self._bucket.get(key)
            if entry is not None and entry.revision < revision:
                with contextlib.suppress(Conflict):
                    await self._bucket.delete(key, entry.revision)


class SnapshotKeeper:
    """Decides when to write. `wake` is told of progress; `active` says whether this process decides for callers."""

    def __init__(
        self,
        store: SnapshotStore,
        state: LedgerState,
        clock: Clock,
        meters: Meters,
        *,
        created: dict[str, str],
        every: int,
        active: Callable[[], bool],
    ) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._meters = meters
        self._created = created
        self._every = every
        self._active = active
        self._known = positions_of(state)
        """How far the newest snapshot that we know of goes."""
        self._known_ms = clock.monotonic_ms()
        self._progress = asyncio.Event()

    @property
    def age_s(self) -> float:
        """How long ago this process saw a new snapshot (or started)."""
        return (self._clock.monotonic_ms() - self._known_ms) / 1000

    def wake(self) -> None:
        """Look whether it is time: something was read."""
        if self._behind() >= self._every:
            self._progress.set()

    async def run(self) -> None:
        """Write snapshots for ever. Raises BusUnavailable."""
        while True:
            await self._until_due()
            if self._active():
                await asyncio.sleep(ACTIVE_WAIT_S)
            try:
                await self.keep()
                await asyncio.sleep(GAP_S)
            except BusError as error:
                log.warning("no snapshot was written: %s", error)
                await asyncio.sleep(RETRY_S)

    async def keep(self) -> bool:
        """Write one, unless somebody else has written one as new; whether we did. Raises BusError."""
        newest = await self._store.newest()
        if newest is not None and newest.shape == SHAPE and newest.created == self._created:
            self._learn(newest.positions)
            if not self._due():
                return False
        began_ms = self._clock.monotonic_ms()
        manifest = await self._store.write(self._state, self._created, self._clock)
        if manifest is None:
            return False
        self._learn(manifest.positions)
        self._meters.snapshot(self._clock.monotonic_ms() - began_ms, manifest.size)
        return True

    async def _until_due(self) -> None:
        while not self._due():
            left_ms = self._known_ms + NEWS_MS - self._clock.monotonic_ms()
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_ms / 1000 if left_ms > 0 else NEWS_MS / 1000):
                    await self._progress.wait()

    def _due(self) -> bool:
        if self._behind() >= self._every:
            return True
        ours = positions_of(self._state)
        news = ours != self._known and all(ours[stream] >= known for stream, known in self._known.items())
        return news and self._clock.monotonic_ms() - self._known_ms >= NEWS_MS

    def _behind(self) -> int:
        return self._state.ledger_pos - self._known[LEDGER]

    def _learn(self, positions: dict[str, int]) -> None:
        if positions != self._known:
            self._known = positions
            self._known_ms = self._clock.monotonic_ms()


def _manifest(entry: Entry) -> Manifest | None:
    try:
        return read_manifest(entry.value)
    except Unusable:
        return None
