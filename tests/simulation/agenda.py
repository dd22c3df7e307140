"""Time in the simulated world: what happens next, and clocks that do not agree."""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
"""The world's time 0."""
Deed = Callable[[], None]


class Agenda:
    """Deeds in order of time; at one instant in the order in which they were put down. Times are milliseconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._count = 0
        self._heap: list[tuple[float, int, Deed]] = []

    def at(self, when: float, deed: Callable[..., None], *args: object) -> None:
        """Do something at a time of the world (now, when that is past)."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, partial(deed, *args) if args else deed))

    def after(self, delay: float, deed: Callable[..., None], *args: object) -> None:
        """Do something in `delay` milliseconds."""
        self.at(self.now + delay, deed, *args)

    def run(self, until: float, each: Deed | None = None) -> None:
        """Do everything up to a time; `each` runs after every deed."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, deed = heapq.heappop(heap)
            self.steps += 1
            deed()
            if each is not None:
                each()
        self.now = until


class Watch:
    """One machine's clocks: a wall clock that is off by `skew_ms`, a monotonic one with its own zero and pace."""

    def __init__(self, agenda: Agenda, *, skew_ms: float = 0, zero_ms: int = 0, drift: float = 0.0) -> None:
        self._agenda = agenda
        self.skew_ms = skew_ms
        self._zero_ms = zero_ms
        self._pace = 1.0 + drift

    def now(self) -> datetime:
        """Wall clock, UTC."""
        return START + timedelta(milliseconds=self._agenda.now + self.skew_ms)

    def ms(self) -> int:
        """Monotonic milliseconds."""
        return self._zero_ms + int(self._agenda.now * self._pace)

    def when(self, ms: float) -> float:
        """The world's time at which this monotonic clock shows `ms` (or a little later)."""
        return (ms - self._zero_ms) / self._pace + 0.001


def true_now(agenda: Agenda) -> datetime:
    """What a perfect wall clock shows."""
    return START + timedelta(milliseconds=agenda.now)
