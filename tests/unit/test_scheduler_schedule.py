"""Which tick is due: no drift, no tick twice, missed ticks made good by one run."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.domain.schedule import (
    EPOCH,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    Job,
    due,
    latest_due,
    next_due,
    overdue_s,
    retry_after_s,
)

HOURLY = Job(name="hourly", every_s=3_600)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

instants = st.timedeltas(timedelta(days=1), timedelta(days=365 * 200)).map(lambda after: EPOCH + after)
intervals = st.integers(min_value=1, max_value=400 * 86_400)


def test_a_tick_is_due_on_the_hour_whenever_the_process_started() -> None:
    assert latest_due(HOURLY, NOON + timedelta(minutes=59)) == NOON
    assert latest_due(HOURLY, NOON) == NOON
    assert next_due(HOURLY, NOON) == NOON + timedelta(hours=1)
    assert next_due(HOURLY, NOON - timedelta(seconds=1)) == NOON


@given(instants, intervals)
def test_due_instants_lie_on_one_grid_around_now(now: datetime, every_s: int) -> None:
    job = Job(name="j", every_s=every_s)
    before, after = latest_due(job, now), next_due(job, now)
    assert before <= now < after
    assert after - before == timedelta(seconds=every_s)
    assert latest_due(job, after) == after
    assert int(before.timestamp()) % every_s == 0


def test_a_job_that_never_ran_is_due_at_once() -> None:
    found = due(HOURLY, None, NOON + timedelta(minutes=5))
    assert found is not None
    assert (found.due_at, found.missed) == (NOON, 0)


def test_a_finished_tick_is_not_due_again() -> None:
    assert due(HOURLY, NOON, NOON + timedelta(minutes=59, seconds=59)) is None


def test_missed_ticks_are_one_run_of_the_latest() -> None:
    found = due(HOURLY, NOON - timedelta(hours=5), NOON + timedelta(minutes=1))
    assert found is not None
    assert (found.due_at, found.missed) == (NOON, 4)


def test_a_clock_set_back_makes_nothing_due() -> None:
    assert due(HOURLY, NOON, NOON - timedelta(days=3)) is None
    assert overdue_s(HOURLY, NOON, NOON - timedelta(days=3)) == 0


def test_overdue_counts_from_the_oldest_outstanding_tick() -> None:
    assert overdue_s(HOURLY, NOON - timedelta(hours=3), NOON + timedelta(minutes=1)) == 2 * 3_600 + 60
    assert overdue_s(HOURLY, NOON, NOON + timedelta(minutes=1)) == 0


@given(st.integers(min_value=1, max_value=10_000))
def test_retries_back_off_within_bounds(attempts: int) -> None:
    wait_s = retry_after_s(attempts)
    assert RETRY_FIRST_S <= wait_s <= RETRY_MAX_S
    assert wait_s <= retry_after_s(attempts + 1)
