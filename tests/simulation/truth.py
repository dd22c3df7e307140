"""What callers really did: every call, its hold and its cost, against the limit that was promised to hold.

`cost of finished calls + holds of running calls <= limit in force at the last grant through the window`. On top may
lie only what is named: cost that nobody held money for (limits that appeared over running calls, corrections upward),
cost beyond a hold (default mode), and what a silent instance's closing released (default mode).
"""

from collections import defaultdict
from dataclasses import dataclass, field

from shared.events import AccountWindow, AnyUsage, UsageCorrected
from shared.policy import Budget
from tests.simulation.oracle import Oracle, claim


@dataclass(slots=True, eq=False)
class Call:
    """One call: what it holds in which windows, and what it will cost. `windows` are those it is charged to."""

    call_id: str
    instance: str
    key: str
    model: str
    asked: int
    cost: int
    held: int = 0
    serial: int | None = None
    term: tuple[AccountWindow, ...] = ()
    windows: tuple[AccountWindow, ...] = ()
    started_ms: float = 0
    over: bool = False


@dataclass
class Truth:
    """Sums over all calls there ever were, whatever any process knows or has forgotten."""

    oracle: Oracle
    finished: defaultdict[AccountWindow, int] = field(default_factory=lambda: defaultdict(int))
    running: defaultdict[AccountWindow, int] = field(default_factory=lambda: defaultdict(int))
    beyond: defaultdict[AccountWindow, int] = field(default_factory=lambda: defaultdict(int))
    """Cost of calls above their holds (default mode)."""
    alive: dict[str, set[Call]] = field(default_factory=dict[str, set[Call]])
    """Running calls by instance, also those of crashed instances whose journal nobody has read."""
    crashed: set[str] = field(default_factory=set[str])
    unheld: defaultdict[AccountWindow, dict[tuple[str, int], tuple[int, int | None]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """(instance, n) → (cost that nobody held money for, sequence in LEDGER)."""
    admitted: int = 0
    worst: int = 0

    def bound(self, window: AccountWindow) -> int | None:
        """The most that finished and running calls may come to; None before the first grant through a window."""
        limit = self.oracle.limit_then.get(window)
        if limit is None:
            return None
        unheld = sum(cost for cost, _ in self.unheld[window].values()) if window in self.unheld else 0
        return limit + unheld + self.beyond[window] + self.oracle.released[window]

    def start(self, call: Call) -> None:
        """A call begins with its hold."""
        being = self.oracle.beings.get(call.instance)
        if call.serial is not None:
            claim(being is not None, "a call on money that was never granted", call)
            assert being is not None
            shut = being.last_n is not None or being.charged is not None
            claim(not shut, "a call on money of a closed instance (R16, R22)", call)
        self.alive.setdefault(call.instance, set()).add(call)
        self.admitted += 1
        for window in call.term:
            self.running[window] += call.held
            self.check(window)

    def finish(self, call: Call, cost: int, n: int) -> None:
        """A call ends; `n` is its event's number."""
        claim(not call.over, "a call ended twice", call)
        call.over = True
        self.alive[call.instance].discard(call)
        for window in call.term:
            self.running[window] -= call.held
            self.beyond[window] += max(0, cost - call.held)
        for window in call.windows:
            self.finished[window] += cost
            if window not in call.term and cost:
                self.unheld[window][call.instance, n] = (cost, None)
            self.check(window)

    def published(self, events: tuple[AnyUsage, ...], seq: int) -> None:
        """A message of usage is in LEDGER."""
        for event in events:
            if isinstance(event, UsageCorrected):
                for change in event.changes:
                    self.finished[change.window] += change.delta_nusd
                    if change.delta_nusd > 0:
                        self.unheld[change.window][event.instance, event.n] = (change.delta_nusd, seq)
                continue
            for window in event.windows:
                known = self.unheld[window].get((event.instance, event.n)) if window in self.unheld else None
                if known is not None and known[1] is None:
                    self.unheld[window][event.instance, event.n] = (known[0], seq)

    def granted(self, windows: list[AccountWindow]) -> None:
        """After decisions: the limit of now holds, and unheld cost that they knew of is under it."""
        position = self.oracle.usage_pos
        for window in windows:
            if window in self.unheld:
                known = self.unheld[window]
                for name in [name for name, (_, seq) in known.items() if seq is not None and seq <= position]:
                    del known[name]
            self.check(window)

    def closed(self, instance: str) -> None:
        """An instance was closed: no call of it that holds money may run on a machine that lives."""
        running = [call for call in self.alive.get(instance, ()) if call.serial is not None]
        claim(not running or instance in self.crashed, "closed with calls running (R17, R19)", instance, running)

    def check(self, window: AccountWindow) -> None:
        """The promise for one window. Raises Violation."""
        bound = self.bound(window)
        total = self.finished[window] + self.running[window]
        if bound is None:
            claim(self.running[window] == 0, "money is held in a window without a grant", window)
            return
        claim(total <= bound, "LIMIT PASSED: finished + running > bound", window, total, bound, self.figures(window))
        self.worst = max(self.worst, total)

    def figures(self, window: AccountWindow) -> dict[str, object]:
        """All that is known of a window, for a person."""
        return {
            "finished": self.finished[window],
            "running": self.running[window],
            "beyond": self.beyond[window],
            "limit": self.oracle.limit_then.get(window),
            "spent": self.oracle.spent[window],
            "held": self.oracle.held(window),
            "released": self.oracle.released[window],
        }

    def certain(self, window: AccountWindow, budget: Budget, least: int, limit: int) -> bool:
        """Whether a call that needs `least` could not be served even if every hold were given back (R31)."""
        assert budget.account == window.account
        return self.finished[window] + self.oracle.presumed(window) + least > limit

    def fits(self, window: AccountWindow, amount: int, limit: int) -> bool:
        """Whether a call would fit if nothing lay idle anywhere."""
        taken = self.finished[window] + self.running[window] + self.oracle.presumed(window)
        return taken + amount <= limit
