"""Buckets: the last value of a key, and writes that only succeed on what the writer knew."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.bus import Bucket, Bus
from shared.errors import Conflict, StreamChanged
from shared.topology import KEYS_BUCKET, LEASE_TTL_S, LEASES_BUCKET
from tests.support.eventually import eventually
from tests.support.servers import NatsServer


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    yield bus
    await bus.close()


@pytest.fixture
def keys(bus: Bus) -> Bucket:
    return Bucket(bus, KEYS_BUCKET)


async def test_put_and_get(keys: Bucket) -> None:
    assert await keys.get("k.one") is None
    first = await keys.put("k.one", b"\x00\xff binary \n")
    second = await keys.put("k.one", b"2")
    entry = await keys.get("k.one")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"2", second)
    assert second > first


async def test_update_needs_the_last_revision(keys: Bucket) -> None:
    first = await keys.put("k.one", b"1")
    await keys.put("k.other", b"x")
    second = await keys.update("k.one", b"2", first)
    with pytest.raises(Conflict):
        await keys.update("k.one", b"3", first)
    entry = await keys.get("k.one")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"2", second)


async def test_create_writes_once(keys: Bucket) -> None:
    await keys.create("k.one", b"1")
    with pytest.raises(Conflict):
        await keys.create("k.one", b"2")
    entry = await keys.get("k.one")
    assert entry is not None
    assert entry.value == b"1"


async def test_a_removed_key_is_gone_and_can_be_made_again(keys: Bucket) -> None:
    await keys.create("k.one", b"1")
    await keys.delete("k.one")
    assert await keys.get("k.one") is None
    await keys.create("k.one", b"2")
    entry = await keys.get("k.one")
    assert entry is not None
    assert entry.value == b"2"
    with pytest.raises(Conflict):
        await keys.create("k.one", b"3")


async def test_delete_can_insist_on_a_revision(keys: Bucket) -> None:
    first = await keys.put("k.one", b"1")
    second = await keys.put("k.one", b"2")
    with pytest.raises(Conflict):
        await keys.delete("k.one", first)
    assert await keys.get("k.one") is not None
    await keys.delete("k.one", second)
    assert await keys.get("k.one") is None


async def test_keys_are_listed_by_pattern(keys: Bucket) -> None:
    for name in ("chunk.b.1", "chunk.a.0", "chunk.a.1", "other"):
        await keys.put(name, b"1")
    await keys.delete("chunk.a.1")
    assert await keys.keys("chunk.a.*") == ["chunk.a.0", "chunk.a.1"]  # a removed key has left its mark
    assert await keys.keys("chunk.>") == ["chunk.a.0", "chunk.a.1", "chunk.b.1"]
    assert await keys.keys("nothing.>") == []


async def test_of_many_creators_one_wins(keys: Bucket) -> None:
    async def attempt(number: int) -> bool:
        try:
            await keys.create("k.race", str(number).encode())
        except Conflict:
            return False
        return True

    for _ in range(3):
        results = await asyncio.gather(*(attempt(number) for number in range(10)))
        assert results.count(True) == 1
        await keys.delete("k.race")


async def test_a_lease_that_is_not_renewed_runs_out(nats: NatsServer, bus: Bus) -> None:
    leases = Bucket(bus, LEASES_BUCKET)
    revision = await leases.create("ledger.0", b"holder")
    revision = await leases.update("ledger.0", b"holder", revision)

    async def gone() -> bool:
        return await leases.get("ledger.0") is None

    await eventually(gone, within_s=LEASE_TTL_S * 3)
    await leases.create("ledger.0", b"next holder")


async def test_a_bucket_that_is_not_there(bus: Bus) -> None:
    with pytest.raises(StreamChanged):
        await Bucket(bus, "not_there").get("x")
