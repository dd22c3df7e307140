"""Decisions of the ledger on one partition: grants, returns, closings and refusals, and the rules behind them."""

from datetime import timedelta

import pytest

from shared.allotment import LEASE_MS, Ack, Answer, Row
from shared.events import (
    AllotmentClosed,
    AllotmentGranted,
    AllotmentRenewed,
    AllotmentReturned,
    LedgerEpoch,
    ThresholdCrossed,
    WindowOpened,
)
from tests.support.ledger import (
    EPOCH,
    KEY,
    ORG,
    OTHER,
    P1,
    P2,
    TEAM,
    Desk,
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


def desk(limit: int = 100, **more: object) -> Desk:
    made = Desk(key_issued(), budget_set(budget(KEY, limit, **more)))  # pyright: ignore[reportArgumentType]
    opened = WindowOpened(window=A, opening_spent_nusd=0)
    made.append(LedgerEpoch(epoch=1, holder=P1, lease_ms=LEASE_MS), opened)
    return made


def kinds(records: tuple[object, ...]) -> list[type]:
    return [type(record) for record in records]


# ---- granting ----------------------------------------------------------------------------------------


def test_a_grant_is_exactly_what_is_needed_and_names_its_term() -> None:
    enforcer = desk()
    answer = enforcer.ask(ask(40, sent=77))
    assert (answer.verdict, answer.granted, answer.term, answer.sent_ms) == ("ok", 40, (A,), 77)
    assert answer.admit_for_ms == LEASE_MS
    assert not answer.tight
    assert enforcer.state.balance(A).escrow == 40


def test_more_is_granted_when_it_is_wanted_but_only_a_share_of_what_is_left() -> None:
    enforcer = desk()
    assert enforcer.ask(ask(10, want=30)).granted == 30
    answer = enforcer.ask(ask(40, want=500, rseq=2))
    assert (answer.granted, answer.tight) == (65, True)
    assert enforcer.state.balance(A).escrow == 65


def test_need_beats_the_share_but_never_the_limit() -> None:
    enforcer = desk()
    assert enforcer.ask(ask(90, want=500)).granted == 90
    answer = enforcer.ask(ask(101, want=500, rseq=2))
    assert (answer.verdict, answer.granted) == ("exceeded", 90)


def test_a_call_that_waits_fills_up_beyond_the_share() -> None:
    enforcer = desk()
    answer = enforcer.ask(ask(10, want=90, fill=80))
    assert (answer.verdict, answer.granted, answer.tight) == ("ok", 80, True)
    assert enforcer.ask(ask(10, serial=2, want=200, fill=150)).granted == 20  # with what is there
    refused = enforcer.ask(ask(1, serial=3, want=200, fill=150))
    assert (refused.verdict, refused.granted) == ("reserved", 0)


def test_a_share_may_be_more_than_the_fill_and_a_copy_adds_nothing() -> None:
    enforcer = desk()
    assert enforcer.ask(ask(10, want=90, fill=20)).granted == 50
    again = enforcer.serve(ask(10, want=90, fill=90))
    assert kinds(again.records) == []
    assert enforcer.ask(ask(10, want=90, fill=90, rseq=2)).granted == 90  # its need was met before


def test_a_fill_needs_no_want() -> None:
    enforcer = desk()
    assert enforcer.ask(ask(10, fill=30)).granted == 30
    assert enforcer.ask(ask(10, serial=2, fill=5)).granted == 10


def test_the_more_instances_live_the_smaller_is_a_share() -> None:
    enforcer = desk()
    enforcer.ask(ask(1, instance=P2))
    assert enforcer.ask(ask(1, want=500)).granted == 99 // 4


def test_a_call_that_does_not_fit_gets_nothing_at_all() -> None:
    enforcer = desk()
    enforcer.ask(ask(60))
    answer = enforcer.ask(ask(41, serial=2, instance=P2))
    assert (answer.verdict, answer.granted, answer.term) == ("reserved", 0, ())


def test_the_tightest_account_of_the_lineage_decides() -> None:
    enforcer = Desk(
        key_issued(),
        team_created(),
        budget_set(budget(KEY, 100)),
        budget_set(budget(TEAM, 50, kind="team")),
        budget_set(budget(ORG, 70, kind="org")),
    )
    lineage = ("a:key_1", "a:team_1", "a:org_1")
    answer = enforcer.ask(ask(20, want=100, lineage=lineage))
    assert answer.granted == 25
    assert [entry.account for entry in answer.term] == list(lineage)
    refused = enforcer.ask(ask(51, serial=2, lineage=lineage))
    assert refused.refusal is not None
    assert (refused.verdict, refused.refusal.scope_kind) == ("exceeded", "team")


def test_two_keys_of_a_team_share_its_budget() -> None:
    enforcer = Desk(key_issued(KEY), key_issued(OTHER), team_created(), budget_set(budget(TEAM, 100, kind="team")))
    assert enforcer.ask(ask(70, lineage=("a:team_1",))).granted == 70
    other = enforcer.ask(ask(31, key=OTHER, serial=2, lineage=("a:team_1",)))
    assert other.verdict == "reserved"
    assert enforcer.ask(ask(30, key=OTHER, serial=2, lineage=("a:team_1",), rseq=2)).granted == 30


def test_a_call_that_costs_nothing_still_gets_a_term() -> None:
    enforcer = desk()
    assert enforcer.ask(ask(0)).term == (A,)


# ---- scenario 1: copies in one batch, and nothing leaves before the append ------------------------------


def test_copies_of_an_ask_in_one_batch_are_granted_once() -> None:
    enforcer = desk()
    decided = enforcer.draft(ask(30), ask(30), ask(30))
    assert kinds(decided.records) == [AllotmentGranted]
    assert [reply.granted for reply in decided.replies if isinstance(reply, Answer)] == [30, 30, 30]


def test_a_failed_append_leaves_no_trace() -> None:
    enforcer = desk()
    before = balances(enforcer.state)
    enforcer.draft(ask(30), ask(30), ask(50, serial=2), close(0, P2))
    assert balances(enforcer.state) == before
    assert enforcer.ask(ask(100)).granted == 100


def test_asks_of_one_batch_see_each_other() -> None:
    enforcer = desk()
    decided = enforcer.serve(ask(60), ask(60, serial=2), ask(40, serial=3))
    verdicts = [reply.verdict for reply in decided.replies if isinstance(reply, Answer)]
    assert verdicts == ["ok", "reserved", "ok"]
    assert enforcer.state.balance(A).escrow == 100


# ---- returns: scenario 4, order in a batch --------------------------------------------------------------


def test_returned_money_serves_the_next_ask_of_the_same_batch_and_comes_first_in_the_log() -> None:
    enforcer = desk()
    enforcer.ask(ask(100))
    decided = enforcer.serve(
        ask(80, serial=2, instance=P2), gives_back(Row(1, 90, 0, 100, 0)), beat(instance=P2), close(0, P1)
    )
    assert kinds(decided.records) == [AllotmentReturned, AllotmentRenewed, AllotmentClosed, AllotmentGranted]
    assert isinstance(decided.replies[0], Answer)
    assert decided.replies[0].granted == 80
    assert enforcer.state.balance(A).escrow == 80


def test_a_return_survives_the_enforcer_that_took_it() -> None:
    enforcer = desk()
    enforcer.ask(ask(100))
    enforcer.serve(gives_back(Row(1, 60, 0, 100, 40)))
    successor = Desk(logs=enforcer.logs)
    assert successor.ask(ask(61, serial=2, instance=P2)).verdict == "reserved"
    assert successor.ask(ask(60, serial=2, instance=P2, rseq=2)).granted == 60


def test_returns_rise_only_and_never_beyond_what_was_granted() -> None:
    enforcer = desk()
    enforcer.ask(ask(50))
    enforcer.serve(gives_back(Row(1, 30, 0, 50, 0)))
    assert enforcer.serve(gives_back(Row(1, 20, 0, 50, 0))).records == ()
    enforcer.serve(gives_back(Row(1, 900, 0, 50, 0), Row(7, 5, 0, 5, 0)))
    held = enforcer.state.instances[P1].allotments[1]
    assert (held.returned, held.out) == (50, 0)
    assert 7 not in enforcer.state.instances[P1].allotments


def test_a_return_in_an_ask_counts_for_that_ask() -> None:
    enforcer = desk()
    enforcer.ask(ask(80))
    answer = enforcer.ask(ask(90, serial=2, rows=(Row(1, 80, 0, 80, 0),)))
    assert (answer.verdict, answer.granted) == ("ok", 90)


# ---- scenario 14: copies that come late -----------------------------------------------------------------


def test_a_late_copy_of_a_larger_ask_is_answered_and_not_granted() -> None:
    enforcer = desk()
    enforcer.ask(ask(20, rseq=5))
    late = enforcer.ask(ask(90, rseq=4))
    assert (late.granted, late.verdict, late.rseq) == (20, "ok", 4)
    again = enforcer.draft(ask(20, rseq=5))
    assert again.records == ()


# ---- scenario 13: a lost answer comes to light in the acknowledgement of a beat ---------------------------


def test_a_beat_lists_what_the_proxy_does_not_know_of() -> None:
    enforcer = desk()
    enforcer.ask(ask(20))
    enforcer.ask(ask(15, serial=2))
    ack = enforcer.serve(beat(Row(2, 0, 0, 15, 15))).replies[0]
    assert isinstance(ack, Ack)
    assert {(known.serial, known.granted, known.returned, known.term) for known in ack.known} == {
        (1, 20, 0, (A,)),
        (2, 15, 0, (A,)),
    }
    ack = enforcer.serve(beat(Row(1, 20, 0, 20, 0), Row(2, 0, 0, 15, 15))).replies[0]
    assert isinstance(ack, Ack)
    assert {(known.serial, known.returned) for known in ack.known} == {(1, 20), (2, 0)}
    ack = enforcer.serve(beat()).replies[0]
    assert isinstance(ack, Ack)
    assert [known.serial for known in ack.known] == [2]


def test_every_beat_is_in_the_log_and_other_requests_when_the_last_word_is_old() -> None:
    enforcer = desk(10)
    enforcer.fold(used(1, 1, A, serial=None))
    assert kinds(enforcer.serve(beat(), beat()).records) == [AllotmentRenewed]
    assert kinds(enforcer.serve(beat()).records) == [AllotmentRenewed]
    assert kinds(enforcer.serve(ask(10)).records) == [ThresholdCrossed]
    enforcer.now_ms += 2_000
    assert kinds(enforcer.serve(ask(10)).records) == [AllotmentRenewed]
    assert kinds(enforcer.serve(ask(10, instance=P2)).records) == [AllotmentRenewed]


# ---- windows: scenarios 17 and 18 -----------------------------------------------------------------------


def test_a_wallet_of_a_past_window_gets_no_more_and_a_new_one_does() -> None:
    enforcer = desk(duration="1h")
    first = enforcer.ask(ask(50))
    assert first.term == (window("a:key_1", 0),)
    enforcer.now = EPOCH + timedelta(minutes=59)
    assert enforcer.ask(ask(51, rseq=2)).admit_for_ms == 60_000
    enforcer.now = EPOCH + timedelta(minutes=61)
    over = enforcer.ask(ask(60, rseq=3))
    assert (over.verdict, over.granted, over.admit_for_ms) == ("policy", 51, 0)
    assert over.term == first.term  # a wallet with money and no term could not give it back
    fresh = enforcer.ask(ask(100, serial=2))
    assert (fresh.granted, fresh.term) == (100, (window("a:key_1", 1),))
    enforcer.fold(used(1, 51, window("a:key_1", 0)))  # a call that ended late belongs to its own window
    assert enforcer.state.balance(window("a:key_1", 0)).spent == 51
    assert enforcer.state.balance(window("a:key_1", 1)).spent == 0


def test_the_window_never_goes_back_when_a_successor_has_a_slow_clock() -> None:
    enforcer = desk(duration="1h")
    enforcer.now = EPOCH + timedelta(minutes=61)
    enforcer.ask(ask(10))
    successor = Desk(logs=enforcer.logs)
    successor.now = EPOCH + timedelta(minutes=59)
    answer = successor.ask(ask(10, serial=2))
    assert answer.term == (window("a:key_1", 1),)
    assert answer.admit_for_ms == LEASE_MS


def test_windows_of_a_lineage_roll_at_their_own_times() -> None:
    enforcer = Desk(
        key_issued(),
        team_created(),
        budget_set(budget(KEY, 100, duration="1h")),
        budget_set(budget(TEAM, 150, kind="team", duration="1d")),
    )
    lineage = ("a:key_1", "a:team_1")
    enforcer.ask(ask(100, lineage=lineage))
    enforcer.fold(used(1, 100, window("a:key_1", 0), window("a:team_1", 0)))
    enforcer.now = EPOCH + timedelta(minutes=90)
    refused = enforcer.ask(ask(60, serial=2, lineage=lineage))
    assert refused.refusal is not None
    assert (refused.verdict, refused.refusal.scope_kind) == ("exceeded", "team")
    answer = enforcer.ask(ask(50, serial=2, rseq=2, lineage=lineage))
    assert answer.term == (window("a:key_1", 1), window("a:team_1", 0))
    assert answer.admit_for_ms == LEASE_MS


def test_a_calendar_month_rolls_in_its_own_time_zone() -> None:
    enforcer = desk(duration="1mo", zone="Europe/Berlin")
    enforcer.now = EPOCH.replace(day=30, hour=22, minute=59)
    answer = enforcer.ask(ask(1))
    assert answer.admit_for_ms == 60_000
    enforcer.now += timedelta(minutes=2)
    assert enforcer.ask(ask(1, serial=2)).term[0].index == answer.term[0].index + 1


# ---- policy: lineage, limits that change or appear (scenario 19) ----------------------------------------


@pytest.mark.parametrize("lineage", [(), ("a:key_1", "a:old"), ("a:old",)])
def test_another_lineage_than_ours_is_told_to_plan_again(lineage: tuple[str, ...]) -> None:
    answer = desk().ask(ask(1, lineage=lineage))
    assert (answer.verdict, answer.granted) == ("policy", 0)


def test_an_unknown_key_and_another_key_on_the_same_wallet_get_no_money() -> None:
    enforcer = desk()
    assert enforcer.ask(ask(1, key=OTHER)).verdict == "policy"
    enforcer.ask(ask(1))
    enforcer.learn(key_issued(OTHER), budget_set(budget(OTHER, 5)))
    assert enforcer.ask(ask(2, key=OTHER, lineage=("a:key_2",), rseq=2)).verdict == "policy"


def test_a_lowered_limit_holds_at_once_for_grants() -> None:
    enforcer = desk()
    enforcer.ask(ask(60))
    enforcer.learn(budget_set(budget(KEY, 50)))
    refused = enforcer.ask(ask(61, rseq=2))
    assert (refused.verdict, refused.granted) == ("exceeded" if 61 > 50 else "reserved", 60)
    enforcer.serve(gives_back(Row(1, 20, 0, 60, 40)))
    assert enforcer.ask(ask(10, serial=2)).verdict == "ok"
    assert enforcer.state.balance(A).escrow == 50


def test_a_limit_that_appears_counts_what_is_out_already() -> None:
    enforcer = desk()
    enforcer.ask(ask(60))
    enforcer.ask(ask(20, serial=2))
    enforcer.serve(gives_back(Row(2, 20, 0, 20, 0)))
    enforcer.learn(team_created(), budget_set(budget(TEAM, 100, kind="team")))
    assert enforcer.ask(ask(70, rseq=2)).verdict == "policy"
    lineage = ("a:key_1", "a:team_1")
    decided = enforcer.serve(ask(40, serial=3, lineage=lineage))
    opened = decided.records[0]
    assert opened == WindowOpened(window=window("a:team_1"), opening_spent_nusd=0, allotments=((P1, 1),))
    assert enforcer.state.balance(window("a:team_1")).escrow == 100
    assert enforcer.ask(ask(1, serial=4, lineage=lineage)).verdict == "reserved"
    enforcer.fold(used(1, 60, A))  # a call of the old wallet: its cost is not the team's, its escrow ends
    team = enforcer.state.balance(window("a:team_1"))
    assert (team.spent, team.escrow) == (0, 40)
    again = enforcer.draft(ask(41, serial=3, rseq=2, lineage=lineage))
    assert WindowOpened not in kinds(again.records)


def test_opening_takes_the_spend_that_events_have_named_and_adds_nothing_to_it() -> None:
    enforcer = Desk(key_issued(), team_created(), budget_set(budget(TEAM, None, kind="team", soft=10)))
    enforcer.fold(used(1, 30, window("a:team_1"), serial=None))
    enforcer.learn(budget_set(budget(TEAM, 100, kind="team", soft=10)))
    decided = enforcer.serve(ask(70, lineage=("a:team_1",)))
    assert isinstance(decided.records[-2], WindowOpened | AllotmentGranted)
    assert enforcer.state.balance(window("a:team_1")).spent == 30
    assert enforcer.ask(ask(1, serial=2, lineage=("a:team_1",))).verdict == "reserved"


def test_closed_allotments_are_not_attached() -> None:
    enforcer = desk()
    enforcer.ask(ask(60))
    enforcer.serve(close(0))
    enforcer.learn(team_created(), budget_set(budget(TEAM, 100, kind="team")))
    enforcer.ask(ask(10, instance=P2, lineage=("a:key_1", "a:team_1")))
    assert enforcer.state.balance(window("a:team_1")).escrow == 10


# ---- scenario 22: cost above the hold -------------------------------------------------------------------


def test_one_allotments_overdraft_is_not_lent_to_another() -> None:
    enforcer = desk()
    enforcer.ask(ask(40))
    enforcer.ask(ask(30, serial=2))
    enforcer.fold(used(1, 64, A, held=40))
    balance = enforcer.state.balance(A)
    assert (balance.spent, balance.escrow, balance.overdraft) == (64, 30, 24)
    answer = enforcer.ask(ask(70, rseq=2, least=6, rows=(Row(1, 0, 64, 40, 0),)))
    assert (answer.verdict, answer.granted) == ("ok", 70)
    assert enforcer.state.balance(A).escrow == 36
    assert enforcer.ask(ask(71, rseq=3, least=1, rows=(Row(1, 0, 64, 70, 6),))).verdict == "reserved"


def test_nothing_is_granted_on_top_of_an_overdraft() -> None:
    enforcer = desk()
    enforcer.ask(ask(100))
    enforcer.fold(used(1, 130, A, held=100))
    assert enforcer.ask(ask(120, rseq=2, least=1)).verdict == "exceeded"
    assert enforcer.ask(ask(0, serial=2)).granted == 0
    assert enforcer.state.instances[P1].allotments[1].granted == 100


# ---- refusals -------------------------------------------------------------------------------------------


def test_exceeded_names_the_narrowest_scope_that_is_spent() -> None:
    enforcer = Desk(
        key_issued(), team_created(), budget_set(budget(KEY, 100)), budget_set(budget(TEAM, 100, kind="team"))
    )
    lineage = ("a:team_1", "a:key_1")
    enforcer.ask(ask(90, lineage=lineage))
    enforcer.fold(used(1, 90, A, window("a:team_1")))
    answer = enforcer.ask(ask(110, rseq=2, lineage=lineage, least=20, rows=(Row(1, 0, 90, 90, 0),)))
    assert answer.refusal is not None
    assert answer.verdict == "exceeded"
    assert (answer.refusal.scope_kind, answer.refusal.scope_id, answer.refusal.alias) == ("key", KEY, "a key")
    assert (answer.refusal.limit, answer.refusal.spent, answer.refusal.reserved) == (100, 90, 0)
    assert answer.refusal.room == 10


def test_money_in_flight_is_reserved_and_says_when_to_come_back() -> None:
    enforcer = desk()
    enforcer.ask(ask(90))
    answer = enforcer.ask(ask(20, serial=2))
    assert answer.refusal is not None
    assert answer.verdict == "reserved"
    assert (answer.refusal.reserved, answer.refusal.room, answer.refusal.retry_after_s) == (90, 10, 1)
    enforcer.serve(gives_back(Row(1, 10, 0, 90, 80)))
    waits = enforcer.ask(ask(60, serial=2))
    assert waits.refusal is not None
    assert waits.refusal.retry_after_s == 30  # a minute at this pace, but nobody is sent away for longer


def test_reported_spend_counts_before_its_events_arrive() -> None:
    enforcer = desk()
    enforcer.ask(ask(90))
    in_flight = enforcer.ask(ask(110, rseq=2, least=20, rows=(Row(1, 0, 0, 90, 90),)))
    assert in_flight.verdict == "reserved"
    spent = enforcer.ask(ask(110, rseq=3, least=20, rows=(Row(1, 0, 90, 90, 0),)))
    assert spent.verdict == "exceeded"
    assert spent.refusal is not None
    assert (spent.refusal.spent, spent.refusal.reserved, spent.refusal.room) == (90, 0, 10)
    crossing = enforcer.state.balance(A).exceeded
    assert crossing is not None
    assert (crossing.spent_nusd, crossing.unfolded_nusd) == (90, 90)
    enforcer.fold(used(1, 90, A))
    assert enforcer.state.balance(A).unfolded == 0
    assert enforcer.ask(ask(110, rseq=4, least=20, rows=(Row(1, 0, 90, 90, 0),))).verdict == "exceeded"


def test_a_refusal_shows_its_window() -> None:
    enforcer = desk(duration="30d")
    enforcer.ask(ask(100))
    refusal = enforcer.ask(ask(1, serial=2)).refusal
    assert refusal is not None
    assert refusal.window_start_s == int(EPOCH.timestamp())
    assert refusal.window_end_s == int((EPOCH + timedelta(days=30)).timestamp())
    assert refusal.duration == "30d"


def test_a_printed_reset_time_lies_in_the_next_window() -> None:
    enforcer = desk(duration="1h", anchor=EPOCH + timedelta(microseconds=1))
    enforcer.ask(ask(100))
    refusal = enforcer.ask(ask(1, serial=2)).refusal
    assert refusal is not None
    assert refusal.window_end_s == int(EPOCH.timestamp()) + 3_601


def test_the_first_refusal_for_lack_of_money_is_recorded_once() -> None:
    enforcer = desk()
    enforcer.append(AllotmentRenewed(instance=P1))
    enforcer.fold(used(1, 10, A, serial=None))
    first = enforcer.serve(ask(91), ask(92, serial=2))
    assert first.records == (ThresholdCrossed(window=A, threshold="exceeded", spent_nusd=10, limit_nusd=100),)
    assert enforcer.serve(ask(91)).records == ()


def test_a_call_that_no_budget_of_this_size_covers_is_refused_and_not_recorded() -> None:
    enforcer = desk()
    enforcer.append(AllotmentRenewed(instance=P1))
    refused = enforcer.serve(ask(101))
    assert refused.records == ()
    answer = refused.replies[0]
    assert isinstance(answer, Answer)
    assert answer.refusal is not None
    assert (answer.verdict, answer.refusal.room) == ("exceeded", 100)
    enforcer.fold(used(1, 100, A, serial=None))
    assert kinds(enforcer.serve(ask(101)).records) == [ThresholdCrossed]  # nothing is left for anybody


def test_a_budget_of_nothing_is_exceeded_by_the_first_call() -> None:
    enforcer = desk(0)
    enforcer.append(AllotmentRenewed(instance=P1))
    assert kinds(enforcer.serve(ask(1)).records) == [ThresholdCrossed]


# ---- closing: scenarios 8, 10, 11, 12, 23 ---------------------------------------------------------------


def test_a_closing_waits_for_usage_that_is_still_on_its_way() -> None:
    enforcer = desk()
    enforcer.ask(ask(80))
    enforcer.fold(used(1, 30, A))
    enforcer.serve(close(2))
    assert enforcer.state.balance(A).escrow == 50
    assert enforcer.ask(ask(40, instance=P2)).verdict == "reserved"
    enforcer.fold(used(2, 30, A))
    balance = enforcer.state.balance(A)
    assert (balance.spent, balance.escrow) == (60, 0)
    assert enforcer.ask(ask(40, instance=P2, rseq=2)).granted == 40


def test_a_closed_instance_gets_no_money_and_is_told_to_start_anew() -> None:
    enforcer = desk()
    enforcer.ask(ask(10))
    enforcer.serve(close(0))
    old = enforcer.ask(ask(20, rseq=2))
    assert (old.verdict, old.granted) == ("closed", 0)
    ack = enforcer.serve(beat(Row(1, 0, 0, 10, 10))).replies[0]
    assert isinstance(ack, Ack)
    assert ack.closed
    assert enforcer.draft(beat()).records == ()
    assert enforcer.ask(ask(100, instance=P2)).granted == 100


def test_a_closing_repeated_changes_nothing_and_a_later_number_counts() -> None:
    enforcer = desk()
    enforcer.ask(ask(50))
    assert kinds(enforcer.serve(close(1), close(2), close(1)).records) == [AllotmentClosed]
    assert enforcer.serve(close(2)).records == ()
    assert kinds(enforcer.serve(close(3)).records) == [AllotmentClosed]
    enforcer.fold(used(1, 10, A), used(2, 10, A))
    assert enforcer.state.balance(A).escrow == 30
    enforcer.fold(used(3, 10, A))
    assert enforcer.state.balance(A).escrow == 0
    assert enforcer.state.instances[P1].final


def test_an_ask_and_a_close_in_one_batch_give_no_money() -> None:
    enforcer = desk()
    decided = enforcer.serve(ask(10), close(0))
    assert isinstance(decided.replies[0], Answer)
    assert decided.replies[0].verdict == "closed"
    assert kinds(decided.records) == [AllotmentClosed]


def test_unused_money_of_a_dead_instance_comes_back_with_its_closing() -> None:
    enforcer = desk()
    enforcer.ask(ask(100))
    enforcer.serve(close(1))
    enforcer.fold(used(1, 25, A))  # by the successor, from the journal
    assert enforcer.state.balance(A).escrow == 0
    assert enforcer.ask(ask(75, instance=P2)).granted == 75


def test_old_messages_of_a_closed_instance_do_not_touch_its_successor() -> None:
    enforcer = desk()
    enforcer.ask(ask(10, serial=1, rseq=1))
    enforcer.serve(close(0))
    enforcer.ask(ask(30, instance=P2, serial=1))
    enforcer.serve(ask(90, serial=1, rseq=9), gives_back(Row(1, 10, 0, 10, 0)))
    assert enforcer.state.balance(A).escrow == 30
