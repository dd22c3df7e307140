"""Who is who to the ledger: deleted teams and organizations close what is theirs, and who sees what is found here."""

from typing import Any

import msgspec
import pytest

from services.ledger.domain.directory import Directory, Realm, learn
from shared.events import (
    AnyAuthEvent,
    BudgetSet,
    KeyDeleted,
    KeyRotationSet,
    KeySecretRetired,
    OrgBlocked,
    OrgDeleted,
    TeamDeleted,
    TeamMembersChanged,
    TeamUpdated,
    UserCreated,
    UserDeleted,
)
from shared.ids import KeyId, OrgId, TeamId, UserId
from tests.support.ledger import EPOCH, KEY, ORG, TEAM, Desk, ask, budget, budget_set, event_id, key_issued, org_created
from tests.support.ledger import team_created as team

OTHER = KeyId("key_other")
TEAM_2 = TeamId("team_2")
ORG_2 = OrgId("org_2")


def envelope() -> dict[str, Any]:
    return {"id": event_id(), "at": EPOCH, "source": "auth", "actor": "test"}


def directory(*events: AnyAuthEvent) -> Directory:
    found = Directory()
    for event in (
        *(org_created(), team(), team(TEAM_2, ORG_2)),
        *(key_issued(), key_issued(OTHER, TEAM_2, ORG_2), key_issued(KeyId("alone"), None)),
        *(budget_set(budget(KEY, 10)), budget_set(budget(TEAM, 20, kind="team"), kind="team", scope_id=TEAM)),
        budget_set(budget(ORG, 30, kind="org"), kind="org", scope_id=ORG),
        *events,
    ):
        learn(found, event)
    return found


@pytest.mark.parametrize(
    ("event", "open_keys"),
    [
        (None, [KEY, OTHER, "alone"]),
        (KeyDeleted(**envelope(), key_id=KEY), [OTHER, "alone"]),
        (TeamDeleted(**envelope(), team_id=TEAM), [OTHER, "alone"]),
        (OrgDeleted(**envelope(), org_id=ORG), [OTHER]),
        (OrgDeleted(**envelope(), org_id=ORG_2), [KEY, "alone"]),
    ],
)
def test_keys_of_what_is_deleted_have_no_lineage(event: AnyAuthEvent | None, open_keys: list[str]) -> None:
    found = directory(*(() if event is None else (event,)))
    assert [key for key in (KEY, OTHER, "alone") if found.lineage(key) is not None] == open_keys


def test_accounts_of_what_is_deleted_are_closed() -> None:
    found = directory(TeamDeleted(**envelope(), team_id=TEAM))
    closed = {one.scope_kind for one in found.budgets.values() if found.deleted(one)}
    assert closed == {"key", "team"}
    assert {one.scope_kind for one in found.budgets.values() if found.in_force(one)} == {"org"}
    found = directory(OrgDeleted(**envelope(), org_id=ORG))
    assert all(found.deleted(one) and not found.in_force(one) for one in found.budgets.values())
    assert len(found.budgets) == 3


def test_an_enforcer_grants_nothing_to_a_key_of_a_deleted_team() -> None:
    at = Desk(org_created(), team(), key_issued(), budget_set(budget(KEY, 100)))
    assert at.ask(ask(10)).verdict == "ok"
    at.learn(TeamDeleted(**envelope(), team_id=TEAM))
    assert at.ask(ask(10, serial=2)).verdict == "policy"


def test_what_is_gone_survives_a_snapshot() -> None:
    found = directory(TeamDeleted(**envelope(), team_id=TEAM))
    again = msgspec.json.decode(msgspec.json.encode(found), type=Directory)
    assert again == found
    assert again.lineage(KEY) is None


def test_events_that_do_not_concern_money_change_nothing_but_the_position() -> None:
    before = directory()
    for place, event in enumerate(
        (
            UserCreated(**envelope(), user_id=UserId("u")),
            UserDeleted(**envelope(), user_id=UserId("u")),
            TeamMembersChanged(**envelope(), team_id=TEAM),
            OrgBlocked(**envelope(), org_id=ORG),
            KeyRotationSet(**envelope(), key_id=KEY, rotation=None),
            KeySecretRetired(**envelope(), key_id=KEY, version=1, reason="leaked"),
        ),
        1,
    ):
        assert learn(before, msgspec.structs.replace(event, position=place))
    assert before.position == 6
    before.position = 0
    assert before == directory()


def test_a_team_that_is_updated_after_its_end_stays_closed() -> None:
    late = TeamUpdated(**envelope(), team_id=TEAM, org_id=ORG, alias="late")
    found = directory(TeamDeleted(**envelope(), team_id=TEAM), late)
    assert found.lineage(KEY) is None
    assert found.alias("team", TEAM) == "late"


@pytest.mark.parametrize(
    ("realm", "keys", "teams", "orgs"),
    [
        (Realm(org_id=ORG), [KEY, "alone"], [TEAM], [ORG]),
        (Realm(org_id=ORG, team_id=TEAM), [KEY], [TEAM], []),
        (Realm(org_id=ORG_2), [OTHER], [TEAM_2], [ORG_2]),
        (Realm(org_id=ORG_2, team_id=TEAM), [], [], []),
    ],
)
def test_a_realm_holds_what_belongs_to_it_deleted_or_not(
    realm: Realm, keys: list[str], teams: list[str], orgs: list[str]
) -> None:
    found = directory(KeyDeleted(**envelope(), key_id=KEY), TeamDeleted(**envelope(), team_id=TEAM))
    assert (found.within("key", realm), found.within("team", realm), found.within("org", realm)) == (keys, teams, orgs)


def test_closed_accounts_keep_their_last_word() -> None:
    empty = BudgetSet(**envelope(), scope_kind="team", scope_id=TEAM, budgets=())
    found = directory(TeamDeleted(**envelope(), team_id=TEAM), empty)
    assert any(one.scope_kind == "team" for one in found.budgets.values())
