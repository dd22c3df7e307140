"""Another pepper: secrets move to it as they are used, and the old one can go when nothing stands under it."""

from collections.abc import AsyncGenerator
from hashlib import sha256

import msgspec
import pytest

from shared.bus import Bucket, Bus
from shared.clock import SystemClock
from shared.events import SecretSeen, encode
from shared.ids import EventId, uuid7
from shared.sealing import REHASH, Sealer
from shared.topology import KEYS_BUCKET, rehash_subject
from tests.support.auth import auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncGenerator[Bus, None]:
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test-proxy")
    yield bus
    await bus.close()


async def there(bus: Bus, name: str) -> bool:
    return await Bucket(bus, KEYS_BUCKET).get(name) is not None


def sealer() -> Sealer:
    return Sealer({"p2": b"\xab" * 32, "p1": b"\xcd" * 32})


def seen(key_id: str, secret: str) -> SecretSeen:
    """What a proxy says of a secret that it was called with."""
    return SecretSeen(
        id=EventId(uuid7()),
        at=SystemClock().now(),
        source="proxy/test",
        key_id=key_id,  # pyright: ignore[reportArgumentType]
        old_label="p1",
        sealed=sealer().seal(REHASH, key_id, sha256(secret.encode()).digest()),
    )


async def test_secrets_move_as_they_are_used(nats: NatsServer, database: str, proxy: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    old = msgspec.structs.replace(settings, peppers={"p1": settings.peppers["p1"]})
    async with auth_running(old) as auth:
        await auth.ready()
        used, unused, dead = [await auth.post("/key/generate", {}) for _ in range(3)]
        own = await auth.post("/key/generate", {"key_type": "viewer"})
        await auth.post("/key/delete", {"keys": [dead["key"]]})
    async with auth_running(settings) as auth:
        await auth.ready()
        status = await auth.get("/pepper/status")
        rows = {row["label"]: row for row in status["peppers"]}
        assert (status["current"], status["ok"], status["removable"]) == ("p2", True, [])
        assert (rows["p1"]["secrets"], rows["p2"]["secrets"], rows["p1"]["removable"]) == (3, 0, False)

        names = auth.service.parts.vault.names(used["key"])
        for made in (used, dead):
            event = seen(made["token_id"], made["key"])
            await proxy.publish(rehash_subject(made["token_id"]), encode(event), msg_id=event.id)
        await eventually(lambda: there(proxy, names[0]))

        async def moved() -> bool:
            return not await there(proxy, names[1])

        await eventually(moved)
        await auth.get("/key/list", key=own["key"])
        own_names = auth.service.parts.vault.names(own["key"])
        await eventually(lambda: there(proxy, own_names[0]))
        rows = {row["label"]: row for row in (await auth.get("/pepper/status"))["peppers"]}
        assert (rows["p1"]["secrets"], rows["p2"]["secrets"]) == (1, 2)
        assert (await auth.get("/key/info", {"key": used["key"]}))["info"]["token_id"] == used["token_id"]

        revoked = await auth.post("/key/revoke", {"key": names[1].rpartition(".")[2], "reason": f"is {used['key']} ?"})
        assert (revoked["token_id"], revoked["versions"]) == (used["token_id"], [1]), "by the hash that it had before"
        log = await auth.get("/audit", {"action": "revoked"})
        assert log["audit_logs"][0]["cause"] == "is sk-... ?", "what looks like a secret does not stay in the log"

        await auth.post("/key/delete", {"keys": [unused["token_id"]]})
        status = await auth.get("/pepper/status")
        assert status["removable"] == ["p1"]
        assert "stored objects" in status["warnings"][0]
        log = await auth.get("/audit", {"action": "rehashed"})
        assert {entry["object_id"] for entry in log["audit_logs"]} == {used["token_id"], own["token_id"]}
        assert log["audit_logs"][0]["updated_values"] == {"pepper": "p2", "version": 1}


async def test_nobody_gives_a_key_a_secret_of_their_choice(nats: NatsServer, database: str, proxy: Bus) -> None:
    """Who may write into the work of proxies, and even has the peppers, but not the secret."""
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {"key_type": "admin"})
        label, digest = auth.service.parts.vault.names(made["key"])[0].removeprefix("s.").split(".")
        chosen = "sk-chosen-by-somebody-else-000001"
        envelope = {"type": "secret.seen.v1", "id": uuid7(), "at": SystemClock().now(), "source": "proxy/test"}
        mine = seen(made["token_id"], chosen)
        earlier = {"old_digest": digest, "label": label, "digest": auth.service.parts.vault.hasher.digest(chosen)}
        for body in (
            encode(mine),
            encode(msgspec.structs.replace(mine, old_label=label)),
            msgspec.json.encode(envelope | {"key_id": made["token_id"], "old_label": label} | earlier),
        ):
            await proxy.publish(rehash_subject(made["token_id"]), body, msg_id=uuid7())

        async def dealt_with() -> bool:
            page = await auth.get_text("/metrics")
            counted = ('{outcome="ignored"} 1', '{outcome="refused"} 1')
            return all(f"tundish_auth_rehashed_total{one}" in page for one in counted)

        await eventually(dealt_with)
        await auth.get("/key/list", key=made["key"])
        await auth.get("/key/list", key=chosen, status=401)


async def test_a_pepper_that_is_needed_and_missing_is_an_error(nats: NatsServer, database: str) -> None:
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        await auth.post("/key/generate", {})
    without = msgspec.structs.replace(settings, peppers={"p1": settings.peppers["p1"]})
    async with auth_running(without) as auth:
        await auth.ready()
        status = await auth.get("/pepper/status")
        assert (status["ok"], status["missing"], status["removable"]) == (False, ["p2"], [])
        assert "TUNDISH_PEPPERS" in status["warnings"][0]


async def test_only_what_stands_as_it_was_said_moves(nats: NatsServer, database: str, proxy: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    old = msgspec.structs.replace(settings, peppers={"p1": settings.peppers["p1"]})
    async with auth_running(old) as auth:
        await auth.ready()
        made = await auth.post("/key/generate", {})
        revoked = await auth.post("/key/generate", {})
        await auth.post("/key/block", {"key": revoked["token_id"]})
    async with auth_running(settings) as auth:
        await auth.ready()
        event = seen(made["token_id"], made["key"])
        blocked = seen(revoked["token_id"], revoked["key"])
        replace = msgspec.structs.replace
        never = seen("key_never", made["key"])
        others = seen(made["token_id"], revoked["key"])
        short = sealer().seal(REHASH, made["token_id"], b"short")
        stranger = Sealer({"p2": b"x" * 32}).seal(REHASH, made["token_id"], sha256(b"sk-mine").digest())
        refused = (
            replace(event, old_label="p2"),
            replace(event, old_label="p9"),
            replace(event, key_id=revoked["token_id"]),
            replace(event, sealed=b""),
            replace(event, sealed=short),
            replace(event, sealed=stranger),
        )
        for wrong in (*refused, never, others, blocked):
            await proxy.publish(rehash_subject(wrong.key_id), encode(wrong), msg_id=uuid7())
        await proxy.publish(rehash_subject("x"), b"{}", msg_id=uuid7())
        await proxy.publish(rehash_subject(event.key_id), encode(event), msg_id=uuid7())
        name = auth.service.parts.vault.names(made["key"])[0]
        await eventually(lambda: there(proxy, name))
        page = await auth.get_text("/metrics")
        assert 'tundish_auth_rehashed_total{outcome="ignored"} 3' in page
        assert 'tundish_auth_rehashed_total{outcome="refused"} 6' in page
        assert 'tundish_auth_rehashed_total{outcome="moved"} 1' in page
