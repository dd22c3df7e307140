"""Whose secret that is, and whether it is in force: mirrors of `keys` and `revoked`, in memory.

They are there also when Postgres is not. Every service that lets people in by their keys has one.
"""

import logging
from typing import TypeVar

import msgspec

from shared.access import SecretHasher
from shared.bus import Bus, Mirror
from shared.clock import Clock
from shared.errors import ApiError
from shared.ids import KeyId
from shared.policy import KeyRecord, OrgRecord, Revocation, SecretRecord, TeamRecord
from shared.topology import KEYS_BUCKET, REVOKED_BUCKET, key_kv, org_kv, team_kv

log = logging.getLogger(__name__)

T = TypeVar("T")
NAME_CHARS = 48


class People:
    """Mirrors of `keys` and `revoked`. Names of other kinds (the relay's own) are passed over.

    Whom a value concerns that cannot be read is refused: it may be of a later version, and say that they are blocked.
    """

    def __init__(self, bus: Bus, hasher: SecretHasher, clock: Clock) -> None:
        self._hasher = hasher
        self._clock = clock
        self.secrets: dict[str, SecretRecord] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.teams: dict[str, TeamRecord] = {}
        self.orgs: dict[str, OrgRecord] = {}
        self.revoked: dict[str, Revocation] = {}
        self._names: dict[KeyId, set[str]] = {}
        self._unread: set[str] = set()
        self._unread_revoked: set[str] = set()
        self.keys_mirror = Mirror(
            bus, KEYS_BUCKET, on_load=self._load_keys, on_put=self._put_key, on_remove=self._remove_key
        )
        self.revoked_mirror = Mirror(
            bus,
            REVOKED_BUCKET,
            on_load=self._load_revoked,
            on_put=self._put_revoked,
            on_remove=self._remove_revoked,
        )

    @property
    def ready(self) -> bool:
        """Whether both buckets were loaded whole at least once."""
        return self.keys_mirror.ready and self.revoked_mirror.ready

    @property
    def fresh(self) -> bool:
        """Whether both buckets are being followed right now."""
        return self.keys_mirror.fresh and self.revoked_mirror.fresh

    # ---- who is that ---------------------------------------------------------------------------------

    def holder(self, secret: str) -> KeyRecord | None:
        """The key in force behind a secret; None when there is none. Raises ApiError 401 saying why a known one is
        refused, 503 while the keys are not loaded."""
        if not self.ready:
            raise ApiError(503, "unavailable", "The keys are not loaded yet; try again shortly.")
        for name in self._hasher.entries(secret):
            found = self.secrets.get(name)
            if found is not None:
                record = self.keys.get(key_kv(found.key_id))
                self._refuse_dead(name, found, record)
                return record
        return None

    def _refuse_dead(self, name: str, secret: SecretRecord, record: KeyRecord | None) -> None:
        now = self._clock.now()
        if record is None or any(self._is_revoked(entry) for entry in (name, *_above(record))):
            why = "revoked"
        elif self._blocked(record):
            why = "blocked"
        elif any(end is not None and end <= now for end in (record.expires_at, secret.not_after)):
            why = "expired"
        else:
            return
        raise ApiError(401, "invalid_api_key", f"The API key is {why}.", kind="authentication_error")

    def _is_revoked(self, name: str) -> bool:
        return name in self.revoked or name in self._unread_revoked or name in self._unread

    def _blocked(self, record: KeyRecord) -> bool:
        team = None if record.team_id is None else self.teams.get(team_kv(record.team_id))
        org = self.orgs.get(org_kv(record.org_id))
        return record.blocked or (team is not None and team.blocked) or (org is not None and org.blocked)

    # ---- looking up ----------------------------------------------------------------------------------

    def secret(self, secret: str) -> tuple[str, SecretRecord] | None:
        """The name and record of a plaintext secret, in force or not; None if it is not known here."""
        for name in self._hasher.entries(secret):
            found = self.secrets.get(name)
            if found is not None:
                return name, found
        return None

    def find_alias(self, alias: str) -> KeyId | None:
        """The key of an alias."""
        return next((record.key_id for record in self.keys.values() if record.alias == alias), None)

    def secrets_of(self, key_id: KeyId) -> tuple[str, ...]:
        """The bucket keys of a key's secrets."""
        return tuple(self._names.get(key_id, ()))

    def revocation_of(self, key_id: KeyId) -> Revocation | None:
        """The entry that stands against a key."""
        return self.revoked.get(key_kv(key_id))

    # ---- keys ----------------------------------------------------------------------------------------

    def _load_keys(self, content: dict[str, bytes]) -> None:
        self.secrets, self.keys, self.teams, self.orgs, self._names, self._unread = {}, {}, {}, {}, {}, set()
        for name, value in content.items():
            self._put_key(name, value)

    def _put_key(self, name: str, value: bytes) -> None:
        self._unread.discard(name)
        match name.partition(".")[0]:
            case "s":
                self._put_secret(name, value)
            case "k":
                self._keep(self.keys, name, value, KeyRecord)
            case "t":
                self._keep(self.teams, name, value, TeamRecord)
            case "o":
                self._keep(self.orgs, name, value, OrgRecord)
            case _:
                pass

    def _put_secret(self, name: str, value: bytes) -> None:
        before = self.secrets.get(name)
        self._keep(self.secrets, name, value, SecretRecord)
        record = self.secrets.get(name)
        if before is not None and (record is None or record.key_id != before.key_id):
            self._unname(before.key_id, name)
        if record is not None:
            self._names.setdefault(record.key_id, set()).add(name)

    def _remove_key(self, name: str) -> None:
        self._unread.discard(name)
        self.keys.pop(name, None)
        self.teams.pop(name, None)
        self.orgs.pop(name, None)
        record = self.secrets.pop(name, None)
        if record is not None:
            self._unname(record.key_id, name)

    def _unname(self, key_id: KeyId, name: str) -> None:
        names = self._names.get(key_id, set())
        names.discard(name)
        if not names:
            self._names.pop(key_id, None)

    def _keep(self, records: dict[str, T], name: str, value: bytes, kind: type[T]) -> None:
        """Take a record over; one that cannot be read does not leave the one before in force."""
        record = _decode(name, value, kind)
        if record is not None:
            records[name] = record
        else:
            records.pop(name, None)
            self._unread.add(name)

    # ---- revoked -------------------------------------------------------------------------------------

    def _load_revoked(self, content: dict[str, bytes]) -> None:
        self.revoked, self._unread_revoked = {}, set()
        for name, value in content.items():
            self._put_revoked(name, value)

    def _put_revoked(self, name: str, value: bytes) -> None:
        entry = _decode(name, value, Revocation)
        if entry is not None:
            self.revoked[name] = entry
            self._unread_revoked.discard(name)
        else:
            self._unread_revoked.add(name)

    def _remove_revoked(self, name: str) -> None:
        self.revoked.pop(name, None)
        self._unread_revoked.discard(name)


def _above(record: KeyRecord) -> tuple[str, ...]:
    """The names whose revocation revokes a key."""
    team = () if record.team_id is None else (team_kv(record.team_id),)
    return (key_kv(record.key_id), *team, org_kv(record.org_id))


def _decode(name: str, value: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as error:
        log.error("the value of %s cannot be read, and whom it concerns is refused: %s", _told(name), error)
        return None


def _told(name: str) -> str:
    """A name for the log: of a secret's hash only the beginning."""
    return f"{name[:NAME_CHARS]}…" if len(name) > NAME_CHARS else name
