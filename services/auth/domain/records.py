"""What the proxies see: the `keys` bucket as a fold of AUTH. Each record carries the sequence that made it."""

import msgspec

from services.auth.domain.rates import tightest
from shared.events import (
    AnyAuthEvent,
    BudgetSet,
    KeyBlocked,
    KeyDeleted,
    KeyIssued,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRehashed,
    KeySecretRetired,
    KeyUnblocked,
    KeyUpdated,
    OrgBlocked,
    OrgCreated,
    OrgDeleted,
    OrgUnblocked,
    OrgUpdated,
    TeamBlocked,
    TeamCreated,
    TeamDeleted,
    TeamUnblocked,
    TeamUpdated,
)
from shared.ids import KeyId
from shared.policy import KeyRecord, Limits, OrgRecord, ScopeKind, SecretRecord, TeamRecord
from shared.topology import key_kv, org_kv, secret_kv, team_kv

Policy = KeyRecord | TeamRecord | OrgRecord
Record = Policy | SecretRecord
Changes = dict[str, Record | None]
"""Bucket key → its new record; None removes it."""

EXCHANGE = "exchange"
"""The way of delivery by which a version is collected."""
_Block = KeyBlocked | KeyUnblocked | TeamBlocked | TeamUnblocked | OrgBlocked | OrgUnblocked


class Records:
    """The bucket's content by bucket key, with the names of each key's secrets.

    The limits of a record are the tightest of the scope's own and those that an attached budget object lends it; the
    two are kept apart here, for each changes alone. The record of a deleted team or organization stays, blocked, until
    nothing below has a record any more.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Record] = {}
        self.moved: dict[str, str] = {}
        """Removed name of a secret → the name under which the same secret stands now."""
        self._own: dict[str, Limits] = {}
        self._lent: dict[str, Limits] = {}
        self._secrets: dict[KeyId, tuple[str, ...]] = {}
        self._below: dict[str, int] = {}
        self._ended: set[str] = set()

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
        for name, record in list(changes.items()):
            if record is None:
                changes |= self._remove(name)
            else:
                if name not in self.by_name:
                    self._count(record, 1)
                self.by_name[name] = record
        return changes

    def _changes(self, event: AnyAuthEvent, seq: int) -> Changes:
        match event:
            case OrgUpdated() | TeamUpdated() | KeyUpdated():
                return self._updated(event, seq)
            case OrgCreated() | TeamCreated() | KeyIssued():
                return self._created(event, seq)
            case KeySecretMinted() | KeySecretRehashed():
                return self._stored(event, seq)
            case KeySecretLimited():
                return self._limited(event, seq)
            case KeySecretRetired():
                return self._retired(event, seq)
            case KeySecretDelivered():
                return self._collected(event, seq)
            case BudgetSet():
                return self._budget(event, seq)
            case KeyDeleted():
                return {**dict.fromkeys(self.secrets_of(event.key_id)), key_kv(event.key_id): None}
            case TeamDeleted() | OrgDeleted():
                return self._ending(name_of(event), seq)
            case KeyBlocked() | KeyUnblocked() | TeamBlocked() | TeamUnblocked() | OrgBlocked() | OrgUnblocked():
                return self._blocked(event, seq)
            case _:
                return {}  # people, rotation terms, and budget objects: what is in force of those comes with each scope

    # ---- policies ------------------------------------------------------------------------------------

    def _created(self, event: OrgCreated | TeamCreated | KeyIssued, seq: int) -> Changes:
        name = name_of(event)
        self._own[name] = event.limits
        match event:
            case OrgCreated():
                record: Policy = OrgRecord(seq=seq, org_id=event.org_id)
            case TeamCreated():
                record = TeamRecord(seq=seq, team_id=event.team_id, org_id=event.org_id)
            case KeyIssued():
                record = KeyRecord(seq=seq, key_id=event.key_id, org_id=event.org_id, team_id=event.team_id)
        return {name: _with_settings(record, event, seq, event.limits)}

    def _updated(self, event: OrgUpdated | TeamUpdated | KeyUpdated, seq: int) -> Changes:
        name = name_of(event)
        record = self._policy(name)
        if record is None:
            return {}
        self._own[name] = event.limits
        limits = tightest(event.limits, self._lent.get(name, Limits()))
        return {name: _with_settings(record, event, seq, limits)}

    def _budget(self, event: BudgetSet, seq: int) -> Changes:
        name = scope_kv(event.scope_kind, event.scope_id)
        record = self._policy(name)
        if record is None:
            return {}
        self._lent[name] = event.lent
        limits = tightest(self._own.get(name, Limits()), event.lent)
        return {name: msgspec.structs.replace(record, seq=seq, budgets=event.budgets, limits=limits)}

    def _blocked(self, event: _Block, seq: int) -> Changes:
        name = name_of(event)
        record = self._policy(name)
        if record is None or name in self._ended:
            return {}
        blocked = isinstance(event, KeyBlocked | TeamBlocked | OrgBlocked)
        return {name: msgspec.structs.replace(record, seq=seq, blocked=blocked)}

    def _ending(self, name: str, seq: int) -> Changes:
        """A team or an organization is deleted: its record goes when nothing is below it."""
        record = self._policy(name)
        if record is None:
            return {}
        self._ended.add(name)
        return {name: msgspec.structs.replace(record, seq=seq, blocked=True) if self._below.get(name) else None}

    def _policy(self, name: str) -> Policy | None:
        record = self.by_name.get(name)
        return None if isinstance(record, SecretRecord) else record

    # ---- secrets -------------------------------------------------------------------------------------

    def _stored(self, event: KeySecretMinted | KeySecretRehashed, seq: int) -> Changes:
        """A version under the name of its hash, in place of an older name."""
        key = self.key(event.key_id)
        if key is None:
            return {}
        name, old = secret_kv(event.label, event.digest), self._named(event.key_id, event.version)
        if isinstance(event, KeySecretMinted):
            record = SecretRecord(key_id=event.key_id, version=event.version, seq=seq, not_after=event.not_after)
            changes: Changes = {name: record}
            if event.version > 1:
                changed = msgspec.structs.replace(key, seq=seq, newest=event.version, collectable=event.collectable)
                changes[key_kv(event.key_id)] = changed
        elif not old or name in old:
            return {}
        else:
            before = self.by_name[old[0]]
            assert isinstance(before, SecretRecord)
            changes = {name: msgspec.structs.replace(before, seq=seq), **dict.fromkeys(old)}
            self.moved |= dict.fromkeys(old, name)
        self.moved.pop(name, None)
        self._secrets[event.key_id] = (*self.secrets_of(event.key_id), name)
        return changes

    def _limited(self, event: KeySecretLimited, seq: int) -> Changes:
        changes: Changes = {}
        for name in self._named(event.key_id, event.version):
            record = self.by_name[name]
            assert isinstance(record, SecretRecord)
            changes[name] = msgspec.structs.replace(record, seq=seq, not_after=event.not_after)
        return changes

    def _retired(self, event: KeySecretRetired, seq: int) -> Changes:
        """A version is over. What waited to be collected waits no more when it is this, when nobody is left who could
        collect it, and after a leak: who asks could be the finder."""
        names, key = self._named(event.key_id, event.version), self.key(event.key_id)
        if key is None:
            return {}
        left = [record.version for name, record in self._versions(event.key_id) if name not in names]
        newest = max(left, default=key.newest)
        collectable = (
            key.collectable
            and event.version != key.newest
            and event.reason != "leaked"
            and any(version < newest for version in left)
        )
        changes: Changes = dict.fromkeys(names)
        if (newest, collectable) != (key.newest, key.collectable):
            changed = msgspec.structs.replace(key, seq=seq, newest=newest, collectable=collectable)
            changes[key_kv(event.key_id)] = changed
        return changes

    def _collected(self, event: KeySecretDelivered, seq: int) -> Changes:
        key = self.key(event.key_id)
        if key is None or event.target != EXCHANGE or event.version != key.newest or not key.collectable:
            return {}
        return {key_kv(event.key_id): msgspec.structs.replace(key, seq=seq, collectable=False)}

    def _versions(self, key_id: KeyId) -> list[tuple[str, SecretRecord]]:
        found = ((name, self.by_name.get(name)) for name in self.secrets_of(key_id))
        return [(name, record) for name, record in found if isinstance(record, SecretRecord)]

    def _named(self, key_id: KeyId, version: int) -> tuple[str, ...]:
        return tuple(name for name, record in self._versions(key_id) if record.version == version)

    # ---- what goes -----------------------------------------------------------------------------------

    def _remove(self, name: str) -> Changes:
        """Forget a record, and with the last of a deleted team or organization that one's own."""
        record = self.by_name.pop(name, None)
        if record is None:
            return {}
        if isinstance(record, SecretRecord):
            left = tuple(other for other in self.secrets_of(record.key_id) if other != name)
            self._secrets[record.key_id] = left
            if not left:
                del self._secrets[record.key_id]
            return {}
        self._own.pop(name, None)
        self._lent.pop(name, None)
        self._ended.discard(name)
        self._count(record, -1)
        changes: Changes = {}
        for above in _above(record):
            if above in self._ended and not self._below.get(above):
                changes |= {above: None, **self._remove(above)}
        return changes

    def _count(self, record: Record, by: int) -> None:
        """Keep count of what is below each team and organization."""
        for above in _above(record):
            count = self._below.get(above, 0) + by
            if count:
                self._below[above] = count
            else:
                self._below.pop(above, None)


def _with_settings(
    record: Policy, event: OrgCreated | TeamCreated | KeyIssued | KeyUpdated, seq: int, limits: Limits
) -> Policy:
    after = msgspec.structs.replace(
        record,
        seq=seq,
        alias=event.alias,
        models=event.models,
        limits=limits,
        model_limits=event.model_limits,
        model_aliases=event.model_aliases,
        tags=event.tags,
    )
    if not isinstance(event, KeyIssued | KeyUpdated):
        return after
    return msgspec.structs.replace(
        after,
        expires_at=event.expires_at,
        allowed_routes=event.allowed_routes,
        user_id=event.user_id,
        role=event.role,
        reach=event.reach,
    )


def _above(record: Record) -> tuple[str, ...]:
    """The records that a record needs to stand while it does."""
    match record:
        case KeyRecord():
            team = () if record.team_id is None else (team_kv(record.team_id),)
            return (*team, org_kv(record.org_id))
        case TeamRecord():
            return (org_kv(record.org_id),)
        case _:
            return ()


def name_of(event: OrgCreated | TeamCreated | KeyIssued | KeyUpdated | TeamDeleted | OrgDeleted | _Block) -> str:
    """The bucket key of the record that an event is about."""
    match event:
        case TeamCreated() | TeamDeleted() | TeamBlocked() | TeamUnblocked():
            return team_kv(event.team_id)
        case OrgCreated() | OrgDeleted() | OrgBlocked() | OrgUnblocked():
            return org_kv(event.org_id)
        case KeyIssued() | KeyUpdated() | KeyBlocked() | KeyUnblocked():
            return key_kv(event.key_id)


def scope_kv(kind: ScopeKind, scope_id: str) -> str:
    """The bucket key of a scope's record."""
    return {"key": key_kv, "team": team_kv, "org": org_kv}[kind](scope_id)


_RANKS = {"o": (1, 8), "t": (2, 7), "k": (3, 6), "s": (4, 0)}
"""First letter of a name → in which group it is written, and in which removed."""
_MOVED = 5
_GROUPS = 9


def in_order(names: list[str], records: Records) -> list[list[str]]:
    """Names in groups to be written one group after another, each name once.

    Removed secrets first (nothing loses its policy while it can still be used), then organizations, teams and
    keys, then new secrets (nothing can be used before its limits are there), then the older names of secrets that have
    a new one (what works goes on working), then removed keys, and what was above them.
    """
    groups: list[list[str]] = [[] for _ in range(_GROUPS)]
    for name in dict.fromkeys(names):
        written, removed = _RANKS[name[0]]
        if name in records.by_name:
            groups[written].append(name)
        elif _works_on(name, records):
            groups[_MOVED].append(name)
        else:
            groups[removed].append(name)
    return [group for group in groups if group]


def _works_on(name: str, records: Records) -> bool:
    """Whether a removed secret stands under another name."""
    while name in records.moved:
        name = records.moved[name]
    return name in records.by_name
