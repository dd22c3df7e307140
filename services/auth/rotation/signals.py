"""What is heard of a key's renewal. Ids follow from what a signal is about, so that a repetition is the same one."""

from datetime import datetime

from services.auth.domain.derived import derived_id
from services.auth.domain.key_state import KeyState
from services.auth.domain.versions import old_ends_at
from shared.events import AnyKeySignal, KeyCollectedAgain, RotationDelivered, RotationFailed
from shared.ids import EventId
from shared.topology import signal_subject

Signal = tuple[str, AnyKeySignal]
"""A signal with its subject."""


def delivered(key: KeyState, version: int, way: str, *, at: datetime, source: str) -> Signal:
    """A version reached its owner."""
    signal = RotationDelivered(
        id=_id("rotation.delivered", key, str(version), way),
        at=at,
        source=source,
        key_id=key.key_id,
        org_id=key.org_id,
        team_id=key.team_id,
        alias=key.alias,
        version=version,
        target=way,
        old_ends_at=old_ends_at(key, version),
    )
    return signal_subject("rotation.delivered", "key", key.key_id), signal


def failed(
    key: KeyState, version: int, way: str, reason: str, attempts: int, what: str, *, at: datetime, source: str
) -> Signal:
    """A version did not reach its owner, or none was minted; `what` tells one such occasion from another."""
    signal = RotationFailed(
        id=_id("rotation.failed", key, str(version), way, what),
        at=at,
        source=source,
        key_id=key.key_id,
        org_id=key.org_id,
        team_id=key.team_id,
        alias=key.alias,
        version=version,
        target=way,
        reason=reason,
        attempts=attempts,
        old_ends_at=old_ends_at(key, version),
    )
    return signal_subject("rotation.failed", "key", key.key_id), signal


def collected_again(key: KeyState, version: int, *, blocked: bool, at: datetime, source: str) -> Signal:
    """A version was asked for a second time."""
    signal = KeyCollectedAgain(
        id=_id("key.collected_again", key, str(version), str(blocked)),
        at=at,
        source=source,
        key_id=key.key_id,
        org_id=key.org_id,
        team_id=key.team_id,
        alias=key.alias,
        version=version,
        blocked=blocked,
    )
    return signal_subject("key.collected_again", "key", key.key_id), signal


def _id(kind: str, key: KeyState, *about: str) -> EventId:
    return derived_id(kind, key.key_id, *about)
