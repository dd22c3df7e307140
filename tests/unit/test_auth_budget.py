"""Budgets: what a change of terms makes of an account."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import UNSET

from services.auth.domain.budget import BudgetPatch, budgets_after, is_calendar, patched, terms_of
from shared.errors import ApiError
from shared.ids import AccountId
from shared.policy import Budget

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
T1 = T0 + timedelta(days=3)


def after(current: Budget | None, patch: BudgetPatch, fresh: str = "acct_1") -> tuple[Budget, ...] | None:
    return budgets_after(current, patch, kind="key", scope_id="key_1", fresh=AccountId(fresh), at=T1)


def made(**terms: object) -> Budget:
    budgets = budgets_after(
        None,
        BudgetPatch(**terms),  # pyright: ignore[reportArgumentType]
        kind="key",
        scope_id="key_1",
        fresh=AccountId("acct_0"),
        at=T0,
    )
    assert budgets is not None
    [budget] = budgets
    return budget


def test_no_limit_is_no_account() -> None:
    assert after(None, BudgetPatch()) is None
    assert after(None, BudgetPatch(limit_nusd=None, soft_nusd=None, duration=None, zone=None)) is None


def test_a_new_budget_is_anchored_where_it_is_made() -> None:
    budget = made(limit_nusd=5, duration="30d")
    assert (budget.account, budget.window.anchor, budget.window.duration) == ("acct_0", T0, "30d")
    assert budget.limited
    assert not made(soft_nusd=5).limited
    assert made(limit_nusd=0).limit_nusd == 0


def test_a_changed_limit_keeps_account_and_anchor() -> None:
    budget = made(limit_nusd=5, duration="30d")
    changed = after(budget, BudgetPatch(limit_nusd=9))
    assert changed is not None
    assert (changed[0].account, changed[0].window, changed[0].limit_nusd) == ("acct_0", budget.window, 9)
    softer = after(budget, BudgetPatch(soft_nusd=3))
    assert softer is not None
    assert (softer[0].account, softer[0].limit_nusd, softer[0].soft_nusd) == ("acct_0", 5, 3)


def test_a_changed_window_is_a_new_account_anchored_now() -> None:
    budget = made(limit_nusd=5, duration="30d")
    for patch in (BudgetPatch(duration="7d"), BudgetPatch(duration=None), BudgetPatch(duration="1mo")):
        changed = after(budget, patch)
        assert changed is not None
        assert (changed[0].account, changed[0].window.anchor, changed[0].limit_nusd) == ("acct_1", T1, 5)
    monthly = made(limit_nusd=5, duration="1mo", zone="Europe/Berlin")
    moved = after(monthly, BudgetPatch(zone="Asia/Tokyo"))
    assert moved is not None
    assert (moved[0].account, moved[0].window.zone) == ("acct_1", "Asia/Tokyo")


def test_the_same_terms_change_nothing() -> None:
    budget = made(limit_nusd=5, soft_nusd=4, duration="1mo", zone="Europe/Berlin")
    assert after(budget, BudgetPatch()) is None
    again = BudgetPatch(limit_nusd=5, soft_nusd=4, duration="1mo", zone="Europe/Berlin")
    assert after(budget, again) is None


def test_clearing_the_limits_closes_the_account() -> None:
    budget = made(limit_nusd=5, duration="30d")
    assert after(budget, BudgetPatch(limit_nusd=None)) == ()
    kept = after(made(limit_nusd=5, soft_nusd=4), BudgetPatch(limit_nusd=None))
    assert kept is not None
    assert (kept[0].limit_nusd, kept[0].soft_nusd) == (None, 4)


def test_a_zone_goes_with_its_calendar_window() -> None:
    monthly = made(limit_nusd=5, duration="1mo", zone="Europe/Berlin")
    rolling = after(monthly, BudgetPatch(duration="30d"))
    assert rolling is not None
    assert rolling[0].window.zone == "UTC"
    yearly = after(monthly, BudgetPatch(duration="1y"))
    assert yearly is not None
    assert yearly[0].window.zone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        (BudgetPatch(limit_nusd=4, soft_nusd=5), "soft_budget"),
        (BudgetPatch(duration="30d"), "budget_duration"),
        (BudgetPatch(zone="Europe/Berlin"), "budget_timezone"),
        (BudgetPatch(limit_nusd=4, zone="Europe/Berlin"), "budget_timezone"),
        (BudgetPatch(limit_nusd=4, duration="30d", zone="Europe/Berlin"), "budget_timezone"),
    ],
)
def test_terms_that_make_no_sense(patch: BudgetPatch, param: str) -> None:
    with pytest.raises(ApiError) as refusal:
        patched(None, patch)
    assert (refusal.value.status, refusal.value.param) == (400, param)


def test_a_soft_limit_above_the_new_limit_is_refused() -> None:
    budget = made(limit_nusd=10, soft_nusd=8)
    with pytest.raises(ApiError):
        patched(budget, BudgetPatch(limit_nusd=7))
    assert patched(budget, BudgetPatch(limit_nusd=8)) is not None


def test_terms_and_calendar_words() -> None:
    budget = made(limit_nusd=5, duration="monthly")
    assert terms_of(budget).duration == "monthly"
    assert BudgetPatch().limit_nusd is UNSET
    assert [is_calendar(word) for word in ("", "30d", "5m", "1mo", "2y", "monthly", "weekly")] == [
        False, False, False, True, True, True, False,
    ]  # fmt: skip
