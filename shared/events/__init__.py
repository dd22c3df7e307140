"""Every event, as frozen structs in tagged unions; JSON on the wire.

The tag carries the version (`key.issued.v1`). Unknown fields are ignored, new fields have defaults, a
breaking change is a new tag with a pure upcast. Prompts, completions and secrets are never on an event.
"""

import msgspec

from shared.events.budgets import BudgetDefined, BudgetRemoved, BudgetSet, BudgetTerms, WindowTerms
from shared.events.envelope import AuthEvent, Event
from shared.events.grants import (
    AllotmentClosed,
    AllotmentGranted,
    AllotmentRenewed,
    AllotmentReturned,
    CloseHow,
    GrantBatch,
    GrantEntry,
    GrantRecord,
    LedgerEpoch,
    SignalPublished,
    ThresholdCrossed,
    WindowOpened,
)
from shared.events.keys import (
    KeyBlocked,
    KeyDeleted,
    KeyIssued,
    KeyRotationSet,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRehashed,
    KeySecretRetired,
    KeySettings,
    KeyUnblocked,
    KeyUpdated,
    RetireWhen,
    RetireWhy,
    RotationTerms,
    Target,
    TargetKind,
)
from shared.events.people import (
    Member,
    MemberRole,
    TeamMembersChanged,
    UserCreated,
    UserDeleted,
    UserRole,
    UserUpdated,
)
from shared.events.scopes import (
    OrgBlocked,
    OrgCreated,
    OrgDeleted,
    OrgUnblocked,
    OrgUpdated,
    ScopeSettings,
    TeamBlocked,
    TeamCreated,
    TeamDeleted,
    TeamUnblocked,
    TeamUpdated,
)
from shared.events.signals import (
    BudgetExceeded,
    BudgetRestored,
    BudgetSignal,
    BudgetThresholdReached,
    KeyCollectedAgain,
    KeyLeaked,
    KeySignal,
    RotationDelivered,
    RotationFailed,
)
from shared.events.usage import AccountWindow, Change, Measured, Outcome, UsageCorrected, UsageRecorded
from shared.events.work import RotationDue, SecretSeen

AnyOrgEvent = OrgCreated | OrgUpdated | OrgBlocked | OrgUnblocked | OrgDeleted
AnyTeamEvent = TeamCreated | TeamUpdated | TeamMembersChanged | TeamBlocked | TeamUnblocked | TeamDeleted
AnyUserEvent = UserCreated | UserUpdated | UserDeleted
AnyKeyEvent = (
    KeyIssued
    | KeyUpdated
    | KeyBlocked
    | KeyUnblocked
    | KeyDeleted
    | KeySecretMinted
    | KeySecretDelivered
    | KeySecretLimited
    | KeySecretRetired
    | KeySecretRehashed
    | KeyRotationSet
)
AnyBudgetEvent = BudgetSet | BudgetDefined | BudgetRemoved
AnyAuthEvent = AnyOrgEvent | AnyTeamEvent | AnyUserEvent | AnyKeyEvent | AnyBudgetEvent
AnyKeySignal = RotationDelivered | RotationFailed | KeyLeaked | KeyCollectedAgain
AnyBudgetSignal = BudgetThresholdReached | BudgetExceeded | BudgetRestored
AnySignal = AnyBudgetSignal | AnyKeySignal
AnyUsage = UsageRecorded | UsageCorrected
AnyWork = RotationDue | SecretSeen
AnyEvent = AnyAuthEvent | AnyUsage | AnySignal | AnyWork

_encoder = msgspec.json.Encoder()
_auth_decoder: msgspec.json.Decoder[AnyAuthEvent] = msgspec.json.Decoder(AnyAuthEvent)
_usage_decoder: msgspec.json.Decoder[tuple[AnyUsage, ...]] = msgspec.json.Decoder(tuple[AnyUsage, ...])
_grant_decoder: msgspec.json.Decoder[GrantBatch] = msgspec.json.Decoder(GrantBatch)
_signal_decoder: msgspec.json.Decoder[AnySignal] = msgspec.json.Decoder(AnySignal)
_work_decoder: msgspec.json.Decoder[AnyWork] = msgspec.json.Decoder(AnyWork)

encode = _encoder.encode
decode_auth = _auth_decoder.decode
decode_usage_batch = _usage_decoder.decode
decode_grants = _grant_decoder.decode
decode_signal = _signal_decoder.decode
decode_work = _work_decoder.decode


def type_of(event: AnyEvent) -> str:
    """The tag of an event, such as `key.issued.v1`."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def usage_batch(encoded: list[bytes]) -> bytes:
    """One message of the usage subjects from events that are encoded already (a JSON array)."""
    return b"[" + b",".join(encoded) + b"]"


__all__ = (
    "AccountWindow",
    "AllotmentClosed",
    "AllotmentGranted",
    "AllotmentRenewed",
    "AllotmentReturned",
    "AnyAuthEvent",
    "AnyBudgetEvent",
    "AnyBudgetSignal",
    "AnyEvent",
    "AnyKeyEvent",
    "AnyKeySignal",
    "AnyOrgEvent",
    "AnySignal",
    "AnyTeamEvent",
    "AnyUsage",
    "AnyUserEvent",
    "AnyWork",
    "AuthEvent",
    "BudgetDefined",
    "BudgetExceeded",
    "BudgetRemoved",
    "BudgetRestored",
    "BudgetSet",
    "BudgetSignal",
    "BudgetTerms",
    "BudgetThresholdReached",
    "Change",
    "CloseHow",
    "Event",
    "GrantBatch",
    "GrantEntry",
    "GrantRecord",
    "KeyBlocked",
    "KeyCollectedAgain",
    "KeyDeleted",
    "KeyIssued",
    "KeyLeaked",
    "KeyRotationSet",
    "KeySecretDelivered",
    "KeySecretLimited",
    "KeySecretMinted",
    "KeySecretRehashed",
    "KeySecretRetired",
    "KeySettings",
    "KeySignal",
    "KeyUnblocked",
    "KeyUpdated",
    "LedgerEpoch",
    "Measured",
    "Member",
    "MemberRole",
    "OrgBlocked",
    "OrgCreated",
    "OrgDeleted",
    "OrgUnblocked",
    "OrgUpdated",
    "Outcome",
    "RetireWhen",
    "RetireWhy",
    "RotationDelivered",
    "RotationDue",
    "RotationFailed",
    "RotationTerms",
    "ScopeSettings",
    "SecretSeen",
    "SignalPublished",
    "Target",
    "TargetKind",
    "TeamBlocked",
    "TeamCreated",
    "TeamDeleted",
    "TeamMembersChanged",
    "TeamUnblocked",
    "TeamUpdated",
    "ThresholdCrossed",
    "UsageCorrected",
    "UsageRecorded",
    "UserCreated",
    "UserDeleted",
    "UserRole",
    "UserUpdated",
    "WindowOpened",
    "WindowTerms",
    "decode_auth",
    "decode_grants",
    "decode_signal",
    "decode_usage_batch",
    "decode_work",
    "encode",
    "type_of",
    "usage_batch",
)
