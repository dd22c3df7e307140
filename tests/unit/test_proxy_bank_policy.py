"""The bank when windows end and policy changes, and under which office and lease it acts."""

import pytest

from services.proxy.domain.money.effects import Admitted, Unreachable
from services.proxy.domain.money.purse import Chain
from shared.allotment import (
    ASK_WAIT_MS,
    BEAT_MS,
    Beat,
    Return,
)
from tests.support.desk import KEY, MODEL, TEAM, Desk, chain


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ---- windows, lineages, policy ----------------------------------------------------------------------


def test_a_call_is_admitted_only_as_long_as_its_window_lasts_by_our_own_clock(desk: Desk) -> None:
    """R10: from when we sent, not from when the answer came."""
    token = desk.wait(chain(), 100)
    desk.now += 400
    desk.answer(desk.asks[0], 500, admit_for_ms=1_000)
    assert desk.fate(token) is Admitted
    desk.now += 599
    assert desk.hold(chain(), 10) is not None
    desk.now += 1
    assert desk.hold(chain(), 10) is None


def test_a_new_window_is_a_new_allotment_and_the_old_money_goes_back_at_once(desk: Desk) -> None:
    hold = desk.given(chain(), 100, 150, admit_for_ms=1_000)
    desk.now += 1_000
    other = desk.given(chain(), 50)
    assert (hold.serial, other.serial) == (1, 2)
    desk.pass_(desk.tuning.return_gap_ms)
    assert [(row.serial, row.returned) for row in desk.of(Return)[0].rows] == [(1, 50)]
    desk.settle(hold, 30)
    desk.pass_(desk.tuning.return_gap_ms)
    assert [(row.serial, row.returned) for row in desk.of(Return)[-1].rows] == [(1, 120)]


def test_a_changed_lineage_is_another_purse_and_those_who_wait_move(desk: Desk) -> None:
    hold = desk.given(chain(), 100, 150)
    waiting = desk.wait(chain(), 500)
    newer = chain("k1", KEY, TEAM, rev=2)
    assert desk.hold(newer, 10) is None
    desk.wait(newer, 10)
    ask = desk.asks[-1]
    assert (ask.serial, ask.lineage, ask.need, ask.policy_rev) == (2, (KEY, TEAM), 500, 2)
    assert hold.wallet.draining
    desk.answer(ask, ask.want)
    assert desk.held(waiting).wallet.lineage == (KEY, TEAM)
    late = desk.asks[-2]
    desk.answer(late, late.need)
    desk.pass_(2_000)
    assert desk.of(Return)[-1].rows[0].returned == late.need - 100, "a grant that came too late goes back"


def test_a_caller_seen_before_a_change_does_not_undo_it(desk: Desk) -> None:
    newer = chain("k1", KEY, TEAM, rev=2)
    desk.given(newer, 100, 150)
    token = desk.wait(chain(rev=1), 10)
    assert desk.held(token).wallet.lineage == (KEY, TEAM)


def test_a_newer_revision_of_the_same_lineage_keeps_the_wallet(desk: Desk) -> None:
    desk.given(chain(), 100, 150)
    hold = desk.hold(chain(rev=7), 10)
    assert hold is not None
    assert hold.serial == 1
    desk.wait(chain(), 1_000)
    assert desk.asks[-1].policy_rev == 7


def test_policy_means_go_by_what_policy_says_by_now(desk: Desk) -> None:
    """R14"""
    token = desk.wait(chain(), 10)
    newer = chain("k1", KEY, TEAM, rev=9)
    desk.current = lambda key, model: newer
    desk.answer(desk.asks[0], 0, "policy")
    ask = desk.asks[-1]
    assert (ask.serial, ask.lineage, ask.policy_rev) == (2, (KEY, TEAM), 9)
    desk.answer(ask)
    assert desk.fate(token) is Admitted


def test_policy_for_a_wallet_in_use_is_a_new_wallet_at_once(desk: Desk) -> None:
    desk.given(chain(), 10, 50)
    token = desk.wait(chain(), 100)
    desk.answer(desk.asks[-1], 50, "policy")
    assert desk.asks[-1].serial == 2
    desk.answer(desk.asks[-1])
    assert desk.fate(token) is Admitted


def test_policy_again_and_again_is_asked_ever_less_often(desk: Desk) -> None:
    token = desk.wait(chain(), 10)
    answered = 0
    while desk.fate(token) is None:
        while answered < len(desk.asks):
            desk.answer(desk.asks[answered], 0, "policy")
            answered += 1
        desk.pass_(1)
    assert desk.fate(token) is Unreachable
    assert 3 < answered < 20


def test_a_limit_that_was_removed_lets_those_who_wait_come_again(desk: Desk) -> None:
    token = desk.wait(chain(), 10)
    desk.current = lambda key, model: Chain(key, (), model, 0, 9)
    desk.answer(desk.asks[0], 0, "policy")
    assert desk.fate(token) is Unreachable
    desk.pass_(10_000)
    assert desk.bank.vault.wallets == {}


# ---- models of one key ------------------------------------------------------------------------------


def test_models_with_the_same_accounts_share_a_wallet(desk: Desk) -> None:
    desk.given(chain("k1", KEY, model="a"), 100, 150)
    token = desk.wait(chain("k1", KEY, model="b"), 10)
    assert desk.held(token).serial == 1
    assert desk.hold(chain("k1", KEY, model="b"), 10) is not None
    assert desk.hold(chain("k1", KEY, MODEL, model="c"), 10) is None


def test_an_ask_returns_what_sibling_wallets_keep_beyond_half_their_horizon(desk: Desk) -> None:
    first = desk.given(chain("k1", KEY, model="a"), 90, 10_000)
    wallet = first.wallet
    desk.wait(chain("k1", MODEL, KEY, model="b"), 50)
    ask = desk.asks[-1]
    kept = int(wallet.expected(desk.now) / 2)
    assert (ask.model, ask.lineage) == ("b", (MODEL, KEY))
    assert wallet.room() == kept
    assert [(row.serial, row.returned) for row in ask.rows] == [(2, 0), (1, 10_000 - 90 - kept)]


def test_when_models_matter_no_longer_those_who_wait_share_the_wallet_of_all(desk: Desk) -> None:
    a, b = desk.wait(chain("k1", MODEL, KEY, model="a"), 10), desk.wait(chain("k1", MODEL, KEY, model="b"), 20)
    newer = chain("k1", KEY, rev=9)
    desk.current = lambda key, model: newer
    desk.answer(desk.asks[0], 0, "policy")
    assert (desk.asks[-1].lineage, desk.asks[-1].model, desk.asks[-1].want) == ((KEY,), "", 30)
    desk.answer(desk.asks[-1], 30)
    assert [desk.fate(a), desk.fate(b)] == [Admitted, Admitted]
    assert desk.bank.slots.keys() == {"k1"}


def test_when_models_begin_to_matter_with_the_same_accounts_nothing_is_lost(desk: Desk) -> None:
    token = desk.wait(chain(), 10)
    desk.current = lambda key, model: chain("k1", KEY, model="a", rev=9)
    desk.answer(desk.asks[0], 0, "policy")
    desk.pass_(20)
    assert (desk.asks[-1].model, desk.asks[-1].policy_rev) == ("a", 9)
    desk.answer(desk.asks[-1])
    assert desk.fate(token) is Admitted
    assert desk.bank.slots.keys() == {"k1/a"}


def test_siblings_that_share_no_account_keep_theirs(desk: Desk) -> None:
    desk.given(chain("k1", MODEL, model="a"), 90, 10_000)
    desk.wait(chain("k1", KEY, model="b"), 50)
    assert len(desk.asks[-1].rows) == 1


# ---- lease and office -------------------------------------------------------------------------------


def test_no_hold_after_the_lease_which_counts_from_the_sending(desk: Desk) -> None:
    """R16"""
    token = desk.wait(chain(), 100)
    desk.now += 500
    desk.answer(desk.asks[0], 200, lease_ms=5_000)
    desk.settle(desk.held(token), 100)
    desk.now += 4_499
    assert desk.bank.lease_left_ms(desk.now) == 1
    assert desk.hold(chain(), 10) is not None
    desk.now += 1
    assert desk.hold(chain(), 10) is None
    token = desk.wait(chain(), 10)
    assert desk.fate(token) is None
    desk.answer(desk.asks[-1], 200, lease_ms=5_000)
    assert desk.fate(token) is Admitted


def test_an_acknowledged_beat_renews_the_lease(desk: Desk) -> None:
    desk.given(chain(), 100, 200, lease_ms=5_000)
    desk.pass_(BEAT_MS)
    desk.ack(desk.of(Beat)[-1], lease=5_000)
    assert desk.bank.lease_left_ms(desk.now) == 5_000


def test_a_new_office_says_its_own_lease(desk: Desk) -> None:
    desk.given(chain(), 100, 200)
    desk.pass_(BEAT_MS)
    desk.ack(desk.of(Beat)[-1], epoch=2, lease=5_000)
    assert desk.bank.lease_left_ms(desk.now) == 5_000
    desk.ack(desk.of(Beat)[-1], epoch=1)
    assert desk.bank.lease_left_ms(desk.now) == 5_000, "a deposed enforcer renews nothing"


def test_beats_go_on_when_there_is_no_wallet_left(desk: Desk) -> None:
    token = desk.wait(chain(), 100)
    desk.bank.cancel(token)
    desk.pass_(400_000)
    assert desk.bank.vault.wallets == {}
    beats = len(desk.of(Beat))
    desk.pass_(BEAT_MS)
    assert len(desk.of(Beat)) == beats + 1
    assert desk.of(Beat)[-1].rows == ()


def test_without_any_ask_there_is_nothing_to_do(desk: Desk) -> None:
    assert desk.bank.due_ms(desk.now) is None


def test_each_partition_has_its_own_lease() -> None:
    desk = Desk(partitions=2)
    desk.given(chain(), 100, 500)
    elsewhere = desk.wait(chain("k2", TEAM, partition=1), 10)
    assert desk.sent[-1].partition == 1
    assert desk.fate(elsewhere) is None
    desk.pass_(BEAT_MS)
    assert [send.partition for send in desk.sent if isinstance(send.request, Beat)] == [0, 1]


def test_refusals_of_a_deposed_enforcer_are_not_believed_its_grants_are(desk: Desk) -> None:
    """R6"""
    desk.given(chain(), 10, epoch=5)
    token = desk.wait(chain(), 20)
    desk.answer(desk.asks[-1], 10, "exceeded", epoch=4)
    assert desk.fate(token) is None
    desk.pass_(20)
    desk.answer(desk.asks[-1], epoch=4)
    assert desk.fate(token) is Admitted


def test_closed_ends_everything_under_this_name(desk: Desk) -> None:
    """R22"""
    hold = desk.given(chain(), 10, 500)
    desk.pass_(BEAT_MS)
    waiting = desk.wait(chain(), 10_000)
    desk.ack(desk.of(Beat)[-1], closed=True)
    desk.ack(desk.of(Beat)[-1], closed=True)
    assert desk.closed == 1
    assert desk.hold(chain(), 1) is None
    assert desk.fate(desk.wait(chain(), 1)) is Unreachable
    desk.answer(desk.asks[-1], 10_000)
    assert desk.hold(chain(), 1) is None
    (left,) = desk.bank.take_waiting()
    assert (left.token, left.amount) == (waiting, 10_000)
    desk.settle(hold, 3)
    said = len(desk.sent)
    desk.pass_(ASK_WAIT_MS)
    assert len(desk.sent) == said
    assert desk.fate(waiting) is None


def test_closed_and_nobody_takes_over(desk: Desk) -> None:
    token = desk.wait(chain(), 10)
    desk.answer(desk.asks[-1], 0, "closed")
    assert desk.closed == 1
    desk.pass_(ASK_WAIT_MS)
    assert desk.fate(token) is Unreachable
