"""Budgets: what a change of terms makes of terms and accounts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.domain.accounts import Owner, accounts_of
from services.auth.domain.budget import NOTHING, BudgetPatch, asking, identity, named, patched
from services.auth.domain.scope import Attachment, MoneyChange, ScopeState, follow, money_events, with_money
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import BudgetTerms, WindowTerms
from shared.ids import AccountId, EventId
from shared.policy import Budget, Increase, Limits

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def terms(**more: Any) -> BudgetTerms:
    return patched(NOTHING, BudgetPatch(**more))


def window(limit: int | None = 1, duration: str = "1d", **more: Any) -> WindowTerms:
    return WindowTerms(limit_nusd=limit, duration=duration, **more)


class Scope:
    """A key whose budgets change one after another; each change names new accounts `acct_<n>`."""

    def __init__(self) -> None:
        self.state: ScopeState | None = None
        self.n = 0

    def set(self, *, days: int = 0, **more: Any) -> bool:
        """Change it; whether anything changed."""
        self.n += 1
        at = T0 + timedelta(days=days)
        stamp = Stamp(at=at, source="auth/test", actor="ada", ids=(EventId("e"),))
        owner = Owner(kind="key", scope_id="key_1", fresh=AccountId(f"acct_{self.n}"))
        parts = {name: more.pop(name) for name in ("increase", "attach") if name in more}
        events = money_events(self.state, MoneyChange(patch=BudgetPatch(**more), **parts), owner, stamp, 0)
        before: ScopeState = self.state or ScopeState(created_at=at, created_by="a", updated_at=at, updated_by="a")
        for event in events:
            self.state = with_money(before, event)
        return bool(events)

    def follow(self, attachment: Attachment) -> bool:
        self.n += 1
        assert self.state is not None
        stamp = Stamp(at=T0, source="auth/test", actor="ada", ids=(EventId("e"),))
        owner = Owner(kind="key", scope_id="key_1", fresh=AccountId(f"acct_{self.n}"))
        events = follow(self.state, attachment, owner, stamp)
        if events:
            self.state = with_money(self.state, events[0])
        return bool(events)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return () if self.state is None else self.state.budgets

    @property
    def only(self) -> Budget:
        [budget] = self.budgets
        return budget

    @property
    def accounts(self) -> list[str]:
        return [budget.account for budget in self.budgets]


def test_no_limit_is_no_account() -> None:
    scope = Scope()
    assert not scope.set()
    assert not scope.set(limit_nusd=None, soft_nusd=None, duration=None, zone=None, windows=None, models=())
    assert scope.budgets == ()


def test_a_new_budget_is_anchored_where_it_is_made() -> None:
    scope = Scope()
    assert scope.set(limit_nusd=5, duration="30d")
    budget = scope.only
    assert (budget.account, budget.window.anchor, budget.window.duration) == ("acct_1", T0, "30d")
    assert budget.limited
    soft = Scope()
    soft.set(soft_nusd=5)
    assert not soft.only.limited
    none = Scope()
    none.set(limit_nusd=0)
    assert none.only.limit_nusd == 0


def test_a_changed_limit_keeps_account_and_anchor() -> None:
    scope = Scope()
    scope.set(limit_nusd=5, duration="30d")
    first = scope.only
    assert scope.set(days=3, limit_nusd=9)
    assert (scope.only.account, scope.only.window, scope.only.limit_nusd) == ("acct_1", first.window, 9)
    assert scope.set(days=4, soft_nusd=3)
    assert (scope.only.account, scope.only.limit_nusd, scope.only.soft_nusd) == ("acct_1", 9, 3)


@pytest.mark.parametrize(
    "change", [{"duration": "7d"}, {"duration": None}, {"duration": "1mo"}, {"zone": BERLIN}, {"duration": "720h"}]
)
def test_a_changed_window_is_a_new_account_anchored_now(change: dict[str, Any]) -> None:
    scope = Scope()
    scope.set(limit_nusd=5, duration="30d")
    assert scope.set(days=3, **change)
    assert (scope.only.account, scope.only.window.anchor) == ("acct_2", T0 + timedelta(days=3))
    assert scope.only.limit_nusd == 5


def test_another_spelling_of_a_window_is_the_same_window() -> None:
    scope = Scope()
    scope.set(limit_nusd=5, duration="monthly")
    scope.set(days=3, limit_nusd=7, duration="1mo")
    assert scope.accounts == ["acct_1"]
    assert identity(window(duration="weekly")) == identity(window(duration="7d"))
    assert identity(window(duration="24h")) != identity(window(duration="1d")), "days may be longer or shorter"


def test_the_same_terms_change_nothing() -> None:
    scope = Scope()
    again: dict[str, Any] = {
        "limit_nusd": 5,
        "soft_nusd": 4,
        "duration": "1mo",
        "zone": BERLIN,
        "windows": (window(),),
        "models": (window(model="m"),),
        "thresholds": (50,),
        "strict": True,
    }
    assert scope.set(**again)
    assert not scope.set()
    assert not scope.set(**again)


def test_several_windows_and_models_keep_their_accounts_each_for_itself() -> None:
    scope = Scope()
    scope.set(limit_nusd=100, duration="1mo", windows=(window(5, "1d"), window(20, "7d")), models=(window(model="m"),))
    assert scope.accounts == ["acct_1", "acct_1-2", "acct_1-3", "acct_1-4"]
    assert [budget.model for budget in scope.budgets] == [None, None, None, "m"]
    scope.set(days=1, windows=(window(25, "7d"), window(1, "1h"), window(6, "1d")))
    assert [(budget.window.duration, budget.account, budget.limit_nusd) for budget in scope.budgets] == [
        ("1mo", "acct_1", 100),
        ("7d", "acct_1-3", 25),
        ("1h", "acct_2", 1),
        ("1d", "acct_1-2", 6),
        ("1d", "acct_1-4", 1),
    ]
    scope.set(days=2, limit_nusd=None, models=(window(model="n"),))
    assert scope.accounts == ["acct_1-3", "acct_2", "acct_1-2", "acct_3"], "another model is another account"
    scope.set(days=3, limit_nusd=6, duration="1d", windows=())
    assert scope.accounts == ["acct_1-2", "acct_3"], "the daily limit became max_budget and keeps its spend"


def test_clearing_the_limits_closes_the_account() -> None:
    scope = Scope()
    scope.set(limit_nusd=5, duration="30d", strict=True, thresholds=(50,))
    assert scope.set(limit_nusd=None)
    assert scope.budgets == ()
    assert scope.state is not None
    assert scope.state.terms == NOTHING, "mode and thresholds do not wait for the next limit"
    soft = Scope()
    soft.set(limit_nusd=5, soft_nusd=4)
    soft.set(limit_nusd=None)
    assert (soft.only.limit_nusd, soft.only.soft_nusd) == (None, 4)


def test_a_zone_goes_with_a_window_that_follows_it() -> None:
    monthly = terms(limit_nusd=5, duration="1mo", zone=BERLIN)
    for duration, zone in (("30d", BERLIN), ("1y", BERLIN), ("2w", BERLIN), ("5h", "UTC"), (None, "UTC")):
        after = patched(monthly, BudgetPatch(duration=duration)).main
        assert after is not None
        assert after.zone == zone


def test_thresholds() -> None:
    cases: list[tuple[dict[str, Any], tuple[int, ...]]] = [
        ({"limit_nusd": 5}, (80,)),
        ({"limit_nusd": 5, "soft_nusd": 4}, ()),
        ({"soft_nusd": 4}, ()),
        ({"limit_nusd": 5, "thresholds": ()}, ()),
        ({"limit_nusd": 5, "soft_nusd": 4, "thresholds": (50, 90)}, (50, 90)),
    ]
    for change, percents in cases:
        scope = Scope()
        scope.set(**change)
        assert scope.only.thresholds == percents, change
    scope = Scope()
    scope.set(limit_nusd=5, thresholds=(50,), windows=(window(),), models=(window(model="m"),))
    assert {budget.thresholds for budget in scope.budgets} == {(50,)}
    scope.set(thresholds=None)
    assert {budget.thresholds for budget in scope.budgets} == {(80,)}
    assert scope.accounts == ["acct_1", "acct_1-2", "acct_1-3"]


def test_strict_holds_for_every_limit_of_the_scope() -> None:
    scope = Scope()
    scope.set(limit_nusd=5, models=(window(model="m"),), strict=True)
    assert all(budget.strict for budget in scope.budgets)
    scope.set(strict=None)
    assert not any(budget.strict for budget in scope.budgets)


# ---- temporary increases -------------------------------------------------------------------------------


def test_an_increase_raises_every_limit_that_is_not_for_a_model() -> None:
    scope = Scope()
    scope.set(limit_nusd=100, windows=(window(5),), models=(window(3, model="m"),))
    increase = Increase(amount_nusd=50, until=T0 + timedelta(days=2))
    assert scope.set(increase=increase)
    now = T0 + timedelta(days=1)
    assert [budget.limit_at(now) for budget in scope.budgets] == [150, 55, 3]
    assert [budget.limit_at(increase.until) for budget in scope.budgets] == [100, 5, 3]
    assert scope.accounts == ["acct_1", "acct_1-2", "acct_1-3"]
    scope.set(days=1, limit_nusd=200)
    assert scope.budgets[0].limit_at(now) == 250, "it outlives other changes"
    assert not scope.set(days=3), "one that is over is no difference"
    scope.set(days=3, limit_nusd=201)
    assert scope.budgets[0].increase is None
    scope.set(increase=increase)
    assert scope.set(increase=None)
    assert not any(budget.increase for budget in scope.budgets)


def test_an_increase_of_nothing_is_refused_and_falls_with_its_limit() -> None:
    increase = Increase(amount_nusd=50, until=T0 + timedelta(days=2))
    changes: list[dict[str, Any]] = [{}, {"soft_nusd": 5}, {"models": (window(model="m"),)}]
    for change in changes:
        with pytest.raises(ApiError) as refusal:
            Scope().set(increase=increase, **change)
        assert refusal.value.param == "temp_budget_increase"
    scope = Scope()
    scope.set(limit_nusd=5, models=(window(model="m"),), increase=increase)
    scope.set(limit_nusd=None)
    assert scope.only.increase is None


# ---- what makes no sense -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"limit_nusd": 4, "soft_nusd": 5}, "soft_budget"),
        ({"duration": "30d"}, "budget_duration"),
        ({"zone": BERLIN}, "budget_timezone"),
        ({"limit_nusd": 4, "zone": BERLIN}, "budget_timezone"),
        ({"limit_nusd": 4, "duration": "30h", "zone": BERLIN}, "budget_timezone"),
        ({"thresholds": (80,)}, "budget_thresholds"),
        ({"soft_nusd": 4, "thresholds": (80,)}, "budget_thresholds"),
        ({"strict": True}, "budget_mode"),
        ({"soft_nusd": 4, "strict": True}, "budget_mode"),
        ({"windows": (window(1, "1d"), window(2, "1d"))}, "budget_limits"),
        ({"windows": (window(1, "7d"), window(2, "1w"))}, "budget_limits"),
        ({"windows": (window(1, "weekly"), window(2, "7d"))}, "budget_limits"),
        ({"windows": (window(1, "60m"), window(2, "1h"))}, "budget_limits"),
        ({"limit_nusd": 1, "duration": "monthly", "windows": (window(1, "1mo"),)}, "budget_limits"),
    ],
)
def test_terms_that_make_no_sense(change: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refusal:
        terms(**change)
    assert (refusal.value.status, refusal.value.param) == (400, param)


def test_no_name_stands_twice_in_an_error() -> None:
    changes: list[dict[str, Any]] = [
        {"limit_nusd": 4, "soft_nusd": 5},
        {"limit_nusd": 4, "zone": BERLIN},
    ]
    for change in changes:
        with pytest.raises(ApiError) as refusal:
            terms(**change)
        assert refusal.value.param is not None
        assert refusal.value.message.startswith(f"{refusal.value.param} ")
        assert f"{refusal.value.param}:" not in refusal.value.message


def test_the_same_duration_in_two_zones_are_two_windows() -> None:
    assert len(terms(windows=(window(zone=BERLIN), window())).windows) == 2


def test_a_soft_limit_above_the_new_limit_is_refused() -> None:
    budget = terms(limit_nusd=10, soft_nusd=8)
    with pytest.raises(ApiError):
        patched(budget, BudgetPatch(limit_nusd=7))
    assert patched(budget, BudgetPatch(limit_nusd=8)).main is not None


def test_what_a_patch_speaks_of() -> None:
    patch = BudgetPatch(limit_nusd=None, windows=(), strict=False)
    assert named(patch) == ["max_budget", "budget_limits", "budget_mode"]
    assert asking(patch) == ["budget_mode"]


# ---- budget objects ------------------------------------------------------------------------------------


def attachment(version: int, limit: int, **more: Any) -> Attachment:
    return Attachment(budget_id="b", version=version, terms=terms(limit_nusd=limit, **more), limits=Limits(rpm=limit))


def test_attaching_takes_the_terms_over_and_keeps_the_account() -> None:
    scope = Scope()
    scope.set(limit_nusd=5, duration="30d")
    scope.set(days=1, attach=attachment(3, 9, duration="30d"))
    assert (scope.only.account, scope.only.limit_nusd) == ("acct_1", 9)
    assert scope.state is not None
    assert (scope.state.budget_id, scope.state.budget_version, scope.state.lent) == ("b", 3, Limits(rpm=9))
    assert not scope.set(attach=attachment(3, 9, duration="30d"))
    assert not scope.set(attach=attachment(2, 8, duration="30d")), "an older version is never taken over"
    assert not scope.follow(attachment(3, 9)), "nor the same one again"
    assert scope.follow(attachment(4, 7, duration="30d"))
    assert (scope.only.account, scope.only.limit_nusd, scope.state.budget_version) == ("acct_1", 7, 4)
    other = Attachment(budget_id="c", version=9, terms=terms(limit_nusd=1))
    assert not scope.follow(other), "it is attached to something else"


def test_fields_beside_a_budget_object_are_refused_by_name() -> None:
    scope = Scope()
    with pytest.raises(ApiError, match="budget object 'b'") as refusal:
        scope.set(limit_nusd=5, attach=attachment(1, 9))
    assert refusal.value.param == "max_budget"
    scope.set(attach=attachment(1, 9), limit_nusd=None, windows=())
    changes: list[dict[str, Any]] = [{"soft_nusd": 1}, {"limit_nusd": None}, {"strict": True}]
    for change in changes:
        with pytest.raises(ApiError):
            scope.set(**change)
    assert scope.set(increase=Increase(amount_nusd=1, until=T0 + timedelta(days=1)))
    assert scope.only.limit_at(T0) == 10
    scope.follow(attachment(2, 20))
    assert scope.only.limit_at(T0) == 21, "an increase is the scope's own and outlives a new version"


def test_giving_a_budget_object_up() -> None:
    scope = Scope()
    scope.set(attach=attachment(1, 9))
    scope.set(attach=None, limit_nusd=4)
    assert (scope.only.account, scope.only.limit_nusd) == ("acct_1", 4)
    assert scope.state is not None
    assert (scope.state.budget_id, scope.state.budget_version, scope.state.lent) == (None, 0, Limits())
    scope.set(attach=attachment(1, 9))
    scope.set(attach=None)
    assert scope.budgets == ()
    assert scope.set(attach=None, limit_nusd=4), "nothing was attached: an ordinary change"


DURATIONS = st.sampled_from(["", "1h", "24h", "1d", "daily", "7d", "weekly", "1mo", "monthly"])
WINDOWS = st.lists(st.builds(window, st.integers(0, 9), DURATIONS), max_size=4).map(tuple)


@given(st.lists(st.fixed_dictionaries({"limit_nusd": st.none() | st.integers(0, 9), "windows": WINDOWS}), max_size=6))
@settings(max_examples=150, deadline=None)
def test_accounts_are_what_the_terms_say_and_never_change_hands(changes: list[dict[str, Any]]) -> None:
    scope = Scope()
    owners: dict[str, object] = {}
    for change in changes:
        try:
            scope.set(**change)
        except ApiError:
            twins = [identity(item) for item in change["windows"]]
            assert len(set(twins)) < len(twins) or "" in [item.duration for item in change["windows"]]
            continue
        assert len(set(scope.accounts)) == len(scope.budgets)
        assert scope.state is not None or not scope.budgets
        for budget in scope.budgets:
            spec = budget.window
            key = identity(WindowTerms(duration=spec.duration, zone=spec.zone, model=budget.model))
            assert owners.setdefault(budget.account, key) == key, "an account keeps its window for life"
        if scope.state is not None:
            wanted = ([scope.state.terms.main] if scope.state.terms.main else []) + list(scope.state.terms.windows)
            assert [budget.limit_nusd for budget in scope.budgets] == [item.limit_nusd for item in wanted]
            owner = Owner(kind="key", scope_id="key_1", fresh=AccountId("x"))
            again = accounts_of(scope.state.terms, None, scope.budgets, owner, T0)
            assert again == scope.budgets
