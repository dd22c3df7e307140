"""Killing keys at once: entries of `revoked`, which beat every record in every mirror.

An entry is written before anything else and before the answer, also while Postgres is away. Later it is
turned into an event, and dropped when it has nothing left to say.
"""

import logging
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from services.auth.commits import Commits
from services.auth.directory import Directory
from services.auth.domain import key as keys
from services.auth.domain.key import KeyState
from services.auth.domain.records import Records
from shared.bus import Bucket
from shared.clock import Clock
from shared.errors import ApiError, BusUnavailable, Conflict, VersionConflict
from shared.ids import KeyId
from shared.policy import Revocation, RevocationKind
from shared.topology import key_kv

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 50
KEEP = timedelta(hours=1)
"""A deleted key's entry stays at least this long: a mirror may hear of its end before it hears that the
secret's record is gone."""
_STRENGTH: dict[RevocationKind, int] = {"blocked": 0, "deleted": 1, "leaked": 2}


class KeyReader(Protocol):
    """Where a key's state is read from."""

    async def key(self, key_id: str) -> KeyState | None:
        """A key, living or deleted."""
        ...


class Revocations:
    """Writes, lifts and settles entries."""

    def __init__(self, bucket: Bucket, directory: Directory, commits: Commits, views: KeyReader, clock: Clock) -> None:
        self._bucket = bucket
        self._directory = directory
        self._commits = commits
        self._views = views
        self._clock = clock
        self._dead: set[KeyId] = set()  # revoked keys of which the event table knows that they are no more

    async def write(self, kind: RevocationKind, key_id: KeyId, secrets: tuple[str, ...], actor: str) -> None:
        """Put the entries of a key and of its secrets; a stronger entry that stands there is left alone.

        Raises BusUnavailable: the revocation is then not in force.
        """
        entry = Revocation(kind=kind, at=self._clock.now(), actor=actor)
        for name in (key_kv(key_id), *secrets):
            await self._put(name, entry)

    async def record(self, kind: RevocationKind, key_id: KeyId, *, actor: str, cause: str = "") -> int | None:
        """Make the event of a revocation; the position, None when it was recorded before.

        Raises StoreUnavailable.
        """
        decide = keys.decide_delete if kind == "deleted" else keys.decide_block
        return (await self._commits.key(key_id, decide, actor=actor, cause=cause)).position

    async def standing(self, key_id: KeyId) -> Revocation | None:
        """The entry against a key, from the bucket itself. Raises BusUnavailable."""
        found = await self._bucket.get(key_kv(key_id))
        return None if found is None else msgspec.json.decode(found.value, type=Revocation)

    async def lift(self, key_id: KeyId, secrets: tuple[str, ...], unblocked_at: datetime) -> None:
        """Drop the `blocked` entries that are not younger than an unblock. Raises BusUnavailable."""
        for name in (*secrets, key_kv(key_id)):
            found = await self._bucket.get(name)
            if found is None:
                continue
            entry = msgspec.json.decode(found.value, type=Revocation)
            if entry.kind == "blocked" and entry.at <= unblocked_at:
                await self._drop(name, found.revision)

    async def reconcile(self, records: Records) -> int:
        """Turn entries without an event into events and drop those without a purpose; how many events.

        `records` is the fold of AUTH: what it shows already is recorded. Raises StoreUnavailable,
        BusUnavailable.
        """
        if not self._directory.revoked_mirror.ready:
            raise BusUnavailable("the revocations are not loaded yet")
        self._dead &= {KeyId(name[2:]) for name in self._directory.revoked}
        made = 0
        for name, entry in list(self._directory.revoked.items()):
            if name.startswith("k."):
                made += await self._settle_key(KeyId(name[2:]), entry, records)
            elif name.startswith("s."):
                await self._settle_secret(name, entry, records)
        return made

    async def _settle_key(self, key_id: KeyId, entry: Revocation, records: Records) -> int:
        record = records.key(key_id)
        if record is not None and (entry.kind == "leaked" or (entry.kind == "blocked" and record.blocked)):
            return 0  # what follows a leak is decided by people; until then the entry alone holds
        if record is None and key_id in self._dead:
            if self._has_done(entry) and not records.secrets_of(key_id):
                await self._drop_checked(key_kv(key_id), entry)
            return 0
        state = await self._views.key(key_id)
        if state is None or state.deleted_at is not None:
            self._dead.add(key_id)
            return 0
        if entry.kind == "blocked" and state.unblocked_at is not None and state.unblocked_at >= entry.at:
            await self._drop_checked(key_kv(key_id), entry)
            return 0
        return 0 if entry.kind == "leaked" else await self._record_later(key_id, entry)

    async def _record_later(self, key_id: KeyId, entry: Revocation) -> int:
        cause = f"revoked at {entry.at.isoformat()}, recorded later"
        try:
            position = await self.record(entry.kind, key_id, actor=entry.actor, cause=cause)
        except (ApiError, VersionConflict) as error:
            log.warning("the revocation of %s cannot be recorded yet: %s", key_id, error)
            return 0
        if position is None:
            return 0
        log.info("the key %s was %s while Postgres was away; it is recorded now", key_id, entry.kind)
        return 1

    async def _settle_secret(self, name: str, entry: Revocation, records: Records) -> None:
        known = self._directory.secrets.get(name)
        if known is None or name not in records.by_name:
            if known is None and name not in records.by_name and self._has_done(entry):
                await self._drop_checked(name, entry)
            return
        record = records.key(known.key_id)
        if entry.kind != "blocked" or record is None or record.blocked:
            return
        state = await self._views.key(known.key_id)
        if state is not None and state.unblocked_at is not None and state.unblocked_at >= entry.at:
            await self._drop_checked(name, entry)

    def _has_done(self, entry: Revocation) -> bool:
        return self._clock.now() - entry.at > KEEP

    async def _put(self, name: str, entry: Revocation) -> None:
        value = msgspec.json.encode(entry)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            found = await self._bucket.get(name)
            try:
                if found is None:
                    await self._bucket.create(name, value)
                    return
                standing = msgspec.json.decode(found.value, type=Revocation)
                stronger = _STRENGTH[standing.kind] > _STRENGTH[entry.kind]
                if stronger or (standing.kind == entry.kind and standing.at >= entry.at):
                    return  # as much as this, and as late, is in force already
                await self._bucket.update(name, value, found.revision)
                return
            except Conflict:
                if attempt == ATTEMPTS_MAX:
                    raise

    async def _drop_checked(self, name: str, entry: Revocation) -> None:
        """Drop an entry that the mirror showed, if it still stands there."""
        found = await self._bucket.get(name)
        if found is not None and msgspec.json.decode(found.value, type=Revocation) == entry:
            await self._drop(name, found.revision)

    async def _drop(self, name: str, revision: int) -> None:
        try:
            await self._bucket.delete(name, revision)
        except Conflict:
            log.info("the revocation %s was renewed meanwhile and stays", name)
