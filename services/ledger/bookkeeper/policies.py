"""What the books need from auth's log: names and accounts of scopes, to show beside the figures."""

from services.ledger.domain.directory import Directory, learn
from shared.auth_log import AUTH_SUBJECTS, AuthLog
from shared.bus import Bus, Tail
from shared.errors import ApiError
from shared.telemetry import Metrics
from shared.topology import AUTH


class Policies:
    """Follows auth's log from its beginning; `directory` raises ApiError 503 until it was read once."""

    def __init__(self, bus: Bus, metrics: Metrics) -> None:
        self._bus = bus
        self._log = AuthLog(metrics)
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
        async for batch in Tail(self._bus, AUTH, AUTH_SUBJECTS, after=self._position).batches():
            for message in batch.messages:
                event = self._log.known_event(message)
                if event is not None:
                    learn(self._directory, event)
                self._position = message.seq
            if batch.caught_up:
                self.ready = True
