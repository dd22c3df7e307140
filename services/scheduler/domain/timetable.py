"""The timetable of rotation as a fold of auth's events: when the secret of each key is due to be replaced.

A plan's `next_due_at` moves in two ways only: an event sets another interval or anchor, or a due instant is decided.
"""

from datetime import datetime

import msgspec

from shared.events import (
    AnyAuthEvent,
    AnyOrgEvent,
    AnyTeamEvent,
    KeyBlocked,
    KeyDeleted,
    KeyIssued,
    KeyRotationSet,
    KeySecretMinted,
    KeyUnblocked,
    KeyUpdated,
    OrgBlocked,
    OrgCreated,
    OrgDeleted,
    OrgUnblocked,
    TeamBlocked,
    TeamCreated,
    TeamDeleted,
    TeamUnblocked,
)
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import Reach, ScopeKind
from shared.rotation import due_count, interval_of, latest_due, next_due
from shared.windows import WindowError

KeyEvent = (
    KeyIssued | KeyUpdated | KeyBlocked | KeyUnblocked | KeyDeleted | KeyRotationSet | KeySecretMinted
)  # fmt: skip
ScopeEvent = AnyOrgEvent | AnyTeamEvent
SCOPE_EVENTS = (
    OrgCreated, OrgBlocked, OrgUnblocked, OrgDeleted, TeamCreated, TeamBlocked, TeamUnblocked, TeamDeleted,
)  # fmt: skip
KEY_EVENTS = (KeyIssued, KeyUpdated, KeyBlocked, KeyUnblocked, KeyDeleted, KeyRotationSet, KeySecretMinted)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Without `interval` nothing is ever due. A deleted key keeps its plan for a while, so that what was heard
    of it can still be placed."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None = None
    reach: Reach | None = None
    alias: str | None = None
    blocked: bool = False
    expires_at: datetime | None = None
    deleted_at: datetime | None = None
    interval: str | None = None
    interval_s: int | None = None
    anchor: datetime | None = None
    next_due_at: datetime | None = None
    version: int = 0
    minted_at: datetime | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A team or an organization: where it belongs, and whether its keys are held back."""

    kind: ScopeKind
    scope_id: str
    org_id: OrgId
    blocked: bool = False
    deleted_at: datetime | None = None


class Minted(msgspec.Struct, frozen=True, kw_only=True):
    """A due instant was acted upon: the version that came of it."""

    key_id: KeyId
    due_at: datetime
    version: int
    at: datetime


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that a key is due. `missed`: due instants before it that nothing came of, made good by this one."""

    key_id: KeyId
    due_at: datetime
    missed: int
    next_due_at: datetime


def key_of(event: AnyAuthEvent) -> KeyId | None:
    """Whose plan an event changes; None for one that changes no key's plan."""
    return event.key_id if isinstance(event, KEY_EVENTS) else None


def place_of(event: AnyAuthEvent) -> tuple[ScopeKind, str] | None:
    """Which team or organization an event is about; None where it says nothing of one."""
    match event:
        case TeamCreated() | TeamBlocked() | TeamUnblocked() | TeamDeleted():
            return "team", event.team_id
        case OrgCreated() | OrgBlocked() | OrgUnblocked() | OrgDeleted():
            return "org", event.org_id
        case _:
            return None


def evolve_plan(plan: Plan | None, event: AnyAuthEvent) -> Plan | None:
    """A key's plan after an event; None while nothing is known of the key."""
    if isinstance(event, KeyIssued):
        return Plan(
            key_id=event.key_id,
            org_id=event.org_id,
            team_id=event.team_id,
            reach=event.reach,
            alias=event.alias,
            expires_at=event.expires_at,
        )
    if plan is None:
        return None
    replace = msgspec.structs.replace
    match event:
        case KeyUpdated():
            return replace(plan, reach=event.reach, alias=event.alias, expires_at=event.expires_at)
        case KeyBlocked() | KeyUnblocked():
            return replace(plan, blocked=isinstance(event, KeyBlocked))
        case KeyDeleted():
            return replace(_unscheduled(plan), deleted_at=event.at)
        case KeyRotationSet():
            return _scheduled(plan, event)
        case KeySecretMinted():
            return replace(plan, version=event.version, minted_at=event.at)
        case _:
            return plan


def evolve_place(place: Place | None, event: AnyAuthEvent) -> Place | None:
    """A team or an organization after an event; None while nothing is known of it."""
    match event:
        case TeamCreated():  # an update too
            fresh = Place(kind="team", scope_id=event.team_id, org_id=event.org_id)
            return fresh if place is None else msgspec.structs.replace(place, org_id=event.org_id)
        case OrgCreated():
            return place or Place(kind="org", scope_id=event.org_id, org_id=event.org_id)
        case _ if place is None:
            return None
        case TeamBlocked() | OrgBlocked():
            return msgspec.structs.replace(place, blocked=True)
        case TeamUnblocked() | OrgUnblocked():
            return msgspec.structs.replace(place, blocked=False)
        case TeamDeleted() | OrgDeleted():
            return msgspec.structs.replace(place, deleted_at=event.at)
        case _:
            return place


def minted(event: AnyAuthEvent) -> Minted | None:
    """What an event says of a due instant."""
    if not isinstance(event, KeySecretMinted) or event.due_at is None:
        return None
    return Minted(key_id=event.key_id, due_at=event.due_at, version=event.version, at=event.at)


def decide(plan: Plan, now: datetime) -> Run | None:
    """The newest due instant of a plan, with those before it that were missed; None when nothing is due."""
    if plan.anchor is None or plan.interval is None or plan.next_due_at is None or plan.next_due_at > now:
        return None
    interval = interval_of(plan.interval)
    at = latest_due(plan.anchor, interval, now)
    if at is None or at < plan.next_due_at:
        return None
    return Run(
        key_id=plan.key_id,
        due_at=at,
        missed=due_count(plan.next_due_at, at, interval) - 1,
        next_due_at=next_due(plan.anchor, interval, now),
    )


def _scheduled(plan: Plan, event: KeyRotationSet) -> Plan:
    """The plan with the schedule of an event. The same schedule again loses nothing that is due."""
    terms = event.rotation
    if terms is None or terms.interval is None or plan.deleted_at is not None:
        return _unscheduled(plan)
    anchor = terms.anchor or event.at
    if (terms.interval, anchor) == (plan.interval, plan.anchor):
        return plan
    try:
        interval = interval_of(terms.interval)
    except WindowError:  # auth refuses such a thing; a plan that nobody can read is none
        return _unscheduled(plan)
    return msgspec.structs.replace(
        plan,
        interval=terms.interval,
        interval_s=int(interval.total_seconds()),
        anchor=anchor,
        next_due_at=next_due(anchor, interval, event.at),
    )


def _unscheduled(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, interval=None, interval_s=None, anchor=None, next_due_at=None)
