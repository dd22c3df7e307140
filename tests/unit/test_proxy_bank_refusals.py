"""What the bank refuses, and what it refuses without asking anybody."""

import pytest

from services.proxy.domain.money.effects import Admitted, Refuse
from shared.allotment import (
    EXCEEDED_TTL_MS,
    RESERVED_TTL_MS,
)
from shared.ids import AccountId
from tests.support.desk import KEY, TEAM, Desk, chain, level, why


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ---- refusals ---------------------------------------------------------------------------------------


def test_exceeded_denies_the_first_and_all_as_large(desk: Desk) -> None:
    tokens = [desk.wait(chain(), amount) for amount in (2_000, 3_000, 500, 2_000, 400)]
    desk.answer(desk.asks[0], 0, "exceeded")
    assert [desk.fate(token) for token in tokens] == [Refuse, Refuse, None, Refuse, None]
    assert desk.fates[tokens[0]] == Refuse(tokens[0], "exceeded", why())
    desk.answer(desk.asks[1], desk.asks[1].want)
    assert [desk.fate(tokens[2]), desk.fate(tokens[4])] == [Admitted, Admitted]


def test_exceeded_is_remembered_for_the_account_and_checked_by_one_call(desk: Desk) -> None:
    """R33"""
    desk.wait(chain("k1", KEY, TEAM), 100)
    desk.answer(desk.asks[0], 0, "exceeded", refusal=why(TEAM))
    asked = len(desk.asks)
    token = desk.wait(chain("k2", AccountId("other"), TEAM), 100)
    assert desk.fates[token] == Refuse(token, "exceeded", why(TEAM))
    assert desk.fate(desk.wait(chain("k2", AccountId("other"), TEAM), 5_000)) is Refuse
    assert len(desk.asks) == asked
    smaller = desk.wait(chain("k2", AccountId("other"), TEAM), 99)
    assert desk.fate(smaller) is None
    assert len(desk.asks) == asked + 1
    desk.answer(desk.asks[-1], 0, "exceeded", refusal=why(TEAM))
    assert desk.fate(desk.wait(chain("k9"), 99)) is None, "another account"
    assert desk.fate(desk.wait(chain("k1", KEY, TEAM), 99)) is Refuse, "the smallest counts"
    desk.pass_(EXCEEDED_TTL_MS)
    probe = desk.wait(chain("k1", KEY, TEAM), 100)
    assert desk.fate(probe) is None
    assert desk.fate(desk.wait(chain("k1", KEY, TEAM), 100)) is Refuse
    assert desk.bank.refusals.told == {"exceeded": 4, "reserved": 0}
    desk.answer(desk.asks[-1])
    assert desk.fate(probe) is Admitted
    assert desk.fate(desk.wait(chain("k1", KEY, TEAM), 100)) is None, "a grant ends the memory"


def test_reserved_is_remembered_for_a_moment(desk: Desk) -> None:
    desk.wait(chain(), 100)
    desk.answer(desk.asks[0], 0, "reserved")
    token = desk.wait(chain(), 100)
    assert desk.fates[token] == Refuse(token, "reserved", why())
    desk.pass_(RESERVED_TTL_MS)
    assert desk.fate(desk.wait(chain(), 100)) is None


def test_reserved_is_forgotten_when_a_call_of_ours_settles(desk: Desk) -> None:
    hold = desk.given(chain("k2"), 50)
    desk.wait(chain(), 100)
    desk.answer(desk.asks[-1], 0, "reserved")
    assert desk.fate(desk.wait(chain(), 100)) is Refuse
    desk.settle(hold, 10)
    assert desk.fate(desk.wait(chain(), 100)) is None


def test_what_is_remembered_does_not_stop_a_wallet_that_has_money(desk: Desk) -> None:
    desk.given(chain(), 10, 500)
    desk.wait(chain("k2"), 100)
    desk.answer(desk.asks[-1], 0, "exceeded")
    assert desk.hold(chain(), 200) is not None
    flexible = desk.wait(chain(), 100, 5_000)
    assert desk.held(flexible).amount == 290, "nor does it wait for more where there is none"


def test_an_exhausted_level_refuses_without_asking(desk: Desk) -> None:
    desk.bank.level(level("exhausted", 1, least=100), desk.now)
    token = desk.wait(chain(), 100)
    assert desk.fates[token] == Refuse(token, "exceeded", why())
    assert desk.fate(desk.wait(chain(), 99)) is None
    assert len(desk.asks) == 1
    desk.bank.level(level("open", 2), desk.now)
    desk.bank.level(level("exhausted", 1, least=1), desk.now)
    assert desk.fate(desk.wait(chain("k3"), 100)) is Refuse, "the mirror says what the bucket holds now"
    desk.bank.level_gone(KEY)
    assert desk.fate(desk.wait(chain("k4"), 100)) is None


def test_an_older_level_does_not_replace_a_newer_one(desk: Desk) -> None:
    desk.bank.level(level("exhausted", 5, least=100), desk.now)
    desk.bank.level(level("open", 4), desk.now)
    assert desk.fate(desk.wait(chain(), 100)) is Refuse


@pytest.mark.parametrize("state", ["open", "soft"])
def test_a_level_with_money_ends_what_was_remembered(desk: Desk, state: str) -> None:
    desk.wait(chain(), 100)
    desk.answer(desk.asks[0], 0, "exceeded")
    assert desk.fate(desk.wait(chain(), 100)) is Refuse
    desk.bank.level(level(state, 2), desk.now)
    assert desk.fate(desk.wait(chain(), 100)) is None


def test_a_level_ends_with_its_window(desk: Desk) -> None:
    desk.bank.level(level("exhausted", 1, least=100), desk.now, desk.now + 1_000)
    desk.now += 999
    assert desk.fate(desk.wait(chain(), 100)) is Refuse
    desk.now += 1
    assert desk.fate(desk.wait(chain(), 100)) is None


def test_a_level_is_checked_by_one_call_now_and_then(desk: Desk) -> None:
    desk.bank.level(level("exhausted", 1, least=100), desk.now)
    desk.now += EXCEEDED_TTL_MS
    assert desk.fate(desk.wait(chain(), 100)) is None
    assert desk.fate(desk.wait(chain(), 100)) is Refuse
    desk.answer(desk.asks[-1], 0, "reserved")
    assert desk.fate(desk.wait(chain("k2"), 5_000)) is Refuse
    desk.pass_(RESERVED_TTL_MS)
    assert desk.fate(desk.wait(chain("k2"), 5_000)) is None, "reserved is not exceeded: the level was out of date"


def test_a_loop_against_the_wall_costs_next_to_nothing(desk: Desk) -> None:
    desk.wait(chain(), 100)
    desk.answer(desk.asks[-1], 0, "exceeded")
    for _ in range(60_000 // 10):
        asked = len(desk.asks)
        desk.wait(chain(), 100)
        if len(desk.asks) > asked:
            desk.answer(desk.asks[-1], 0, "exceeded")
        desk.pass_(10)
    assert len(desk.asks) == 1 + 60_000 // EXCEEDED_TTL_MS - 1
