"""The timetable of rotation as a fold of auth's events, and the decision about what is due."""

from datetime import timedelta
from typing import Any

import msgspec

from services.scheduler.domain.timetable import (
    Place,
    Plan,
    decide,
    evolve_place,
    evolve_plan,
    key_of,
    minted,
    place_of,
)
from shared.events import (
    AnyAuthEvent,
    KeyBlocked,
    KeyDeleted,
    KeyRotationSet,
    KeySecretMinted,
    KeyUnblocked,
    KeyUpdated,
    OrgBlocked,
    OrgDeleted,
    RotationTerms,
    TeamBlocked,
    TeamDeleted,
    TeamUnblocked,
    TeamUpdated,
    UserDeleted,
)
from shared.ids import UserId
from tests.support.timetable import KEY, ORG, START, TEAM, issued, org, scheduled, team, told

MINUTE = timedelta(minutes=1)


def plan_of(*events: AnyAuthEvent) -> Plan:
    plan = None
    for event in events:
        assert key_of(event) == KEY
        plan = evolve_plan(plan, event)
    assert plan is not None
    return plan


def place_after(*events: AnyAuthEvent) -> Place:
    place = None
    for event in events:
        assert place_of(event) is not None
        place = evolve_place(place, event)
    assert place is not None
    return place


def test_a_key_without_a_schedule_is_never_due() -> None:
    plan = plan_of(issued())
    assert (plan.org_id, plan.team_id, plan.next_due_at) == (ORG, TEAM, None)
    assert decide(plan, START + timedelta(days=9_999)) is None


def test_a_schedule_is_due_an_interval_after_its_anchor() -> None:
    plan = plan_of(issued(), scheduled())
    assert (plan.interval, plan.interval_s, plan.next_due_at) == ("1m", 60, START + MINUTE)
    assert decide(plan, START + MINUTE - timedelta(microseconds=1)) is None
    run = decide(plan, START + MINUTE)
    assert run is not None
    assert (run.due_at, run.missed, run.next_due_at) == (START + MINUTE, 0, START + 2 * MINUTE)


def test_missed_instants_are_made_good_by_the_newest() -> None:
    run = decide(plan_of(issued(), scheduled()), START + 10 * MINUTE + timedelta(seconds=59))
    assert run is not None
    assert (run.due_at, run.missed, run.next_due_at) == (START + 10 * MINUTE, 9, START + 11 * MINUTE)


def test_the_same_schedule_again_loses_nothing_that_is_due() -> None:
    late = START + 5 * MINUTE
    plan = plan_of(issued(), scheduled())
    same = plan_of(issued(), scheduled(), scheduled(at=late))
    assert same == plan
    other = plan_of(issued(), scheduled(), scheduled(interval="2m", at=late))
    assert other.next_due_at == START + 6 * MINUTE, "another schedule begins when it is set"


def test_a_schedule_ends_with_the_terms_and_with_the_key() -> None:
    gone = KeyRotationSet(**told(), key_id=KEY, rotation=None)
    exchange_only = KeyRotationSet(**told(), key_id=KEY, rotation=RotationTerms(exchange=True))
    unreadable = scheduled(interval="7s")
    for last in (gone, exchange_only, unreadable):
        plan = plan_of(issued(), scheduled(), last)
        assert (plan.interval, plan.next_due_at) == (None, None)
    dead = plan_of(issued(), scheduled(), KeyDeleted(**told(START + MINUTE), key_id=KEY), scheduled(interval="3m"))
    assert (dead.next_due_at, dead.deleted_at, dead.org_id) == (None, START + MINUTE, ORG)


def test_what_is_known_of_a_key_follows_its_events() -> None:
    ends = START + timedelta(days=1)
    plan = plan_of(
        issued(),
        scheduled(),
        KeyUpdated(**told(), key_id=KEY, alias="other", expires_at=ends),
        KeyBlocked(**told(), key_id=KEY),
        KeySecretMinted(**told(ends), key_id=KEY, version=3, label="p", digest="d", hint="h", due_at=START + MINUTE),
    )
    assert (plan.alias, plan.expires_at, plan.blocked, plan.version, plan.minted_at) == ("other", ends, True, 3, ends)
    assert plan.next_due_at == START + MINUTE
    free = evolve_plan(plan, KeyUnblocked(**told(), key_id=KEY))
    assert free == msgspec.structs.replace(plan, blocked=False)
    assert evolve_plan(None, KeyBlocked(**told(), key_id=KEY)) is None


def test_what_came_of_an_instant_is_told_by_the_secret_that_was_made() -> None:
    values: dict[str, Any] = {"key_id": KEY, "version": 2, "label": "p", "digest": "d", "hint": "h"}
    asked = KeySecretMinted(**told(START + MINUTE), **values)
    assert minted(asked) is None
    by_clock = msgspec.structs.replace(asked, due_at=START)
    fact = minted(by_clock)
    assert fact is not None
    assert (fact.key_id, fact.due_at, fact.version, fact.at) == (KEY, START, 2, START + MINUTE)


def test_places_are_blocked_unblocked_and_deleted() -> None:
    assert place_after(org()) == Place(kind="org", scope_id=ORG, org_id=ORG)
    blocked = place_after(team(), TeamBlocked(**told(), team_id=TEAM))
    assert blocked == Place(kind="team", scope_id=TEAM, org_id=ORG, blocked=True)
    assert evolve_place(blocked, TeamUpdated(**told(), team_id=TEAM, org_id=ORG)) == blocked
    assert evolve_place(blocked, TeamUnblocked(**told(), team_id=TEAM)) == place_after(team())
    assert place_after(team(), TeamDeleted(**told(), team_id=TEAM)).deleted_at == START
    assert place_after(org(), OrgBlocked(**told(), org_id=ORG), OrgDeleted(**told(), org_id=ORG)).deleted_at == START
    assert evolve_place(None, TeamBlocked(**told(), team_id=TEAM)) is None


def test_other_events_concern_no_plan() -> None:
    event = UserDeleted(**told(), user_id=UserId("u"))
    assert (key_of(event), place_of(event), minted(event)) == (None, None, None)
