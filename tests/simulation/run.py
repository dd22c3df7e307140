"""One seed from beginning to end, and what it showed."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from services.ledger.domain import forget
from tests.simulation.ending import conclude
from tests.simulation.oracle import Violation
from tests.simulation.profiles import PROFILES, Profile, Terms
from tests.simulation.storm import Storm
from tests.simulation.workload import MEAN, Demand
from tests.simulation.world import World


@dataclass
class Result:
    """What one seed showed; `broken` is empty when every promise held."""

    profile: str
    seed: int
    broken: str = ""
    seconds: float = 0.0
    steps: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    spent: int = 0
    limits: int = 0
    waits: list[float] = field(default_factory=list[float])


def build(seed: int, profile: Profile, *, trace: bool = False) -> tuple[World, Demand, Storm]:
    """A world with its estate, demand and storm."""
    world = World(seed, profile, trace=trace)
    random = world.random
    offered = len(world.proxies) * profile.calls_per_s * profile.demand_s * MEAN
    scale = int(offered / (random.uniform(*profile.pressure) * profile.teams))
    world.draw.scale = scale
    world.draw.build(world.estate, profile.teams, profile.keys)
    return world, Demand(world), Storm(world)


def simulate(seed: int, profile: Profile, *, trace: bool = False) -> World:
    """Run one seed to its end. Raises Violation (or whatever the code under test raises)."""
    short: dict[str, Any] = {
        "SETTLED_FOR": timedelta(seconds=45),
        "OVER_FOR": timedelta(seconds=45),
        "UNUSED_FOR": timedelta(seconds=200),
    }
    if profile.terms == Terms():
        return _simulate(seed, profile, trace=trace)
    with patch.multiple(forget, **short):
        return _simulate(seed, profile, trace=trace)


def _simulate(seed: int, profile: Profile, *, trace: bool) -> World:
    world, demand, storm = build(seed, profile, trace=trace)
    world.boot()
    world.run(world.random.choice((0, 500, 3_000)))
    demand.start()
    storm.start()
    end = world.agenda.now + profile.demand_s * 1_000
    if profile.idle:
        world.run(profile.demand_s * 50)
        for proxy in world.proxies[: profile.idle]:
            proxy.busy = False
    world.run(end - world.agenda.now)
    demand.over = storm.over = True
    conclude(world)
    return world


def attempt(name: str, seed: int) -> Result:
    """Run one seed and tell what happened."""
    began = time.perf_counter()
    result = Result(name, seed)
    try:
        world = simulate(seed, PROFILES[name])
    except Violation as violation:
        result.broken = f"{violation}"[:1_500]
    except Exception:
        result.broken = traceback.format_exc(limit=-6)
    else:
        _measure(world, result)
    result.seconds = time.perf_counter() - began
    return result


def _measure(world: World, result: Result) -> None:
    counts = dict(world.counts)
    counts["grants"] = world.oracle.grants
    counts["elections"] = world.oracle.epochs
    counts["admitted"] = world.truth.admitted
    counts["restored"] = world.shelf.restored
    result.counts = counts
    result.steps = world.agenda.steps
    result.waits = world.waits[:2_000]
    for window, threshold, round_ in world.oracle.crossed:
        limit = world.oracle.limit_then.get(window)
        if threshold == "exceeded" and round_ == 0 and limit:
            result.spent += min(limit, world.truth.finished[window])
            result.limits += limit
