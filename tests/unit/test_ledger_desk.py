"""The desk: what leaves when, who waits for what, and money asked back from those who hold it idle."""

from datetime import timedelta

import pytest

from services.ledger.domain import desk as desk_module
from services.ledger.domain.decide import answer
from services.ledger.domain.draft import Draft
from services.ledger.domain.tuning import Tuning
from shared.allotment import Ack, Answer, Ask, Beat, Known, NotActive, Row
from shared.events import AllotmentGranted, SignalPublished, ThresholdCrossed, WindowOpened
from shared.policy import Budget
from tests.support.ledger import (
    KEY,
    OTHER,
    P1,
    P2,
    ask,
    balances,
    beat,
    budget,
    budget_set,
    forget,
    gives_back,
    key_issued,
    used,
    window,
)
from tests.support.ledger_desk import Bureau

A = window("a:key_1")


def bureau(limit: int = 100, **more: object) -> Bureau:
    return Bureau(key_issued(), budget_set(budget(KEY, limit, **more)))  # pyright: ignore[reportArgumentType]


def holding(amount: int = 90) -> Bureau:
    """P2 holds most of the money, idle."""
    at = bureau()
    at.ask(ask(amount, instance=P2))
    return at


# ---- what leaves when (R1, R2, R3) ------------------------------------------------------------------------


def test_nothing_leaves_before_the_append() -> None:
    at = bureau()
    at.fold(used(1, 10, A, serial=None))
    at.post(ask(30), ask(30), ask(95, serial=2))
    before = balances(at.state)
    batch = at.next()
    assert batch is not None
    assert (at.replies, balances(at.state)) == ({}, before)
    assert [type(record) for record in batch.records] == [WindowOpened, AllotmentGranted, ThresholdCrossed]
    out = at.land(batch)
    assert [reply.granted for _, reply in out.replies if isinstance(reply, Answer)] == [30, 30, 0]


def test_copies_of_an_ask_enlarge_nothing() -> None:
    at = bureau()
    tokens = at.post(ask(30, want=40), ask(30, want=40), ask(30, want=40))
    at.settle()
    assert [at.answer(token).granted for token in tokens] == [40, 40, 40]
    assert at.state.balance(A).escrow == 40


def test_a_dropped_batch_sends_everybody_away_and_leaves_no_trace() -> None:
    at = bureau()
    at.post(ask(30), ask(30), beat(instance=P2))
    batch = at.next()
    assert batch is not None
    out = at.desk.dropped(batch, "no answer")
    assert [type(reply) for _, reply in out.replies] == [NotActive] * 3
    assert out.recalls == []
    assert at.state.balance(A).escrow == 0
    at.desk.begin(at.now_ms)
    assert at.ask(ask(100)).granted == 100


def test_a_dropped_batch_sends_no_recall_and_lets_nobody_wait() -> None:
    at = holding()
    tokens = at.post(ask(50), ask(5, serial=7))
    batch = at.next()
    assert batch is not None
    out = at.desk.dropped(batch, "no answer")
    assert {token for token, _ in out.replies} == set(tokens)
    assert (out.recalls, at.desk.waiting) == ([], 0)


def test_one_who_waited_is_sent_away_when_the_batch_that_serves_him_is_dropped() -> None:
    at = holding()
    (token,) = at.post(ask(50))
    at.settle()
    at.post(gives_back(Row(1, 90, 0, 90, 0), instance=P2))
    batch = at.next()
    assert batch is not None
    out = dict(at.desk.dropped(batch, "no answer").replies)
    assert isinstance(out[token], NotActive)
    assert (at.desk.waiting, at.state.balance(A).escrow) == (0, 90)


def test_one_batch_is_open_at_a_time() -> None:
    at = bureau()
    at.post(ask(1))
    batch = at.next()
    assert batch is not None
    at.post(ask(1, serial=2))
    with pytest.raises(RuntimeError, match="batch is open"):
        at.next()
    at.land(batch)
    with pytest.raises(RuntimeError, match="not the open one"):
        at.desk.committed(batch, None, None, 0)
    assert at.next() is not None


def test_a_refusal_alone_needs_no_append() -> None:
    at = bureau()
    at.ask(ask(101))
    at.post(ask(101, serial=2))
    batch = at.next()
    assert batch is not None
    assert batch.records == ()


def test_a_batch_that_the_reader_folded_first_is_not_folded_again() -> None:
    at = bureau()
    (token,) = at.post(ask(30))
    batch = at.next()
    assert batch is not None
    at._log(batch.records)
    at.replies.update(at.desk.committed(batch, at.logs.grants[-1], len(at.logs.grants), at.now_ms).replies)
    assert at.answer(token).granted == 30
    assert at.state.balance(A).escrow == 30


def test_leaving_the_office_sends_everybody_away() -> None:
    at = holding()
    waits = at.post(ask(50))
    at.settle()
    parked = at.post(ask(1, serial=2, rev=99))
    at.settle()
    queued = at.post(beat())
    out = at.desk.leave("leaving")
    assert {token for token, reply in out.replies if isinstance(reply, NotActive)} == {*waits, *parked, *queued}
    assert at.desk.waiting == 0


def test_leaving_with_a_batch_open_sends_its_senders_away_too() -> None:
    at = bureau()
    (token,) = at.post(ask(50))
    assert at.next() is not None
    assert [entry for entry, _ in at.desk.leave("leaving").replies] == [token]


def test_replies_carry_the_lease_in_force() -> None:
    at = Bureau(key_issued(), budget_set(budget(KEY, 100)), tuning=Tuning(lease_ms=5_000))
    said = at.ask(ask(10))
    assert (said.lease_ms, said.admit_for_ms) == (5_000, 5_000)
    ack = at.serve(beat())[0]
    assert isinstance(ack, Ack)
    assert ack.lease_ms == 5_000


# ---- policy (R14) -----------------------------------------------------------------------------------------


def test_an_ask_with_newer_policy_waits_and_others_pass_it() -> None:
    at = bureau()
    (early,) = at.post(ask(150, rev=3))
    assert isinstance(at.serve(beat(instance=P2))[0], Ack)
    assert early not in at.replies
    at.learn(budget_set(budget(KEY, 200)))
    assert at.desk.due_ms(at.now_ms) == at.now_ms
    at.settle()
    assert at.answer(early).granted == 150


def test_an_ask_whose_policy_does_not_come_is_sent_away() -> None:
    at = bureau()
    (early,) = at.post(ask(10, rev=3))
    at.settle()
    assert at.desk.due_ms(at.now_ms) == at.now_ms + at.tuning.park_ms
    at.pass_ms(at.tuning.park_ms)
    at.settle()
    assert isinstance(at.replies[early], NotActive)
    assert at.desk.waiting == 0


def test_too_many_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "QUEUE_MAX", 2)
    monkeypatch.setattr(desk_module, "PARKED_MAX", 1)
    at = bureau()
    tokens = at.post(ask(1), ask(1, serial=2), ask(1, serial=3))
    at.settle()
    assert [type(at.replies[token]) for token in tokens] == [Answer, Answer, NotActive]
    tokens = at.post(ask(1, serial=4, rev=99), ask(1, serial=5, rev=99))
    at.settle()
    assert [token in at.replies for token in tokens] == [False, True]


def test_lineages_go_by_the_model() -> None:
    per_model = budget(KEY, 50, account="a:model", model="gpt-*")
    at = Bureau(key_issued(), budget_set(budget(KEY, 100), per_model))
    both = ("a:key_1", "a:model")
    assert at.ask(ask(10, model="gpt-4o", lineage=both)).verdict == "ok"
    assert at.ask(ask(10, serial=2, model="mistral")).verdict == "ok"
    assert at.ask(ask(10, serial=3, model="gpt-4o")).verdict == "policy"
    assert at.ask(ask(10, serial=4, model="mistral", lineage=both)).verdict == "policy"
    refused = at.ask(ask(51, serial=5, model="gpt-4o", lineage=both))
    assert refused.refusal is not None
    assert (refused.verdict, refused.refusal.account, refused.refusal.model) == ("exceeded", "a:model", "gpt-*")


def model_budget(limit: int = 50) -> Budget:
    return budget(KEY, limit, account="a:model", model="gpt-*")


def test_a_proxy_that_does_not_know_that_the_model_matters_plans_again() -> None:
    at = Bureau(key_issued(), budget_set(budget(KEY, 100), model_budget()))
    assert at.ask(ask(10)).verdict == "policy"
    assert at.ask(ask(10, serial=2, model="mistral")).verdict == "ok"


def test_money_for_other_models_does_not_count_for_a_model_that_was_limited_before() -> None:
    at = Bureau(key_issued(), budget_set(budget(KEY, 100), model_budget()))
    at.ask(ask(60, model="mistral"))
    assert at.ask(ask(40, serial=2, model="gpt-4o", lineage=("a:key_1", "a:model"))).granted == 40
    assert at.state.balance(window("a:model")).escrow == 40


def test_money_from_before_a_model_was_limited_counts_for_it_until_it_has_drained() -> None:
    at = bureau()
    at.ask(ask(30))
    at.learn(budget_set(budget(KEY, 100), model_budget()))
    both = ("a:key_1", "a:model")
    assert at.ask(ask(15, serial=2, model="gpt-4o", lineage=both)).granted == 15
    assert at.state.balance(window("a:model")).escrow == 45
    again = at.ask(ask(40, rseq=2, model="mistral"))
    assert (again.verdict, again.granted) == ("policy", 30)  # it must not grow: it could serve that model, too
    at.serve(gives_back(Row(1, 30, 0, 30, 0)))
    assert at.state.balance(window("a:model")).escrow == 15
    assert at.ask(ask(70, serial=3, model="mistral")).granted == 70


# ---- sharing ----------------------------------------------------------------------------------------------


def test_a_share_goes_by_the_living_holders_of_the_tightest_account() -> None:
    at = Bureau(
        key_issued(KEY),
        key_issued(OTHER),
        budget_set(budget(KEY, 100)),
        budget_set(budget(OTHER, 1_000)),
    )
    at.ask(ask(1, serial=9, instance=P2, key=OTHER, lineage=("a:key_2",)))
    assert at.ask(ask(1, want=500)).granted == 50
    assert at.ask(ask(1, want=500, instance=P2)).granted == 50 // 4


def test_askers_of_one_batch_count_each_other() -> None:
    at = bureau()
    one, two = at.post(ask(0, want=500), ask(0, want=500, instance=P2))
    at.settle()
    assert at.answer(one).granted == 50
    assert at.answer(two).granted == 50 // 4


# ---- what the shell may do wrong --------------------------------------------------------------------------


def test_a_request_that_cannot_be_decided_harms_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_on_thirteen(draft: Draft, request: Ask) -> object:
        if request.serial == 13:
            raise ZeroDivisionError
        return answer(draft, request)

    monkeypatch.setattr(desk_module, "answer", fails_on_thirteen)
    at = bureau()
    tokens = at.post(*(ask(1, serial=serial) for serial in range(10, 17)))
    outs = []
    while (batch := at.next()) is not None:
        outs.append(at.land(batch))
    assert [isinstance(at.replies[token], Answer) for token in tokens] == [True, True, True, False, True, True, True]
    failed = [(request, error) for out in outs for request, error in out.failed]
    assert [(request.serial, type(error)) for request, error in failed if isinstance(request, Ask)] == [
        (13, ZeroDivisionError)
    ]


def test_one_who_waits_and_cannot_be_decided_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    at = holding()
    (token,) = at.post(ask(50))
    at.settle()

    def fails(draft: Draft, request: Ask) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(desk_module, "answer", fails)
    at.pass_ms(10)
    at.settle()
    assert isinstance(at.replies[token], NotActive)


def test_a_batch_too_large_for_the_log_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "BYTES_MAX", 1_000)
    at = bureau()
    tokens = at.post(*(ask(1, serial=serial) for serial in range(1, 30)))
    at.settle()
    assert all(at.answer(token).granted == 1 for token in tokens)
    assert max(len(batch.records) for batch in at.logs.grants) <= 3


def test_a_batch_that_the_log_does_not_take_comes_again_in_parts() -> None:
    at = bureau()
    tokens = at.post(*(ask(1, serial=serial) for serial in range(1, 5)))
    batch = at.next()
    assert batch is not None
    assert at.desk.too_large(batch).replies == []
    batch = at.next()
    assert batch is not None
    assert len(batch.letters) == 2
    at.land(batch)
    at.settle()
    assert all(at.answer(token).granted == 1 for token in tokens)
    at.post(beat())
    batch = at.next()
    assert batch is not None
    assert [type(reply) for _, reply in at.desk.too_large(batch).replies] == [NotActive]


def test_only_so_many_are_decided_at_once() -> None:
    at = Bureau(key_issued(), budget_set(budget(KEY, 100)), tuning=Tuning(batch_max=4))
    at.post(*(ask(1, serial=serial) for serial in range(1, 11)))
    sizes = []
    while (batch := at.next()) is not None:
        sizes.append(len(batch.letters))
        at.land(batch)
    assert sizes == [4, 4, 2]


def test_what_is_told_goes_into_the_next_batch() -> None:
    at = bureau(soft=50)
    at.fold(used(1, 60, A))
    assert at.desk.due_ms(at.now_ms) == at.now_ms
    (crossed,) = at.settle()
    assert crossed == ThresholdCrossed(window=A, threshold="soft", spent_nusd=60, limit_nusd=100)
    assert at.state.untold == {(A.account, 0, "soft")}
    at.desk.told(SignalPublished(window=A, threshold="soft"))
    at.settle()
    assert at.state.untold == set()


def test_an_idle_desk_has_nothing_to_do_before_somebody_may_be_silent() -> None:
    at = bureau()
    assert at.next() is None
    due = at.desk.due_ms(at.now_ms)
    assert due is not None
    assert due >= at.now_ms + at.tuning.lease_ms


# ---- memory -----------------------------------------------------------------------------------------------


def test_a_wallet_that_was_forgotten_here_cannot_grow_from_nothing() -> None:
    at = bureau(1_000)
    at.ask(ask(100))
    at.fold(used(1, 100, A))
    forget(at.state, at.now + timedelta(hours=2))
    assert at.state.instances[P1].allotments == {}
    row = Row(1, 0, 100, 100, 0)
    assert at.ask(ask(110, rseq=2, least=10, rows=(row,))).verdict == "policy"
    ack = at.serve(Beat(instance=P1, rows=(row,), sent_ms=0))[0]
    assert isinstance(ack, Ack)
    assert ack.known == (Known(1, 100, 0, (), 0),)  # so that its proxy may forget it, too
    assert at.ask(ask(10, serial=2)).granted == 10
    assert (at.state.balance(A).spent, at.state.balance(A).escrow) == (100, 10)
