"""The enforcer's settings that decisions depend on. Tests and simulations shorten them."""

import msgspec

from shared.allotment import BEAT_MS, LEASE_MS, MARGIN_MS, MAX_CALL_MS, RECALL_GAP_MS, RECALL_WAIT_MS


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds. `lease_ms` is how long a proxy may admit calls after its last answered request.

    `shares`: an ask beyond need gets at most one part in (this times the living holders) of what is left.
    `park_ms` is how long an ask waits for policy that its proxy knows and this enforcer does not know yet.
    """

    lease_ms: int = LEASE_MS
    max_call_ms: int = MAX_CALL_MS
    margin_ms: int = MARGIN_MS
    recall_wait_ms: int = RECALL_WAIT_MS
    recall_gap_ms: int = RECALL_GAP_MS
    shares: int = 2
    park_ms: int = 1_000
    batch_max: int = 512

    @property
    def renew_after_ms(self) -> int:
        """A request is recorded as a sign of life when the log's last one is older: well within the margin."""
        return min(BEAT_MS, self.margin_ms // 2)

    @property
    def silent_after_ms(self) -> int:
        """How long an instance under this lease must be silent before it is closed."""
        return self.silent_after(self.lease_ms)

    def silent_after(self, lease_ms: int) -> int:
        """The same for an instance that may go by another lease; clocks may differ by one part in a thousand."""
        span = max(lease_ms, self.lease_ms) + self.max_call_ms
        return span + self.margin_ms + span // 1000
