"""How a key's secret is renewed: the terms, when it is due, and how far a renewal has come."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain import values
from services.auth.domain.key_state import KeyState
from services.auth.domain.renewing import seconds_of
from services.auth.domain.scope import or_before
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import in_flight, living_versions, newest, terms_of
from shared.errors import ApiError
from shared.events import AnyAuthEvent, KeyRotationSet, RetireWhen, RotationTerms, Target
from shared.ids import KeyId
from shared.rotation import interval_of, latest_due, next_due

GRACE_DEFAULT = RotationTerms().grace
RETIRE_DEFAULT: RetireWhen = "after_delivery"
AHEAD_MAX = timedelta(minutes=1)
"""By how much the clock of whoever says that a secret is due may be ahead of ours."""

OVERDUE_SHOWN = timedelta(minutes=1)
"""For how long a due instant is shown for which nothing was minted; after that it was passed over, or will be."""

Stage = Literal["scheduled", "due", "minted", "delivered", "overlap", "manual", "off"]
WAYS = (
    'send rotation_delivery with at least one of {"type":"key_vault","vault":"https://…","secret":"…"},'
    ' {"type":"webhook","url":"https://…"}, {"type":"kubernetes","namespace":"…","secret":"…","entry":"…"} and'
    ' {"type":"exchange"}'
)


class RotationChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for: UNSET stays as it is, None clears."""

    auto: bool | UnsetType = UNSET
    interval: str | UnsetType | None = UNSET
    grace: str | UnsetType | None = UNSET
    retire: RetireWhen | UnsetType | None = UNSET
    targets: tuple[Target, ...] | UnsetType = UNSET
    exchange: bool | UnsetType = UNSET


NO_CHANGE = RotationChange()


# ---- the terms ---------------------------------------------------------------------------------------


def rotation_after(terms: RotationTerms | None, change: RotationChange, now: datetime) -> RotationTerms | None:
    """The terms after a change; None: nothing is renewed. Raises ApiError 400 naming what makes no sense."""
    if change == NO_CHANGE:
        return terms
    before = terms or RotationTerms()
    targets = or_before(change.targets, before.targets)
    exchange = or_before(change.exchange, before.exchange)
    interval = _interval_after(before, change)
    grace = GRACE_DEFAULT if change.grace is None else or_before(change.grace, before.grace)
    retire: RetireWhen = RETIRE_DEFAULT if change.retire is None else or_before(change.retire, before.retire)
    if interval is not None and not targets and not exchange:
        raise no_delivery("auto_rotate: nobody would be handed the new secret")
    if not targets and not exchange:
        _refuse_idle(change)
        return None
    _check_grace(interval, grace, retire)
    anchor = before.anchor if interval == before.interval else now
    return RotationTerms(
        interval=interval,
        anchor=None if interval is None else anchor,
        grace=grace,
        retire=retire,
        targets=targets,
        exchange=exchange,
    )


def decide_rotation(
    terms: RotationTerms | None, change: RotationChange, key_id: KeyId, stamp: Stamp, n: int = 0
) -> list[AnyAuthEvent]:
    """The terms change, from those of a key (None: it has none); nothing comes of a request that changes nothing."""
    after = rotation_after(terms, change, stamp.at)
    return [] if after == terms else [KeyRotationSet(**stamp.envelope(n), key_id=key_id, rotation=after)]


def no_delivery(why: str) -> ApiError:
    """The refusal of a renewal that would reach nobody."""
    return ApiError(400, "no_delivery", f"{why}. Say how it reaches its owner: {WAYS}.", param="rotation_delivery")


def _interval_after(before: RotationTerms, change: RotationChange) -> str | None:
    sent = None if isinstance(change.interval, UnsetType) else change.interval
    auto = before.interval is not None if isinstance(change.auto, UnsetType) else change.auto
    if not auto:
        if sent is not None:
            raise values.problem("rotation_interval", "has an effect only with auto_rotate true: send that too")
        return None
    interval = or_before(change.interval, before.interval)
    if interval is None:
        raise values.problem("rotation_interval", "is needed with auto_rotate, such as '30d'")
    return interval


def _refuse_idle(change: RotationChange) -> None:
    named = (("grace_period", change.grace), ("rotation_retire", change.retire))
    for field, value in named:
        if not isinstance(value, UnsetType) and value is not None:
            raise values.problem(field, "has an effect only with rotation_delivery: send that too")


def _check_grace(interval: str | None, grace: str, retire: RetireWhen) -> None:
    seconds = seconds_of(grace)
    if seconds == 0 and retire == "after_delivery":
        raise values.problem(
            "grace_period",
            "'0s' would end the old secret before its owner can change over; use some time, or rotation_retire"
            " 'after_grace' if that is what you want",
        )
    if interval is not None and timedelta(seconds=seconds) >= interval_of(interval):
        raise values.problem(
            "grace_period",
            f"{grace!r} ({GRACE_DEFAULT} unless you say otherwise) must be shorter than rotation_interval {interval!r}",
        )


# ---- when --------------------------------------------------------------------------------------------


def due_of(key: KeyState, said: datetime, now: datetime) -> datetime | None:
    """The due instant to mint for when somebody says that `said` is due: the newest one, however many were missed.

    None when nothing is: the terms are others by now, or it was minted before.
    """
    terms = terms_of(key)
    if terms.interval is None or terms.anchor is None:
        return None
    interval = interval_of(terms.interval)
    if said <= terms.anchor or (said - terms.anchor) % interval or said > now + AHEAD_MAX:
        return None
    due = max(said, latest_due(terms.anchor, interval, now) or said)
    return None if key.rotated_due_at is not None and due <= key.rotated_due_at else due


def next_at(key: KeyState, now: datetime) -> datetime | None:
    """The next date (for a moment one that has just come); None for a key that is not renewed by itself."""
    terms = terms_of(key)
    if terms.interval is None or terms.anchor is None or key.deleted_at is not None:
        return None
    interval = interval_of(terms.interval)
    due = latest_due(terms.anchor, interval, now)
    done = key.rotated_due_at
    fresh = due is not None and now - due < OVERDUE_SHOWN and (done is None or done < due)
    if fresh and in_flight(key) is None:
        return due
    return next_due(terms.anchor, interval, now if done is None else max(now, done))


def last_at(key: KeyState) -> datetime | None:
    """When the newest secret was minted; None while the key has its first one."""
    found = newest(key)
    return None if found is None or found.version == 1 else found.minted_at


def count_of(key: KeyState) -> int:
    """How often the secret was replaced."""
    return max((secret.version for secret in key.secrets), default=1) - 1


def stage_of(key: KeyState, now: datetime) -> Stage:
    """How far the renewal of a key's secret has come."""
    if key.rotation is None:
        return "off"
    found = in_flight(key)
    if found is not None:
        return "delivered" if found.delivered else "minted"
    if any(secret.not_after is not None and secret.not_after > now for secret in living_versions(key)):
        return "overlap"
    when = next_at(key, now)
    if when is None:
        return "manual"
    return "due" if when <= now else "scheduled"


def obstacle(key: KeyState, now: datetime) -> str | None:
    """Why no secret is minted for a key at the moment, in a few words; None when nothing stands against it."""
    terms = terms_of(key)
    if key.deleted_at is not None:
        return "deleted"
    if key.blocked:
        return "blocked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    if not terms.targets and not terms.exchange:
        return "no_delivery"
    if in_flight(key) is not None:
        return "in_flight"
    if not terms.targets and not _collectors(key, now):
        return "no_collector"
    return None


def _collectors(key: KeyState, now: datetime) -> bool:
    return any(one.not_after is None or one.not_after > now for one in living_versions(key))
