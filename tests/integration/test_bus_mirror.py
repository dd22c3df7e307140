"""A bucket in memory: complete, current, and complete again after the server was away."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from shared.bus import Bucket, Bus, Mirror
from shared.bus.apply import apply
from shared.tasks import Supervisor
from shared.topology import KEYS_BUCKET
from tests.support.servers import NatsServer


class Copy:
    """What the owner of a mirror keeps; `changed` is set after every callback."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.loads = 0
        self.changed = asyncio.Event()

    def load(self, content: dict[str, bytes]) -> None:
        self.content = dict(content)
        self.loads += 1
        self.changed.set()

    def put(self, key: str, value: bytes) -> None:
        self.content[key] = value
        self.changed.set()

    def remove(self, key: str) -> None:
        self.content.pop(key, None)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.changed.wait()
                self.changed.clear()


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    yield bus
    await bus.close()


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.close()


def mirrored(bus: Bus, supervisor: Supervisor) -> tuple[Mirror, Copy]:
    copy = Copy()
    mirror = Mirror(bus, KEYS_BUCKET, on_load=copy.load, on_put=copy.put, on_remove=copy.remove)
    supervisor.keep("mirror", mirror.run)
    return mirror, copy


async def test_an_empty_bucket_is_loaded_too(bus: Bus, supervisor: Supervisor) -> None:
    mirror, copy = mirrored(bus, supervisor)
    assert not mirror.ready
    async with asyncio.timeout(10):
        await mirror.wait_ready()
    assert (copy.loads, copy.content, mirror.fresh) == (1, {}, True)


async def test_what_was_there_what_comes_and_what_goes(bus: Bus, supervisor: Supervisor) -> None:
    keys = Bucket(bus, KEYS_BUCKET)
    await keys.put("k.old", b"1")
    await keys.put("k.old", b"2")
    await keys.put("k.gone", b"1")
    await keys.delete("k.gone")
    mirror, copy = mirrored(bus, supervisor)
    async with asyncio.timeout(10):
        await mirror.wait_ready()
    assert copy.content == {"k.old": b"2"}
    await keys.put("k.new", b"3")
    await keys.delete("k.old")
    await copy.until(lambda: copy.content == {"k.new": b"3"})
    assert copy.loads == 1, "single changes need no full load"


async def test_the_revision_is_that_of_the_last_change_that_was_told(bus: Bus, supervisor: Supervisor) -> None:
    keys = Bucket(bus, KEYS_BUCKET)
    await keys.put("k.one", b"1")
    await keys.put("k.two", b"1")
    await keys.delete("k.two")
    mirror, copy = mirrored(bus, supervisor)
    told: list[tuple[int, dict[str, bytes]]] = []

    def tell() -> None:
        told.append((mirror.revision, dict(copy.content)))
        copy.changed.set()

    mirror.on_applied = tell
    async with asyncio.timeout(10):
        await mirror.wait_ready()
    assert told[-1] == (3, {"k.one": b"1"}), "a removal counts too"
    revision = await keys.put("k.three", b"1")
    await copy.until(lambda: "k.three" in copy.content)
    await keys.delete("k.one")
    await copy.until(lambda: told[-1] == (revision + 1, {"k.three": b"1"}))
    assert [at for at, _ in told] == sorted({at for at, _ in told})


async def test_a_large_bucket_is_loaded_whole_before_it_counts(bus: Bus, supervisor: Supervisor) -> None:
    keys = Bucket(bus, KEYS_BUCKET)
    wanted = {f"k.{number}": str(number).encode() for number in range(2_500)}
    names = iter(wanted.items())
    while chunk := [pair for _, pair in zip(range(250), names, strict=False)]:
        await asyncio.gather(*(keys.put(name, value) for name, value in chunk))
    mirror, copy = mirrored(bus, supervisor)
    async with asyncio.timeout(20):
        await mirror.wait_ready()
    assert copy.content == wanted


async def test_after_a_restart_of_the_server_it_is_loaded_again(
    nats: NatsServer, bus: Bus, supervisor: Supervisor
) -> None:
    keys = Bucket(bus, KEYS_BUCKET)
    await keys.put("k.stays", b"1")
    await keys.put("k.goes", b"1")
    mirror, copy = mirrored(bus, supervisor)
    async with asyncio.timeout(10):
        await mirror.wait_ready()
    await asyncio.to_thread(nats.stop)
    assert copy.content == {"k.stays": b"1", "k.goes": b"1"}, "content stays in force while NATS is away"
    await asyncio.to_thread(nats.start)
    other = await Bus.open(nats.url_for("auth"), user="auth", name="writer")
    writes = Bucket(other, KEYS_BUCKET)
    await writes.delete("k.goes")
    await writes.put("k.comes", b"2")
    await copy.until(lambda: copy.content == {"k.stays": b"1", "k.comes": b"2"} and copy.loads >= 2)
    assert mirror.ready
    await writes.put("k.later", b"3")
    await copy.until(lambda: copy.content.get("k.later") == b"3")
    assert mirror.fresh
    await other.close()


async def test_a_bucket_made_anew_is_noticed(bus: Bus, supervisor: Supervisor) -> None:
    keys = Bucket(bus, KEYS_BUCKET)
    await keys.put("k.old", b"1")
    mirror, copy = mirrored(bus, supervisor)
    async with asyncio.timeout(10):
        await mirror.wait_ready()
    await bus.api(f"STREAM.DELETE.KV_{KEYS_BUCKET}", b"")
    await apply(bus, replicas=1, progress=lambda _line: None)
    await keys.put("k.new", b"2")
    await copy.until(lambda: copy.content == {"k.new": b"2"})
