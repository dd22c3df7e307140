"""Reading a stream in order and without a hole, whatever happens to the server."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from shared.bus import Bus, Message, Tail
from shared.bus.apply import apply
from shared.bus.tail import PULL_BATCH
from shared.errors import BusUnavailable, StreamChanged
from shared.topology import AUTH
from tests.support.eventually import eventually
from tests.support.servers import NatsServer


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    yield bus
    await bus.close()


async def fill(bus: Bus, first: int, last: int, subject: str = "auth.test.v1.a") -> None:
    """Messages whose text is their number, all acknowledged."""
    for start in range(first, last, 200):
        acks = [
            bus.publish(subject, str(number).encode(), msg_id=f"{subject}{number}")
            for number in range(start, min(start + 200, last))
        ]
        for ack in acks:
            await ack


async def read(tail: Tail, count: int) -> list[Message]:
    """The next `count` messages."""
    got: list[Message] = []
    async with asyncio.timeout(20):
        async for batch in tail.batches():
            got.extend(batch.messages)
            if len(got) >= count:
                break
    return got


async def test_everything_in_order_across_several_pulls_and_then_live(bus: Bus) -> None:
    total = 2 * PULL_BATCH + 50
    await fill(bus, 0, total)
    got: list[Message] = []
    ends: list[int] = []
    async with asyncio.timeout(30):
        async for batch in Tail(bus, AUTH, "auth.>").batches():
            got.extend(batch.messages)
            if batch.caught_up:
                ends.append(len(got))
                if len(got) == total:
                    await fill(bus, total, total + 3)
            if len(got) >= total + 3:
                break
    assert [int(message.data) for message in got] == list(range(total + 3))
    assert [message.seq for message in got] == list(range(1, total + 4))
    assert ends[0] == total, "caught up not before the end of what was stored"


async def test_an_empty_stream_says_so_at_once(bus: Bus) -> None:
    async with asyncio.timeout(5):
        async for batch in Tail(bus, AUTH, "auth.>").batches():
            assert batch.messages == []
            assert batch.caught_up
            break


async def test_a_position_and_a_filter(bus: Bus) -> None:
    await fill(bus, 0, 10, "auth.test.v1.a")
    await fill(bus, 0, 10, "auth.test.v1.b")
    got = await read(Tail(bus, AUTH, "auth.*.v1.b", after=14), 6)
    assert [(message.seq, message.subject) for message in got] == [(seq, "auth.test.v1.b") for seq in range(15, 21)]


async def test_the_last_of_each_subject(bus: Bus) -> None:
    for name in "abc":
        await fill(bus, 0, 5, f"auth.test.v1.{name}")
    got = await read(Tail(bus, AUTH, "auth.>", last_per_subject=True), 3)
    assert [(message.subject[-1], message.data) for message in got] == [("a", b"4"), ("b", b"4"), ("c", b"4")]


async def test_after_a_restart_the_next_tail_goes_on_from_the_position(nats: NatsServer, bus: Bus) -> None:
    await fill(bus, 0, 5)
    got: list[Message] = []
    restarted = False
    with pytest.raises(BusUnavailable):
        async with asyncio.timeout(20):
            async for batch in Tail(bus, AUTH, "auth.>").batches():
                got.extend(batch.messages)
                if not restarted:
                    restarted = True
                    await asyncio.to_thread(nats.stop)
                    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.stream_info(AUTH), unless=(BusUnavailable,))
    await fill(bus, 5, 8)
    got += await read(Tail(bus, AUTH, "auth.>", after=got[-1].seq), 3)
    assert [int(message.data) for message in got] == list(range(8))


async def test_a_stream_made_anew_ends_the_tail(bus: Bus) -> None:
    await fill(bus, 0, 5)
    info = await bus.stream_info(AUTH)
    with pytest.raises((BusUnavailable, StreamChanged)):
        async with asyncio.timeout(10):
            async for _ in Tail(bus, AUTH, "auth.>", created=info.created).batches():
                await remake(bus)
    await fill(bus, 5, 15)
    with pytest.raises(StreamChanged, match="anew"):
        await read(Tail(bus, AUTH, "auth.>", after=5, created=info.created), 1)


async def remake(bus: Bus) -> None:
    """Delete the stream, if it still is the first one, and make it again."""
    if (await bus.stream_info(AUTH)).state.messages:
        await bus.api(f"STREAM.DELETE.{AUTH}", b"")
        await apply(bus, replicas=1, progress=lambda _line: None)


async def test_a_stream_that_is_not_there(bus: Bus) -> None:
    with pytest.raises(StreamChanged):
        await read(Tail(bus, "NOT_THERE", "x.>"), 1)


async def test_a_tail_leaves_no_consumer_behind(bus: Bus) -> None:
    await fill(bus, 0, 3)
    for _ in range(3):
        await read(Tail(bus, AUTH, "auth.>"), 3)

    class Names(msgspec.Struct):
        consumers: list[str] | None = None

    async def none_left() -> bool:
        return not msgspec.json.decode(await bus.api(f"CONSUMER.NAMES.{AUTH}", b""), type=Names).consumers

    await eventually(none_left)


@pytest.mark.parametrize(
    ("user", "stream", "subject"),
    [
        ("auth", "AUTH", "auth.>"),
        ("enforcer", "AUTH", "auth.>"),
        ("enforcer", "LEDGER", "grant.v1.0.>"),
        ("bookkeeper", "AUTH", "auth.>"),
        ("bookkeeper", "LEDGER", "usage.v1.>"),
        ("scheduler", "AUTH", "auth.>"),
        ("proxy", "KV_keys", "$KV.keys.>"),
        ("proxy", "KV_revoked", "$KV.revoked.>"),
    ],
)
async def test_each_service_may_read_what_it_needs(nats: NatsServer, user: str, stream: str, subject: str) -> None:
    bus = await Bus.open(nats.url_for(user), user=user, name="test")
    try:
        async with asyncio.timeout(5):
            async for batch in Tail(bus, stream, subject).batches():
                assert batch.caught_up
                break
    finally:
        await bus.close()
