"""A secret that leaked and is replaced instead of revoked: when that may be, and until when it goes on meanwhile.

The owner keeps working for a few minutes, and so does whoever found the secret: never longer, whatever becomes of the
delivery. Who could have the newer secret by means of the leaked one, or a second report, makes it a revocation.
"""

from datetime import timedelta

from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.renewing import Mint, decide_mint, seconds_of
from services.auth.domain.rotation import obstacle
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import evolve_versions, is_collectable, living_versions, terms_of
from shared.events import AnyAuthEvent, KeySecretLimited, KeySecretMinted, KeySecretRetired

LEAK_GRACE_S = 300
"""How long a reported secret goes on at most, from the report on, where it is replaced; a shorter grace counts."""


def decide_replaced(key: KeyState, leaked: int, secret: HashedSecret, stamp: Stamp) -> list[AnyAuthEvent]:
    """A new version that is brought to the owner, and the end of the leaked one; only the end when a version that
    nobody has yet is on its way already.

    Nothing comes of it when the leaked one must be revoked: it was reported before, there is no way to bring a new one,
    or a newer one is with the owner or can be collected.

    Raises ApiError 409 when too many versions work at the same time.
    """
    living = living_versions(key)
    found = next((one for one in living if one.version == leaked), None)
    newer = [one for one in living if one.version > leaked]
    if found is None or found.reported or not terms_of(key).targets:
        return []
    if any(one.delivered or is_collectable(key, one) for one in newer):
        return []
    if not newer and obstacle(key, stamp.at) is not None:
        return []
    minted = [] if newer else decide_mint(key, Mint(secret=secret, leaked=True), stamp)
    if any(isinstance(event, KeySecretRetired) and event.version == leaked for event in minted):
        return minted  # a grace of none
    end = stamp.at + timedelta(seconds=min(seconds_of(terms_of(key).grace), LEAK_GRACE_S))
    after = key
    for event in minted:
        if isinstance(event, KeySecretMinted | KeySecretLimited):
            after = evolve_versions(after, event)
    before = next(one.not_after for one in after.secrets if one.version == leaked)
    limit = KeySecretLimited(
        **stamp.envelope(len(minted)),
        key_id=key.key_id,
        version=leaked,
        not_after=end if before is None else min(before, end),
        reported=True,
    )
    return [*minted, limit]
