"""Rate limits over several proxies: the stated bound under delay and loss, and that the limit can really be used."""

import pytest

from services.proxy.domain.limits.fleet import BEAT_MS, DEAD_MS
from tests.support.fleet_world import Net, World

SLOW = Net(least_ms=1, most_ms=100)
BAD = Net(least_ms=1, most_ms=800, loss=0.05, double=0.2)
MINUTE = 60_000


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("proxies", [2, 3, 5])
def test_gossip_in_time_keeps_the_fleet_within_n_minus_one(proxies: int, seed: int) -> None:
    world = World(proxies, limit=60, seed=seed, net=SLOW)
    world.meet()
    for _ in range(4):
        world.run(35_000, [world.random.choice([0.0, 0.5, 3.0, 30.0]) for _ in range(proxies)])
    assert world.worst <= 60 + proxies - 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("proxies", [2, 3, 5])
def test_late_lost_doubled_and_reordered_gossip_costs_one_call_more(proxies: int, seed: int) -> None:
    world = World(proxies, limit=60, seed=seed, net=BAD)
    world.net = SLOW
    world.meet()
    world.net = BAD
    views = [proxy.fleet.view for proxy in world.all]
    for _ in range(4):
        world.run(35_000, [world.random.choice([0.0, 0.5, 3.0, 30.0]) for _ in range(proxies)])
        assert [proxy.fleet.view for proxy in world.all] == views
    assert world.worst <= 60 + proxies


@pytest.mark.parametrize("seed", range(4))
def test_tokens_pass_the_limit_by_a_large_call_each_at_most(seed: int) -> None:
    world = World(3, limit=10_000, seed=seed, net=SLOW, limit_id="0123456789t", weight_max=2_000)
    world.meet()
    for _ in range(3):
        world.run(35_000, [world.random.choice([0.0, 0.2, 2.0]) for _ in range(3)])
    assert world.worst <= 10_000 + 2 * 2_000
    assert world.worst >= 8_000


@pytest.mark.parametrize("limit", [1, 3, 60, 600, 6_000])
def test_ten_times_the_rate_uses_the_whole_limit(limit: int) -> None:
    world = World(3, limit=limit, net=SLOW)
    world.meet()
    world.run(130_000, [limit / 18] * 3)
    assert world.worst <= limit + 2
    assert world.sums[-1] >= 2 * limit * 0.98


def test_one_busy_proxy_among_idle_ones_has_the_whole_limit_within_two_seconds() -> None:
    world = World(4, limit=600, net=SLOW)
    world.meet()
    world.run(2_000, [0, 0, 1_000, 0])
    assert 590 <= world.used() <= 603


def test_a_slow_busy_proxy_among_idle_ones_is_never_refused_within_the_limit() -> None:
    world = World(4, limit=30, net=SLOW)
    world.meet()
    for _ in range(30):
        assert world.call(world.all[3])
        world.run(500)
    assert not world.call(world.all[3])
    assert not world.call(world.all[0])


def test_calls_in_turn_at_all_proxies_are_admitted_up_to_a_limit_smaller_than_the_fleet() -> None:
    world = World(5, limit=3, net=SLOW)
    world.meet()
    admitted = 0
    for turn in range(10):
        admitted += world.call(world.all[turn % 5])
        world.run(400)
    assert admitted == 3


def test_demand_that_moves_takes_the_rights_along() -> None:
    world = World(3, limit=600, net=SLOW)
    world.meet()
    world.run(70_000, [100, 0, 0])
    before = world.sums[-1]
    world.run(70_000, [0, 100, 0])
    assert world.sums[-1] - before >= 590
    assert world.worst <= 602


def test_a_newcomer_to_a_contended_limit_gets_its_share_within_a_window() -> None:
    world = World(2, limit=600, net=SLOW)
    world.meet()
    world.run(70_000, [100, 0])
    world.run(65_000, [100, 100])
    rights = [world.quota(proxy).rights for proxy in world.all]
    assert sum(rights) <= 600
    assert min(rights) >= 200


def test_idle_proxies_are_quiet() -> None:
    world = World(3, limit=600, net=SLOW)
    world.meet()
    world.run(10_000, [50, 50, 50])
    world.run(180_000)
    before = world.messages
    world.run(10_000)
    assert world.messages - before <= 3 * 21


@pytest.mark.parametrize("seed", range(12))
def test_whoever_waits_as_told_is_served_at_any_proxy(seed: int) -> None:
    world = World(3, limit=9, seed=seed, net=SLOW)
    world.meet()
    world.run(world.random.randrange(5_000, 40_000), [world.random.choice([0.0, 0.3, 2.0]) for _ in range(3)])
    world.run(300)
    told = world.random.choice(world.all)
    while world.call(told):
        world.run(300)
    wait = world.quota(told).wait_ms(1, world.clock(told))
    assert wait is not None
    assert wait <= MINUTE + 1_100
    world.run(max(0, wait - 300) // 10 * 10)
    asked = world.random.choice(world.all)
    assert wait <= 300 or world.quota(asked).room(world.clock(asked)) < 1
    world.run(min(wait, 300) + 10 + 100)
    for _ in range(20):  # a call waits for a gift
        if world.call(asked):
            return
        world.run(10)
    pytest.fail("refused at the time that was told")


# ---- joining, dying, being cut off ---------------------------------------------------------------------


def test_a_proxy_that_dies_leaves_its_part_to_the_others() -> None:
    world = World(3, limit=600, net=SLOW)
    world.meet()
    world.run(5_000, [200, 0, 0])
    world.all[0].up = False
    world.run(DEAD_MS + 2 * BEAT_MS)
    assert world.all[1].fleet.size == 2
    world.run(53_000, [0, 100, 100])
    assert world.worst <= 602
    world.run(70_000, [0, 100, 100])
    assert world.used() >= 590
    assert world.worst <= 602


def test_what_a_dying_proxy_had_no_time_to_tell_is_what_is_passed() -> None:
    world = World(3, limit=600, net=SLOW)
    world.meet()
    silent = 0
    while world.call(world.all[0]):
        silent += 1
    world.all[0].up = False
    world.run(120_000, [0, 100, 100])
    assert silent <= 201
    assert world.worst <= 600 + silent + 2


def test_the_calls_in_flight_of_a_dead_proxy_are_freed() -> None:
    world = World(2, limit=4, net=SLOW, limit_id="0123456789p")
    world.meet()
    for _ in range(4):
        assert world.call(world.all[0])
        world.run(500)
    assert not world.call(world.all[1])
    world.all[0].up = False
    world.run(DEAD_MS + 2 * BEAT_MS)
    for _ in range(4):
        assert world.call(world.all[1])
    assert not world.call(world.all[1])


@pytest.mark.parametrize("seed", range(4))
def test_a_proxy_that_joins_costs_at_most_its_part(seed: int) -> None:
    world = World(3, limit=600, seed=seed, net=SLOW)
    world.meet()
    world.run(20_000, [30, 30, 30])
    world.join()
    world.run(500)
    world.run(120_000, [30, 30, 30, 30])
    assert world.worst <= 600 + 150 + 3
    assert world.used() >= 570


def test_a_proxy_that_is_cut_off_lives_on_its_even_part() -> None:
    world = World(3, limit=600, net=SLOW)
    world.meet()
    world.run(2_000, [100, 100, 100])
    world.all[2].cut = True
    world.run(65_000, [100, 100, 100])
    world.worst = 0
    world.run(65_000, [100, 100, 100])
    assert world.all[2].fleet.size == 3
    assert world.all[0].fleet.size == 2
    assert world.worst <= 600 + 200 + 3


def test_without_any_gossip_all_together_keep_the_limit() -> None:
    world = World(3, limit=600, net=SLOW)
    world.meet()
    for proxy in world.all:
        proxy.cut = True
    world.run(DEAD_MS + 1_000)
    world.run(130_000, [100, 100, 100])
    assert world.worst <= 600 + 3
    assert world.used() >= 590


def test_after_a_cut_the_fleet_finds_together_without_a_burst() -> None:
    world = World(3, limit=600, net=SLOW)
    world.meet()
    for proxy in world.all:
        proxy.cut = True
    world.run(70_000, [100, 100, 100])
    for proxy in world.all:
        proxy.cut = False
    world.worst = 0
    world.run(130_000, [100, 100, 100])
    assert [proxy.fleet.size for proxy in world.all] == [3, 3, 3]
    assert world.worst <= 600 + 3
