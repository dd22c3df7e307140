"""LEDGER, from proxies: what calls cost, and an operator's corrections of it."""

from datetime import datetime
from typing import Literal

import msgspec

from shared.events.envelope import Event
from shared.ids import AccountId, CallId, InstanceId, KeyId, OrgId, PriceId, TeamId
from shared.policy import ScopeKind
from shared.pricing import PriceRow, Usage

Measured = Literal["reported", "estimated", "lost"]
Outcome = Literal["ok", "client_gone", "upstream_error", "timeout", "filtered", "unknown"]


class AccountWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One window of one account: what a call is charged to."""

    account: AccountId
    index: int


class UsageRecorded(Event, frozen=True, kw_only=True, tag="usage.recorded.v1", gc=False):
    """One call (or attempt) that has ended, with what it cost.

    `n` is dense per (instance, partition) for ever: folds skip an `n` they have seen. `serial` names the
    allotment that held the money; None where no money was held. `price` is the row itself until its put into
    the catalog is known. `raw` is Foundry's usage object, at most 4 KiB. `secret_version` is the version of the key's
    secret that was sent; 0 where that is not known.
    """

    call_id: CallId
    attempt: int
    instance: InstanceId
    partition: int
    n: int
    windows: tuple[AccountWindow, ...]
    key_id: KeyId
    org_id: OrgId
    cost_nusd: int
    held_nusd: int
    measured: Measured
    outcome: Outcome
    endpoint: str
    model: str
    deployment: str
    status: int
    started_at: datetime
    duration_ms: int
    serial: int | None = None
    team_id: TeamId | None = None
    served_model: str | None = None
    region: str | None = None
    usage: Usage = Usage()
    raw: msgspec.Raw = msgspec.Raw(b"null")
    first_byte_ms: int | None = None
    overhead_us: int | None = None
    retries: int = 0
    price_id: PriceId | None = None
    price: PriceRow | None = None
    tags: tuple[str, ...] = ()
    secret_version: int = 0


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One account-window whose spend is set right by `delta_nusd` (negative: less was spent).

    `before_nusd` is the figure of the books that the operator's was compared with, for the record.
    """

    window: AccountWindow
    delta_nusd: int
    before_nusd: int = 0


class UsageCorrected(Event, frozen=True, kw_only=True, tag="usage.corrected.v1"):
    """An operator's correction of spend. Touches the spend of the named account-windows, nothing else.

    Published by the bookkeeper under an instance of its own with dense `n`; rides in the same messages as usage.
    """

    instance: InstanceId
    partition: int
    n: int
    scope_kind: ScopeKind
    scope_id: str
    changes: tuple[Change, ...]
    actor: str
    reason: str = ""
