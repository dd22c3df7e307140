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
    follows_zone,
    parse_duration,
    window_at,
    window_of_index,
)

ZONES = (
    "UTC",
    "Etc/UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Asuncion",
    "America/Havana",
    "America/Scoresbysund",
    "Asia/Kolkata",
    "Asia/Amman",
    "Asia/Tehran",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Antarctica/Troll",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
)

START = datetime(1992, 1, 1, tzinfo=UTC)

anchors = st.timedeltas(timedelta(0), timedelta(days=365 * 60)).map(lambda after: START + after)
later = st.timedeltas(timedelta(0), timedelta(days=365 * 30))
durations = st.one_of(
    st.builds("{}{}".format, st.integers(1, 400), st.sampled_from(["m", "h", "d", "w"])),
    st.builds("{}d".format, st.integers(1, 3)),
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


def changes_of(zone: str, first_year: int, last_year: int) -> list[datetime]:
    """The seconds at which a zone's clocks change, in UTC."""
    info = ZoneInfo(zone)
    found: list[datetime] = []
    day = datetime(first_year, 1, 1, tzinfo=UTC)
    while day.year <= last_year:
        early, late = day, day + timedelta(days=1)
        if early.astimezone(info).utcoffset() != late.astimezone(info).utcoffset():
            while late - early > timedelta(seconds=1):
                middle = early + (late - early) // 2
                middle = middle.replace(microsecond=0)
                if middle.astimezone(info).utcoffset() == day.astimezone(info).utcoffset():
                    early = middle
                else:
                    late = middle
            found.append(late)
        day += timedelta(days=1)
    return found


CHANGES = [(zone, at) for zone in ZONES for at in changes_of(zone, 2010, 2012) + changes_of(zone, 2026, 2026)]


@given(
    st.sampled_from(CHANGES),
    st.timedeltas(timedelta(hours=-26), timedelta(hours=26)),
    st.timedeltas(timedelta(hours=-26), timedelta(hours=26)),
    st.integers(1, 40),
    st.sampled_from(["d", "w"]),
)
def test_around_a_change_of_the_clocks_days_follow_the_one_rule(
    change: tuple[str, datetime], before: timedelta, beside: timedelta, count: int, unit: str
) -> None:
    """A window begins at the first instant at which the zone's clock shows the anchor's time of day, or later."""
    zone, at = change
    info = ZoneInfo(zone)
    days = count * (7 if unit == "w" else 1)
    spec = WindowSpec(anchor=at - timedelta(days=days) + before, duration=f"{count}{unit}", zone=zone)
    window = window_at(spec, at + beside)
    assert window.end is not None
    for index, edge in ((window.index, window.start), (window.index + 1, window.end)):
        wanted = spec.anchor.astimezone(info).replace(tzinfo=None, fold=0) + timedelta(days=days * index)
        shown = edge.astimezone(info).replace(tzinfo=None, fold=0)
        just_before = (edge - timedelta(microseconds=1)).astimezone(info).replace(tzinfo=None, fold=0)
        assert just_before < wanted <= shown
        assert shown == wanted or edge in changes_of(zone, edge.year, edge.year), "later only where time was left out"


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
    following = window_at(spec, window.end).index
    assert following > window.index
    for index in range(window.index + 1, following):
        empty = window_of_index(spec, index)
        assert empty.start == empty.end == window.end, "passed over only where the zone left out the whole of it"


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


def test_a_day_keeps_its_time_of_day_and_twenty_four_hours_do_not() -> None:
    noon = datetime(2026, 3, 28, 11, tzinfo=UTC)  # 12:00 in Berlin, on the day before the clocks go forward
    day = window_at(WindowSpec(anchor=noon, duration="1d", zone="Europe/Berlin"), noon + timedelta(hours=23))
    assert (day.index, day.start) == (1, datetime(2026, 3, 29, 10, tzinfo=UTC))
    hours = window_at(WindowSpec(anchor=noon, duration="24h", zone="Europe/Berlin"), noon + timedelta(hours=24))
    assert (hours.index, hours.start) == (1, datetime(2026, 3, 29, 11, tzinfo=UTC))


def test_a_day_that_a_zone_left_out_has_an_empty_window() -> None:
    midnight = datetime(2011, 12, 29, 10, tzinfo=UTC)  # the 29th begins in Samoa, which had no 30th
    spec = WindowSpec(anchor=midnight, duration="1d", zone="Pacific/Apia")
    empty = window_of_index(spec, 1)
    assert empty.start == empty.end == midnight + timedelta(days=1)
    assert [window_at(spec, midnight + timedelta(days=days)).index for days in range(3)] == [0, 2, 3]


def test_an_anchor_in_the_repeated_hour_begins_with_its_first_showing() -> None:
    again = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 in Berlin, for the second time
    window = window_at(WindowSpec(anchor=again, duration="1d", zone="Europe/Berlin"), again)
    assert (window.index, window.start) == (0, again - timedelta(hours=1))


def test_what_is_remembered_changes_no_answer() -> None:
    for days in (40, 3, 3, 41, 0, 12):
        spec = WindowSpec(anchor=START, duration="7d", zone="Europe/Berlin")
        assert window_at(spec, START + timedelta(days=days)).index == days // 7
    assert window_at(spec, START - timedelta(days=1)).index == 0


def test_zones_matter_for_days_and_longer_only() -> None:
    assert not any(map(follows_zone, ("", "90s", "5m", "24h", "hourly")))
    assert all(map(follows_zone, ("1d", "daily", "2w", "1mo", "1y")))


def test_a_month_whose_first_midnight_is_left_out_begins_at_one() -> None:
    spec = WindowSpec(anchor=datetime(2017, 9, 10, tzinfo=UTC), duration="1mo", zone="America/Asuncion")
    assert window_of_index(spec, 1).start == datetime(2017, 10, 1, 4, tzinfo=UTC)  # 01:00 there: clocks go forward


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
    [("30d", (30, "d")), ("1mo", (1, "mo")), ("5m", (5, "m")), ("monthly", (1, "mo")), ("daily", (1, "d"))],
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


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1M", "1mo"), ("1min", "1m"), ("30D", "30d"), ("month", "monthly"), ("2 weeks", "2w"), ("1hr", "1h"),
        ("Daily", "daily"), ("year", "yearly"), ("12months", "12mo"), ("7 d", "7d"), ("90secs", "90s"),
    ],
)  # fmt: skip
def test_a_wrong_duration_is_told_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(WindowError, match=f"did you mean '{meant}'.*hourly, daily, weekly, monthly or yearly"):
        parse_duration(written)


@pytest.mark.parametrize("written", ["", "soon", "30", "0d", "-1d", "m", "x" * 500, "1fortnight", "5daily"])
def test_what_means_nothing_is_told_what_is_taken(written: str) -> None:
    with pytest.raises(WindowError) as error:
        parse_duration(written)
    assert "did you mean" not in str(error.value)
    assert len(str(error.value)) < 250
