"""Due secrets, as the scheduler says them: each is minted once, however often and by however many it is said."""

import logging

import msgspec

from services.auth.rotation.minting import Minting
from shared.bus import Bus, Message, WorkQueue
from shared.bus.work import attempts_of
from shared.errors import StoreUnavailable, VersionConflict
from shared.events import RotationDue, decode_work
from shared.topology import ROTATION_DURABLE, WORK

log = logging.getLogger(__name__)

BATCH = 16
AGAIN_S = 5.0
"""When work is tried again that the database did not take."""
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
                    if await self._done(message, attempts_of(reply)):
                        await queue.ack([reply])
                    else:
                        await queue.nak(reply, delay_s=AGAIN_S)

    async def _done(self, message: Message, attempts: int) -> bool:
        """Whether an item needs no further attempt."""
        try:
            event = decode_work(message.data)
        except msgspec.MsgspecError as error:
            log.error("an item of %s at %d cannot be read and is dropped: %s", WORK, message.seq, error)
            return True
        if not isinstance(event, RotationDue):
            log.error("an item of %s at %d is no due rotation and is dropped", WORK, message.seq)
            return True
        try:
            outcome = await self._minting.due(event)
        except (StoreUnavailable, VersionConflict) as error:
            log.info("the rotation of %s waits: %s", event.key_id, error)
            return False
        except Exception:
            final = attempts >= DELIVERIES_MAX
            log.exception("the rotation of %s failed%s", event.key_id, " for good" if final else "")
            return final
        log.info("the rotation of %s that was due at %s: %s", event.key_id, event.due_at.isoformat(), outcome)
        return True
