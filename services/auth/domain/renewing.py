"""Decisions about the versions of a key's secret: minted, delivered, ended.

They take a key that lives; `n` is the first of the stamp's ids that they may use.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

import msgspec

from services.auth.domain.key_state import HashedSecret, KeyState, SecretState
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import (
    EXCHANGE,
    OVERLAP_MAX,
    RESPONSE,
    fallen,
    in_flight,
    is_collectable,
    living_versions,
    outstanding,
    terms_of,
    way_of,
)
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    KeySecretDelivered,
    KeySecretLimited,
    KeySecretMinted,
    KeySecretRehashed,
    KeySecretRetired,
    RetireWhy,
)
from shared.windows import duration_seconds


class Mint(msgspec.Struct, frozen=True, kw_only=True):
    """A new version. `due_at`: the instant of the schedule that asked for it. `shown`: its plaintext is in the answer.
    `leaked`: an older one may be in wrong hands, so nobody collects it with one. `forms`: (label, digest) of the secret
    under every pepper that is known, by which it is found again when another one is current by then.

    `grace_s`: for how long the older versions go on (0: they end now); None leaves that to the key's terms.
    """

    secret: HashedSecret
    due_at: datetime | None = None
    shown: bool = False
    leaked: bool = False
    grace_s: int | None = None
    forms: tuple[tuple[str, str], ...] = ()


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
    forms = {(mint.secret.label, mint.secret.digest), *mint.forms}
    same = any((one.label, one.digest) in forms for one in key.secrets)
    done = mint.due_at is not None and key.rotated_due_at is not None and key.rotated_due_at >= mint.due_at
    return same or done


def decide_delivered(
    key: KeyState, version: int, way: str, stamp: Stamp, *, detail: str = "", collected_with: int = 0, n: int = 0
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
            **stamp.envelope(n),
            key_id=key.key_id,
            version=version,
            target=way,
            detail=detail,
            last=not left,
            collected_with=collected_with,
        )
    ]
    if left or not secret.underway:
        return events
    older = [one for one in living_versions(key) if one.version < version]
    return events + _end_older(key, older, seconds_of(terms.grace), stamp, n + 1)


def decide_collected(key: KeyState, version: int, sent: int, stamp: Stamp) -> list[AnyAuthEvent]:
    """A version was collected with an older one, `sent`. Nothing comes of it when there is nothing to collect (any
    more), or when the one that was sent is over or was reported: it may have leaked in this moment."""
    secret, sender = _version(key, version), _version(key, sent)
    if secret is None or sender is None or not is_collectable(key, secret):
        return []
    if sender.retired_at is not None or sender.reported:
        return []
    return decide_delivered(key, version, EXCHANGE, stamp, collected_with=sent)


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
    """Versions that somebody else has are over (None: all of them), with all that fall with them. The key itself
    stays."""
    events: list[AnyAuthEvent] = []
    ended = None if versions is None else fallen(key, versions)
    for secret in living_versions(key):
        if ended is None or secret.version in ended:
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
    end = stamp.at + timedelta(seconds=grace_s)
    for secret in older:
        if grace_s == 0:
            events += decide_retire(key, secret.version, "replaced", stamp, n + len(events))
            continue
        if secret.underway and not secret.delivered:  # nobody has it
            events += decide_retire(key, secret.version, "undelivered", stamp, n + len(events))
            continue
        if secret.not_after is None or secret.not_after > end:
            envelope = stamp.envelope(n + len(events))
            events.append(KeySecretLimited(**envelope, key_id=key.key_id, version=secret.version, not_after=end))
    return events


def _version(key: KeyState, version: int) -> SecretState | None:
    return next((secret for secret in key.secrets if secret.version == version), None)
