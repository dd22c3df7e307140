"""Killing keys: in force before the answer, with or without Postgres, and recorded in the end."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import pytest

from services.auth.domain.records import Records
from shared.bus import Bucket, Bus
from shared.clock import SystemClock
from shared.ids import OrgId, TeamId
from shared.policy import Revocation
from shared.topology import KEYS_BUCKET, REVOKED_BUCKET, key_kv, org_kv, team_kv
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.clock import FakeClock
from tests.support.eventually import eventually
from tests.support.servers import NatsServer, PostgresServer


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncGenerator[Bus, None]:
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test-proxy")
    yield bus
    await bus.close()


@pytest.fixture
async def auth(nats: NatsServer, database: str) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        yield auth


async def entry(bus: Bus, name: str) -> Revocation | None:
    found = await Bucket(bus, REVOKED_BUCKET).get(name)
    return None if found is None else msgspec.json.decode(found.value, type=Revocation)


async def kind(bus: Bus, made: dict[str, str]) -> str | None:
    found = await entry(bus, key_kv(made["token_id"]))
    return None if found is None else found.kind


def secrets(auth: Auth, made: dict[str, str]) -> Sequence[str]:
    return auth.service.parts.vault.names(made["key"])[:1]


async def known(auth: Auth, made: dict[str, str]) -> bool:
    return auth.service.parts.mirrored(made["key"]) is not None


async def events(auth: Auth, made: dict[str, str]) -> list[str]:
    """Names of the events of a key that the table holds."""
    store = auth.service.parts.commits._store
    return [type(event).__name__ for event in await store.load(f"key:{made['token_id']}")]


class Ahead(SystemClock):
    """The clock of a machine that runs two seconds ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=2)


async def test_an_unblock_by_another_auth_whose_clock_is_behind(nats: NatsServer, database: str, proxy: Bus) -> None:
    """It lifts what stands, and nobody blocks again for the entry's sake."""
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings, Ahead()) as first, auth_running(settings) as second:
        await first.ready()
        await second.ready()
        made = await first.post("/key/generate", {})
        await first.post("/team/new", {"team_id": "t1"})
        await first.post("/organization/new", {"organization_id": "acme", "organization_alias": "acme"})
        things = {
            key_kv(made["token_id"]): ("key", {"key": made["token_id"]}),
            team_kv(TeamId("t1")): ("team", {"team_id": "t1"}),
            org_kv(OrgId("acme")): ("organization", {"organization_id": "acme"}),
        }
        for name, (thing, body) in things.items():
            await first.post(f"/{thing}/block", body)
            freed = await second.post(f"/{thing}/unblock", body)
            assert (freed["blocked"], freed["warnings"]) == (False, []), thing
            assert await entry(proxy, name) is None, thing
        for auth in (first, second):
            parts = auth.service.parts
            assert await parts.revocations.reconcile(auth.service.parts.relay._records) == 0
        assert (await events(second, made))[-1] == "KeyUnblocked"


async def test_block_and_unblock(auth: Auth, proxy: Bus) -> None:
    made = await auth.post("/key/generate", {})
    blocked = await auth.post("/key/block", {"key": made["key"]})
    assert (blocked["blocked"], blocked["status"], blocked["recorded"]) == (True, "blocked", True)
    for name in (key_kv(made["token_id"]), *secrets(auth, made)):
        found = await entry(proxy, name)
        assert found is not None
        assert (found.kind, found.actor) == ("blocked", "master-key")
    refused = await auth.get("/key/info", key=made["key"], status=401)
    assert "revoked" in refused["error"]["message"]

    again = await auth.post("/key/block", {"key": made["token_id"]})
    assert again["recorded"]
    assert (await events(auth, made)).count("KeyBlocked") == 1

    freed = await auth.post("/key/unblock", {"key": made["token_id"]})
    assert (freed["blocked"], freed["status"], freed["warnings"]) == (False, "active", [])
    for name in (key_kv(made["token_id"]), *secrets(auth, made)):
        assert await entry(proxy, name) is None
    keys = await Bucket(proxy, KEYS_BUCKET).get(key_kv(made["token_id"]))
    assert keys is not None
    assert b'"blocked":true' not in keys.value

    await auth.post("/key/block", {"key": made["key"]})
    assert await kind(proxy, made) == "blocked", "an entry that was lifted can be put again"


async def test_delete_is_for_good(auth: Auth, proxy: Bus) -> None:
    made = [await auth.post("/key/generate", {"key_alias": f"a{n}"}) for n in range(3)]
    ids = [key["token_id"] for key in made]
    missing = await auth.post("/key/delete", {"keys": [made[0]["key"], "sk-nobody-knows-this"]}, status=404)
    assert "sk-nobody" not in missing["error"]["message"]
    assert await kind(proxy, made[0]) is None, "all or none"
    answer = await auth.post("/key/delete", {"keys": [made[0]["key"], ids[1], ids[1]]})
    assert answer["deleted_keys"] == ids[:2]
    assert (await auth.post("/key/delete", {"key_aliases": ["a2"]}))["deleted_keys"] == [ids[2]]
    for key in made:
        assert await kind(proxy, key) == "deleted"
        await auth.get("/key/info", {"key": key["token_id"]}, status=404)
        await auth.post("/key/unblock", {"key": key["token_id"]}, status=409)
        await eventually(lambda key=key: _gone(proxy, key["token_id"]))
        for path in ("/key/block", "/key/update"):
            await auth.post(path, {"key": key["token_id"]}, status=404)
    assert (await auth.get("/key/list"))["total_count"] == 0
    error = (await auth.post("/key/delete", {"keys": [ids[0]]}, status=404))["error"]
    assert "was deleted at" in error["message"]


async def _gone(bus: Bus, key_id: str) -> bool:
    return await Bucket(bus, KEYS_BUCKET).get(key_kv(key_id)) is None


async def test_without_postgres(auth: Auth, postgres_server: PostgresServer, proxy: Bus) -> None:
    blocked = await auth.post("/key/generate", {"key_alias": "b"})
    deleted = await auth.post("/key/generate", {"key_alias": "d"})
    both = await auth.post("/key/generate", {"key_alias": "x"})
    await eventually(lambda: known(auth, both))
    postgres_server.stop()
    try:
        answer = await auth.post("/key/block", {"key": blocked["key"]})
        assert (answer["recorded"], answer["blocked"], answer["key_alias"]) == (False, True, "b")
        assert "in force" in answer["warnings"][0]
        answer = await auth.post("/key/delete", {"key_aliases": ["d"]})
        assert (answer["recorded"], answer["deleted_keys"]) == (False, [deleted["token_id"]])
        await auth.post("/key/delete", {"keys": [both["token_id"]]})
        await auth.post("/key/block", {"key": both["token_id"]})
        assert await kind(proxy, blocked) == "blocked"
        assert await kind(proxy, deleted) == "deleted"
        assert await kind(proxy, both) == "deleted", "a block does not soften a deletion"
        for path, body in (("/key/generate", {}), ("/key/unblock", {"key": blocked["key"]})):
            error = (await auth.post(path, body, status=503))["error"]
            assert error["code"] == "unavailable"
        await auth.post("/key/block", {"key": "key_unheard_of"}, status=503)
        await auth.get("/key/info", key=deleted["key"], status=401)
    finally:
        postgres_server.start()
    await auth.ready()
    await eventually(lambda: _recorded(auth, blocked, "KeyBlocked"))
    await eventually(lambda: _recorded(auth, deleted, "KeyDeleted"))
    await eventually(lambda: _recorded(auth, both, "KeyDeleted"))
    assert "KeyBlocked" not in await events(auth, both)
    await eventually(lambda: _gone(proxy, deleted["token_id"]))
    await auth.post("/key/generate", {"key_alias": "d"})
    freed = await auth.post("/key/unblock", {"key": blocked["key"]})
    assert freed["status"] == "active"
    assert await kind(proxy, blocked) is None


async def _recorded(auth: Auth, made: dict[str, str], name: str) -> bool:
    return name in await events(auth, made)


async def test_a_start_without_postgres_serves_revocations(
    nats: NatsServer, database: str, postgres_server: PostgresServer, proxy: Bus
) -> None:
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {})
    postgres_server.stop()
    try:
        async with auth_running(settings) as auth:
            await auth.ready(but=("postgres", "relay"))
            answer = await auth.post("/key/delete", {"keys": [made["key"]]})
            assert not answer["recorded"]
            assert await kind(proxy, made) == "deleted"
        postgres_server.start()
        async with auth_running(settings) as auth:
            await auth.ready()
            await eventually(lambda: _recorded(auth, made, "KeyDeleted"))
            await eventually(lambda: _gone(proxy, made["token_id"]))
    finally:
        postgres_server.start()


async def test_without_nats_a_revocation_is_not_called_done(auth: Auth, nats: NatsServer, proxy: Bus) -> None:
    made = await auth.post("/key/generate", {})
    await eventually(lambda: known(auth, made))
    nats.stop()
    try:
        error = (await auth.post("/key/block", {"key": made["key"]}, status=503))["error"]
        assert error["code"] == "revocation_pending"
        assert "NOT in force" in error["message"]
        assert "recorded and takes effect" in error["message"]
        assert "KeyBlocked" in await events(auth, made)
    finally:
        nats.start()
    await auth.ready()
    await eventually(lambda: _shown_blocked(proxy, made))


async def _shown_blocked(bus: Bus, made: dict[str, str]) -> bool:
    found = await Bucket(bus, KEYS_BUCKET).get(key_kv(made["token_id"]))
    return found is not None and b'"blocked":true' in found.value


async def test_an_entry_older_than_an_unblock_is_dropped(auth: Auth, nats: NatsServer) -> None:
    made = await auth.post("/key/generate", {})
    await auth.post("/key/block", {"key": made["key"]})
    admin = await Bus.open(nats.url, user="admin", name="test")
    bucket = Bucket(admin, REVOKED_BUCKET)
    names = (key_kv(made["token_id"]), *secrets(auth, made))
    stale = [await bucket.get(name) for name in names]
    await auth.post("/key/unblock", {"key": made["key"]})
    for name, old in zip(names, stale, strict=True):
        assert old is not None
        await bucket.put(name, old.value)

    async def dropped() -> bool:
        return [await bucket.get(name) for name in names] == [None, None]

    await eventually(dropped)
    assert (await events(auth, made)).count("KeyBlocked") == 1
    await admin.close()


async def test_entries_of_deleted_keys_go_after_a_while(nats: NatsServer, database: str, proxy: Bus) -> None:
    clock = FakeClock()
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings, clock) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {})
        name = secrets(auth, made)[0]
        await auth.post("/key/delete", {"keys": [made["key"]]})
        await eventually(lambda: _gone(proxy, made["token_id"]))
        relay = auth.service.parts.relay
        settle, settled = relay._settle, asyncio.Queue[int]()

        async def watched(records: Records) -> int:
            settled.put_nowait(await settle(records))
            return 0

        relay._settle = watched
        for _ in range(2):
            clock.advance(60)
            relay.tell(99)
            await settled.get()
        assert await kind(proxy, made) == "deleted"
        assert await entry(proxy, name) is not None
        clock.advance(2 * 3600)
        relay.tell(100)

        async def gone() -> bool:
            return await kind(proxy, made) is None and await entry(proxy, name) is None

        await eventually(gone)
        await auth.get("/key/info", {"key": made["token_id"]}, status=404)


class Valve:
    """A door between the service and Postgres that can be shut: connections stay, nothing passes."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname, parts.port)
        self._open = asyncio.Event()
        self._open.set()
        self._url = url

    async def __aenter__(self) -> "Valve":
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._url.replace(f":{self._to[1]}/", f":{port}/")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.set()
        self._server.close()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    await self._open.wait()
                    target.write(data)
                    await target.drain()
            except ConnectionError:
                pass
            finally:
                target.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))


async def test_a_postgres_that_hangs_does_not_hold_up_a_revocation(nats: NatsServer, database: str, proxy: Bus) -> None:
    async with Valve(await migrated(database)) as valve, auth_running(settings_for(nats, valve.url)) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {})
        await eventually(lambda: known(auth, made))
        valve.shut()
        task = asyncio.get_running_loop().create_task(auth.post("/key/block", {"key": made["key"]}))

        async def in_force() -> bool:
            return await kind(proxy, made) == "blocked"

        await eventually(in_force)
        assert not task.done(), "in force first, then recorded, then answered"
        answer = await task
        assert answer["recorded"] is False
        valve.open()
        await auth.ready()
        await eventually(lambda: _recorded(auth, made, "KeyBlocked"))


async def stands(bus: Bus, name: str) -> str | None:
    found = await entry(bus, name)
    return None if found is None else found.kind


async def test_teams_and_organizations_without_postgres(
    auth: Auth, postgres_server: PostgresServer, proxy: Bus
) -> None:
    for identity in ("o1", "o2"):
        await auth.post("/organization/new", {"organization_id": identity, "organization_alias": identity})
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "o1"})
    made = [
        await auth.post("/key/generate", {"team_id": "t1"}),
        await auth.post("/key/generate", {"organization_id": "o2"}),
    ]
    await eventually(lambda: known(auth, made[1]))
    postgres_server.stop()
    try:
        answer = await auth.post("/team/delete", {"team_ids": ["t1"]})
        assert answer["recorded"] is False
        await auth.post("/organization/block", {"organization_id": "o2"})
        assert await stands(proxy, "t.t1") == "deleted"
        assert await stands(proxy, "o.o2") == "blocked"
        for key in made:
            await auth.get("/key/info", key=key["key"], status=401)
    finally:
        postgres_server.start()
    await auth.ready()
    store = auth.service.parts.commits._store

    async def recorded() -> bool:
        names = [type(event).__name__ for name in ("team:t1", "org:o2") for event in await store.load(name)]
        return {"TeamDeleted", "OrgBlocked"} <= set(names)

    await eventually(recorded)
    await eventually(lambda: _recorded(auth, made[0], "KeyDeleted"))
    await auth.post("/organization/unblock", {"organization_id": "o2"})
    assert await stands(proxy, "o.o2") is None
    assert (await auth.get("/key/info", key=made[1]["key"]))["info"]["token_id"] == made[1]["token_id"]


async def test_an_entry_of_a_team_goes_when_no_key_is_left_below(nats: NatsServer, database: str, proxy: Bus) -> None:
    clock = FakeClock()
    async with auth_running(settings_for(nats, await migrated(database)), clock) as auth:
        await auth.ready()
        await auth.post("/team/new", {"team_id": "t1"})
        made = await auth.post("/key/generate", {"team_id": "t1"})
        await auth.post("/team/delete", {"team_ids": ["t1"]})
        await eventually(lambda: _gone(proxy, made["token_id"]))
        assert await stands(proxy, "t.t1") == "deleted"
        clock.advance(2 * 3600)

        async def gone() -> bool:
            clock.advance(60)
            auth.service.parts.relay.tell(auth.service.parts.relay.applied + 1)
            return await stands(proxy, "t.t1") is None

        await eventually(gone)
