"""APScheduler, reduced to what it does safely: setting an event now and then.

Its jobs swallow cancellation and cannot be shared between processes, so none does work: each only sets an
`asyncio.Event` that a supervised worker waits for. Every default that matters is passed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from shared.clock import Clock

SILENT_INTERVALS_MAX = 4
SILENT_S_MIN = 10.0
"""Readiness says so when the fastest event was not set for this many of its intervals, and for this long."""


class Ticker:
    """Sets events at intervals (seconds); each is set once at `start`, too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: dict[str, asyncio.Event] = {}
        self._shortest_s = 0.0
        self._last_ms: int | None = None
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            jobstores={"default": MemoryJobStore()},
            executors={"default": AsyncIOExecutor()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def every(self, name: str, seconds: float) -> asyncio.Event:
        """An event that will be set every `seconds`; whoever waits for it clears it."""
        event = self._events[name] = asyncio.Event()
        self._shortest_s = min(self._shortest_s or seconds, seconds)
        self._scheduler.add_job(
            self._setter(event),
            trigger=IntervalTrigger(seconds=seconds, timezone=UTC),  # pyright: ignore[reportArgumentType]
            id=name,
            name=name,
        )
        return event

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._scheduler.start()
        self._last_ms = self._clock.monotonic_ms()
        for event in self._events.values():
            event.set()

    def stop(self) -> None:
        """Set no event any more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def problem(self) -> str | None:
        """What readiness should say: None while events are being set."""
        if self._last_ms is None:
            return "not started"
        silent_ms = self._clock.monotonic_ms() - self._last_ms
        most_s = max(self._shortest_s * SILENT_INTERVALS_MAX, SILENT_S_MIN)
        return f"no tick for {silent_ms} ms" if silent_ms > most_s * 1_000 else None

    def _setter(self, event: asyncio.Event) -> Callable[[], Awaitable[None]]:
        async def tick() -> None:  # a coroutine: APScheduler runs plain functions in a thread
            self._last_ms = self._clock.monotonic_ms()
            event.set()

        return tick
