"""What the bus says of keys and revocations right now, in memory: it is there also when Postgres is not."""

import logging
from typing import TypeVar

import msgspec

from services.auth.secret import Vault
from shared.bus import Bus, Mirror
from shared.ids import KeyId
from shared.policy import KeyRecord, Revocation, SecretRecord
from shared.topology import KEYS_BUCKET, REVOKED_BUCKET, key_kv

log = logging.getLogger(__name__)

T = TypeVar("T")


class Directory:
    """Mirrors of `keys` and `revoked`. Names of other kinds (teams, the relay's own) are passed over."""

    def __init__(self, bus: Bus, vault: Vault) -> None:
        self._vault = vault
        self.secrets: dict[str, SecretRecord] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.revoked: dict[str, Revocation] = {}
        self._names: dict[KeyId, set[str]] = {}
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

    def find(self, reference: str) -> KeyId | None:
        """The key that a plaintext secret, a stored hash or a key id names; None if it is not known here."""
        if key_kv(reference) in self.keys:
            return KeyId(reference)
        for name in self._vault.names(reference):
            record = self.secrets.get(name)
            if record is not None:
                return record.key_id
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
        self.secrets, self.keys, self._names = {}, {}, {}
        for name, value in content.items():
            self._put_key(name, value)

    def _put_key(self, name: str, value: bytes) -> None:
        if name.startswith("s."):
            record = _decode(name, value, SecretRecord)
            if record is not None:
                self.secrets[name] = record
                self._names.setdefault(record.key_id, set()).add(name)
        elif name.startswith("k."):
            key = _decode(name, value, KeyRecord)
            if key is not None:
                self.keys[name] = key

    def _remove_key(self, name: str) -> None:
        self.keys.pop(name, None)
        record = self.secrets.pop(name, None)
        if record is not None:
            names = self._names.get(record.key_id, set())
            names.discard(name)
            if not names:
                self._names.pop(record.key_id, None)

    # ---- revoked -------------------------------------------------------------------------------------

    def _load_revoked(self, content: dict[str, bytes]) -> None:
        self.revoked = {}
        for name, value in content.items():
            self._put_revoked(name, value)

    def _put_revoked(self, name: str, value: bytes) -> None:
        entry = _decode(name, value, Revocation)
        if entry is not None:
            self.revoked[name] = entry

    def _remove_revoked(self, name: str) -> None:
        self.revoked.pop(name, None)


def _decode(name: str, value: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as error:
        log.error("the value of %s cannot be read and is passed over: %s", name, error)
        return None
