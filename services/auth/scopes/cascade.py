"""What was deleted takes along what is below it: each team and each key ends by an event of its own.

A deleted team or organization refuses all below it at once, by its one entry in `revoked`; what is done here makes the
record of it. Keys whose owner may not have them any more are found here too, should somebody have died halfway. What
is left to do is a query, after a crash as before it, and doing it twice changes nothing.
"""

import asyncio
import logging

from services.auth.commits import Change, Commits
from services.auth.domain import key, team
from services.auth.domain.key_state import KeyState
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.keys.revoking import Revoking
from services.auth.people.dying import excess
from services.auth.relay import Relay
from services.auth.store_cascade import CascadeViews, Orphan
from services.auth.store_people import Ghost, Owned, PeopleViews
from shared.clock import Clock
from shared.errors import ApiError, StoreUnavailable, VersionConflict
from shared.events import AnyAuthEvent
from shared.ids import KeyId, TeamId

log = logging.getLogger(__name__)

BATCH = 50
AT_ONCE_MS = 1_000
"""How long a request that ended something waits for what is below it; the loop does the rest."""
POLL_S = 5.0
SOON_S = 0.8
"""After it was woken, the loop looks at the owners once more this soon: a key that was being made while its owner was
removed is there by then."""
STRAYS_EVERY = 12
"""Every so many looks the owners of all keys are gone through too."""


class Cascade:
    """One loop, and the same work at once for a change that has just been made."""

    def __init__(
        self,
        commits: Commits,
        views: CascadeViews,
        users: PeopleViews,
        revoking: Revoking,
        relay: Relay,
        clock: Clock,
    ) -> None:
        self._commits = commits
        self._views = views
        self._users = users
        self._revoking = revoking
        self._relay = relay
        self._clock = clock
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until nothing is left, then look now and then, and when woken. Never ends by itself."""
        away, looks, again = False, 0, 0
        while True:
            woken = self._wake.is_set()
            self._wake.clear()
            try:
                while await self._scopes():
                    pass
                if woken or again or looks % STRAYS_EVERY == 0:
                    while await self._owners():
                        pass
                again = 2 if woken else max(0, again - 1)  # soon, and once more for what took its time
                looks += 1
                away = False
            except StoreUnavailable as error:
                if not away:
                    log.warning("what is below deleted scopes is recorded later: %s", error)
                away, again = True, 2 if woken else again
            try:
                async with asyncio.timeout(POLL_S if away or again != 2 else SOON_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def catch_up(self) -> None:
        """End what is below deleted scopes, as much as goes within a bounded time; wakes the loop for the rest."""
        until = self._clock.monotonic_ms() + AT_ONCE_MS
        try:
            while self._clock.monotonic_ms() < until and await self._scopes():
                pass
        except StoreUnavailable as error:
            log.warning("what is below a deleted scope is recorded later: %s", error)
        self.wake()

    def wake(self) -> None:
        """Have the loop look at everything now, owners too."""
        self._wake.set()

    # ---- below deleted scopes ------------------------------------------------------------------------

    async def _scopes(self) -> bool:
        """One batch; whether anything was ended. Raises StoreUnavailable."""
        ended = False
        for orphan in await self._views.orphans(limit=BATCH):
            try:
                position = await self._end(orphan)
            except (VersionConflict, ApiError) as error:
                log.info("%s %s is ended later: %s", orphan.kind, orphan.scope_id, error)
                continue
            self._relay.tell(position)
            ended = ended or position is not None
        return ended

    async def _end(self, orphan: Orphan) -> int | None:
        word = "organization" if orphan.below == "org" else "team"
        cause = f"the {word} {orphan.below_id} was deleted"
        change: Change[KeyState] | Change[TeamState]
        match orphan.kind:
            case "key":
                key_id = KeyId(orphan.scope_id)
                change = await self._commits.key(key_id, key.decide_delete, actor=orphan.actor, cause=cause)
            case "team":
                team_id = TeamId(orphan.scope_id)
                change = await self._commits.team(team_id, team.decide_delete, actor=orphan.actor, cause=cause)
        return change.position

    # ---- keys whose owner may not have them ----------------------------------------------------------

    async def _owners(self) -> bool:
        """One batch; whether anything was ended. Raises StoreUnavailable."""
        ended = False
        for ghost in await self._users.ghosts(limit=BATCH):
            ended = await self._leave(ghost) or ended
        for stray in await self._users.strays(limit=BATCH):
            cause = excess(stray)
            if cause is not None:
                ended = await self._kill(stray, cause) or ended
        return ended

    async def _leave(self, ghost: Ghost) -> bool:
        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return team.decide_remove_members(state, ghost.team_id, [ghost.user_id], stamp)

        cause = f"the user {ghost.user_id} was deleted"
        try:
            change = await self._commits.team(ghost.team_id, decide, actor=ghost.changed_by, cause=cause)
        except (VersionConflict, ApiError) as error:
            log.info("the team %s changes later: %s", ghost.team_id, error)
            return False
        self._relay.tell(change.position)
        return change.position is not None

    async def _kill(self, stray: Owned, cause: str) -> bool:
        try:
            order = await self._revoking.order_for_key("deleted", stray.key_id)
            revoked = await self._revoking.revoke([order], stray.changed_by, cause=cause)
        except (VersionConflict, ApiError) as error:
            log.info("the key %s is ended later: %s", stray.key_id, error)
            return False
        return revoked.recorded
