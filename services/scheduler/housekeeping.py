"""The first job: tick rows are kept for a number of days and then deleted, a bounded batch at a time."""

from datetime import datetime, timedelta

from services.scheduler.domain.schedule import Job
from services.scheduler.store import Store

HOUSEKEEPING = Job(name="housekeeping", every_s=3_600)

BATCH_ROWS = 1_000
BATCHES_MAX = 200
"""What is left then waits for the next tick."""


class Housekeeping:
    """Deletes old ticks."""

    def __init__(self, store: Store, keep_days: int) -> None:
        self._store = store
        self._keep = timedelta(days=keep_days)

    async def run(self, due_at: datetime) -> str:
        """Delete what is older than the retention, counted from when this tick was due."""
        deleted = 0
        for _ in range(BATCHES_MAX):
            gone = await self._store.delete_older(due_at - self._keep, most=BATCH_ROWS)
            deleted += gone
            if gone < BATCH_ROWS:
                break
        return f"deleted {deleted} ticks older than {self._keep.days} days"
