"""Two auths and two schedulers on one Postgres and one NATS: each due instant makes one version, which arrives once."""

import asyncio
import base64
import hmac
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from services.auth.rotation.configured import RotationSettings
from shared.bus import Bus, Tail
from shared.events import KeySecretMinted, RotationDue, decode_auth, encode
from shared.ids import KeyId, OrgId
from shared.rotation import due_event_id
from shared.topology import AUTH, ROTATION_DURABLE, WORK, rotation_subject
from tests.integration.test_auth_resets import joined
from tests.support import books, timetable
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.clock import FakeClock
from tests.support.eventually import eventually
from tests.support.ledger import used
from tests.support.receiver import Received, Receiver, Reply, receiving
from tests.support.servers import NatsServer
from tests.support.timetable import START

KEYS = 6
INSTANTS = 3
MINUTE = timedelta(minutes=1)
NUDGE_S = 0.1
"""How far the clock goes at each look: what is held back for a second comes, and the next instant does not."""


class Owners:
    """Those who get the webhooks, each at a path of its own. `taken` counts message ids, `secrets` has the newest."""

    def __init__(self) -> None:
        self.signing: dict[str, bytes] = {}
        self.taken: dict[str, Counter[str]] = {}
        self.versions: dict[str, list[int]] = {}
        self.secrets: dict[str, str] = {}
        self.forged: list[str] = []

    def meet(self, path: str, signing_secret: str) -> None:
        """An owner who knows what to check signatures with."""
        self.signing[path] = base64.b64decode(signing_secret.removeprefix("whsec_"))
        self.taken[path], self.versions[path] = Counter(), []

    def take(self, request: Received) -> Reply:
        """Take what is signed."""
        once, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        signed = f"{once}.{at}.".encode() + request.body
        wanted = base64.b64encode(hmac.digest(self.signing[request.path], signed, "sha256")).decode()
        if f"v1,{wanted}" not in request.headers["webhook-signature"].split():
            self.forged.append(request.path)
            return 401, {}, b""
        data = msgspec.json.decode(request.body)["data"]
        self.taken[request.path][once] += 1
        self.versions[request.path].append(data["version"])
        self.secrets[request.path] = data["key"]
        return 204, {}, b""


class Fleet:
    """Two auths and two schedulers that share a clock, a ledger, and those who get the secrets."""

    def __init__(
        self,
        clock: FakeClock,
        auths: list[Auth],
        town: timetable.Town,
        ledger: books.Town,
        receiver: Receiver,
        owners: Owners,
    ) -> None:
        self.clock = clock
        self.auths = auths
        self.town = town
        self.ledger = ledger
        self.receiver = receiver
        self.owners = owners
        self.keys: dict[str, dict[str, Any]] = {}

    async def mint(self) -> None:
        """Keys that are due once a minute from now on, made by both auths in turn."""
        for number in range(KEYS):
            path = f"/owner/{number}"
            body = {
                "auto_rotate": True,
                "rotation_interval": "1m",
                "grace_period": "30s",
                "rotation_delivery": [{"type": "webhook", "url": self.receiver.url + path}],
            }
            self.keys[path] = made = await self.auths[number % 2].post("/key/generate", body)
            self.owners.meet(path, made["rotation_delivery"][0]["signing_secret"])
        for node in self.town.nodes:
            await self.until(lambda node=node: _is_scheduled(node))

    async def tick(self, due_at: datetime) -> None:
        """The instant comes: both schedulers tick, twice each and at once, and say it once more when all is done."""
        self.clock.advance((due_at - self.clock.now()).total_seconds())
        told = await asyncio.gather(*(node.tick() for node in self.town.nodes for _ in range(2)))
        assert sum(told) >= KEYS
        for made in self.keys.values():
            at = due_event_id(KeyId(made["token_id"]), due_at)
            event = RotationDue(id=at, at=due_at, source="test", key_id=KeyId(made["token_id"]), due_at=due_at)
            await self.town.admin.publish(rotation_subject(event.key_id), encode(event), msg_id=f"{at}-again")

    async def until(self, ask: Callable[[], Awaitable[bool]]) -> None:
        """Wait, with a clock that goes on by little."""

        async def look() -> bool:
            self.clock.advance(NUDGE_S)
            return await ask()

        await eventually(look)

    async def all_say(self, version: int) -> bool:
        """Whether either auth shows this version as the current one of every key."""
        for auth in self.auths:
            for made in self.keys.values():
                info = (await auth.get("/key/info", {"key": made["token_id"]}))["info"]
                if (info["versions"][0]["version"], info["versions"][0]["status"]) != (version, "current"):
                    return False
        return True

    async def work_is_done(self) -> bool:
        """Whether no due instant waits for an auth any more."""
        raw = await self.town.admin.api(f"CONSUMER.INFO.{WORK}.{ROTATION_DURABLE}", b"")
        told = msgspec.json.decode(raw)
        return (told["num_pending"], told["num_ack_pending"]) == (0, 0)


async def _is_scheduled(node: timetable.Node) -> bool:
    return node.projection.fresh and (await node.rotations.summary(START)).scheduled == KEYS


@pytest.fixture
async def fleet(nats: NatsServer, database: str) -> AsyncGenerator[Fleet, None]:
    clock, owners = FakeClock(START), Owners()
    settings = settings_for(nats, await migrated(database))
    settings = msgspec.structs.replace(
        settings,
        common=msgspec.structs.replace(settings.common, token="peer-token"),
        rotation=RotationSettings(webhook_allow=(ip_network("127.0.0.0/8"),)),
    )
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(books.town_of(nats, database))
        await stack.enter_async_context(ledger.books())
        town = await stack.enter_async_context(timetable.town_of(nats, database))
        receiver = await stack.enter_async_context(receiving())
        receiver.answer = owners.take
        auths = [await stack.enter_async_context(auth_running(settings, clock)) for _ in range(2)]
        for auth in auths:
            await auth.ready()
            joined(auth, ledger)
        for _ in range(2):
            await town.node(clock)
        yield Fleet(clock, auths, town, ledger, receiver, owners)


async def minted(bus: Bus) -> Counter[tuple[str, datetime, int]]:
    """(key, due instant, version) of all that a schedule asked for, as auth's log has it."""
    found: Counter[tuple[str, datetime, int]] = Counter()
    batches = Tail(bus, AUTH, "auth.>").batches()
    async for batch in batches:
        for event in (decode_auth(message.data) for message in batch.messages):
            if isinstance(event, KeySecretMinted) and event.due_at is not None:
                found[(event.key_id, event.due_at, event.version)] += 1
        if batch.caught_up:
            break
    await batches.aclose()
    return found


async def test_each_due_instant_makes_one_version_and_one_message(fleet: Fleet) -> None:
    await fleet.mint()
    assert len({made["token_id"] for made in fleet.keys.values()}) == KEYS
    events = [
        used(n, n * 1_000_000, key=KeyId(made["token_id"]), team=None, org=OrgId("default"))
        for n, made in enumerate(fleet.keys.values(), 1)
    ]
    await fleet.ledger.use(*events)
    await fleet.ledger.hold(KEYS)
    instants = [START + n * MINUTE for n in range(1, INSTANTS + 1)]
    for version, due_at in enumerate(instants, 2):
        await fleet.tick(due_at)
        await fleet.until(lambda version=version: fleet.all_say(version))
        await fleet.until(fleet.work_is_done)
    assert sum(await asyncio.gather(*(node.tick() for node in fleet.town.nodes))) == 0

    ids = [made["token_id"] for made in fleet.keys.values()]
    wanted = {(key_id, due_at, n): 1 for key_id in ids for n, due_at in enumerate(instants, 2)}
    assert await minted(fleet.town.admin) == wanted
    assert fleet.owners.forged == []
    for path in fleet.keys:
        assert sorted(fleet.owners.taken[path].values()) == [1] * INSTANTS, "each message once"
        assert sorted(fleet.owners.versions[path]) == [2, 3, 4]
    for n, (path, made) in enumerate(fleet.keys.items(), 1):
        newest = fleet.owners.secrets[path]
        for auth in fleet.auths:
            info = (await auth.get("/key/info", key=newest))["info"]
            assert (info["token_id"], info["spend"]) == (made["token_id"], n / 1_000)
            assert (info["rotation_count"], [row["version"] for row in info["versions"]]) == (3, [4, 3, 2, 1])
