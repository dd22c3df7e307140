"""What the scheduler's API answers."""

from datetime import datetime

import msgspec

from services.scheduler.store import TickRow


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One job: its newest tick and when it is due next."""

    name: str
    every_s: int
    next_due_at: datetime
    last: TickRow | None


class RotationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How rotation stands: keys with a schedule, those that are due and not decided, decisions that nobody was told of,
    the next due instant and the newest decided one. `position` and `lag` are those of auth's log; `problem` says why
    it is not being followed."""

    every_s: int
    scheduled: int
    overdue: int
    unpublished: int
    next_due_at: datetime | None
    last_due_at: datetime | None
    position: int
    lag: int
    problem: str | None


class SchedulerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `leader`: this process holds the lease."""

    node: str
    leader: bool
    epoch: int | None
    jobs: list[JobStatus]
    rotation: RotationStatus


class LastRotation(msgspec.Struct, frozen=True, kw_only=True):
    """The newest due instant that was acted upon. `missed`: instants before it that it makes good. `version` is the
    version of the secret that came of it; null as long as none did."""

    due_at: datetime
    missed: int
    told_at: datetime | None
    version: int | None
    minted_at: datetime | None


class ScheduledKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key whose secret is replaced by the clock. `overdue`: `key_rotation_at` is past and nothing holds it back."""

    key_id: str
    key_alias: str | None
    organization_id: str
    team_id: str | None
    rotation_interval: str
    interval_s: int
    anchor: datetime
    key_rotation_at: datetime
    overdue: bool
    blocked: bool
    expires: datetime | None
    version: int
    last: LastRotation | None


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of keys, the next one first."""

    data: list[ScheduledKey]
    total_count: int
    current_page: int
    total_pages: int


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One signal; `signal` is the event itself, `position` its place among all signals."""

    position: int
    id: str
    at: datetime
    kind: str
    scope_kind: str
    scope_id: str
    alias: str | None
    organization_id: str | None
    team_id: str | None
    signal: msgspec.Raw


class AlertPage(msgspec.Struct, frozen=True, kw_only=True):
    """Signals, the newest first; `next` is the `before` of the page behind, null where there is none."""

    data: list[Alert]
    next: int | None
