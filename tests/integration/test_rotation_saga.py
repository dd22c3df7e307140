"""Renewal on real servers: minted once, brought to its owner whatever dies on the way, and the old one ended after."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from services.auth.rotation.configured import RotationSettings
from services.auth.rotation.signing import Signing
from services.auth.settings import Settings
from shared.bus import Bus, Tail
from shared.clock import SystemClock
from shared.events import AnySignal, RotationDue, decode_signal, encode, type_of
from shared.ids import KeyId
from shared.policy import KeyRecord
from shared.rotation import due_event_id
from shared.topology import SIGNALS, key_kv, rotation_subject
from tests.support.auth import MASTER_KEY, Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.receiver import Receiver, receiving
from tests.support.servers import NatsServer

LOOPBACK = RotationSettings(webhook_allow=(ip_network("127.0.0.0/8"),))
PEPPERS = {"p2": bytes.fromhex("ab" * 32), "p1": bytes.fromhex("cd" * 32)}


class Ahead(SystemClock):
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.by


@pytest.fixture
async def settings(nats: NatsServer, database: str) -> Settings:
    made = settings_for(nats, await migrated(database))
    return msgspec.structs.replace(made, rotation=LOOPBACK)


@pytest.fixture
async def clock() -> Ahead:
    return Ahead()


@pytest.fixture
async def auth(settings: Settings, clock: Ahead) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings, clock) as auth:
        await auth.ready()
        yield auth


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver, None]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def scheduler(nats: NatsServer) -> AsyncGenerator[Bus, None]:
    bus = await Bus.open(nats.url_for("scheduler"), user="scheduler", name="test-scheduler")
    yield bus
    await bus.close()


async def say_due(scheduler: Bus, key_id: str, at: datetime, *, again: str = "") -> None:
    """What the scheduler says; `again` makes it another message about the same instant."""
    event = RotationDue(
        id=due_event_id(KeyId(key_id), at), at=at, source="scheduler/test", key_id=KeyId(key_id), due_at=at
    )
    await scheduler.publish(rotation_subject(key_id), encode(event), msg_id=event.id + again)


async def signals_of(scheduler: Bus, key_id: str) -> list[AnySignal]:
    """All signals about a key so far."""
    found: list[AnySignal] = []
    batches = Tail(scheduler, SIGNALS, f"signal.*.*.v1.key.{key_id}").batches()
    async for batch in batches:
        found += [decode_signal(message.data) for message in batch.messages]
        if batch.caught_up:
            break
    await batches.aclose()
    return found


def body_of(receiver: Receiver, n: int = -1) -> dict[str, Any]:
    return msgspec.json.decode(receiver.got[n].body)["data"]


async def versions_of(auth: Auth, key_id: str) -> dict[int, str]:
    info = await auth.get("/key/info", {"key": key_id})
    return {row["version"]: row["status"] for row in info["info"]["versions"]}


def settled(auth: Auth, key_id: str, wanted: dict[int, str]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return await versions_of(auth, key_id) == wanted

    return look


async def received(receiver: Receiver, count: int) -> None:
    async def look() -> bool:
        return len(receiver.got) >= count

    await eventually(look)


HOUR = timedelta(hours=1)


async def rotating_key(auth: Auth, receiver: Receiver | None = None, **more: Any) -> dict[str, Any]:
    ways: list[dict[str, Any]] = [{"type": "exchange"}]
    if receiver is not None:
        ways = [{"type": "webhook", "url": receiver.url + "/hook"}]
    body = {"auto_rotate": True, "rotation_interval": "1h", "grace_period": "10m", "rotation_delivery": ways, **more}
    return await auth.post("/key/generate", body)


async def test_a_due_secret_reaches_its_owner_and_then_the_old_one_ends(
    auth: Auth, clock: Ahead, receiver: Receiver, scheduler: Bus
) -> None:
    made = await rotating_key(auth, receiver)
    [shown] = made["rotation_delivery"]
    assert shown["signing_secret"] == Signing(PEPPERS).secret(made["token_id"], receiver.url + "/hook")
    anchor = datetime.fromisoformat(made["key_rotation_at"]) - HOUR
    clock.by = HOUR
    for again in ("", "-second-scheduler", "-redelivered"):
        await say_due(scheduler, made["token_id"], anchor + HOUR, again=again)
    await received(receiver, 1)
    await eventually(settled(auth, made["token_id"], {1: "overlap", 2: "current"}))
    body = body_of(receiver)
    assert body["version"] == 2
    new = body["key"]
    assert new.startswith("sk-") and new != made["key"]
    for secret in (made["key"], new):
        assert (await auth.get("/key/info", key=secret))["info"]["token_id"] == made["token_id"]

    async def told() -> bool:
        return [type_of(one) for one in await signals_of(scheduler, made["token_id"])] == ["rotation.delivered.v1"]

    await eventually(told)
    clock.by = HOUR + timedelta(minutes=11)
    await eventually(settled(auth, made["token_id"], {1: "retired", 2: "current"}))
    refused = await auth.get("/key/info", key=made["key"], status=401)
    assert refused["error"]["code"] == "invalid_api_key"
    assert (await auth.get("/key/info", key=new))["info"]["rotation_count"] == 1
    assert len(receiver.got) == 1, "said three times, done once"


async def test_killed_between_mint_and_delivery_the_owner_still_gets_it(
    settings: Settings, receiver: Receiver, scheduler: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stopped here knows nothing of it any more; another process delivers what stands in the table."""
    from services.auth.rotation.targets.couriers import Couriers

    held = asyncio.Event()
    deliver = Couriers.deliver

    async def hold(self: Couriers, target: Any, parcel: Any) -> str:
        held.set()
        await asyncio.Event().wait()
        return ""

    clock = Ahead()
    async with auth_running(settings, clock) as first:
        await first.ready()
        made = await rotating_key(first, receiver)
        monkeypatch.setattr(Couriers, "deliver", hold)
        answer = await first.post(f"/key/{made['token_id']}/rotate", {})
        assert answer["state"] == "minted"
        assert "key" not in answer and "sk-" not in str(answer)
        await held.wait()
        assert (await first.get("/key/info", key=made["key"]))["info"]["versions"][0]["status"] == "pending"
    assert receiver.got == []
    monkeypatch.setattr(Couriers, "deliver", deliver)
    clock.by = timedelta(minutes=2)  # the claim of the dead has run out
    async with auth_running(settings, clock) as second:
        await second.ready()
        await received(receiver, 1)
        await eventually(settled(second, made["token_id"], {1: "overlap", 2: "current"}))
        assert (await second.get("/key/info", key=body_of(receiver)["key"]))["info"]["token_id"] == made["token_id"]


async def test_two_instances_and_two_schedulers_make_one(
    settings: Settings, receiver: Receiver, scheduler: Bus
) -> None:
    clock = Ahead()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(auth_running(settings, clock))
        second = await stack.enter_async_context(auth_running(settings, clock))
        await first.ready()
        await second.ready()
        keys = [await rotating_key(first, receiver) for _ in range(5)]
        clock.by = 3 * HOUR + timedelta(minutes=1)  # three were missed: one is made up for
        for made in keys:
            anchor = datetime.fromisoformat(made["key_rotation_at"]) - HOUR
            for n in (1, 2, 3):
                for again in ("", "-other"):
                    await say_due(scheduler, made["token_id"], anchor + n * HOUR, again=again)
        await received(receiver, len(keys))
        for made in keys:
            await eventually(settled(second, made["token_id"], {1: "overlap", 2: "current"}))
        await asyncio.gather(*(first.post(f"/key/{made['token_id']}/rotate", {}) for made in keys))
        for made in keys:
            await eventually(settled(second, made["token_id"], {1: "overlap", 2: "overlap", 3: "current"}))
        got = sorted((data["key_id"], data["version"]) for data in (body_of(receiver, n) for n in range(10)))
        assert got == sorted((made["token_id"], version) for made in keys for version in (2, 3))


async def test_failed_deliveries_are_tried_again_and_told(
    auth: Auth, clock: Ahead, receiver: Receiver, scheduler: Bus
) -> None:
    made = await rotating_key(auth, receiver)
    receiver.answer = lambda _: (500, {}, b"")
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    for attempt in (1, 2, 3):
        await received(receiver, attempt)
        clock.by += timedelta(minutes=1)

    async def told() -> list[AnySignal]:
        return await signals_of(scheduler, made["token_id"])

    [signal] = await eventually(told)
    assert type_of(signal) == "rotation.failed.v1"
    assert (getattr(signal, "attempts"), getattr(signal, "old_ends_at")) == (3, None)  # noqa: B009
    assert "500" in getattr(signal, "reason")  # noqa: B009
    [row] = (await auth.get("/rotation/list"))["keys"]
    assert row["state"] == "minted"
    assert "500" in row["last_error"]
    assert row["attempts"] >= 3
    assert "sk-" not in str(row)
    refused = await auth.post(f"/key/{made['token_id']}/rotate", {}, status=409)
    assert refused["error"]["code"] == "rotation_in_progress"
    assert (await auth.get("/key/info", key=made["key"]))["info"]["token_id"] == made["token_id"]

    # A due instant meanwhile passes, and is told.
    anchor = datetime.fromisoformat(made["key_rotation_at"]) - HOUR
    clock.by = HOUR
    await say_due(scheduler, made["token_id"], anchor + HOUR)

    async def passed() -> bool:
        return any("still on its way" in getattr(one, "reason", "") for one in await told())

    await eventually(passed)
    receiver.answer = lambda _: (204, {}, b"")
    clock.by += timedelta(minutes=16)
    await eventually(settled(auth, made["token_id"], {1: "overlap", 2: "current"}))
    ids = {body["version"] for body in (body_of(receiver, n) for n in range(len(receiver.got)))}
    assert ids == {2}
    assert len({one.headers["webhook-id"] for one in receiver.got}) == 1


async def test_a_target_that_is_replaced_gets_what_is_outstanding(auth: Auth, receiver: Receiver) -> None:
    made = await rotating_key(auth, receiver)
    receiver.answer = lambda request: (200 if request.path == "/fixed" else 500, {}, b"")
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    await received(receiver, 1)
    changed = {"key": made["token_id"], "rotation_delivery": [{"type": "webhook", "url": receiver.url + "/fixed"}]}
    await auth.post("/key/update", changed)
    await eventually(settled(auth, made["token_id"], {1: "overlap", 2: "current"}))


async def test_the_plaintext_is_sealed_and_gone_when_nobody_needs_it(
    auth: Auth, settings: Settings, receiver: Receiver
) -> None:
    import asyncpg

    made = await rotating_key(auth, receiver, rotation_delivery=[{"type": "exchange"}])
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    connection = await asyncpg.connect(settings.postgres_url, server_settings={"search_path": "auth"})
    try:
        [row] = await connection.fetch("SELECT sealed FROM pending_secret")
        assert b"sk-" not in row["sealed"]
        await auth.post("/key/delete", {"keys": [made["token_id"]]})
        assert await connection.fetch("SELECT FROM pending_secret") == []
    finally:
        await connection.close()


# ---- exchange ----------------------------------------------------------------------------------------


async def test_exchange_hands_out_the_new_secret_once(auth: Auth, scheduler: Bus) -> None:
    made = await rotating_key(auth)
    old = made["key"]
    nothing = await auth.post("/key/exchange", None, key=old, status=404)
    assert nothing["error"]["code"] == "nothing_to_collect"
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    record = await eventually(lambda: _collectable(auth, made["token_id"]))
    assert record is not None and record.newest == 2
    collected = await auth.post("/key/exchange", None, key=old)
    assert (collected["token_id"], collected["version"]) == (made["token_id"], 2)
    ends = datetime.fromisoformat(collected["old_key_expires"])
    assert timedelta(minutes=9) < ends - datetime.now(UTC) < timedelta(minutes=11)
    assert (await auth.get("/key/info", key=collected["key"]))["info"]["token_id"] == made["token_id"]
    again = await auth.post("/key/exchange", None, key=old, status=409)
    assert again["error"]["code"] == "already_collected"
    assert "sk-" not in str(again)
    newest = await auth.post("/key/exchange", None, key=collected["key"], status=404)
    assert newest["error"]["code"] == "nothing_to_collect"

    async def told() -> bool:
        found = [type_of(one) for one in await signals_of(scheduler, made["token_id"])]
        return found == ["rotation.delivered.v1", "key.collected_again.v1"]

    await eventually(told)
    assert (await auth.get("/key/info", key=old))["info"]["status"] == "active", "signal is the default"


async def _collectable(auth: Auth, key_id: str) -> KeyRecord | None:
    record = auth.service.parts.people.keys.get(key_kv(KeyId(key_id)))
    return record if record is not None and record.collectable else None


async def test_of_many_at_once_one_collects(auth: Auth) -> None:
    made = await rotating_key(auth)
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    headers = {"authorization": f"Bearer {made['key']}"}
    answers = await asyncio.gather(*(auth.client.post("/key/exchange", headers=headers) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7


async def test_a_lost_answer_can_be_asked_for_again_with_its_key(auth: Auth) -> None:
    made = await rotating_key(auth)
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    headers = {"authorization": f"Bearer {made['key']}", "idempotency-key": "the-one-of-this-exchange"}
    first = await auth.client.post("/key/exchange", headers=headers)
    second = await auth.client.post("/key/exchange", headers=headers)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()


async def test_a_second_collection_blocks_where_that_is_set(settings: Settings) -> None:
    strict = msgspec.structs.replace(settings, rotation=msgspec.structs.replace(LOOPBACK, twice="block"))
    async with auth_running(strict) as auth:
        await auth.ready()
        made = await rotating_key(auth)
        await auth.post(f"/key/{made['token_id']}/rotate", {})
        await auth.post("/key/exchange", None, key=made["key"])
        await auth.post("/key/exchange", None, key=made["key"], status=409)
        blocked = await auth.post("/key/exchange", None, key=made["key"], status=401)
        assert blocked["error"]["code"] == "invalid_api_key"


async def test_only_a_virtual_key_collects(auth: Auth) -> None:
    assert (await auth.post("/key/exchange", None, status=404))["error"]["code"] == "nothing_to_collect"
    assert (await auth.post("/key/exchange", None, key="sk-unknown-secret", status=401))["error"]


# ---- by hand -----------------------------------------------------------------------------------------


async def test_regenerated_the_old_one_ends_now_or_after_its_grace(auth: Auth) -> None:
    made = await auth.post("/key/generate", {"key_alias": "by-hand", "max_budget": 5})
    first = await auth.post("/key/regenerate", {"key_alias": "by-hand", "max_budget": 7, "grace_period": "1h"})
    assert first["max_budget"] == 7
    assert first["token_id"] == made["token_id"]
    assert await versions_of(auth, made["token_id"]) == {1: "overlap", 2: "current"}
    second = await auth.post(f"/key/{made['token_id']}/regenerate", {"new_key": "sk-chosen-by-me-0123"})
    weak = "sk-" + "abcd" * 10
    refused = await auth.post("/key/generate", {"key_type": "admin", "key": weak}, status=400)
    assert (refused["error"]["param"], weak in str(refused)) == ("key", False)
    admin = await auth.post("/key/generate", {"key_type": "admin"})
    refused = await auth.post(f"/key/{admin['token_id']}/regenerate", {"new_key": weak}, status=400)
    assert (refused["error"]["param"], weak in str(refused)) == ("new_key", False)
    assert second["key"] == "sk-chosen-by-me-0123"
    assert await versions_of(auth, made["token_id"]) == {1: "retired", 2: "retired", 3: "current"}
    for dead in (made["key"], first["key"]):
        await auth.get("/key/info", key=dead, status=401)
    taken = await auth.post("/key/regenerate", {"key": made["token_id"], "new_key": "sk-chosen-by-me-0123"}, status=409)
    assert taken["error"]["param"] == "new_key"
    used = await auth.post("/key/regenerate", {"key": made["token_id"], "new_key": MASTER_KEY}, status=400)
    assert MASTER_KEY not in str(used)


async def test_regenerated_under_an_idempotency_key_it_is_one(auth: Auth) -> None:
    made = await auth.post("/key/generate", {})
    headers = {"authorization": f"Bearer {MASTER_KEY}", "idempotency-key": "regenerate-once"}
    path = f"/key/{made['token_id']}/regenerate"
    answers = [await auth.client.post(path, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["key"] == answers[1].json()["key"]
    assert await versions_of(auth, made["token_id"]) == {1: "retired", 2: "current"}


async def test_a_regenerated_secret_goes_to_the_targets_too(auth: Auth, receiver: Receiver) -> None:
    made = await rotating_key(auth, receiver)
    fresh = await auth.post(f"/key/{made['token_id']}/regenerate", {"grace_period": "30m"})
    await received(receiver, 1)
    assert body_of(receiver)["key"] == fresh["key"]


async def test_what_is_refused_by_name(auth: Auth) -> None:
    bare = {"auto_rotate": True, "rotation_interval": "1h", "grace_period": "1m"}
    error = (await auth.post("/key/generate", bare, status=400))["error"]
    assert (error["code"], error["param"]) == ("no_delivery", "rotation_delivery")
    vault = {"type": "key_vault", "vault": "https://kv1.vault.azure.net", "secret": "a"}
    error = (await auth.post("/key/generate", {"rotation_delivery": [vault]}, status=400))["error"]
    assert error["code"] == "target_refused"
    assert "TUNDISH_KEY_VAULTS" in error["message"]
    metadata = {"type": "webhook", "url": "https://169.254.169.254/latest"}
    error = (await auth.post("/key/generate", {"rotation_delivery": [metadata]}, status=400))["error"]
    assert error["code"] == "target_refused"
    made = await auth.post("/key/generate", {})
    error = (await auth.post(f"/key/{made['token_id']}/rotate", {}, status=400))["error"]
    assert error["code"] == "no_delivery"
    error = (await auth.post("/key/key_unknown/rotate", {}, status=404))["error"]
    assert error["code"] == "key_not_found"
    assert (await auth.get("/rotation/list"))["total_count"] == 0
