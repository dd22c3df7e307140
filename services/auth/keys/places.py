"""A bounded number of places for work that anybody may ask for, and a bounded queue before them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shared.errors import ApiError


class Places:
    """Reports that are read at the same time, and those that wait for it."""

    def __init__(self, at_once: int, most: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most = most
        self._taken = 0

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[None, None]:
        """A place. Raises ApiError 429 when too many wait for one."""
        if self._taken >= self._most:
            raise ApiError(429, "too_many_reports", "Too many reports at once: repeat this one shortly.")
        self._taken += 1
        try:
            async with self._free:
                yield
        finally:
            self._taken -= 1
