"""Refusing at once: entries of `revoked`, which beat every record in every mirror.

An entry stands under the name of a secret, a key, a team or an organization. It is written before anything else and
before the answer, also while Postgres is away. Later it is turned into an event, and dropped when it has nothing left
to say.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from services.auth.commits import Commits
from services.auth.domain import key, org, renewing, team
from services.auth.domain.key_state import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.records import Records
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from shared.bus import Bucket
from shared.clock import Clock
from shared.errors import ApiError, BusError, BusUnavailable, Conflict, VersionConflict
from shared.events import AnyAuthEvent
from shared.ids import KeyId, OrgId, TeamId
from shared.people import People
from shared.policy import KeyRecord, Revocation, RevocationKind, ScopeKind, ScopeRecord, SecretRecord
from shared.topology import key_kv, org_kv, team_kv

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 50
WRITES_AT_ONCE = 32
KEEP = timedelta(hours=1)
"""A dead name's entry stays at least this long: a mirror may hear of its end before it hears that the record below it
is gone."""
_STRENGTH: dict[RevocationKind, int] = {"blocked": 0, "deleted": 1, "leaked": 2}
_KINDS: dict[str, ScopeKind] = {"k": "key", "t": "team", "o": "org"}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be refused: `names` in the bucket, and the scope whose event will say so.

    With `versions` it is these versions of a key's secret that end, and the names are theirs: the key itself and its
    other versions go on.
    """

    kind: RevocationKind
    scope: ScopeKind
    scope_id: str
    names: tuple[str, ...]
    versions: tuple[int, ...] = ()


def of_key(kind: RevocationKind, key_id: KeyId, secrets: Iterable[str]) -> Order:
    """A key with all of its secrets."""
    return Order(kind=kind, scope="key", scope_id=key_id, names=(key_kv(key_id), *secrets))


def of_team(kind: RevocationKind, team_id: TeamId) -> Order:
    """A team with all that belongs to it: one entry."""
    return Order(kind=kind, scope="team", scope_id=team_id, names=(team_kv(team_id),))


def of_org(kind: RevocationKind, org_id: OrgId) -> Order:
    """An organization with all that belongs to it: one entry."""
    return Order(kind=kind, scope="org", scope_id=org_id, names=(org_kv(org_id),))


class StateReader(Protocol):
    """Where the state of a scope is read from."""

    async def key(self, key_id: str) -> KeyState | None:
        """A key, living or deleted."""
        ...

    async def team(self, team_id: str) -> TeamState | None:
        """A team, living or deleted."""
        ...

    async def org(self, org_id: str) -> OrgState | None:
        """An organization, living or deleted."""
        ...


class Revocations:
    """Writes, records, lifts and settles entries."""

    def __init__(self, bucket: Bucket, people: People, commits: Commits, views: StateReader, clock: Clock) -> None:
        self._bucket = bucket
        self._people = people
        self._commits = commits
        self._views = views
        self._clock = clock
        self._dead: set[str] = set()  # names with an entry of which the event table knows that they are no more

    # ---- in force ------------------------------------------------------------------------------------

    async def write(self, kind: RevocationKind, names: Sequence[str], actor: str, *, cause: str = "") -> int:
        """Put an entry under each name, the first one (of the key itself) before the others; a stronger one that stands
        there is left alone.

        Gives the revision of the bucket from which on a mirror refuses all of them. Raises BusUnavailable: the
        revocation is then not in force (or not under all names).
        """
        entry = Revocation(kind=kind, at=self._clock.now(), actor=actor, cause=cause)
        last = 0
        for name in names[:1]:
            last = await self._put(name, entry)
        for start in range(1, len(names), WRITES_AT_ONCE):
            try:
                async with asyncio.TaskGroup() as group:
                    puts = [group.create_task(self._put(n, entry)) for n in names[start : start + WRITES_AT_ONCE]]
            except BaseExceptionGroup as failures:
                raise _first(failures) from failures
            last = max(last, *(put.result() for put in puts))
        return last

    async def standing(self, name: str) -> Revocation | None:
        """The entry under a name, from the bucket itself. Raises BusUnavailable."""
        found = await self._bucket.get(name)
        return None if found is None else _read(found.value)

    async def lift(self, names: Iterable[str], unblocked_at: datetime) -> None:
        """Drop the `blocked` entries that are not younger than an unblock. Raises BusUnavailable."""
        for name in names:
            found = await self._bucket.get(name)
            if found is None:
                continue
            entry = _read(found.value)
            if entry.kind == "blocked" and entry.at <= unblocked_at:
                await self._drop(name, found.revision)

    # ---- recorded ------------------------------------------------------------------------------------

    async def record(self, order: Order, *, actor: str, cause: str = "") -> int | None:
        """Make the event of a revocation; the position, None when it was recorded before.

        Raises StoreUnavailable, and ApiError when there is no such thing (any more).
        """
        commits, scope_id = self._commits, order.scope_id
        if order.versions:
            return await self._record_versions(order, actor, cause)
        deleted = order.kind == "deleted"
        match order.scope:
            case "key":
                decide_key = key.decide_delete if deleted else key.decide_block
                return (await commits.key(KeyId(scope_id), decide_key, actor=actor, cause=cause)).position
            case "team":
                decide_team = team.decide_delete if deleted else team.decide_block
                return (await commits.team(TeamId(scope_id), decide_team, actor=actor, cause=cause)).position
            case "org":
                decide_org = org.decide_delete if deleted else org.decide_block
                return (await commits.org(OrgId(scope_id), decide_org, actor=actor, cause=cause)).position

    async def _record_versions(self, order: Order, actor: str, cause: str) -> int | None:
        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            if state is None or state.deleted_at is not None:
                return []  # its secrets are dead with it
            if order.kind == "leaked":
                return renewing.decide_leaked(state, stamp, versions=order.versions)
            events: list[AnyAuthEvent] = []
            for version in order.versions:
                events += renewing.decide_retire(state, version, "replaced", stamp, len(events))
            return events

        return (await self._commits.key(KeyId(order.scope_id), decide, actor=actor, cause=cause)).position

    # ---- settled -------------------------------------------------------------------------------------

    async def reconcile(self, records: Records) -> int:
        """Turn entries without an event into events and drop those without a purpose; how many events.

        `records` is the fold of AUTH: what it shows already is recorded. Raises StoreUnavailable,
        BusUnavailable.
        """
        if not self._people.revoked_mirror.ready:
            raise BusUnavailable("the revocations are not loaded yet")
        self._dead &= set(self._people.revoked)
        peopled = _Peopled(records)
        made = 0
        for name, entry in list(self._people.revoked.items()):
            if name.startswith("s."):
                made += await self._settle_secret(name, entry, records)
            elif name[:1] in _KINDS:
                made += await self._settle_scope(name, entry, records, peopled)
        return made

    async def _settle_scope(self, name: str, entry: Revocation, records: Records, peopled: "_Peopled") -> int:
        record = records.by_name.get(name)
        if entry.kind == "blocked" and isinstance(record, ScopeRecord) and record.blocked:
            return 0
        if name in self._dead:
            if self._has_done(entry) and record is None and not peopled.below(name):
                await self._drop_checked(name, entry)
            return 0
        state = await self._state(name)
        if state is None or state.deleted_at is not None:
            self._dead.add(name)
            return 0
        if entry.kind == "blocked" and state.unblocked_at is not None and state.unblocked_at >= entry.at:
            await self._drop_checked(name, entry)
            return 0
        if entry.kind == "leaked":
            return 0  # of secrets only: whoever put this one under another name decides what follows
        return await self._record_later(
            Order(kind=entry.kind, scope=_KINDS[name[0]], scope_id=name[2:], names=(name,)), entry
        )

    async def _settle_secret(self, name: str, entry: Revocation, records: Records) -> int:
        known = records.by_name.get(name)
        if not isinstance(known, SecretRecord):
            if name not in self._people.secrets and self._has_done(entry):
                await self._drop_checked(name, entry)
            return 0
        above = self._people.revoked.get(key_kv(known.key_id))
        if entry.kind == "leaked" or (entry.kind == "deleted" and (above is None or above.kind != "deleted")):
            return await self._record_later(
                Order(kind=entry.kind, scope="key", scope_id=known.key_id, names=(name,), versions=(known.version,)),
                entry,
            )
        record = records.key(known.key_id)
        if entry.kind != "blocked" or record is None or record.blocked:
            return 0
        state = await self._views.key(known.key_id)
        if state is not None and state.unblocked_at is not None and state.unblocked_at >= entry.at:
            await self._drop_checked(name, entry)
        return 0

    async def _record_later(self, order: Order, entry: Revocation) -> int:
        cause = "; ".join(filter(None, (entry.cause, f"revoked at {entry.at.isoformat()}, recorded later")))
        try:
            position = await self.record(order, actor=entry.actor, cause=cause)
        except (ApiError, VersionConflict) as error:
            log.warning("the revocation of %s %s cannot be recorded yet: %s", order.scope, order.scope_id, error)
            return 0
        if position is None:
            return 0
        log.info("%s %s was %s without being recorded; it is recorded now", order.scope, order.scope_id, order.kind)
        return 1

    async def _state(self, name: str) -> KeyState | TeamState | OrgState | None:
        match name[0]:
            case "k":
                return await self._views.key(name[2:])
            case "t":
                return await self._views.team(name[2:])
            case _:
                return await self._views.org(name[2:])

    def _has_done(self, entry: Revocation) -> bool:
        return self._clock.now() - entry.at > KEEP

    # ---- the bucket ----------------------------------------------------------------------------------

    async def _put(self, name: str, entry: Revocation) -> int:
        """The revision that refuses. Creating is tried first: most names have no entry, and each trip counts."""
        value = msgspec.json.encode(entry)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._bucket.create(name, value)
            except Conflict:
                found = await self._bucket.get(name)
            if found is None:
                continue  # removed in between
            standing = _read(found.value)
            stronger = _STRENGTH[standing.kind] > _STRENGTH[entry.kind]
            if stronger or (standing.kind == entry.kind and standing.at >= entry.at):
                return found.revision  # as much as this, and as late, is in force already
            try:
                return await self._bucket.update(name, value, found.revision)
            except Conflict:
                log.info("the revocation %s was changed meanwhile (attempt %d)", name, attempt)
        raise BusUnavailable(f"the revocation {name} is changed all the time by somebody else")

    async def _drop_checked(self, name: str, entry: Revocation) -> None:
        """Drop an entry that the mirror showed, if it still stands there."""
        found = await self._bucket.get(name)
        if found is not None and _read(found.value) == entry:
            await self._drop(name, found.revision)

    async def _drop(self, name: str, revision: int) -> None:
        try:
            await self._bucket.delete(name, revision)
        except Conflict:
            log.info("the revocation %s was renewed meanwhile and stays", name)


class _Peopled:
    """Which keys, teams and organizations still have secrets below them; looked through once, when first asked."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._names: set[str] | None = None

    def below(self, name: str) -> bool:
        """Whether a secret is left that the entry under this name refuses."""
        if self._names is None:
            self._names = set()
            for record in self._records.by_name.values():
                if isinstance(record, SecretRecord):
                    self._names.add(key_kv(record.key_id))
                elif isinstance(record, KeyRecord):
                    self._names.add(org_kv(record.org_id))
                    if record.team_id is not None:
                        self._names.add(team_kv(record.team_id))
        return name in self._names


class _Entry(msgspec.Struct, frozen=True):
    """What every entry has, of any version."""

    kind: str
    at: datetime
    actor: str


_NO_ENTRY = Revocation(kind="blocked", at=datetime(1970, 1, 1, tzinfo=UTC), actor="unknown")


def _read(value: bytes) -> Revocation:
    """An entry. What is none (see `shared.auth_log` on how that comes to be there) refuses all the same, as a block of
    long ago: it gives way to every entry, and to an unblock. Raises msgspec.DecodeError for one of a later version."""
    try:
        return msgspec.json.decode(value, type=Revocation)
    except msgspec.DecodeError:
        try:
            msgspec.json.decode(value, type=_Entry)
        except msgspec.DecodeError:
            return _NO_ENTRY
        raise


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure of the bus among several, else the first."""
    flat = [error for error in failures.exceptions if isinstance(error, BusError)]
    return flat[0] if flat else failures.exceptions[0]
