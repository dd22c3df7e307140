"""Minting a further version of a key's secret: event, sealed plaintext and deliveries in one transaction.

Whoever asks twice gets it once: the schedule by the due instant, people by the secret that their request drew.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.auth import secret as secrets
from services.auth.commits import Change, Commits
from services.auth.domain import key as keys
from services.auth.domain.key_state import KeyState
from services.auth.domain.leaking import decide_replaced
from services.auth.domain.renewing import Mint, already_minted, decide_mint
from services.auth.domain.rotation import AHEAD_MAX, due_of, no_delivery, obstacle
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import EXCHANGE, in_flight, newest, waiting, way_of
from services.auth.relay import Relay
from services.auth.rotation import signals
from services.auth.secret import Vault
from services.auth.store_rotation import Pending, keep_secret
from shared.clock import Clock
from shared.errors import ApiError
from shared.events import AnyAuthEvent, KeySecretMinted, RotationDue
from shared.ids import KeyId
from shared.sealing import Sealer
from shared.telemetry import Counter

if TYPE_CHECKING:
    from shared.pg import PgConnection

PURPOSE = "rotation"
AHEAD = "ahead"
"""What came of an instant that is due by another clock, and not by ours."""
SCHEDULE = "schedule"
"""Who acts when a secret is due."""
PASSED: dict[str, str] = {
    "in_flight": "the secret before is still on its way to its owner, so no further one is made",
    "no_delivery": "no way to the owner is set any more, so no secret is made",
    "no_collector": "no secret works with which the new one could be collected: regenerate the key",
    "too_many_versions": "too many secrets of the key work at the same time, so no further one is made",
}
"""Why a due instant passes without a new secret, where somebody should hear of it."""
_REFUSALS: dict[str, tuple[str, str]] = {
    "blocked": ("key_blocked", "The key is blocked: unblock it first."),
    "expired": ("key_expired", "The key has expired: give it a new duration first."),
    "in_flight": (
        "rotation_in_progress",
        "The secret before is still on its way to its owner: GET /rotation/list says how it goes. Regenerate the key to"
        " put another one in its place.",
    ),
    "no_collector": ("nothing_to_collect_with", "No secret of the key works any more: regenerate it."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """What came of minting; `secret` is the plaintext, which is in force with `change`."""

    change: Change[KeyState]
    secret: str = field(repr=False)


class Minting:
    """Makes versions. `wake` is set when deliveries wait."""

    def __init__(
        self,
        commits: Commits,
        pending: Pending,
        relay: Relay,
        vault: Vault,
        sealer: Sealer,
        clock: Clock,
        *,
        source: str,
        wake: asyncio.Event,
        outcomes: Counter,
    ) -> None:
        self._commits = commits
        self._pending = pending
        self._relay = relay
        self._vault = vault
        self._sealer = sealer
        self._clock = clock
        self._source = source
        self._wake = wake
        self._outcomes = outcomes

    async def due(self, event: RotationDue) -> str:
        """What came of a due instant, in a word: `minted`, `done` (there is nothing to do), or what stood against it.

        `ahead`: by our clock it is not due yet, so it is to be said again. Raises StoreUnavailable, VersionConflict.
        """
        if event.due_at > self._clock.now() + AHEAD_MAX:
            self._outcomes.add(1, AHEAD)
            return AHEAD
        text = secrets.mint()
        hashed = self._vault.hashed(text)
        outcome = "done"

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            nonlocal outcome
            outcome = "done"
            due = None if state is None else due_of(state, event.due_at, stamp.at)
            if state is None or due is None:
                return []
            outcome = obstacle(state, stamp.at) or "minted"
            if outcome != "minted":
                return []
            try:
                return decide_mint(state, Mint(secret=hashed, due_at=due), stamp)
            except ApiError as error:
                outcome = error.code
                return []

        try:
            change = await self._mint(event.key_id, text, decide, actor=SCHEDULE, cause=event.id)
        except ValueError:
            return "done"  # a key that never was
        if outcome in PASSED:
            await self._pass(change.state, event, outcome)
        self._outcomes.add(1, outcome)
        return outcome

    async def rotate(self, key_id: KeyId, text: str, *, actor: str, cause: str = "") -> Change[KeyState]:
        """A version that is delivered like one of the schedule.

        Raises ApiError 400, 404, 409, and StoreUnavailable.
        """
        mint = Mint(secret=self._vault.hashed(text), forms=self._vault.forms(text))

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            key = keys.living(state)
            if already_minted(key, mint):
                return []
            why = obstacle(key, stamp.at)
            if why == "no_delivery":
                raise no_delivery("The new secret would reach nobody")
            if why is not None:
                code, message = _REFUSALS[why]
                raise ApiError(409, code, message, param="key")
            return decide_mint(key, mint, stamp)

        change = await self._mint(key_id, text, decide, actor=actor, cause=cause)
        self._outcomes.add(1, "rotated")
        return change

    async def replace(self, key_id: KeyId, leaked: int, text: str, *, actor: str, cause: str) -> Change[KeyState]:
        """A version in the place of one that leaked: it is brought to the owner, and never collected; the leaked one
        gets its end with it. Without a position nothing came of it, and the leaked one must be revoked.

        Raises ApiError 404, 409, and StoreUnavailable.
        """
        hashed = self._vault.hashed(text)

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return decide_replaced(keys.living(state), leaked, hashed, stamp)

        change = await self._mint(key_id, text, decide, actor=actor, cause=cause)
        if change.position is not None:
            self._outcomes.add(1, "replaced")
        return change

    async def regenerate(
        self,
        key_id: KeyId,
        text: str,
        grace_s: int,
        update: Callable[[KeyState | None, Stamp], list[AnyAuthEvent]],
        *,
        actor: str,
    ) -> Minted:
        """A version that is shown to who asks for it, with a change of settings in the same commit.

        Raises what `update` raises, ApiError 404, 409, Duplicate, StoreUnavailable.
        """
        mint = Mint(secret=self._vault.hashed(text), forms=self._vault.forms(text), shown=True, grace_s=grace_s)

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            key = keys.living(state)
            if already_minted(key, mint):
                return []
            events = update(state, stamp)
            for event in events:
                key = keys.evolve(key, event)
            return events + decide_mint(key, mint, stamp, len(events))

        change = await self._mint(key_id, text, decide, actor=actor)
        self._outcomes.add(1, "regenerated")
        return Minted(change=change, secret=text)

    async def _mint(
        self,
        key_id: KeyId,
        text: str,
        decide: Callable[[KeyState | None, Stamp], list[AnyAuthEvent]],
        *,
        actor: str,
        cause: str = "",
    ) -> Change[KeyState]:
        async def keep(connection: "PgConnection", state: KeyState, events: list[AnyAuthEvent]) -> None:
            for event in events:
                if isinstance(event, KeySecretMinted) and event.version in waiting(state):
                    sealed = self._sealer.seal(PURPOSE, context(key_id, event.version), text.encode())
                    await keep_secret(connection, key_id, event.version, sealed, event.at)

        change = await self._commits.key(key_id, decide, actor=actor, cause=cause, beside=keep)
        if change.position is not None:
            self._relay.tell(change.position)
            self._wake.set()
        return change

    async def _pass(self, key: KeyState, event: RotationDue, why: str) -> None:
        flying = in_flight(key) or newest(key)
        ways = () if flying is None else (way_of(target) for target in waiting(key).get(flying.version, ()))
        signal = signals.failed(
            key,
            0 if flying is None else flying.version,
            next(iter(ways), EXCHANGE),
            PASSED[why],
            0,
            f"due {event.due_at.isoformat()}",
            at=self._clock.now(),
            source=self._source,
        )
        await self._pending.put(*signal)


def context(key_id: KeyId, version: int) -> str:
    """What the sealed plaintext of a version is tied to."""
    return f"{key_id}/{version}"
