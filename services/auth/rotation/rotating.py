"""The work behind `/key/regenerate`, `/key/{key}/rotate` and `/rotation/list`."""

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.answers.keys import MintedKey
from services.auth.answers.rotation import RotatedKey, RotatingKeys
from services.auth.domain import key as domain
from services.auth.domain import values
from services.auth.domain.key_state import KeyState
from services.auth.domain.renewing import seconds_of
from services.auth.domain.rotation import stage_of
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import newest, old_ends_at, waiting, way_of
from services.auth.draws import Draws
from services.auth.keys.managing import Keys
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.rotation.asked import grace_text
from services.auth.rotation.wiring import Rotation
from services.auth.rows.base import extended
from services.auth.rows.keys import key_row
from services.auth.rows.rotation import rotating_key
from services.auth.schemas.regeneration import RegenerateKey
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent
from shared.ids import KeyId


class Rotating:
    """New secrets for keys that there are."""

    def __init__(self, parts: Parts, keys: Keys, rotation: Rotation) -> None:
        self._parts = parts
        self._keys = keys
        self._rotation = rotation

    async def regenerate(
        self, reference: str | None, request: RegenerateKey, caller: Principal, draws: Draws
    ) -> MintedKey:
        """A new secret, shown once, with a change of settings; in force when this returns (or with a warning)."""
        parts = self._parts
        key_id, alias = await self._named(reference, request, caller)
        key = domain.living(await parts.views.key(key_id))
        grace = request.grace_period
        grace_s = seconds_of(grace_text(grace)) if isinstance(grace, str) else 0
        settings = msgspec.structs.replace(request, grace_period=UNSET)
        command = await self._keys.change_of_key(key, settings, alias, caller, draws)
        text = await self._keys.further_secret(request.new_key, key, draws)

        def update(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_update(state, command, stamp)

        with saying_what_is_taken():
            minted = await self._rotation.minting.regenerate(key_id, text, grace_s, update, actor=caller.actor)
        now = parts.clock.now()
        change = minted.change
        position = await parts.commits.head() if change.position is None else change.position
        warnings = await parts.in_force(position)
        signing = None if request.rotation_delivery is UNSET else self._keys.signing_of(key_id)
        row = key_row(change.state, now, caller=caller, signing=signing)
        return extended(row, MintedKey, key=text, warnings=warnings)

    async def rotate(self, reference: str, caller: Principal, draws: Draws) -> RotatedKey:
        """Start a renewal now, which is delivered like one of the schedule."""
        parts = self._parts
        key_id = await parts.find(reference, caller)
        change = await self._rotation.minting.rotate(key_id, draws.secret(), actor=caller.actor)
        key, now = change.state, parts.clock.now()
        found = newest(key)
        version = 0 if found is None else found.version
        return RotatedKey(
            token_id=key_id,
            key_alias=key.alias,
            version=version,
            state=stage_of(key, now),
            old_key_expires=old_ends_at(key, version),
            deliveries=[way_of(target) for target in waiting(key).get(version, ())],
            warnings=await parts.in_force(change.position),
        )

    async def listed(self, caller: Principal, *, page: int, size: int) -> RotatingKeys:
        """One page of the keys that are renewed, newest first, within the caller's reach."""
        org_id, team_id = caller.bounds()
        pending = self._rotation.pending
        found, total = await pending.rotating(org_id, team_id, page=page, size=size)
        troubles = await pending.troubles([key.key_id for key in found])
        now = self._parts.clock.now()
        return RotatingKeys(
            keys=[rotating_key(key, troubles.get(key.key_id, []), now) for key in found],
            total_count=total,
            current_page=page,
            total_pages=-(-total // size),
        )

    async def _named(
        self, reference: str | None, request: RegenerateKey, caller: Principal
    ) -> tuple[KeyId, str | UnsetType | None]:
        """(the key that a request names, the change of its alias). Raises ApiError 400, 404, 503."""
        parts, alias = self._parts, request.key_alias
        if reference is not None:
            key_id = await parts.find(reference, caller)
            if request.key is not None and await parts.find(request.key, caller) != key_id:
                raise values.problem("key", "is another key than that of the path: leave it out")
            return key_id, alias
        if request.key is not None:
            return await parts.find(request.key, caller), alias
        if isinstance(alias, str):
            return await parts.find_alias(alias, caller), UNSET
        raise ApiError(400, "invalid_value", "Say which key: send key, or key_alias.", param="key")
