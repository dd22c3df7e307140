"""Money asked back from those who hold it idle: who is asked, who waits, who is served first (R26 to R28, R31)."""

import pytest

from services.ledger.domain import desk as desk_module
from services.ledger.domain.tuning import Tuning
from shared.allotment import Ack, Known, Recall, Row
from shared.events import AllotmentGranted, AllotmentReturned
from tests.support.ledger import (
    KEY,
    ORG,
    OTHER,
    P1,
    P2,
    TEAM,
    ask,
    beat,
    budget,
    budget_set,
    close,
    corrected,
    gives_back,
    key_issued,
    team_created,
    used,
    window,
)
from tests.support.ledger_desk import Bureau

A = window("a:key_1")


def bureau(limit: int = 100) -> Bureau:
    return Bureau(key_issued(), budget_set(budget(KEY, limit)))


def holding(amount: int = 90) -> Bureau:
    """P2 holds most of the money, idle."""
    at = bureau()
    at.ask(ask(amount, instance=P2))
    return at


def test_money_that_others_hold_idle_is_asked_back() -> None:
    at = holding()
    (token,) = at.post(ask(50))
    at.settle()
    assert token not in at.replies
    assert at.recalls == [(P2, Recall(epoch=1, account=A.account, known=(Known(1, 90, 0, (A,), at.tuning.lease_ms),)))]
    assert at.desk.due_ms(at.now_ms) == at.now_ms + at.tuning.recall_wait_ms
    records_before = len(at.logs.grants)
    at.serve(gives_back(Row(1, 90, 0, 90, 0), instance=P2))
    assert at.answer(token).granted == 50
    assert [type(record) for record in at.logs.grants[records_before].records] == [AllotmentReturned, AllotmentGranted]


def test_an_ask_waits_no_longer_than_the_recall() -> None:
    at = holding()
    (token,) = at.post(ask(50))
    at.settle()
    at.pass_ms(at.tuning.recall_wait_ms - 1)
    at.settle()
    assert token not in at.replies
    at.pass_ms(1)
    assert at.desk.due_ms(at.now_ms) == at.now_ms
    at.settle()
    assert at.answer(token).verdict == "reserved"
    assert at.desk.waiting == 0


def test_exceeded_needs_no_recall() -> None:
    at = holding()
    refused = at.ask(ask(101))
    assert refused.verdict == "exceeded"
    assert at.recalls == []


def test_exceeded_counts_what_proxies_report_and_what_is_presumed() -> None:
    at = holding()
    at.serve(beat(Row(1, 0, 60, 90, 30), instance=P2))
    assert at.ask(ask(41)).verdict == "exceeded"
    at.post(ask(40, serial=2))
    at.settle()
    assert len(at.recalls) == 1


def test_nobody_is_asked_twice_within_the_gap() -> None:
    at = holding()
    at.post(ask(50))
    at.settle()
    at.pass_ms(at.tuning.recall_wait_ms)
    at.settle()
    assert at.ask(ask(50, rseq=2)).verdict == "reserved"  # at once: nobody can be asked
    assert len(at.recalls) == 1
    at.pass_ms(at.tuning.recall_gap_ms)
    at.post(ask(50, rseq=3))
    at.settle()
    assert len(at.recalls) == 2


def test_an_ask_that_comes_during_a_recall_waits_what_remains_of_it() -> None:
    at = holding()
    (first,) = at.post(ask(50))
    at.settle()
    at.pass_ms(4)
    (second,) = at.post(ask(20, serial=2))
    at.settle()
    assert len(at.recalls) == 1
    at.pass_ms(6)
    at.settle()
    assert [at.answer(token).verdict for token in (first, second)] == ["reserved", "reserved"]


def test_nothing_held_by_others_is_refused_at_once() -> None:
    at = bureau()
    at.ask(ask(90))
    at.fold(used(1, 30, A))
    assert at.ask(ask(111, rseq=2, least=20, rows=(Row(1, 0, 30, 90, 61),))).verdict == "reserved"
    assert at.recalls == []


def test_the_askers_own_other_wallets_are_asked_too() -> None:
    at = bureau()
    at.ask(ask(90))
    (token,) = at.post(ask(50, serial=2))
    at.settle()
    assert [name for name, _ in at.recalls] == [P1]
    at.serve(gives_back(Row(1, 60, 0, 90, 30)))
    assert at.answer(token).granted == 50


def test_spent_money_whose_events_are_on_their_way_is_not_asked_back() -> None:
    at = holding()
    at.serve(beat(Row(1, 0, 90, 90, 0), instance=P2))
    assert at.ask(ask(20)).verdict == "exceeded"
    assert at.ask(ask(10)).verdict == "ok"
    assert at.recalls == []


def test_closed_instances_are_not_asked() -> None:
    at = holding()
    at.serve(close(1, P2))
    assert at.ask(ask(50)).verdict == "reserved"
    assert at.recalls == []


def test_every_account_that_lacks_room_must_be_able_to_get_some() -> None:
    at = Bureau(
        key_issued(KEY),
        key_issued(OTHER),
        team_created(),
        budget_set(budget(KEY, 50)),
        budget_set(budget(TEAM, 100, kind="team")),
    )
    at.ask(ask(45, lineage=("a:key_1", "a:team_1")))
    at.fold(used(1, 10, A, window("a:team_1")))
    at.ask(ask(40, instance=P2, key=OTHER, lineage=("a:team_1",)))
    row = Row(1, 0, 10, 45, 35)
    refused = at.ask(ask(75, rseq=2, least=30, lineage=("a:key_1", "a:team_1"), rows=(row,)))
    assert refused.verdict == "reserved"  # the key's money is held by this very wallet
    assert at.recalls == []


def test_returned_money_serves_first_come_first_served_before_new_asks() -> None:
    at = holding(100)
    first, second = at.post(ask(60), ask(30, serial=2))
    at.settle()
    at.pass_ms(2)
    (late,) = at.post(ask(3, serial=3))
    back = at.post(gives_back(Row(1, 65, 0, 100, 35), instance=P2))
    at.settle()
    assert at.answer(first).granted == 60
    assert isinstance(at.replies[back[0]], Ack)
    assert second not in at.replies
    assert late not in at.replies  # it would fit, but somebody came before
    at.serve(gives_back(Row(1, 95, 0, 100, 5), instance=P2))
    assert at.answer(second).granted == 30
    assert at.answer(late).granted == 3


def test_what_is_there_is_granted_at_once_though_more_would_be_used() -> None:
    at = holding()
    answer = at.ask(ask(5, want=80, fill=60))
    assert (answer.verdict, answer.granted, at.recalls) == ("ok", 10, [])


def test_returned_money_fills_those_who_waited() -> None:
    at = holding()
    (token,) = at.post(ask(20, want=80, fill=60))
    at.settle()
    assert token not in at.replies
    at.serve(gives_back(Row(1, 90, 0, 90, 0), instance=P2))
    assert at.answer(token).granted == 60


def test_those_behind_one_who_is_refused_have_their_turn() -> None:
    at = holding()
    (first,) = at.post(ask(50))
    at.settle()
    at.pass_ms(2)
    (second,) = at.post(ask(10, serial=2))
    at.settle()
    assert second not in at.replies
    at.pass_ms(8)
    at.settle()
    assert (at.answer(first).verdict, at.answer(second).granted) == ("reserved", 10)


def test_who_is_refused_makes_way_at_once_for_those_who_wait_longer() -> None:
    at = Bureau(key_issued(), budget_set(budget(KEY, 100)), tuning=Tuning(recall_gap_ms=1))
    at.ask(ask(90, instance=P2))
    (first,) = at.post(ask(50))
    at.settle()
    at.pass_ms(5)
    (second,) = at.post(ask(10, serial=2))
    at.settle()
    at.pass_ms(5)
    at.settle()
    assert (at.answer(first).verdict, at.answer(second).granted) == ("reserved", 10)


def test_two_calls_bigger_than_half_the_rest_do_not_starve_each_other() -> None:
    at = bureau(100)
    at.ask(ask(40, instance=P1))
    at.ask(ask(40, instance=P2))
    one, two = at.post(ask(70, serial=2), ask(70, serial=2, instance=P2))
    at.settle()
    assert {name for name, _ in at.recalls} == {P1, P2}
    at.serve(gives_back(Row(1, 40, 0, 40, 0)), gives_back(Row(1, 40, 0, 40, 0), instance=P2))
    assert at.answer(one).granted == 70
    at.pass_ms(10)
    at.settle()
    assert at.answer(two).verdict == "reserved"


def test_one_who_waits_holds_nothing_back_where_there_is_room() -> None:
    at = Bureau(
        key_issued(KEY),
        key_issued(OTHER),
        team_created(),
        budget_set(budget(KEY, 50)),
        budget_set(budget(OTHER, 50)),
        budget_set(budget(ORG, 1_000, kind="org")),
    )
    at.ask(ask(50, instance=P2, lineage=("a:key_1", "a:org_1")))
    (waits,) = at.post(ask(20, lineage=("a:key_1", "a:org_1")))
    at.settle()
    assert at.ask(ask(50, serial=2, key=OTHER, lineage=("a:key_2", "a:org_1"))).granted == 50
    assert waits not in at.replies


def test_copies_of_an_ask_that_waits_are_answered_together() -> None:
    at = holding()
    (first,) = at.post(ask(50, sent=1))
    at.settle()
    (again,) = at.post(ask(50, sent=2))
    (newer,) = at.post(ask(55, rseq=2, sent=3))
    at.settle()
    assert not {first, again, newer} & at.replies.keys()
    at.serve(gives_back(Row(1, 90, 0, 90, 0), instance=P2))
    said = [at.answer(token) for token in (first, again, newer)]
    assert [(reply.granted, reply.rseq, reply.sent_ms) for reply in said] == [(55, 1, 1), (55, 1, 2), (55, 2, 3)]
    assert at.state.balance(A).escrow == 55


def test_a_raised_limit_serves_those_who_wait() -> None:
    at = holding()
    (token,) = at.post(ask(50))
    at.settle()
    at.learn(budget_set(budget(KEY, 200)))
    assert at.desk.due_ms(at.now_ms) == at.now_ms
    at.settle()
    assert at.answer(token).granted == 50


def test_a_closing_that_usage_completes_serves_those_who_wait() -> None:
    at = holding()
    at.ask(ask(10, serial=4))
    (token,) = at.post(ask(10, serial=5))
    at.settle()
    assert token not in at.replies
    at.serve(close(1, P2))
    at.fold(used(1, 20, A, instance=P2))
    at.settle()
    assert at.answer(token).granted == 10


def test_a_corrected_spend_serves_those_who_wait() -> None:
    at = bureau()
    at.ask(ask(50, instance=P2))
    at.fold(used(1, 50, A, serial=None))
    (token,) = at.post(ask(20))
    at.settle()
    assert token not in at.replies
    at.fold(corrected(1, (A, -50)))
    at.settle()
    assert at.answer(token).granted == 20


def test_too_many_who_wait_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "WAITING_MAX", 1)
    at = holding()
    at.post(ask(50))
    at.settle()
    assert at.ask(ask(50, serial=2)).verdict == "reserved"


def test_recalls_show_the_log_and_nothing_tentative() -> None:
    at = holding(80)
    tokens = at.post(
        ask(90, instance=P2, rseq=2, least=10, rows=(Row(1, 0, 0, 80, 80),)),  # raises what P2 holds, in this batch
        ask(50),
    )
    batch = at.next()
    assert batch is not None
    held = at.state.instances[P2].allotments[1]
    assert held.granted == 80
    out = at.land(batch)
    assert [recall.known[0].granted for _, recall in out.recalls] == [90]  # it is in the log by now
    assert tokens[0] in at.replies


def test_a_holder_that_appears_in_the_draft_only_is_not_asked() -> None:
    at = bureau()
    tokens = at.post(ask(90, instance=P2), ask(50))
    at.settle()
    assert at.recalls == []
    assert at.answer(tokens[1]).verdict == "reserved"


def test_the_wait_ends_also_when_other_money_moves() -> None:
    """An ask that waits is not decided again and again while nothing came back that concerns it."""
    at = Bureau(key_issued(KEY), key_issued(OTHER), budget_set(budget(KEY, 100)), budget_set(budget(OTHER, 100)))
    at.ask(ask(90, instance=P2))
    at.ask(ask(90, serial=2, instance=P2, key=OTHER, lineage=("a:key_2",)))
    (token,) = at.post(ask(50))
    at.settle()
    at.serve(gives_back(Row(2, 90, 0, 90, 0), instance=P2))
    assert token not in at.replies
    assert at.state.awaited == {("a:key_1", 0)}
    assert at.state.eased == set()
