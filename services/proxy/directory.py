"""Who is calling: the mirrored records of auth, joined by key when first used after a change.

A revocation beats every record, whichever arrives first: of a secret, of its key, or of the team or organization above.
Until both buckets were loaded whole nobody is admitted: unknown is not unlimited.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from services.proxy.domain.admission import Caller, Refused, RevokedWhat, as_sent, join, retired, revoked
from shared.access import SecretHasher
from shared.bus import Bus, Mirror
from shared.ids import KeyId
from shared.policy import KeyRecord, OrgRecord, Revocation, SecretRecord, TeamRecord
from shared.topology import KEYS_BUCKET, REVOKED_BUCKET, key_kv, org_kv, team_kv

log = logging.getLogger(__name__)

Outdated = Callable[[KeyId, str, bytes], None]
"""Called with a key, the name under which its secret was found, and the SHA-256 of the secret."""
Record = SecretRecord | KeyRecord | TeamRecord | OrgRecord
_TYPES: dict[str, type[Record]] = {"s": SecretRecord, "k": KeyRecord, "t": TeamRecord, "o": OrgRecord}


class Directory:
    """Finds the caller behind a secret, in memory only.

    What a call needs is joined when a secret is first used after a change of its records, and stands ready under the
    secret's name under the current pepper. Only callers in force stand there: a revocation takes them away.
    """

    def __init__(self, bus: Bus, hasher: SecretHasher, partitions: int) -> None:
        self._hasher = hasher
        self._partitions = partitions
        self._records: dict[str, Record] = {}
        self._revoked: dict[str, Revocation] = {}
        self._keys: dict[KeyId, Caller] = {}
        self._callers: dict[str, Caller] = {}
        self._used: dict[KeyId, list[str]] = {}
        self.outdated: Outdated | None = None
        """Told of secrets that stand under an older pepper, once after each change of their key."""
        self.keys = Mirror(bus, KEYS_BUCKET, on_load=self._load_keys, on_put=self._put_key, on_remove=self._remove_key)
        self.revoked = Mirror(
            bus,
            REVOKED_BUCKET,
            on_load=self._load_revoked,
            on_put=self._put_revoked,
            on_remove=self._remove_revoked,
        )

    @property
    def ready(self) -> bool:
        """Whether both buckets were loaded whole."""
        return self.keys.ready and self.revoked.ready

    def find(self, secret: str, now: datetime) -> Caller:
        """The caller behind a secret. Raises Refused: unknown, revoked, retired, or nothing is loaded yet."""
        names = self._hasher.entries(secret)
        caller = self._callers.get(names[0])
        if caller is None:
            caller = self._look(names, secret)
        if caller.retires_at is not None and now >= caller.retires_at:
            raise retired()
        return caller

    def current(self, key_id: str) -> Caller | None:
        """The caller of a key as it stands now; None when it is gone, or revoked with its team or organization."""
        known = self._keys.get(KeyId(key_id))
        if known is not None:
            return known
        record = self._records.get(key_kv(key_id))
        if not isinstance(record, KeyRecord) or any(name in self._revoked for name, _ in _above(record)):
            return None
        return self._join(record)

    def forget(self, key_id: KeyId) -> None:
        """Join a key anew when it is used next."""
        self._keys.pop(key_id, None)
        for name in self._used.pop(key_id, ()):
            self._callers.pop(name, None)

    # ---- the first use after a change ----------------------------------------------------------------

    def _look(self, names: tuple[str, ...], secret: str) -> Caller:
        """The caller of a secret by its names, the current pepper's first. Raises Refused."""
        if not self.ready:
            raise _starting("The gateway is still loading its keys. Try again in a moment.")
        for name in names:
            revocation = self._revoked.get(name)
            if revocation is not None:
                raise revoked(revocation, "key")
        for name in names:
            record = self._records.get(name)
            if isinstance(record, SecretRecord):
                caller = as_sent(self._key(record.key_id), record)
                self._callers[names[0]] = caller
                self._used.setdefault(record.key_id, []).append(names[0])
                if name != names[0] and self.outdated is not None:
                    self.outdated(record.key_id, name, sha256(secret.encode()).digest())
                return caller
        if not self.keys.fresh:
            raise Refused(
                503,
                "keys_stale",
                "This API key is not known here, and the gateway is just now catching up with its keys. Try again.",
                kind="server_error",
                headers=((b"retry-after", b"1"),),
            )
        raise Refused(
            401,
            "invalid_api_key",
            "This API key is not known here. Send a virtual key issued by your platform team.",
            kind="authentication_error",
        )

    def _key(self, key_id: KeyId) -> Caller:
        """A key that is not revoked, with all that it inherits. Raises Refused."""
        known = self._keys.get(key_id)
        if known is not None:
            return known
        revocation = self._revoked.get(key_kv(key_id))
        if revocation is not None:  # also when the record is gone already
            raise revoked(revocation, "key")
        record = self._records.get(key_kv(key_id))
        if not isinstance(record, KeyRecord):
            raise Refused(
                401,
                "invalid_api_key",
                "The record of this API key has not arrived here yet. Try again in a moment.",
                kind="authentication_error",
            )
        for name, what in _above(record):
            revocation = self._revoked.get(name)
            if revocation is not None:
                raise revoked(revocation, what)
        return self._join(record)

    def _join(self, key: KeyRecord) -> Caller:
        org = self._records.get(org_kv(key.org_id))
        team = self._records.get(team_kv(key.team_id)) if key.team_id is not None else None
        if not isinstance(org, OrgRecord) or (key.team_id is not None and not isinstance(team, TeamRecord)):
            raise _starting(
                "The records of this key's team or organization have not arrived here yet. Try again in a moment."
            )
        caller = join(key, team if isinstance(team, TeamRecord) else None, org, self._partitions)
        self._keys[key.key_id] = caller
        return caller

    # ---- what the mirrors bring ----------------------------------------------------------------------

    def _load_keys(self, content: dict[str, bytes]) -> None:
        self._records = {key: record for key, value in content.items() if (record := _decode(key, value)) is not None}
        self._forget_all()

    def _put_key(self, key: str, value: bytes) -> None:
        record = _decode(key, value)
        if record is None:
            self._remove_key(key)  # what stood there is over, and what stands there now is unknown
            return
        standing = self._records.get(key)
        if standing is not None and standing.seq > record.seq:
            return
        self._changed(key)
        self._records[key] = record
        self._changed(key)

    def _remove_key(self, key: str) -> None:
        self._changed(key)
        self._records.pop(key, None)

    def _load_revoked(self, content: dict[str, bytes]) -> None:
        self._revoked = {key: _revocation(key, value) for key, value in content.items()}
        self._forget_all()

    def _put_revoked(self, key: str, value: bytes) -> None:
        self._revoked[key] = _revocation(key, value)
        self._changed(key)
        if key not in self._records and len(self._hasher.labels) > 1:
            self._forget_all()  # of a secret that stands under its name by another pepper

    def _remove_revoked(self, key: str) -> None:
        self._revoked.pop(key, None)  # nobody who was revoked stands among the callers

    def _changed(self, name: str) -> None:
        """What stands under a name changes: all that was made of it is joined anew."""
        if name.startswith("s."):
            record = self._records.get(name)
            if isinstance(record, SecretRecord):
                self.forget(record.key_id)
        elif name.startswith("k."):
            self.forget(KeyId(name[2:]))
        else:
            self._forget_all()

    def _forget_all(self) -> None:
        self._keys.clear()
        self._callers.clear()
        self._used.clear()


def _starting(text: str) -> Refused:
    return Refused(503, "starting", text, kind="server_error")


def _above(key: KeyRecord) -> Iterator[tuple[str, RevokedWhat]]:
    """The names whose revocation revokes a key, and what they name."""
    yield key_kv(key.key_id), "key"
    if key.team_id is not None:
        yield team_kv(key.team_id), "team"
    yield org_kv(key.org_id), "organization"


def _revocation(key: str, value: bytes) -> Revocation:
    """An entry of `revoked`; one that cannot be read still revokes."""
    try:
        return msgspec.json.decode(value, type=Revocation)
    except (msgspec.MsgspecError, ValueError) as error:
        log.error("entry %s in bucket %s cannot be read: %s", key, REVOKED_BUCKET, error)
        return Revocation(kind="blocked", at=datetime.fromtimestamp(0, UTC), actor="unreadable")


def _decode(key: str, value: bytes) -> Record | None:
    """A record by the kind in its key; None for what this version does not know."""
    kind = _TYPES.get(key.partition(".")[0])
    if kind is None or "." not in key:
        return None
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        log.error("record %s in bucket %s cannot be read: %s", key, KEYS_BUCKET, error)
        return None
