"""A durable pull consumer: acknowledged work is done, the rest comes again."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from shared.bus import Bus, WorkQueue
from shared.errors import BusUnavailable
from shared.topology import BOOKKEEPER_DURABLE, LEDGER, usage_subject
from tests.support.servers import NatsServer

SUBJECT = usage_subject(0, "proxy")


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    yield bus
    await bus.close()


@pytest.fixture
def short_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull without messages ends after two seconds."""
    monkeypatch.setattr("shared.bus.work.FETCH_EXPIRES_S", 2)


async def publish(bus: Bus, first: int, last: int) -> None:
    for number in range(first, last):
        await bus.publish(SUBJECT, str(number).encode(), msg_id=f"m{number}")


async def impatient(bus: Bus, durable: str) -> None:
    """A consumer like ours that gives work out again after half a second."""
    config = {
        "durable_name": durable,
        "filter_subject": "usage.v1.>",
        "ack_policy": "explicit",
        "ack_wait": 500_000_000,
        "max_deliver": -1,
    }
    request = msgspec.json.encode({"stream_name": LEDGER, "config": config})
    assert b"error" not in await bus.api(f"CONSUMER.CREATE.{LEDGER}.{durable}.usage.v1.>", request)


async def take(queue: WorkQueue, count: int, *, ack: bool) -> list[int]:
    """The numbers of the next `count` messages."""
    got: list[int] = []
    async with asyncio.timeout(20):
        while len(got) < count:
            fetched = await queue.fetch(count - len(got))
            got.extend(int(message.data) for message, _ in fetched)
            if ack:
                await queue.ack([reply for _, reply in fetched])
    return got


async def test_the_bookkeeper_gets_usage_in_order_with_its_own_permissions(nats: NatsServer, bus: Bus) -> None:
    await publish(bus, 0, 30)
    await bus.append("grant.v1.0.e", b"not for it", fence="grant.v1.0.>", expected=0, msg_id="g")
    keeper = await Bus.open(nats.url_for("bookkeeper"), user="bookkeeper", name="test")
    async with WorkQueue(keeper, LEDGER, BOOKKEEPER_DURABLE) as queue:
        assert await take(queue, 30, ack=True) == list(range(30))
    await publish(bus, 30, 33)
    async with WorkQueue(keeper, LEDGER, BOOKKEEPER_DURABLE) as queue:
        assert await take(queue, 3, ack=True) == [30, 31, 32], "what was acknowledged does not come again"
    await keeper.close()


async def test_what_was_not_acknowledged_comes_again(bus: Bus) -> None:
    await impatient(bus, "short")
    await publish(bus, 0, 5)
    async with WorkQueue(bus, LEDGER, "short") as queue:
        assert await take(queue, 2, ack=True) == [0, 1]
        assert await take(queue, 3, ack=False) == [2, 3, 4]
    async with WorkQueue(bus, LEDGER, "short") as queue:
        assert sorted(await take(queue, 3, ack=True)) == [2, 3, 4]


@pytest.mark.usefixtures("short_pulls")
async def test_no_work_is_an_empty_list(bus: Bus) -> None:
    async with WorkQueue(bus, LEDGER, BOOKKEEPER_DURABLE) as queue, asyncio.timeout(10):
        assert await queue.fetch(10) == []
        await publish(bus, 0, 1)
        assert await take(queue, 1, ack=True) == [0]


async def test_a_consumer_that_is_gone_is_noticed(bus: Bus) -> None:
    async with WorkQueue(bus, LEDGER, BOOKKEEPER_DURABLE) as queue:
        await publish(bus, 0, 1)
        assert await take(queue, 1, ack=True) == [0]
        await bus.api(f"CONSUMER.DELETE.{LEDGER}.{BOOKKEEPER_DURABLE}", b"")
        with pytest.raises(BusUnavailable):
            async with asyncio.timeout(20):
                while True:
                    await queue.fetch(10)


async def test_a_restart_asks_for_a_new_queue_and_loses_nothing(nats: NatsServer, bus: Bus) -> None:
    await impatient(bus, "short")
    await publish(bus, 0, 4)
    async with WorkQueue(bus, LEDGER, "short") as queue:
        assert await take(queue, 2, ack=True) == [0, 1]
        await asyncio.to_thread(nats.stop)
        await asyncio.to_thread(nats.start)
        with pytest.raises(BusUnavailable):
            async with asyncio.timeout(20):
                while True:
                    await queue.fetch(1)
    seen: set[int] = set()
    async with asyncio.timeout(20):
        while not seen >= {2, 3}:
            try:
                async with WorkQueue(bus, LEDGER, "short") as queue:
                    seen.update(await take(queue, 1, ack=True))
            except BusUnavailable:
                await asyncio.sleep(0.05)
    assert seen <= {0, 1, 2, 3}
