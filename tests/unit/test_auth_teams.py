"""Teams and organizations: blocked, deleted, their members; and which keys a user may have."""

from datetime import UTC, datetime

import msgspec
import pytest

from services.auth.domain import org, team
from services.auth.domain.accounts import Owner
from services.auth.domain.budget import BudgetPatch
from services.auth.domain.members import MEMBERS_MAX, allowed_role, with_added
from services.auth.domain.org import CreateOrg, OrgState, UpdateOrg
from services.auth.domain.scope import Attachment, MoneyChange, ScopeChange
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import CreateTeam, TeamState, UpdateTeam
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    BudgetTerms,
    Member,
    MemberRole,
    OrgBlocked,
    OrgCreated,
    OrgDeleted,
    OrgUnblocked,
    TeamBlocked,
    TeamCreated,
    TeamDeleted,
    TeamMembersChanged,
    TeamUnblocked,
    UserRole,
)
from shared.ids import DEFAULT_ORG, AccountId, EventId, OrgId, TeamId, UserId
from shared.policy import Reach, Role

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNT = AccountId("acct_1")
ANN, BOB = Member(user_id=UserId("ann"), role="admin"), Member(user_id=UserId("bob"))


def stamp(n: int = 0) -> Stamp:
    ids = tuple(EventId(f"00000000-0000-7000-8000-{n:06d}{index:06d}") for index in range(6))
    return Stamp(at=AT.replace(minute=n), source="auth/test", actor=f"actor{n}", ids=ids)


def create(*, again: bool = False, blocked: bool = False, members: tuple[Member, ...] = ()) -> CreateTeam:
    change = ScopeChange(alias="a", tags=("x",), model_aliases={"fast": "gpt-4o-mini"})
    return CreateTeam(
        team_id=TeamId("t"),
        org_id=DEFAULT_ORG,
        account=ACCOUNT,
        change=change,
        members=members,
        blocked=blocked,
        again=again,
    )


def fold(events: list[AnyAuthEvent], state: TeamState | None = None) -> TeamState:
    for event in events:
        state = team.evolve(state, event)
    assert state is not None
    return state


def fold_org(events: list[AnyAuthEvent], state: OrgState | None = None) -> OrgState:
    for event in events:
        state = org.evolve(state, event)
    assert state is not None
    return state


def kinds(events: list[AnyAuthEvent]) -> list[type]:
    return [type(event) for event in events]


def test_a_team_is_made_with_everything_at_once() -> None:
    events = team.decide_create(None, create(blocked=True, members=(ANN, BOB)), stamp())
    assert kinds(events) == [TeamCreated, TeamMembersChanged, TeamBlocked]
    assert len({event.id for event in events}) == 3
    state = fold(events)
    assert (state.blocked, state.members, state.tags) == (True, (ANN, BOB), ("x",))
    assert state.model_aliases == {"fast": "gpt-4o-mini"}


def test_the_same_request_again_finds_its_own_team() -> None:
    state = fold(team.decide_create(None, create(members=(ANN,)), stamp()))
    assert team.decide_create(state, create(members=(ANN,), again=True), stamp()) == []
    for command, by in ((create(members=(ANN,)), 0), (create(again=True), 0), (create(members=(ANN,), again=True), 1)):
        with pytest.raises(ApiError) as refusal:
            team.decide_create(state, command, stamp(by))
        assert refusal.value.code == "team_exists"
    gone = fold(team.decide_delete(state, stamp(1)), state)
    with pytest.raises(ApiError, match="an id is given once"):
        team.decide_create(gone, create(members=(ANN,), again=True), stamp())
    other = fold_org(org.decide_create(None, CreateOrg(org_id=OrgId("o"), account=ACCOUNT), stamp()))
    assert org.decide_create(other, CreateOrg(org_id=OrgId("o"), account=ACCOUNT, again=True), stamp()) == []
    with pytest.raises(ApiError, match="exists already"):
        org.decide_create(other, CreateOrg(org_id=OrgId("o"), account=ACCOUNT, again=True), stamp(1))


def test_a_team_is_blocked_and_unblocked() -> None:
    state = fold(team.decide_create(None, create(), stamp()))
    assert team.decide_unblock(state, stamp(1), entry=None) == []
    assert kinds(team.decide_unblock(state, stamp(1), entry=AT)) == [TeamUnblocked], "an entry nobody recorded"
    blocked = fold(team.decide_block(state, stamp(1)), state)
    assert blocked.blocked
    assert team.decide_block(blocked, stamp(2)) == []
    free = fold(team.decide_unblock(blocked, stamp(3), entry=None), blocked)
    assert (free.blocked, free.unblocked_at) == (False, AT.replace(minute=3))
    with pytest.raises(ApiError, match="POST /team/block"):
        team.decide_update(free, UpdateTeam(team_id=TeamId("t"), account=ACCOUNT, blocked=True), stamp(4))
    assert team.decide_update(free, UpdateTeam(team_id=TeamId("t"), account=ACCOUNT, blocked=False), stamp(4)) == []


def test_an_unblock_is_not_older_than_the_block_that_it_lifts() -> None:
    """Which was written by somebody whose clock is ahead."""
    ahead = AT.replace(minute=5)
    made = fold(team.decide_create(None, create(blocked=True), stamp()))
    assert fold(team.decide_unblock(made, stamp(3), entry=ahead), made).unblocked_at == ahead
    assert fold(team.decide_unblock(made, stamp(6), entry=ahead), made).unblocked_at == AT.replace(minute=6)
    other = fold_org(org.decide_create(None, CreateOrg(org_id=OrgId("o"), account=ACCOUNT, blocked=True), stamp()))
    assert fold_org(org.decide_unblock(other, stamp(3), entry=ahead), other).unblocked_at == ahead


def test_a_deleted_team_is_as_one_that_never_was() -> None:
    state = fold(team.decide_create(None, create(members=(ANN,)), stamp()))
    events = team.decide_delete(state, stamp(1))
    assert kinds(events) == [TeamDeleted]
    gone = fold(events, state)
    assert (gone.deleted_at, gone.members) == (AT.replace(minute=1), ())
    assert team.decide_delete(gone, stamp(2)) == []
    attachment = Attachment(budget_id="b", version=9, terms=BudgetTerms())
    assert team.decide_follow(gone, attachment, ACCOUNT, stamp(2)) == []
    said: list[str] = []
    for dead in (None, gone):
        with pytest.raises(ApiError) as refusal:
            team.decide_update(dead, UpdateTeam(team_id=TeamId("t"), account=ACCOUNT), stamp(2))
        said.append(str(refusal.value.body()))
        assert refusal.value.status == 404
        with pytest.raises(ApiError):
            team.decide_block(dead, stamp(2))
        with pytest.raises(ApiError):
            team.decide_unblock(dead, stamp(2), entry=AT)
    assert said[0] == said[1]
    with pytest.raises(ApiError):
        team.decide_delete(None, stamp(2))


def test_an_organization_is_blocked_and_deleted() -> None:
    state = fold_org(org.decide_create(None, CreateOrg(org_id=OrgId("o"), account=ACCOUNT, blocked=True), stamp()))
    assert state.blocked
    assert org.decide_block(state, stamp(1)) == []
    free = fold_org(org.decide_unblock(state, stamp(1), entry=None), state)
    assert (free.blocked, free.unblocked_at) == (False, AT.replace(minute=1))
    assert kinds(org.decide_unblock(free, stamp(2), entry=AT)) == [OrgUnblocked]
    assert kinds(org.decide_block(free, stamp(2))) == [OrgBlocked]
    with pytest.raises(ApiError, match="POST /organization/block"):
        org.decide_update(free, UpdateOrg(org_id=OrgId("o"), account=ACCOUNT, blocked=True), stamp(2))
    events = org.decide_delete(free, stamp(3))
    assert kinds(events) == [OrgDeleted]
    gone = fold_org(events, free)
    assert org.decide_delete(gone, stamp(4)) == []
    for dead in (None, gone):
        with pytest.raises(ApiError) as refusal:
            org.decide_update(dead, UpdateOrg(org_id=OrgId("o"), account=ACCOUNT), stamp(4))
        assert refusal.value.status == 404


def test_the_built_in_organization_stays() -> None:
    events = org.decide_create(None, CreateOrg(org_id=DEFAULT_ORG, account=ACCOUNT), stamp())
    assert kinds(events) == [OrgCreated]
    state = fold_org(events)
    for refused in (org.decide_block, org.decide_delete):
        with pytest.raises(ApiError, match="built in"):
            refused(state, stamp(1))


def test_members_come_and_go() -> None:
    state = fold(team.decide_create(None, create(), stamp()))
    joined = fold(team.decide_add_members(state, "t", [ANN, BOB], stamp(1)), state)
    assert joined.members == (ANN, BOB)
    assert team.decide_add_members(joined, "t", [BOB], stamp(2)) == []
    with pytest.raises(ApiError) as refusal:
        team.decide_add_members(joined, "t", [Member(user_id=UserId("bob"), role="admin")], stamp(2))
    assert refusal.value.code == "already_member"
    promoted = fold(team.decide_member_role(joined, "t", UserId("bob"), "admin", stamp(2)), joined)
    assert [member.role for member in promoted.members] == ["admin", "admin"]
    assert team.decide_member_role(promoted, "t", UserId("bob"), "admin", stamp(3)) == []
    left = fold(team.decide_remove_members(promoted, "t", [UserId("ann")], stamp(3)), promoted)
    assert [member.user_id for member in left.members] == ["bob"]
    assert team.decide_remove_members(left, "t", [UserId("ann")], stamp(4)) == []
    with pytest.raises(ApiError) as refusal:
        team.decide_member_role(left, "t", UserId("ann"), "user", stamp(4))
    assert refusal.value.code == "member_not_found"
    with pytest.raises(ApiError, match="at most"):
        with_added((), [Member(user_id=UserId(f"u{n}")) for n in range(MEMBERS_MAX + 1)])


def test_an_event_says_what_changed_and_not_who_is_there() -> None:
    """However large the team is: 1,000 members come in one event, and each further change is small."""
    many = [Member(user_id=UserId(f"user_{n:06d}")) for n in range(MEMBERS_MAX)]
    state = fold(team.decide_create(None, create(), stamp()))
    (all_of_them,) = team.decide_add_members(state, "t", many, stamp(1))
    full = fold([all_of_them], state)
    assert full.members == tuple(many)

    (left,) = team.decide_remove_members(full, "t", [many[7].user_id], stamp(2))
    assert isinstance(left, TeamMembersChanged)
    assert (left.joined, left.left) == ((), (many[7].user_id,))
    (promoted,) = team.decide_member_role(full, "t", many[9].user_id, "admin", stamp(2))
    assert isinstance(promoted, TeamMembersChanged)
    assert (promoted.joined, promoted.left) == ((Member(user_id=many[9].user_id, role="admin"),), ())
    assert max(len(msgspec.json.encode(event)) for event in (left, promoted)) < 400
    after = fold([promoted], fold([left], full))
    assert [member.user_id for member in after.members] == [one.user_id for one in many if one != many[7]]
    assert [member.user_id for member in after.members if member.role == "admin"] == [many[9].user_id]


def test_many_join_at_once_each_for_themselves() -> None:
    few = [Member(user_id=UserId(f"u{n}")) for n in range(MEMBERS_MAX - 2)]
    state = fold(team.decide_create(None, create(members=(ANN, *few)), stamp()))
    other = Member(user_id=ANN.user_id, role="user")
    late = Member(user_id=UserId("late"))
    events, refusals = team.decide_add_each(state, "t", [other, BOB, late, BOB], stamp(1))
    assert [None if refusal is None else refusal.code for refusal in refusals] == [
        "already_member",
        None,
        "invalid_value",
        None,
    ]
    (event,) = events
    assert isinstance(event, TeamMembersChanged)
    assert event.joined == (BOB,)
    assert team.decide_add_each(fold(events, state), "t", [BOB], stamp(2)) == ([], (None,))


def test_budgets_travel_beside() -> None:
    state = fold(team.decide_create(None, create(), stamp()))
    change = ScopeChange(tags=(), money=MoneyChange(patch=BudgetPatch(limit_nusd=5)))
    after = fold(
        team.decide_update(state, UpdateTeam(team_id=TeamId("t"), account=ACCOUNT, change=change), stamp(1)), state
    )
    assert (after.tags, after.model_aliases, len(after.budgets)) == ((), {"fast": "gpt-4o-mini"}, 1)
    assert team.owner(TeamId("t"), ACCOUNT) == Owner(kind="team", scope_id="t", fresh=ACCOUNT)


@pytest.mark.parametrize(
    ("user_role", "role", "reach", "member_role", "allowed"),
    [
        ("internal_user", None, None, None, True),
        ("internal_user_viewer", None, None, "user", True),
        ("proxy_admin", "admin", "all", None, True),
        ("proxy_admin", "team_admin", "team", "user", True),
        ("proxy_admin_viewer", "viewer", "all", None, True),
        ("proxy_admin_viewer", "team_admin", "team", "admin", False),
        ("proxy_admin_viewer", "admin", "all", None, False),
        ("internal_user", "admin", "all", None, False),
        ("internal_user", "org_admin", "org", None, False),
        ("internal_user", "team_admin", "team", "admin", True),
        ("internal_user", "team_admin", "team", "user", False),
        ("internal_user", "team_admin", "team", None, False),
        ("internal_user", "viewer", "team", "user", True),
        ("internal_user_viewer", "viewer", "team", "user", True),
        ("internal_user_viewer", "team_admin", "team", "admin", False),
    ],
)
def test_which_role_keys_a_user_may_have(
    user_role: UserRole, role: Role | None, reach: Reach | None, member_role: MemberRole | None, allowed: bool
) -> None:
    assert (allowed_role(user_role, role, reach, member_role) is None) is allowed
