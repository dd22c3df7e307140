"""Instances of which nothing is heard: when they are given up, and what becomes of the money they held."""

from datetime import timedelta
from itertools import permutations

import pytest

from services.ledger.domain import silence as silence_module
from services.ledger.domain.tuning import Tuning
from shared.allotment import Ack, Row
from shared.events import AllotmentClosed, AllotmentRenewed, LedgerEpoch
from shared.ids import InstanceId
from tests.support.ledger import (
    KEY,
    P1,
    P2,
    TEAM,
    ask,
    balances,
    beat,
    budget,
    budget_set,
    close,
    counted,
    gives_back,
    key_issued,
    out_of,
    recounted,
    team_created,
    used,
    window,
)
from tests.support.ledger_desk import Bureau

A = window("a:key_1")
T = window("a:team_1")
SHORT = Tuning(lease_ms=10_000, max_call_ms=5_000, margin_ms=1_000)
AFTER_MS = 10_000 + 5_000 + 1_000 + 15
LINEAGE = ("a:key_1", "a:team_1")


def bureau(limit: int = 100, tuning: Tuning = SHORT, **more: object) -> Bureau:
    made = budget(KEY, limit, **more)  # pyright: ignore[reportArgumentType]
    return Bureau(key_issued(), budget_set(made), tuning=tuning)


def mixed(tuning: Tuning = SHORT) -> Bureau:
    """A strict key budget under a team budget that may be passed a little."""
    return Bureau(
        key_issued(),
        team_created(),
        budget_set(budget(KEY, 100, strict=True)),
        budget_set(budget(TEAM, 200, kind="team")),
        tuning=tuning,
    )


# ---- when (R17) -------------------------------------------------------------------------------------------


def test_the_time_of_silence_is_lease_longest_call_and_margin() -> None:
    assert SHORT.silent_after_ms == AFTER_MS
    assert Tuning().silent_after_ms == 1_500_000 + 5_000 + 1_500
    assert SHORT.silent_after(20_000) == AFTER_MS + 10_010  # it may go by a longer lease that it was given


def test_an_instance_is_closed_when_no_call_of_it_can_run_and_not_before() -> None:
    at = bureau()
    at.ask(ask(60))
    assert at.desk.due_ms(at.now_ms) == at.now_ms + AFTER_MS
    at.pass_ms(AFTER_MS - 1)
    assert at.settle() == ()
    at.pass_ms(1)
    assert at.settle() == (AllotmentClosed(instance=P1, how="silent", settled=((1, 0),)),)
    assert at.settle() == ()
    assert at.state.instances[P1].silent


def test_every_sign_of_life_counts() -> None:
    at = bureau()
    at.ask(ask(60))
    for request in (beat(), gives_back(Row(1, 1, 0, 60, 59)), ask(60, rseq=2, rows=(Row(1, 1, 0, 60, 59),))):
        at.pass_ms(AFTER_MS - 1)
        at.serve(request)
    at.pass_ms(AFTER_MS - 1)
    assert at.settle() == ()


def test_a_request_in_the_very_batch_keeps_its_sender_alive() -> None:
    at = bureau()
    at.ask(ask(60))
    at.pass_ms(AFTER_MS)
    at.post(beat())
    assert not any(isinstance(record, AllotmentClosed) for record in at.settle())


def test_a_new_enforcer_counts_silence_from_taking_office() -> None:
    """Scenario 10: elected again and again while an instance is silent, the timers restart."""
    first = bureau()
    first.ask(ask(60))
    at = Bureau(logs=first.logs, tuning=SHORT)
    for _ in range(4):
        at.pass_ms(AFTER_MS - 1)
        at.take_office()
        assert not at.state.instances[P1].silent
    at.pass_ms(AFTER_MS)
    at.settle()
    assert at.state.instances[P1].silent


def test_silence_honours_the_lease_given_by_an_earlier_enforcer() -> None:
    first = bureau(tuning=Tuning(lease_ms=60_000, max_call_ms=5_000, margin_ms=1_000))
    first.ask(ask(60))
    at = Bureau(logs=first.logs, tuning=SHORT)
    at.serve(beat())  # its answer may be lost: the proxy then still goes by the longer lease
    at.pass_ms(60_000)
    assert at.settle() == ()
    at.pass_ms(6_066)
    at.settle()
    assert at.state.instances[P1].silent


def test_signs_of_life_are_logged_well_within_the_margin() -> None:
    at = bureau(tuning=Tuning(margin_ms=1_000))
    at.ask(ask(1))
    at.pass_ms(500)
    before = len(at.logs.grants)
    at.serve(ask(101, serial=2))
    assert AllotmentRenewed(instance=P1) in at.logs.grants[before].records


def test_an_instance_without_allotments_is_left_alone() -> None:
    at = bureau()
    at.serve(beat())
    at.fold(used(1, 5, A, serial=None, instance=P2))
    at.pass_ms(10 * AFTER_MS)
    assert at.settle() == ()


# ---- what becomes of the money (R18) ----------------------------------------------------------------------


def test_on_a_strict_budget_what_is_out_is_presumed_spent() -> None:
    at = bureau(strict=True)
    at.ask(ask(60))
    at.fold(used(1, 20, A))
    at.pass_ms(AFTER_MS)
    assert at.settle() == (AllotmentClosed(instance=P1, how="silent", settled=((1, 20),), charged=(A.account,)),)
    balance = at.state.balance(A)
    assert (balance.spent, balance.presumed, balance.escrow, balance.overdraft) == (20, 40, 0, 0)
    refused = at.ask(ask(41, instance=P2))
    assert refused.refusal is not None
    assert (refused.verdict, refused.refusal.spent) == ("exceeded", 60)
    assert at.ask(ask(40, instance=P2, rseq=2)).granted == 40


def test_late_events_replace_presumed_spend_one_for_one() -> None:
    at = bureau(strict=True)
    at.ask(ask(60))
    at.pass_ms(AFTER_MS)
    at.settle()
    at.fold(used(1, 25, A))
    balance = at.state.balance(A)
    assert (balance.spent, balance.presumed, balance.overdraft) == (25, 35, 0)
    at.fold(used(2, 50, A))
    assert (balance.spent, balance.presumed, balance.overdraft) == (75, 0, 15)


def test_the_end_of_a_silent_instance_gives_the_rest_back_once_all_is_folded() -> None:
    at = bureau(strict=True)
    at.ask(ask(60))
    at.pass_ms(AFTER_MS)
    at.settle()
    at.serve(close(2))
    at.fold(used(1, 25, A))
    assert at.state.balance(A).presumed == 35
    at.fold(used(2, 5, A))
    balance = at.state.balance(A)
    assert (balance.spent, balance.presumed, balance.escrow) == (30, 0, 0)
    assert at.ask(ask(70, instance=P2)).granted == 70


def test_on_other_budgets_what_is_out_is_released_and_late_cost_is_overdraft() -> None:
    at = bureau()
    at.ask(ask(60))
    at.fold(used(1, 20, A))
    at.pass_ms(AFTER_MS)
    at.settle()
    balance = at.state.balance(A)
    assert (balance.spent, balance.presumed, balance.escrow) == (20, 0, 0)
    assert at.ask(ask(80, instance=P2)).granted == 80
    at.fold(used(2, 30, A))
    assert (balance.spent, balance.escrow, balance.overdraft) == (50, 80, 30)
    at.serve(close(2))
    assert (balance.spent, balance.escrow, balance.overdraft) == (50, 80, 30)


def test_each_account_of_one_allotment_goes_by_its_own_mode() -> None:
    at = mixed()
    at.ask(ask(60, lineage=LINEAGE))
    at.pass_ms(AFTER_MS)
    at.settle()
    key, team = at.state.balance(A), at.state.balance(T)
    assert (key.presumed, key.escrow, team.presumed, team.escrow) == (60, 0, 0, 0)
    at.fold(used(1, 10, A, T))
    assert (key.spent, key.presumed, key.overdraft) == (10, 50, 0)
    assert (team.spent, team.presumed, team.overdraft) == (10, 0, 10)


def test_a_silent_instance_gets_no_money_and_is_told_to_start_anew() -> None:
    """Scenario 9: cut off for longer than lease and longest call with a full wallet, then healed."""
    at = bureau(strict=True)
    at.ask(ask(60))
    at.pass_ms(AFTER_MS)
    at.settle()
    assert at.ask(ask(70, rseq=2)).verdict == "closed"
    ack = at.serve(beat(Row(1, 0, 0, 60, 0)))[0]
    assert isinstance(ack, Ack)
    assert ack.closed
    assert at.state.instances[P1].heard_ms != at.now_ms  # it is not renewed


def test_what_a_silent_instance_gives_back_after_all_is_given_back() -> None:
    at = bureau(strict=True)
    at.ask(ask(60))
    at.pass_ms(AFTER_MS)
    at.settle()
    at.serve(gives_back(Row(1, 50, 0, 60, 10)))
    assert at.state.balance(A).presumed == 10
    assert at.ask(ask(90, instance=P2)).granted == 90


def test_silent_instances_are_no_holders() -> None:
    at = bureau()
    at.ask(ask(10, instance=P2))
    at.pass_ms(AFTER_MS - 1_000)
    at.ask(ask(10))
    at.pass_ms(1_000)
    at.settle()
    assert at.state.balance(A).holders == {P1: {1}}
    assert at.ask(ask(10, want=500, rseq=2)).granted == 10 + 90 // 2


# ---- in every reader of the log (R7, R19) -----------------------------------------------------------------


def test_a_standby_keeps_released_escrow_for_usage_that_it_has_not_read() -> None:
    """Scenario 10b, for a silent closing: what was settled when it was decided is still to come here."""
    at = bureau()
    at.ask(ask(60))
    at.fold(used(1, 20, A))
    at.pass_ms(AFTER_MS)
    at.settle()
    standby = at.logs.fold("AG")
    assert (standby.balance(A).spent, standby.balance(A).escrow) == (0, 20)
    assert balances(at.logs.fold("AGU")) == balances(at.state)


def history() -> Bureau:
    """Silent closings with usage before, after and beyond them, on budgets of both kinds; then their ends."""
    at = mixed()
    at.ask(ask(60, lineage=LINEAGE))
    at.ask(ask(30, serial=2, lineage=LINEAGE))
    at.ask(ask(5, instance=P2, lineage=LINEAGE))
    at.fold(used(1, 70, A, T), used(3, 4, A, T, serial=2), used(1, 5, A, T, instance=P2))
    at.pass_ms(AFTER_MS)
    at.settle()
    at.fold(used(2, 9, A, T, serial=2), used(4, 40, A, T, serial=2))
    at.serve(gives_back(Row(2, 5, 53, 30, 0)))
    at.serve(close(5))
    at.ask(ask(7, instance=InstanceId("p3"), lineage=LINEAGE))
    at.fold(used(5, 1, A, T))
    return at


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("AUG")])
def test_the_logs_may_be_read_in_any_order(order: str) -> None:
    at = history()
    state = at.logs.fold(order)
    assert balances(state) == balances(at.state)
    assert counted(state) == recounted(state)
    assert state.out == out_of(state)


def test_balances_are_what_the_allotments_add_up_to() -> None:
    at = mixed()
    at.ask(ask(60, lineage=LINEAGE))
    at.ask(ask(30, serial=2, lineage=LINEAGE, instance=P2))
    at.pass_ms(AFTER_MS)
    at.settle()
    assert counted(at.state) == recounted(at.state) == {("a:key_1", 0): (0, 90, {})}


def test_a_large_instance_is_closed_in_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence_module, "SETTLED_MAX", 2)
    at = bureau()
    for serial in range(1, 6):
        at.ask(ask(10, serial=serial))
    at.pass_ms(AFTER_MS)
    records = [record for record in at.settle() if isinstance(record, AllotmentClosed)]
    assert [len(record.settled) for record in records] == [2, 2, 1]
    assert at.state.balance(A).escrow == 0


def test_a_successor_finishes_a_closing_that_did_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence_module, "SETTLED_MAX", 2)
    at = bureau()
    for serial in range(1, 6):
        at.ask(ask(10, serial=serial))
    at.pass_ms(AFTER_MS)
    batch = at.next()
    assert batch is not None
    at.land(batch)
    assert at.state.balance(A).escrow == 30
    successor = Bureau(logs=at.logs, tuning=SHORT)
    successor.settle()
    assert successor.state.balance(A).escrow == 0


def test_a_closing_that_was_not_recorded_is_decided_again() -> None:
    at = bureau()
    at.ask(ask(60))
    at.pass_ms(AFTER_MS)
    batch = at.next()
    assert batch is not None
    at.desk.dropped(batch, "no answer")
    at.take_office()
    assert at.settle() == ()
    at.pass_ms(AFTER_MS)
    assert len(at.settle()) == 1


def test_an_epoch_carries_its_lease() -> None:
    at = bureau()
    assert at.state.lease_ms == 10_000
    at._log((LedgerEpoch(epoch=9, holder=P1, lease_ms=77),))
    at.ask(ask(1))
    assert (at.state.lease_ms, at.state.instances[P1].lease_ms) == (77, 77)


def test_windows_roll_under_a_silent_instance() -> None:
    at = bureau(strict=True, duration="1h")
    at.ask(ask(60))
    at.now += timedelta(hours=1)
    at.now_ms += AFTER_MS
    at.settle()
    assert at.state.balance(A).presumed == 60
    assert at.ask(ask(100, instance=P2)).granted == 100
