"""Follows auth's log into the timetable: from the checkpoint on, which moves in the transaction that folds.

Every scheduler does so, the one without the lease too: whoever is faster folds, the other finds it done.
"""

import contextlib
import logging

from services.scheduler.store_folding import Checkpoint
from services.scheduler.store_rotation import RotationStore
from shared.auth_log import AUTH_SUBJECTS, AuthLog
from shared.bus import Bus, Message, Tail
from shared.errors import StoreError, StreamChanged
from shared.events import AnyAuthEvent
from shared.telemetry import Metrics
from shared.topology import AUTH

log = logging.getLogger(__name__)


class Projection:
    """`fresh`: the log is being followed and its end was reached, so that the timetable says what auth says.

    `position` is the sequence reached, `lag` how many messages are behind it.
    """

    def __init__(self, store: RotationStore, metrics: Metrics) -> None:
        self._store = store
        self._log = AuthLog(metrics)
        self.fresh = False
        self.position = 0
        self.lag = 0
        self._problem: str | None = "auth's log was not read yet"

    def problem(self) -> str | None:
        """What readiness should say: None while the log is being followed."""
        return self._problem

    async def run(self, bus: Bus) -> None:
        """Follow until something is in doubt. Raises BusUnavailable, StreamChanged, StoreError; run it again then."""
        try:
            stands = await self._begin(bus)
            tail = Tail(bus, AUTH, AUTH_SUBJECTS, after=stands.seq, created=stands.stream_created)
            async with contextlib.aclosing(tail.batches()) as batches:
                async for batch in batches:
                    await self._take(stands.stream_created, batch.messages, caught_up=batch.caught_up)
        except StoreError:
            self._problem = "waiting for the database"
            raise
        except Exception:
            self._problem = "auth's log is not being followed"
            raise
        finally:
            self.fresh = False

    async def _begin(self, bus: Bus) -> Checkpoint:
        """Where to go on; at the beginning when the stream is another one than before."""
        await bus.until_connected()
        stands = await self._store.checkpoint()
        created = (await bus.stream_info(AUTH)).created
        if stands is None or stands.stream_created != created:
            if stands is not None:
                log.warning("stream %s was made anew: the timetable of rotation is read anew", AUTH)
            await self._store.start_over(None if stands is None else stands.stream_created, created)
            stands = await self._store.checkpoint()
        if stands is None:
            raise StreamChanged("the timetable of rotation was emptied meanwhile")
        self.position = stands.seq
        return stands

    async def _take(self, created: str, messages: list[Message], *, caught_up: bool) -> None:
        seq = messages[-1].seq if messages else self.position
        await self._store.fold(created, self._events(messages), seq, complete=caught_up)
        self.position = seq
        self.lag = messages[-1].pending if messages else 0
        if caught_up:
            self.fresh = True
            self._problem = None

    def _events(self, messages: list[Message]) -> list[tuple[int, AnyAuthEvent]]:
        """What can be read, with its sequence; a newer auth may say what we do not know."""
        read = ((message.seq, self._log.known_event(message)) for message in messages)
        return [(seq, event) for seq, event in read if event is not None]
