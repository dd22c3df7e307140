"""No key with a role outlives itself: neither by another end or owner of its own, nor by the roles that it gives.

Whoever is removed from a team or deleted loses the keys that they own, and a role that was given for a time ends. So a
key with a role gives no role beyond its own end, and who may not change users does not change whose it is.
"""

from datetime import datetime

from services.auth.domain.key_state import KeyState
from shared.access import Principal, Right
from shared.errors import ApiError
from shared.people import People
from shared.topology import key_kv

CAPPED = "duration: a key with a role ends when the key that made it does, and no later"


def end_of(caller: Principal, people: People) -> datetime | None:
    """When the caller's own key is over; None: never, as the master key and services."""
    record = None if caller.key_id is None else people.keys.get(key_kv(caller.key_id))
    return None if record is None else record.expires_at


def capped(wanted: datetime | None, own: datetime | None) -> datetime | None:
    """The end of a new key with a role, made by a key that ends at `own`."""
    return wanted if own is None or (wanted is not None and wanted <= own) else own


def check_end(key: KeyState, wanted: datetime | None, own: datetime | None) -> None:
    """Refuse to lengthen a key's life beyond the end of the key that asks, which may be the same. Raises ApiError 403.

    Whatever end the key has may stay, and be brought forward.
    """
    if own is None or key.expires_at is None or (wanted is not None and wanted <= max(own, key.expires_at)):
        return
    raise ApiError(
        403,
        "not_allowed",
        f"duration: your own key ends at {own.isoformat(timespec='seconds')}, and lets no role live longer than that"
        " (itself neither): a shorter duration is taken, a longer one from a key that lives longer.",
        param="duration",
        kind="permission_error",
    )


def check_owner_stays(key: KeyState, user_id: str | None, caller: Principal) -> None:
    """Refuse to take a key with a role from its owner, unless users are the caller's to change. Raises ApiError 403."""
    if key.role is None or key.user_id is None or user_id == key.user_id or caller.may(Right.USER_WRITE):
        return
    raise ApiError(
        403,
        "not_allowed",
        f"user_id: a key with a role stays its owner's, so that it ends with them; to change that takes the right"
        f" {Right.USER_WRITE}. Make another key instead.",
        param="user_id",
        kind="permission_error",
    )
