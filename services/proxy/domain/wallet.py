"""The proxy's side of one allotment: what is granted, held and spent. Pure arithmetic, no waiting.

`granted` and `returned` are cumulative. At every moment
`holds + spent <= granted - returned` unless a call cost more than its hold.
"""

from dataclasses import dataclass, field

from shared.allotment import Row
from shared.events import AccountWindow
from shared.ids import AccountId, KeyId

HORIZON_MS = 10_000
"""How far ahead money is kept for calls that are likely to come."""
DEMAND_TAU_MS = 3_000
IDLE_AFTER_MS = 5_000
LOW_WATER = 0.4
"""Below this share of what is expected within the horizon, more is asked for before anybody has to wait."""


@dataclass(slots=True)
class Wallet:
    """Money for one key over one term. A new window or lineage is a new wallet with a new serial."""

    serial: int
    key_id: KeyId
    lineage: tuple[AccountId, ...]
    partition: int
    term: tuple[AccountWindow, ...] = ()
    granted: int = 0
    returned: int = 0
    spent: int = 0
    holds: int = 0
    rseq: int = 0
    admit_until_ms: int = 0
    draining: bool = False
    last_call_ms: int = 0
    tight: bool = False
    """The ledger gave less than was wanted: until it gives all again, only what waits is asked for."""
    demand: float = 0.0
    demand_at_ms: int = 0
    returned_known: int = field(default=0)
    """The `returned` figure that the ledger is known to have."""

    def room(self) -> int:
        """What may still be held; negative after a call that cost more than its hold."""
        return self.granted - self.returned - self.spent - self.holds

    def open(self, now_ms: int) -> bool:
        """Whether calls may be admitted on this wallet at all."""
        return not self.draining and now_ms < self.admit_until_ms

    def hold(self, amount: int, now_ms: int) -> bool:
        """Reserve `amount` if there is room; whether it was."""
        if self.draining or now_ms >= self.admit_until_ms or amount > self.room():
            return False
        self.holds += amount
        self._note(amount, now_ms)
        return True

    def settle(self, held: int, cost: int) -> None:
        """A call ended: its hold becomes spend, whatever it cost."""
        self.holds -= held
        self.spent += cost

    def learn(self, granted: int, term: tuple[AccountWindow, ...], admit_until_ms: int) -> None:
        """Believe the ledger: figures only rise, the term is fixed by the first grant."""
        self.granted = max(self.granted, granted)
        if term:
            self.term = term
        self.admit_until_ms = max(self.admit_until_ms, admit_until_ms)

    def ahead(self, now_ms: int) -> int:
        """How much to ask for beyond what waits."""
        return 0 if self.tight else int(self.expected(now_ms))

    def low(self, now_ms: int) -> bool:
        """Whether it is time to ask ahead."""
        return not self.tight and self.room() < LOW_WATER * self.expected(now_ms)

    def give_back(self, now_ms: int) -> int:
        """Return what is not likely to be needed (all of it when draining or idle); how much that was.

        `returned` rises here, before the message leaves, and never falls.
        """
        idle_for_long = now_ms - self.last_call_ms >= IDLE_AFTER_MS
        keep = 0 if self.draining or idle_for_long else int(2 * self.expected(now_ms))
        idle = self.room() - keep
        if idle <= 0:
            return 0
        self.returned += idle
        return idle

    def give_back_all(self) -> int:
        """Return all that is idle, because others need it; until all is given again, only what waits is asked for."""
        idle = max(0, self.room())
        if idle:
            self.returned += idle
            self.tight = True
        return idle

    def expected(self, now_ms: int) -> float:
        """Money that calls will ask for within the horizon, by what they asked for lately."""
        elapsed = max(0, now_ms - self.demand_at_ms)
        decayed = self.demand * max(0.0, 1.0 - elapsed / (2 * DEMAND_TAU_MS))
        return decayed / DEMAND_TAU_MS * HORIZON_MS

    def empty(self) -> bool:
        """Whether nothing is left that the ledger does not know of: such a wallet may be forgotten."""
        return (
            self.draining
            and self.holds == 0
            and self.returned_known == self.returned
            and self.granted <= self.returned + self.spent
        )

    def row(self) -> Row:
        """This wallet as every message to the ledger shows it."""
        return Row(self.serial, self.returned, self.spent, self.granted, self.holds)

    def _note(self, amount: int, now_ms: int) -> None:
        """Exponentially decaying sum of what was held, over DEMAND_TAU_MS."""
        elapsed = max(0, now_ms - self.demand_at_ms)
        self.demand = self.demand * max(0.0, 1.0 - elapsed / DEMAND_TAU_MS) + amount
        self.demand_at_ms = now_ms
        self.last_call_ms = now_ms
