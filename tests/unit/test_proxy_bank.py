"""The bank, rule by rule: asking, waiting, and what a call may take. No clock, no loop."""

import pytest

from services.proxy.domain.money.effects import Admitted, Unreachable
from services.proxy.domain.money.purse import BankTuning
from services.proxy.domain.money.wallet import DEMAND_TAU_MS, HORIZON_MS
from shared.allotment import (
    ASK_WAIT_MS,
    RETRANSMIT_MS,
    NotActive,
    Row,
)
from tests.support.desk import KEY, Desk, chain, term_of


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ---- asking -----------------------------------------------------------------------------------------


def test_asks_once_then_admits_from_memory(desk: Desk) -> None:
    assert desk.hold(chain(), 100) is None
    hold = desk.given(chain(), 100)
    assert (hold.amount, hold.serial, hold.windows) == (100, 1, term_of((KEY,)))
    desk.settle(hold, 40)
    assert desk.hold(chain(), 60) is not None
    ask = desk.asks[0]
    assert (ask.need, ask.want, ask.least, ask.rseq, ask.lineage) == (100, 100, 100, 1, (KEY,))
    assert ask.rows == (Row(1, 0, 0, 0, 0),)


def test_one_ask_in_flight_and_what_waits_is_asked_for_together(desk: Desk) -> None:
    tokens = [desk.wait(chain(), amount) for amount in (100, 10, 20, 30)]
    assert len(desk.asks) == 1
    desk.answer(desk.asks[0])
    ahead = 100 * HORIZON_MS // DEMAND_TAU_MS  # what the first hold makes likely to come
    second = desk.asks[1]
    assert (second.need, second.want, second.least, second.rseq) == (110, 160 + ahead, 10, 2)
    desk.answer(second, second.want)
    assert [desk.held(token).amount for token in tokens] == [100, 10, 20, 30]


def test_nobody_overtakes(desk: Desk) -> None:
    desk.given(chain(), 100, 150)
    large = desk.wait(chain(), 80)
    assert desk.hold(chain(), 10) is None
    small = desk.wait(chain(), 10)
    assert desk.fates.keys().isdisjoint({large, small})
    desk.answer(desk.asks[-1], 190)
    assert [desk.fate(large), desk.fate(small)] == [Admitted, Admitted]


def test_a_wallet_that_runs_low_asks_before_anybody_waits(desk: Desk) -> None:
    desk.given(chain(), 100, 1_000)
    for _ in range(5):
        assert desk.hold(chain(), 100) is not None
    assert len(desk.asks) == 2
    assert (desk.asks[1].need, desk.asks[1].least) == (desk.asks[1].rows[0].holds, 0)
    assert desk.asks[1].want > desk.asks[1].need
    desk.answer(desk.asks[1], 1_000, tight=True)
    assert desk.hold(chain(), 100) is not None
    assert len(desk.asks) == 2, "a tight wallet asks for nothing ahead (R27)"


def test_an_ask_without_an_answer_is_sent_again_unchanged_until_the_caller_is_told(desk: Desk) -> None:
    token = desk.wait(chain(), 100)
    desk.pass_(RETRANSMIT_MS)
    assert len(desk.asks) == 2
    assert desk.asks[0] is desk.asks[1]
    desk.pass_(ASK_WAIT_MS - RETRANSMIT_MS - 1)
    assert desk.fate(token) is None
    desk.pass_(1)
    assert desk.fate(token) is Unreachable
    assert {id(ask) for ask in desk.asks} == {id(desk.asks[0])}
    asked = len(desk.asks)
    desk.pass_(10 * ASK_WAIT_MS)
    assert len(desk.asks) == asked


def test_whoever_is_not_in_office_is_asked_again_soon_and_ever_less_often(desk: Desk) -> None:
    desk.wait(chain(), 100)
    times: list[int] = []
    for _ in range(5):
        asked = len(desk.asks)
        desk.bank.heard(0, NotActive(sent_ms=desk.asks[0].sent_ms), desk.now)
        started = desk.now
        while len(desk.asks) == asked:
            desk.pass_(1)
        times.append(desk.now - started)
    assert times == [20, 40, 80, 160, 250]


def test_an_answer_that_never_helps_is_not_asked_for_without_end(desk: Desk) -> None:
    token = desk.wait(chain(), 100)
    answered = 0
    while desk.fate(token) is None:
        while answered < len(desk.asks):
            desk.answer(desk.asks[answered], admit_for_ms=0)
            answered += 1
        desk.pass_(1)
    assert desk.fate(token) is Unreachable
    assert answered < 20


def test_a_call_that_gave_up_leaves_nothing(desk: Desk) -> None:
    token = desk.wait(chain(), 100)
    desk.bank.cancel(token)
    desk.bank.cancel(token)
    desk.answer(desk.asks[0])
    assert desk.fates == {}
    assert desk.hold(chain(), 100) is not None


def test_a_smaller_call_is_not_denied_for_a_larger_one_that_gave_up(desk: Desk) -> None:
    large, small = desk.wait(chain(), 2_000), desk.wait(chain(), 500)
    desk.bank.cancel(large)
    desk.answer(desk.asks[0], 0, "exceeded")
    assert desk.fate(small) is None
    assert desk.asks[-1].need == 500


def test_too_many_waiters() -> None:
    desk = Desk(BankTuning(waiters_max=1))
    desk.wait(chain(), 1)
    assert desk.fate(desk.wait(chain(), 1)) is Unreachable


# ---- a range of amounts -----------------------------------------------------------------------------


def test_a_call_that_could_use_more_asks_for_it(desk: Desk) -> None:
    token = desk.wait(chain(), 100, 900)
    assert (desk.asks[0].need, desk.asks[0].want) == (100, 900)
    desk.answer(desk.asks[0], 600, tight=True)
    assert desk.held(token).amount == 600


def test_it_takes_no_crumbs_while_the_ledger_may_have_more(desk: Desk) -> None:
    desk.given(chain(), 10, 200)
    assert desk.hold(chain(), 100, 900) is None
    token = desk.wait(chain(), 100, 900)
    assert desk.fate(token) is None
    desk.answer(desk.asks[-1], desk.asks[-1].want)
    assert desk.held(token).amount == 900


def test_it_takes_what_there_is_when_the_ledger_has_no_more(desk: Desk) -> None:
    """A share that is kept for others is no reason for crumbs; a ledger that gave all it had is."""
    desk.given(chain(), 10, 210, tight=True)
    assert desk.hold(chain(), 100, 900) is None
    token = desk.wait(chain(), 100, 900)
    ask = desk.asks[-1]
    assert (ask.need, ask.fill) == (110, 910)
    desk.answer(ask, 510, tight=True)
    assert desk.held(token).amount == 500
    desk.settle(desk.held(token), 100)
    asked = len(desk.asks)
    hold = desk.hold(chain(), 100, 900)
    assert hold is not None
    assert hold.amount == 400
    assert len(desk.asks) == asked


def test_each_of_several_has_an_ask_of_its_own_while_the_ledger_has_more(desk: Desk) -> None:
    tokens = [desk.wait(chain(), 100, 900) for _ in range(3)]
    assert (desk.asks[0].need, desk.asks[0].fill, desk.asks[0].want) == (100, 900, 900)
    desk.answer(desk.asks[0], 1_100, tight=True)
    assert desk.held(tokens[0]).amount == 900
    assert desk.fate(tokens[1]) is None, "200 are there, and more may be had"
    assert (desk.asks[1].need, desk.asks[1].fill) == (1_000, 1_800)
    desk.answer(desk.asks[1], 1_800, tight=True)
    assert desk.held(tokens[1]).amount == 900
    desk.answer(desk.asks[2], 2_000, tight=True)
    assert desk.held(tokens[2]).amount == 200


def test_a_call_that_knows_its_price_leaves_the_shares_alone(desk: Desk) -> None:
    desk.wait(chain(), 100)
    assert desk.asks[0].fill == 0


def test_it_takes_what_there_is_when_nobody_answers(desk: Desk) -> None:
    desk.given(chain(), 10, 210)
    token = desk.wait(chain(), 100, 900)
    desk.pass_(ASK_WAIT_MS)
    assert desk.held(token).amount == 200
