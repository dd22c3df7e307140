"""The work behind `/key/info`, `/v2/key/info`, `/key/list`, `/key/aliases` and `/key/health`."""

import asyncio
from collections.abc import Sequence

import msgspec

from services.auth.answers.keys import KeyAliases, KeyHealth, KeyInfo, KeyInfoAnswer, KeyInfosAnswer, KeyList
from services.auth.domain import key as domain
from services.auth.domain import values
from services.auth.domain.key_state import KeyState
from services.auth.parts import Parts
from services.auth.rows.base import extended
from services.auth.rows.keys import key_row, version_rows
from services.auth.spend import Spend
from services.auth.store_keys import KeyFilter, KeyOrder
from shared.access import Principal
from shared.errors import ApiError
from shared.ids import KeyId
from shared.topology import key_kv

ASKED_AT_ONCE = 8
"""Keys whose spend is asked for at the same time."""


class KeyReading:
    """Reading keys."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def info(self, reference: str | None, alias: str | None, caller: Principal) -> KeyInfoAnswer:
        """A key with its spend. A virtual key sees itself and nothing else."""
        parts = self._parts
        if alias is not None:
            if caller.role is None:
                raise _itself_only()
            reference = await parts.key_named(reference, alias, caller)
        if reference is None and caller.key_id is None:
            raise ApiError(400, "invalid_value", "Say which key: ?key=<secret, key id or stored hash>.", param="key")
        key_id = caller.key_id if reference is None else await self._visible(reference, caller)
        state = domain.living(await parts.views.key(key_id or ""))
        spend = await self._spend(state, caller)
        return KeyInfoAnswer(
            key=reference or state.key_id, info=self._info(state, spend, caller), warnings=spend.warnings
        )

    async def infos(self, references: Sequence[str], aliases: Sequence[str], caller: Principal) -> KeyInfosAnswer:
        """Several keys with their spend, in the order in which they were named."""
        states: dict[str, KeyState] = {}
        for name in (*references, *aliases):
            try:
                found = await (self._parts.find(name, caller) if references else self._parts.find_alias(name, caller))
                states[name] = domain.living(await self._parts.views.key(found))
            except ApiError as error:
                if error.status != 404:
                    raise
        spends = await self._spends(list(states.values()), caller)
        return KeyInfosAnswer(
            key=[*references, *aliases],
            info=[self._info(state, spend, caller) for state, spend in zip(states.values(), spends, strict=True)],
            not_found=[name for name in (*references, *aliases) if name not in states],
            warnings=list(dict.fromkeys(warning for spend in spends for warning in spend.warnings)),
        )

    async def list(
        self,
        wanted: KeyFilter,
        caller: Principal,
        *,
        reference: str | None = None,
        page: int,
        size: int,
        whole: bool,
        order: KeyOrder = "created_at",
        descending: bool = True,
    ) -> KeyList:
        """One page of the keys within reach, the living ones and newest first unless asked otherwise.

        `reference` narrows it to the key of a hash or an id.
        """
        now = self._parts.clock.now()
        if reference is not None:
            wanted = msgspec.structs.replace(wanted, key_id=await self._key_of_hash(reference))
        found, total = await self._parts.views.keys(
            msgspec.structs.replace(wanted, within=caller.bounds()),
            page=page,
            size=size,
            now=now,
            order=order,
            descending=descending,
        )
        return KeyList(
            keys=[key_row(state, now, caller=caller) for state in found]
            if whole
            else [state.key_id for state in found],
            total_count=total,
            current_page=page,
            total_pages=-(-total // size),
        )

    async def aliases(self, wanted: KeyFilter, caller: Principal, *, page: int, size: int) -> KeyAliases:
        """One page of the aliases of living keys within reach."""
        wanted = msgspec.structs.replace(wanted, within=caller.bounds())
        found, total = await self._parts.views.key_aliases(wanted, page=page, size=size)
        return KeyAliases(aliases=found, total_count=total, current_page=page, total_pages=-(-total // size), size=size)

    async def health(self, caller: Principal, credential: str | None) -> KeyHealth:
        """How the key that asks is: whoever gets an answer has one that is in force. Raises ApiError 400."""
        people = self._parts.people
        record = None if caller.key_id is None else people.keys.get(key_kv(caller.key_id))
        if record is None:
            raise ApiError(400, "invalid_value", "This is asked by a key about itself: send one as the credential.")
        found = None if credential is None else people.secret(credential)
        secret = None if found is None else found[1]
        warnings: list[str] = []
        if secret is not None and secret.version < record.newest:
            ends = "" if secret.not_after is None else f" It works until {secret.not_after.isoformat()}."
            how = " Collect the newest with POST /key/exchange." if record.collectable else ""
            which = f"this is version {secret.version} of the secret, {record.newest} is the newest"
            warnings.append(f"{which}.{ends}{how}")
        return KeyHealth(
            key="healthy",
            token_id=record.key_id,
            version=None if secret is None else secret.version,
            newest=record.newest,
            expires=record.expires_at,
            ends_at=None if secret is None else secret.not_after,
            warnings=warnings,
        )

    # ---- parts ---------------------------------------------------------------------------------------

    def _info(self, state: KeyState, spend: Spend, caller: Principal) -> KeyInfo:
        now = self._parts.clock.now()
        return extended(
            key_row(state, now, spend, caller=caller),
            KeyInfo,
            spend=spend.current,
            total_spend=spend.total,
            versions=version_rows(state, now, spend.versions),
        )

    async def _spend(self, state: KeyState, caller: Principal) -> Spend:
        now = self._parts.clock.now()
        return await self._parts.ledger.spend("key", state.key_id, state, now=now, actor=caller.actor)

    async def _spends(self, states: Sequence[KeyState], caller: Principal) -> Sequence[Spend]:
        """The spend of several keys, some at a time; a ledger that does not answer is not asked for the rest."""
        spends: list[Spend] = []
        for start in range(0, len(states), ASKED_AT_ONCE):
            if any(spend.current is None for spend in spends):
                unknown = msgspec.structs.replace(spends[-1], current=None, total=None, windows=None, versions=None)
                return [*spends, *([unknown] * (len(states) - start))]
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(self._spend(state, caller)) for state in states[start : start + ASKED_AT_ONCE]
                ]
            spends += [task.result() for task in asked]
        return spends

    async def _key_of_hash(self, reference: str) -> str:
        """The key that a hash or an id stands for; a text that names none stays, and is found nowhere."""
        digests = self._parts.vault.digests(reference)
        found = await self._parts.views.key_of_digest(digests) if digests else None
        return found or reference

    async def _visible(self, reference: str, caller: Principal) -> KeyId:
        if caller.role is not None:
            return await self._parts.find(reference, caller)
        values.refuse_odd("key", reference)
        if self._parts.mirrored(reference) != caller.key_id:
            raise _itself_only()
        return KeyId(caller.key_id or "")


def _itself_only() -> ApiError:
    return ApiError(403, "not_allowed", "A virtual key may read about itself only.", kind="permission_error")
