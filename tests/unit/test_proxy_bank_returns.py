"""How money comes back from the bank: by itself, when others need it, and whatever was lost."""

import pytest

from services.proxy.domain.money.effects import Admitted, Unreachable
from services.proxy.domain.money.purse import BankTuning
from shared.allotment import (
    ASK_WAIT_MS,
    BEAT_MS,
    Beat,
    Return,
    Row,
)
from shared.ids import AccountId
from tests.support.desk import KEY, TEAM, Desk, chain, known


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ---- returns ----------------------------------------------------------------------------------------


def test_idle_money_goes_back_and_the_wallet_is_forgotten(desk: Desk) -> None:
    desk.settle(desk.given(chain(), 100), 40)
    desk.pass_(6_000)
    back = desk.of(Return)[-1]
    assert [(row.serial, row.returned, row.spent) for row in back.rows] == [(1, 60, 40)]
    desk.ack(back, known(1, 100, 60))
    count = len(desk.of(Return))
    desk.pass_(400_000)
    assert len(desk.of(Return)) == count
    assert desk.bank.vault.wallets == {}
    assert desk.bank.slots == {}
    assert desk.given(chain(), 10).serial == 2


def test_a_busy_wallet_keeps_two_horizons(desk: Desk) -> None:
    wallet = desk.given(chain(), 10, 10_000).wallet
    desk.pass_(1_000)
    assert wallet.room() == int(2 * wallet.expected(desk.now))


def test_a_return_that_was_lost_is_repeated(desk: Desk) -> None:
    desk.settle(desk.given(chain(), 100), 40)
    desk.pass_(9_500)
    assert len(desk.of(Return)) == 5
    assert {row.returned for back in desk.of(Return) for row in back.rows} == {60}


def test_returned_never_falls_and_granted_is_the_highest_heard(desk: Desk) -> None:
    """R23"""
    wallet = desk.given(chain(), 100, 900).wallet
    desk.recall()
    assert wallet.returned == 800
    desk.answer(desk.asks[0], 300)
    desk.ack(desk.asks[0], known(1, 200, 0))
    assert (wallet.granted, wallet.returned, wallet.returned_known) == (900, 800, 0)


def test_money_granted_by_an_answer_that_was_lost_comes_back_through_the_beat(desk: Desk) -> None:
    """R24"""
    token = desk.wait(chain(), 100)
    desk.pass_(ASK_WAIT_MS)
    assert desk.fate(token) is Unreachable
    desk.ack(desk.of(Beat)[-1], known(1, 100, 0))
    desk.pass_(6_000)
    assert desk.of(Return)[-1].rows == (Row(1, 100, 0, 100, 0),)


def test_a_late_grant_for_a_forgotten_wallet_goes_back(desk: Desk) -> None:
    """R24, R25: its tombstone knows what it spent."""
    desk.settle(desk.given(chain(), 100), 40)
    desk.pass_(6_000)
    desk.ack(desk.of(Return)[-1], known(1, 100, 60))
    desk.pass_(400_000)
    assert desk.bank.vault.wallets == {}
    desk.ack(desk.of(Beat)[-1], known(1, 100, 60))
    assert desk.bank.vault.wallets == {}, "what is out is usage on its way"
    desk.ack(desk.of(Beat)[-1], known(1, 500, 60))
    desk.pass_(1_000)
    assert desk.of(Return)[-1].rows == (Row(1, 460, 40, 500, 0),)
    desk.ack(desk.of(Return)[-1], known(1, 500, 460))
    desk.pass_(1_000)
    assert desk.bank.vault.wallets == {}


def test_an_answer_for_a_forgotten_wallet_goes_back(desk: Desk) -> None:
    token = desk.wait(chain(), 100)
    desk.bank.cancel(token)
    desk.pass_(400_000)
    assert desk.bank.vault.wallets == {}
    desk.answer(desk.asks[0])
    desk.pass_(1_000)
    assert desk.of(Return)[-1].rows == (Row(1, 100, 0, 100, 0),)


def test_only_so_many_tombstones() -> None:
    desk = Desk(BankTuning(tombstones_max=1))
    for key in ("k1", "k2"):
        desk.settle(desk.given(chain(key), 100), 100)
    desk.pass_(400_000)
    assert desk.bank.vault.wallets == {}
    desk.ack(desk.of(Beat)[-1], known(2, 100, 0))
    assert desk.bank.vault.wallets == {}


def test_messages_carry_only_so_many_rows() -> None:
    desk = Desk(BankTuning(rows_max=2))
    for number in range(5):
        desk.settle(desk.given(chain(f"k{number}"), 10), 1)
    desk.pass_(6_000)
    told = {row.serial for back in desk.of(Return) for row in back.rows}
    assert told == {1, 2, 3, 4, 5}
    assert all(len(request.rows) <= 2 for request in desk.of(Return) + desk.of(Beat))


def test_beats_show_all_wallets_in_turn() -> None:
    desk = Desk(BankTuning(rows_max=2))
    for number in range(5):
        desk.given(chain(f"k{number}"), 10)
    desk.pass_(3 * BEAT_MS)
    assert {row.serial for beat in desk.of(Beat) for row in beat.rows} == {1, 2, 3, 4, 5}


def test_wallets_at_rest_cost_nothing(desk: Desk) -> None:
    desk.settle(desk.given(chain(), 100), 40)
    desk.pass_(6_000)
    desk.ack(desk.of(Return)[-1], known(1, 100, 60))
    desk.pass_(1_000)
    assert desk.bank.vault.awake == {}
    desk.pass_(BEAT_MS)
    assert desk.of(Beat)[-1].rows == ()
    desk.given(chain(), 10)
    assert desk.bank.vault.awake.keys() == {1}


def test_a_key_that_rests_at_the_end_of_its_window_is_forgotten(desk: Desk) -> None:
    desk.settle(desk.given(chain(), 100, admit_for_ms=2_000), 40)
    desk.pass_(3_000)
    desk.ack(desk.of(Return)[-1], known(1, 100, 60))
    desk.pass_(1_000)
    assert desk.bank.vault.wallets == {}


def test_the_end_gives_all_back_but_running_calls(desk: Desk) -> None:
    desk.settle(desk.given(chain(), 100), 30)
    desk.given(chain("k2"), 200, 250)
    desk.bank.end(desk.now)
    desk.take()
    assert [(row.serial, row.returned) for row in desk.of(Return)[-1].rows] == [(1, 70), (2, 50)]
    assert not desk.bank.told
    desk.ack(desk.of(Return)[-1], known(1, 100, 70), known(2, 250, 50))
    assert desk.bank.told


# ---- recall -----------------------------------------------------------------------------------------


def test_a_recall_is_answered_at_once_with_what_is_idle(desk: Desk) -> None:
    """R26"""
    desk.given(chain(), 100, 900)
    desk.given(chain("k2", TEAM), 100, 900)
    said = len(desk.sent)
    desk.recall(KEY)
    assert desk.of(Return)[-1].rows == (Row(1, 800, 0, 900, 100),)
    assert len(desk.sent) == said + 1
    assert (desk.bank.recalls, desk.bank.recalled_nusd) == (1, 800)


def test_a_recall_finds_every_wallet_over_the_account(desk: Desk) -> None:
    desk.given(chain("k1", KEY, TEAM), 10, 100)
    desk.given(chain("k2", AccountId("other"), TEAM), 10, 200)
    desk.recall(TEAM)
    assert [(row.serial, row.returned) for row in desk.of(Return)[-1].rows] == [(1, 90), (2, 190)]


def test_a_recall_leaves_what_queued_calls_need_and_the_ask_stands(desk: Desk) -> None:
    """R26: the ask in flight crosses the recall."""
    desk.given(chain(), 100, 400)
    token = desk.wait(chain(), 350)
    asked = len(desk.asks)
    desk.recall(KEY)
    assert desk.of(Return) == []
    assert len(desk.asks) == asked
    desk.answer(desk.asks[-1])
    assert desk.fate(token) is Admitted


def test_an_answer_that_no_longer_covers_the_first_is_asked_for_again(desk: Desk) -> None:
    """R26: an overspend moved the counters meanwhile."""
    hold = desk.given(chain(), 100)
    token = desk.wait(chain(), 50)
    ask = desk.asks[-1]
    desk.settle(hold, 130)
    desk.answer(ask)
    assert desk.fate(token) is None
    desk.pass_(20)
    again = desk.asks[-1]
    assert (again.rseq, again.need) == (ask.rseq + 1, 180)
    desk.answer(again)
    assert desk.fate(token) is Admitted


def test_after_a_recall_only_what_waits_is_asked_for(desk: Desk) -> None:
    """R27"""
    desk.given(chain(), 100, 400)
    desk.recall(KEY)
    desk.wait(chain(), 50)
    assert desk.asks[-1].want == desk.asks[-1].need
    desk.answer(desk.asks[-1])
    desk.wait(chain(), 50)
    assert desk.asks[-1].want > desk.asks[-1].need, "an answer that is not tight ends it"


def test_money_learnt_from_a_recall_goes_back_with_it(desk: Desk) -> None:
    token = desk.wait(chain(), 100)
    desk.bank.cancel(token)
    desk.recall(KEY, known(1, 100, 0))
    assert desk.of(Return)[-1].rows == (Row(1, 100, 0, 100, 0),)


def test_nothing_idle_nothing_said(desk: Desk) -> None:
    desk.given(chain(), 100)
    desk.recall(KEY)
    desk.recall(TEAM)
    assert desk.of(Return) == []


def test_a_settle_serves_those_who_wait(desk: Desk) -> None:
    hold = desk.given(chain(), 100)
    token = desk.wait(chain(), 80)
    desk.settle(hold, 10)
    assert desk.fate(token) is Admitted


def test_an_overspend_is_in_the_next_need(desk: Desk) -> None:
    """R29"""
    desk.settle(desk.given(chain(), 100), 160)
    desk.wait(chain(), 10)
    assert (desk.asks[-1].need, desk.asks[-1].rows[0].spent) == (170, 160)
