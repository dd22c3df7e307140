"""Budget windows as data: which half-open interval an instant belongs to, by pure arithmetic.

`30d` rolls in steps of thirty days from the anchor (the budget's creation); `1mo` and `1y` are calendar
months and years in a named time zone; no duration means one window without end. Nothing is ever "reset":
a new window is a new index.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

_GRAMMAR = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w|mo|y)")
_FIXED_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_WORDS = {"hourly": "1h", "daily": "24h", "weekly": "7d", "monthly": "1mo", "yearly": "1y"}
SPAN_S_MAX = 100 * 366 * 86_400


class WindowError(ValueError):
    """A duration or time zone that cannot be read; the text says what is accepted."""


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget's time is cut: `duration` ('' = one window for ever), `anchor` (UTC), IANA `zone`."""

    anchor: datetime
    duration: str = ""
    zone: str = "UTC"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One half-open interval [start, end) of a budget; `end` is None for a budget without duration."""

    index: int
    start: datetime
    end: datetime | None


def parse_duration(text: str) -> tuple[int, str]:
    """(count, unit) of a duration such as `30d` or `1mo`; raises WindowError with what is accepted."""
    match = _GRAMMAR.fullmatch(_WORDS.get(text, text))
    if match is None:
        raise WindowError(
            f"{text!r} is not a duration: use a number and s, m, h, d, w, mo or y, such as '30d' or '1mo'"
        )
    count, unit = int(match[1]), match[2]
    seconds = count * (_FIXED_S.get(unit) or (31 * 86_400 if unit == "mo" else 366 * 86_400))
    if seconds > SPAN_S_MAX:
        raise WindowError(f"{text!r} is longer than a hundred years")
    return count, unit


def duration_seconds(text: str) -> int:
    """Seconds of a duration for a key's expiry (not for windows); months count 30 days, years 365."""
    count, unit = parse_duration(text)
    return count * (_FIXED_S.get(unit) or (30 * 86_400 if unit == "mo" else 365 * 86_400))


def check_zone(name: str) -> str:
    """The name itself if it is a known IANA time zone; raises WindowError otherwise."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise WindowError(f"{name!r} is not a time zone: use an IANA name such as 'Europe/Berlin'") from error
    return name


def window_at(spec: WindowSpec, at: datetime) -> Window:
    """The window that `at` belongs to. Index 0 holds the anchor; instants before it count as index 0."""
    if not spec.duration:
        return window_of_index(spec, 0)
    count, unit = parse_duration(spec.duration)
    if unit in _FIXED_S:
        span = timedelta(seconds=count * _FIXED_S[unit])
        return window_of_index(spec, max(0, (at - spec.anchor) // span))
    zone = ZoneInfo(spec.zone)
    months = _month_number(at.astimezone(zone), "mo") - _month_number(spec.anchor.astimezone(zone), unit)
    return window_of_index(spec, max(0, months // _months(count, unit)))


def window_of_index(spec: WindowSpec, index: int) -> Window:
    """The window with a known index: for showing start and end of one that the ledger named."""
    if not spec.duration:
        return Window(index=0, start=spec.anchor, end=None)
    count, unit = parse_duration(spec.duration)
    if unit in _FIXED_S:
        span = timedelta(seconds=count * _FIXED_S[unit])
        return Window(index=index, start=spec.anchor + index * span, end=spec.anchor + (index + 1) * span)
    zone = ZoneInfo(spec.zone)
    first = _month_number(spec.anchor.astimezone(zone), unit) + index * _months(count, unit)
    return Window(index=index, start=_month_start(first, zone), end=_month_start(first + _months(count, unit), zone))


def _months(count: int, unit: str) -> int:
    return count if unit == "mo" else 12 * count


def _month_number(local: datetime, unit: str) -> int:
    return local.year * 12 + (local.month - 1 if unit == "mo" else 0)


def _month_start(number: int, zone: ZoneInfo) -> datetime:
    year, month = divmod(number, 12)
    return datetime(year, month + 1, 1, tzinfo=zone).astimezone(UTC)
