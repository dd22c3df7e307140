"""When jobs are due: multiples of their interval since the Unix epoch.

The instants follow from the interval alone, not from when a process started or how long a run took. So
nothing drifts, and two schedulers that never heard of each other name the same tick by the same instant.
"""

from datetime import UTC, datetime, timedelta

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ATTEMPTS_MAX = 5
"""So often a tick is tried; after that the job waits for its next tick."""
RETRY_FIRST_S = 10
RETRY_MAX_S = 300


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is due every `every_s` seconds; `name` is its identity in the database."""

    name: str
    every_s: int


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """The tick to run now. `missed` older ticks are made good by this one run."""

    job: Job
    due_at: datetime
    missed: int


def latest_due(job: Job, now: datetime) -> datetime:
    """The last instant up to and including `now` at which the job was due."""
    return EPOCH + (now - EPOCH) // _interval(job) * _interval(job)


def next_due(job: Job, now: datetime) -> datetime:
    """The first instant after `now` at which the job is due."""
    return latest_due(job, now) + _interval(job)


def due(job: Job, last_finished: datetime | None, now: datetime) -> Due | None:
    """The tick that is due and not finished, or None. A job that never ran is due at once.

    A finished tick from the future (a clock was set back) means that nothing is due yet.
    """
    at = latest_due(job, now)
    if last_finished is None:
        return Due(job=job, due_at=at, missed=0)
    if last_finished >= at:
        return None
    return Due(job=job, due_at=at, missed=(at - last_finished) // _interval(job) - 1)


def overdue_s(job: Job, last_finished: datetime | None, now: datetime) -> float:
    """Seconds since the oldest unfinished tick was due; 0 when nothing is outstanding."""
    found = due(job, last_finished, now)
    if found is None:
        return 0.0
    return (now - found.due_at + found.missed * _interval(job)).total_seconds()


def retry_after_s(attempts: int) -> int:
    """Seconds to wait before a tick that failed `attempts` times is tried again."""
    return min(RETRY_FIRST_S * 2 ** max(0, attempts - 1), RETRY_MAX_S)


def _interval(job: Job) -> timedelta:
    return timedelta(seconds=job.every_s)
