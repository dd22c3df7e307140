"""What is written down of stored objects: the record that lists are made of, and work that is still to be charged."""

from datetime import datetime
from typing import Literal

import msgspec

from shared.ids import CallId, InstanceId, KeyId, OrgId, TeamId
from shared.policy import Budget

RecordKind = Literal["file", "batch"]
PendingKind = Literal["batch", "response"]
PendingState = Literal["creating", "running", "open", "booked"]

TERMINAL_BATCH = ("completed", "failed", "expired", "cancelled")
TERMINAL_RESPONSE = ("completed", "incomplete", "failed", "cancelled")


class ObjectRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file or a batch of an owner's, as Foundry last showed it (`said`, with Foundry's ids).

    Of a batch's input file: how many lines it has, for which operation, and what they are likely to cost together.
    """

    kind: RecordKind
    deployment: str
    upstream: str
    model: str
    key_id: KeyId
    org_id: OrgId
    created_at: datetime
    said: msgspec.Raw
    team_id: TeamId | None = None
    purpose: str = ""
    filename: str = ""
    lines: int = 0
    endpoint: str = ""
    estimate_nusd: int = 0
    prompt_tokens: int = 0


class Pending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Work that Foundry does, or may do, for a key, and that is charged when it is done.

    `upstream` is the id in Foundry, empty while it is not known whether Foundry has taken the work on (`creating`).
    `estimate_nusd` is charged if Foundry has lost the result. `budgets` are those in force when it began, for a key
    that is gone by its end; `secret_version` and `tags` are those of the call that began it. A watcher that has claimed
    it is alone with it until `claimed_ms`; `next_ms` is when to look again (Unix milliseconds both). `running`: the
    process that made the response charges it, or its journal does.
    """

    kind: PendingKind
    state: PendingState
    owner: str = ""
    deployment: str = ""
    upstream: str = ""
    model: str = ""
    endpoint: str = ""
    call_id: CallId = CallId("")
    key_id: KeyId = KeyId("")
    org_id: OrgId = OrgId("")
    team_id: TeamId | None = None
    partition: int = 0
    budgets: tuple[Budget, ...] = ()
    started_at: datetime | None = None
    input: str = ""
    estimate_nusd: int = 0
    prompt_tokens: int = 0
    lines: int = 0
    tier: str = ""
    secret_version: int = 0
    tags: tuple[str, ...] = ()
    claimed_by: str = ""
    claimed_ms: int = 0
    next_ms: int = 0
    looks: int = 0


class Slot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is being charged in a partition: `events` (encoded) with the numbers up to `last`, for the work at `key`.

    `instance` is the name under which all of them are published, and the numbers are dense under it for ever.
    """

    instance: InstanceId
    last: int = 0
    key: str = ""
    events: tuple[msgspec.Raw, ...] = ()


def record_of(pending: Pending, said: bytes, upstream: str) -> ObjectRecord:
    """The record of a batch that has begun."""
    assert pending.started_at is not None
    return ObjectRecord(
        kind="batch",
        deployment=pending.deployment,
        upstream=upstream,
        model=pending.model,
        key_id=pending.key_id,
        org_id=pending.org_id,
        team_id=pending.team_id,
        created_at=pending.started_at,
        said=msgspec.Raw(said),
        endpoint=pending.endpoint,
        estimate_nusd=pending.estimate_nusd,
        lines=pending.lines,
    )
