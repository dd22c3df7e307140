"""The work behind `/key/revoke` and `/key/report-leak`: one secret dies, and the key that it belongs to goes on.

A secret is found from the plaintext alone, from its SHA-256 or from its stored hash, in memory: Postgres may be away.
Who reports a leak shows the plaintext, and that is all the proof there can be. The plaintext goes nowhere else.
"""

import asyncio
import logging
from collections.abc import Sequence
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
from services.auth.keys.revocations import Order
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
"""Reports that are being read or wait for it; one more is told to come back."""
SIGNAL_TRIES = 20
SIGNAL_RETRY_S = 3.0
REPORTER = "leak-report"
"""How whoever reports a leak is named as an actor: nobody has to say who they are."""

_NONE_LEFT = (
    "no secret of this key works any more: POST /key/{}/regenerate gives it a new one, with the same scope and spend"
)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of a key's secret with the names they stand under, and the versions that live beside them."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None
    alias: str | None
    names: dict[int, tuple[str, ...]]
    others: tuple[int, ...]


class Leaks:
    """Ends versions of secrets, or replaces them."""

    def __init__(self, parts: Parts, bus: Bus, *, action: LeakAction, minting: Minting, reported: Counter) -> None:
        self._parts = parts
        self._bus = bus
        self._action = action
        self._minting = minting
        self._reported = reported
        self._places = asyncio.Semaphore(REPORTS_AT_ONCE)
        self._waiting = 0

    # ---- by somebody who may -------------------------------------------------------------------------

    async def revoke(self, asked: RevokeSecret, caller: Principal) -> RevokedSecrets:
        """End one version (named by a secret or a hash of it) or all of a key (named by its id or alias)."""
        key_id = await self._parts.key_named(asked.key, asked.key_alias, caller)
        found = await self._named(key_id, asked.key)
        kind: RevocationKind = "leaked" if asked.leaked else "deleted"
        cause = plain_text(asked.reason, [asked.key or ""]) or ("leaked" if asked.leaked else "")
        revoked = await self._end(kind, found, caller.actor, cause)
        if asked.leaked:
            await self._tell(found, "revoked", caller.actor, "")
        warnings = revoked.warnings
        if not found.names:
            warnings = ["nothing was left to revoke: what was named had ended before", *warnings]
        if not found.others:
            warnings = [*warnings, _NONE_LEFT.format(key_id)]
        return RevokedSecrets(
            token_id=key_id,
            token=key_id,
            key_alias=found.alias,
            team_id=found.team_id,
            organization_id=found.org_id,
            versions=sorted(found.names),
            versions_left=sorted(found.others),
            leaked=asked.leaked,
            revoked_at=self._parts.clock.now(),
            recorded=revoked.recorded,
            fleet=revoked.fleet,
            warnings=warnings,
        )

    # ---- by anybody ----------------------------------------------------------------------------------

    async def report(self, report: LeakReport) -> Received:
        """Act on plaintexts that somebody found. The answer says nothing of which are known here.

        Raises ApiError 429 when too many reports wait, 503 when a revocation is not in force: repeat the report.
        """
        if not self._parts.people.ready:
            raise ApiError(503, "unavailable", "The keys are not loaded yet; repeat the report shortly.")
        if self._waiting >= REPORTS_WAITING_MAX:
            raise ApiError(429, "too_many_reports", "Too many reports at once: repeat this one shortly.")
        self._waiting += 1
        try:
            async with self._places:
                for token in report.tokens:
                    await self._leaked(token)
        finally:
            self._waiting -= 1
        return Received(received=len(report.tokens))

    async def _leaked(self, token: ReportedToken) -> None:
        found = await self._of_plaintext(token.secret)
        if found is None or not found.names:
            self._reported.add(1, "unknown")
            return
        where = "; ".join(filter(None, (token.source, token.url)))
        cause = f"reported as leaked{f': {where}' if where else ''}"
        action: Literal["revoked", "rotated"] = "revoked"
        if self._action == "rotate" and await self._rotated(found, cause):
            action = "rotated"
        else:
            await self._end("leaked", found, REPORTER, cause)
        self._reported.add(1, action)
        log.warning("a secret of the key %s was reported as leaked: %s", found.key_id, action)
        await self._tell(found, action, token.source or REPORTER, token.url)

    async def _rotated(self, found: Found, cause: str) -> bool:
        """Whether a new secret is on its way to the owner, or there already. It must be brought: whoever has the leaked
        one could collect it, too. Without the database, or a place to bring it to, there is none."""
        leaked = max(found.names)
        try:
            state = await self._parts.views.key(found.key_id)
            if state is None or not versions.terms_of(state).targets:
                return False
            newer = [one for one in versions.living_versions(state) if one.version > leaked]
            if newer:
                return not any(versions.is_collectable(state, one) for one in newer)
            await self._minting.rotate(found.key_id, secret.mint(), actor=REPORTER, cause=cause, leaked=True)
        except (StoreError, ApiError) as error:
            log.warning("the key %s cannot be rotated after a leak, and the secret is revoked: %s", found.key_id, error)
            return False
        return True

    # ---- parts ---------------------------------------------------------------------------------------

    async def _end(self, kind: RevocationKind, found: Found, actor: str, cause: str) -> Revoked:
        names = tuple(name for group in found.names.values() for name in group)
        ended = tuple(sorted(found.names))
        order = Order(kind=kind, scope="key", scope_id=found.key_id, names=names, versions=ended)
        return await self._parts.revoking.revoke([order] if names else [], actor, cause=cause)

    async def _named(self, key_id: KeyId, reference: str | None) -> Found:
        """What a reference to a key means: the version that it is the secret or a hash of, or all that live.

        Raises ApiError 404, StoreUnavailable.
        """
        groups = [] if reference is None or reference == key_id else self._parts.vault.meant(reference)
        found = self._mirrored(key_id, groups)
        return found or await self._stored(living(await self._parts.views.key(key_id)), groups)

    async def _of_plaintext(self, text: str) -> Found | None:
        """The living version behind a plaintext, None if there is none."""
        parts = self._parts
        group = parts.vault.names_of_secret(text)
        record = next((parts.people.secrets[name] for name in group if name in parts.people.secrets), None)
        found = None if record is None else self._mirrored(record.key_id, [group])
        if found is not None:
            return found
        try:
            key_id = await parts.views.key_of_digest([name.rpartition(".")[2] for name in group])
            state = None if key_id is None else await parts.views.key(key_id)
        except StoreUnavailable:
            return None  # what the mirror does not know works nowhere
        if state is None or state.deleted_at is not None:
            return None
        return await self._stored(state, [group])

    async def _stored(self, key: KeyState, groups: Sequence[tuple[str, ...]]) -> Found:
        """The same from the database, which also knows hashes under which a secret stood before; nothing to end (no
        names) when the version that is meant has ended."""
        digests = [name.rpartition(".")[2] for group in groups for name in group]
        meant = await self._parts.views.versions_of_digest(key.key_id, digests) if digests else None
        return _of_state(key, groups, meant, self._parts.clock.now())

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
            names=names,
            others=tuple(sorted(left - set(names))),
        )

    async def _tell(self, found: Found, action: Literal["revoked", "rotated"], reporter: str, found_at: str) -> None:
        """Signal the leak; a bus that does not answer is tried again in the background."""
        signals = [
            KeyLeaked(
                id=derived_id("key.leaked", found.key_id, str(version)),
                at=self._parts.clock.now(),
                source=self._parts.commits.source,
                key_id=found.key_id,
                org_id=found.org_id,
                team_id=found.team_id,
                alias=found.alias,
                version=version,
                action=action,
                reporter=reporter,
                found_at=found_at,
            )
            for version in sorted(found.names)
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
    left = {one.version for one in living if one.not_after is None or one.not_after > now}
    return Found(
        key_id=state.key_id,
        org_id=state.org_id,
        team_id=state.team_id,
        alias=state.alias,
        names=names,
        others=tuple(sorted(left - set(names))),
    )


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
