"""SIGNALS: what people and integrations hear."""

from datetime import datetime
from typing import Literal

from shared.events.envelope import Event
from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.policy import ScopeKind


class BudgetSignal(Event, frozen=True, kw_only=True):
    """What people and integrations hear about a budget. `id` is derived from scope, window and threshold."""

    scope_kind: ScopeKind
    scope_id: str
    account: AccountId
    window_index: int
    window_start: datetime
    window_end: datetime | None
    limit_nusd: int | None
    spent_nusd: int
    alias: str | None = None
    model: str | None = None
    duration: str = ""


class BudgetThresholdReached(BudgetSignal, frozen=True, kw_only=True, tag="budget.threshold_reached.v1"):
    """Spend reached a soft limit."""

    threshold: str
    threshold_nusd: int


class BudgetExceeded(BudgetSignal, frozen=True, kw_only=True, tag="budget.exceeded.v1"):
    """The first call of a window was refused because the budget does not cover it, or all of it is spent."""


class BudgetRestored(BudgetSignal, frozen=True, kw_only=True, tag="budget.restored.v1"):
    """A budget that was exceeded has room again: by a new window, or by a raised limit or a correction."""

    cause: Literal["new_window", "more_room"]


class KeySignal(Event, frozen=True, kw_only=True):
    """What is heard about one key: where it belongs, and never anything of its secrets."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None = None
    alias: str | None = None
    version: int = 0


class RotationDelivered(KeySignal, frozen=True, kw_only=True, tag="rotation.delivered.v1"):
    """The new secret of a key reached its owner by `target`; the one before works until `old_ends_at`."""

    target: str
    old_ends_at: datetime | None = None


class RotationFailed(KeySignal, frozen=True, kw_only=True, tag="rotation.failed.v1"):
    """The new secret could not be delivered; it is tried again, and the old one goes on working as `old_ends_at` says
    (None: until the delivery succeeds)."""

    target: str
    reason: str
    attempts: int
    old_ends_at: datetime | None = None


class KeyLeaked(KeySignal, frozen=True, kw_only=True, tag="key.leaked.v1"):
    """A secret of the key leaked. `action` is what was done: it is revoked, or replaced and works until `old_ends_at`.

    `reporter` is who said so, as the audit log has it. `found_by` and `found_at` are what a reporter told of themselves
    and of the place; nobody checked it.
    """

    action: Literal["revoked", "rotated"]
    reporter: str
    found_by: str = ""
    found_at: str = ""
    old_ends_at: datetime | None = None


class KeyCollectedAgain(KeySignal, frozen=True, kw_only=True, tag="key.collected_again.v1"):
    """A new secret was asked for a second time with the same old one: somebody else may have it. `blocked`: the key
    was blocked because of it."""

    blocked: bool = False
