"""Waiting for the state of a server, which nobody announces."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05


async def eventually(
    ask: Callable[[], Awaitable[T]], *, unless: tuple[type[Exception], ...] = (), within_s: float = 20
) -> T:
    """Ask until the answer is true, and give it. Errors of the kinds in `unless` count as "not yet"."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                if answer := await ask():
                    return answer
            except unless:
                pass
            await asyncio.sleep(POLL_S)
