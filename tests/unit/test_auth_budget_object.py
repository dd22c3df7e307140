"""Budget objects: their decisions and fold, and what teams and organizations make of updates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.auth.domain import budget_object as domain
from services.auth.domain import org as org_domain
from services.auth.domain import team as team_domain
from services.auth.domain.budget import BudgetPatch
from services.auth.domain.budget_object import Attached, BudgetState, DefineBudget
from services.auth.domain.org import CreateOrg, OrgState, UpdateOrg
from services.auth.domain.rates import RatePatch
from services.auth.domain.scope import MoneyChange, ScopeChange
from services.auth.domain.stamp import IDS_PER_DECISION, Stamp
from services.auth.domain.team import CreateTeam, TeamState, UpdateTeam
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    BudgetDefined,
    BudgetRemoved,
    BudgetSet,
    OrgCreated,
    OrgUpdated,
    TeamCreated,
    TeamUpdated,
)
from shared.ids import DEFAULT_ORG, AccountId, EventId, OrgId, TeamId
from shared.policy import Limits

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def stamp(n: int = 0) -> Stamp:
    ids = tuple(EventId(f"e{n}-{i}") for i in range(IDS_PER_DECISION))
    return Stamp(at=T0 + timedelta(seconds=n), source="auth/test", actor=f"actor{n}", ids=ids)


def define(rates: RatePatch | None = None, **more: Any) -> DefineBudget:
    return DefineBudget(budget_id="b", patch=BudgetPatch(**more), rates=rates or RatePatch())


def fold(events: list[AnyAuthEvent], state: BudgetState | None = None) -> BudgetState:
    for event in events:
        state = domain.evolve(state, event)
    assert state is not None
    return state


def made(**more: Any) -> BudgetState:
    return fold(domain.decide_create(None, define(**more), stamp()))


def names(events: list[AnyAuthEvent]) -> list[type]:
    return [type(event) for event in events]


def test_a_budget_object_counts_its_versions() -> None:
    state = made(limit_nusd=5, duration="30d")
    assert (state.version, state.attachment.version) == (1, 1)
    events = domain.decide_change(state, define(limit_nusd=6, rates=RatePatch(rpm=9)), stamp(1))
    assert names(events) == [BudgetDefined]
    after = fold(events, state)
    assert (after.version, after.limits, after.created_by, after.updated_by) == (2, Limits(rpm=9), "actor0", "actor1")
    assert after.terms.main is not None
    assert (after.terms.main.limit_nusd, after.terms.main.duration) == (6, "30d")
    assert domain.decide_change(after, define(limit_nusd=6), stamp(2)) == []


def test_a_budget_object_limits_something() -> None:
    for decide in (
        lambda: domain.decide_create(None, define(), stamp()),
        lambda: domain.decide_change(made(limit_nusd=5), define(limit_nusd=None), stamp()),
    ):
        with pytest.raises(ApiError) as refusal:
            decide()
        assert (refusal.value.status, refusal.value.param) == (400, "max_budget")
    assert made(rates=RatePatch(parallel=3)).limits == Limits(parallel=3)


def test_a_budget_object_that_is_named_does_not_go() -> None:
    state = made(limit_nusd=5)
    for attached in (Attached(keys=1), Attached(teams=1), Attached(organizations=1), Attached(default_of_teams=1)):
        with pytest.raises(ApiError) as refusal:
            domain.decide_remove(state, "b", attached, stamp())
        assert (refusal.value.status, refusal.value.code) == (409, "budget_in_use")
    events = domain.decide_remove(state, "b", Attached(), stamp())
    assert names(events) == [BudgetRemoved]
    gone = fold(events, state)
    for decide in (
        lambda: domain.decide_remove(gone, "b", Attached(), stamp()),
        lambda: domain.decide_change(gone, define(limit_nusd=1), stamp()),
        lambda: domain.decide_change(None, define(limit_nusd=1), stamp()),
    ):
        with pytest.raises(ApiError) as refusal:
            decide()
        assert refusal.value.status == 404


def test_an_id_is_taken_while_its_object_lives() -> None:
    state = made(limit_nusd=5)
    with pytest.raises(ApiError) as refusal:
        domain.decide_create(state, define(limit_nusd=5), stamp())
    assert refusal.value.status == 409
    gone = fold(domain.decide_remove(state, "b", Attached(), stamp(1)), state)
    anew = fold(domain.decide_create(gone, define(limit_nusd=5), stamp(2)), gone)
    assert (anew.version, anew.removed, anew.created_by) == (2, False, "actor2"), "no version comes twice"


def test_events_that_do_not_belong() -> None:
    with pytest.raises(ValueError, match="in the life of a budget"):
        domain.evolve(None, BudgetRemoved(**stamp().envelope(0), budget_id="b"))
    with pytest.raises(ValueError, match="first event of a team"):
        team_domain.evolve(None, TeamUpdated(**stamp().envelope(0), team_id=TeamId("t"), org_id=DEFAULT_ORG))
    with pytest.raises(ValueError, match="first event of an organization"):
        org_domain.evolve(None, OrgUpdated(**stamp().envelope(0), org_id=DEFAULT_ORG))


# ---- updates of teams and organizations ----------------------------------------------------------------


def test_a_team_is_updated() -> None:
    account = AccountId("acct_1")
    create = CreateTeam(
        team_id=TeamId("t"),
        org_id=DEFAULT_ORG,
        account=account,
        change=ScopeChange(alias="a", models=("m",), money=MoneyChange(patch=BudgetPatch(limit_nusd=5))),
        default_key_budget_id="b",
    )
    state: TeamState | None = None
    events = team_domain.decide_create(None, create, stamp())
    assert names(events) == [TeamCreated, BudgetSet]
    for event in events:
        state = team_domain.evolve(state, event)
    change = ScopeChange(alias="z", rates=RatePatch(rpm=3, model_rpm={"m": 1}))
    events = team_domain.decide_update(state, UpdateTeam(team_id=TeamId("t"), account=account, change=change), stamp(1))
    assert names(events) == [TeamUpdated]
    for event in events:
        state = team_domain.evolve(state, event)
    assert state is not None
    assert (state.alias, state.models, state.limits, len(state.budgets)) == ("z", ("m",), Limits(rpm=3), 1)
    assert (state.default_key_budget_id, state.created_by, state.updated_by) == ("b", "actor0", "actor1")
    assert (
        team_domain.decide_update(state, UpdateTeam(team_id=TeamId("t"), account=account, change=change), stamp(2))
        == []
    )
    [cleared] = team_domain.decide_update(
        state, UpdateTeam(team_id=TeamId("t"), account=account, default_key_budget_id=None), stamp(2)
    )
    assert isinstance(cleared, TeamUpdated)
    assert cleared.default_key_budget_id is None
    with pytest.raises(ApiError) as refusal:
        team_domain.decide_update(state, UpdateTeam(team_id=TeamId("t"), account=account, org_id="other"), stamp(2))
    assert refusal.value.param == "organization_id"
    with pytest.raises(ApiError):
        team_domain.decide_update(None, UpdateTeam(team_id=TeamId("t"), account=account), stamp())


def test_an_organization_is_updated() -> None:
    account = AccountId("acct_1")
    state: OrgState | None = None
    for event in org_domain.decide_create(None, CreateOrg(org_id=OrgId("o"), account=account), stamp()):
        assert isinstance(event, OrgCreated)
        state = org_domain.evolve(state, event)
    change = ScopeChange(models=("m",), money=MoneyChange(patch=BudgetPatch(limit_nusd=5)))
    events = org_domain.decide_update(state, UpdateOrg(org_id=OrgId("o"), account=account, change=change), stamp(1))
    assert names(events) == [OrgUpdated, BudgetSet]
    for event in events:
        state = org_domain.evolve(state, event)
    assert state is not None
    assert (state.models, state.budgets[0].account) == (("m",), "acct_1")
    assert org_domain.decide_update(state, UpdateOrg(org_id=OrgId("o"), account=account, change=change), stamp(2)) == []
    with pytest.raises(ApiError):
        org_domain.decide_update(None, UpdateOrg(org_id=OrgId("o"), account=account), stamp())
