"""When a key's secret is due to be replaced: at its anchor plus whole multiples of its interval, and never else.

The instants follow from the two alone, so nothing drifts, whoever counts them and however late a replacement came.
"""

from datetime import datetime, timedelta
from hashlib import sha256

from shared.ids import EventId, KeyId, uuid7_from
from shared.windows import WindowError, duration_seconds

INTERVAL_S_MIN = 60
"""A secret is replaced once a minute at most."""


def interval_of(text: str) -> timedelta:
    """The length of an interval such as `30d` (months count 30 days, years 365).

    Raises WindowError for a text that is no duration, and for less than a minute.
    """
    seconds = duration_seconds(text)
    if seconds < INTERVAL_S_MIN:
        raise WindowError(f"{text!r} is shorter than a minute: use '1m' or more")
    return timedelta(seconds=seconds)


def due_at(anchor: datetime, interval: timedelta, number: int) -> datetime:
    """The instant with a number; the first one is 1, an interval after the anchor."""
    return anchor + number * interval


def next_due(anchor: datetime, interval: timedelta, after: datetime) -> datetime:
    """The first due instant after an instant."""
    return due_at(anchor, interval, max(0, (after - anchor) // interval) + 1)


def latest_due(anchor: datetime, interval: timedelta, now: datetime) -> datetime | None:
    """The last due instant up to and including `now`; None before the first one."""
    number = (now - anchor) // interval
    return due_at(anchor, interval, number) if number >= 1 else None


def due_count(first: datetime, last: datetime, interval: timedelta) -> int:
    """How many due instants there are from one to another, both included."""
    return max(0, (last - first) // interval + 1)


def due_event_id(key_id: KeyId, at: datetime) -> EventId:
    """The id of the event that says so, the same wherever it is said: a UUIDv7 with the due instant in front."""
    digest = sha256(f"rotation.due|{key_id}|{at.isoformat()}".encode()).digest()
    return EventId(uuid7_from(int(at.timestamp() * 1000), digest[:10]))
