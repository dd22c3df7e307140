"""Keys: decisions, their fold, and the records that the proxies see of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.domain import key as domain
from services.auth.domain.budget import BudgetPatch
from services.auth.domain.key import IssueKey, UpdateKey
from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.rates import RatePatch, tightest
from services.auth.domain.records import Records, in_order
from services.auth.domain.rotation import RotationChange
from services.auth.domain.scope import Attachment, MoneyChange, ScopeChange
from services.auth.domain.stamp import IDS_PER_DECISION, Stamp
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    BudgetDefined,
    BudgetRemoved,
    BudgetSet,
    BudgetTerms,
    KeyBlocked,
    KeyDeleted,
    KeyIssued,
    KeyRotationSet,
    KeySecretMinted,
    KeyUnblocked,
    KeyUpdated,
    OrgCreated,
    OrgUpdated,
    TeamCreated,
    TeamUpdated,
    WindowTerms,
    decode_auth,
    encode,
)
from shared.ids import DEFAULT_ORG, AccountId, EventId, KeyId, TeamId, UserId, uuid7_from
from shared.policy import Budget, Limits, Role, ScopeKind, SecretRecord, TeamRecord
from shared.topology import key_kv, org_kv, secret_kv, team_kv
from shared.windows import WindowSpec

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = HashedSecret(label="p1", digest="d" * 64, hint="sk-...abcd")
KEY = KeyId("key_1")


def stamp(n: int = 0) -> Stamp:
    ids = tuple(EventId(uuid7_from(1_700_000_000_000 + n, bytes([i]) * 10)) for i in range(IDS_PER_DECISION))
    return Stamp(at=T0 + timedelta(seconds=n), source="auth/test", actor="ada", ids=ids, cause="why")


def change(*, budget: BudgetPatch | None = None, **more: Any) -> ScopeChange:
    return ScopeChange(money=MoneyChange(patch=budget or BudgetPatch()), **more)


def issue(*, team_id: TeamId | None = None, blocked: bool = False, **more: Any) -> IssueKey:
    return IssueKey(
        key_id=KEY,
        org_id=DEFAULT_ORG,
        secret=SECRET,
        account=AccountId("acct_0"),
        team_id=team_id,
        blocked=blocked,
        change=change(**more),
    )


def update(n: int, **more: Any) -> UpdateKey:
    return UpdateKey(account=AccountId(f"acct_{n}"), change=change(**more))


def fold(events: list[AnyAuthEvent], state: KeyState | None = None) -> KeyState:
    for event in events:
        state = domain.evolve(state, event)
    assert state is not None
    return state


def minted(**more: Any) -> KeyState:
    return fold(domain.decide_issue(None, issue(**more), stamp()))


def names(events: list[AnyAuthEvent]) -> list[type]:
    return [type(event) for event in events]


def test_the_secret_comes_after_every_limit() -> None:
    events = domain.decide_issue(None, issue(budget=BudgetPatch(limit_nusd=5), blocked=True), stamp())
    assert names(events) == [KeyIssued, BudgetSet, KeyBlocked, KeySecretMinted]
    assert len({event.id for event in events}) == 4
    assert {(event.actor, event.cause, event.at) for event in events} == {("ada", "why", T0)}
    state = fold(events)
    assert state.blocked
    assert state.budget is not None
    assert state.budget.scope_id == KEY
    assert [secret.version for secret in state.secrets] == [1]
    assert (state.created_by, state.created_at) == ("ada", T0)


def test_a_key_is_issued_once() -> None:
    with pytest.raises(ApiError):
        domain.decide_issue(minted(), issue(), stamp())


def test_a_repetition_of_an_issue_finds_the_key() -> None:
    again = msgspec.structs.replace(issue(), again=True)
    assert names(domain.decide_issue(None, again, stamp())) == [KeyIssued, KeySecretMinted], "there was nothing yet"
    assert domain.decide_issue(minted(), again, stamp(1)) == []
    dead = fold(domain.decide_delete(minted(), stamp(1)), minted())
    with pytest.raises(ApiError) as refusal:
        domain.decide_issue(dead, again, stamp(2))
    assert refusal.value.status == 404


def test_what_keys_alone_have() -> None:
    command = msgspec.structs.replace(
        issue(tags=("a",), model_aliases={"fast": "m"}),
        allowed_routes=("/v1/*",),
        user_id=UserId("ada"),
        rotation=RotationChange(auto=True, interval="30d", exchange=True),
    )
    events = domain.decide_issue(None, command, stamp())
    assert names(events) == [KeyIssued, KeyRotationSet, KeySecretMinted]
    state = fold(events)
    assert (state.tags, state.model_aliases, state.allowed_routes) == (("a",), {"fast": "m"}, ("/v1/*",))
    assert (state.user_id, state.role) == ("ada", None)
    assert state.rotation is not None
    assert state.rotation.interval == "30d"

    change = UpdateKey(
        account=AccountId("a"),
        change=ScopeChange(tags=()),
        allowed_routes=(),
        user_id=None,
        rotation=RotationChange(auto=False),
    )
    after = fold(domain.decide_update(state, change, stamp(1)), state)
    assert (after.tags, after.allowed_routes, after.user_id) == ((), (), None)
    assert after.model_aliases == {"fast": "m"}, "what is not named stays"
    assert after.rotation is not None
    assert after.rotation.interval is None
    assert domain.decide_update(after, change, stamp(2)) == []


def test_a_role_is_given_once() -> None:
    command = msgspec.structs.replace(issue(), role="viewer", reach="all")
    state = fold(domain.decide_issue(None, command, stamp()))
    assert (state.role, state.reach) == ("viewer", "all")
    renamed = fold(domain.decide_update(state, update(1, alias="eyes"), stamp(1)), state)
    assert (renamed.role, renamed.reach) == ("viewer", "all"), "an update keeps them"
    same = UpdateKey(account=AccountId("a"), role="viewer")
    assert domain.decide_update(state, same, stamp(1)) == []
    cases: list[tuple[KeyState, Role | None]] = [(state, "admin"), (state, None), (minted(), "admin")]
    for key, role in cases:
        with pytest.raises(ApiError) as refusal:
            domain.decide_update(key, UpdateKey(account=AccountId("a"), role=role), stamp(1))
        assert refusal.value.param == "key_type"


def test_an_update_that_changes_nothing_makes_no_event() -> None:
    state = minted(alias="a", models=("m",), budget=BudgetPatch(limit_nusd=5))
    assert domain.decide_update(state, UpdateKey(account=AccountId("acct_1")), stamp(1)) == []
    same = update(1, alias="a", models=("m",), budget=BudgetPatch(limit_nusd=5))
    assert domain.decide_update(state, same, stamp(1)) == []


def test_an_update_of_settings_and_budget() -> None:
    state = minted(alias="a", models=("m",), rates=RatePatch(rpm=3, tpm=9))
    command = update(1, alias=None, rates=RatePatch(rpm=None), budget=BudgetPatch(limit_nusd=5))
    events = domain.decide_update(state, command, stamp(1))
    assert names(events) == [KeyUpdated, BudgetSet]
    after = fold(events, state)
    assert (after.alias, after.models, after.limits) == (None, ("m",), Limits(tpm=9))
    assert after.budgets[0].account == "acct_1"
    assert (after.created_at, after.updated_at) == (T0, T0 + timedelta(seconds=1))
    only_budget = update(2, budget=BudgetPatch(limit_nusd=None))
    assert names(domain.decide_update(after, only_budget, stamp(2))) == [BudgetSet]


@pytest.mark.parametrize(
    ("command", "param"),
    [
        (UpdateKey(account=AccountId("a"), team_id="t2"), "team_id"),
        (UpdateKey(account=AccountId("a"), org_id="o2"), "organization_id"),
        (UpdateKey(account=AccountId("a"), blocked=True), "blocked"),
    ],
)
def test_what_an_update_cannot_do(command: UpdateKey, param: str) -> None:
    with pytest.raises(ApiError) as refusal:
        domain.decide_update(minted(team_id=TeamId("t1")), command, stamp())
    assert refusal.value.param == param


def test_saying_again_where_a_key_is_changes_nothing() -> None:
    same = UpdateKey(account=AccountId("a"), team_id="t1", org_id="default", blocked=False)
    assert domain.decide_update(minted(team_id=TeamId("t1")), same, stamp()) == []


def test_blocking_twice_and_deleting_twice_make_one_event() -> None:
    state = minted()
    blocked = fold(domain.decide_block(state, stamp(1)), state)
    assert domain.decide_block(blocked, stamp(2)) == []
    deleted = fold(domain.decide_delete(blocked, stamp(3)), blocked)
    assert deleted.deleted_at == T0 + timedelta(seconds=3)
    assert domain.decide_delete(deleted, stamp(4)) == []


def test_unblocking() -> None:
    state = minted()
    assert domain.decide_unblock(state, stamp(1), entry=None) == []
    assert names(domain.decide_unblock(state, stamp(1), entry=T0)) == [KeyUnblocked]
    blocked = fold(domain.decide_block(state, stamp(1)), state)
    free = fold(domain.decide_unblock(blocked, stamp(2), entry=None), blocked)
    assert (free.blocked, free.unblocked_at) == (False, T0 + timedelta(seconds=2))


def test_a_dead_key_and_no_key_at_all() -> None:
    dead = fold(domain.decide_delete(minted(), stamp(1)), minted())
    for state in (dead, None):
        for decide in (
            lambda s: domain.decide_block(s, stamp()),
            lambda s: domain.decide_unblock(s, stamp(), entry=T0),
            lambda s: domain.decide_update(s, UpdateKey(account=AccountId("a")), stamp()),
        ):
            with pytest.raises(ApiError) as refusal:
                decide(state)
            assert refusal.value.status == 404
    with pytest.raises(ApiError):
        domain.decide_delete(None, stamp())


def test_events_that_do_not_belong_to_a_key() -> None:
    with pytest.raises(ValueError, match="first event"):
        domain.evolve(None, KeyBlocked(**stamp().envelope(0), key_id=KEY))
    with pytest.raises(ValueError, match="no event of a key"):
        domain.evolve(minted(), OrgCreated(**stamp().envelope(0), org_id=DEFAULT_ORG))


# ---- records -----------------------------------------------------------------------------------------


def test_records_of_a_life() -> None:
    records = Records()
    budget = BudgetPatch(limit_nusd=5)
    events = domain.decide_issue(None, issue(models=("m",), alias="a", budget=budget), stamp())
    for seq, event in enumerate(events, start=10):
        records.apply(event, seq)
    secret = secret_kv("p1", "d" * 64)
    key = records.key(KEY)
    assert key is not None
    assert (key.seq, key.models, key.alias, len(key.budgets)) == (11, ("m",), "a", 1)
    assert records.by_name[secret] == SecretRecord(key_id=KEY, version=1, seq=12)
    assert records.secrets_of(KEY) == (secret,)

    changed = records.apply(KeyBlocked(**stamp().envelope(0), key_id=KEY), 13)
    assert list(changed) == [key_kv(KEY)]
    gone = records.apply(KeyDeleted(**stamp().envelope(0), key_id=KEY), 14)
    assert gone == {secret: None, key_kv(KEY): None}
    assert records.by_name == {}
    assert records.secrets_of(KEY) == ()
    late = records.apply(KeyUnblocked(**stamp().envelope(0), key_id=KEY), 15)
    assert late == {}, "an event about a key that is gone brings nothing back"
    assert records.apply(BudgetSet(**stamp().envelope(0), scope_kind="key", scope_id=KEY, budgets=()), 16) == {}


def test_records_of_organizations_and_teams() -> None:
    records = Records()
    records.apply(OrgCreated(**stamp().envelope(0), org_id=DEFAULT_ORG, models=("m",)), 1)
    records.apply(TeamCreated(**stamp().envelope(0), team_id=TeamId("t"), org_id=DEFAULT_ORG), 2)
    cases: list[tuple[ScopeKind, str, str, int]] = [
        ("org", "default", org_kv("default"), 3),
        ("team", "t", team_kv("t"), 4),
    ]
    for kind, scope, name, seq in cases:
        event = BudgetSet(**stamp().envelope(0), scope_kind=kind, scope_id=scope, budgets=())
        assert list(records.apply(event, seq)) == [name]
        record = records.by_name[name]
        assert record.seq == seq


def test_an_update_keeps_what_it_does_not_name() -> None:
    """`TeamUpdated` is a `TeamCreated` too: taken for one, it would drop the team's budgets."""
    records = Records()
    own, lent = Limits(rpm=9, parallel=3), Limits(rpm=4, tpm=7)
    org, team = OrgCreated(**stamp().envelope(0), org_id=DEFAULT_ORG), TeamId("t")
    records.apply(org, 1)
    records.apply(TeamCreated(**stamp().envelope(0), team_id=team, org_id=DEFAULT_ORG, limits=own), 2)
    scopes: list[tuple[int, ScopeKind, str]] = [(3, "org", "default"), (4, "team", "t")]
    for seq, kind, scope in scopes:
        window = WindowSpec(anchor=T0)
        budget = Budget(account=AccountId("a"), scope_kind=kind, scope_id=scope, window=window, limit_nusd=1)
        event = BudgetSet(**stamp().envelope(0), scope_kind=kind, scope_id=scope, budgets=(budget,), lent=lent)
        records.apply(event, seq)
    records.apply(OrgUpdated(**stamp().envelope(0), org_id=DEFAULT_ORG, models=("m",)), 5)
    updated = TeamUpdated(
        **stamp().envelope(0),
        team_id=team,
        org_id=DEFAULT_ORG,
        alias="b",
        limits=Limits(rpm=3),
        model_limits={"m": own},
    )
    assert list(records.apply(updated, 6)) == [team_kv("t")]
    for name, seq in ((org_kv("default"), 5), (team_kv("t"), 6)):
        record = records.by_name[name]
        assert not isinstance(record, SecretRecord)
        assert (record.seq, len(record.budgets)) == (seq, 1)
    record = records.by_name[team_kv("t")]
    assert isinstance(record, TeamRecord)
    assert (record.alias, record.limits, record.model_limits) == ("b", Limits(rpm=3, tpm=7), {"m": own})
    assert records.apply(TeamUpdated(**stamp().envelope(0), team_id=TeamId("x"), org_id=DEFAULT_ORG), 7) == {}


def test_budget_objects_are_no_records() -> None:
    records = Records()
    assert records.apply(BudgetDefined(**stamp().envelope(0), budget_id="b", version=1), 1) == {}
    assert records.apply(BudgetRemoved(**stamp().envelope(0), budget_id="b"), 2) == {}
    assert records.by_name == {}


def test_the_order_of_writing_is_safe() -> None:
    records = Records()
    for seq, event in enumerate(domain.decide_issue(None, issue(), stamp()), start=1):
        records.apply(event, seq)
    secret = secret_kv("p1", "d" * 64)
    groups = in_order([secret, "s.p1.dead", key_kv(KEY), "k.dead", secret, "o.default", "t.gone"], records)
    assert groups == [["s.p1.dead"], [key_kv(KEY)], [secret], ["k.dead"], ["t.gone"], ["o.default"]]


STEPS = st.lists(
    st.sampled_from(
        ["update", "budget", "unbudget", "block", "unblock", "delete", "models", "rates", "attach", "detach"]
    ),
    max_size=12,
)


def attach(n: int) -> MoneyChange:
    terms = BudgetTerms(main=WindowTerms(limit_nusd=n))
    return MoneyChange(attach=Attachment(budget_id="b", version=n, terms=terms, limits=Limits(rpm=5)))


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_records_and_state_agree(steps: list[str]) -> None:
    """The proxies' record, folded from the wire, is what auth's own state says."""
    records, state, seq = Records(), None, 0
    pending = domain.decide_issue(None, issue(budget=BudgetPatch(limit_nusd=7)), stamp())
    for n, step in enumerate(["issue", *steps], start=1):
        commands = {
            "update": update(n, alias=f"a{n}"),
            "models": update(n, models=(f"m{n}",)),
            "budget": update(n, budget=BudgetPatch(limit_nusd=n, duration=f"{n}d")),
            "unbudget": update(n, budget=BudgetPatch(limit_nusd=None)),
            "rates": update(n, rates=RatePatch(rpm=n, model_tpm={"m*": n})),
            "attach": UpdateKey(account=AccountId(f"acct_{n}"), change=ScopeChange(money=attach(n))),
            "detach": UpdateKey(account=AccountId(f"acct_{n}"), change=ScopeChange(money=MoneyChange(attach=None))),
        }
        try:
            if step == "block":
                pending = domain.decide_block(state, stamp(n))
            elif step == "unblock":
                pending = domain.decide_unblock(state, stamp(n), entry=None)
            elif step == "delete":
                pending = domain.decide_delete(state, stamp(n))
            elif step != "issue":
                pending = domain.decide_update(state, commands[step], stamp(n))
        except ApiError as refusal:
            assert state is not None
            mixing = refusal.status == 400 and state.budget_id is not None and "budget" in step
            assert mixing or state.deleted_at is not None, "only a dead key, and mixing, are refused"
            continue
        for event in pending:
            seq += 1
            state = domain.evolve(state, event)
            records.apply(decode_auth(encode(event)), seq)
        assert state is not None
        record = records.key(KEY)
        if state.deleted_at is not None:
            assert records.by_name == {}
            continue
        assert record is not None
        assert (record.alias, record.models, record.blocked) == (state.alias, state.models, state.blocked)
        assert record.budgets == state.budgets
        assert record.expires_at == state.expires_at
        assert record.limits == tightest(state.limits, state.lent)
        assert record.model_limits == state.model_limits
        assert set(records.secrets_of(KEY)) == {secret_kv(s.label, s.digest) for s in state.secrets}
