"""The work behind `/key/revoke` and `/key/report-leak`: one secret dies, and the key that it belongs to goes on.

A secret is found from the plaintext alone, from its SHA-256 or from its stored hash, in memory: Postgres may be away.
With a leaked version falls what was collected with it, also when it was over by then: that is for the database to know.
Who reports a leak shows the plaintext, and that is all the proof there can be. The plaintext goes nowhere else.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal

import msgspec

from services.auth import secret
from services.auth.answers.revocations import Received, RevokedSecrets
from services.auth.domain import versions
from services.auth.domain.derived import derived_id
from services.auth.domain.key import living
from services.auth.domain.key_state import KeyState
from services.auth.keys.places import Places
from services.auth.keys.revocations import KEEP, Order
from services.auth.keys.revoking import Revoked
from services.auth.parts import Parts
from services.auth.rotation.minting import Minting
from services.auth.schemas.leaks import LeakReport, ReportedToken, RevokeSecret, plain_text
from services.auth.settings import LeakAction
from shared.access import Principal
from shared.bus import Bus
from shared.errors import ApiError, BusError, StoreError, StoreUnavailable
from shared.events import KeyLeaked, encode
from shared.ids import KeyId, OrgId, TeamId, uuid7
from shared.policy import RevocationKind
from shared.telemetry import Counter
from shared.topology import key_kv, secret_kv, signal_subject

log = logging.getLogger(__name__)

REPORTS_AT_ONCE = 4
REPORTS_WAITING_MAX = 32
"""Reports of one token that are being read or wait for it; one more is told to come back."""
LISTS_AT_ONCE = 1
LISTS_WAITING_MAX = 8
"""The same of reports with more of them, which have places of their own: they take none of the others'."""
SIGNAL_TRIES = 20
SIGNAL_RETRY_S = 3.0
REPORTER = "leak-report"
"""How whoever reports a leak is named as an actor: nobody has to say who they are."""

_NONE_LEFT = (
    "no secret of this key works any more: POST /key/{}/regenerate gives it a new one, with the same scope and spend"
)


_UNSEEN = (
    "the database does not answer: versions that were collected with what leaked go on until it does, and end then;"
    " revoke the key by its id or alias to end all of its versions now"
)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of a key's secret that are `meant`, also those that are over; those of them that are not with the
    `names` they stand under, and the versions that live beside them."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None
    alias: str | None
    meant: frozenset[int]
    names: dict[int, tuple[str, ...]]
    others: tuple[int, ...]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: the versions that are over now, those that are left, and what the caller should know."""

    versions: tuple[int, ...]
    left: tuple[int, ...]
    revoked: Revoked
    unseen: bool = False

    @property
    def warnings(self) -> list[str]:
        """What the caller should know."""
        return [*self.revoked.warnings, *([_UNSEEN] if self.unseen else [])]


class Leaks:
    """Ends versions of secrets, or replaces them."""

    def __init__(self, parts: Parts, bus: Bus, *, action: LeakAction, minting: Minting, reported: Counter) -> None:
        self._parts = parts
        self._bus = bus
        self._action = action
        self._minting = minting
        self._reported = reported
        self._single = Places(REPORTS_AT_ONCE, REPORTS_WAITING_MAX)
        self._lists = Places(LISTS_AT_ONCE, LISTS_WAITING_MAX)

    # ---- by somebody who may -------------------------------------------------------------------------

    async def revoke(self, asked: RevokeSecret, caller: Principal) -> RevokedSecrets:
        """End one version (named by a secret or a hash of it) or all of a key (named by its id or alias)."""
        key_id = await self._parts.key_named(asked.key, asked.key_alias, caller)
        found = await self._named(key_id, asked.key)
        kind: RevocationKind = "leaked" if asked.leaked else "deleted"
        cause = plain_text(asked.reason, [asked.key or ""]) or ("leaked" if asked.leaked else "")
        ended = await self._end(kind, found, caller.actor, cause)
        if asked.leaked:
            await self._tell(found, ended.versions, "revoked", caller.actor)
        warnings = ended.warnings
        if not ended.versions:
            warnings = ["nothing was left to revoke: what was named had ended before", *warnings]
        if not ended.left:
            warnings = [*warnings, _NONE_LEFT.format(key_id)]
        return RevokedSecrets(
            token_id=key_id,
            token=key_id,
            key_alias=found.alias,
            team_id=found.team_id,
            organization_id=found.org_id,
            versions=list(ended.versions),
            versions_left=list(ended.left),
            leaked=asked.leaked,
            revoked_at=self._parts.clock.now(),
            recorded=ended.revoked.recorded,
            fleet=ended.revoked.fleet,
            warnings=warnings,
        )

    # ---- by anybody ----------------------------------------------------------------------------------

    async def report(self, report: LeakReport) -> Received:
        """Act on plaintexts that somebody found. The answer says nothing of which are known here.

        Raises ApiError 429 when too many reports wait, 503 when a revocation is not in force: repeat the report.
        """
        if not self._parts.people.ready:
            raise ApiError(503, "unavailable", "The keys are not loaded yet; repeat the report shortly.")
        tokens = {token.secret: token for token in reversed(report.tokens)}  # found in several places: reported once
        async with (self._single if len(tokens) == 1 else self._lists).one():
            holders = await self._holders(list(tokens))
            for text, token in tokens.items():
                await self._leaked(token, holders.get(text))
        return Received(received=len(report.tokens))

    async def _leaked(self, token: ReportedToken, key_id: KeyId | None) -> None:
        found = None if key_id is None else await self._of_plaintext(token.secret, key_id)
        if found is None:
            self._reported.add(1, "unknown")
            return
        where = "; ".join(filter(None, (token.source, token.url)))
        cause = f"reported as leaked{f': {where}' if where else ''}"
        action: Literal["revoked", "rotated"] = "revoked"
        ends = await self._replaced(found, cause) if self._action == "rotate" and found.names else None
        if ends is not None:
            action, ended = "rotated", tuple(sorted(found.names))
        else:
            ended = (await self._end("leaked", found, REPORTER, cause)).versions
        if not ended:  # it was over, and nothing came of it
            self._reported.add(1, "unknown")
            return
        self._reported.add(1, action)
        log.warning("a secret of the key %s was reported as leaked: %s", found.key_id, action)
        await self._tell(found, ended, action, REPORTER, found_by=token.source, found_at=token.url, ends=ends)

    async def _replaced(self, found: Found, cause: str) -> datetime | None:
        """When the leaked version ends, with a new one on its way to the owner; None: it must be revoked. So it is
        without the database, too."""
        leaked = max(found.names)
        try:
            text = secret.mint()
            change = await self._minting.replace(found.key_id, leaked, text, actor=REPORTER, cause=cause)
        except (StoreError, ApiError) as error:
            log.warning("the key %s cannot be rotated after a leak, and the secret is revoked: %s", found.key_id, error)
            return None
        version = next((one for one in change.state.secrets if one.version == leaked), None)
        if change.position is None or version is None:
            return None
        return version.retired_at or version.not_after

    # ---- parts ---------------------------------------------------------------------------------------

    async def _end(self, kind: RevocationKind, found: Found, actor: str, cause: str) -> Ended:
        """End what is meant at once and, where it leaked, what falls with it, before the answer.

        What falls is looked for after the event of the leak: whoever collects after that is refused.
        """
        revoking, unseen = self._parts.revoking, False
        names, left = dict(found.names), found.others
        revoked = await revoking.revoke(_orders(kind, found.key_id, names), actor, cause=cause)
        if kind == "leaked":
            try:
                further, left = await self._fallen(found)
            except StoreError as error:
                log.warning("what was collected with a leaked secret of %s is not known: %s", found.key_id, error)
                further, unseen = {}, True
            if further:
                more = await revoking.revoke(_orders(kind, found.key_id, further), actor, cause=cause)
                recorded = more.recorded and revoked.recorded
                revoked, names = msgspec.structs.replace(more, recorded=recorded), names | further
        return Ended(versions=tuple(sorted(names)), left=left, revoked=revoked, unseen=unseen)

    async def _fallen(self, found: Found) -> tuple[dict[int, tuple[str, ...]], tuple[int, ...]]:
        """(what falls with what is meant and is not refused yet, with its names; the versions that are left then).

        A version that fell a moment ago is looked at too: its record may stand until the relay removes it.
        Raises StoreUnavailable.
        """
        now, revoked = self._parts.clock.now(), self._parts.people.revoked
        state = await self._parts.views.key(found.key_id)
        if state is None or state.deleted_at is not None:
            return {}, ()
        fell = versions.fallen(state, found.meant)
        left = tuple(one for one in _working(state, now) if one not in fell)
        further: dict[int, tuple[str, ...]] = {}
        for one in state.secrets:
            name = secret_kv(one.label, one.digest)
            is_over = one.retired_at is not None and (one.retired_at < now - KEEP or name in revoked)
            if one.version in fell - set(found.names) and one.retired_for in (None, "leaked") and not is_over:
                further[one.version] = tuple(dict.fromkeys((name, *self._names(found.key_id, one.version))))
        return further, left

    async def _named(self, key_id: KeyId, reference: str | None) -> Found:
        """What a reference to a key means: the version that it is the secret or a hash of, or all that live.

        Raises ApiError 404, StoreUnavailable.
        """
        groups = [] if reference is None or reference == key_id else self._parts.vault.meant(reference)
        found = self._mirrored(key_id, groups)
        return found or await self._stored(living(await self._parts.views.key(key_id)), groups)

    async def _holders(self, texts: Sequence[str]) -> dict[str, KeyId]:
        """The keys behind plaintexts: as the mirror has them, and of those that it does not know, in one question, as
        the database does. A text with the shape of a secret of ours and a wrong checksum was never one."""
        parts = self._parts
        found: dict[str, KeyId] = {}
        unknown: dict[str, str] = {}
        for text in texts:
            group = parts.vault.names_of_secret(text)
            record = next((parts.people.secrets[name] for name in group if name in parts.people.secrets), None)
            if record is not None:
                found[text] = record.key_id
            elif not secret.mistyped(text):
                unknown |= {name.rpartition(".")[2]: text for name in group}
        if not unknown:
            return found
        try:
            stored = await parts.views.keys_of_digests(list(unknown))
        except StoreUnavailable as error:  # what the mirror does not know works nowhere
            log.warning(
                "reported secrets are not known to the proxies; whether they were any, nobody can say: %s", error
            )
            return found
        return found | {unknown[digest]: key_id for digest, key_id in stored.items()}

    async def _of_plaintext(self, text: str, key_id: KeyId) -> Found | None:
        """The living version of a key behind a plaintext, None if there is none."""
        group = self._parts.vault.names_of_secret(text)
        found = self._mirrored(key_id, [group])
        if found is not None:
            return found
        try:
            state = await self._parts.views.key(key_id)
        except StoreUnavailable as error:  # what the mirror does not know works nowhere
            log.warning("a reported secret is not known to the proxies; whether it was one, nobody can say: %s", error)
            return None
        if state is None or state.deleted_at is not None:
            return None
        return await self._stored(state, [group])

    async def _stored(self, key: KeyState, groups: Sequence[tuple[str, ...]]) -> Found:
        """The same from the database, which also knows hashes under which a secret stood before; nothing to end (no
        names) when the version that is meant has ended."""
        digests = [name.rpartition(".")[2] for group in groups for name in group]
        meant = await self._parts.views.versions_of_digest(key.key_id, digests) if digests else None
        return _of_state(key, groups, meant, self._parts.clock.now())

    def _names(self, key_id: KeyId, version: int) -> tuple[str, ...]:
        """The names under which the mirrors know a version."""
        people = self._parts.people
        return tuple(name for name in people.secrets_of(key_id) if people.secrets[name].version == version)

    def _mirrored(self, key_id: KeyId, groups: Sequence[tuple[str, ...]]) -> Found | None:
        """What the mirrors know of all versions, or of the one that stands under a name of a group; else None."""
        people, now = self._parts.people, self._parts.clock.now()
        record = people.keys.get(key_kv(key_id))
        known: dict[int, tuple[str, ...]] = {}
        left: set[int] = set()
        for name in people.secrets_of(key_id):
            one = people.secrets[name]
            known[one.version] = (*known.get(one.version, ()), name)
            if name not in people.revoked and (one.not_after is None or one.not_after > now):
                left.add(one.version)
        names = _chosen(known, groups)
        if record is None or not names:
            return None
        return Found(
            key_id=key_id,
            org_id=record.org_id,
            team_id=record.team_id,
            alias=record.alias,
            meant=frozenset(names),
            names=names,
            others=tuple(sorted(left - set(names))),
        )

    async def _tell(
        self,
        found: Found,
        ended: Sequence[int],
        action: Literal["revoked", "rotated"],
        reporter: str,
        *,
        found_by: str = "",
        found_at: str = "",
        ends: datetime | None = None,
    ) -> None:
        """Signal the leak, once for each version; a bus that does not answer is tried again in the background."""
        signals = [
            KeyLeaked(
                id=derived_id("key.leaked", found.key_id, str(version), action),
                at=self._parts.clock.now(),
                source=self._parts.commits.source,
                key_id=found.key_id,
                org_id=found.org_id,
                team_id=found.team_id,
                alias=found.alias,
                version=version,
                action=action,
                reporter=reporter,
                found_by=found_by,
                found_at=found_at,
                old_ends_at=ends,
            )
            for version in ended
        ]
        try:
            await self._publish(signals)
        except BusError:
            self._parts.tasks.start(f"leak-{uuid7()}", self._publish_later(signals))

    async def _publish(self, signals: Sequence[KeyLeaked]) -> None:
        for signal in signals:
            subject = signal_subject("key.leaked", "key", signal.key_id)
            await self._bus.publish(subject, encode(signal), msg_id=signal.id)

    async def _publish_later(self, signals: Sequence[KeyLeaked]) -> None:
        for _ in range(SIGNAL_TRIES):
            await asyncio.sleep(SIGNAL_RETRY_S)
            with suppress(BusError):
                await self._publish(signals)
                return
        log.error("the signal of a leak of the key %s could not be sent", signals[0].key_id)


def _of_state(state: KeyState, groups: Sequence[tuple[str, ...]], meant: frozenset[int] | None, now: datetime) -> Found:
    """Those of a key's living versions that are meant (None: all), with the names that go with them."""
    living = [one for one in state.secrets if one.retired_at is None]
    known = {one.version: (secret_kv(one.label, one.digest),) for one in living}
    names = {version: found for version, found in known.items() if meant is None or version in meant}
    names |= _chosen(names, groups)
    return Found(
        key_id=state.key_id,
        org_id=state.org_id,
        team_id=state.team_id,
        alias=state.alias,
        meant=frozenset(names) if meant is None else meant,
        names=names,
        others=tuple(one for one in _working(state, now) if one not in names),
    )


def _working(state: KeyState, now: datetime) -> list[int]:
    """The versions of a key that work at an instant, the oldest first."""
    living = versions.living_versions(state)
    return sorted(one.version for one in living if one.not_after is None or one.not_after > now)


def _orders(kind: RevocationKind, key_id: KeyId, names: Mapping[int, tuple[str, ...]]) -> list[Order]:
    """The order for some versions; none for none."""
    flat = tuple(name for group in names.values() for name in group)
    order = Order(kind=kind, scope="key", scope_id=key_id, names=flat, versions=tuple(sorted(names)))
    return [order] if names else []


def _chosen(known: dict[int, tuple[str, ...]], groups: Sequence[tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
    """The versions that are meant, each with all names that are to be refused: all versions when no group of names is
    given; else the one that stands under a name of a group, with the whole group, for it may be about to stand under
    another name of it."""
    if not groups:
        return known
    return {
        version: tuple(dict.fromkeys((*names, *group)))
        for version, names in known.items()
        for group in groups
        if set(names) & set(group)
    }
