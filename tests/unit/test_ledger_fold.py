"""Folding the logs: order between them does not matter, repetition changes nothing, closing is exact."""

from itertools import permutations

import msgspec
import pytest

from services.ledger.domain.fold import fold_auth, fold_grants, fold_usage
from services.ledger.domain.state import Instance, LedgerState, Meter, UnknownRecord
from shared.allotment import Row
from shared.events import AllotmentClosed, AllotmentRenewed, LedgerEpoch
from tests.support.ledger import (
    KEY,
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
    gives_back,
    key_issued,
    team_created,
    used,
    window,
)

A = window("a:key_1")
T = window("a:team_1")


def busy() -> Desk:
    """A history with everything in it: overdraft, a limit that appears, closings before and after their usage."""
    enforcer = Desk(key_issued(), team_created(), budget_set(budget(KEY, 1_000)))
    enforcer.append(LedgerEpoch(epoch=1, holder=P1))
    enforcer.serve(ask(300), ask(200, serial=2), ask(100, instance=P2))
    enforcer.fold(used(1, 350, A), used(3, 20, A, serial=2), used(1, 40, A, instance=P2))
    enforcer.serve(beat(), close(1, P2))
    enforcer.learn(budget_set(budget(TEAM, 900, kind="team", soft=30)))
    lineage = ("a:key_1", "a:team_1")
    enforcer.serve(ask(50, serial=3, lineage=lineage), gives_back(Row(2, 100, 20, 200, 0)))
    enforcer.fold(used(2, 45, A, T, serial=3), used(4, 3, T, serial=None), used(2, 45, A, T, serial=3))
    enforcer.serve(close(5))
    enforcer.fold(used(5, 7, A, serial=2), used(5, 7, A, serial=2))
    return enforcer


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("AUG")])
def test_the_logs_may_be_read_in_any_order(order: str) -> None:
    enforcer = busy()
    assert balances(enforcer.logs.fold(order)) == balances(enforcer.state)


def test_a_history_read_twice_gives_the_same_balances() -> None:
    enforcer = busy()
    before = balances(enforcer.state)
    for seq, event in enumerate(enforcer.logs.auth, 1):
        fold_auth(enforcer.state, event, seq)
    assert not any(fold_usage(enforcer.state, event) for event in enforcer.logs.usage)
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
    fold_usage(standby, enforcer.logs.usage[0])
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
        enforcer.append(AllotmentClosed(instance=P1, how="charged", last_n=0))


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
    assert fold_usage(copy, more)
    assert fold_usage(enforcer.state, more)
    assert copy == enforcer.state
