"""The journal: what a proxy instance has begun and what it has spent, on disk before anybody is told.

One folder per instance, locked while it lives. An `open` record is written before the first byte goes upstream,
a `usage` record before the last byte goes to the caller; `acked` marks what the ledger's log has. A torn tail is
expected after a crash. Segments are deleted oldest first, once the log has all their usage and no call of theirs
is open; opens that would keep an old segment alive are copied forward.

Frame: 4 bytes length, 4 bytes CRC-32 (of kind and payload), 1 byte kind, then the payload (JSON).
Frames are written through a shared mapping of the file, so that a write is a copy in memory and no system call (which
would hand Python's lock to other threads twice a call). The pages are the system's: a killed process loses nothing, a
lost machine at most the time since the last sync. Space is reserved ahead, so that a full disk refuses a reservation
and never a page. What follows the last frame is zeros.
"""

import fcntl
import logging
import mmap
import os
import struct
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zlib import crc32

import msgspec

from shared.events import AccountWindow, UsageRecorded
from shared.ids import CallId, InstanceId, KeyId, OrgId, PriceId, TeamId
from shared.pricing import PriceRow

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 * 1024 * 1024
RESERVE_BYTES = 512 * 1024
"""Disk space is reserved in pieces of this size."""
FRAME_BYTES_MAX = 1024 * 1024
COPY_FORWARD_MAX = 10_000
LOCK_NAME = "lock"
_HEAD = struct.Struct(">IIB")
OPEN, USAGE, ACKED = 1, 2, 3


class JournalError(Exception):
    """The journal cannot be written: no call may begin."""


class OpenRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A call that has begun, with all that is needed to charge it if nobody ever hears how it ended.

    `secret_version` and `tags` are for its usage event, which recovery so fills like any other.
    """

    call_id: CallId
    partition: int
    held_nusd: int
    windows: tuple[AccountWindow, ...]
    key_id: KeyId
    org_id: OrgId
    endpoint: str
    model: str
    deployment: str
    started_at: datetime
    serial: int | None = None
    team_id: TeamId | None = None
    price_id: PriceId | None = None
    price: PriceRow | None = None
    secret_version: int = msgspec.field(default=0, name="v")
    tags: tuple[str, ...] = ()


class Acked(msgspec.Struct, frozen=True, array_like=True):
    """Every event of a partition up to this `n` is in the log."""

    partition: int
    n: int


class Segment:
    """One file of the journal; `live` counts open calls and unacknowledged events in it."""

    __slots__ = ("_map", "_reserved", "fd", "live", "opens", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self.fd, SEGMENT_BYTES)
            self._map = mmap.mmap(self.fd, SEGMENT_BYTES)
        except OSError:
            os.close(self.fd)
            raise
        self._reserved = 0
        self.size = 0
        self.live = 0
        self.opens: dict[str, bytes] = {}

    def append(self, frame: bytes) -> None:
        """Write one frame whole, or raise OSError and nothing of it."""
        end = self.size + len(frame)
        if end > self._reserved:
            length = max(RESERVE_BYTES, end - self._reserved)
            reserve(self.fd, self._reserved, length)
            self._reserved += length
            if self._reserved > len(self._map):
                self._map.resize(self._reserved)
        self._map[self.size : end] = frame
        self.size = end

    def seal(self) -> None:
        """Nothing more is written here: give back what was reserved and not used."""
        self._map.close()
        os.ftruncate(self.fd, self.size)


def reserve(fd: int, at: int, length: int) -> None:
    """Make sure that the disk has room for these bytes of a file. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, at, length)
    else:
        os.pwrite(fd, bytes(length), at)


_encoder = msgspec.json.Encoder()


class Journal:
    """The journal of this instance. All writes are synchronous and raise JournalError when the disk refuses."""

    def __init__(self, root: Path, instance: InstanceId) -> None:
        self.instance = instance
        self.folder = root / instance
        self._number = 0
        self.failed: str | None = None
        try:
            root.mkdir(parents=True, mode=0o700, exist_ok=True)
            self.folder.mkdir(mode=0o700)
            self._lock = os.open(self.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._current = self._next_segment()
        except OSError as error:
            raise JournalError(f"the journal in {self.folder} cannot be made: {error.strerror}") from error
        self._old: deque[Segment] = deque()
        self._open: dict[str, Segment] = {}
        self._unsynced: list[int] = []
        self._marks: dict[int, int] = {}
        self._unmarked: set[int] = set()

    @property
    def calls_open(self) -> int:
        """Calls that have begun and not ended."""
        return len(self._open)

    def opened(self, record: OpenRecord) -> None:
        """Write that a call begins. Raises JournalError: the call must not begin then."""
        payload = _encoder.encode(record)
        self._write(OPEN, payload)
        segment = self._current
        segment.live += 1
        segment.opens[record.call_id] = payload
        self._open[record.call_id] = segment

    def used(self, call_id: str, event: bytes) -> Segment:
        """Write how a call ended; the segment is handed back to `acked` when the log has the event.

        A disk that refuses does not undo a call that was served: the event goes on in memory, and the next call
        that wants to begin is refused.
        """
        began = self._open.pop(call_id)
        began.live -= 1
        del began.opens[call_id]
        try:
            self._write(USAGE, event)
        except JournalError as error:
            log.error("%s; the event is kept in memory until the log has it", error)
        self._current.live += 1
        if began is not self._current:
            self._tidy()
        return self._current

    def acked(self, partition: int, n: int, segments: list[Segment]) -> None:
        """Write that the log has a partition's events up to `n`; `segments` held those just acknowledged."""
        for segment in segments:
            segment.live -= 1
        self._marks[partition] = n
        self._unmarked.add(partition)
        try:
            for owed in sorted(self._unmarked):
                self._write(ACKED, _encoder.encode(Acked(owed, self._marks[owed])))
                self._unmarked.discard(owed)
        except JournalError as error:
            log.warning("%s; the events in doubt are sent again after a restart, which is harmless", error)
        self._tidy()

    def to_sync(self) -> list[int]:
        """Descriptors of what the disk may not keep yet; give them to `sync_all` in a thread."""
        owed, self._unsynced = self._unsynced, []
        return [*owed, os.dup(self._current.fd)]

    def close(self, *, remove: bool) -> None:
        """Give the folder up; with `remove` delete it, when the ledger has closed this instance."""
        self._current.seal()
        for segment in (*self._old, self._current):
            os.close(segment.fd)
        for descriptor in self._unsynced:
            os.close(descriptor)
        if remove:
            remove_folder(self.folder)
        os.close(self._lock)

    def _write(self, kind: int, payload: bytes) -> None:
        frame = _frame(kind, payload)
        try:
            if self._current.size + len(frame) > SEGMENT_BYTES:
                self._rotate()
            self._current.append(frame)
        except OSError as error:
            self.failed = error.strerror or "unknown error"
            raise JournalError(f"the journal in {self.folder} cannot be written: {self.failed}") from error
        self.failed = None

    def _rotate(self) -> None:
        """Begin a new segment, with the marks first: numbers must outlive the segments they were given in."""
        segment = self._next_segment()
        self._current.seal()
        self._old.append(self._current)
        self._unsynced.append(os.dup(self._current.fd))
        self._current = segment
        self._unmarked.update(self._marks)
        for partition, n in self._marks.items():
            self._current.append(_frame(ACKED, _encoder.encode(Acked(partition, n))))
            self._unmarked.discard(partition)
        self._copy_forward()
        self._tidy()

    def _next_segment(self) -> Segment:
        self._number += 1
        return Segment(self.folder / f"{self._number:08d}.journal")

    def _copy_forward(self) -> None:
        """Move the opens of old segments into the current one, so that a long call keeps no old file alive."""
        moved = 0
        for segment in self._old:
            for call_id, payload in list(segment.opens.items()):
                if moved >= COPY_FORWARD_MAX:
                    return
                self._current.append(_frame(OPEN, payload))
                segment.live -= 1
                del segment.opens[call_id]
                self._current.live += 1
                self._current.opens[call_id] = payload
                self._open[call_id] = self._current
                moved += 1

    def _tidy(self) -> None:
        if self._unmarked:
            return
        while self._old and self._old[0].live == 0:
            segment = self._old.popleft()
            os.close(segment.fd)
            segment.path.unlink(missing_ok=True)


def sync_all(descriptors: list[int]) -> None:
    """Ask the disk to keep what was written, and close the descriptors. Slow."""
    for descriptor in descriptors:
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


class Remains(msgspec.Struct, kw_only=True):
    """What a dead instance left: calls that never ended, events, and what of them the log is known to have."""

    instance: InstanceId
    folder: Path
    lock: int
    opens: dict[str, OpenRecord]
    events: dict[int, dict[int, bytes]]
    acked: dict[int, int]

    def give_up(self) -> None:
        """Unlock the journal and leave it to the next who tries."""
        os.close(self.lock)


def lock_remains(root: Path, own: InstanceId) -> Iterator[Remains]:
    """The journals of instances that no longer run (their lock is free), each locked by us now."""
    if not root.is_dir():
        return
    for folder in sorted(root.iterdir()):
        if folder.name == own or not folder.is_dir():
            continue
        try:
            lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        try:
            remains = _read_remains(folder, lock)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.error("the journal in %s cannot be read, so it stays: %s", folder, error)
            os.close(lock)
            continue
        yield remains


def _read_remains(folder: Path, lock: int) -> Remains:
    remains = Remains(instance=InstanceId(folder.name), folder=folder, lock=lock, opens={}, events={}, acked={})
    for path in sorted(folder.glob("*.journal")):
        for kind, payload in read_frames(path.read_bytes()):
            if kind == OPEN:
                record = msgspec.json.decode(payload, type=OpenRecord)
                remains.opens[record.call_id] = record
            elif kind == USAGE:
                event = msgspec.json.decode(payload, type=UsageRecorded)
                remains.opens.pop(event.call_id, None)
                remains.events.setdefault(event.partition, {})[event.n] = payload
            elif kind == ACKED:
                mark = msgspec.json.decode(payload, type=Acked)
                remains.acked[mark.partition] = max(mark.n, remains.acked.get(mark.partition, 0))
    return remains


def _frame(kind: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), crc32(payload, kind), kind) + payload


def read_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole frames of a segment; ends at the first that is torn or damaged."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum, kind = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        if not 0 < length <= FRAME_BYTES_MAX or len(payload) < length or crc32(payload, kind) != checksum:
            return
        yield kind, payload
        at += _HEAD.size + length


def release(remains: Remains) -> None:
    """Delete a recovered journal and give up its lock."""
    remove_folder(remains.folder)
    os.close(remains.lock)


def remove_folder(folder: Path) -> None:
    """Delete a journal's folder; the lock last, so that nobody takes half a journal for a whole one."""
    for path in folder.glob("*.journal"):
        path.unlink(missing_ok=True)
    (folder / LOCK_NAME).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        log.warning("journal folder %s stays: %s", folder, error.strerror)
