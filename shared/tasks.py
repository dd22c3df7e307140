"""Background tasks that somebody watches: nothing is started and forgotten."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0


class Supervisor:
    """Keeps named tasks, restarts the loops among them after a failure, and ends them all at once."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine once under a name; an exception is logged, never lost."""
        task = asyncio.get_running_loop().create_task(self._once(name, work), name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._forget(name, done))
        task.add_done_callback(lambda _: work.close())  # for one that was cancelled before its first step
        return task

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run `work` again and again: after a failure with back-off, after an end at once."""
        return self.start(name, self._forever(name, work))

    async def close(self, timeout_s: float = 5.0) -> None:
        """Cancel what still runs and wait for it, at most `timeout_s`."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def _forget(self, name: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is done:
            del self._tasks[name]

    async def _once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("background task %s failed", name)

    async def _forever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        delay = BACKOFF_FIRST_S
        while not self._closing:
            started = asyncio.get_running_loop().time()
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("%s stopped (%s: %s); again in %.1f s", name, type(error).__name__, error, delay)
            else:
                delay = BACKOFF_FIRST_S
                await asyncio.sleep(0)
                continue
            if asyncio.get_running_loop().time() - started > BACKOFF_MAX_S:
                delay = BACKOFF_FIRST_S
            with contextlib.suppress(TimeoutError):
                await asyncio.sleep(delay)
            delay = min(delay * 2, BACKOFF_MAX_S)
