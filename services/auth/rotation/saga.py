"""Due secrets, as the scheduler says them: each is minted once, however often and by however many it is said."""

import logging

import msgspec

from services.auth.rotation.minting import AHEAD, Minting
from shared.bus import Bus, Message, WorkQueue
from shared.bus.work import attempts_of
from shared.errors import StoreUnavailable, VersionConflict
from shared.events import RotationDue, decode_work
from shared.topology import ROTATION_DURABLE, WORK

log = logging.getLogger(__name__)

BATCH = 16
AGAIN_S = 5.0
"""When work is tried again that the database did not take."""
AHEAD_AGAIN_S = 15.0
"""When a due instant is looked at again that our clock has not reached: it may be ours that is put right."""
DELIVERIES_MAX = 20
"""After so many attempts that failed for another reason an item is given up, and the log says so."""


class Saga:
    """The consumer of due secrets."""

    def __init__(self, bus: Bus, minting: Minting) -> None:
        self._bus = bus
        self._minting = minting

    async def run(self) -> None:
        """Consume until the connection changes. Raises BusUnavailable; start it anew then."""
        async with WorkQueue(self._bus, WORK, ROTATION_DURABLE) as queue:
            while True:
                for message, reply in await queue.fetch(BATCH):
                    again_s = await self._again_s(message, attempts_of(reply))
                    if again_s is None:
                        await queue.ack([reply])
                    else:
                        await queue.nak(reply, delay_s=again_s)

    async def _again_s(self, message: Message, attempts: int) -> float | None:
        """After how many seconds an item is tried again; None when it needs no further attempt."""
        try:
            event = decode_work(message.data)
        except msgspec.MsgspecError as error:
            log.error("an item of %s at %d cannot be read and is dropped: %s", WORK, message.seq, error)
            return None
        if not isinstance(event, RotationDue):
            log.error("an item of %s at %d is no due rotation and is dropped", WORK, message.seq)
            return None
        try:
            outcome = await self._minting.due(event)
        except (StoreUnavailable, VersionConflict) as error:
            log.info("the rotation of %s waits: %s", event.key_id, error)
            return AGAIN_S
        except Exception:
            final = attempts >= DELIVERIES_MAX
            log.exception("the rotation of %s failed%s", event.key_id, " for good" if final else "")
            return None if final else AGAIN_S
        if outcome == AHEAD:
            if attempts <= 1:
                log.error(
                    "the rotation of %s is said to be due at %s, which is later than now: the clock of a scheduler"
                    " or ours is wrong; it waits",
                    event.key_id,
                    event.due_at.isoformat(),
                )
            return AHEAD_AGAIN_S
        log.info("the rotation of %s that was due at %s: %s", event.key_id, event.due_at.isoformat(), outcome)
        return None
