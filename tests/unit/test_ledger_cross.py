"""Soft limits, percents, exceeded and restored budgets: recorded once, and one signal for each whoever publishes it."""

from datetime import UTC, datetime, timedelta

import pytest

from services.ledger.domain.cross import crossings, signal_of, threshold_of, told
from services.ledger.domain.state import Crossing
from services.ledger.domain.tuning import Tuning
from shared.allotment import Row
from shared.events import (
    BudgetExceeded,
    BudgetRestored,
    BudgetThresholdReached,
    GrantEntry,
    KeyDeleted,
    ThresholdCrossed,
)
from shared.policy import Increase
from tests.support.ledger import (
    EPOCH,
    KEY,
    P2,
    Desk,
    ask,
    beat,
    budget,
    budget_set,
    close,
    corrected,
    event_id,
    key_issued,
    used,
    window,
)
from tests.support.ledger_desk import Bureau

A = window("a:key_1")


def soft(limit: int | None = None, duration: str = "1h") -> Desk:
    return Desk(key_issued(), budget_set(budget(KEY, limit, soft=80, duration=duration)))


def bureau(limit: int = 100, tuning: Tuning | None = None, **more: object) -> Bureau:
    return Bureau(key_issued(), budget_set(budget(KEY, limit, **more)), tuning=tuning)  # pyright: ignore[reportArgumentType]


def told_of(records: tuple[GrantEntry, ...]) -> list[tuple[str, int]]:
    return [(record.threshold, record.round) for record in records if isinstance(record, ThresholdCrossed)]


# ---- warnings ---------------------------------------------------------------------------------------------


def test_a_soft_limit_is_crossed_when_the_money_is_spent_and_once() -> None:
    enforcer = soft()
    enforcer.fold(used(1, 79, A, serial=None))
    assert crossings(enforcer.state, enforcer.now, 100) == []
    enforcer.fold(used(2, 1, A, serial=None))
    records = crossings(enforcer.state, enforcer.now, 100)
    assert records == [ThresholdCrossed(window=A, threshold="soft", spent_nusd=80)]
    assert crossings(enforcer.state, enforcer.now, 100) == records  # until it is in the log
    enforcer.append(*records)
    enforcer.fold(used(3, 50, A, serial=None))
    assert crossings(enforcer.state, enforcer.now, 100) == []


def test_a_new_window_crosses_again() -> None:
    enforcer = soft()
    enforcer.fold(used(1, 90, A, serial=None))
    enforcer.append(*crossings(enforcer.state, enforcer.now, 100))
    enforcer.now += timedelta(hours=1)
    enforcer.fold(used(2, 90, window("a:key_1", 1), serial=None))
    assert [record.window.index for record in crossings(enforcer.state, enforcer.now, 100)] == [1]


def test_a_soft_limit_set_below_the_spend_is_crossed_at_once() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.fold(used(1, 60, A))
    enforcer.learn(budget_set(budget(KEY, 100, soft=50)))
    assert [record.threshold for record in crossings(enforcer.state, enforcer.now, 100)] == ["soft"]


def test_percents_of_the_limit_warn_once_each() -> None:
    at = bureau(1_001, thresholds=(50, 80, 100))
    at.fold(used(1, 500, A))
    assert told_of(at.settle()) == []
    at.fold(used(2, 1, A))
    assert told_of(at.settle()) == [("50%", 0)]
    at.fold(used(3, 500, A))
    assert told_of(at.settle()) == [("80%", 0), ("100%", 0), ("exceeded", 0)]
    at.fold(used(4, 500, A))
    assert told_of(at.settle()) == []


def test_percents_go_by_the_limit_in_force() -> None:
    until = EPOCH + timedelta(minutes=30)
    at = bureau(100, thresholds=(80,), increase=Increase(amount_nusd=100, until=until))
    at.fold(used(1, 90, A))
    assert told_of(at.settle()) == []
    at.now = until
    assert told_of(at.settle()) == [("80%", 0)]


def test_presumed_spend_warns_nobody_before_it_is_spent() -> None:
    tuning = Tuning(lease_ms=10_000, max_call_ms=1_000, margin_ms=100)
    at = bureau(100, tuning, strict=True, thresholds=(50,))
    at.ask(ask(60))
    at.pass_ms(60_000)
    assert told_of(at.settle()) == []
    at.fold(used(1, 50, A))
    assert told_of(at.settle()) == [("50%", 0)]


def test_what_comes_long_after_a_window_crosses_nothing() -> None:
    enforcer = soft()
    enforcer.fold(used(1, 90, A, serial=None))
    assert crossings(enforcer.state, EPOCH + timedelta(hours=2, seconds=1), 100) == []
    assert enforcer.state.dirty == set()


def test_at_most_so_many_at_a_time() -> None:
    enforcer = Desk(key_issued(), budget_set(*(budget(KEY, None, soft=1, account=f"a{i}") for i in range(9))))
    enforcer.fold(used(1, 5, *(window(f"a{i}") for i in range(9)), serial=None))
    seen = 0
    while records := crossings(enforcer.state, enforcer.now, 4):
        assert len(records) <= 4
        seen += len(records)
        enforcer.append(*records)
    assert seen == 9


def test_a_deleted_key_and_a_removed_budget_are_no_news() -> None:
    at = bureau(soft=10)
    at.fold(used(1, 20, A))
    at.learn(KeyDeleted(id=event_id(), at=EPOCH, source="auth", actor="test", key_id=KEY))
    assert told_of(at.settle()) == []
    at = bureau(soft=10)
    at.fold(used(1, 20, A))
    at.learn(budget_set(kind="key", scope_id=KEY))
    assert told_of(at.settle()) == []


# ---- exceeded and restored --------------------------------------------------------------------------------


def test_a_budget_spent_to_the_last_is_exceeded_without_a_refusal() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.fold(used(1, 100, A))
    assert [record.threshold for record in crossings(enforcer.state, enforcer.now, 100)] == ["exceeded"]


def test_an_exceeded_ask_and_an_exceeded_spend_are_one_crossing() -> None:
    at = bureau()
    at.fold(used(1, 90, A, serial=None))
    at.post(ask(11))
    assert told_of(at.settle()) == [("exceeded", 0)]
    at.fold(used(2, 10, A, serial=None))
    assert told_of(at.settle()) == []


def test_a_refusal_long_before_the_end_and_the_end_itself_are_both_told() -> None:
    at = bureau()
    at.fold(used(1, 89, A, serial=None))
    at.post(ask(50))
    assert told_of(at.settle()) == [("exceeded", 0)]
    at.post(ask(50, serial=2))
    assert told_of(at.settle()) == []
    at.fold(used(2, 11, A, serial=None))
    assert told_of(at.settle()) == [("exceeded", 1)]
    at.fold(used(3, 50, A, serial=None))
    at.post(ask(1, serial=3))
    assert told_of(at.settle()) == []
    assert {name for _, _, name in at.state.untold} == {"exceeded", "exceeded~1"}
    assert Bureau(logs=at.logs).state.balance(A).round == 1
    at.learn(budget_set(budget(KEY, 200)))
    assert told_of(at.settle()) == [("restored", 1)]
    at.fold(used(4, 50, A, serial=None))
    assert told_of(at.settle()) == [("exceeded", 2)]


def test_a_call_that_is_larger_than_the_limit_pages_nobody() -> None:
    at = bureau()
    assert at.ask(ask(101)).verdict == "exceeded"
    assert at.state.balance(A).crossed == {}
    at.fold(used(1, 100, A, serial=None))
    assert told_of(at.settle()) == [("exceeded", 0)]


def test_spend_that_was_told_before_its_events_came_restores_nothing() -> None:
    at = bureau()
    at.ask(ask(90, instance=P2))
    at.serve(beat(Row(1, 0, 90, 90, 0), instance=P2))
    at.post(ask(20))
    (record,) = (record for record in at.settle() if isinstance(record, ThresholdCrossed))
    assert (record.spent_nusd, record.unfolded_nusd) == (90, 90)
    successor = Bureau(logs=at.logs)  # nobody has told it what is on its way
    assert told_of(successor.settle()) == []
    successor.fold(used(1, 30, A, instance=P2))
    assert told_of(successor.settle()) == []


def test_an_exceeded_ask_and_an_exceeded_spend_in_one_batch_are_one_crossing() -> None:
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.post(ask(1))
    assert told_of(at.settle()) == [("exceeded", 0)]


def test_presumed_spend_fills_a_budget() -> None:
    at = bureau(60, Tuning(lease_ms=10_000, max_call_ms=1_000, margin_ms=100), strict=True)
    at.ask(ask(60))
    at.pass_ms(60_000)
    assert told_of(at.settle()) == [("exceeded", 0)]
    at.post(close(0))
    assert told_of(at.settle()) == [("restored", 0)]


def test_a_raised_limit_restores_and_being_exceeded_again_is_told_again() -> None:
    at = bureau()
    at.fold(used(1, 100, A))
    assert told_of(at.settle()) == [("exceeded", 0)]
    at.learn(budget_set(budget(KEY, 150)))
    assert told_of(at.settle()) == [("restored", 0)]
    at.fold(used(2, 50, A))
    assert told_of(at.settle()) == [("exceeded", 1)]
    at.learn(budget_set(budget(KEY, 200)))
    assert told_of(at.settle()) == [("restored", 1)]
    assert at.settle() == ()
    balance = at.state.balance(A)
    assert sorted(balance.crossed) == ["exceeded", "exceeded~1", "restored", "restored~1"]
    assert (balance.round, balance.exceeded) == (2, None)
    assert sorted(at.state.untold) == [(A.account, 0, name) for name in sorted(balance.crossed)]


def test_a_raised_limit_that_is_spent_already_restores_nothing() -> None:
    at = bureau()
    at.fold(used(1, 150, A))
    at.settle()
    at.learn(budget_set(budget(KEY, 150)))
    assert at.settle() == ()


def test_a_limit_lowered_and_raised_again_restores_nothing() -> None:
    at = bureau()
    at.fold(used(1, 90, A, serial=None))
    assert at.ask(ask(20)).verdict == "exceeded"
    for limit in (50, 100):
        at.learn(budget_set(budget(KEY, limit)))
        assert told_of(at.settle()) == []


def test_a_correction_restores() -> None:
    at = bureau()
    at.fold(used(1, 100, A))
    at.settle()
    at.fold(corrected(1, (A, -100)))
    assert told_of(at.settle()) == [("restored", 0)]


def test_usage_that_arrives_late_never_restores() -> None:
    at = bureau()
    at.ask(ask(90, instance=P2))
    at.fold(used(1, 30, A, instance=P2))
    assert at.ask(ask(71)).verdict == "exceeded"
    at.fold(used(2, 40, A, instance=P2))
    assert at.settle() == ()


def test_a_temporary_increase_restores_and_its_end_exceeds_again() -> None:
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    until = EPOCH + timedelta(minutes=30)
    at.learn(budget_set(budget(KEY, 100, increase=Increase(amount_nusd=50, until=until))))
    assert told_of(at.settle()) == [("restored", 0)]
    assert at.ask(ask(50)).granted == 50
    at.now = until - timedelta(seconds=5)
    at.settle()
    due = at.desk.due_ms(at.now_ms)
    assert due is not None
    assert due <= at.now_ms + 5_001
    at.now = until
    assert told_of(at.settle()) == [("exceeded", 1)]
    assert at.ask(ask(51, rseq=2, least=1)).verdict == "exceeded"


def test_a_successor_notices_an_increase_that_ended_between() -> None:
    until = EPOCH + timedelta(minutes=30)
    first = bureau(100, increase=Increase(amount_nusd=50, until=until))
    first.fold(used(1, 120, A))
    assert told_of(first.settle()) == []
    at = Bureau(logs=first.logs)
    at.now = until
    assert told_of(at.settle()) == [("exceeded", 0)]


@pytest.mark.parametrize("unlimited", [True, False])
def test_a_limit_that_is_taken_away_restores(*, unlimited: bool) -> None:
    at = bureau(duration="1h")
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    gone = budget_set(budget(KEY, None, duration="1h")) if unlimited else budget_set(kind="key", scope_id=KEY)
    at.learn(gone)
    (record,) = at.settle()
    assert record == ThresholdCrossed(window=A, threshold="restored", spent_nusd=100)
    signal = signal_of(at.state.directory, A, "restored", at.state.balance(A).crossed["restored"], "enforcer/1")
    assert isinstance(signal, BudgetRestored)
    assert (signal.cause, signal.limit_nusd) == ("more_room", None)
    assert at.settle() == ()
    at.learn(budget_set(budget(KEY, 100, duration="1h")))
    assert told_of(at.settle()) == [("exceeded", 1)]


def test_an_account_that_goes_after_its_window_or_with_its_key_restores_nothing() -> None:
    at = bureau(duration="1h")
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    at.now = EPOCH + timedelta(hours=1)
    at.learn(budget_set(kind="key", scope_id=KEY))
    assert told_of(at.settle()) == []
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    at.learn(KeyDeleted(id=event_id(), at=EPOCH, source="auth", actor="test", key_id=KEY))
    at.learn(budget_set(kind="key", scope_id=KEY))
    assert told_of(at.settle()) == []


def test_a_call_as_large_as_those_refused_that_is_served_again_restores() -> None:
    at = bureau()
    at.ask(ask(40, instance=P2))
    at.fold(used(1, 10, A, serial=None))
    at.serve(ask(95))
    assert at.state.balance(A).least == 95
    at.learn(budget_set(budget(KEY, 100)))
    at.state.balance(A).least = 40  # as if a call of 40 had been refused on the word of proxies that were wrong
    assert at.ask(ask(39, serial=2)).verdict == "ok"
    assert at.state.balance(A).exceeded is not None
    at.post(ask(40, serial=3))
    at.settle()
    assert at.state.balance(A).exceeded is not None
    at.fold(corrected(1, (A, -90)))
    at.state.dirty.clear()
    at.post(ask(41, serial=4, least=41))
    assert ("restored", 0) in told_of(at.settle())


def test_a_new_window_restores_an_exceeded_budget() -> None:
    at = bureau(duration="1h")
    at.fold(used(1, 100, A))
    at.settle()
    at.now = EPOCH + timedelta(minutes=59, seconds=59)
    assert at.settle() == ()
    due = at.desk.due_ms(at.now_ms)
    assert due is not None
    assert due <= at.now_ms + 1_001
    at.now = EPOCH + timedelta(hours=1)
    (record,) = at.settle()
    assert record == ThresholdCrossed(window=A, threshold="restored", spent_nusd=0, limit_nusd=100)
    assert at.settle() == ()


def test_a_successor_tells_of_a_window_that_ended_between() -> None:
    first = bureau(duration="1h")
    first.fold(used(1, 100, A))
    first.settle()
    at = Bureau(logs=first.logs)
    at.now = EPOCH + timedelta(hours=3)
    assert told_of(at.settle()) == [("restored", 0)]
    late = Bureau(logs=first.logs)
    late.now = EPOCH + timedelta(days=3)
    late.take_office()
    assert late.settle() == ()


def test_a_window_that_is_over_is_not_exceeded_any_more() -> None:
    at = bureau(duration="1h", soft=50)
    at.fold(used(1, 90, A))
    at.settle()
    at.now = EPOCH + timedelta(hours=1)
    at.fold(used(2, 20, A))
    assert at.settle() == ()


def test_the_first_refusal_names_the_limit_it_went_by() -> None:
    at = bureau()
    at.fold(used(1, 10, A, serial=None))
    at.post(ask(91))
    assert [record for record in at.settle() if isinstance(record, ThresholdCrossed)] == [
        ThresholdCrossed(window=A, threshold="exceeded", spent_nusd=10, limit_nusd=100)
    ]


# ---- signals ----------------------------------------------------------------------------------------------


def test_a_crossing_is_untold_until_its_signal_is_out_also_for_a_successor() -> None:
    enforcer = soft()
    enforcer.fold(used(1, 90, A, serial=None))
    enforcer.append(*crossings(enforcer.state, enforcer.now, 100))
    assert enforcer.logs.fold().untold == {(A.account, 0, "soft")}
    enforcer.append(told(A, "soft"))
    assert enforcer.state.untold == set()
    assert enforcer.logs.fold().untold == set()


def test_each_round_is_told_for_itself() -> None:
    at = bureau()
    at.fold(used(1, 100, A))
    at.settle()
    at.learn(budget_set(budget(KEY, 150)))
    at.settle()
    at.fold(used(2, 50, A))
    at.settle()
    at.desk.told(told(A, "exceeded", 0))
    at.settle()
    assert at.state.untold == {(A.account, 0, "restored"), (A.account, 0, "exceeded~1")}
    assert [threshold_of(name) for _, _, name in sorted(at.state.untold)] == [("exceeded", 1), ("restored", 0)]


def test_the_signal_has_one_id_whoever_makes_it() -> None:
    enforcer = soft(100)
    crossing = Crossing(spent_nusd=90, at_ms=1_700_000_000_000, limit_nusd=100)
    again = Crossing(spent_nusd=95, at_ms=1_700_000_001_000, limit_nusd=100, round=1)
    directory = enforcer.state.directory
    one = signal_of(directory, A, "soft", crossing, "enforcer/1")
    two = signal_of(directory, A, "soft", crossing, "enforcer/2")
    later = signal_of(directory, window("a:key_1", 1), "soft", crossing, "enforcer/1")
    exceeded = signal_of(directory, A, "exceeded", crossing, "enforcer/1")
    another = signal_of(directory, A, "exceeded", again, "enforcer/1")
    restored = signal_of(directory, A, "restored", crossing, "enforcer/1")
    assert isinstance(one, BudgetThresholdReached)
    assert isinstance(exceeded, BudgetExceeded)
    assert isinstance(restored, BudgetRestored)
    assert two is not None
    assert later is not None
    assert another is not None
    assert one.id == two.id
    assert len({one.id, later.id, exceeded.id, another.id, restored.id}) == 5
    assert (one.duration, exceeded.duration, restored.duration) == ("1h", "1h", "1h")
    assert (one.threshold_nusd, one.limit_nusd, one.spent_nusd, one.alias) == (80, 100, 90, "a key")
    assert (one.window_start, one.window_end) == (EPOCH, EPOCH + timedelta(hours=1))
    assert signal_of(directory, window("a:unknown"), "soft", crossing, "x") is None


@pytest.mark.parametrize(
    ("minute", "cause", "index"),
    [(30, "more_room", 0), (59, "more_room", 0), (60, "new_window", 1), (125, "new_window", 2)],
)
def test_a_restored_budget_says_why_and_shows_the_window_in_use(minute: int, cause: str, index: int) -> None:
    directory = Desk(key_issued(), budget_set(budget(KEY, 100, duration="1h", model="gpt-*"))).state.directory
    at = EPOCH + timedelta(minutes=minute)
    crossing = Crossing(spent_nusd=0, at_ms=int(at.timestamp() * 1000), limit_nusd=100)
    signal = signal_of(directory, A, "restored", crossing, "enforcer/1")
    assert isinstance(signal, BudgetRestored)
    assert (signal.cause, signal.window_index, signal.model) == (cause, index, "gpt-*")
    assert signal.at == datetime.fromtimestamp(crossing.at_ms / 1000, UTC)
    assert signal.window_start == EPOCH + timedelta(hours=index)


def test_a_percent_says_its_amount() -> None:
    directory = Desk(key_issued(), budget_set(budget(KEY, 1_001, thresholds=(80,)))).state.directory
    signal = signal_of(directory, A, "80%", Crossing(spent_nusd=900, at_ms=1, limit_nusd=1_001), "enforcer/1")
    assert isinstance(signal, BudgetThresholdReached)
    assert (signal.threshold, signal.threshold_nusd, signal.limit_nusd) == ("80%", 801, 1_001)
