"""A bucket held in memory: loaded whole, then kept up to date, and loaded anew on any doubt.

Doubt is a lost connection, a missed heartbeat, a hole in what was delivered, or a bucket made anew: the tail ends then.
"""

import asyncio
import logging
from collections.abc import Callable

from shared.bus.connection import Bus
from shared.bus.tail import Message, Tail

log = logging.getLogger(__name__)


class Mirror:
    """Follows one bucket and tells its owner of each change.

    `on_load` gets the whole content (key → value) after every full load, `on_put` and `on_remove` single
    changes after that. Content stays in force while the connection is away; `ready` tells whether it was ever
    loaded, `fresh` whether it is being followed right now. `revision` is that of the last change the owner was told of
    (a bucket's revisions are the sequences of its stream), and `on_applied` is called when it has moved: once for all
    changes that came together.
    """

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        *,
        on_load: Callable[[dict[str, bytes]], None],
        on_put: Callable[[str, bytes], None],
        on_remove: Callable[[str], None],
        on_applied: Callable[[], None] | None = None,
    ) -> None:
        self._bus = bus
        self._bucket = bucket
        self._on_load = on_load
        self._on_put = on_put
        self._on_remove = on_remove
        self._prefix = len(f"$KV.{bucket}.")
        self._loaded = asyncio.Event()
        self.on_applied = on_applied
        self.fresh = False
        self.revision = 0

    @property
    def ready(self) -> bool:
        """Whether the bucket was loaded whole at least once."""
        return self._loaded.is_set()

    async def wait_ready(self) -> None:
        """Wait for the first full load."""
        await self._loaded.wait()

    async def run(self) -> None:
        """Load and follow until something is in doubt; run it for ever again.

        Raises BusUnavailable or StreamChanged; a supervisor starts it anew with back-off.
        """
        tail = Tail(self._bus, f"KV_{self._bucket}", f"$KV.{self._bucket}.>", last_per_subject=True)
        loading: dict[str, bytes] | None = {}
        revision = 0
        try:
            async for batch in tail.batches():
                for message in batch.messages:
                    if loading is None:
                        self._apply(message)
                    elif _removed(message):
                        loading.pop(message.subject[self._prefix :], None)
                    else:
                        loading[message.subject[self._prefix :]] = message.data
                    revision = message.seq
                if loading is not None:
                    if not batch.caught_up:
                        continue
                    self._on_load(loading)
                    loading = None
                    self.fresh = True
                    self._loaded.set()
                self._moved(revision)
        finally:
            self.fresh = False

    def _moved(self, revision: int) -> None:
        self.revision = revision
        if self.on_applied is not None:
            self.on_applied()

    def _apply(self, message: Message) -> None:
        key = message.subject[self._prefix :]
        if _removed(message):
            self._on_remove(key)
        else:
            self._on_put(key, message.data)


def _removed(message: Message) -> bool:
    return message.operation is not None or not message.data
