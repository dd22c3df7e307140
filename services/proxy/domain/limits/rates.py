"""What was used under one rate limit: a sliding window of sixty seconds in one-second buckets, or a gauge.

A bucket counts until sixty seconds after its *end*, so no sixty seconds anywhere ever hold more than the window says,
and there is no minute boundary at which a limit could be had twice. The price is at most one bucket of lateness.
"""

from collections.abc import Iterable

WINDOW_MS = 60_000
BUCKET_MS = 1_000
NEVER_MS = 1 << 62
"""A point in time that does not come."""


def end_ms(number: int) -> int:
    """When the bucket of a number counts no more."""
    return (number + 1) * BUCKET_MS + WINDOW_MS


class Window:
    """Amounts per bucket with a running sum. Times are milliseconds of one monotonic clock; it numbers the buckets."""

    __slots__ = ("_counts", "_total", "next_ms")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0
        self.next_ms = NEVER_MS
        """When the oldest bucket drops out."""

    def total(self, now_ms: int) -> int:
        """What was used in the last sixty seconds."""
        if now_ms >= self.next_ms:
            self._expire(now_ms)
        return self._total

    def add(self, now_ms: int, amount: int) -> int:
        """Use an amount now; the number of the bucket it went to."""
        number = now_ms // BUCKET_MS
        known = self._counts.get(number)
        if known is None:
            self._counts[number] = amount
            self.next_ms = min(self.next_ms, end_ms(number))
        else:
            self._counts[number] = known + amount
        self._total += amount
        return number

    def change(self, number: int, amount: int) -> bool:
        """Set a bucket right by a difference; False when it counts no more and nothing changed."""
        known = self._counts.get(number)
        if known is None:
            return False
        self._counts[number] = known + amount
        self._total += amount
        return True

    def put(self, number: int, amount: int, now_ms: int) -> None:
        """What a bucket holds by somebody's own account: repeated or late, it stays the same figure."""
        if end_ms(number) <= now_ms:
            return
        known = self._counts.get(number)
        if known is None and self._counts and number < next(reversed(self._counts)):
            self._counts[number] = 0
            self._counts = dict(sorted(self._counts.items()))
        self._counts[number] = amount
        self._total += amount - (known or 0)
        self.next_ms = min(self.next_ms, end_ms(number))

    def replace(self, amounts: Iterable[tuple[int, int]], now_ms: int) -> None:
        """Forget everything and take these figures."""
        self._counts, self._total, self.next_ms = {}, 0, NEVER_MS
        for number, amount in amounts:
            self.put(number, amount, now_ms)

    def amount(self, number: int) -> int:
        """What one bucket holds; 0 when it counts no more."""
        return self._counts.get(number, 0)

    def amounts(self, numbers: Iterable[int] | None = None) -> tuple[tuple[int, int], ...]:
        """Buckets and what they hold: all of them, or those of the given numbers that still count."""
        if numbers is None:
            return tuple(self._counts.items())
        return tuple((number, self._counts[number]) for number in sorted(numbers) if number in self._counts)

    @property
    def last_ms(self) -> int:
        """When the newest bucket that holds anything drops out; 0 when there is none."""
        return next((end_ms(number) for number, amount in reversed(self._counts.items()) if amount > 0), 0)

    @property
    def known(self) -> bool:
        """Whether there are buckets, though they may hold nothing by now."""
        return bool(self._counts)

    def ends(self, shift_ms: int = 0) -> list[tuple[int, int]]:
        """When how much drops out, on a clock that is ahead by `shift_ms`."""
        return [(end_ms(number) + shift_ms, amount) for number, amount in self._counts.items()]

    def _expire(self, now_ms: int) -> None:
        counts = self._counts
        while counts:
            oldest = next(iter(counts))
            if end_ms(oldest) > now_ms:
                self.next_ms = end_ms(oldest)
                return
            self._total -= counts.pop(oldest)
        self.next_ms = NEVER_MS


class Gauge(Window):
    """Calls in flight: one bucket that never drops out by itself."""

    __slots__ = ()

    def add(self, now_ms: int, amount: int) -> int:
        """One call more."""
        self._counts[0] = self._counts.get(0, 0) + amount
        self._total += amount
        return 0

    def put(self, number: int, amount: int, now_ms: int) -> None:
        """How many calls are in flight by somebody's own account."""
        self._counts = {0: amount}
        self._total = amount

    @property
    def last_ms(self) -> int:
        """Never known."""
        return 0

    def ends(self, shift_ms: int = 0) -> list[tuple[int, int]]:
        """Nobody knows when a call ends."""
        return []


class Estimates:
    """What was counted for calls whose true use is not known yet, by the bucket it was counted in."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[int, int] = {}

    def add(self, number: int, amount: int) -> None:
        """A call begins."""
        self._open[number] = self._open.get(number, 0) + amount

    def done(self, number: int, amount: int) -> None:
        """Its true use is known."""
        left = self._open.get(number, 0) - amount
        if left > 0:
            self._open[number] = left
        else:
            self._open.pop(number, None)

    def total(self, now_ms: int) -> int:
        """What of it counts in the window."""
        return sum(amount for number, amount in self._open.items() if end_ms(number) > now_ms)


def wait_ms(ends: list[tuple[int, int]], excess: int, now_ms: int) -> int | None:
    """How long until `excess` has dropped out of a window; 0 for none, None when that does not come by itself."""
    if excess <= 0:
        return 0
    for at_ms, amount in sorted(ends):
        excess -= amount
        if excess <= 0:
            return max(0, at_ms - now_ms)
    return None
