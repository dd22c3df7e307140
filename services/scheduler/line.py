"""The scheduler's connection to NATS, which may come late: until then the master key is let in, and ticks run."""

import asyncio
import logging
from collections.abc import Callable

from shared.access import SecretHasher
from shared.bus import Bus
from shared.bus.apply import verify
from shared.clock import Clock
from shared.errors import ApiError, BusError, BusUnavailable
from shared.people import People
from shared.policy import KeyRecord
from shared.topology import AUTH, KEYS_BUCKET, REVOKED_BUCKET, SIGNALS, WORK

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Line:
    """The bus once it is there, and the people it tells of; a keyring for the door of the internal port."""

    def __init__(self, url: str, name: str, hasher: SecretHasher, clock: Clock) -> None:
        self._url = url
        self._name = name
        self._hasher = hasher
        self._clock = clock
        self._bus: Bus | None = None
        self._people: People | None = None

    async def connect(self, then: Callable[[Bus, People], None]) -> None:
        """Try until NATS answers and has what we need; then call `then`, once."""
        said = ""
        while True:
            try:
                if self._bus is None:
                    self._bus = await Bus.open(self._url, user="scheduler", name=self._name)
                await verify(self._bus, AUTH, SIGNALS, WORK, f"KV_{KEYS_BUCKET}", f"KV_{REVOKED_BUCKET}")
                break
            except BusError as error:
                if str(error) != said:
                    log.warning("%s; no key is said to be due until then, trying again", error)
                said = str(error)
            await asyncio.sleep(RETRY_S)
        self._people = People(self._bus, self._hasher, self._clock)
        then(self._bus, self._people)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._bus is not None:
            await self._bus.close()

    @property
    def bus(self) -> Bus:
        """The connection. Raises BusUnavailable while there is none."""
        if self._bus is None:
            raise BusUnavailable("NATS was not reached yet")
        return self._bus

    def holder(self, secret: str) -> KeyRecord | None:
        """The key in force behind a secret; see `shared.access.Keyring`."""
        if self._people is None:
            raise ApiError(503, "unavailable", "The keys are not loaded yet; try again shortly.")
        return self._people.holder(secret)

    def problem(self) -> str | None:
        """What readiness should say of the connection."""
        return None if self._people is not None and self._bus is not None and self._bus.connected else "not connected"

    def keys_problem(self) -> str | None:
        """What readiness should say of the keys that people come with."""
        return None if self._people is not None and self._people.ready else "not loaded yet"
