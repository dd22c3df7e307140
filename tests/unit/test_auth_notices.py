"""What a change did beside what was asked for is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.auth.domain.accounts import Owner
from services.auth.domain.budget import BudgetPatch, named, patched
from services.auth.domain.budget_object import BudgetState
from services.auth.domain.notices import notices, notices_of_object
from services.auth.domain.scope import Attachment, MoneyChange, ScopeState, money_events, with_money
from services.auth.domain.stamp import Stamp
from shared.events import BudgetTerms, WindowTerms
from shared.ids import AccountId, EventId
from shared.policy import Increase

T0 = datetime(2026, 1, 1, tzinfo=UTC)
EMPTY = ScopeState(created_at=T0, created_by="ada", updated_at=T0, updated_by="ada")
INCREASE = Increase(amount_nusd=5, until=T0 + timedelta(days=3))


def changed(state: ScopeState, change: MoneyChange, n: int) -> ScopeState:
    stamp = Stamp(at=T0, source="auth/test", actor="ada", ids=(EventId("e"),))
    owner = Owner(kind="key", scope_id="key_1", fresh=AccountId(f"acct_{n}"))
    for event in money_events(state, change, owner, stamp, 0):
        state = with_money(state, event)
    return state


def told(first: MoneyChange, second: MoneyChange) -> list[str]:
    before = changed(EMPTY, first, 1)
    return notices(before, changed(before, second, 2), second, T0)


def asked(**patch: Any) -> MoneyChange:
    more = {name: patch.pop(name) for name in ("increase", "attach") if name in patch}
    return MoneyChange(patch=BudgetPatch(**patch), **more)


FULL = asked(limit_nusd=9, duration="1mo", zone="Europe/Berlin", thresholds=(50,), strict=True, increase=INCREASE)


def test_what_falls_with_its_limit_is_named() -> None:
    [text] = told(FULL, asked(limit_nusd=None))
    for field in (
        "budget_duration", "budget_timezone", "budget_thresholds", "budget_mode", "temp_budget_increase",
    ):  # fmt: skip
        assert field in text
    [text] = told(FULL, asked(limit_nusd=None, strict=None, thresholds=None, increase=None, zone=None))
    assert "budget_duration" in text
    assert "temp_budget_increase" not in text, "what was cleared by name needs no warning"
    assert "budget_mode" not in text
    [text] = told(FULL, asked(limit_nusd=None, soft_nusd=3))
    assert "budget_duration" not in text, "it belongs to the soft limit now"
    assert "budget_mode" in text
    assert told(asked(limit_nusd=9), asked(limit_nusd=None)) == []
    assert told(asked(limit_nusd=9), asked(limit_nusd=8)) == []
    assert notices(None, changed(EMPTY, FULL, 1), FULL, T0) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [({"duration": "7d"}, "budget_duration"), ({"duration": None}, "budget_duration"),
     ({"zone": "Asia/Tokyo"}, "budget_timezone")],
)  # fmt: skip
def test_a_window_that_begins_anew_is_told(change: dict[str, Any], field: str) -> None:
    texts = told(asked(limit_nusd=9, duration="30d"), asked(**change))
    assert [text.partition(":")[0] for text in texts] == [field]
    assert "spend of 0" in texts[0]


def test_a_window_that_goes_on_is_not() -> None:
    assert told(asked(limit_nusd=9, duration="7d"), asked(duration="weekly", limit_nusd=3)) == []
    daily = WindowTerms(limit_nusd=1, duration="1d")
    assert told(asked(limit_nusd=9, duration="7d", windows=(daily,)), asked(duration="1d", windows=())) == []


def test_a_model_and_an_attached_budget() -> None:
    one, other = (WindowTerms(limit_nusd=1, duration=duration, model="gpt-*") for duration in ("1d", "7d"))
    [text] = told(asked(models=(one,)), asked(models=(other,)))
    assert text.startswith("model_max_budget['gpt-*'].budget_duration: ")
    attach = Attachment(budget_id="b", version=1, terms=BudgetTerms(main=WindowTerms(limit_nusd=1, duration="1d")))
    [text] = told(FULL, asked(attach=attach))
    assert text.startswith("budget_duration: "), "the object's own mode and thresholds were asked for"


def test_a_budget_object_tells_the_same() -> None:
    patch = BudgetPatch(limit_nusd=9, duration="1d", strict=True)
    state = BudgetState(
        budget_id="b", version=1, terms=patched(BudgetTerms(), patch), created_at=T0, created_by="a", updated_at=T0,
        updated_by="a",
    )  # fmt: skip

    def after(patch: BudgetPatch) -> list[str]:
        return notices_of_object(state, replace(state, terms=patched(state.terms, patch)), named(patch))

    [text] = after(BudgetPatch(duration="7d"))
    assert "every scope" in text
    assert "budget_mode" in after(BudgetPatch(limit_nusd=None, soft_nusd=1))[0]
    assert after(BudgetPatch(limit_nusd=2)) == []
    assert notices_of_object(None, state, ()) == []
