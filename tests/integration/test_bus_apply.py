"""The topology on a real server: made once, repaired when it differs, checked by services."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from shared.bus import Bus
from shared.bus.apply import apply, stream_config, verify
from shared.errors import StreamChanged
from shared.topology import AUTH, BUCKETS, CONSUMERS, LEDGER, STREAMS
from tests.support.servers import NatsServer


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    yield bus
    await bus.close()


async def lines(bus: Bus) -> list[str]:
    said: list[str] = []
    await apply(bus, replicas=1, progress=said.append)
    return said


async def test_a_second_run_changes_nothing(bus: Bus) -> None:
    said = await lines(bus)
    assert len(said) == len(STREAMS) + len(BUCKETS) + len(CONSUMERS)
    assert not [line for line in said if "made" in line or "updated" in line]


async def test_what_differs_is_put_right_and_content_stays(bus: Bus) -> None:
    await bus.publish("auth.test.v1.a", b"kept")
    stream = next(each for each in STREAMS if each.name == AUTH)
    odd = stream_config(stream, 1) | {"max_bytes": 1_000_000}
    assert b"error" not in await bus.api(f"STREAM.UPDATE.{AUTH}", msgspec.json.encode(odd))
    assert f"stream {AUTH} updated" in await lines(bus)
    info = await bus.stream_info(AUTH)
    assert info.config["max_bytes"] == stream.max_bytes
    assert info.state.messages == 1


async def test_what_is_missing_is_made(bus: Bus) -> None:
    await bus.api("STREAM.DELETE.KV_keys", b"")
    with pytest.raises(StreamChanged, match="tundish migrate"):
        await verify(bus, "KV_keys")
    assert "stream KV_keys made" in await lines(bus)
    await verify(bus, "KV_keys")


async def test_services_verify_with_their_own_permissions(nats: NatsServer) -> None:
    for user, names in {
        "auth": (AUTH, "KV_keys", "KV_revoked"),
        "proxy": (LEDGER, "KV_keys", "KV_revoked", "KV_catalog"),
        "enforcer": (AUTH, LEDGER, "KV_leases"),
        "bookkeeper": (AUTH, LEDGER, "KV_catalog"),
        "scheduler": (AUTH,),
    }.items():
        bus = await Bus.open(nats.url_for(user), user=user, name="test")
        await verify(bus, *names)
        await bus.close()


async def test_other_subjects_than_expected_are_named(bus: Bus) -> None:
    stream = next(each for each in STREAMS if each.name == AUTH)
    odd = stream_config(stream, 1) | {"subjects": ["auth.>", "more.>"]}
    assert b"error" not in await bus.api(f"STREAM.UPDATE.{AUTH}", msgspec.json.encode(odd))
    with pytest.raises(StreamChanged, match="other subjects"):
        await verify(bus, AUTH)
