"""The proxy's side of an allotment: no more is promised than is there."""

from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.wallet import IDLE_AFTER_MS, Wallet
from shared.events import AccountWindow
from shared.ids import AccountId, KeyId

TERM = (AccountWindow(AccountId("a"), 3),)


def wallet() -> Wallet:
    made = Wallet(serial=1, key_id=KeyId("k"), lineage=(AccountId("a"),), partition=0)
    made.learn(100, TERM, 10_000)
    return made


def test_holds_as_long_as_there_is_room() -> None:
    mine = wallet()
    assert mine.hold(60, 0)
    assert not mine.hold(41, 0)
    assert mine.hold(40, 0)
    assert mine.room() == 0
    mine.settle(60, 10)
    assert mine.room() == 50
    assert (mine.holds, mine.spent) == (40, 10)


def test_a_cost_above_its_hold_is_owed() -> None:
    mine = wallet()
    assert mine.hold(100, 0)
    mine.settle(100, 130)
    assert mine.room() == -30
    assert not mine.hold(0, 0)
    assert mine.give_back(0) == 0


def test_no_hold_after_its_time_or_while_draining() -> None:
    mine = wallet()
    assert mine.open(9_999)
    assert not mine.hold(1, 10_000)
    assert not mine.open(10_000)
    mine.draining = True
    assert not mine.hold(1, 0)
    assert not mine.open(0)


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
    assert mine.hold(30, 0)
    assert mine.give_back(IDLE_AFTER_MS) == 70
    assert (mine.returned, mine.room()) == (70, 0)
    mine.settle(30, 10)
    assert mine.give_back(IDLE_AFTER_MS) == 20
    assert mine.give_back(IDLE_AFTER_MS) == 0
    assert mine.granted == mine.returned + mine.spent


def test_a_busy_wallet_keeps_what_it_may_need() -> None:
    mine = wallet()
    mine.learn(1_000_000, TERM, 10_000)
    for at in range(0, 1_000, 100):
        assert mine.hold(10, at)
    expected = int(2 * mine.expected(1_000))
    assert expected > 0
    mine.give_back(1_000)
    assert mine.room() == expected


def test_a_draining_wallet_keeps_nothing() -> None:
    mine = wallet()
    assert mine.hold(10, 0)
    mine.draining = True
    assert mine.give_back(1) == 90


def test_empty_only_when_the_ledger_knows_it_all() -> None:
    mine = wallet()
    assert mine.hold(30, 0)
    mine.draining = True
    mine.give_back(0)
    assert not mine.empty()
    mine.settle(30, 30)
    assert not mine.empty()
    mine.returned_known = mine.returned
    assert mine.empty()
    mine.learn(120, TERM, 0)
    assert not mine.empty()


def test_its_row_shows_all_counters() -> None:
    mine = wallet()
    assert mine.hold(30, 0)
    mine.settle(20, 15)
    mine.returned = 5
    assert tuple(getattr(mine.row(), name) for name in ("serial", "returned", "spent", "granted", "holds")) == (
        1, 5, 15, 100, 10,
    )  # fmt: skip


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(0, 400)),
        st.tuples(st.just("settle"), st.integers(0, 100)),
        st.tuples(st.just("learn"), st.integers(0, 2_000)),
        st.tuples(st.just("give_back"), st.integers(0, 0)),
        st.tuples(st.just("wait"), st.integers(0, 4_000)),
        st.tuples(st.just("drain"), st.integers(0, 0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_never_promises_more_than_it_was_granted(steps: list[tuple[str, int]]) -> None:
    """Costs here stay within their holds (a share in percent), so the invariant must hold at every step."""
    mine = Wallet(serial=1, key_id=KeyId("k"), lineage=(), partition=0)
    held: list[int] = []
    now = 0
    returned = 0
    for step, value in steps:
        if step == "hold" and mine.hold(value, now):
            held.append(value)
        elif step == "settle" and held:
            amount = held.pop()
            mine.settle(amount, amount * value // 100)
        elif step == "learn":
            mine.learn(value, TERM, now + 5_000)
        elif step == "give_back":
            before = mine.returned
            assert mine.give_back(now) == mine.returned - before
        elif step == "wait":
            now += value
        elif step == "drain":
            mine.draining = True
        assert mine.holds + mine.spent <= mine.granted - mine.returned
        assert mine.holds == sum(held)
        assert mine.returned >= returned
        assert mine.expected(now) >= 0
        returned = mine.returned


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 300)), max_size=30))
def test_an_overdraft_is_exactly_what_costs_exceed_holds(calls: list[tuple[int, int]]) -> None:
    mine = wallet()
    over = 0
    for amount, cost in calls:
        if mine.hold(amount, 0):
            mine.settle(amount, cost)
            over += max(0, cost - amount)
            assert mine.holds + mine.spent <= mine.granted - mine.returned + over
