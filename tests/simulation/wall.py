"""How much of one budget can really be spent, and what it costs in messages: the runs without faults."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.events import AccountWindow
from shared.ids import AccountId
from tests.simulation.ending import conclude
from tests.simulation.estate import budget
from tests.simulation.profiles import CALM, SHORT, Profile, Terms
from tests.simulation.workload import MEAN, Demand
from tests.simulation.world import World

LIMIT = 400_000_000
ACCOUNT = "wall"
KEYS = 2


@dataclass(frozen=True)
class Case:
    """One way to drive a single budget against its limit."""

    name: str
    profile: Profile
    idle: int
    reference: str
    """What the model the rules were found with showed: spent, asks per admitted call up to 90 %, and 90→99 %."""


def _case(name: str, idle: int, reference: str, terms: Terms, demand_s: float = 60) -> Case:
    profile = replace(CALM, name=f"wall-{name}", terms=terms, proxies=(16, 16), demand_s=demand_s, calls_per_s=19)
    return Case(name, profile, idle, reference)


FIVE = replace(SHORT, horizon_ms=5_000)
CASES = (
    _case("12 of 16 idle, k=1", 12, "99.99-100 % 0.11 0.9-1.3", replace(FIVE, shares=1)),
    _case("12 of 16 idle, k=2", 12, "99.99-100 % 0.14 0.9-1.3", replace(FIVE, shares=2)),
    _case("12 of 16 idle, k=4", 12, "99.99-100 % 0.21 0.9-1.3", FIVE),
    _case("12 of 16 idle, k=8", 12, "99.99-100 % 0.27 0.9-1.3", replace(FIVE, shares=8)),
    _case("12 of 16 idle, product", 12, "99.99-100 % 0.23 1.5", Terms(), 90),
    _case("16 active, k=4", 0, "99.99-100 % 0.24-0.26 2.4-3.6", FIVE),
    _case("16 active, product", 0, "-", Terms()),
)


@dataclass
class Walled:
    """What a case showed."""

    name: str
    reference: str
    spent: float
    asks_to_90: float
    asks_to_99: float
    at_once: float
    wait_p99_ms: float
    calls: int


def drive(case: Case, seed: int = 1) -> Walled:
    """Run one case: the limit is about a tenth of what all would like to spend, a third with most of them idle."""
    world = World(seed, case.profile)
    world.estate.org("org")
    world.estate.team("team0", "org", budget(ACCOUNT, LIMIT))
    for number in range(KEYS):
        world.estate.key(f"key{number}", "team0", "org")
    world.boot()
    world.run(3_000)
    window = AccountWindow(AccountId(ACCOUNT), 0)
    offered = (16 - case.idle) * case.profile.calls_per_s * case.profile.demand_s * MEAN
    factor = LIMIT * (3.4 if case.idle else 10.8) / offered
    demand = _Small(world, factor)
    buckets = {"to 90": [0, 0], "to 99": [0, 0], "rest": [0, 0]}
    before = [0, 0]

    def note() -> None:
        share = (world.truth.finished[window] + world.truth.running[window]) / LIMIT
        bucket = buckets["to 90" if share < 0.9 else "to 99" if share < 0.99 else "rest"]
        now = [world.counts["asks"], world.truth.admitted]
        bucket[0] += now[0] - before[0]
        bucket[1] += now[1] - before[1]
        before[:] = now

    demand.start()
    for _ in range(int(case.profile.demand_s * 20)):
        world.run(50)
        note()
        if case.idle and world.agenda.now > 6_000:
            for proxy in world.proxies[: case.idle]:
                proxy.busy = False
    demand.over = True
    spent = world.truth.finished[window] / LIMIT
    waits = sorted(world.waits)
    conclude(world)
    return Walled(
        name=case.name,
        reference=case.reference,
        spent=spent,
        asks_to_90=buckets["to 90"][0] / max(1, buckets["to 90"][1]),
        asks_to_99=buckets["to 99"][0] / max(1, buckets["to 99"][1]),
        at_once=world.counts["at once"] / max(1, world.truth.admitted),
        wait_p99_ms=waits[int(len(waits) * 0.99)] if waits else 0.0,
        calls=world.truth.admitted,
    )


class _Small(Demand):
    """Many small short calls: none holds more than two thousandths of the limit."""

    def __init__(self, world: World, factor: float) -> None:
        super().__init__(world)
        self._factor = factor

    def wish(self):
        wish = super().wish()
        wish.amount = wish.most = max(1, min(int(LIMIT * 0.002), int(wish.amount * self._factor)))
        wish.share = 1.0
        wish.takes_ms = min(wish.takes_ms, 3_000)
        return wish
