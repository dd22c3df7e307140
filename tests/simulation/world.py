"""One simulated world: machines, links, logs and the referee, from a seed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from random import Random

from services.ledger.domain.tuning import Tuning
from services.proxy.domain.money.purse import BankTuning
from shared.allotment import Ask, Level, Request
from shared.events import AccountWindow
from tests.simulation.agenda import Agenda, Watch, true_now
from tests.simulation.enforcer import Enforcer, LeaseKeeper
from tests.simulation.estate import Draw, Estate
from tests.simulation.herald import Signal
from tests.simulation.journal import Journal
from tests.simulation.logs import Logs
from tests.simulation.network import BUS, Network, Weather
from tests.simulation.oracle import Oracle, claim
from tests.simulation.profiles import Profile, Terms
from tests.simulation.proxy import Proxy
from tests.simulation.referee import Referee
from tests.simulation.shelf import Shelf
from tests.simulation.truth import Truth


def enforcer_tuning(terms: Terms) -> Tuning:
    """The enforcer's half of the constants."""
    return Tuning(
        lease_ms=terms.lease_ms,
        max_call_ms=terms.max_call_ms,
        margin_ms=terms.margin_ms,
        recall_wait_ms=terms.recall_wait_ms,
        recall_gap_ms=terms.recall_gap_ms,
        shares=terms.shares,
    )


def bank_tuning(terms: Terms) -> BankTuning:
    """The proxies' half."""
    return BankTuning(
        beat_ms=terms.beat_ms,
        retransmit_ms=terms.retransmit_ms,
        ask_wait_ms=terms.ask_wait_ms,
        horizon_ms=terms.horizon_ms,
        forget_after_ms=terms.forget_after_ms,
        idle_after_ms=terms.idle_after_ms,
        reserved_ttl_ms=terms.reserved_ttl_ms,
        exceeded_ttl_ms=terms.exceeded_ttl_ms,
    )


class World:
    """Everything. The switches turn single rules off, to see that the referee notices."""

    waits_for_policy = True
    renames = True
    barrier = True
    opinions = True
    close_early = False
    hasty = False

    def __init__(
        self, seed: int, profile: Profile, *, trace: bool = False, proxies: int = 0, enforcers: int = 0
    ) -> None:
        self.seed = seed
        self.profile = profile
        self.random = Random(f"{profile.name}/{seed}")
        self.tracing = trace
        self.agenda = Agenda()
        self.logs = Logs()
        self.net = Network(self.agenda, self.random, Weather(profile.loss, profile.doubled, slow=profile.slow))
        self.oracle = Oracle(self.logs)
        self.truth = Truth(self.oracle)
        self.referee = Referee(self)
        self.estate = Estate(self.logs, lambda: true_now(self.agenda))
        self.draw = Draw(self.random, profile.mode, 1)
        self.lease = LeaseKeeper()
        self.levels: dict[str, Level] = {}
        self.shelf = Shelf(self)
        self.signals: dict[str, tuple[str, int, str]] = {}
        self.journals: dict[str, Journal] = {}
        self.newest: dict[tuple[str, int], int] = {}
        """The newest ask of each allotment: answers to older ones are ignored by their proxies."""
        self.counts: Counter[str] = Counter()
        self.waits: list[float] = []
        self._number = 0
        self.skew_ms = profile.skew_ms
        self.logs.on_grants.append(self.referee.appended)
        self.logs.on_usage.append(self.truth.published)
        self.enforcers = [
            Enforcer(self, f"e{i}", self._watch(), self.random, enforcer_tuning(profile.terms))
            for i in range(enforcers or self.random.randint(*profile.enforcers))
        ]
        self.proxies = [
            Proxy(self, f"p{i}", self._watch(), self.random, bank_tuning(profile.terms))
            for i in range(proxies or self.random.randint(*profile.proxies))
        ]
        self.machines = {proxy.name: proxy for proxy in self.proxies}

    def _watch(self) -> Watch:
        random, skew = self.random, self.profile.skew_ms
        return Watch(
            self.agenda,
            skew_ms=random.uniform(-skew, skew),
            zero_ms=random.randint(1, 10**9),
            drift=random.uniform(-0.0004, 0.0004),
        )

    # ---- for the machines ---------------------------------------------------------------------------

    def number(self) -> int:
        """A number that was not used before."""
        self._number += 1
        return self._number

    def count(self, what: str) -> None:
        """Count something for the report."""
        self.counts[what] += 1

    def waited(self, ms: float) -> None:
        """A call waited so long for its money."""
        self.waits.append(ms)

    def trace(self, text: str) -> None:
        """Say what happens, when somebody wants to know."""
        if self.tracing:
            sys.stdout.write(f"{self.agenda.now / 1000:10.4f} {text}\n")

    def ask(self, machine: str, instance: str, request: Request) -> None:
        """A request of a proxy goes to every enforcer that believes to be in office."""
        self.count("requests")
        if isinstance(request, Ask):
            aid = (request.instance, request.serial)
            self.newest[aid] = max(request.rseq, self.newest.get(aid, 0))
        served = False
        for enforcer in self.enforcers:
            if enforcer.serving:
                served = True
                self.net.send(machine, enforcer.name, enforcer.receive, machine, request)
        if not served:
            proxy = self.machines[machine]
            self.net.send(BUS, machine, proxy.hear, proxy.nobody_serves, instance, request)

    def send_once(self, source: str, target: str, deliver: Callable[..., None], *args: object) -> None:
        """A message that may be lost or late, and is never doubled."""
        doubled, self.net.weather.doubled = self.net.weather.doubled, 0.0
        self.net.send(source, target, deliver, *args)
        self.net.weather.doubled = doubled

    def signal(self, name: tuple[str, int, str], signal: Signal) -> None:
        """A signal is published; who reads knows it again by its id."""
        known = self.signals.setdefault(signal.id, name)
        claim(known == name, "two signals with one id", known, name)
        self.count("signals published")

    def post(self, level: Level) -> None:
        """A level is put into the bucket; proxies see it a little later."""
        known = self.levels.get(level.account)
        if known is not None and known.seq > level.seq:
            return
        self.levels[level.account] = level
        self.count("levels")
        for proxy in self.proxies:
            self.net.send(BUS, proxy.name, proxy.hear, proxy.level, level)

    def is_strict(self, windows: tuple[AccountWindow, ...]) -> bool:
        """Whether holds over these windows are upper bounds of cost."""
        budgets = self.oracle.budgets
        return any((budget := budgets.get(window.account)) is not None and budget.strict for window in windows)

    # ---- time ---------------------------------------------------------------------------------------

    def run(self, ms: float) -> None:
        """Let time pass."""
        self.agenda.run(self.agenda.now + ms)

    def until(self, true: Callable[[], bool], within_ms: float = 60_000) -> None:
        """Let time pass until something is true."""
        end = self.agenda.now + within_ms
        while not true():
            claim(self.agenda.now < end, "it did not come true in time")
            self.agenda.run(min(end, self.agenda.now + 1.0))

    def boot(self) -> None:
        """Start all machines and let one enforcer take office."""
        for enforcer in self.enforcers:
            enforcer.start()
        for proxy in self.proxies:
            proxy.start()
