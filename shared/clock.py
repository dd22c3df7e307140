"""Time as a port: wall time for people and windows, monotonic time for leases and deadlines."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a program needs to know of time."""

    def now(self) -> datetime:
        """The wall clock, UTC-aware."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never goes back; only differences mean something."""
        ...


_MONOTONIC: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux the ordinary monotonic clock stands still while the machine sleeps, and a lease would outlive its end."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The wall clock, UTC-aware."""
        return datetime.now(UTC)

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed point."""
        return time.clock_gettime_ns(_MONOTONIC) // 1_000_000
