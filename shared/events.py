"""Every event, as frozen structs in one tagged union; JSON on the wire.

The tag carries the version (`key.issued.v1`). Unknown fields are ignored, new fields have defaults, a
breaking change is a new tag with a pure upcast. Prompts, completions and secrets are never on an event.
"""

from datetime import datetime
from typing import Literal

import msgspec

from shared.ids import AccountId, CallId, EventId, InstanceId, KeyId, OrgId, PriceId, TeamId
from shared.policy import Budget, ScopeKind
from shared.pricing import PriceRow, Usage

Measured = Literal["reported", "estimated", "lost"]
Outcome = Literal["ok", "client_gone", "upstream_error", "timeout", "filtered", "unknown"]
CloseHow = Literal["final", "charged", "released"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """The envelope: `id` is a UUIDv7 and the idempotency key, `source` names program and instance."""

    id: EventId
    at: datetime
    source: str
    trace: str = ""


# ---- AUTH: decided by auth, kept whole ---------------------------------------------------------------


class AuthEvent(Event, frozen=True, kw_only=True):
    """A decision of auth. `position` is its commit order: folds skip a position they have seen."""

    actor: str
    position: int = 0
    cause: str = ""


class OrgCreated(AuthEvent, frozen=True, kw_only=True, tag="org.created.v1"):
    """A new organization."""

    org_id: OrgId
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}


class TeamCreated(AuthEvent, frozen=True, kw_only=True, tag="team.created.v1"):
    """A new team inside an organization."""

    team_id: TeamId
    org_id: OrgId
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    rpm_limit: int | None = None
    tpm_limit: int | None = None


class KeyIssued(AuthEvent, frozen=True, kw_only=True, tag="key.issued.v1"):
    """A new key; its first secret follows as `key.secret_minted.v1`."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None = None
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    expires_at: datetime | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None


class KeySecretMinted(AuthEvent, frozen=True, kw_only=True, tag="key.secret_minted.v1"):
    """A secret version of a key, by its keyed hash; `hint` is its masked form (`sk-...abcd`)."""

    key_id: KeyId
    version: int
    label: str
    digest: str
    hint: str
    not_after: datetime | None = None


class KeyUpdated(AuthEvent, frozen=True, kw_only=True, tag="key.updated.v1"):
    """The key's settings after an update, whole (budgets travel as `budget.set.v1`)."""

    key_id: KeyId
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    expires_at: datetime | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None


class KeyBlocked(AuthEvent, frozen=True, kw_only=True, tag="key.blocked.v1"):
    """The key is refused until it is unblocked."""

    key_id: KeyId


class KeyUnblocked(AuthEvent, frozen=True, kw_only=True, tag="key.unblocked.v1"):
    """The key works again."""

    key_id: KeyId


class KeyDeleted(AuthEvent, frozen=True, kw_only=True, tag="key.deleted.v1"):
    """The key is dead for good; its history stays."""

    key_id: KeyId


class BudgetSet(AuthEvent, frozen=True, kw_only=True, tag="budget.set.v1"):
    """All accounts of one scope from now on: those absent from the list are closed."""

    scope_kind: ScopeKind
    scope_id: str
    budgets: tuple[Budget, ...]


# ---- LEDGER: usage -----------------------------------------------------------------------------------


class AccountWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One window of one account: what a call is charged to."""

    account: AccountId
    index: int


class UsageRecorded(Event, frozen=True, kw_only=True, tag="usage.recorded.v1", gc=False):
    """One call (or attempt) that has ended, with what it cost.

    `n` is dense per (instance, partition) for ever: folds skip an `n` they have seen. `serial` names the
    allotment that held the money; None where no money was held. `price` is the row itself until its put into
    the catalog is known. `raw` is Foundry's usage object, at most 4 KiB.
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


# ---- LEDGER: grants ----------------------------------------------------------------------------------


class GrantRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """A record of the grant log; its envelope is the batch it came in."""


class LedgerEpoch(GrantRecord, frozen=True, kw_only=True, tag="ledger.epoch.v1"):
    """An enforcer takes office: appended with the fence, its success is what makes it active."""

    epoch: int
    holder: InstanceId


class AllotmentReturned(GrantRecord, frozen=True, kw_only=True, tag="allotment.returned.v1"):
    """A proxy gave money back; `returned_nusd` is cumulative."""

    instance: InstanceId
    serial: int
    returned_nusd: int


class AllotmentRenewed(GrantRecord, frozen=True, kw_only=True, tag="allotment.renewed.v1"):
    """An instance was heard from: its lease starts anew."""

    instance: InstanceId


class WindowOpened(GrantRecord, frozen=True, kw_only=True, tag="window.opened.v1"):
    """An account-window begins to be held: spend so far at a named position, and what is out beneath it."""

    window: AccountWindow
    opening_spent_nusd: int
    allotments: tuple[tuple[str, int], ...] = ()


class AllotmentClosed(GrantRecord, frozen=True, kw_only=True, tag="allotment.closed.v1"):
    """All allotments of an instance end once every `n` up to `last_n` is folded (in every fold)."""

    instance: InstanceId
    how: CloseHow
    last_n: int


class AllotmentGranted(GrantRecord, frozen=True, kw_only=True, tag="allotment.granted.v1"):
    """Money for one key over one set of windows; `granted_nusd` is cumulative per (instance, serial)."""

    instance: InstanceId
    serial: int
    key_id: KeyId
    term: tuple[AccountWindow, ...]
    granted_nusd: int
    rseq: int


class ThresholdCrossed(GrantRecord, frozen=True, kw_only=True, tag="threshold.crossed.v1"):
    """A soft limit was passed or a first call refused: written once, so that fail-over doubles no signal."""

    window: AccountWindow
    threshold: str
    spent_nusd: int


GrantEntry = (
    LedgerEpoch
    | AllotmentReturned
    | AllotmentRenewed
    | WindowOpened
    | AllotmentClosed
    | AllotmentGranted
    | ThresholdCrossed
)


class GrantBatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fenced append: a group commit of decisions, with the positions they were decided on."""

    id: EventId
    at: datetime
    source: str
    auth_pos: int
    usage_pos: int
    records: tuple[GrantEntry, ...]


# ---- SIGNALS -----------------------------------------------------------------------------------------


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


class BudgetThresholdReached(BudgetSignal, frozen=True, kw_only=True, tag="budget.threshold_reached.v1"):
    """Spend reached a soft limit."""

    threshold: str
    threshold_nusd: int


class BudgetExceeded(BudgetSignal, frozen=True, kw_only=True, tag="budget.exceeded.v1"):
    """The first call of a window was refused because the budget does not cover it."""


AnyAuthEvent = (
    OrgCreated
    | TeamCreated
    | KeyIssued
    | KeySecretMinted
    | KeyUpdated
    | KeyBlocked
    | KeyUnblocked
    | KeyDeleted
    | BudgetSet
)
AnySignal = BudgetThresholdReached | BudgetExceeded
AnyEvent = AnyAuthEvent | UsageRecorded | AnySignal

_encoder = msgspec.json.Encoder()
_auth_decoder: msgspec.json.Decoder[AnyAuthEvent] = msgspec.json.Decoder(AnyAuthEvent)
_usage_decoder: msgspec.json.Decoder[tuple[UsageRecorded, ...]] = msgspec.json.Decoder(tuple[UsageRecorded, ...])
_grant_decoder: msgspec.json.Decoder[GrantBatch] = msgspec.json.Decoder(GrantBatch)
_signal_decoder: msgspec.json.Decoder[AnySignal] = msgspec.json.Decoder(AnySignal)

encode = _encoder.encode
decode_auth = _auth_decoder.decode
decode_usage_batch = _usage_decoder.decode
decode_grants = _grant_decoder.decode
decode_signal = _signal_decoder.decode


def type_of(event: AnyEvent) -> str:
    """The tag of an event, such as `key.issued.v1`."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def usage_batch(encoded: list[bytes]) -> bytes:
    """One message of the usage subjects from events that are encoded already (a JSON array)."""
    return b"[" + b",".join(encoded) + b"]"
