"""The loop that ends what is below deleted things: when it looks."""

import asyncio
from typing import cast

import pytest

from services.auth.commits import Commits
from services.auth.keys.revoking import Revoking
from services.auth.relay import Relay
from services.auth.scopes import cascade
from services.auth.scopes.cascade import Cascade
from services.auth.store_cascade import CascadeViews
from services.auth.store_people import PeopleViews
from shared.tasks import Supervisor
from tests.support.clock import FakeClock


class Nothing:
    """Views in which nothing is to be done; `looks` counts how often the owners were asked for."""

    def __init__(self) -> None:
        self.looks = asyncio.Semaphore(0)

    async def orphans(self, *, limit: int) -> list[object]:
        return []

    async def ghosts(self, *, limit: int) -> list[object]:
        self.looks.release()
        return []

    async def strays(self, *, limit: int) -> list[object]:
        return []


async def test_the_owners_are_looked_at_again_soon_after_it_was_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was being made when its owner was removed does not live until the next look of every few seconds."""
    assert cascade.SOON_S < 1
    monkeypatch.setattr(cascade, "SOON_S", 0.001)
    monkeypatch.setattr(cascade, "POLL_S", 3_600)
    views = Nothing()
    loop = Cascade(
        cast("Commits", None),
        cast("CascadeViews", views),
        cast("PeopleViews", views),
        cast("Revoking", None),
        cast("Relay", None),
        FakeClock(),
    )
    tasks = Supervisor()
    tasks.keep("cascade", loop.run)
    try:
        async with asyncio.timeout(10):
            await views.looks.acquire()  # at its start
            loop.wake()
            await views.looks.acquire()
            await views.looks.acquire()
    finally:
        await tasks.close()
