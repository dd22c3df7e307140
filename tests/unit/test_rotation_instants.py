"""When a secret is due: the grid of anchor and interval."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ids import KeyId, time_of
from shared.rotation import due_at, due_count, due_event_id, interval_of, latest_due, next_due
from shared.windows import WindowError

ANCHOR = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_the_first_instant_is_an_interval_after_the_anchor() -> None:
    assert latest_due(ANCHOR, MINUTE, ANCHOR) is None
    assert next_due(ANCHOR, MINUTE, ANCHOR) == ANCHOR + MINUTE
    assert next_due(ANCHOR, MINUTE, ANCHOR - timedelta(days=3)) == ANCHOR + MINUTE
    assert latest_due(ANCHOR, MINUTE, ANCHOR + MINUTE) == ANCHOR + MINUTE
    assert next_due(ANCHOR, MINUTE, ANCHOR + MINUTE) == ANCHOR + 2 * MINUTE


@given(
    seconds=st.integers(60, 400 * 86_400),
    later=st.timedeltas(timedelta(days=-10), timedelta(days=4_000)),
)
def test_now_lies_between_two_neighbours_of_the_grid(seconds: int, later: timedelta) -> None:
    interval, now = timedelta(seconds=seconds), ANCHOR + later
    after, before = next_due(ANCHOR, interval, now), latest_due(ANCHOR, interval, now)
    assert after > now
    assert (after - ANCHOR) % interval == timedelta(0)
    if before is None:
        assert now < ANCHOR + interval == after
    else:
        assert before <= now
        assert before + interval == after
        assert due_count(due_at(ANCHOR, interval, 1), before, interval) == (before - ANCHOR) // interval


@pytest.mark.parametrize(("text", "seconds"), [("1m", 60), ("30d", 2_592_000), ("1mo", 2_592_000), ("weekly", 604_800)])
def test_intervals_are_durations(text: str, seconds: int) -> None:
    assert interval_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["59s", "", "soon", "0d"])
def test_intervals_under_a_minute_and_what_is_no_duration_are_refused(text: str) -> None:
    with pytest.raises(WindowError):
        interval_of(text)


def test_the_event_of_an_instant_has_one_id() -> None:
    one = due_event_id(KeyId("key_1"), ANCHOR)
    assert one == due_event_id(KeyId("key_1"), ANCHOR)
    assert len({one, due_event_id(KeyId("key_2"), ANCHOR), due_event_id(KeyId("key_1"), ANCHOR + MINUTE)}) == 3
    assert abs(time_of(one) - ANCHOR) < timedelta(milliseconds=1)
