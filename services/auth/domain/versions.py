"""The versions of a key's secret: how one comes to be, reaches its owner, overlaps with the one before, and ends.

A version is *underway* until nothing of its delivery is outstanding, and meanwhile the schedule mints no further one.
What is decided about them is in `renewing`.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from hashlib import sha256
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from services.auth.domain.key_state import KeyState, SecretState
from shared.events import (
    KeyRotationSet,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRehashed,
    KeySecretRetired,
    RotationTerms,
    Target,
)

EXCHANGE = "exchange"
"""How a version is called delivered that its owner collected with the one before it."""
RESPONSE = "response"
"""How a version is called delivered that was handed to whoever asked for it."""
OVERLAP_MAX = 8
"""Versions of one key that work at the same time."""
RETIRED_KEPT = 50
"""Versions that are over and are still shown; all of them are in the log."""
NO_TERMS = RotationTerms()

VersionEvent = (
    KeySecretMinted | KeySecretDelivered | KeySecretLimited | KeySecretRetired | KeySecretRehashed | KeyRotationSet
)
Status = Literal["current", "overlap", "pending", "retired", "leaked"]


# ---- the fold ----------------------------------------------------------------------------------------


def evolve_versions(state: KeyState, event: VersionEvent) -> KeyState:
    """The state of a key after one more event about its versions."""
    replace = msgspec.structs.replace
    match event:
        case KeySecretMinted():
            before = tuple(replace(secret, collectable=False) for secret in state.secrets)
            due_at = event.due_at or state.rotated_due_at
            return replace(state, secrets=(*before, _minted(event)), rotated_due_at=due_at)
        case KeySecretDelivered():
            return _with(state, event.version, lambda secret: _delivered(secret, event))
        case KeySecretLimited():
            return _with(state, event.version, lambda secret: _limited(secret, event))
        case KeySecretRehashed():
            label, digest = event.label, event.digest
            return _with(state, event.version, lambda secret: replace(secret, label=label, digest=digest))
        case KeySecretRetired():
            return _retired(state, event)
        case KeyRotationSet():
            return replace(state, rotation=event.rotation)


def _minted(event: KeySecretMinted) -> SecretState:
    """The first version is handed over by whoever makes the key: nothing of it is outstanding."""
    return SecretState(
        version=event.version,
        label=event.label,
        digest=event.digest,
        hint=event.hint,
        minted_at=event.at,
        not_after=event.not_after,
        collectable=event.collectable,
        underway=event.version > 1,
    )


def _with(state: KeyState, version: int, change: Callable[[SecretState], SecretState]) -> KeyState:
    secrets = tuple(change(secret) if secret.version == version else secret for secret in state.secrets)
    return msgspec.structs.replace(state, secrets=secrets)


def _limited(secret: SecretState, event: KeySecretLimited) -> SecretState:
    reported = secret.reported or event.reported
    return msgspec.structs.replace(secret, not_after=event.not_after, reported=reported)


def _delivered(secret: SecretState, event: KeySecretDelivered) -> SecretState:
    return msgspec.structs.replace(
        secret,
        delivered=tuple(dict.fromkeys((*secret.delivered, event.target))),
        underway=secret.underway and not event.last,
        collectable=secret.collectable and event.target != EXCHANGE,
        collected_with=event.collected_with or secret.collected_with,
    )


def _retired(state: KeyState, event: KeySecretRetired) -> KeyState:
    """After a leak nobody may collect what follows: who asks could be the finder."""
    secrets: list[SecretState] = []
    for secret in state.secrets:
        after = secret
        if secret.version == event.version:
            after = msgspec.structs.replace(
                secret, retired_at=event.at, retired_for=event.reason, collectable=False, underway=False
            )
        elif event.reason == "leaked" and secret.version > event.version:
            after = msgspec.structs.replace(secret, collectable=False)
        secrets.append(after)
    over = [secret.version for secret in secrets if secret.retired_at is not None]
    dropped = frozenset(over[:-RETIRED_KEPT])
    kept = tuple(secret for secret in secrets if secret.version not in dropped)
    return msgspec.structs.replace(state, secrets=kept)


# ---- what is known of versions -----------------------------------------------------------------------


def terms_of(state: KeyState) -> RotationTerms:
    """How the key's secret is renewed; the defaults when nothing was said."""
    return state.rotation or NO_TERMS


def living_versions(state: KeyState) -> tuple[SecretState, ...]:
    """Versions that were not retired, oldest first."""
    return tuple(secret for secret in state.secrets if secret.retired_at is None)


def newest(state: KeyState) -> SecretState | None:
    """The newest version that was not retired."""
    return max(living_versions(state), key=lambda secret: secret.version, default=None)


def in_flight(state: KeyState) -> SecretState | None:
    """The newest version while it is underway."""
    secret = newest(state)
    return secret if secret is not None and secret.underway else None


def way_of(target: Target) -> str:
    """The short name of a target, by which its deliveries are known; never a URL, which may carry credentials."""
    host = urlsplit(target.place).netloc.rpartition("@")[2]
    match target.kind:
        case "key_vault":
            return f"key_vault:{host}/{target.name}"
        case "webhook":
            return f"webhook:{host}#{sha256(target.place.encode()).hexdigest()[:8]}"
        case "kubernetes":
            return f"kubernetes:{target.place}/{target.name}"


def outstanding(state: KeyState, secret: SecretState) -> tuple[Target, ...]:
    """Targets that a version in flight has not been brought to yet.

    An older one that arrived after the newest would take its place there, so it is brought nowhere any more.
    """
    if not secret.underway or secret != newest(state):
        return ()
    return tuple(target for target in terms_of(state).targets if way_of(target) not in secret.delivered)


def is_collectable(state: KeyState, secret: SecretState) -> bool:
    """Whether a version waits to be collected, by whoever has an older one that was not retired."""
    older = any(other.version < secret.version for other in living_versions(state))
    return secret.collectable and secret.retired_at is None and older


def waiting(state: KeyState) -> dict[int, tuple[Target, ...]]:
    """Versions whose plaintext is still needed, each with the targets it is to be brought to."""
    if state.deleted_at is not None:
        return {}
    found = {secret.version: outstanding(state, secret) for secret in living_versions(state)}
    return {
        secret.version: found[secret.version]
        for secret in living_versions(state)
        if found[secret.version] or is_collectable(state, secret)
    }


def fallen(key: KeyState, leaked: Collection[int]) -> frozenset[int]:
    """Versions that leaked, living or over, and those that were collected with one of them, or with what fell so:
    whoever found the one could have collected the other, whoever else got it, too.

    A version that is over for so long that it is not known any more is taken for one that was collected.
    """
    found = set(leaked)
    if not found:
        return frozenset()
    known = {secret.version for secret in key.secrets}
    for secret in sorted(key.secrets, key=lambda one: one.version):
        source = secret.collected_with
        if source in found or (source > min(leaked) and source not in known):
            found.add(secret.version)
    return frozenset(found)


def old_ends_at(state: KeyState, version: int) -> datetime | None:
    """When the last of the versions before one ends; None when nothing ends it yet, or none is left."""
    ends = [secret.not_after for secret in living_versions(state) if secret.version < version]
    return None if not ends or None in ends else max(end for end in ends if end is not None)


def works(secret: SecretState, now: datetime) -> bool:
    """Whether a version is not over at an instant."""
    return secret.retired_at is None and (secret.not_after is None or secret.not_after > now)


def status_of(state: KeyState, secret: SecretState, now: datetime) -> Status:
    """What a version is at an instant, in a word."""
    if secret.retired_for == "leaked":
        return "leaked"
    if not works(secret, now):
        return "retired"
    if secret.underway and not secret.delivered:
        return "pending"
    ready = [one.version for one in living_versions(state) if not one.underway or one.delivered]
    return "current" if secret.version == max(ready) else "overlap"
