"""What callers are told of their budgets: as the ledger told it last, and what was settled here since."""

from typing import Any

import pytest

from services.proxy.domain.money import figures as module
from services.proxy.domain.money.figures import UNKNOWN, Figures
from services.proxy.domain.money.wallet import Hold
from shared.allotment import Answer, Ask, Figure, Level
from shared.events import AccountWindow
from shared.ids import AccountId
from tests.support.desk import EVER, KEY, MODEL, TEAM, Desk, chain, term_of, why


@pytest.fixture
def desk() -> Desk:
    return Desk()


def told(hold: Hold) -> tuple[int | None, int | None]:
    """(spend of the key, what is left) as the treasury gives it."""
    wallet = hold.wallet
    figures = UNKNOWN if wallet.told is None else wallet.told.figures(wallet.spent)
    return figures.key_spend_nusd, figures.budget_left_nusd


def key(spent: int, limit: int = 1_000) -> Figure:
    return Figure(KEY, limit, spent, own=True)


def team(spent: int, limit: int = 5_000) -> Figure:
    return Figure(TEAM, limit, spent)


def given(desk: Desk, *figures: Figure, name: str = "k1", counted: int = 0, granted: int = 500) -> Hold:
    """A hold of 100 for a key whose lineage is what the figures tell of."""
    who = chain(name, *(figure.account for figure in figures))
    return desk.given(who, 100, granted, figures=figures, counted=counted)


def again(desk: Desk, hold: Hold, *figures: Figure, counted: int, **more: Any) -> Ask:
    """The wallet's next ask, answered with figures."""
    wallet = hold.wallet
    wallet.rseq += 1
    ask = Ask(
        instance=desk.bank.instance, serial=wallet.serial, key_id=wallet.key_id, lineage=wallet.lineage, policy_rev=1,
        rseq=wallet.rseq, need=0, want=0, least=0, sent_ms=desk.now,
    )  # fmt: skip
    desk.answer(ask, wallet.granted, figures=figures, counted=counted, **more)
    return ask


# ---- own spend ----------------------------------------------------------------------------------------------


def test_own_cost_counts_from_the_moment_it_is_settled(desk: Desk) -> None:
    hold = given(desk, key(40))
    assert told(hold) == (40, 960)
    desk.settle(hold, 70)
    assert told(hold) == (110, 890)
    more = desk.hold(chain(), 100)
    assert more is not None
    assert told(more) == (110, 890), "holds are not spend"
    desk.settle(more, 30)
    assert told(more) == told(hold) == (140, 860)


def test_an_answer_that_has_counted_own_cost_does_not_count_it_twice(desk: Desk) -> None:
    hold = given(desk, key(40))
    desk.settle(hold, 70)
    again(desk, hold, key(40 + 70 + 200), counted=70)
    assert told(hold) == (310, 690)


def test_cost_settled_while_the_ask_was_on_its_way_stays(desk: Desk) -> None:
    hold = given(desk, key(0))
    other = desk.hold(chain(), 100)
    desk.settle(hold, 70)
    desk.settle(other, 5)
    again(desk, hold, key(70), counted=70)
    assert told(hold) == (75, 925)


def test_never_less_than_nothing_is_left(desk: Desk) -> None:
    hold = given(desk, key(950))
    desk.settle(hold, 120)
    assert told(hold) == (1_070, 0)


def test_the_tightest_account_says_what_is_left(desk: Desk) -> None:
    hold = given(desk, key(100), team(4_900))
    assert told(hold) == (100, 100)
    desk.settle(hold, 30)
    assert told(hold) == (130, 70)


def test_a_key_without_an_account_of_its_own_has_no_spend_to_tell(desk: Desk) -> None:
    assert told(given(desk, team(100))) == (None, 4_900)
    of_model = Figure(MODEL, 50, 20)
    assert told(given(desk, of_model, team(100), name="k2")) == (None, 30)


def test_of_several_own_accounts_the_first_is_the_keys_spend(desk: Desk) -> None:
    day = Figure(AccountId("acc-day"), 300, 10, own=True)
    assert told(given(desk, key(400), day)) == (400, 290)


# ---- unknown ------------------------------------------------------------------------------------------------


def test_a_ledger_that_tells_nothing_leaves_it_unknown(desk: Desk) -> None:
    hold = desk.given(chain(), 100)
    assert told(hold) == (None, None)
    desk.settle(hold, 70)
    assert told(hold) == (None, None)
    assert Figures() == UNKNOWN


def test_figures_that_nobody_keeps_up_to_date_are_unknown_again(desk: Desk) -> None:
    hold = given(desk, key(40))
    again(desk, hold, counted=0)
    assert told(hold) == (None, None)


def test_figures_of_accounts_outside_the_term_are_not_believed(desk: Desk) -> None:
    hold = desk.given(chain(), 100, figures=(team(3),))
    assert told(hold) == (None, None)


# ---- which answer counts ------------------------------------------------------------------------------------


def test_an_answer_to_an_earlier_ask_that_comes_late_changes_nothing(desk: Desk) -> None:
    hold = given(desk, key(40))
    early = desk.asks[0]
    desk.now += 100
    again(desk, hold, key(90), counted=0)
    desk.answer(early, 500, figures=(key(40),))
    assert told(hold) == (90, 910)


def test_an_enforcer_that_has_lost_its_office_is_not_believed(desk: Desk) -> None:
    hold = given(desk, key(40))
    again(desk, hold, key(50), counted=0, epoch=2)
    again(desk, hold, key(999), counted=0, epoch=1)
    assert told(hold) == (50, 950)


def test_a_refusal_without_a_term_leaves_what_is_known(desk: Desk) -> None:
    hold = given(desk, key(40), granted=100)
    desk.wait(chain(), 2_000)
    desk.answer(desk.asks[-1], 100, "exceeded")
    assert told(hold) == (40, 960)


def test_a_lowered_spend_is_believed(desk: Desk) -> None:
    hold = given(desk, key(400))
    desk.settle(hold, 70)
    desk.now += 10
    again(desk, hold, key(70), counted=70)
    assert told(hold) == (70, 930)


# ---- accounts that several wallets share --------------------------------------------------------------------


def test_what_one_key_hears_of_a_team_its_other_keys_know_at_once(desk: Desk) -> None:
    first = given(desk, key(0), team(100))
    desk.now += 10
    other = Figure(AccountId("acc-other"), 1_000, 7, own=True)
    second = given(desk, other, team(4_800), name="k2")
    assert told(second) == (7, 200)
    assert told(first) == (0, 200)
    desk.settle(first, 30)
    assert told(first) == (30, 200), "the team's figure may hold that already"
    desk.now += 10
    again(desk, first, key(30), team(4_830), counted=30)
    assert (told(first), told(second)) == ((30, 170), (7, 170))


def test_an_older_word_about_a_shared_account_only_raises_it(desk: Desk) -> None:
    first = given(desk, key(0), team(100))
    desk.now += 10
    again(desk, first, key(0), team(300, limit=4_000), counted=0)
    desk.now -= 5
    second = given(desk, team(250), name="k2")
    assert (told(first), told(second)) == ((0, 1_000), (None, 3_700))
    given(desk, team(350), name="k3")
    assert told(second) == (None, 3_650)


def test_more_accounts_than_are_remembered_cost_only_the_sharing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STANDINGS_MAX", 1)
    holds = [given(desk, Figure(AccountId(f"acc-{n}"), 1_000, n, own=True), name=f"k{n}") for n in range(3)]
    assert [told(hold) for hold in holds] == [(0, 1_000), (1, 999), (2, 998)]


# ---- windows, and the end -----------------------------------------------------------------------------------


def test_a_new_window_has_figures_of_its_own_and_calls_of_the_old_one_keep_theirs(desk: Desk) -> None:
    who = chain()
    old = desk.given(who, 100, 500, figures=(key(900),), admit_for_ms=1_000)
    desk.pass_(1_000)
    token = desk.wait(who, 100)
    desk.answer(desk.asks[-1], 500, term=term_of((KEY,), 5), figures=(key(0),))
    fresh = desk.held(token)
    assert fresh.wallet is not old.wallet
    desk.settle(old, 60)
    desk.settle(fresh, 10)
    assert (told(old), told(fresh)) == ((960, 40), (10, 990))


def test_a_late_word_about_the_old_window_does_not_touch_the_new_one(desk: Desk) -> None:
    who = chain()
    old = desk.given(who, 100, 500, figures=(key(900),), admit_for_ms=1_000)
    desk.pass_(1_000)
    token = desk.wait(who, 100)
    desk.answer(desk.asks[-1], 500, term=term_of((KEY,), 5), figures=(key(3),))
    again(desk, old, key(950), counted=0, admit_for_ms=0)
    assert (told(old), told(desk.held(token))) == ((950, 50), (3, 997))


def test_calls_of_a_closed_instance_keep_their_figures(desk: Desk) -> None:
    hold = given(desk, key(40))
    again(desk, hold, counted=0, verdict="closed", term=())
    assert desk.closed == 1
    desk.settle(hold, 70)
    assert told(hold) == (110, 890)
    again(desk, hold, key(0), counted=0)
    assert told(hold) == (110, 890), "nothing is believed after the end"


def test_nothing_is_admitted_by_figures(desk: Desk) -> None:
    hold = given(desk, key(5_000, limit=10))
    assert told(hold) == (5_000, 0)
    assert desk.hold(chain(), 100) is not None


# ---- levels -------------------------------------------------------------------------------------------------


def level(state: str, spent: int, limit: int | None = 1_000, index: int = 4, seq: int = 1) -> Level:
    return Level(
        account=KEY, state=state, window_index=index, seq=seq, limit=limit, spent=spent,  # pyright: ignore[reportArgumentType]
        refusal=why() if state == "exhausted" else None,
    )  # fmt: skip


def test_a_level_raises_what_is_known_of_others_spend(desk: Desk) -> None:
    hold = given(desk, key(40))
    desk.bank.level(level("soft", 800), desk.now)
    assert told(hold) == (800, 200)
    desk.bank.level(level("exhausted", 1_200), desk.now)
    assert told(hold) == (1_200, 0)
    desk.now += 10
    again(desk, hold, key(1_250), counted=0)
    assert told(hold) == (1_250, 0)


def test_a_level_never_lowers_a_spend_and_an_open_one_says_no_limit(desk: Desk) -> None:
    hold = given(desk, key(400))
    desk.bank.level(level("open", 10, limit=2_000), desk.now)
    assert told(hold) == (400, 600)
    desk.bank.level(level("soft", 10, limit=2_000), desk.now)
    assert told(hold) == (400, 1_600)


@pytest.mark.parametrize("index", [3, 5])
def test_a_level_of_another_window_or_account_changes_nothing(desk: Desk, index: int) -> None:
    hold = given(desk, key(400))
    desk.bank.level(level("soft", 900, index=index), desk.now)
    desk.bank.level(Level(account=TEAM, state="soft", window_index=4, seq=1, limit=5, spent=4), desk.now)
    assert told(hold) == (400, 600)


def test_each_figure_is_of_the_window_that_the_term_names_for_its_account() -> None:
    """The windows come from the term, whatever the order of the figures."""
    standings = module.Standings()
    term = (AccountWindow(KEY, 4), AccountWindow(TEAM, 9))
    answer = Answer(
        epoch=1, serial=1, rseq=1, granted=1, verdict="ok", sent_ms=0, admit_for_ms=EVER, term=term,
        figures=(team(10), key(20)),
    )  # fmt: skip
    told_now = standings.hear(answer, None)
    assert told_now is not None
    assert told_now.own is not None
    assert [standing.window for standing, _ in (told_now.own, *told_now.rest)] == [*term]
    assert told_now.figures(0) == Figures(20, 980)
