"""The work behind `/key/block`, `unblock` and `delete`: in force first, recorded after, with or without Postgres."""

import logging
from collections.abc import Sequence

from services.auth.answers.keys import DeletedKeys, KeyAnswer, RevokedKey
from services.auth.domain import key as domain
from services.auth.domain.key_state import KeyState
from services.auth.domain.stamp import Stamp
from services.auth.keys.revoking import Revoked, names_of
from services.auth.parts import Parts
from services.auth.rows.base import extended
from services.auth.rows.keys import key_row
from services.auth.schemas import keys as keys_schemas
from shared.access import Principal
from shared.errors import ApiError, BusError, StoreUnavailable
from shared.events import AnyAuthEvent
from shared.ids import KeyId
from shared.policy import Revocation
from shared.topology import key_kv

log = logging.getLogger(__name__)

LINGERS = "recorded; the key is refused until the message bus answers again and the revocation can be lifted"


class Killing:
    """Revoking keys and letting them live again. A key out of the caller's reach is as one that is not there."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def block(self, named: keys_schemas.NameKey, caller: Principal) -> KeyAnswer | RevokedKey:
        """Refuse a key everywhere, now."""
        key_id = await self._parts.key_named(named.key, named.key_alias, caller)
        order = await self._parts.revoking.order_for_key("blocked", key_id)
        revoked = await self._parts.revoking.revoke([order], caller.actor)
        try:
            state = await self._parts.views.key(key_id) if revoked.recorded else None
        except StoreUnavailable:
            state = None
        if state is None:
            return self._unrecorded(key_id, revoked)
        row = key_row(state, self._parts.clock.now(), caller=caller)
        return extended(row, KeyAnswer, key=key_id, fleet=revoked.fleet, warnings=revoked.warnings)

    async def delete(self, references: Sequence[str], aliases: Sequence[str], caller: Principal) -> DeletedKeys:
        """Kill keys for good: all of them or, when one is not known, none."""
        found = [await self._parts.find(reference, caller) for reference in references]
        found += [await self._parts.find_alias(alias, caller) for alias in aliases]
        orders = [await self._parts.revoking.order_for_key("deleted", key_id) for key_id in dict.fromkeys(found)]
        revoked = await self._parts.revoking.revoke(orders, caller.actor)
        return DeletedKeys(
            deleted_keys=[order.scope_id for order in orders],
            recorded=revoked.recorded,
            fleet=revoked.fleet,
            warnings=revoked.warnings,
        )

    async def unblock(self, named: keys_schemas.NameKey, caller: Principal) -> KeyAnswer:
        """Let a blocked key work again. Needs the database; a deleted key stays dead."""
        parts = self._parts
        key_id = await parts.key_named(named.key, named.key_alias, caller)
        entry = await self._standing(key_id)
        if entry is not None and entry.kind != "blocked":
            raise ApiError(
                409,
                "key_revoked",
                f"The key {key_id} was {entry.kind} and stays dead: mint another one.",
                param="key",
            )

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_unblock(state, stamp, entry=None if entry is None else entry.at)

        change = await parts.commits.key(key_id, decide, actor=caller.actor)
        warnings = await parts.in_force(change.position)
        if change.state.unblocked_at is not None and not warnings:
            try:
                names = (*names_of(change.state), key_kv(key_id))
                await parts.revocations.lift(names, change.state.unblocked_at)
            except BusError as error:
                log.warning("the revocation of %s could not be lifted yet: %s", key_id, error)
                warnings.append(LINGERS)
        row = key_row(change.state, parts.clock.now(), caller=caller)
        return extended(row, KeyAnswer, key=key_id, warnings=warnings)

    # ---- parts ---------------------------------------------------------------------------------------

    async def _standing(self, key_id: KeyId) -> Revocation | None:
        try:
            return await self._parts.revocations.standing(key_kv(key_id))
        except BusError:
            return self._parts.people.revocation_of(key_id)

    def _unrecorded(self, key_id: KeyId, revoked: Revoked) -> RevokedKey:
        record = self._parts.people.keys.get(key_kv(key_id))
        return RevokedKey(
            token_id=key_id,
            token=key_id,
            key_alias=None if record is None else record.alias,
            team_id=None if record is None else record.team_id,
            organization_id=None if record is None else record.org_id,
            recorded=revoked.recorded,
            fleet=revoked.fleet,
            warnings=revoked.warnings,
        )
