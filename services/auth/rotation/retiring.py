"""Versions whose time has run out, and those that can reach nobody any more, come to their end."""

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from services.auth.commits import Commits
from services.auth.domain.key_state import KeyState
from services.auth.domain.renewing import decide_expired, decide_settle
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import EXCHANGE
from services.auth.relay import Relay
from services.auth.rotation import signals
from services.auth.rotation.delivering import ACTOR
from services.auth.store_rotation import Pending, put_signal
from shared.clock import Clock
from shared.errors import StoreUnavailable, VersionConflict
from shared.events import AnyAuthEvent, KeySecretRetired
from shared.ids import KeyId
from shared.telemetry import Counter

if TYPE_CHECKING:
    from shared.pg import PgConnection

log = logging.getLogger(__name__)

POLL_S = 1.0
COLLECTED_KEPT = timedelta(minutes=10)
"""For how long the answer to an exchange can be asked for again, with the same Idempotency-Key."""


class Retiring:
    """The loop that ends versions."""

    def __init__(
        self,
        commits: Commits,
        pending: Pending,
        relay: Relay,
        clock: Clock,
        *,
        source: str,
        announce: asyncio.Event,
        outcomes: Counter,
    ) -> None:
        self._commits = commits
        self._pending = pending
        self._relay = relay
        self._clock = clock
        self._source = source
        self._announce = announce
        self._outcomes = outcomes

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            try:
                await self.step()
            except StoreUnavailable as error:
                log.debug("versions wait for the database to be retired: %s", error)
            await asyncio.sleep(POLL_S)

    async def step(self) -> int:
        """End what is to be ended now; of how many keys. Raises StoreUnavailable."""
        now = self._clock.now()
        found = await self._pending.ended(now)
        for key_id in found:
            await self._retire(key_id)
        await self._pending.forget_collected(now - COLLECTED_KEPT)
        return len(found)

    async def _retire(self, key_id: KeyId) -> None:
        try:
            change = await self._commits.key(
                key_id, _decide, actor=ACTOR, cause="its time has run out", beside=self._tell
            )
        except (VersionConflict, ValueError) as error:
            log.info("the versions of %s are not retired yet: %s", key_id, error)
            return
        self._relay.tell(change.position)
        if change.position is not None:
            self._outcomes.add(1, "retired")

    async def _tell(self, connection: "PgConnection", state: KeyState, events: list[AnyAuthEvent]) -> None:
        for event in events:
            if isinstance(event, KeySecretRetired) and event.reason == "undelivered":
                reason = "the secret can reach nobody any more and is given up: regenerate the key"
                signal = signals.failed(
                    state, event.version, EXCHANGE, reason, 0, "given up", at=event.at, source=self._source
                )
                await put_signal(connection, *signal)
                self._announce.set()


def _decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    if state is None or state.deleted_at is not None:
        return []
    return decide_expired(state, stamp) or decide_settle(state, stamp)
