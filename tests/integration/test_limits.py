"""Rate limits of three instances that gossip over a real NATS, each under the proxy's own permissions."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.proxy.domain.admission import Caller, Refused, join
from services.proxy.gossip import Gossip
from services.proxy.limits import RateLimits, Ticket
from shared.bus import Bus
from shared.clock import SystemClock
from shared.ids import InstanceId, KeyId, OrgId
from shared.policy import KeyRecord, Limits, OrgRecord
from shared.tasks import Supervisor
from shared.topology import GOSSIP_SUBJECT
from tests.support.eventually import eventually
from tests.support.servers import NatsServer

LIMIT_S = 20


class Instance:
    """One proxy's limits with their gossip."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.bus = bus
        clock = SystemClock()
        self.tasks = Supervisor()
        self.limits = RateLimits(clock, InstanceId(name))
        self.gossip = Gossip(bus, self.limits, clock, InstanceId(name))
        self.gossip.start(self.tasks)

    def call(self, who: Caller, tokens: int = 1) -> Ticket | None:
        """One call; None when it is refused."""
        try:
            return self.limits.admit(who, "gpt-4o", tokens)
        except Refused:
            return None

    async def close(self) -> None:
        await self.tasks.close()
        await self.bus.close()


@asynccontextmanager
async def instances(server: NatsServer, count: int) -> AsyncGenerator[list[Instance]]:
    """So many instances that know of each other."""
    async with AsyncExitStack() as stack:
        made: list[Instance] = []
        for number in range(count):
            bus = await Bus.open(server.url_for("proxy"), user="proxy", name="tests")
            made.append(Instance(bus, f"instance-{number}"))
            stack.push_async_callback(made[-1].close)
        await until(made, lambda one: one.limits.fleet.size == count and one.limits.fleet.trusted_until_ms > 0)
        yield made


async def until(all_of: list[Instance], probe) -> None:
    """Wait until something is true of all instances, looking whenever one of them has heard something."""
    async with asyncio.timeout(LIMIT_S):
        while not all(probe(one) for one in all_of):
            await all_of[0].limits._moved.wait()


def caller(limits: Limits, key_id: str = "k1") -> Caller:
    return join(
        KeyRecord(seq=1, key_id=KeyId(key_id), org_id=OrgId("o1"), limits=limits),
        None,
        OrgRecord(seq=1, org_id=OrgId("o1")),
        1,
    )


async def left(one: Instance, who: Caller) -> int:
    """What an instance believes to be left of the key's only limit."""
    (item,) = one.limits._plan(who, "gpt-4o").items
    return item[0].room(SystemClock().monotonic_ms())


@pytest.fixture
async def three(nats_server: NatsServer) -> AsyncGenerator[list[Instance]]:
    async with instances(nats_server, 3) as made:
        yield made


async def test_three_instances_share_one_limit(three: list[Instance]) -> None:
    who = caller(Limits(rpm=30))
    admitted = 0
    async with asyncio.timeout(LIMIT_S):
        while any([await left(one, who) > 0 for one in three]):
            admitted += sum(one.call(who) is not None for one in three)
            await three[0].limits._moved.wait()
    admitted += sum(one.call(who) is not None for one in three for _ in range(20))
    assert 30 <= admitted <= 32


async def test_a_burst_at_one_instance_has_the_rights_of_the_idle_ones(three: list[Instance]) -> None:
    who = caller(Limits(rpm=300))
    async with asyncio.timeout(LIMIT_S):
        tickets = [await three[1].limits.enter(who, "gpt-4o", 1) for _ in range(300)]
    with pytest.raises(Refused):
        await three[1].limits.enter(who, "gpt-4o", 1)
    assert all(tickets)


async def test_calls_in_flight_anywhere_count_everywhere(three: list[Instance]) -> None:
    who = caller(Limits(parallel=1))
    for turn in range(6):
        one = three[turn % 3]
        ticket = await one.limits.enter(who, "gpt-4o", 1)
        assert ticket is not None
        async with asyncio.timeout(LIMIT_S):
            while any([await left(other, who) != 0 for other in three]):
                await one.limits._moved.wait()
        assert [other.call(who) for other in three] == [None, None, None]
        ticket.settle(5)
        async with asyncio.timeout(LIMIT_S):
            while any([await left(other, who) != 1 for other in three]):
                await one.limits._moved.wait()


async def test_an_instance_that_leaves_hands_its_part_over_at_once(three: list[Instance]) -> None:
    who = caller(Limits(rpm=30))
    assert three[0].call(who)
    await three[0].gossip.close()
    await until(three[1:], lambda one: one.limits.fleet.size == 2)
    assert await left(three[1], who) == 29


async def test_gossip_comes_back_with_the_server(nats: NatsServer) -> None:
    async with instances(nats, 2) as made:
        who = caller(Limits(rpm=10))

        async def away() -> bool:
            return not any(one.bus.connected for one in made)

        nats.stop()
        await eventually(away, within_s=LIMIT_S)
        alone = sum(one.call(who) is not None for one in made for _ in range(20))
        assert 10 <= alone <= 12
        nats.start()
        async with asyncio.timeout(LIMIT_S):
            while any([await left(one, who) > 0 for one in made]):
                await made[0].limits._moved.wait()
        assert [one.limits.fleet.size for one in made] == [2, 2]


async def test_what_cannot_be_read_is_left_out(three: list[Instance]) -> None:
    await three[0].bus.send(GOSSIP_SUBJECT, b"nonsense")
    await until(three, lambda one: one.gossip.bad == 1)
    assert three[0].call(caller(Limits(rpm=3)))
