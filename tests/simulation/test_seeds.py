"""Seeds that once broke a promise, for ever, and a few of each kind of world."""

from pathlib import Path

import pytest

from tests.simulation.profiles import PROFILES
from tests.simulation.run import attempt, simulate

KEPT = [
    (profile, int(seed))
    for line in Path(__file__).with_name("seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for profile, seed in [line.split()]
]
SOME = [
    (profile, seed)
    for profile, seeds in (
        ("base", (1, 2, 3)),
        ("harsh", (1, 2, 3)),
        ("sixteen", (1,)),
        ("default-mode", (1, 2)),
        ("mixed", (1, 2)),
        ("lossy", (1, 2)),
        ("calm", (1,)),
    )
    for seed in seeds
]


@pytest.mark.parametrize(("profile", "seed"), list(dict.fromkeys([*KEPT, *SOME])))
def test_every_promise_holds(profile: str, seed: int) -> None:
    result = attempt(profile, seed)
    assert not result.broken, result.broken


def test_a_seed_is_the_same_world_every_time() -> None:
    one, two = (simulate(5, PROFILES["harsh"]) for _ in range(2))
    assert one.counts == two.counts
    assert one.truth.finished == two.truth.finished
