"""Driving the auth service in tests: the real service in this event loop, on real servers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.auth.app import Service, running
from services.auth.settings import Settings, load
from shared.clock import Clock, SystemClock
from shared.pg import migrate
from shared.settings import Env
from tests.support.eventually import eventually
from tests.support.servers import NatsServer

MASTER_KEY = "sk-master-0123456789abcdef"
TOKEN = "token-of-auth-0123456789"
PEER_TOKEN = "token-of-scheduler-0123456789"


@dataclass
class Auth:
    """A running service and ways to speak to it; answers are decoded JSON."""

    service: Service
    client: httpx.AsyncClient

    async def post(self, path: str, body: Any, *, status: int = 200, key: str = MASTER_KEY) -> Any:
        answer = await self.client.post(path, json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(
        self, path: str, query: dict[str, Any] | None = None, *, status: int = 200, key: str = MASTER_KEY
    ) -> Any:
        answer = await self.client.get(path, params=query, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get_text(self, path: str, *, key: str = MASTER_KEY) -> str:
        """A page that is not JSON."""
        answer = await self.client.get(path, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        return answer.text

    async def ready(self, *, but: tuple[str, ...] = ()) -> None:
        """Wait until every health check (those of `but` aside) is well."""

        async def well() -> bool:
            checks = (await self.client.get("/health/readiness")).json()["checks"]
            return all(word == "ok" for name, word in checks.items() if name not in but)

        await eventually(well)


def settings_for(
    nats: NatsServer, database: str, *, ledger_url: str = "http://127.0.0.1:9", relay_wait_ms: int = 5_000
) -> Settings:
    """Settings as the environment would give them."""
    return load(
        Env(
            {
                "TUNDISH_MASTER_KEY": MASTER_KEY,
                "TUNDISH_TOKEN": TOKEN,
                "TUNDISH_PEER_TOKENS": f"scheduler:{PEER_TOKEN}",
                "TUNDISH_NATS_URL": nats.url_for("auth"),
                "TUNDISH_POSTGRES_URL": database,
                "TUNDISH_PEPPERS": "p2:" + "ab" * 32 + ",p1:" + "cd" * 32,
                "TUNDISH_LEDGER_URL": ledger_url,
                "TUNDISH_AUTH_RELAY_WAIT_MS": str(relay_wait_ms),
            }
        )
    )


@asynccontextmanager
async def auth_running(settings: Settings, clock: Clock | None = None) -> AsyncGenerator[Auth, None]:
    """The service at work; it may not be ready yet."""
    async with (
        running(settings, clock or SystemClock()) as service,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=service.app),  # pyright: ignore
            base_url="http://auth",
        ) as client,
    ):
        yield Auth(service, client)


async def migrated(database: str) -> str:
    """The same database with the schema of auth."""
    await migrate(database, schema="auth", package="services.auth", progress=lambda _line: None)
    return database
