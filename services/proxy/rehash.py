"""Secrets that stand under an older pepper are reported to auth when they are used, so that the pepper can go.

A call does no more than put a name into a bounded queue, once per change of its key. What cannot be said because NATS
is away, or because the queue is full, is lost; the key is then joined anew after a while, and its next use says it
again. What is said is the SHA-256 of the secret, sealed: auth believes nobody who has not seen the secret.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from shared.bus import Bus
from shared.clock import Clock
from shared.errors import BusError, BusUnavailable
from shared.events import SecretSeen, encode
from shared.ids import EventId, KeyId, uuid7
from shared.sealing import REHASH, Sealer
from shared.topology import rehash_subject

log = logging.getLogger(__name__)

WAITING_MAX = 1_000
TOLD_MAX = 100_000
"""Secrets that are remembered as reported; beyond it all are forgotten, and reported once more."""
LOST_MAX = 1_000
AGAIN_S = 60.0
"""How long a report that was lost is left alone."""
PUBLISH_TIMEOUT_S = 3.0


class _Seen(NamedTuple):
    key_id: KeyId
    old: str
    inner: bytes


class Rehash:
    """Reports for one process. `forget` makes the directory join a key anew."""

    def __init__(self, bus: Bus, clock: Clock, sealer: Sealer, instance: str, forget: Callable[[KeyId], None]) -> None:
        self._bus = bus
        self._sealer = sealer
        self._clock = clock
        self._source = f"proxy/{instance}"
        self._forget = forget
        self._waiting: asyncio.Queue[_Seen] = asyncio.Queue(WAITING_MAX)
        self._told: set[str] = set()
        self._lost: set[KeyId] = set()
        self.reported = 0
        """Secrets that auth was told of."""

    def seen(self, key_id: KeyId, old: str, inner: bytes) -> None:
        """A secret, of which `inner` is the SHA-256, was found under the name `old`. Never waits."""
        if old in self._told:
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        try:
            self._waiting.put_nowait(_Seen(key_id, old, inner))
        except asyncio.QueueFull:
            self._lose(key_id)
        else:
            self._told.add(old)

    async def run(self) -> None:
        """Report what was seen, for ever; every AGAIN_S let what was lost be seen again."""
        loop = asyncio.get_running_loop()
        again_at = loop.time() + AGAIN_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(again_at):
                    seen = await self._waiting.get()
                await self._report(seen)
            if loop.time() >= again_at:
                self._again()
                again_at = loop.time() + AGAIN_S

    async def _report(self, seen: _Seen) -> None:
        old_label, _, old_digest = seen.old.removeprefix("s.").rpartition(".")
        event = SecretSeen(
            id=EventId(uuid7()),
            at=self._clock.now(),
            source=self._source,
            key_id=seen.key_id,
            old_label=old_label,
            sealed=self._sealer.seal(REHASH, seen.key_id, seen.inner),
        )
        try:
            if not self._bus.connected:
                raise BusUnavailable("NATS is not connected")
            await self._bus.publish(
                rehash_subject(seen.key_id),
                encode(event),
                msg_id=f"rehash.{self._sealer.current}.{old_label}.{old_digest}",
                timeout_s=PUBLISH_TIMEOUT_S,
            )
        except BusError as error:
            log.info("that a secret of key %s stands under an older pepper is not reported: %s", seen.key_id, error)
            self._told.discard(seen.old)
            self._lose(seen.key_id)
        else:
            self.reported += 1

    def _lose(self, key_id: KeyId) -> None:
        if len(self._lost) < LOST_MAX:
            self._lost.add(key_id)

    def _again(self) -> None:
        lost, self._lost = self._lost, set()
        for key_id in lost:
            self._forget(key_id)
