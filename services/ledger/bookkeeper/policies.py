"""What the books need from auth's log: names and accounts of scopes, to show beside the figures."""

import logging

import msgspec

from services.ledger.domain.directory import Directory, learn
from shared.bus import Bus, Tail
from shared.errors import ApiError
from shared.events import decode_auth
from shared.topology import AUTH

log = logging.getLogger(__name__)


class Policies:
    """Follows auth's log from its beginning; `directory` raises ApiError 503 until it was read once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._directory = Directory()
        self._position = 0
        self.ready = False

    @property
    def directory(self) -> Directory:
        """Everything auth has said."""
        if not self.ready:
            raise ApiError(503, "starting", "The ledger is still reading its keys and budgets; try again shortly.")
        return self._directory

    async def run(self) -> None:
        """Follow until something is in doubt. Raises BusUnavailable."""
        async for batch in Tail(self._bus, AUTH, "auth.>", after=self._position).batches():
            for message in batch.messages:
                try:
                    learn(self._directory, decode_auth(message.data))
                except msgspec.MsgspecError as error:
                    log.info("event %d of auth is not for the ledger: %s", message.seq, error)
                self._position = message.seq
            if batch.caught_up:
                self.ready = True
