"""WORK: what is to be done, and by whom it is not yet: each item is done once."""

from datetime import datetime

from shared.events.envelope import Event
from shared.ids import KeyId


class RotationDue(Event, frozen=True, kw_only=True, tag="rotation.due.v1"):
    """A key's secret is to be replaced. `id` is derived from key and `due_at`, so that two schedulers say it once."""

    key_id: KeyId
    due_at: datetime


class SecretSeen(Event, frozen=True, kw_only=True, tag="secret.seen.v1"):
    """A proxy was called with a secret of the key that is stored under the pepper `old_label`, an older one. `sealed`:
    the SHA-256 of the secret, sealed for this key, so that who says it has seen the secret."""

    key_id: KeyId
    old_label: str
    sealed: bytes
