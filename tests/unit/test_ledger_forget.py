"""Bounded memory: what is dropped, when, and that no money moves by it."""

from datetime import timedelta

import msgspec

from services.ledger.domain.forget import Broom
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from shared.allotment import Row
from tests.support.ledger import (
    EPOCH,
    KEY,
    P1,
    P2,
    ask,
    budget,
    budget_set,
    close,
    counted,
    forget,
    gives_back,
    key_issued,
    recounted,
    used,
    window,
)
from tests.support.ledger_desk import Bureau

A = window("a:key_1")
SHORT = Tuning(lease_ms=10_000, max_call_ms=1_000, margin_ms=100)
SOON = EPOCH + timedelta(minutes=30)
LATER = EPOCH + timedelta(hours=2)


def bureau(limit: int = 100, **more: object) -> Bureau:
    return Bureau(key_issued(), budget_set(budget(KEY, limit, **more)), tuning=SHORT)  # pyright: ignore[reportArgumentType]


def sums(state: LedgerState) -> dict[str, tuple[int, int, int, int]]:
    return {
        f"{name}#{index}": (balance.spent, balance.escrow, balance.presumed, balance.overdraft)
        for name, account in state.accounts.items()
        for index, balance in account.windows.items()
    }


def test_a_used_up_allotment_goes_after_a_while() -> None:
    at = bureau()
    at.ask(ask(60))
    at.fold(used(1, 25, A))
    at.serve(gives_back(Row(1, 40, 25, 60, 0)))
    before = sums(at.state)
    assert before == {"a:key_1#0": (25, 0, 0, 5)}
    forget(at.state, SOON)
    assert 1 in at.state.instances[P1].allotments
    forget(at.state, LATER)
    assert at.state.instances[P1].allotments == {}
    assert sums(at.state) == before


def test_money_that_is_out_stays() -> None:
    at = bureau()
    at.ask(ask(60))
    forget(at.state, EPOCH + timedelta(days=400))
    assert at.state.balance(A).escrow == 60
    assert counted(at.state) == recounted(at.state)


def test_usage_for_a_dropped_allotment_counts_as_spend() -> None:
    at = bureau()
    at.ask(ask(60))
    at.fold(used(1, 60, A))
    forget(at.state, LATER)
    at.fold(used(2, 5, A))
    assert (at.state.balance(A).spent, at.state.escrow) == (65, 0)
    assert not at.state.instances[P1].see(2)
    forget(at.state, LATER + timedelta(hours=2))
    assert at.state.instances[P1].allotments == {}


def test_old_windows_go_and_the_latest_ones_stay() -> None:
    at = bureau(duration="1h")
    at.ask(ask(10))
    at.fold(used(1, 10, A))
    at.now += timedelta(hours=1)
    at.ask(ask(20, serial=2))
    at.fold(used(2, 20, window("a:key_1", 1), serial=2))
    forget(at.state, EPOCH + timedelta(days=2))
    assert sorted(at.state.accounts["a:key_1"].windows) == [0, 1]
    forget(at.state, EPOCH + timedelta(days=2, hours=2))
    assert sorted(at.state.accounts["a:key_1"].windows) == [1]
    forget(at.state, EPOCH + timedelta(days=33))
    assert at.state.accounts["a:key_1"].windows == {}
    assert at.state.accounts["a:key_1"].highest == 1


def test_a_window_about_which_somebody_is_to_be_told_stays() -> None:
    at = bureau(duration="1h", soft=5)
    at.fold(used(1, 10, A, serial=None))
    at.settle()
    forget(at.state, EPOCH + timedelta(days=60))
    assert at.state.seen(A) is not None
    at.state.untold.clear()
    forget(at.state, EPOCH + timedelta(days=60))
    assert at.state.seen(A) is None


def test_a_budget_for_ever_stays() -> None:
    at = bureau()
    at.fold(used(1, 10, A, serial=None))
    forget(at.state, EPOCH + timedelta(days=4_000))
    assert at.state.balance(A).spent == 10


def test_presumed_spend_ends_with_its_window() -> None:
    at = bureau(duration="1h", strict=True)
    at.ask(ask(60))
    at.pass_ms(60_000)
    at.settle()
    assert at.state.balance(A).presumed == 60
    forget(at.state, EPOCH + timedelta(days=2))
    assert at.state.balance(A).presumed == 60
    forget(at.state, EPOCH + timedelta(days=3))
    assert at.state.balance(A).presumed == 0
    assert counted(at.state) == recounted(at.state) == {}
    at.serve(close(0))
    assert at.state.balance(A).presumed == 0


def test_presumed_spend_of_a_budget_for_ever_stays() -> None:
    at = bureau(strict=True)
    at.ask(ask(60))
    at.pass_ms(60_000)
    at.settle()
    forget(at.state, EPOCH + timedelta(days=4_000))
    assert at.state.balance(A).presumed == 60


def test_event_numbers_of_a_closed_instance_stay() -> None:
    at = bureau()
    at.ask(ask(60))
    event = used(1, 25, A)
    at.fold(event)
    at.serve(close(1))
    forget(at.state, EPOCH + timedelta(days=4_000))
    at.fold(event)
    assert at.state.balance(A).spent == 25


def test_a_round_takes_many_small_steps() -> None:
    at = bureau(100_000)
    for serial in range(1, 30):
        at.ask(ask(10, serial=serial))
        at.fold(used(serial, 10, A, serial=serial))
    at.ask(ask(10, instance=P2))
    broom = Broom(at.state)
    assert not broom.sweep(LATER, 1)
    steps = 1
    while not broom.sweep(LATER, 1):
        steps += 1
    assert steps >= 2
    assert list(at.state.instances[P1].allotments) == []
    assert list(at.state.instances[P2].allotments) == [1]


def test_what_is_left_can_be_written_down() -> None:
    at = bureau(duration="1h", strict=True)
    at.ask(ask(60))
    at.pass_ms(60_000)
    at.settle()
    copy = msgspec.json.decode(msgspec.json.encode(at.state), type=LedgerState)
    forget(copy, EPOCH + timedelta(days=3))
    forget(at.state, EPOCH + timedelta(days=3))
    assert copy == at.state
