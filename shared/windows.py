"""Budget windows as data: which half-open interval an instant belongs to, by pure arithmetic.

`s m h` are exact spans from the anchor (the budget's creation). `d w` roll from the anchor in steps of local calendar
days, `mo y` are calendar months and years, both in a named time zone. No duration means one window without end.
Nothing is ever "reset": a new window is a new index.

One rule covers every change of the clocks: a window begins at the first instant at which the zone's clock shows the
wanted local time, or later. A time that the clocks show twice is taken the first time, one that they leave out when
they have passed it. A window ends where the next one begins, so there is no gap and no overlap.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

_GRAMMAR = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w|mo|y)")
_EXACT_S = {"s": 1, "m": 60, "h": 3_600}
_DAYS = {"d": 1, "w": 7}
_MONTHS = {"mo": 1, "y": 12}
_MEANT = re.compile(r"\s*([1-9][0-9]{0,5})?\s*([A-Za-z]{1,10})\s*")
_WORDS = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "1mo", "yearly": "1y"}
_SPELLINGS = {
    "s": ("sec", "second"), "m": ("min", "minute"), "h": ("hr", "hour"), "d": ("day",), "w": ("wk", "week"),
    "mo": ("mon", "mth", "month"), "y": ("yr", "year"),
}  # fmt: skip
"""How people write the units, each also with an s behind it."""
DAY_S = 86_400
SPAN_S_MAX = 100 * 366 * DAY_S
ZONE_UTC = "UTC"
CACHE_MAX = 4_096
"""Specs whose last window is remembered, and windows, durations and zones that are."""


class WindowError(ValueError):
    """A duration or time zone that cannot be read; the text says what is accepted."""


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget's time is cut: `duration` ('' = one window for ever), `anchor` (UTC), IANA `zone`."""

    anchor: datetime
    duration: str = ""
    zone: str = ZONE_UTC


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One half-open interval [start, end) of a budget; `end` is None for a budget without duration."""

    index: int
    start: datetime
    end: datetime | None


@lru_cache(maxsize=CACHE_MAX)
def parse_duration(text: str) -> tuple[int, str]:
    """(count, unit) of a duration such as `30d` or `1mo`; raises WindowError with what is accepted."""
    match = _GRAMMAR.fullmatch(_WORDS.get(text, text))
    if match is None:
        near = _nearest(text)
        meant = "" if near is None else f"did you mean {near!r}? Else "
        raise WindowError(
            f"{text[:50]!r} is not a duration: {meant}use a number and s, m, h, d, w, mo or y, such as '30d' or '1mo',"
            " or hourly, daily, weekly, monthly or yearly"
        )
    count, unit = int(match[1]), match[2]
    if count * _longest_s(unit) > SPAN_S_MAX:
        raise WindowError(f"{text!r} is longer than a hundred years")
    return count, unit


def _nearest(text: str) -> str | None:
    """The duration that a text like `30D`, `1M`, `1min` or `month` most likely means."""
    found = _MEANT.fullmatch(text)
    if found is None:
        return None
    count, written = found[1], found[2].lower()
    if written in _WORDS:
        return None if count else written
    unit = next((unit for unit, names in _SPELLINGS.items() if written.removesuffix("s") in names), written)
    if unit == "m" and found[2] == "M":
        unit = "mo"
    if unit not in _SPELLINGS:
        return None
    if count:
        return f"{count}{unit}"
    return {"h": "hourly", "d": "daily", "w": "weekly", "mo": "monthly", "y": "yearly"}.get(unit)


def duration_seconds(text: str) -> int:
    """Seconds of a duration for a key's expiry (not for windows); months count 30 days, years 365."""
    count, unit = parse_duration(text)
    return count * {"mo": 30 * DAY_S, "y": 365 * DAY_S}.get(unit, _longest_s(unit))


def follows_zone(duration: str) -> bool:
    """Whether windows of this duration depend on a time zone: days, weeks, months and years do."""
    return bool(duration) and parse_duration(duration)[1] not in _EXACT_S


def check_zone(name: str) -> str:
    """The name itself if it is a known IANA time zone; raises WindowError otherwise."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise WindowError(f"{name!r} is not a time zone: use an IANA name such as 'Europe/Berlin'") from error
    return name


_recent: dict[WindowSpec, Window] = {}


def window_at(spec: WindowSpec, at: datetime) -> Window:
    """The window that `at` belongs to. Index 0 holds the anchor; instants before it count as index 0.

    Asked again within the same window (nearly always) it is answered from memory.
    """
    known = _recent.get(spec)
    if known is not None and known.start <= at and (known.end is None or at < known.end):
        return known
    found = window_of_index(spec, _index_at(spec, at))
    if len(_recent) >= CACHE_MAX:
        _recent.clear()
    _recent[spec] = found
    return found


@lru_cache(maxsize=CACHE_MAX)
def window_of_index(spec: WindowSpec, index: int) -> Window:
    """The window with a known index: for showing start and end of one that the ledger named.

    It is empty (`start == end`) only where a zone left out the whole of it: Samoa had no 30 December 2011.
    """
    if not spec.duration:
        return Window(index=0, start=spec.anchor, end=None)
    return Window(index=index, start=_edge(spec, index), end=_edge(spec, index + 1))


def _longest_s(unit: str) -> int:
    return _EXACT_S.get(unit) or DAY_S * {"d": 1, "w": 7, "mo": 31, "y": 366}[unit]


def _exact_span(spec: WindowSpec, count: int, unit: str) -> timedelta | None:
    """The length of every window, None where it depends on the calendar; UTC's days are all alike."""
    if unit in _EXACT_S:
        return timedelta(seconds=count * _EXACT_S[unit])
    if unit in _DAYS and spec.zone == ZONE_UTC:
        return timedelta(days=count * _DAYS[unit])
    return None


def _index_at(spec: WindowSpec, at: datetime) -> int:
    """The greatest index whose window has begun; 0 before the anchor."""
    if not spec.duration:
        return 0
    count, unit = parse_duration(spec.duration)
    span = _exact_span(spec, count, unit)
    if span is not None:
        return max(0, (at - spec.anchor) // span)
    zone = ZoneInfo(spec.zone)
    here, there = at.astimezone(zone), spec.anchor.astimezone(zone)
    if unit in _DAYS:
        index = (here.date() - there.date()).days // (count * _DAYS[unit])
    else:
        index = (_month_number(here, "mo") - _month_number(there, unit)) // (count * _MONTHS[unit])
    # By the local date alone this may be one too high before the hour of the anchor, and by the rule of the first
    # instant a little off where clocks jump over a date.
    while index > 0 and at < _edge(spec, index):
        index -= 1
    while at >= _edge(spec, index + 1):
        index += 1
    return max(0, index)


@lru_cache(maxsize=CACHE_MAX)
def _edge(spec: WindowSpec, index: int) -> datetime:
    """When the window of an index begins, in UTC."""
    count, unit = parse_duration(spec.duration)
    span = _exact_span(spec, count, unit)
    if span is not None:
        return spec.anchor + index * span
    zone = ZoneInfo(spec.zone)
    there = spec.anchor.astimezone(zone)
    if unit in _DAYS:
        days = timedelta(days=index * count * _DAYS[unit])
        return _first_instant(there.replace(tzinfo=None, fold=0) + days, zone)
    year, month = divmod(_month_number(there, unit) + index * count * _MONTHS[unit], 12)
    return _first_instant(datetime(year, month + 1, 1), zone)  # noqa: DTZ001 - a local time; its zone is beside it


def _month_number(local: datetime, unit: str) -> int:
    return local.year * 12 + (local.month - 1 if unit == "mo" else 0)


def _first_instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The first instant, in UTC, at which a zone's clock shows `local` (without zone) or later."""
    found = local.replace(tzinfo=zone).astimezone(UTC)  # fold 0: the first of two
    if found.astimezone(zone).replace(tzinfo=None, fold=0) == local:
        return found
    # Left out: read with the offset of before, the time lies after the jump, read with that of after, before it.
    early, late = local.replace(tzinfo=zone, fold=1).astimezone(UTC).replace(microsecond=0), found
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
        if middle.astimezone(zone).replace(tzinfo=None, fold=0) >= local:
            late = middle
        else:
            early = middle
    return late.replace(microsecond=0)
