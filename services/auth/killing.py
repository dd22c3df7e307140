"""The work behind `/key/block`, `unblock` and `delete`: in force first, recorded after, with or without Postgres."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from services.auth import schemas
from services.auth.answers import DeletedKeys, KeyAnswer, RevokedKey
from services.auth.domain import key as domain
from services.auth.domain.key import KeyState
from services.auth.domain.stamp import Stamp
from services.auth.parts import Parts
from services.auth.rows import extended, key_row
from shared.access import Principal
from shared.errors import ApiError, BusError, StoreError, StoreUnavailable
from shared.events import AnyAuthEvent
from shared.ids import KeyId, uuid7
from shared.policy import Revocation, RevocationKind
from shared.telemetry import Counter
from shared.topology import key_kv, secret_kv

log = logging.getLogger(__name__)

RECORD_WAIT_S = 3.0
"""How long the answer to a revocation, which is in force by then, waits for the event table."""
UNRECORDED = "the revocation is in force; the database does not answer, and it will be recorded there when it does"
LINGERS = "recorded; the key is refused until the message bus answers again and the revocation can be lifted"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is to be revoked, with the bucket keys of its secrets."""

    key_id: KeyId
    secrets: tuple[str, ...]


class Killing:
    """Revoking keys and letting them live again."""

    def __init__(self, parts: Parts, *, revoked: Counter) -> None:
        self._parts = parts
        self._revoked = revoked

    async def block(self, named: schemas.NameKey, caller: Principal) -> KeyAnswer | RevokedKey:
        """Refuse a key everywhere, now."""
        target = await self._target(await self._parts.key_named(named.key, named.key_alias))
        recorded = await self._revoke("blocked", [target], caller)
        warnings = [] if recorded else [UNRECORDED]
        try:
            state = await self._parts.views.key(target.key_id) if recorded else None
        except StoreUnavailable:
            state = None
        if state is None:
            return self._unrecorded(target.key_id, recorded=recorded, warnings=warnings)
        row = key_row(state, self._parts.clock.now())
        return extended(row, KeyAnswer, key=state.key_id, warnings=warnings)

    async def delete(self, references: Sequence[str], aliases: Sequence[str], caller: Principal) -> DeletedKeys:
        """Kill keys for good: all of them or, when one is not known, none."""
        found = [await self._parts.find(reference) for reference in references]
        found += [await self._parts.find_alias(alias) for alias in aliases]
        targets = [await self._target(key_id) for key_id in dict.fromkeys(found)]
        recorded = await self._revoke("deleted", targets, caller)
        return DeletedKeys(
            deleted_keys=[target.key_id for target in targets],
            recorded=recorded,
            warnings=[] if recorded else [UNRECORDED],
        )

    async def unblock(self, named: schemas.NameKey, caller: Principal) -> KeyAnswer:
        """Let a blocked key work again. Needs the database; a deleted key stays dead."""
        parts = self._parts
        key_id = await parts.key_named(named.key, named.key_alias)
        entry = await self._standing(key_id)
        if entry is not None and entry.kind != "blocked":
            raise ApiError(
                409,
                "key_revoked",
                f"The key {key_id} was {entry.kind} and stays dead: mint another one.",
                param="key",
            )

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_unblock(state, stamp, entry=entry is not None)

        change = await parts.commits.key(key_id, decide, actor=caller.actor)
        warnings = await parts.in_force(change.position)
        if change.state.unblocked_at is not None and not warnings:
            try:
                await parts.revocations.lift(key_id, _names(change.state), change.state.unblocked_at)
            except BusError as error:
                log.warning("the revocation of %s could not be lifted yet: %s", key_id, error)
                warnings.append(LINGERS)
        row = key_row(change.state, parts.clock.now())
        return extended(row, KeyAnswer, key=key_id, warnings=warnings)

    # ---- parts ---------------------------------------------------------------------------------------

    async def _target(self, key_id: KeyId) -> Target:
        """A living key with its secrets; asks the database only for what the mirror does not know."""
        names = self._parts.directory.secrets_of(key_id)
        if not names or key_kv(key_id) not in self._parts.directory.keys:
            names = _names(domain.living(await self._parts.views.key(key_id)))
        return Target(key_id=key_id, secrets=tuple(names))

    async def _revoke(self, kind: RevocationKind, targets: Sequence[Target], caller: Principal) -> bool:
        """Put the entries, then make the events; whether those were made. Raises ApiError 503."""
        failure: BusError | None = None
        for target in targets:
            try:
                await self._parts.revocations.write(kind, target.key_id, target.secrets, caller.actor)
            except BusError as error:
                failure = error
                break
        recorded = await self._record(kind, targets, caller)
        if failure is not None:
            log.error("a revocation is not in force: %s", failure)
            raise ApiError(
                503,
                "revocation_pending",
                "The revocation is NOT in force everywhere: the message bus does not answer. "
                + (
                    "It is recorded and takes effect when the bus is back."
                    if recorded
                    else "It is not recorded either: repeat the request."
                ),
            )
        self._revoked.add(len(targets), kind, "yes" if recorded else "later")
        return recorded

    async def _record(self, kind: RevocationKind, targets: Sequence[Target], caller: Principal) -> bool:
        """Make the events; False when the database does not do it in time (it goes on in the background).

        Raises ApiError when a key turns out to be gone.
        """
        outcome: list[bool] = []
        refusals: list[ApiError] = []

        async def work() -> None:
            try:
                for target in targets:
                    position = await self._parts.revocations.record(kind, target.key_id, actor=caller.actor)
                    self._parts.relay.tell(position)
                outcome.append(True)
            except StoreError as error:
                log.warning("a revocation is in force and waits to be recorded: %s", error)
            except ApiError as error:
                refusals.append(error)

        task = self._parts.tasks.start(f"record-{uuid7()}", work())
        await asyncio.wait({task}, timeout=RECORD_WAIT_S)
        if refusals:
            raise refusals[0]
        return bool(outcome)

    async def _standing(self, key_id: KeyId) -> Revocation | None:
        try:
            return await self._parts.revocations.standing(key_id)
        except BusError:
            return self._parts.directory.revocation_of(key_id)

    def _unrecorded(self, key_id: KeyId, *, recorded: bool, warnings: list[str]) -> RevokedKey:
        record = self._parts.directory.keys.get(key_kv(key_id))
        return RevokedKey(
            token_id=key_id,
            token=key_id,
            key_alias=None if record is None else record.alias,
            team_id=None if record is None else record.team_id,
            organization_id=None if record is None else record.org_id,
            recorded=recorded,
            warnings=warnings,
        )


def _names(state: KeyState) -> tuple[str, ...]:
    return tuple(secret_kv(item.label, item.digest) for item in state.secrets)
