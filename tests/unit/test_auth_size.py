"""How large settings and budgets may be: whatever is accepted fits into the bucket that the proxies read."""

from datetime import UTC, datetime

import msgspec
import pytest

from services.auth.domain import budget_object, key, org, team
from services.auth.domain.budget import BudgetPatch
from services.auth.domain.budget_object import BudgetState, DefineBudget
from services.auth.domain.key import IssueKey, UpdateKey
from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.org import CreateOrg, UpdateOrg
from services.auth.domain.rates import RatePatch
from services.auth.domain.records import Records
from services.auth.domain.scope import MoneyChange, ScopeChange
from services.auth.domain.size import SETTINGS_BYTES_MAX, TERMS_BYTES_MAX
from services.auth.domain.stamp import IDS_PER_DECISION, Stamp
from services.auth.domain.team import CreateTeam, UpdateTeam
from services.auth.keys_bucket import VALUE_BYTES_MAX
from shared.errors import ApiError
from shared.events import BudgetDefined, BudgetTerms, KeyIssued, WindowTerms, encode
from shared.ids import DEFAULT_ORG, AccountId, EventId, KeyId, TeamId, uuid7_from

WIDE = "\N{GRINNING FACE}"
STAMP = Stamp(
    at=datetime(2026, 3, 1, tzinfo=UTC),
    source="auth/test",
    actor="ada",
    ids=tuple(EventId(uuid7_from(1_700_000_000_000, bytes([i]) * 10)) for i in range(IDS_PER_DECISION)),
)
MODELS = tuple(f"{n:03}" + WIDE * 190 for n in range(200))
ALIASES = {f"{n:03}" + WIDE * 190: "m" for n in range(100)}
WINDOWS = tuple(WindowTerms(limit_nusd=1, model=f"{n:02}" + WIDE * 190) for n in range(50))


def issue(change: ScopeChange, routes: tuple[str, ...] = ()) -> IssueKey:
    return IssueKey(
        key_id=KeyId("key_1"),
        org_id=DEFAULT_ORG,
        secret=HashedSecret(label="p1", digest="d" * 64, hint="sk-...abcd"),
        account=AccountId("acct_1"),
        change=change,
        allowed_routes=routes,
    )


def made(change: ScopeChange) -> KeyState:
    state: KeyState | None = None
    for event in key.decide_issue(None, issue(change), STAMP):
        state = key.evolve(state, event)
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("change", "routes", "field"),
    [
        (ScopeChange(models=MODELS), (), "models"),
        (ScopeChange(model_aliases=ALIASES), (), "aliases"),
        (ScopeChange(models=MODELS[:5], model_aliases=ALIASES), (), "aliases"),
        (ScopeChange(models=MODELS[:52], tags=("t" * 100,) * 20), ("/v1/x",), "models"),
        (ScopeChange(models=MODELS[:12]), tuple(f"/{n:03}/" + "x" * 195 for n in range(190)), "allowed_routes"),
        (ScopeChange(rates=RatePatch(model_rpm=dict.fromkeys(MODELS[:100], 1))), (), "model_rpm_limit"),
        (ScopeChange(rates=RatePatch(model_tpm=dict.fromkeys(MODELS[:100], 10**12))), (), "model_tpm_limit"),
        (ScopeChange(money=MoneyChange(patch=BudgetPatch(models=WINDOWS))), (), "model_max_budget"),
    ],
)
def test_settings_that_are_too_large_name_the_largest_field(
    change: ScopeChange, routes: tuple[str, ...], field: str
) -> None:
    with pytest.raises(ApiError) as refused:
        key.decide_issue(None, issue(change, routes), STAMP)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "invalid_value", field)
    with pytest.raises(ApiError) as refused:
        update = UpdateKey(account=AccountId("a"), change=change, allowed_routes=routes)
        key.decide_update(made(ScopeChange()), update, STAMP)
    assert refused.value.param == field


def test_what_a_change_adds_counts_with_what_is_there() -> None:
    state = made(ScopeChange(models=MODELS[:40]))
    assert key.decide_update(state, UpdateKey(account=AccountId("a"), change=ScopeChange(alias="n")), STAMP)
    with pytest.raises(ApiError) as refused:
        change = ScopeChange(model_aliases=dict(list(ALIASES.items())[:20]))
        key.decide_update(state, UpdateKey(account=AccountId("a"), change=change), STAMP)
    assert refused.value.param == "models"
    assert "aliases" in refused.value.message


def test_what_is_too_large_already_can_be_kept_and_made_smaller() -> None:
    state = msgspec.structs.replace(made(ScopeChange()), models=MODELS)
    for change in (ScopeChange(alias="n"), ScopeChange(models=MODELS[:3])):
        assert key.decide_update(state, UpdateKey(account=AccountId("a"), change=change), STAMP)


def test_teams_and_organizations_are_bounded_too() -> None:
    change = ScopeChange(model_aliases=ALIASES)
    plain_team = CreateTeam(team_id=TeamId("t"), org_id=DEFAULT_ORG, account=AccountId("a"))
    plain_org = CreateOrg(org_id=DEFAULT_ORG, account=AccountId("a"))
    a_team = team.evolve(None, team.decide_create(None, plain_team, STAMP)[0])
    an_org = org.evolve(None, org.decide_create(None, plain_org, STAMP)[0])
    account = AccountId("a")
    for attempt in (
        lambda: team.decide_create(None, msgspec.structs.replace(plain_team, change=change), STAMP),
        lambda: team.decide_update(a_team, UpdateTeam(team_id=TeamId("t"), account=account, change=change), STAMP),
        lambda: org.decide_create(None, msgspec.structs.replace(plain_org, change=change), STAMP),
        lambda: org.decide_update(an_org, UpdateOrg(org_id=DEFAULT_ORG, account=account, change=change), STAMP),
    ):
        with pytest.raises(ApiError) as refused:
            attempt()
        assert refused.value.param == "model_aliases"


def test_a_budget_object_is_bounded_by_itself() -> None:
    with pytest.raises(ApiError) as refused:
        budget_object.decide_create(None, DefineBudget(budget_id="b", patch=BudgetPatch(models=WINDOWS)), STAMP)
    assert refused.value.param == "model_max_budget"


def test_whoever_is_in_order_can_follow_an_object_that_is_in_order() -> None:
    """The largest settings with the largest budgets: what the proxies read of them fits with room to spare."""
    models = MODELS[: SETTINGS_BYTES_MAX // (len(MODELS[0].encode()) + 3)]
    patch = BudgetPatch(models=WINDOWS[: TERMS_BYTES_MAX // 820])
    (defined,) = budget_object.decide_create(None, DefineBudget(budget_id="b" * 100, patch=patch), STAMP)
    assert isinstance(defined, BudgetDefined)
    issued = key.decide_issue(None, issue(ScopeChange(models=models)), STAMP)
    state = made(ScopeChange(models=models))
    attachment = budget_object.evolve(None, defined).attachment
    followed = key.decide_follow(
        msgspec.structs.replace(state, budget_id="b" * 100), attachment, AccountId("a" * 100), STAMP
    )
    assert followed
    records = Records()
    for seq, event in enumerate([*issued, *followed], start=1):
        records.apply(event, seq)
    record = records.key("key_1")
    assert record is not None
    assert len(msgspec.json.encode(record)) < VALUE_BYTES_MAX / 2
    assert max(len(encode(event)) for event in [*issued, *followed]) < 100_000
    assert isinstance(issued[0], KeyIssued)


def test_an_older_object_that_is_larger_is_followed_all_the_same() -> None:
    """Nobody may stay behind for good: what is asked for anew is bounded, what is there goes on."""
    older = BudgetState(
        budget_id="b",
        version=2,
        terms=BudgetTerms(models=WINDOWS),
        created_at=STAMP.at,
        created_by="ada",
        updated_at=STAMP.at,
        updated_by="ada",
    )
    state = msgspec.structs.replace(made(ScopeChange()), budget_id="b", budget_version=1)
    assert key.decide_follow(state, older.attachment, AccountId("a"), STAMP)
