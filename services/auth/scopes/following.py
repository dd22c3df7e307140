"""Scopes follow their budget objects: whoever is behind the object's version takes the newer one over.

The rows of keys, teams and organizations name the version they follow, so what is left to do is a query, after a crash
as before it; each scope is one commit of its own, and doing it twice changes nothing.
"""

import asyncio
import logging

from services.auth.commits import Change, Commits
from services.auth.domain import key, org, team
from services.auth.domain.budget_object import BudgetState
from services.auth.domain.key_state import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.relay import Relay
from services.auth.store import NoSuchBudget
from services.auth.store_views import Follower, Views
from shared.clock import Clock
from shared.errors import StoreUnavailable, VersionConflict
from shared.events import AnyAuthEvent
from shared.ids import AccountId, KeyId, OrgId, TeamId, short_id

log = logging.getLogger(__name__)

BATCH = 50
AT_ONCE_MS = 3_000
"""How long `/budget/update` brings scopes up to date before it answers; the rest is done by the loop."""
POLL_S = 5.0


class Following:
    """One loop, and the same work at once for a change that has just been made."""

    def __init__(self, commits: Commits, views: Views, relay: Relay, clock: Clock) -> None:
        self._commits = commits
        self._views = views
        self._relay = relay
        self._clock = clock
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until nobody is behind, then look now and then, and when woken. Never ends by itself."""
        away = False
        while True:
            self._wake.clear()
            try:
                while await self._round(None) is not None:
                    pass
                away = False
            except StoreUnavailable as error:
                if not away:
                    log.warning("scopes do not follow their budget objects for now: %s", error)
                away = True
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def catch_up(self, budget_id: str) -> int | None:
        """Bring the scopes of one object up to its version, as many as go within a bounded time.

        The position of the last event; None when there was nothing to do.
        """
        last: int | None = None
        until = self._clock.monotonic_ms() + AT_ONCE_MS
        try:
            while self._clock.monotonic_ms() < until:
                position = await self._round(budget_id)
                if position is None:
                    return last
                last = position
        except StoreUnavailable as error:
            log.warning("the scopes of the budget %s follow later: %s", budget_id, error)
        self._wake.set()
        return last

    async def _round(self, budget_id: str | None) -> int | None:
        """One batch; the position of its last event, None when nothing was changed. Raises StoreUnavailable."""
        last: int | None = None
        for follower in await self._views.followers(budget_id, limit=BATCH):
            budget = await self._views.budget(follower.budget_id)
            if budget is None:
                continue
            try:
                position = await self._follow(follower, budget)
            except (VersionConflict, NoSuchBudget) as error:
                log.info("%s %s follows its budget object later: %s", follower.kind, follower.scope_id, error)
                continue
            self._relay.tell(position)
            last = position or last
        return last

    async def _follow(self, follower: Follower, budget: BudgetState) -> int | None:
        account = AccountId(short_id("acct"))
        attachment, actor = budget.attachment, budget.updated_by
        cause = f"the budget object {budget.budget_id} is version {budget.version} now"

        def of_key(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return key.decide_follow(state, attachment, account, stamp)

        def of_team(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return team.decide_follow(state, attachment, account, stamp)

        def of_org(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return org.decide_follow(state, attachment, account, stamp)

        commits, scope_id = self._commits, follower.scope_id
        change: Change[KeyState] | Change[TeamState] | Change[OrgState]
        match follower.kind:
            case "key":
                change = await commits.key(KeyId(scope_id), of_key, actor=actor, cause=cause)
            case "team":
                change = await commits.team(TeamId(scope_id), of_team, actor=actor, cause=cause)
            case "org":
                change = await commits.org(OrgId(scope_id), of_org, actor=actor, cause=cause)
        return change.position
