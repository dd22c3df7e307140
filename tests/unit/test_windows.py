"""Windows: every instant is in exactly one, indexes rise with time, calendars follow their zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.windows import (
    WindowError,
    WindowSpec,
    check_zone,
    duration_seconds,
    parse_duration,
    window_at,
    window_of_index,
)

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Apia",
    "Africa/Casablanca",
)

START = datetime(2000, 1, 1, tzinfo=UTC)

anchors = st.timedeltas(timedelta(0), timedelta(days=365 * 60)).map(lambda after: START + after)
later = st.timedeltas(timedelta(0), timedelta(days=365 * 30))
durations = st.one_of(
    st.builds("{}{}".format, st.integers(1, 400), st.sampled_from(["m", "h", "d", "w"])),
    st.builds("{}mo".format, st.integers(1, 30)),
    st.builds("{}y".format, st.integers(1, 5)),
)
specs = st.builds(WindowSpec, anchor=anchors, duration=durations, zone=st.sampled_from(ZONES))


@given(specs, later)
def test_an_instant_lies_in_its_window_and_in_no_neighbour(spec: WindowSpec, after: timedelta) -> None:
    at = spec.anchor + after
    window = window_at(spec, at)
    assert window.end is not None
    assert window.start <= at < window.end
    following = window_of_index(spec, window.index + 1)
    assert following.start == window.end, "no gap and no overlap"
    if window.index:
        assert window_of_index(spec, window.index - 1).end == window.start


@given(specs, later, later)
def test_indexes_never_fall(spec: WindowSpec, first: timedelta, second: timedelta) -> None:
    early, late = sorted((first, second))
    assert window_at(spec, spec.anchor + early).index <= window_at(spec, spec.anchor + late).index


@given(specs, later)
def test_a_window_is_found_again_by_its_index_and_at_both_edges(spec: WindowSpec, after: timedelta) -> None:
    window = window_at(spec, spec.anchor + after)
    assert window.end is not None
    assert window_of_index(spec, window.index) == window
    assert window_at(spec, max(window.start, spec.anchor)).index == window.index
    assert window_at(spec, window.end - timedelta(microseconds=1)).index == window.index
    assert window_at(spec, window.end).index == window.index + 1


@given(specs)
def test_the_anchor_is_in_window_zero_and_so_is_all_before(spec: WindowSpec) -> None:
    assert window_at(spec, spec.anchor).index == 0
    assert window_at(spec, spec.anchor - timedelta(days=400)).index == 0


@given(specs, later)
def test_edges_are_utc(spec: WindowSpec, after: timedelta) -> None:
    window = window_at(spec, spec.anchor + after)
    assert window.end is not None
    assert window.start.utcoffset() == window.end.utcoffset() == timedelta(0)


@given(specs, later, st.sampled_from(ZONES))
def test_the_zone_of_the_instant_does_not_matter(spec: WindowSpec, after: timedelta, zone: str) -> None:
    at = spec.anchor + after
    assert window_at(spec, at) == window_at(spec, at.astimezone(ZoneInfo(zone)))


def test_thirty_days_roll_from_the_anchor() -> None:
    anchor = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
    spec = WindowSpec(anchor=anchor, duration="30d")
    window = window_at(spec, datetime(2026, 2, 14, 9, 30, tzinfo=UTC))
    assert (window.index, window.start) == (1, datetime(2026, 2, 14, 9, 30, tzinfo=UTC))
    assert window.end == datetime(2026, 3, 16, 9, 30, tzinfo=UTC)


def test_a_month_is_a_calendar_month_of_its_zone() -> None:
    spec = WindowSpec(anchor=datetime(2026, 1, 15, tzinfo=UTC), duration="1mo", zone="Europe/Berlin")
    window = window_at(spec, datetime(2026, 1, 31, 22, 59, 59, tzinfo=UTC))
    assert (window.index, window.start) == (0, datetime(2025, 12, 31, 23, tzinfo=UTC))
    edge = datetime(2026, 1, 31, 23, tzinfo=UTC)
    assert window.end == edge
    assert window_at(spec, edge).index == 1


def test_a_month_with_a_change_of_the_clock_is_an_hour_short_or_long() -> None:
    spec = WindowSpec(anchor=datetime(2026, 1, 1, tzinfo=UTC), duration="1mo", zone="Europe/Berlin")
    spring = window_at(spec, datetime(2026, 3, 15, tzinfo=UTC))
    autumn = window_at(spec, datetime(2026, 10, 15, tzinfo=UTC))
    assert spring.end is not None
    assert autumn.end is not None
    assert spring.end - spring.start == timedelta(days=31, hours=-1)
    assert autumn.end - autumn.start == timedelta(days=31, hours=1)


def test_the_repeated_hour_belongs_to_one_window() -> None:
    spec = WindowSpec(anchor=datetime(2026, 10, 1, tzinfo=UTC), duration="1d", zone="Europe/Berlin")
    berlin = ZoneInfo("Europe/Berlin")
    once = datetime(2026, 10, 25, 2, 30, tzinfo=berlin)
    again = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=berlin)
    assert window_at(spec, once).index == window_at(spec, again).index == 24


def test_days_are_twenty_four_hours_whatever_the_clocks_do() -> None:
    spec = WindowSpec(anchor=datetime(2026, 3, 28, 12, tzinfo=UTC), duration="1d", zone="Europe/Berlin")
    window = window_at(spec, datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert (window.index, window.start) == (1, datetime(2026, 3, 29, 12, tzinfo=UTC))


def test_years_and_several_months() -> None:
    anchor = datetime(2026, 5, 20, tzinfo=UTC)
    year = window_at(WindowSpec(anchor=anchor, duration="1y"), anchor)
    assert (year.start, year.end) == (
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    quarter = window_at(WindowSpec(anchor=anchor, duration="3mo"), datetime(2026, 8, 1, tzinfo=UTC))
    assert (quarter.index, quarter.start, quarter.end) == (
        1,
        datetime(2026, 8, 1, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
    )


def test_no_duration_is_one_window_for_ever() -> None:
    spec = WindowSpec(anchor=datetime(2026, 1, 1, tzinfo=UTC))
    window = window_at(spec, datetime(2999, 1, 1, tzinfo=UTC))
    assert (window.index, window.start, window.end) == (0, spec.anchor, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30d", (30, "d")), ("1mo", (1, "mo")), ("5m", (5, "m")), ("monthly", (1, "mo")), ("daily", (24, "h"))],
)
def test_durations_are_read(text: str, expected: tuple[int, str]) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "0d", "-1d", "1.5h", "d", "30", "30 d", "1month", "1M", "٣d", "1d\n", "1000000s", "101y", "9999w", "nan"],
)
def test_bad_durations_are_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(WindowError, match=r"h, d, w, mo or y|hundred years"):
        parse_duration(text)


def test_seconds_of_a_duration() -> None:
    assert duration_seconds("2h") == 7_200
    assert duration_seconds("1mo") == 30 * 86_400
    assert duration_seconds("1y") == 365 * 86_400


def test_zones_are_checked() -> None:
    assert check_zone("Europe/Berlin") == "Europe/Berlin"
    for bad in ("Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b"):
        with pytest.raises(WindowError, match="IANA"):
            check_zone(bad)
