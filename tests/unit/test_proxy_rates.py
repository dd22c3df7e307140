"""The sliding window, and that a wait is neither a millisecond too short nor too long."""

from bisect import bisect_right

from hypothesis import given, settings
from hypothesis import strategies as st

from services.proxy.domain.limits.fleet import Fleet
from services.proxy.domain.limits.gossip import News, Row
from services.proxy.domain.limits.quota import Quota
from services.proxy.domain.limits.rates import BUCKET_MS, WINDOW_MS, Gauge, Window, end_ms, wait_ms


def quota(limit: int, kind: str = "r") -> Quota:
    return Fleet("me").quota(f"0123{kind}", limit, 0)


calls = st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 40)), min_size=1, max_size=60)


@given(calls=calls)
@settings(max_examples=200, deadline=None)
def test_no_sixty_seconds_hold_more_than_the_limit(calls: list[tuple[int, int]]) -> None:
    one, now = quota(100, "t"), 5_000
    times: list[int] = []
    sums = [0]
    for gap, amount in calls:
        now += gap
        if one.fits(amount, now):
            one.add(amount, now)
            times.append(now)
            sums.append(sums[-1] + amount)
            assert sums[-1] - sums[bisect_right(times, now - WINDOW_MS)] <= 100


@given(calls=calls, weight=st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_a_wait_is_exact_to_the_millisecond(calls: list[tuple[int, int]], weight: int) -> None:
    one, now = quota(100, "t"), 5_000
    for gap, amount in calls:
        now += gap
        if one.fits(amount, now):
            one.add(amount, now)
    wait = 0 if one.fits(weight, now) else one.wait_ms(weight, now)
    assert wait is not None
    assert wait <= WINDOW_MS + BUCKET_MS
    if wait:
        assert not one.fits(weight, now + wait - 1)
    assert one.fits(weight, now + wait)


@given(
    mine=calls,
    theirs=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 30)), max_size=10, unique_by=lambda pair: pair[0]),
    weight=st.integers(1, 50),
)
@settings(max_examples=200, deadline=None)
def test_a_wait_counts_what_others_used_too(
    mine: list[tuple[int, int]], theirs: list[tuple[int, int]], weight: int
) -> None:
    fleet = Fleet("a")
    one, now = fleet.quota("0123t", 100, 0), 100_000
    for gap, amount in mine:
        now += gap // 10
        if one.fits(amount, now):
            one.add(amount, now)
    ahead = 777_123
    number = (now + ahead) // BUCKET_MS
    amounts = tuple(sorted((number - back, amount) for back, amount in theirs))
    row = Row("0123t", 100, 50, 0, 0, {}, amounts, True)
    fleet.heard(News(instance="b", seq=1, at_ms=now + ahead, rows=(row,)), now)
    room = one.room(now)
    assert room == 100 - one.own.total(now) - sum(amount for _, amount in theirs)
    ends = one.own.ends() + [(end_ms(bucket) - ahead, amount) for bucket, amount in amounts]
    wait = wait_ms(ends, weight - room, now)
    assert wait is not None
    if wait:
        assert one.room(now + wait - 1) < weight
    assert one.room(now + wait) >= weight


def test_there_is_no_second_helping_at_a_minute_boundary() -> None:
    one = quota(10)
    now = 59_999
    for _ in range(10):
        assert one.fits(1, now)
        one.add(1, now)
    for later in (60_000, 60_001, 90_000, 119_998):
        assert not one.fits(1, later)
    assert one.fits(1, 120_000)


def test_a_large_call_waits_for_an_empty_window_and_a_limit_of_nothing_for_ever() -> None:
    one = quota(100, "t")
    assert one.weight(5_000) == 100
    assert one.fits(one.weight(5_000), 0)
    one.add(1, 0)
    assert not one.fits(100, 10)
    assert one.wait_ms(100, 10) == end_ms(0) - 10
    nothing = quota(0)
    assert not nothing.fits(nothing.weight(1), 0)
    assert nothing.wait_ms(1, 0) is None


def test_tokens_are_set_right_in_the_bucket_where_they_were_counted() -> None:
    one = quota(100, "t")
    bucket = one.add(80, 1_500)
    assert not one.fits(30, 30_000)
    assert one.change(bucket, -50)
    assert one.room(30_000) == 70
    assert one.fits(30, 30_000)
    assert one.change(bucket, 100)
    assert one.room(30_000) == -30
    assert one.room(end_ms(bucket)) == 100
    assert not one.change(bucket, 5)


def test_figures_of_others_may_come_twice_late_or_in_any_order() -> None:
    window = Window()
    for number, amount in ((5, 2), (3, 1), (5, 2), (4, 7), (3, 1), (5, 3)):
        window.put(number, amount, 10_000)
    assert window.total(10_000) == 11
    assert [number for number, _ in window.amounts()] == [3, 4, 5]
    assert window.total(end_ms(3)) == 10
    assert window.total(end_ms(4)) == 3
    window.put(4, 7, end_ms(4))
    assert window.total(end_ms(4)) == 3
    window.replace([(5, 1)], end_ms(4))
    assert window.total(end_ms(4)) == 1
    assert window.total(end_ms(5)) == 0


def test_a_gauge_counts_calls_in_flight() -> None:
    gauge = Gauge()
    assert gauge.add(0, 1) == 0
    gauge.add(0, 1)
    assert gauge.total(10**9) == 2
    gauge.change(0, -1)
    assert gauge.total(10**9) == 1
    assert gauge.amounts() == ((0, 1),)


def test_a_raised_limit_keeps_what_was_used() -> None:
    fleet = Fleet("me")
    one = fleet.quota("0123r", 2, 0)
    one.add(1, 0)
    one.add(1, 0)
    assert not one.fits(1, 10)
    assert fleet.quota("0123r", 3, 10) is one
    assert one.fits(1, 10)
    one.add(1, 10)
    assert not one.fits(1, 20)
