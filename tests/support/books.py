"""A bookkeeper in the test's own process, with NATS, a database, an administrator and a proxy that publishes usage."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx

from services.ledger.bookkeeper.app import Service, running
from services.ledger.settings import bookkeeper_settings
from shared import pg
from shared.access import sign_actor
from shared.bus import Bus
from shared.clock import SystemClock
from shared.events import AnyAuthEvent, AnyUsage, encode, type_of, usage_batch
from shared.ids import InstanceId, uuid7
from shared.settings import Env
from shared.topology import auth_subject, usage_subject
from tests.support.ledger import P1
from tests.support.role_keys import PEPPERS
from tests.support.servers import NatsServer

MASTER = "sk-master-key-of-the-tests-0123456789"
WITHIN_S = 20.0


async def eventually(probe: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `probe` says so; fails after a generous bound."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if await probe():
                return
            await asyncio.sleep(0.02)


class Town:
    """NATS, a database, a proxy that publishes usage, and a bookkeeper."""

    def __init__(self, nats: NatsServer, database: str, admin: Bus, proxy: Bus) -> None:
        self.nats = nats
        self.database = database
        self.admin = admin
        self.proxy = proxy
        self.service: Service | None = None
        self.http: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def books(self) -> AsyncGenerator[Service]:
        """A bookkeeper in this process."""
        values = {
            "TUNDISH_MASTER_KEY": MASTER,
            "TUNDISH_TOKEN": "own",
            "TUNDISH_PEER_TOKENS": "auth:peer-token",
            "TUNDISH_NATS_URL": self.nats.url_for("bookkeeper"),
            "TUNDISH_POSTGRES_URL": self.database,
            "TUNDISH_PEPPERS": PEPPERS,
        }
        settings = bookkeeper_settings(Env(values))
        async with running(settings, SystemClock()) as service:
            transport = httpx.ASGITransport(app=service.app)  # pyright: ignore[reportArgumentType]
            headers = {"authorization": f"Bearer {MASTER}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://books", headers=headers) as http:
                self.service, self.http = service, http
                await eventually(self.knows_its_policies)
                yield service

    async def says(self, check: str) -> str:
        """What a check of the bookkeeper's health says."""
        assert self.http is not None
        return (await self.http.get("/health/readiness")).json()["checks"][check]

    async def knows_its_policies(self) -> bool:
        return await self.says("policies") == "ok"

    async def takes_orders(self) -> bool:
        return await self.says("corrections") == "ok"

    async def get(self, path: str, **params: str | int) -> Any:
        assert self.http is not None
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def decided(self, *events: AnyAuthEvent) -> None:
        for event in events:
            await self.admin.publish(auth_subject(type_of(event), "x"), encode(event))

    async def use(self, *events: AnyUsage, instance: InstanceId = P1, timeout_s: float = 5) -> int:
        data = usage_batch([encode(event) for event in events])
        ack = await self.proxy.publish(usage_subject(0, instance), data, msg_id=uuid7(), timeout_s=timeout_s)
        return ack.seq

    async def hold(self, count: int) -> None:
        """Wait until the books hold so many events."""

        async def there() -> bool:
            with contextlib.suppress(asyncpg.PostgresError, OSError):
                return await self.value("SELECT count(*) FROM usage_event") == count
            return False

        await eventually(there)

    async def value(self, query: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.database, server_settings={"search_path": "ledger"})
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def rebuild(self, *, check: bool) -> Any:
        assert self.http is not None
        answer = await self.http.post("/ledger/rebuild", json={"check": check})
        assert answer.status_code == 202, answer.text
        job: Any = None

        async def ended() -> bool:
            nonlocal job
            job = await self.get(f"/ledger/rebuild/{answer.json()['job']}")
            return job["state"] != "running"

        await eventually(ended)
        return job

    async def correct(self, order: object, *, status: int = 200, actor: str = "ann") -> Any:
        """Order a correction as the service auth does for a person."""
        await eventually(self.takes_orders)
        assert self.http is not None
        peer = {"authorization": "Bearer peer-token", "x-tundish-actor": sign_actor("peer-token", actor)}
        answer = await self.http.post("/spend/correct", json=order, headers=peer)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def spent(self, account: str = "a:key_1", index: int = 0) -> int | None:
        """What the books show for an account-window."""
        query = "SELECT spent_nusd FROM account_spend WHERE account = $1 AND window_index = $2"
        return await self.value(query, account, index)


@asynccontextmanager
async def town_of(nats: NatsServer, database: str) -> AsyncGenerator[Town]:
    """A town whose database has its tables."""
    await pg.migrate(database, schema="ledger", package="services.ledger.bookkeeper", progress=lambda _line: None)
    admin = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    proxy = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    yield Town(nats, database, admin, proxy)
    await proxy.close()
    await admin.close()
