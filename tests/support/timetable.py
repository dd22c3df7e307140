"""Auth's events for the scheduler's tests, and a town in which schedulers turn them into due rotations."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg

from services.scheduler.projection import Projection
from services.scheduler.rotator import Rotator
from services.scheduler.store import Store
from services.scheduler.store_rotation import RotationStore
from shared.bus import Bus, Message, Tail
from shared.clock import Clock
from shared.events import (
    AnyAuthEvent,
    AnySignal,
    AnyWork,
    KeyIssued,
    KeyRotationSet,
    OrgCreated,
    RotationTerms,
    TeamCreated,
    decode_work,
    encode,
    type_of,
)
from shared.ids import EventId, KeyId, OrgId, TeamId, uuid7
from shared.pg import migrate
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import WORK, auth_subject, signal_subject
from tests.support.eventually import eventually
from tests.support.servers import NatsServer

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = KeyId("key_1")
ORG = OrgId("org_1")
TEAM = TeamId("team_1")


def told(at: datetime = START, position: int = 0) -> dict[str, Any]:
    """The envelope of an event."""
    return {"id": EventId(uuid7()), "at": at, "source": "auth", "actor": "master-key", "position": position}


def issued(key_id: str = KEY, *, org_id: str = ORG, team_id: str | None = TEAM, **more: Any) -> KeyIssued:
    """A new key."""
    team = None if team_id is None else TeamId(team_id)
    return KeyIssued(**told(), key_id=KeyId(key_id), org_id=OrgId(org_id), team_id=team, alias=f"the {key_id}", **more)


def scheduled(
    key_id: str = KEY, interval: str | None = "1m", *, anchor: datetime = START, at: datetime | None = None
) -> KeyRotationSet:
    """A key's secret is to be replaced every so often from now on."""
    terms = RotationTerms(interval=interval, anchor=anchor)
    return KeyRotationSet(**told(at or anchor), key_id=KeyId(key_id), rotation=terms)


def team(team_id: str = TEAM, org_id: str = ORG) -> TeamCreated:
    """A new team."""
    return TeamCreated(**told(), team_id=TeamId(team_id), org_id=OrgId(org_id))


def org(org_id: str = ORG) -> OrgCreated:
    """A new organization."""
    return OrgCreated(**told(), org_id=OrgId(org_id))


class Node:
    """One scheduler in this process: its timetable is followed, its tick is called by the test."""

    def __init__(self, database: str, bus: Bus, clock: Clock, name: str) -> None:
        self.bus = bus
        self.clock = clock
        self.database_clock: Clock | None = None
        """The same as this node's, unless a test says otherwise."""
        self.store = Store(database, name)
        self.rotations = RotationStore(self.store)
        self.projection = Projection(self.rotations, Metrics())
        self.metrics = Metrics()
        self.rotator = Rotator(
            self.rotations,
            self.projection,
            clock,
            source=name,
            may_run=lambda: True,
            rotations=self.metrics.counter("rotations_total", "", "what"),
            common_time=self._time,
        )
        self.tasks = Supervisor()
        self.tasks.keep("timetable", lambda: self.projection.run(bus))

    async def _time(self) -> datetime:
        return (self.database_clock or self.clock).now()

    async def tick(self) -> int:
        """What the clock does every second; how many due rotations were told."""
        return await self.rotator.once(self.bus)

    async def close(self) -> None:
        await self.tasks.close()
        await self.store.close()


class Town:
    """NATS, a database, an auth that says what the test wants, and any number of schedulers."""

    def __init__(self, nats: NatsServer, database: str, admin: Bus) -> None:
        self.nats = nats
        self.database = database
        self.admin = admin
        self.nodes: list[Node] = []
        self._buses: list[Bus] = []
        self._last = 0

    async def node(self, clock: Clock) -> Node:
        """Another scheduler, with the permissions that it has in production."""
        name = f"node{len(self.nodes) + 1}"
        bus = await Bus.open(self.nats.url_for("scheduler"), user="scheduler", name=name)
        node = Node(self.database, bus, clock, name)
        self._buses.append(bus)
        self.nodes.append(node)
        await self.learnt(node)
        return node

    async def decided(self, *events: AnyAuthEvent) -> None:
        """Auth says something, and every scheduler has heard it."""
        for event in events:
            self._last = (await self.admin.publish(auth_subject(type_of(event), "x"), encode(event))).seq
        for node in self.nodes:
            await self.learnt(node)

    async def learnt(self, node: Node) -> None:
        async def there() -> bool:
            return node.projection.fresh and node.projection.position >= self._last

        await eventually(there)

    async def signalled(self, kind: str, scope_kind: str, scope_id: str, event: AnySignal) -> None:
        """A signal is published."""
        await self.admin.publish(signal_subject(kind, scope_kind, scope_id), encode(event))

    async def work(self) -> list[AnyWork]:
        """All that the stream WORK holds."""
        return [decode_work(message.data) for message in await self._all(WORK, "work.>")]

    async def _all(self, stream: str, subject: str) -> list[Message]:
        found: list[Message] = []
        async with asyncio.timeout(10):
            async for batch in Tail(self.admin, stream, subject).batches():
                found += batch.messages
                if batch.caught_up:
                    break
        return found

    async def sql(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database, server_settings={"search_path": "scheduler"})
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()
        for bus in (*self._buses, self.admin):
            await bus.close()


@asynccontextmanager
async def town_of(nats: NatsServer, database: str) -> AsyncGenerator[Town, None]:
    """A town whose database has its tables."""
    await migrate(database, schema="scheduler", package="services.scheduler", progress=lambda _line: None)
    town = Town(nats, database, await Bus.open(nats.url_for("admin"), user="admin", name="test"))
    try:
        yield town
    finally:
        await town.close()
