"""Soft limits and exceeded budgets: recorded once per window, and one signal for each whoever publishes it."""

from datetime import timedelta

from services.ledger.domain.cross import crossings, signal_of, told
from services.ledger.domain.state import Crossing
from shared.events import BudgetExceeded, BudgetThresholdReached, ThresholdCrossed
from tests.support.ledger import EPOCH, KEY, Desk, ask, budget, budget_set, key_issued, used, window

A = window("a:key_1")


def soft(limit: int | None = None, duration: str = "1h") -> Desk:
    return Desk(key_issued(), budget_set(budget(KEY, limit, soft=80, duration=duration)))


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


def test_a_budget_spent_to_the_last_is_exceeded_without_a_refusal() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.fold(used(1, 100, A))
    assert [record.threshold for record in crossings(enforcer.state, enforcer.now, 100)] == ["exceeded"]


def test_what_comes_long_after_a_window_crosses_nothing() -> None:
    enforcer = soft()
    enforcer.fold(used(1, 90, A, serial=None))
    assert crossings(enforcer.state, EPOCH + timedelta(hours=2, seconds=1), 100) == []
    assert enforcer.state.dirty == set()


def test_a_crossing_is_untold_until_its_signal_is_out_also_for_a_successor() -> None:
    enforcer = soft()
    enforcer.fold(used(1, 90, A, serial=None))
    enforcer.append(*crossings(enforcer.state, enforcer.now, 100))
    assert enforcer.logs.fold().untold == {(A.account, 0, "soft")}
    enforcer.append(told(A, "soft", 90))
    assert enforcer.state.untold == set()
    assert enforcer.logs.fold().untold == set()


def test_the_signal_has_one_id_whoever_makes_it() -> None:
    enforcer = soft(100)
    crossing = Crossing(spent_nusd=90, at_ms=1_700_000_000_000)
    directory = enforcer.state.directory
    one = signal_of(directory, A, "soft", crossing, "enforcer/1")
    two = signal_of(directory, A, "soft", crossing, "enforcer/2")
    later = signal_of(directory, window("a:key_1", 1), "soft", crossing, "enforcer/1")
    exceeded = signal_of(directory, A, "exceeded", crossing, "enforcer/1")
    assert isinstance(one, BudgetThresholdReached)
    assert isinstance(exceeded, BudgetExceeded)
    assert two is not None
    assert later is not None
    assert one.id == two.id
    assert len({one.id, later.id, exceeded.id}) == 3
    assert (one.threshold_nusd, one.limit_nusd, one.spent_nusd, one.alias) == (80, 100, 90, "a key")
    assert (one.window_start, one.window_end) == (EPOCH, EPOCH + timedelta(hours=1))
    assert signal_of(directory, window("a:unknown"), "soft", crossing, "x") is None


def test_at_most_so_many_at_a_time() -> None:
    enforcer = Desk(key_issued(), budget_set(*(budget(KEY, None, soft=1, account=f"a{i}") for i in range(9))))
    enforcer.fold(used(1, 5, *(window(f"a{i}") for i in range(9)), serial=None))
    seen = 0
    while records := crossings(enforcer.state, enforcer.now, 4):
        assert len(records) <= 4
        seen += len(records)
        enforcer.append(*records)
    assert seen == 9


def test_an_exceeded_ask_and_an_exceeded_spend_are_one_crossing() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.ask(ask(101))
    enforcer.fold(used(1, 100, A, serial=None))
    assert crossings(enforcer.state, enforcer.now, 100) == []
