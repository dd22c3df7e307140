"""One change of one scope: load its state, decide, append; once more when somebody else was faster."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from services.auth.domain import budget_object, key, org, team, user
from services.auth.domain.budget_object import BudgetState
from services.auth.domain.key_state import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.stamp import IDS_PER_DECISION, Stamp
from services.auth.domain.team import TeamState
from services.auth.domain.user import UserState
from services.auth.store import Also, EventStore
from shared.clock import Clock
from shared.errors import VersionConflict
from shared.events import AnyAuthEvent
from shared.ids import EventId, KeyId, OrgId, TeamId, UserId, uuid7

if TYPE_CHECKING:
    from shared.pg import PgConnection

_RANDOM = random.SystemRandom()
ATTEMPTS_MAX = 8
PAUSE_S = 0.02
"""The longest pause after the first attempt; it grows with each."""
S = TypeVar("S", KeyState, TeamState, OrgState, BudgetState, UserState)

Decide = Callable[[S | None, Stamp], list[AnyAuthEvent]]
Beside = Callable[["PgConnection", S, list[AnyAuthEvent]], Awaitable[None]]
"""What is written in the transaction of a decision that made events: it is told the state after it, and the events."""
Pause = Callable[[int], Awaitable[None]]
"""Waits before it is tried again; it is told how many attempts there were."""


async def random_pause(attempts: int) -> None:
    """Wait for a moment that differs from that of whoever was faster or slower."""
    await asyncio.sleep(_RANDOM.uniform(0, PAUSE_S * attempts))


class Change(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """What came of a decision: the state now and the one before (None: there was none), and the position of the last
    event (None: nothing changed)."""

    state: S
    before: S | None
    position: int | None


class Commits:
    """Decisions made durable. `source` names this program and this start of it."""

    def __init__(self, store: EventStore, clock: Clock, source: str, *, pause: Pause = random_pause) -> None:
        self._store = store
        self._clock = clock
        self._pause = pause
        self.source = source

    def stamp(self, actor: str, cause: str = "") -> Stamp:
        """Time, actor and fresh ids for one decision."""
        ids = tuple(EventId(uuid7()) for _ in range(IDS_PER_DECISION))
        return Stamp(at=self._clock.now(), source=self.source, actor=actor, cause=cause, ids=ids)

    async def key(
        self,
        key_id: KeyId,
        decide: Decide[KeyState],
        *,
        actor: str,
        cause: str = "",
        beside: Beside[KeyState] | None = None,
    ) -> Change[KeyState]:
        """Change a key. Raises what `decide` raises, Duplicate, NoSuchBudget, VersionConflict, StoreUnavailable."""

        async def standing() -> tuple[KeyState, int] | None:
            return await self._store.key(key_id)

        return await self._commit(f"key:{key_id}", decide, key.evolve, actor, cause, beside, standing)

    async def team(
        self, team_id: TeamId, decide: Decide[TeamState], *, actor: str, cause: str = ""
    ) -> Change[TeamState]:
        """Change a team. Raises as `key` does."""
        return await self._commit(f"team:{team_id}", decide, team.evolve, actor, cause)

    async def org(self, org_id: OrgId, decide: Decide[OrgState], *, actor: str, cause: str = "") -> Change[OrgState]:
        """Change an organization. Raises as `key` does."""
        return await self._commit(f"org:{org_id}", decide, org.evolve, actor, cause)

    async def user(
        self, user_id: UserId, decide: Decide[UserState], *, actor: str, cause: str = ""
    ) -> Change[UserState]:
        """Change a user. Raises as `key` does."""
        return await self._commit(f"user:{user_id}", decide, user.evolve, actor, cause)

    async def budget(self, budget_id: str, decide: Decide[BudgetState], *, actor: str) -> Change[BudgetState]:
        """Change a budget object. Raises as `key` does, and BudgetInUse."""
        return await self._commit(f"budget:{budget_id}", decide, budget_object.evolve, actor, "")

    async def head(self) -> int:
        """The position of the last event of all. Raises StoreUnavailable."""
        return await self._store.head()

    async def _commit(
        self,
        stream_id: str,
        decide: Decide[S],
        evolve: Callable[[S | None, AnyAuthEvent], S],
        actor: str,
        cause: str,
        beside: Beside[S] | None = None,
        standing: Callable[[], Awaitable[tuple[S, int] | None]] | None = None,
    ) -> Change[S]:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            found = None if standing is None else await standing()
            before, version = found or await self._folded(stream_id, evolve)
            state = before
            events = decide(state, self.stamp(actor, cause))
            for event in events:
                state = evolve(state, event)
            if state is None:
                raise ValueError(f"a decision about {stream_id} led to nothing")
            if not events:
                return Change(state=state, before=before, position=None)
            also = None if beside is None else _bound(beside, state, events)
            try:
                position = await self._store.append(stream_id, version, events, state, also=also)
            except VersionConflict:
                if attempt == ATTEMPTS_MAX:
                    raise
                await self._pause(attempt)
                continue
            return Change(state=state, before=before, position=position)
        raise AssertionError("unreachable")

    async def _folded(self, stream_id: str, evolve: Callable[[S | None, AnyAuthEvent], S]) -> tuple[S | None, int]:
        """(the state that the events of a stream lead to, its version)."""
        history = await self._store.load(stream_id)
        state: S | None = None
        for event in history:
            state = evolve(state, event)
        return state, len(history)


def _bound(beside: Beside[S], state: S, events: list[AnyAuthEvent]) -> Also:
    return lambda connection: beside(connection, state, events)
