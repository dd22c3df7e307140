"""Whoever has the NATS credentials of any service can have JSON put anywhere by a reply subject: nobody trips over it.

The proxy's credentials stand for all of them here.
"""

from collections.abc import AsyncGenerator

import msgspec
import pytest

from services.auth.domain.records import Records
from services.auth.keys_bucket import CHECKPOINT_NAME, VALUE_BYTES_MAX
from services.auth.relay import STUCK_MS
from services.ledger.bookkeeper.policies import Policies
from shared.auth_log import FOREIGN
from shared.bus import Bucket, Bus
from shared.clock import SystemClock
from shared.errors import ApiError, Conflict, Rejected
from shared.policy import KeyRecord
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import AUTH, KEYS_BUCKET, REVOKED_BUCKET, key_kv, org_kv, team_kv
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer


@pytest.fixture
async def thief(nats: NatsServer) -> AsyncGenerator[Bus, None]:
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="stolen")
    yield bus
    await bus.close()


@pytest.fixture
async def auth(nats: NatsServer, database: str) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        yield auth


async def last_of(bus: Bus, stream: str) -> int:
    return (await bus.stream_info(stream)).state.last_seq


async def put_ack(thief: Bus, watcher: Bus, stream: str, subject: str) -> int:
    """Have the acknowledgement of a message put under a subject; its sequence there."""
    before = await last_of(watcher, stream)
    await thief.send("$KV.objects.mine.one", b"x", reply=subject)

    async def there() -> bool:
        return await last_of(watcher, stream) > before

    await eventually(there)
    return await last_of(watcher, stream)


async def put_foreign(thief: Bus, watcher: Bus, stream: str, reply: str) -> int:
    """Have a message of one's own put into a stream, under its own subject; its sequence there."""
    before = await last_of(watcher, stream)
    await thief.publish("$KV.objects.mine.three", b'{"role":"admin"}', headers={"Status": "409"})
    config = {"name": "pull", "ack_policy": "none", "filter_subject": "$KV.objects.mine.three", "mem_storage": True}
    body = msgspec.json.encode({"stream_name": "KV_objects", "config": config})
    await thief.api("CONSUMER.CREATE.KV_objects.pull.$KV.objects.mine.three", body)
    await thief.send("$JS.API.CONSUMER.MSG.NEXT.KV_objects.pull", b'{"batch":1}', reply=reply)

    async def there() -> bool:
        return await last_of(watcher, stream) > before

    await eventually(there)
    return await last_of(watcher, stream)


async def test_events_are_passed_on_and_verified_around_what_is_no_event(
    auth: Auth, thief: Bus, nats: NatsServer, database: str
) -> None:
    watcher = auth.service.bus
    await auth.post("/key/generate", {})
    at = [await put_ack(thief, watcher, AUTH, "auth.evil.v1.ack"), await put_foreign(thief, watcher, AUTH, "auth.x")]
    made = await auth.post("/key/generate", {})
    assert made["warnings"] == []
    at.append(await put_ack(thief, watcher, AUTH, f"auth.key.issued.v1.{made['token_id']}"))
    at.append(await put_foreign(thief, watcher, AUTH, "auth.y"))
    found = await auth.get("/audit/verify")
    assert (found["ok"], found["broken_at"], found["foreign_messages"], found["foreign_at"]) == (True, None, 4, at)
    assert found["events"] == found["in_stream"] > 4
    async with auth_running(settings_for(nats, database)) as other:
        await other.ready()
        assert (await other.post("/key/generate", {}))["warnings"] == []
        page = await other.get_text("/metrics")
    assert f"{FOREIGN} 2" in page  # the other two stand under subjects that nobody reads


async def test_the_books_read_on(auth: Auth, thief: Bus, nats: NatsServer) -> None:
    last = await put_ack(thief, auth.service.bus, AUTH, "auth.evil.v1.ack")
    await auth.post("/team/new", {"team_id": "t1"})
    bus = await Bus.open(nats.url_for("bookkeeper"), user="bookkeeper", name="test")
    tasks, policies = Supervisor(), Policies(bus, Metrics())
    tasks.keep("policies", policies.run)
    try:

        async def read() -> bool:
            return policies.ready and "t1" in policies.directory.teams

        await eventually(read)
    finally:
        await tasks.close()
        await bus.close()
    assert await last_of(auth.service.bus, AUTH) > last


async def test_a_record_that_somebody_else_wrote_over_is_put_right(auth: Auth, thief: Bus) -> None:
    watcher = auth.service.bus
    made = await auth.post("/key/generate", {})
    name, bucket = key_kv(made["token_id"]), Bucket(watcher, KEYS_BUCKET)
    for reply in (f"$KV.{KEYS_BUCKET}.{name}", f"$KV.{KEYS_BUCKET}.{CHECKPOINT_NAME}", f"$KV.{KEYS_BUCKET}.k.key_evil"):
        await put_ack(thief, watcher, f"KV_{KEYS_BUCKET}", reply)
    await put_foreign(thief, watcher, f"KV_{KEYS_BUCKET}", f"$KV.{KEYS_BUCKET}.o.default")

    async def right() -> bool:
        entry = await bucket.get(name)
        evil = await bucket.get("k.key_evil")
        return entry is not None and b"key_id" in entry.value and evil is None

    await eventually(right)
    entry = await bucket.get(name)
    assert entry is not None
    assert msgspec.json.decode(entry.value, type=KeyRecord).key_id == made["token_id"]
    assert auth.service.parts.relay.problem() is None
    assert (await auth.post("/key/generate", {}))["warnings"] == []


async def test_two_relays_come_to_rest(auth: Auth, thief: Bus, nats: NatsServer, database: str) -> None:
    watcher = auth.service.bus
    async with auth_running(settings_for(nats, database)) as other:
        await other.ready()
        made = await auth.post("/key/generate", {})
        await put_ack(thief, watcher, f"KV_{KEYS_BUCKET}", f"$KV.{KEYS_BUCKET}.{key_kv(made['token_id'])}")
        buckets = [one.service.parts.relay._bucket for one in (auth, other)]
        looks = [0, 0]

        async def quiet() -> bool:
            """Both have looked again and again at a bucket that nobody writes."""
            last = await last_of(watcher, f"KV_{KEYS_BUCKET}")
            for n, one in enumerate(buckets):
                looks[n] = looks[n] + 1 if one._end == last else 0
            return min(looks) > 3

        await eventually(quiet)


async def test_a_record_that_does_not_fit_stops_no_other(auth: Auth) -> None:
    made = await auth.post("/key/generate", {})
    relay = auth.service.parts.relay
    name, bucket = key_kv(made["token_id"]), Bucket(auth.service.bus, KEYS_BUCKET)
    record = relay._records.by_name[name]
    relay._records.by_name[name] = msgspec.structs.replace(record, alias="ü" * VALUE_BYTES_MAX)
    await relay._flush([name])
    assert await bucket.get(name) is None
    assert (await auth.post("/key/generate", {}))["warnings"] == []
    assert "tundish_auth_records_too_large 1" in await auth.get_text("/metrics")
    relay._records.by_name[name] = record
    await relay._flush([name])
    assert await bucket.get(name) is not None
    assert "tundish_auth_records_too_large 0" in await auth.get_text("/metrics")


async def test_a_revocation_that_is_none_gives_way_to_a_block_and_to_an_unblock(auth: Auth, thief: Bus) -> None:
    await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "One"})
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "o1"})
    made = await auth.post("/key/generate", {"team_id": "t1"})
    people = auth.service.parts.people
    for name, path, body in (
        (key_kv(made["token_id"]), "/key", {"key": made["token_id"]}),
        (team_kv("t1"), "/team", {"team_id": "t1"}),
        (org_kv("o1"), "/organization", {"organization_id": "o1"}),
    ):
        for change in ("unblock", "block", "unblock"):
            if change == "block" or not people.revoked:
                await put_ack(thief, auth.service.bus, f"KV_{REVOKED_BUCKET}", f"$KV.{REVOKED_BUCKET}.{name}")
            assert (await auth.post(f"{path}/{change}", body))["warnings"] == []
        await eventually(lambda: works(auth, made["key"]))
    assert (await auth.post("/key/delete", {"keys": [made["token_id"]]}))["warnings"] == []


async def works(auth: Auth, secret: str) -> bool:
    try:
        return auth.service.parts.people.holder(secret) is not None
    except ApiError:
        return False


class Ahead(SystemClock):
    """A clock that can be put forward."""

    by_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.by_ms


async def test_nobody_empties_a_bucket_by_a_header(auth: Auth, thief: Bus) -> None:
    for subject in ("$KV.objects.mine.one", "$KV.pending.response.one"):
        with pytest.raises(Rejected):
            await thief.publish(subject, b"x", headers={"Nats-Rollup": "all"})


async def test_auth_is_not_ready_while_its_relay_does_not_come_round(nats: NatsServer, database: str) -> None:
    clock = Ahead()
    async with auth_running(settings_for(nats, await migrated(database)), clock) as auth:
        await auth.ready()
        relay = auth.service.parts.relay

        async def never(_records: Records) -> int:
            raise Conflict("again and again")

        relay._settle = never

        async def said() -> bool:
            clock.by_ms += STUCK_MS
            answer = await auth.client.get("/health/readiness")
            return answer.status_code == 503 and "does not come to an end" in answer.text

        await eventually(said)
