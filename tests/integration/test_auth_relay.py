"""From the event table to AUTH and `keys`: in order, once, from wherever it was left."""

import shutil
from collections.abc import AsyncGenerator

import msgspec
import pytest

from services.auth.keys_bucket import CHECKPOINT_NAME, Checkpoint
from shared.bus import Bucket, Bus, Tail
from shared.bus.apply import apply
from shared.events import AnyAuthEvent, decode_auth, type_of
from shared.topology import AUTH, KEYS_BUCKET, key_kv
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer, PostgresServer


@pytest.fixture
async def admin(nats: NatsServer) -> AsyncGenerator[Bus, None]:
    bus = await Bus.open(nats.url, user="admin", name="test")
    yield bus
    await bus.close()


async def stream(bus: Bus) -> list[tuple[str, AnyAuthEvent]]:
    """(subject, event) of all that AUTH holds."""
    found: list[tuple[str, AnyAuthEvent]] = []
    async for batch in Tail(bus, AUTH, "auth.>").batches():
        found += [(message.subject, decode_auth(message.data)) for message in batch.messages]
        if batch.caught_up:
            return found
    raise AssertionError("unreachable")


async def bucket(bus: Bus) -> dict[str, bytes]:
    """What stands in `keys`, the relay's checkpoint aside."""
    found: dict[str, bytes] = {}
    async for batch in Tail(bus, f"KV_{KEYS_BUCKET}", f"$KV.{KEYS_BUCKET}.>", last_per_subject=True).batches():
        for message in batch.messages:
            name = message.subject.removeprefix(f"$KV.{KEYS_BUCKET}.")
            if message.operation is None and name != CHECKPOINT_NAME:
                found[name] = message.data
        if batch.caught_up:
            return found
    raise AssertionError("unreachable")


async def test_every_event_once_in_order_under_its_subject(nats: NatsServer, database: str, admin: Bus) -> None:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {"max_budget": 1, "blocked": True})
        await auth.post("/key/unblock", {"key": made["key"]})
        await auth.post("/key/delete", {"keys": [made["key"]]})
        await eventually(lambda: _is_gone(admin, made["token_id"]))
    events = await stream(admin)
    key = made["token_id"]
    assert [subject for subject, _ in events] == [
        "auth.org.created.v1.default",
        f"auth.key.issued.v1.{key}",
        f"auth.budget.set.v1.{key}",
        f"auth.key.blocked.v1.{key}",
        f"auth.key.secret_minted.v1.{key}",
        f"auth.key.unblocked.v1.{key}",
        f"auth.key.deleted.v1.{key}",
    ]
    assert [event.position for _, event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert made["key"] not in str(events)
    assert list(await bucket(admin)) == ["o.default"]
    entry = await Bucket(admin, KEYS_BUCKET).get(CHECKPOINT_NAME)
    assert entry is not None
    checkpoint = msgspec.json.decode(entry.value, type=Checkpoint)
    assert (checkpoint.seq, checkpoint.position) == (7, 7)


async def _is_gone(bus: Bus, key_id: str) -> bool:
    return key_kv(key_id) not in await bucket(bus)


async def test_a_restart_goes_on_where_it_was(nats: NatsServer, database: str, admin: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        first = await auth.post("/key/generate", {})
    async with auth_running(settings) as auth:
        await auth.ready()
        second = await auth.post("/key/generate", {})
        assert second["warnings"] == []
    positions = [event.position for _, event in await stream(admin)]
    assert positions == list(range(1, 6))
    assert {first["token_id"], second["token_id"]} <= {name[2:] for name in await bucket(admin)}


async def test_what_was_decided_while_nats_was_away_follows(nats: NatsServer, database: str, admin: Bus) -> None:
    async with auth_running(settings_for(nats, await migrated(database), relay_wait_ms=300)) as auth:
        await auth.ready()
        nats.stop()
        await eventually(lambda: _disconnected(auth))
        made = await auth.post("/key/generate", {})
        assert "message bus" in made["warnings"][0]
        assert auth.service.parts.relay.lag > 0
        nats.start()
        await auth.ready()
        await eventually(lambda: _knows(auth, made["key"]))
        assert (await auth.post("/key/generate", {}))["warnings"] == []
    assert [event.position for _, event in await stream(admin)] == list(range(1, 6))


async def _disconnected(auth: Auth) -> bool:
    return not auth.service.bus.connected


async def _knows(auth: Auth, secret: str) -> bool:
    return auth.service.parts.mirrored(secret) is not None


async def test_a_lost_bus_is_filled_again_from_the_table(nats: NatsServer, database: str, admin: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        kept = await auth.post("/key/generate", {"max_budget": 3})
        blocked = await auth.post("/key/generate", {})
        await auth.post("/key/block", {"key": blocked["key"]})
        before = [event for _, event in await stream(admin)]
        await admin.api(f"STREAM.DELETE.{AUTH}", b"")
        await admin.api(f"STREAM.DELETE.KV_{KEYS_BUCKET}", b"")
        await apply(admin, replicas=1, progress=lambda _line: None)
        later = await auth.post("/key/generate", {})
        await eventually(lambda: _has(admin, later["token_id"]))
        after = [event for _, event in await stream(admin)]
        assert [event.id for event in after[: len(before)]] == [event.id for event in before]
        names = await bucket(admin)
        assert {kept["token_id"], blocked["token_id"], later["token_id"]} <= {name[2:] for name in names}
        assert b'"blocked":true' in names[key_kv(blocked["token_id"])]


async def test_a_server_that_comes_back_empty_is_filled_without_being_asked(nats: NatsServer, database: str) -> None:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {"max_budget": 3})
        nats.stop()
        shutil.rmtree(nats.folder / "nats")
        nats.start()
        admin = await Bus.open(nats.url, user="admin", name="test")
        await apply(admin, replicas=1, progress=lambda _line: None)
        await eventually(lambda: _has(admin, made["token_id"]))
        assert len(await stream(admin)) == 4
        await admin.close()
        await auth.ready()


async def _has(bus: Bus, key_id: str) -> bool:
    return key_kv(key_id) in await bucket(bus)


async def test_a_new_stream_does_not_empty_the_bucket_while_postgres_is_away(
    nats: NatsServer, database: str, postgres_server: PostgresServer, admin: Bus
) -> None:
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {})
    before = await bucket(admin)
    await admin.api(f"STREAM.DELETE.{AUTH}", b"")
    await apply(admin, replicas=1, progress=lambda _line: None)
    postgres_server.stop()
    try:
        async with auth_running(settings) as auth:
            await auth.ready(but=("postgres", "relay"))
            await eventually(lambda: _waits(auth))
            assert await bucket(admin) == before
            assert auth.service.parts.mirrored(made["key"]) == made["token_id"]
            postgres_server.start()
            await auth.ready()
            assert set(await bucket(admin)) == set(before)
            assert len(await stream(admin)) == 3
    finally:
        postgres_server.start()


async def _waits(auth: Auth) -> bool:
    return auth.service.parts.relay.problem() == "waits for the database"


async def test_strange_records_are_put_right(nats: NatsServer, database: str, admin: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {"max_budget": 1})
    right = await bucket(admin)
    keys = Bucket(admin, KEYS_BUCKET)
    await keys.put(key_kv(made["token_id"]), b'{"wrong":1}')
    await keys.put("s.p1.feed", b"{}")
    await keys.delete("o.default")
    async with auth_running(settings) as auth:
        await auth.ready()
        assert await bucket(admin) == right


async def test_two_services_on_one_database(nats: NatsServer, database: str, admin: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as one, auth_running(settings) as two:
        await one.ready()
        await two.ready()
        made = [
            await service.post("/key/generate", {"key_alias": f"{n}-{m}"})
            for n in range(5)
            for m, service in enumerate((one, two))
        ]
        await one.post("/key/delete", {"keys": [made[0]["key"]]})
        await two.post("/key/update", {"key": made[1]["key"], "max_budget": 7})
        await eventually(lambda: _is_gone(admin, made[0]["token_id"]))
        await eventually(lambda: _has_budget(admin, made[1]["token_id"]))
    events = [event for _, event in await stream(admin)]
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    assert sum(type_of(event) == "key.issued.v1" for event in events) == 10


async def _has_budget(bus: Bus, key_id: str) -> bool:
    return b"acct_" in (await bucket(bus))[key_kv(key_id)]


async def test_a_foreign_database_is_not_mixed_in(
    nats: NatsServer, database: str, postgres_server: PostgresServer, admin: Bus
) -> None:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        await auth.post("/key/generate", {})
    before = await bucket(admin)
    other = await migrated(postgres_server.create_database())
    async with auth_running(settings_for(nats, other, relay_wait_ms=200)) as auth:
        await eventually(lambda: _refuses(auth))
        await auth.ready(but=("relay",))  # its own built-in organization is made, so that a key has where to belong
        answer = await auth.client.get("/health/readiness")
        assert answer.status_code == 503
        made = await auth.post("/key/generate", {})
        assert made["warnings"] != []
    assert await bucket(admin) == before


async def _refuses(auth: Auth) -> bool:
    return "do not belong together" in (auth.service.parts.relay.problem() or "")
