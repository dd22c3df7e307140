"""Who answers for a partition. The lease keeps a second enforcer quiet; the fence on appends keeps the money safe."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from shared.bus import Bucket
from shared.clock import Clock
from shared.errors import BusUnavailable, Conflict
from shared.ids import InstanceId
from shared.topology import LEASE_TTL_S, lease_kv

log = logging.getLogger(__name__)

FRESH_MARGIN_MS = 500
"""A lease counts as ours until this long before it could be somebody else's."""
ANSWER_S = 1.0
"""An answer that takes longer is of no use: by then the lease must be asked for again."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The lease's value. `place` and `pid` let an enforcer that was killed and restarted see that the old one is gone:
    process ids mean the same wherever `place` is the same."""

    holder: InstanceId
    place: str
    pid: int
    released: bool = False


def place() -> str:
    """One boot of one machine and one process namespace (a container has its own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


@contextlib.asynccontextmanager
async def _soon() -> AsyncGenerator[None]:
    """Give up on an answer that comes too late. Raises BusUnavailable."""
    try:
        async with asyncio.timeout(ANSWER_S):
            yield
    except TimeoutError as error:
        raise BusUnavailable(f"nothing was heard of the lease within {ANSWER_S} s") from error


class Lease:
    """The lease of one partition, as one candidate sees it."""

    def __init__(self, bucket: Bucket, partition: int, holder: InstanceId, clock: Clock) -> None:
        self._bucket = bucket
        self._key = lease_kv(partition)
        self._clock = clock
        self._mine = Holder(holder=holder, place=place(), pid=os.getpid())
        self._revision = 0
        self._fresh_until_ms: int | None = None
        self.taken = False
        """Whether somebody else held the lease when we last looked."""

    def fresh(self) -> bool:
        """Whether nobody else can hold the lease at this moment."""
        return self._fresh_until_ms is not None and self._clock.monotonic_ms() < self._fresh_until_ms

    async def take(self) -> bool:
        """Try once to get or keep the lease; False when somebody else holds it. Raises BusUnavailable."""
        async with _soon():
            entry = await self._bucket.get(self._key)
        if entry is None:
            return await self._write(0)
        standing = msgspec.json.decode(entry.value, type=Holder)
        if standing.holder == self._mine.holder or standing.released or self._is_dead(standing):
            return await self._write(entry.revision)
        self._fresh_until_ms = None
        self.taken = True
        return False

    async def renew(self) -> bool:
        """Keep the lease; False when it is somebody else's. With NATS away it stays ours until it runs out."""
        try:
            return await self._write(self._revision) or await self.take()
        except BusUnavailable as error:
            log.info("the lease could not be renewed: %s", error)
            return True

    async def release(self) -> None:
        """Leave the lease to whoever comes next, at once."""
        if self._fresh_until_ms is None:
            return
        self._fresh_until_ms = None
        left = msgspec.structs.replace(self._mine, released=True)
        try:
            async with _soon():
                await self._bucket.update(self._key, msgspec.json.encode(left), self._revision)
        except (BusUnavailable, Conflict) as error:
            log.info("the lease was not released, it will run out: %s", error)

    async def _write(self, revision: int) -> bool:
        sent_ms = self._clock.monotonic_ms()
        try:
            async with _soon():
                self._revision = await self._bucket.update(self._key, msgspec.json.encode(self._mine), revision)
        except Conflict:
            self._fresh_until_ms = None
            self.taken = True
            return False
        self.taken = False
        self._fresh_until_ms = sent_ms + LEASE_TTL_S * 1000 - FRESH_MARGIN_MS
        return True

    def _is_dead(self, standing: Holder) -> bool:
        """Whether the holder was a process of this place that has ended (killed, so it released nothing)."""
        if standing.place != self._mine.place:
            return False
        if standing.pid == self._mine.pid:
            return True
        try:
            os.kill(standing.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
