"""What an event changed: the fields of the answers about a thing, before and after it, under LiteLLM's names."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from services.auth.answers.audit import AuditEntry
from services.auth.domain import budget_object, key, org, team, user
from services.auth.domain.actions import TABLES, action_of
from services.auth.domain.budget_object import Attached, BudgetState
from services.auth.domain.key_state import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.team import TeamState
from services.auth.domain.user import UserState
from services.auth.rows.budgets import object_row
from services.auth.rows.keys import key_row
from services.auth.rows.scopes import org_row, team_row
from services.auth.store_audit import Entry
from shared.access import Principal
from shared.events import (
    AnyAuthEvent,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRehashed,
    KeySecretRetired,
    TeamMembersChanged,
    type_of,
)

State = KeyState | TeamState | OrgState | UserState | BudgetState
Fields = dict[str, object]

_FOLDS: dict[str, Callable[[Any, AnyAuthEvent], State]] = {
    "key": key.evolve,
    "team": team.evolve,
    "org": org.evolve,
    "user": user.evolve,
    "budget": budget_object.evolve,
}
_PASSING = ("created_at", "created_by", "updated_at", "updated_by", "litellm_budget_table", "attached", "warnings")
"""Fields of answers that are about the change itself, or a copy of others."""


class Fold:
    """One stream, folded step by step: `before` and `after` each of its events."""

    def __init__(self, kind: str) -> None:
        self._evolve = _FOLDS[kind]
        self._state: State | None = None
        self.steps: list[tuple[State | None, State]] = []

    def add(self, events: Sequence[AnyAuthEvent]) -> None:
        """The next events."""
        for event in events:
            after = self._evolve(self._state, event)
            self.steps.append((self._state, after))
            self._state = after


def entry_of(entry: Entry, before: State | None, after: State | None, caller: Principal) -> AuditEntry:
    """An event as the log shows it to a caller; without states only what the event itself says."""
    kind, _, object_id = entry.stream_id.partition(":")
    event = entry.event
    old = {} if before is None else shown(before, event, caller)
    new = {} if after is None else shown(after, event, caller)
    changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    return AuditEntry(
        id=event.id,
        updated_at=event.at,
        changed_by=event.actor,
        changed_by_api_key=event.actor if event.actor.startswith("key_") else None,
        action=action_of(type_of(event), getattr(event, "version", None)),
        table_name=TABLES[kind],
        object_id=object_id,
        before_value={name: old[name] for name in sorted(changed) if name in old and before is not None},
        updated_values={name: new[name] for name in sorted(changed) if name in new and _says(new[name], before)}
        | said(event),
        cause=event.cause,
        position=entry.position,
    )


def shown(state: State, event: AnyAuthEvent, caller: Principal) -> Fields:
    """The fields of a state, as answers show them to a caller at the time of an event."""
    match state:
        case KeyState():
            row: object = key_row(state, event.at, caller=caller)
        case TeamState():
            row = team_row(state, event.at)
        case OrgState():
            row = org_row(state, event.at)
        case BudgetState():
            row = object_row(state, Attached())
        case UserState():
            row = {
                "user_email": state.email,
                "user_alias": state.alias,
                "user_role": state.role,
                "organizations": state.orgs,
                "metadata": state.metadata,
            }
    fields = cast("Fields", msgspec.to_builtins(row))
    for name in _PASSING:
        fields.pop(name, None)
    blocked, deleted_at = getattr(state, "blocked", None), getattr(state, "deleted_at", None)
    if blocked is not None:
        fields["blocked"] = blocked
    fields["deleted"] = deleted_at is not None or getattr(state, "removed", False)
    return fields


def said(event: AnyAuthEvent) -> Fields:
    """What only the event says: about versions of secrets (never their hashes), and about members."""
    match event:
        case KeySecretMinted():
            told: Fields = {"version": event.version, "key_name": event.hint}
            more: Fields = {"expires": event.not_after, "due_at": event.due_at}
        case KeySecretDelivered():
            told = {"version": event.version, "delivered": event.target}
            more = {"detail": event.detail or None}
        case KeySecretLimited():
            told, more = {"version": event.version, "expires": event.not_after}, {}
        case KeySecretRetired():
            told, more = {"version": event.version, "reason": event.reason}, {}
        case KeySecretRehashed():
            told, more = {"version": event.version, "pepper": event.label}, {}
        case TeamMembersChanged():
            told = {}
            more = {
                "members_joined": [msgspec.to_builtins(member) for member in event.joined] or None,
                "members_left": list(event.left) or None,
            }
        case _:
            told, more = {}, {}
    told |= {name: value for name, value in more.items() if value is not None}
    return cast("Fields", msgspec.to_builtins(told))


def _says(value: object, before: State | None) -> bool:
    """Whether a field of something new says anything: of its beginning only what was set is shown."""
    return before is not None or value not in (None, False, [], {}, ())
