"""A NATS server with auth, a proxy, and any number of enforcers in this process."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from services.ledger.domain.tuning import Tuning
from services.ledger.enforcer.app import open_office
from services.ledger.enforcer.meters import Meters
from services.ledger.enforcer.office import Office
from shared import allotment
from shared.allotment import Answer, Level, Recall, Reply, Request
from shared.bus import Bucket, Bus, Tail
from shared.errors import TundishError
from shared.events import AnyAuthEvent, AnyUsage, GrantEntry, decode_grants, encode, type_of, usage_batch
from shared.ids import InstanceId, uuid7
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import (
    BUDGETS_BUCKET,
    LEDGER,
    allot_subject,
    auth_subject,
    grant_fence,
    recall_subject,
    usage_subject,
)
from tests.support.ledger import P1
from tests.support.servers import NatsServer

WITHIN_S = 20.0
SNAPSHOT_NEVER = 10**9


async def eventually(probe: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until `probe` says so; fails after a generous bound."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            said = probe()
            if said if isinstance(said, bool) else await said:
                return
            await asyncio.sleep(0.01)


class Running:
    """One enforcer in this process."""

    def __init__(self, bus: Bus, office: Office, meters: Meters, fatal: "asyncio.Future[None]") -> None:
        self.bus = bus
        self.office = office
        self.meters = meters
        self.fatal = fatal
        self.supervisor = Supervisor()

    async def active(self) -> "Running":
        """Wait until it is in office."""
        await eventually(lambda: self.office.standing == "active")
        return self

    async def kill(self) -> None:
        """End without any farewell."""
        await self.supervisor.close()
        await self.bus.close()


class Town:
    """Auth and a proxy speak over `admin` and `proxy`; `running` are the enforcers."""

    def __init__(self, server: NatsServer, admin: Bus, proxy: Bus) -> None:
        self.server = server
        self.admin = admin
        self.proxy = proxy
        self.running: list[Running] = []

    async def enforcer(
        self,
        *,
        start: bool = True,
        tuning: Tuning | None = None,
        snapshot_every: int = SNAPSHOT_NEVER,
        place: str | None = None,
    ) -> Running:
        """Another enforcer. As if on another machine with a `place` of its own: else it takes others of this process
        for dead, as a process that was started again does."""
        bus = await Bus.open(self.server.url_for("enforcer"), user="enforcer", name="test")
        fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        meters = Meters(Metrics())
        office = await open_office(
            bus,
            0,
            InstanceId(uuid7()),
            meters,
            tuning=tuning or Tuning(),
            snapshot_every=snapshot_every,
            fatal=fatal,
        )
        if place is not None:
            office.lease._mine = msgspec.structs.replace(office.lease._mine, place=place)
        running = Running(bus, office, meters, fatal)
        self.running.append(running)
        if start:
            office.start(running.supervisor)
        return running

    async def decided(self, *events: AnyAuthEvent) -> int:
        """Publish events of auth; the sequence of the last."""
        seq = 0
        for event in events:
            seq = (await self.admin.publish(auth_subject(type_of(event), "x"), encode(event))).seq
        return seq

    async def send(self, request: Request, timeout_s: float = 5) -> Reply:
        """One request of the proxy and the reply to it."""
        data = await self.proxy.request(allot_subject(0), allotment.encode(request), timeout_s=timeout_s)
        return allotment.decode_reply(data)

    async def ask(self, request: Request) -> Answer:
        """An ask that must be answered as one."""
        reply = await self.send(request)
        assert isinstance(reply, Answer), reply
        return reply

    async def use(self, *events: AnyUsage, instance: InstanceId = P1) -> None:
        """Publish usage as a proxy does."""
        data = usage_batch([encode(event) for event in events])
        await self.proxy.publish(usage_subject(0, instance), data, msg_id=uuid7())

    async def stored(self, stream: str, subject: str) -> list[bytes]:
        """Everything a stream holds under a subject."""
        found: list[bytes] = []
        async for batch in Tail(self.admin, stream, subject).batches():
            found += [message.data for message in batch.messages]
            if batch.caught_up:
                return found
        raise AssertionError

    async def decisions(self) -> list[GrantEntry]:
        """All records of the log, in order."""
        return [record for data in await self.stored(LEDGER, grant_fence(0)) for record in decode_grants(data).records]

    async def level(self, account: str) -> Level | None:
        """What the bucket says of an account."""
        entry = await Bucket(self.admin, BUDGETS_BUCKET).get(account)
        return None if entry is None else allotment.decode_level(entry.value)

    async def hear_recalls(
        self, instance: InstanceId, then: Callable[[Recall], Awaitable[None]] | None = None
    ) -> list[Recall]:
        """Listen as a proxy instance does; the list fills as recalls come, and `then` runs on each."""
        heard: list[Recall] = []

        async def on_recall(letter: object) -> None:
            recall = allotment.decode_recall(letter.data)  # pyright: ignore
            heard.append(recall)
            if then is not None:
                await then(recall)

        await self.proxy.serve(recall_subject(0, instance), on_recall)
        return heard


@asynccontextmanager
async def a_town(nats: NatsServer) -> AsyncGenerator[Town]:
    """A town whose enforcers end with it."""
    admin = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    proxy = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    made = Town(nats, admin, proxy)
    try:
        yield made
    finally:
        for running in made.running:
            with contextlib.suppress(TundishError):
                await running.kill()
        await proxy.close()
        await admin.close()
