"""What the proxies see: the `keys` bucket as a fold of AUTH. Each record carries the sequence that made it."""

import msgspec

from services.auth.domain.rates import tightest
from shared.events import (
    AnyAuthEvent,
    BudgetDefined,
    BudgetRemoved,
    BudgetSet,
    KeyBlocked,
    KeyDeleted,
    KeyIssued,
    KeySecretMinted,
    KeyUnblocked,
    KeyUpdated,
    OrgCreated,
    OrgUpdated,
    TeamCreated,
    TeamUpdated,
)
from shared.ids import KeyId
from shared.policy import KeyRecord, Limits, OrgRecord, ScopeKind, SecretRecord, TeamRecord
from shared.topology import key_kv, org_kv, secret_kv, team_kv

Record = KeyRecord | TeamRecord | OrgRecord | SecretRecord
Changes = dict[str, Record | None]
"""Bucket key → its new record; None removes it."""


class Records:
    """The bucket's content by bucket key, with the names of each key's secrets.

    The limits of a record are the tightest of the scope's own and those that an attached budget object lends it; the
    two are kept apart here, for each changes alone.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Record] = {}
        self._own: dict[str, Limits] = {}
        self._lent: dict[str, Limits] = {}
        self._secrets: dict[KeyId, tuple[str, ...]] = {}

    def key(self, key_id: str) -> KeyRecord | None:
        """A key's policy."""
        record = self.by_name.get(key_kv(key_id))
        return record if isinstance(record, KeyRecord) else None

    def secrets_of(self, key_id: KeyId) -> tuple[str, ...]:
        """The bucket keys of a key's secrets."""
        return self._secrets.get(key_id, ())

    def apply(self, event: AnyAuthEvent, seq: int) -> Changes:
        """Fold one event of AUTH with its sequence; what changed."""
        changes = self._changes(event, seq)
        for name, record in changes.items():
            if record is None:
                self.by_name.pop(name, None)
            else:
                self.by_name[name] = record
        return changes

    def _changes(self, event: AnyAuthEvent, seq: int) -> Changes:
        match event:
            case OrgUpdated() | TeamUpdated() | KeyUpdated():
                return self._updated(event, seq)
            case OrgCreated() | TeamCreated() | KeyIssued():
                return self._created(event, seq)
            case KeySecretMinted():
                return self._minted(event, seq)
            case BudgetSet():
                return self._budget(event, seq)
            case KeyDeleted():
                return self._deleted(event)
            case KeyBlocked() | KeyUnblocked():
                key = self.key(event.key_id)
                if key is None:
                    return {}
                blocked = isinstance(event, KeyBlocked)
                return {key_kv(event.key_id): msgspec.structs.replace(key, seq=seq, blocked=blocked)}
            case BudgetDefined() | BudgetRemoved():
                return {}  # what is in force of it comes with the budgets of each scope

    def _created(self, event: OrgCreated | TeamCreated | KeyIssued, seq: int) -> Changes:
        name = name_of(event)
        self._own[name] = event.limits
        match event:
            case OrgCreated():
                record: Record = OrgRecord(seq=seq, org_id=event.org_id)
            case TeamCreated():
                record = TeamRecord(seq=seq, team_id=event.team_id, org_id=event.org_id)
            case KeyIssued():
                record = KeyRecord(
                    seq=seq,
                    key_id=event.key_id,
                    org_id=event.org_id,
                    team_id=event.team_id,
                    expires_at=event.expires_at,
                )
        after = msgspec.structs.replace(
            record,
            alias=event.alias,
            models=event.models,
            limits=event.limits,
            model_limits=event.model_limits,
        )
        return {name: after}

    def _updated(self, event: OrgUpdated | TeamUpdated | KeyUpdated, seq: int) -> Changes:
        name = name_of(event)
        record = self.by_name.get(name)
        if record is None or isinstance(record, SecretRecord):
            return {}
        self._own[name] = event.limits
        after = msgspec.structs.replace(
            record,
            seq=seq,
            alias=event.alias,
            models=event.models,
            limits=tightest(event.limits, self._lent.get(name, Limits())),
            model_limits=event.model_limits,
        )
        if isinstance(event, KeyUpdated):
            after = msgspec.structs.replace(after, expires_at=event.expires_at)
        return {name: after}

    def _minted(self, event: KeySecretMinted, seq: int) -> Changes:
        name = secret_kv(event.label, event.digest)
        self._secrets[event.key_id] = (*self.secrets_of(event.key_id), name)
        record = SecretRecord(key_id=event.key_id, version=event.version, seq=seq, not_after=event.not_after)
        return {name: record}

    def _deleted(self, event: KeyDeleted) -> Changes:
        names = self._secrets.pop(event.key_id, ())
        self._own.pop(key_kv(event.key_id), None)
        self._lent.pop(key_kv(event.key_id), None)
        return {**dict.fromkeys(names), key_kv(event.key_id): None}

    def _budget(self, event: BudgetSet, seq: int) -> Changes:
        name = scope_kv(event.scope_kind, event.scope_id)
        record = self.by_name.get(name)
        if record is None or isinstance(record, SecretRecord):
            return {}
        self._lent[name] = event.lent
        limits = tightest(self._own.get(name, Limits()), event.lent)
        return {name: msgspec.structs.replace(record, seq=seq, budgets=event.budgets, limits=limits)}


def name_of(event: OrgCreated | TeamCreated | KeyIssued | KeyUpdated) -> str:
    """The bucket key of the record that an event is about."""
    match event:
        case OrgCreated():
            return org_kv(event.org_id)
        case TeamCreated():
            return team_kv(event.team_id)
        case KeyIssued() | KeyUpdated():
            return key_kv(event.key_id)


def scope_kv(kind: ScopeKind, scope_id: str) -> str:
    """The bucket key of a scope's record."""
    return {"key": key_kv, "team": team_kv, "org": org_kv}[kind](scope_id)


_RANKS = {"o": (1, 5), "t": (2, 5), "k": (3, 5), "s": (4, 0)}
"""First letter of a name → in which group it is written, and in which removed."""


def in_order(names: list[str], records: Records) -> list[list[str]]:
    """Names in groups to be written one group after another, each name once.

    Removed secrets first (nothing loses its policy while it can still be used), then organizations, teams and
    keys, then new secrets (nothing can be used before its limits are there), then removed keys.
    """
    groups: list[list[str]] = [[] for _ in range(6)]
    for name in dict.fromkeys(names):
        gone = name not in records.by_name
        written, removed = _RANKS[name[0]]
        groups[removed if gone else written].append(name)
    return [group for group in groups if group]
