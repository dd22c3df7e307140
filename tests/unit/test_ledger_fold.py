"""Folding the logs: order between them does not matter, repetition changes nothing, closing is exact."""

from itertools import permutations

import msgspec
import pytest

from services.ledger.domain.fold import fold_auth, fold_correction, fold_grants, fold_usage, marks_of
from services.ledger.domain.state import Instance, LedgerState, Meter, UnknownRecord
from shared.allotment import LEASE_MS, Row
from shared.events import (
    AllotmentClosed,
    AllotmentRenewed,
    LedgerEpoch,
    OrgUpdated,
    TeamUpdated,
    ThresholdCrossed,
    WindowOpened,
)
from shared.ids import InstanceId
from shared.policy import Increase
from tests.support.ledger import (
    EPOCH,
    KEY,
    ORG,
    P1,
    P2,
    TEAM,
    Desk,
    Logs,
    ask,
    balances,
    beat,
    budget,
    budget_set,
    close,
    corrected,
    counted,
    event_id,
    fold_any,
    gives_back,
    key_issued,
    org_created,
    recounted,
    team_created,
    used,
    window,
)

A = window("a:key_1")
T = window("a:team_1")


def busy() -> Desk:
    """A history with everything in it: overdraft, a limit that appears, closings before and after their usage."""
    enforcer = Desk(key_issued(), team_created(), budget_set(budget(KEY, 1_000)))
    enforcer.append(LedgerEpoch(epoch=1, holder=P1, lease_ms=LEASE_MS))
    enforcer.serve(ask(300), ask(200, serial=2), ask(100, instance=P2))
    enforcer.fold(used(1, 350, A), used(3, 20, A, serial=2), used(1, 40, A, instance=P2))
    enforcer.serve(beat(), close(1, P2))
    enforcer.learn(budget_set(budget(TEAM, 900, kind="team", soft=30)))
    lineage = ("a:key_1", "a:team_1")
    enforcer.serve(ask(50, serial=3, lineage=lineage), gives_back(Row(2, 100, 20, 200, 0)))
    enforcer.fold(used(2, 45, A, T, serial=3), used(4, 3, T, serial=None), used(2, 45, A, T, serial=3))
    enforcer.serve(close(5))
    enforcer.fold(used(5, 7, A, serial=2), used(5, 7, A, serial=2))
    enforcer.fold(corrected(1, (A, -40), (T, 5)), corrected(1, (A, -40), (T, 5)))
    p3 = InstanceId("p3")
    enforcer.serve(ask(60, instance=p3, lineage=lineage), ask(30, instance=p3, serial=2, lineage=lineage))
    enforcer.fold(used(2, 11, A, T, instance=p3))
    enforcer.append(
        AllotmentClosed(instance=p3, how="silent", settled=((1, 11), (2, 0)), charged=(T.account,)),
        ThresholdCrossed(window=A, threshold="exceeded", spent_nusd=9, limit_nusd=1_000),
        ThresholdCrossed(window=A, threshold="restored", spent_nusd=9, limit_nusd=1_000),
    )
    enforcer.fold(used(1, 70, A, T, instance=p3), used(3, 2, A, T, serial=2, instance=p3))
    enforcer.serve(close(4, p3), gives_back(Row(2, 28, 2, 30, 0), instance=p3))
    enforcer.fold(used(4, 1, A, T, serial=2, instance=p3))
    return enforcer


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("AUG")])
def test_the_logs_may_be_read_in_any_order(order: str) -> None:
    enforcer = busy()
    state = enforcer.logs.fold(order)
    assert balances(state) == balances(enforcer.state)
    assert counted(state) == recounted(state)


def test_a_history_read_twice_gives_the_same_balances() -> None:
    enforcer = busy()
    before = balances(enforcer.state)
    for seq, event in enumerate(enforcer.logs.auth, 1):
        fold_auth(enforcer.state, event, seq)
    assert not any(fold_any(enforcer.state, event) for event in enforcer.logs.usage)
    assert not any(fold_grants(enforcer.state, batch, seq) for seq, batch in enumerate(enforcer.logs.grants, 1))
    assert balances(enforcer.state)["accounts"] == before["accounts"]
    assert balances(enforcer.state)["allotments"] == before["allotments"]


def test_usage_may_come_before_its_grant() -> None:
    logs = Logs()
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)), logs=logs)
    enforcer.ask(ask(60))
    logs.usage.append(used(1, 25, A))
    standby = logs.fold("UAG")
    assert (standby.balance(A).spent, standby.balance(A).escrow) == (25, 35)


def test_a_standby_keeps_the_escrow_until_it_has_read_the_usage_itself() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.ask(ask(100))
    enforcer.fold(used(1, 60, A))
    enforcer.serve(close(1))
    standby = enforcer.logs.fold("AG")
    assert standby.balance(A).escrow == 100
    fold_any(standby, enforcer.logs.usage[0])
    assert (standby.balance(A).spent, standby.balance(A).escrow) == (60, 0)


def test_numbers_are_folded_once_each_in_any_order() -> None:
    instance = Instance()
    assert [instance.see(n) for n in (2, 1, 2, 5, 3, 1, 4, 6)] == [True, True, False, True, True, False, True, True]
    assert (instance.floor, instance.above) == (6, set())


def test_a_batch_published_again_after_the_closing_is_not_counted_again() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.ask(ask(50))
    events = (used(1, 20, A), used(2, 10, A))
    enforcer.fold(*events)
    enforcer.serve(close(2))
    before = balances(enforcer.state)
    enforcer.fold(*events)
    assert balances(enforcer.state) == before


def test_usage_of_accounts_that_auth_has_not_named_yet_is_kept() -> None:
    state = LedgerState(partition=0)
    fold_usage(state, used(1, 20, A, serial=None))
    fold_auth(state, key_issued(), 1)
    fold_auth(state, budget_set(budget(KEY, None, soft=15)), 2)
    assert state.balance(A).spent == 20
    assert (A.account, A.index) in state.dirty


def test_an_event_of_auth_that_the_relay_sent_twice_counts_once() -> None:
    state = LedgerState(partition=0)
    fold_auth(state, msgspec.structs.replace(budget_set(budget(KEY, 10)), position=4), 1)
    fold_auth(state, msgspec.structs.replace(budget_set(budget(KEY, 20)), position=5), 2)
    fold_auth(state, msgspec.structs.replace(budget_set(budget(KEY, 10)), position=4), 3)
    assert state.directory.budgets["a:key_1"].limit_nusd == 20
    assert state.auth_pos == 3


def test_a_correction_touches_spend_and_nothing_else_and_counts_once() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.ask(ask(60))
    enforcer.fold(used(1, 40, A))
    event = corrected(1, (A, -30), (T, 7))
    assert fold_correction(enforcer.state, event)
    assert not fold_correction(enforcer.state, event)
    assert (enforcer.state.balance(A).spent, enforcer.state.balance(A).escrow) == (10, 20)
    assert enforcer.state.balance(T).spent == 7
    assert enforcer.ask(ask(70, serial=2)).granted == 70


def test_numbers_of_corrections_are_those_of_the_books_and_of_no_proxy() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.fold(used(1, 40, A), corrected(1, (A, -30)))
    assert enforcer.state.balance(A).spent == 10


def test_an_allotment_named_twice_in_an_opening_counts_once() -> None:
    enforcer = Desk(key_issued(), team_created(), budget_set(budget(KEY, 100)))
    enforcer.ask(ask(60))
    enforcer.append(
        WindowOpened(window=T, opening_spent_nusd=0, allotments=((P1, 1), (P1, 1), (P1, 9))),
        WindowOpened(window=T, opening_spent_nusd=0, allotments=((P1, 1), (P2, 1))),
    )
    assert enforcer.state.balance(T).escrow == 60
    assert enforcer.state.balance(T).holders == {P1: {1}}


def test_holders_are_the_living_with_money_out() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.ask(ask(30))
    enforcer.ask(ask(20, serial=2))
    enforcer.ask(ask(10, instance=P2))
    assert enforcer.state.balance(A).holders == {P1: {1, 2}, P2: {1}}
    enforcer.fold(used(1, 30, A))
    assert enforcer.state.balance(A).holders == {P1: {2}, P2: {1}}
    enforcer.serve(gives_back(Row(2, 20, 0, 20, 0)))
    assert enforcer.state.balance(A).holders == {P2: {1}}
    enforcer.serve(close(3, P2))
    assert enforcer.state.balance(A).holders == {}
    assert enforcer.state.balance(A).escrow == 10


def test_a_team_or_organization_that_is_updated_keeps_its_place() -> None:
    enforcer = Desk(team_created(), org_created())
    team = TeamUpdated(id=event_id(), at=EPOCH, source="auth", actor="t", team_id=TEAM, org_id=ORG, alias="new team")
    org = OrgUpdated(id=event_id(), at=EPOCH, source="auth", actor="t", org_id=ORG, alias="new org")
    enforcer.learn(team, org)
    directory = enforcer.state.directory
    assert (directory.alias("team", TEAM), directory.alias("org", ORG)) == ("new team", "new org")


def test_amounts_at_which_something_may_be_told() -> None:
    plain = budget(KEY, 1_001, soft=7, thresholds=(50, 100))
    assert marks_of(plain) == (7, 501, 1_001)
    more = budget(KEY, 100, thresholds=(50,), increase=Increase(amount_nusd=20, until=EPOCH))
    assert marks_of(more) == (50, 60, 100, 120)
    assert marks_of(budget(KEY, None)) == ()


def test_a_removed_account_leaves_the_lineage_and_keeps_its_history() -> None:
    enforcer = Desk(key_issued(), budget_set(budget(KEY, 100)))
    enforcer.ask(ask(50))
    enforcer.learn(budget_set(kind="key", scope_id=KEY))
    assert enforcer.state.directory.lineage(KEY) == ()
    assert enforcer.ask(ask(60, rseq=2)).verdict == "policy"
    assert enforcer.state.balance(A).escrow == 50


def test_silence_is_counted_from_reading() -> None:
    enforcer = Desk()
    state = enforcer.logs.fold()
    batch = enforcer.logs.batch([AllotmentRenewed(instance=P1)], 0)
    fold_grants(state, batch, 1, 77_000)
    assert state.instances[P1].heard_ms == 77_000


def test_a_kind_of_closing_from_a_newer_version_is_not_guessed_at() -> None:
    enforcer = Desk()
    with pytest.raises(UnknownRecord, match="newer version"):
        enforcer.append(
            AllotmentClosed(instance=P1, how="charged", last_n=0)  # pyright: ignore[reportArgumentType]
        )


def test_the_meter_forgets_after_ten_seconds() -> None:
    meter = Meter()
    meter.note(100, 50)
    meter.note(105, 50)
    assert meter.per_second(105) == 10
    assert meter.per_second(110) == 5
    assert meter.per_second(200) == 0


def test_a_state_can_be_written_down_and_read_back() -> None:
    enforcer = busy()
    copy = msgspec.json.decode(msgspec.json.encode(enforcer.state), type=LedgerState)
    assert balances(copy) == balances(enforcer.state)
    more = used(2, 9, A, instance=P2)
    assert fold_any(copy, more)
    assert fold_any(enforcer.state, more)
    assert copy == enforcer.state
