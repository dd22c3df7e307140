"""The proxy's side of an allotment: no more is promised than is there."""

from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.money.wallet import DEMAND_TAU_MS, HORIZON_MS, IDLE_AFTER_MS, Hold, Wallet
from shared.allotment import Row
from shared.events import AccountWindow
from shared.ids import AccountId, KeyId

TERM = (AccountWindow(AccountId("a"), 3),)


def wallet(granted: int = 100) -> Wallet:
    made = Wallet(serial=1, key_id=KeyId("k"), lineage=(AccountId("a"),), partition=0)
    made.learn(granted, TERM, 10_000)
    return made


def give_back(mine: Wallet, now_ms: int) -> int:
    return mine.give_back(now_ms, 2.0, IDLE_AFTER_MS)


def test_what_is_held_and_spent_leaves_less_room() -> None:
    mine = wallet()
    mine.take(60, 0)
    assert mine.room() == 40
    mine.take(40, 0)
    assert mine.room() == 0
    mine.settle(60, 10)
    assert mine.room() == 50
    assert (mine.holds, mine.spent) == (40, 10)


def test_a_cost_above_its_hold_is_owed() -> None:
    mine = wallet()
    mine.take(100, 0)
    mine.settle(100, 130)
    assert mine.room() == -30
    assert give_back(mine, 0) == 0


def test_it_is_over_after_its_time_or_when_it_drains() -> None:
    mine = wallet()
    assert not mine.over(9_999)
    assert mine.over(10_000)
    mine.drain()
    assert mine.over(0)
    mine.learn(200, TERM, 20_000)
    assert (mine.admit_until_ms, mine.granted, mine.alert) == (0, 200, True)


def test_before_its_first_grant_it_is_not_over() -> None:
    assert not Wallet(serial=1, key_id=KeyId("k"), lineage=(), partition=0).over(50_000)


def test_a_hold_knows_its_allotment() -> None:
    mine = wallet()
    assert (Hold(mine, 10).windows, Hold(mine, 10).serial) == (TERM, 1)


def test_demand_decays_and_bursts_add_up() -> None:
    mine = wallet(10_000)
    mine.take(300, 1_000)
    mine.take(300, 1_000)
    assert mine.expected(1_000) == 600 / DEMAND_TAU_MS * HORIZON_MS
    assert mine.expected(1_000 + DEMAND_TAU_MS) == mine.expected(1_000) / 2
    assert mine.expected(1_000 + 2 * DEMAND_TAU_MS) == 0
    mine.take(60, 1_000 + DEMAND_TAU_MS // 2)
    assert mine.demand == 360
    mine.take(60, 50_000)
    assert mine.demand == 60
    assert mine.ahead(50_000) == 60 * HORIZON_MS // DEMAND_TAU_MS
    mine.tight = True
    assert mine.ahead(50_000) == 0


def test_learning_never_goes_back() -> None:
    mine = wallet()
    mine.learn(40, (), 5_000)
    assert (mine.granted, mine.term, mine.admit_until_ms) == (100, TERM, 10_000)
    mine.learn(150, TERM, 20_000)
    assert (mine.granted, mine.admit_until_ms) == (150, 20_000)


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 1_000)), max_size=20))
def test_learning_is_monotone_in_any_order(heard: list[tuple[int, int]]) -> None:
    mine, other = wallet(), wallet()
    seen = mine.granted
    for granted, until in heard:
        mine.learn(granted, (), until)
        assert mine.granted >= seen
        seen = mine.granted
    for granted, until in reversed(heard):
        other.learn(granted, (), until)
    assert (mine.granted, mine.admit_until_ms) == (other.granted, other.admit_until_ms)


def test_an_idle_wallet_gives_all_back_but_its_holds() -> None:
    mine = wallet()
    mine.take(30, 0)
    assert give_back(mine, IDLE_AFTER_MS) == 70
    assert (mine.returned, mine.room()) == (70, 0)
    mine.settle(30, 10)
    assert give_back(mine, IDLE_AFTER_MS) == 20
    assert give_back(mine, IDLE_AFTER_MS) == 0
    assert mine.granted == mine.returned + mine.spent


def test_a_busy_wallet_keeps_what_it_may_need() -> None:
    mine = wallet(1_000_000)
    for at in range(0, 1_000, 100):
        mine.take(10, at)
    expected = int(2 * mine.expected(1_000))
    assert expected > 0
    give_back(mine, 1_000)
    assert mine.room() == expected


def test_a_draining_wallet_keeps_nothing() -> None:
    mine = wallet()
    mine.take(10, 0)
    mine.drain()
    assert give_back(mine, 1) == 90


def test_what_must_stay_stays() -> None:
    mine = wallet()
    assert mine.give_back_beyond(40) == 60
    assert mine.give_back_beyond(40) == 0


def test_quiet_only_when_the_ledger_knows_it_all() -> None:
    mine = wallet()
    mine.take(30, 0)
    mine.drain()
    give_back(mine, 0)
    assert not mine.quiet()
    mine.settle(30, 30)
    assert not mine.quiet()
    mine.returned_known = mine.returned
    assert mine.quiet()
    mine.learn(120, TERM, 0)
    assert not mine.quiet()


def test_its_row_shows_all_counters() -> None:
    mine = wallet()
    mine.take(30, 0)
    mine.settle(20, 15)
    mine.returned = 5
    assert mine.row() == Row(1, 5, 15, 100, 10)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 300)), max_size=30))
def test_an_overdraft_is_exactly_what_costs_exceed_holds(calls: list[tuple[int, int]]) -> None:
    mine = wallet()
    over = 0
    for amount, cost in calls:
        if mine.room() >= amount:
            mine.take(amount, 0)
            mine.settle(amount, cost)
            over += max(0, cost - amount)
            assert mine.holds + mine.spent <= mine.granted - mine.returned + over
