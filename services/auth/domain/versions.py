"""The versions of a key's secret: how one comes to be, reaches its owner, overlaps with the one before, and ends.

A version is *underway* until nothing of its delivery is outstanding, and meanwhile the schedule mints no further one.
Decisions take a key that lives; `n` is the first of the stamp's ids that they may use.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from services.auth.domain.key_state import HashedSecret, KeyState, SecretState
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    KeyRotationSet,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRehashed,
    KeySecretRetired,
    RetireWhy,
    RotationTerms,
    Target,
)
from shared.windows import duration_seconds

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


class Mint(msgspec.Struct, frozen=True, kw_only=True):
    """A new version. `due_at`: the instant of the schedule that asked for it. `shown`: its plaintext is in the answer.
    `leaked`: an older one may be in wrong hands, so nobody collects it with one.

    `grace_s`: for how long the older versions go on (0: they end now); None leaves that to the key's terms.
    """

    secret: HashedSecret
    due_at: datetime | None = None
    shown: bool = False
    leaked: bool = False
    grace_s: int | None = None


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
            return _with(state, event.version, lambda secret: replace(secret, not_after=event.not_after))
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


def _delivered(secret: SecretState, event: KeySecretDelivered) -> SecretState:
    return msgspec.structs.replace(
        secret,
        delivered=tuple(dict.fromkeys((*secret.delivered, event.target))),
        underway=secret.underway and not event.last,
        collectable=secret.collectable and event.target != EXCHANGE,
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
    """Targets that a version in flight has not been brought to yet."""
    if not secret.underway:
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


def old_ends_at(state: KeyState, version: int) -> datetime | None:
    """When the last of the versions before one ends; None when nothing ends it yet, or none is left."""
    ends = [secret.not_after for secret in living_versions(state) if secret.version < version]
    return None if not ends or None in ends else max(end for end in ends if end is not None)


def status_of(state: KeyState, secret: SecretState, now: datetime) -> Status:
    """What a version is at an instant, in a word."""
    if secret.retired_for == "leaked":
        return "leaked"
    if secret.retired_at is not None or (secret.not_after is not None and secret.not_after <= now):
        return "retired"
    if secret.underway and not secret.delivered:
        return "pending"
    ready = [one.version for one in living_versions(state) if not one.underway or one.delivered]
    return "current" if secret.version == max(ready) else "overlap"


# ---- decisions ---------------------------------------------------------------------------------------


def decide_mint(key: KeyState, mint: Mint, stamp: Stamp, n: int = 0) -> list[AnyAuthEvent]:
    """A new version. Nothing comes of it when it is there already (the same secret, or the same due instant).

    Raises ApiError 409 when too many versions work at the same time.
    """
    if already_minted(key, mint):
        return []
    terms = terms_of(key)
    before = living_versions(key)
    version = max((secret.version for secret in key.secrets), default=0) + 1
    grace_s = mint.grace_s
    if grace_s is None and terms.retire == "after_grace":
        grace_s = seconds_of(terms.grace)
    ends_now = grace_s == 0
    if not ends_now and len(before) >= OVERLAP_MAX:
        raise ApiError(
            409,
            "too_many_versions",
            f"{len(before)} secrets of the key {key.key_id} work at the same time, which is the most there may be:"
            " wait until one ends, or regenerate it without a grace_period.",
            param="key",
        )
    collectable = terms.exchange and not mint.leaked and bool(before) and not ends_now
    events: list[AnyAuthEvent] = [
        KeySecretMinted(
            **stamp.envelope(n),
            key_id=key.key_id,
            version=version,
            label=mint.secret.label,
            digest=mint.secret.digest,
            hint=mint.secret.hint,
            due_at=mint.due_at,
            collectable=collectable,
        )
    ]
    if mint.shown:
        events.append(
            KeySecretDelivered(
                **stamp.envelope(n + 1),
                key_id=key.key_id,
                version=version,
                target=RESPONSE,
                last=not terms.targets,
            )
        )
    return events + _end_older(key, before, grace_s, stamp, n + len(events))


def already_minted(key: KeyState, mint: Mint) -> bool:
    """Whether the version is there: the same secret, or one for the same due instant or a later one."""
    secret = mint.secret
    same = any((one.label, one.digest) == (secret.label, secret.digest) for one in key.secrets)
    done = mint.due_at is not None and key.rotated_due_at is not None and key.rotated_due_at >= mint.due_at
    return same or done


def decide_delivered(
    key: KeyState, version: int, way: str, stamp: Stamp, *, detail: str = "", n: int = 0
) -> list[AnyAuthEvent]:
    """A version reached its owner in one way; once nothing is outstanding, the time of the older ones begins to run.

    Nothing comes of it when the version ended meanwhile, or was delivered this way before.
    """
    secret = _version(key, version)
    if secret is None or secret.retired_at is not None or way in secret.delivered:
        return []
    terms = terms_of(key)
    left = [target for target in outstanding(key, secret) if way_of(target) != way]
    events: list[AnyAuthEvent] = [
        KeySecretDelivered(
            **stamp.envelope(n), key_id=key.key_id, version=version, target=way, detail=detail, last=not left
        )
    ]
    if left or not secret.underway:
        return events
    older = [one for one in living_versions(key) if one.version < version]
    return events + _end_older(key, older, seconds_of(terms.grace), stamp, n + 1)


def decide_settle(key: KeyState, stamp: Stamp, n: int = 0) -> list[AnyAuthEvent]:
    """What is underway and can reach nobody any more comes to its end.

    With the targets gone that were outstanding, a version that somebody has is settled; one that nobody has, and that
    nobody can collect, is given up.
    """
    secret = in_flight(key)
    if secret is None or outstanding(key, secret) or is_collectable(key, secret):
        return []
    if not secret.delivered:
        return decide_retire(key, secret.version, "undelivered", stamp, n)
    done = KeySecretDelivered(
        **stamp.envelope(n), key_id=key.key_id, version=secret.version, target=secret.delivered[-1], last=True
    )
    older = [one for one in living_versions(key) if one.version < secret.version]
    return [done, *_end_older(key, older, seconds_of(terms_of(key).grace), stamp, n + 1)]


def decide_retire(key: KeyState, version: int, reason: RetireWhy, stamp: Stamp, n: int = 0) -> list[AnyAuthEvent]:
    """A version is over; nothing comes of it a second time."""
    secret = _version(key, version)
    if secret is None or secret.retired_at is not None:
        return []
    return [KeySecretRetired(**stamp.envelope(n), key_id=key.key_id, version=version, reason=reason)]


def decide_expired(key: KeyState, stamp: Stamp, n: int = 0) -> list[AnyAuthEvent]:
    """Versions whose time has run out are over."""
    ended = [one for one in living_versions(key) if one.not_after is not None and one.not_after <= stamp.at]
    events: list[AnyAuthEvent] = []
    for secret in ended:
        events += decide_retire(key, secret.version, "expired", stamp, n + len(events))
    return events


def decide_leaked(
    key: KeyState, stamp: Stamp, *, versions: Collection[int] | None = None, n: int = 0
) -> list[AnyAuthEvent]:
    """Versions that somebody else has are over (None: all of them). The key itself stays."""
    events: list[AnyAuthEvent] = []
    for secret in living_versions(key):
        if versions is None or secret.version in versions:
            events += decide_retire(key, secret.version, "leaked", stamp, n + len(events))
    return events


def decide_rehash(
    key: KeyState, old: tuple[str, str], new: tuple[str, str], stamp: Stamp, n: int = 0
) -> list[AnyAuthEvent]:
    """A version that is stored as `old` (label, digest) is stored as `new` from now on.

    Nothing comes of it when no such version lives, or when it is stored so already.
    """
    for secret in living_versions(key):
        if (secret.label, secret.digest) == old and old != new:
            label, digest = new
            return [
                KeySecretRehashed(
                    **stamp.envelope(n), key_id=key.key_id, version=secret.version, label=label, digest=digest
                )
            ]
    return []


def seconds_of(grace: str) -> int:
    """Seconds of a grace period; `0s` is none."""
    return 0 if grace == "0s" else duration_seconds(grace)


def _end_older(
    key: KeyState, older: Iterable[SecretState], grace_s: int | None, stamp: Stamp, n: int
) -> list[AnyAuthEvent]:
    """The older versions get an end, unless they have one that comes sooner. None: they get none yet."""
    events: list[AnyAuthEvent] = []
    if grace_s is None:
        return events
    for secret in older:
        if grace_s == 0:
            events += decide_retire(key, secret.version, "replaced", stamp, n + len(events))
            continue
        if secret.underway and not secret.delivered:  # nobody has it
            events += decide_retire(key, secret.version, "undelivered", stamp, n + len(events))
            continue
        if secret.not_after is None:
            events.append(
                KeySecretLimited(
                    **stamp.envelope(n + len(events)),
                    key_id=key.key_id,
                    version=secret.version,
                    not_after=stamp.at + timedelta(seconds=grace_s),
                )
            )
    return events


def _version(key: KeyState, version: int) -> SecretState | None:
    return next((secret for secret in key.secrets if secret.version == version), None)
