"""The hourly job: old rows are kept for a number of days and then deleted, a bounded batch at a time."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from services.scheduler.domain.schedule import Job
from services.scheduler.store import Store
from services.scheduler.store_rotation import RotationStore
from shared.topology import SIGNALS, STREAMS

HOUSEKEEPING = Job(name="housekeeping", every_s=3_600)

BATCH_ROWS = 1_000
BATCHES_MAX = 200
"""What is left then waits for the next tick."""
SIGNALS_KEPT = timedelta(seconds=next(stream.max_age_s for stream in STREAMS if stream.name == SIGNALS))
"""Deleted keys stay in the timetable as long as signals of them: these are shown by where the key belonged."""


class Housekeeping:
    """Deletes old ticks, old decisions on rotation, and keys that are long deleted."""

    def __init__(self, store: Store, rotations: RotationStore, keep_days: int) -> None:
        self._store = store
        self._rotations = rotations
        self._keep = timedelta(days=keep_days)

    async def run(self, due_at: datetime) -> str:
        """Delete what is older than the retention, counted from when this tick was due."""
        than = due_at - self._keep
        keys_than = due_at - max(self._keep, SIGNALS_KEPT)
        ticks = await _batches(lambda: self._store.delete_older(than, most=BATCH_ROWS))
        runs = await _batches(lambda: self._rotations.delete_runs(than, most=BATCH_ROWS))
        keys = await _batches(lambda: self._rotations.delete_keys(keys_than, most=BATCH_ROWS))
        return f"deleted {ticks} ticks and {runs} rotations older than {self._keep.days} days, and {keys} deleted keys"


async def _batches(delete: Callable[[], Awaitable[int]]) -> int:
    """Delete batch by batch until nothing is left, within a bound; how much it was."""
    deleted = 0
    for _ in range(BATCHES_MAX):
        gone = await delete()
        deleted += gone
        if gone < BATCH_ROWS:
            break
    return deleted
