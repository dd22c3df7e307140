"""One name of this process: its journal, and the publisher that empties it into the log.

A process has one at a time. When the ledger closes it, the next begins at once; the old one lives on until its last
call is settled and the log has everything, and is then closed like any instance that has ended.
"""

import asyncio
import logging
from pathlib import Path

from services.proxy.call import Books
from services.proxy.closing import close_instance
from services.proxy.journal import Journal, sync_all
from services.proxy.publisher import Publisher
from shared.bus import Bus
from shared.clock import Clock
from shared.ids import InstanceId, uuid7
from shared.tasks import Supervisor

log = logging.getLogger(__name__)

SYNC_S = 1.0
CLOSE_WAIT_S = 5.0
"""How long the ledger may take to acknowledge a close before it is told again."""
LAST_CALL_S = 1.0
"""How often an instance that is over looks whether its last call has ended."""


class Incarnation:
    """An instance with what is its own."""

    def __init__(self, bus: Bus, clock: Clock, root: Path, partitions: int) -> None:
        """Take a fresh name and a journal below `root`. Raises JournalError."""
        self._bus = bus
        self._clock = clock
        self._partitions = partitions
        self._tasks = Supervisor()
        self.instance = InstanceId(uuid7())
        self.journal = Journal(root, self.instance)
        self.publisher = Publisher(bus, self.journal, partitions)

    @property
    def books(self) -> Books:
        """Where its calls are written down."""
        return Books(self.journal, self.publisher, self.instance)

    def start(self) -> None:
        """Begin to publish, and to ask the disk to keep the journal."""
        self.publisher.start(self._tasks)
        self._tasks.keep("journal-sync", self._sync)

    async def finish(self) -> bool:
        """Hand all usage to the log and close this instance there; whether it is over, so that the journal may go."""
        await self.publisher.drained()
        if self.journal.calls_open:
            return False
        for partition in range(self._partitions):
            last_n = self.publisher.last_n(partition)
            if not await close_instance(self._bus, self._clock, self.instance, partition, last_n, CLOSE_WAIT_S):
                return False
        return True

    async def end(self, *, finished: bool) -> None:
        """Give the journal up; one that is not finished stays for whoever finds it."""
        await self._tasks.close()
        self.journal.close(remove=finished)

    async def live_out(self) -> None:
        """Nothing new begins under this name: wait for its last call, then finish, however long that takes."""
        finished = False
        try:
            while not finished:
                await asyncio.sleep(LAST_CALL_S)
                finished = not self.journal.calls_open and await self.finish()
            log.info("instance %s has ended; the log has all its usage", self.instance)
        finally:
            await self.end(finished=finished)

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            await asyncio.to_thread(sync_all, self.journal.to_sync())
