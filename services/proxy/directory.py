"""Who is calling: the mirrored records of auth, joined by key when first used after a change.

A revocation beats every record, whichever arrives first. Until both buckets were loaded whole nobody is
admitted: unknown is not unlimited.
"""

import logging
from datetime import UTC, datetime

import msgspec

from services.proxy.domain.admission import Caller, Refused, join
from shared.access import SecretHasher
from shared.bus import Bus, Mirror
from shared.policy import KeyRecord, OrgRecord, Revocation, SecretRecord, TeamRecord
from shared.topology import KEYS_BUCKET, REVOKED_BUCKET, key_kv, org_kv, team_kv

log = logging.getLogger(__name__)

Record = SecretRecord | KeyRecord | TeamRecord | OrgRecord
_TYPES: dict[str, type[Record]] = {"s": SecretRecord, "k": KeyRecord, "t": TeamRecord, "o": OrgRecord}


class Directory:
    """Finds the caller behind a secret, in memory only."""

    def __init__(self, bus: Bus, hasher: SecretHasher, partitions: int) -> None:
        self._hasher = hasher
        self._partitions = partitions
        self._records: dict[str, Record] = {}
        self._revoked: dict[str, Revocation] = {}
        self._callers: dict[str, Caller] = {}
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
        if not self.ready:
            raise Refused(
                503,
                "starting",
                "The gateway is still loading its keys. Try again in a moment.",
                kind="server_error",
            )
        for entry in self._hasher.entries(secret):
            record = self._records.get(entry)
            if isinstance(record, SecretRecord):
                self._refuse_revoked(entry, record.key_id)
                _refuse_retired(record, now)
                return self._caller(record)
        for entry in self._hasher.entries(secret):
            self._refuse_revoked(entry, "")
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

    def current(self, key_id: str) -> Caller | None:
        """The caller of a key as it stands now; None when it is gone."""
        record = self._records.get(key_kv(key_id))
        if not isinstance(record, KeyRecord) or key_kv(key_id) in self._revoked:
            return None
        return self._join(record)

    def _caller(self, record: SecretRecord) -> Caller:
        caller = self._callers.get(record.key_id)
        if caller is not None:
            return caller
        key = self._records.get(key_kv(record.key_id))
        if not isinstance(key, KeyRecord):
            raise Refused(
                401,
                "invalid_api_key",
                "The record of this API key has not arrived here yet. Try again in a moment.",
                kind="authentication_error",
            )
        return self._join(key)

    def _join(self, key: KeyRecord) -> Caller:
        cached = self._callers.get(key.key_id)
        if cached is not None:
            return cached
        org = self._records.get(org_kv(key.org_id))
        team = self._records.get(team_kv(key.team_id)) if key.team_id is not None else None
        if not isinstance(org, OrgRecord) or (key.team_id is not None and not isinstance(team, TeamRecord)):
            raise Refused(
                503,
                "starting",
                "The records of this key's team or organization have not arrived here yet. Try again in a moment.",
                kind="server_error",
            )
        caller = join(key, team if isinstance(team, TeamRecord) else None, org, self._partitions)
        self._callers[key.key_id] = caller
        return caller

    def _refuse_revoked(self, entry: str, key_id: str) -> None:
        revocation = self._revoked.get(entry) or self._revoked.get(key_kv(key_id))
        if revocation is None:
            return
        if revocation.kind == "blocked":
            raise Refused(
                403,
                "key_blocked",
                "This key is blocked. Ask your platform team to unblock it.",
                kind="permission_error",
            )
        raise Refused(
            401,
            "key_revoked",
            f"This API key was {revocation.kind}. Ask your platform team for a new one.",
            kind="authentication_error",
        )

    # ---- what the mirrors bring ----------------------------------------------------------------------

    def _load_keys(self, content: dict[str, bytes]) -> None:
        self._records = {key: record for key, value in content.items() if (record := _decode(key, value)) is not None}
        self._callers.clear()

    def _put_key(self, key: str, value: bytes) -> None:
        record = _decode(key, value)
        if record is None:
            self._remove_key(key)  # what stood there is over, and what stands there now is unknown
            return
        standing = self._records.get(key)
        if standing is not None and standing.seq > record.seq:
            return
        self._records[key] = record
        self._forget(key)

    def _remove_key(self, key: str) -> None:
        self._records.pop(key, None)
        self._forget(key)

    def _forget(self, key: str) -> None:
        if key.startswith("k."):
            self._callers.pop(key[2:], None)
        elif key.startswith(("t.", "o.")):
            self._callers.clear()

    def _load_revoked(self, content: dict[str, bytes]) -> None:
        self._revoked = {key: _revocation(key, value) for key, value in content.items()}

    def _put_revoked(self, key: str, value: bytes) -> None:
        self._revoked[key] = _revocation(key, value)

    def _remove_revoked(self, key: str) -> None:
        self._revoked.pop(key, None)


def _refuse_retired(record: SecretRecord, now: datetime) -> None:
    if record.not_after is not None and now >= record.not_after:
        raise Refused(
            401,
            "key_retired",
            "This API key was replaced by a newer one. Ask its owner or your platform team for it.",
            kind="authentication_error",
        )


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
