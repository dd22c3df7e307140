"""What one partition's logs add up to: accounts, allotments, instances and positions.

Everything here follows from the logs alone, so a snapshot can hold it and a refold gives it again, but for the
fields marked *passing*: they are what this process has heard or measured, and are lost without harm.
"""

import msgspec

from services.ledger.domain.directory import Directory
from shared.events import AccountWindow
from shared.ids import AccountId, InstanceId, KeyId

METER_SECONDS = 10
EXCEEDED = "exceeded"
RESTORED = "restored"


class UnknownRecord(Exception):
    """The log holds a record that this version cannot fold: a newer version has written it."""


def crossing_name(threshold: str, round_: int) -> str:
    """What a crossing is called within its account-window, such as `80%`, `exceeded` or `exceeded~1`."""
    return threshold if round_ == 0 else f"{threshold}~{round_}"


class Crossing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit that was passed: how much was spent then, of which limit, and at which Unix millisecond.

    `unfolded_nusd` is the part of the spend whose events had not arrived.
    """

    spent_nusd: int
    at_ms: int
    limit_nusd: int | None = None
    round: int = 0
    unfolded_nusd: int = 0

    @property
    def early(self) -> bool:
        """Whether a refusal was the reason and less than nine tenths were spent: being spent up is still news."""
        return self.spent_nusd * 10 < (self.limit_nusd or 0) * 9


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

    `spent` is folded cost (and corrections), `escrow` the sum of what allotments over this window still hold,
    `presumed` what instances that fell silent held and is taken as spent, `overdraft` cost beyond what was held.
    `crossed` names each limit passed (see `crossing_name`); `round` counts how often it was restored, or spent up after
    it had been called exceeded early.
    `holders` are the allotments of living instances with money out, by instance; it follows from the rest.
    Passing: `unfolded`, cost that proxies report and whose events have not arrived; `freed`; and `least`, the
    smallest call refused since it was exceeded (0: none).
    """

    spent: int = 0
    escrow: int = 0
    presumed: int = 0
    overdraft: int = 0
    round: int = 0
    crossed: dict[str, Crossing] = msgspec.field(default_factory=dict[str, Crossing])
    holders: dict[str, set[int]] = msgspec.field(default_factory=dict[str, set[int]])
    unfolded: int = 0
    freed: Meter | None = None
    least: int = 0

    @property
    def used(self) -> int:
        """What counts as spent against the limit."""
        return self.spent + self.presumed

    @property
    def exceeded(self) -> Crossing | None:
        """The crossing of the limit that is in force: recorded, and not restored since."""
        return self.crossed.get(crossing_name(EXCEEDED, self.round))


class Account(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One account's windows by index.

    `highest` is the greatest index that a grant was made for (-1: none): the index never goes back. A limit that
    appeared at AUTH sequence `limited_since` is in force for grants only after a window was opened at or after it
    (`opened_at`), because allotments from before may be out beneath the scope. `marks` are the amounts of spend at
    which something may have to be told.
    """

    windows: dict[int, Balance] = msgspec.field(default_factory=dict[int, Balance])
    highest: int = -1
    limited_since: int = 0
    opened_at: int = 0
    marks: tuple[int, ...] = ()

    def balance(self, index: int) -> Balance:
        """The balance of a window, made when first named."""
        found = self.windows.get(index)
        if found is None:
            found = self.windows[index] = Balance()
        return found


class Allotment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Money granted to one proxy instance under one serial, in cumulative figures.

    `term` are the account-windows it was granted for (empty until the grant is folded: usage may come first),
    `attached` those opened above it later; `auth_pos` is the policy it was first granted by, `at_ms` the Unix
    millisecond of its last record. After its instance
    fell silent, `cap` is what was settled then: what is out beyond it is presumed spent on the `charged` accounts
    and released on the others. Passing: `said_spent`, what its proxy reports.
    """

    key_id: KeyId = KeyId("")
    term: tuple[AccountWindow, ...] = ()
    attached: tuple[AccountWindow, ...] = ()
    granted: int = 0
    settled: int = 0
    returned: int = 0
    rseq: int = 0
    auth_pos: int = 0
    at_ms: int = 0
    cap: int | None = None
    charged: tuple[AccountId, ...] = ()
    said_spent: int = 0

    @property
    def left(self) -> int:
        """What was granted and is neither settled nor returned. Never negative: one allotment's deficit is no
        other's money."""
        return max(0, self.granted - self.settled - self.returned)

    @property
    def out(self) -> int:
        """What counts as escrow. After a silent closing: only cost that was settled when it was decided and that
        this reader has not folded yet."""
        return self.left if self.cap is None else max(0, self._covered(self.cap) - self.settled)

    @property
    def overdraft(self) -> int:
        """Cost beyond what was granted, and not released meanwhile."""
        if self.cap is None:
            return max(0, self.settled + self.returned - self.granted)
        return max(0, self.settled - self._covered(self.cap))

    @property
    def unfolded(self) -> int:
        """Cost that its proxy reports and whose events have not arrived."""
        return max(0, self.said_spent - self.settled) if self.cap is None else 0

    def _covered(self, cap: int) -> int:
        return min(self.granted - self.returned, cap)


class Instance(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One start of a proxy worker in this partition.

    Of the event numbers all up to `floor` are folded, and those in `above`. `silent`: closed because nothing was
    heard of it. `last_n` is set once its end is announced in the log; `final` once every number up to it is folded:
    the allotments are gone then. `lease_ms` is the longest lease it was ever given. Passing: `heard_ms`, when this
    process folded the last record that shows the instance alive, on its own monotonic clock.
    """

    floor: int = 0
    above: set[int] = msgspec.field(default_factory=set[int])
    allotments: dict[int, Allotment] = msgspec.field(default_factory=dict[int, Allotment])
    lease_ms: int = 0
    silent: bool = False
    last_n: int | None = None
    final: bool = False
    heard_ms: int | None = None

    @property
    def closed(self) -> bool:
        """Whether it gets no money any more."""
        return self.silent or self.last_n is not None

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
    takes office folds at least that far. `lease_ms` is the lease of the epoch in force. `untold` are crossings (by
    name) whose signal may not be out.
    Following from the rest: `out`, allotments (instance, serial) with money out, by key; `dirty`, account-windows
    whose limits may have been passed or restored; `unposted`, accounts whose level may have changed; `timed`, accounts
    with a temporary increase that is new here.
    Passing: `awaited`, account-windows that somebody waits for, and those of them that were `eased` since.
    """

    partition: int
    directory: Directory = msgspec.field(default_factory=Directory)
    accounts: dict[str, Account] = msgspec.field(default_factory=dict[str, Account])
    instances: dict[str, Instance] = msgspec.field(default_factory=dict[str, Instance])
    epoch: int = 0
    holder: InstanceId = InstanceId("")
    lease_ms: int = 0
    auth_pos: int = 0
    ledger_pos: int = 0
    grant_seq: int = 0
    auth_need: int = 0
    usage_need: int = 0
    escrow: int = 0
    out: dict[str, set[tuple[str, int]]] = msgspec.field(default_factory=dict[str, set[tuple[str, int]]])
    dirty: set[tuple[str, int]] = msgspec.field(default_factory=set[tuple[str, int]])
    untold: set[tuple[str, int, str]] = msgspec.field(default_factory=set[tuple[str, int, str]])
    timed: set[str] = msgspec.field(default_factory=set[str])
    unposted: set[str] = msgspec.field(default_factory=set[str])
    awaited: set[tuple[str, int]] = msgspec.field(default_factory=set[tuple[str, int]])
    eased: set[tuple[str, int]] = msgspec.field(default_factory=set[tuple[str, int]])

    def account(self, account: str) -> Account:
        """An account by id, made when first named (usage may come before auth's word on it)."""
        found = self.accounts.get(account)
        if found is None:
            found = self.accounts[account] = Account()
        return found

    def balance(self, window: AccountWindow) -> Balance:
        """The balance of an account-window, made when first named."""
        return self.account(window.account).balance(window.index)

    def seen(self, window: AccountWindow) -> Balance | None:
        """The balance of an account-window if there is one."""
        account = self.accounts.get(window.account)
        return None if account is None else account.windows.get(window.index)

    def instance(self, instance: str) -> Instance:
        """An instance by id, made when first named."""
        found = self.instances.get(instance)
        if found is None:
            found = self.instances[instance] = Instance()
        return found
