"""Every event, as frozen structs in one tagged union; JSON on the wire.

The tag carries the version (`key.issued.v1`). Unknown fields are ignored, new fields have defaults, a
breaking change is a new tag with a pure upcast. Prompts, completions and secrets are never on an event.
"""

from datetime import datetime
from typing import Literal

import msgspec

from shared.ids import AccountId, CallId, EventId, InstanceId, KeyId, OrgId, PriceId, TeamId
from shared.policy import Budget, Limits, ScopeKind
from shared.pricing import PriceRow, Usage

Measured = Literal["reported", "estimated", "lost"]
Outcome = Literal["ok", "client_gone", "upstream_error", "timeout", "filtered", "unknown"]
CloseHow = Literal["final", "silent"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """The envelope: `id` is a UUIDv7 and the idempotency key, `source` names program and instance."""

    id: EventId
    at: datetime
    source: str
    trace: str = ""


# ---- AUTH: decided by auth, kept whole ---------------------------------------------------------------


class WindowTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit over a window as it was asked for; `model` is the pattern of a per-model budget."""

    limit_nusd: int | None = None
    soft_nusd: int | None = None
    duration: str = ""
    zone: str = "UTC"
    model: str | None = None


class BudgetTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was asked for about a scope's money; its accounts follow from it.

    `main` is `max_budget` with its window, `windows` further ones, `models` one per model pattern. `thresholds` None
    means the usual ones. Only auth reads it: what is in force are the accounts.
    """

    main: WindowTerms | None = None
    windows: tuple[WindowTerms, ...] = ()
    models: tuple[WindowTerms, ...] = ()
    thresholds: tuple[int, ...] | None = None
    strict: bool = False


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
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = {}


class OrgUpdated(OrgCreated, frozen=True, kw_only=True, tag="org.updated.v1"):
    """The organization's settings after an update, whole (budgets travel as `budget.set.v1`)."""


class TeamCreated(AuthEvent, frozen=True, kw_only=True, tag="team.created.v1"):
    """A new team inside an organization. New keys that name no budget get `default_key_budget_id`."""

    team_id: TeamId
    org_id: OrgId
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = {}
    default_key_budget_id: str | None = None


class TeamUpdated(TeamCreated, frozen=True, kw_only=True, tag="team.updated.v1"):
    """The team's settings after an update, whole (budgets travel as `budget.set.v1`)."""


class KeyIssued(AuthEvent, frozen=True, kw_only=True, tag="key.issued.v1"):
    """A new key; its first secret follows as `key.secret_minted.v1`."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None = None
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    expires_at: datetime | None = None
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = {}


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
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = {}


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
    """All accounts of one scope from now on: those absent from the list are closed.

    `terms` are what they follow from. A scope that a budget object is attached to names it and the version it
    follows; `lent` are the rate limits that come with the object, in force beside those of the scope.
    """

    scope_kind: ScopeKind
    scope_id: str
    budgets: tuple[Budget, ...]
    terms: BudgetTerms = BudgetTerms()
    budget_id: str | None = None
    budget_version: int = 0
    lent: Limits = Limits()


class BudgetDefined(AuthEvent, frozen=True, kw_only=True, tag="budget.defined.v1"):
    """A budget object, new or changed, whole. The scopes it is attached to follow with `budget.set.v1` each."""

    budget_id: str
    version: int
    terms: BudgetTerms = BudgetTerms()
    limits: Limits = Limits()


class BudgetRemoved(AuthEvent, frozen=True, kw_only=True, tag="budget.removed.v1"):
    """A budget object is no more; nothing is attached to it."""

    budget_id: str


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


# ---- LEDGER: grants ----------------------------------------------------------------------------------


class GrantRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """A record of the grant log; its envelope is the batch it came in."""


class LedgerEpoch(GrantRecord, frozen=True, kw_only=True, tag="ledger.epoch.v1"):
    """An enforcer takes office: appended with the fence, its success is what makes it active.

    `lease_ms` is the lease it gives to proxies: a successor with another setting still honours it.
    """

    epoch: int
    holder: InstanceId
    lease_ms: int


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
    """All allotments of an instance end.

    `final`: nothing follows after `last_n`; takes effect once every `n` up to it is folded (in every fold).
    `silent`: the instance was not heard of for so long that no call of it can run. What is out of its allotments
    stays presumed spent on the `charged` accounts and is released on all others, where what was not `settled`
    (serial, nano-dollars) at this record and still comes is overdraft. A later `final` replaces it.
    """

    instance: InstanceId
    how: CloseHow
    last_n: int = 0
    settled: tuple[tuple[int, int], ...] = ()
    charged: tuple[AccountId, ...] = ()


class AllotmentGranted(GrantRecord, frozen=True, kw_only=True, tag="allotment.granted.v1"):
    """Money for one key over one set of windows; `granted_nusd` is cumulative per (instance, serial)."""

    instance: InstanceId
    serial: int
    key_id: KeyId
    term: tuple[AccountWindow, ...]
    granted_nusd: int
    rseq: int


class ThresholdCrossed(GrantRecord, frozen=True, kw_only=True, tag="threshold.crossed.v1"):
    """A limit was passed, a first call refused, or an exhausted budget has room again.

    Written once, so that fail-over doubles no signal. `threshold` is `soft`, a percent such as `80%`, `exceeded` or
    `restored`; `round` counts how often the account-window was restored before, or called exceeded early. Of the spend,
    `unfolded_nusd` was reported by proxies and its events had not come yet.
    """

    window: AccountWindow
    threshold: str
    spent_nusd: int
    limit_nusd: int | None = None
    round: int = 0
    unfolded_nusd: int = 0


class SignalPublished(GrantRecord, frozen=True, kw_only=True, tag="signal.published.v1"):
    """The signal of a crossing is out."""

    window: AccountWindow
    threshold: str
    round: int = 0


GrantEntry = (
    LedgerEpoch
    | AllotmentReturned
    | AllotmentRenewed
    | WindowOpened
    | AllotmentClosed
    | AllotmentGranted
    | ThresholdCrossed
    | SignalPublished
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


AnyAuthEvent = (
    OrgCreated
    | OrgUpdated
    | TeamCreated
    | TeamUpdated
    | KeyIssued
    | KeySecretMinted
    | KeyUpdated
    | KeyBlocked
    | KeyUnblocked
    | KeyDeleted
    | BudgetSet
    | BudgetDefined
    | BudgetRemoved
)
AnySignal = BudgetThresholdReached | BudgetExceeded | BudgetRestored
AnyUsage = UsageRecorded | UsageCorrected
AnyEvent = AnyAuthEvent | AnyUsage | AnySignal

_encoder = msgspec.json.Encoder()
_auth_decoder: msgspec.json.Decoder[AnyAuthEvent] = msgspec.json.Decoder(AnyAuthEvent)
_usage_decoder: msgspec.json.Decoder[tuple[AnyUsage, ...]] = msgspec.json.Decoder(tuple[AnyUsage, ...])
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
