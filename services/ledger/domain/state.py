"""What one partition's logs add up to: accounts, allotments, instances and positions.

Everything here follows from the logs alone, so a snapshot can hold it and a refold gives it again, but for the
fields marked *passing*: they are what this process has heard or measured, and are lost without harm.
"""

import msgspec

from services.ledger.domain.directory import Directory
from shared.events import AccountWindow
from shared.ids import InstanceId, KeyId

METER_SECONDS = 10


class UnknownRecord(Exception):
    """The log holds a record that this version cannot fold: a newer version has written it."""


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that was passed: how much was spent then and at which Unix millisecond it was recorded."""

    spent_nusd: int
    at_ms: int


class Meter(msgspec.Struct):
    """How much escrow came back lately: one figure for each of the last seconds (passing)."""

    second: int = 0
    amounts: list[int] = msgspec.field(default_factory=list[int])

    def note(self, second: int, amount: int) -> None:
        """Count `amount` at a second of the monotonic clock."""
        self._advance(second)
        self.amounts[-1] += amount

    def per_second(self, second: int) -> int:
        """The mean of the last seconds, in nano-dollars per second."""
        self._advance(second)
        return sum(self.amounts) // METER_SECONDS

    def _advance(self, second: int) -> None:
        missing = min(METER_SECONDS, max(0, second - self.second))
        self.second = max(self.second, second)
        self.amounts = (self.amounts + [0] * missing)[-METER_SECONDS:] or [0]


class Balance(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One account-window.

    `spent` is folded cost, `escrow` the sum of what allotments over this window still hold, `overdraft` cost
    beyond what was held. `crossed` names each limit passed, `told` those whose signal is known to be out.
    Passing: `unfolded`, cost that proxies report and whose events have not arrived, and `freed`.
    """

    spent: int = 0
    escrow: int = 0
    overdraft: int = 0
    crossed: dict[str, Crossing] = msgspec.field(default_factory=dict[str, Crossing])
    told: set[str] = msgspec.field(default_factory=set[str])
    unfolded: int = 0
    freed: Meter | None = None


class Account(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One account's windows by index.

    `highest` is the greatest index that a grant was made for (-1: none): the index never goes back. A limit that
    appeared at AUTH sequence `limited_since` is in force for grants only after a window was opened at or after it
    (`opened_at`), because allotments from before may be out beneath the scope.
    """

    windows: dict[int, Balance] = msgspec.field(default_factory=dict[int, Balance])
    highest: int = -1
    limited_since: int = 0
    opened_at: int = 0

    def balance(self, index: int) -> Balance:
        """The balance of a window, made when first named."""
        found = self.windows.get(index)
        if found is None:
            found = self.windows[index] = Balance()
        return found


class Allotment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Money granted to one proxy instance under one serial, in cumulative figures.

    `term` are the account-windows it was granted for (empty until the grant is folded: usage may come first),
    `attached` those opened above it later. Passing: `said_spent`, what its proxy reports.
    """

    key_id: KeyId = KeyId("")
    term: tuple[AccountWindow, ...] = ()
    attached: tuple[AccountWindow, ...] = ()
    granted: int = 0
    settled: int = 0
    returned: int = 0
    rseq: int = 0
    said_spent: int = 0

    @property
    def out(self) -> int:
        """What may still be spent from it. Never negative: one allotment's deficit is no other's money."""
        return max(0, self.granted - self.settled - self.returned)

    @property
    def overdraft(self) -> int:
        """Cost beyond what was granted."""
        return max(0, self.settled + self.returned - self.granted)

    @property
    def unfolded(self) -> int:
        """Cost that its proxy reports and whose events have not arrived."""
        return max(0, self.said_spent - self.settled)


class Instance(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One start of a proxy worker in this partition.

    Of the event numbers all up to `floor` are folded, and those in `above`. `last_n` is set once a closing is in
    the log; `final` once every number up to it is folded: the allotments are gone then. Passing: `heard_ms`, when
    this process folded the last record that shows the instance alive, on its own monotonic clock.
    """

    floor: int = 0
    above: set[int] = msgspec.field(default_factory=set[int])
    allotments: dict[int, Allotment] = msgspec.field(default_factory=dict[int, Allotment])
    last_n: int | None = None
    final: bool = False
    heard_ms: int | None = None

    def see(self, n: int) -> bool:
        """Take note of an event's number; False when it was folded before."""
        if n <= self.floor or n in self.above:
            return False
        if n > self.floor + 1:
            self.above.add(n)
            return True
        self.floor = n
        while self.above and self.floor + 1 in self.above:
            self.floor += 1
            self.above.remove(self.floor)
        return True


class LedgerState(msgspec.Struct, kw_only=True):
    """One partition. Positions are stream sequences.

    `auth_pos` and `ledger_pos` are folded up to, `grant_seq` is the last decision folded (what the fence of the
    next append names); `auth_need` and `usage_need` are the highest positions that decisions were based on: who
    takes office folds at least that far. `dirty` are account-windows whose spend may have passed a limit, `untold`
    the crossings whose signal may not be out; both follow from the rest.
    """

    partition: int
    directory: Directory = msgspec.field(default_factory=Directory)
    accounts: dict[str, Account] = msgspec.field(default_factory=dict[str, Account])
    instances: dict[str, Instance] = msgspec.field(default_factory=dict[str, Instance])
    epoch: int = 0
    holder: InstanceId = InstanceId("")
    auth_pos: int = 0
    ledger_pos: int = 0
    grant_seq: int = 0
    auth_need: int = 0
    usage_need: int = 0
    escrow: int = 0
    dirty: set[tuple[str, int]] = msgspec.field(default_factory=set[tuple[str, int]])
    untold: set[tuple[str, int, str]] = msgspec.field(default_factory=set[tuple[str, int, str]])

    def account(self, account: str) -> Account:
        """An account by id, made when first named (usage may come before auth's word on it)."""
        found = self.accounts.get(account)
        if found is None:
            found = self.accounts[account] = Account()
        return found

    def balance(self, window: AccountWindow) -> Balance:
        """The balance of an account-window, made when first named."""
        return self.account(window.account).balance(window.index)

    def instance(self, instance: str) -> Instance:
        """An instance by id, made when first named."""
        found = self.instances.get(instance)
        if found is None:
            found = self.instances[instance] = Instance()
        return found
