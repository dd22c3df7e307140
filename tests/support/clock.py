"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Implements `shared.clock.Clock`; wall and monotonic time move together unless told otherwise."""

    def __init__(self, at: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC), monotonic_ms: int = 1_000) -> None:
        self.at = at
        self.ms = monotonic_ms

    def now(self) -> datetime:
        return self.at

    def monotonic_ms(self) -> int:
        return self.ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)
        self.ms += round(seconds * 1_000)
