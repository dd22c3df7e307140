"""The proxy's side of one allotment: what is granted, held and spent. Pure arithmetic, no waiting.

`granted` and `returned` are cumulative. At every moment
`holds + spent <= granted - returned` unless a call cost more than its hold.
"""

from dataclasses import dataclass

import msgspec

from services.proxy.domain.money.figures import Told
from shared.allotment import Row
from shared.events import AccountWindow
from shared.ids import AccountId, KeyId

HORIZON_MS = 10_000
"""How far ahead money is kept for calls that are likely to come."""
DEMAND_TAU_MS = 3_000
IDLE_AFTER_MS = 5_000
LOW_WATER = 0.4
"""Below this share of what is expected within the horizon, more is asked for before anybody has to wait."""


@dataclass(slots=True, eq=False)
class Wallet:
    """Money for calls of one key over one lineage and one term. A new window or lineage is a new wallet.

    `alert`: somebody wants to hear of each settle (the wallet drains, or calls wait for it).
    """

    serial: int
    key_id: KeyId
    lineage: tuple[AccountId, ...]
    partition: int
    horizon_ms: int = HORIZON_MS
    term: tuple[AccountWindow, ...] = ()
    granted: int = 0
    returned: int = 0
    spent: int = 0
    holds: int = 0
    rseq: int = 0
    admit_until_ms: int = 0
    draining: bool = False
    alert: bool = False
    tight: bool = False
    """The ledger gave less than was wanted, or recalled: until it gives all again, only what waits is asked for."""
    short: bool = False
    """The ledger gave less than a call that waited could use, though it keeps no share from such a call: it had no
    more, and a call that can do with less takes what is here without asking."""
    demand: float = 0.0
    last_call_ms: int = 0
    returned_known: int = 0
    """The `returned` figure that the ledger is known to have."""
    told: Told | None = None
    """How the ledger said last that the accounts stand, for callers to read: nothing is admitted by it."""

    def room(self) -> int:
        """What may still be held; negative after a call that cost more than its hold."""
        return self.granted - self.returned - self.spent - self.holds

    def take(self, amount: int, now_ms: int) -> None:
        """Reserve `amount`, which the caller has found room for, and note it as demand."""
        self.holds += amount
        elapsed = now_ms - self.last_call_ms
        if elapsed <= 0:
            self.demand += amount
        else:
            kept = 1.0 - elapsed / DEMAND_TAU_MS
            self.demand = self.demand * kept + amount if kept > 0 else float(amount)
            self.last_call_ms = now_ms

    def settle(self, held: int, cost: int) -> None:
        """A call ended: its hold becomes spend, whatever it cost."""
        self.holds -= held
        self.spent += cost

    def learn(self, granted: int, term: tuple[AccountWindow, ...], admit_until_ms: int) -> None:
        """Believe the ledger: figures only rise, the term is fixed by the first grant."""
        if granted > self.granted:
            self.granted = granted
        if term:
            self.term = term
        if not self.draining and admit_until_ms > self.admit_until_ms:
            self.admit_until_ms = admit_until_ms

    def drain(self) -> None:
        """No more holds: everything idle goes back, now and as calls end."""
        self.draining = self.alert = True
        self.admit_until_ms = 0

    def over(self, now_ms: int) -> bool:
        """Whether no ask can make this wallet admit calls again."""
        return self.draining or (bool(self.term) and now_ms >= self.admit_until_ms)

    def ahead(self, now_ms: int) -> int:
        """How much to ask for beyond what waits."""
        return 0 if self.tight else int(self.expected(now_ms))

    def give_back(self, now_ms: int, horizons: float, idle_after_ms: int) -> int:
        """Return what exceeds so many horizons (all of it when draining or idle for long); how much that was.

        `returned` rises here, before the message leaves, and never falls.
        """
        keep = 0
        if not self.draining and now_ms - self.last_call_ms < idle_after_ms:
            keep = int(horizons * self.expected(now_ms))
        return self.give_back_beyond(keep)

    def give_back_beyond(self, keep: int) -> int:
        """Return all that is idle but `keep`; how much that was."""
        idle = self.room() - keep
        if idle <= 0:
            return 0
        self.returned += idle
        return idle

    def expected(self, now_ms: int) -> float:
        """Money that calls will ask for within the horizon, by what they asked for lately."""
        elapsed = max(0, now_ms - self.last_call_ms)
        decayed = self.demand * max(0.0, 1.0 - elapsed / (2 * DEMAND_TAU_MS))
        return decayed / DEMAND_TAU_MS * self.horizon_ms

    def quiet(self) -> bool:
        """Whether nothing can come back from it and the ledger knows all that did."""
        return self.holds == 0 and self.returned_known >= self.returned and self.granted <= self.returned + self.spent

    def row(self) -> Row:
        """This wallet as every message to the ledger shows it."""
        return Row(self.serial, self.returned, self.spent, self.granted, self.holds)


class Hold(msgspec.Struct, eq=False, gc=False):
    """Money reserved for one call; give it to `settle` exactly once."""

    wallet: Wallet
    amount: int

    @property
    def windows(self) -> tuple[AccountWindow, ...]:
        """The account-windows the call is charged to."""
        return self.wallet.term

    @property
    def serial(self) -> int:
        """The allotment the call is charged to."""
        return self.wallet.serial
