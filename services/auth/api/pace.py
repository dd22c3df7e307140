"""How fast one key may administer: the log of changes is kept for ever, and it is everybody's."""

import math

from services.auth.api.operations import Ask, Operation
from shared.access import Principal
from shared.clock import Clock
from shared.errors import ApiError

BURST = 300
"""Changes that may be made at once."""
PER_SECOND = 20
"""Changes per second after that."""
ACTORS_MAX = 10_000


class Pace:
    """One bucket for each key with a role, in this process. The master key and services are not held back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, int]] = {}  # actor → (changes left, as of when in ms)

    def take(self, operation: Operation, ask: Ask) -> None:
        """Count what a request changes. Raises ApiError 429 when its key has made too many changes lately.

        A request with many changes passes as long as one is left; the rest is owed.
        """
        if not counts(operation, ask.caller):
            return
        now_ms, actor = self._clock.monotonic_ms(), ask.caller.actor
        left = self._at(actor, now_ms)
        if left < 1:
            raise ApiError(
                429,
                "too_many_changes",
                f"This key has made too many changes: {BURST} at once, and {PER_SECOND} per second after that. Repeat"
                " this one after the time that retry-after says.",
                kind="rate_limit_error",
                retry_after_s=math.ceil((1 - left) / PER_SECOND),
            )
        if len(self._left) >= ACTORS_MAX and actor not in self._left:
            self._forget(now_ms)
        self._left[actor] = (left - min(BURST, max(1, operation.changes(ask.body))), now_ms)

    def _at(self, actor: str, now_ms: int) -> float:
        left, then_ms = self._left.get(actor, (float(BURST), now_ms))
        return min(float(BURST), left + (now_ms - then_ms) / 1000 * PER_SECOND)

    def _forget(self, now_ms: int) -> None:
        """Drop who may make all changes again anyway, and if that is nobody, who has been quiet longest."""
        for actor in [actor for actor in self._left if self._at(actor, now_ms) >= BURST]:
            del self._left[actor]
        if len(self._left) >= ACTORS_MAX:
            del self._left[min(self._left, key=lambda actor: self._left[actor][1])]


def counts(operation: Operation, caller: Principal) -> bool:
    """Whether a request is a change that counts: what ends a key, a team or a secret is never held back."""
    right = operation.right
    changing = operation.method != "GET" and right is not None and not right.endswith(":read")
    return changing and not operation.without_store and caller.key_id is not None
