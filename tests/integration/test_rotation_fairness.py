"""Deliveries to who does not answer keep nobody else waiting."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import asyncpg
import msgspec
import pytest

from services.auth.rotation.configured import RotationSettings
from services.auth.rotation.targets.courier import Parcel
from services.auth.settings import Settings
from services.auth.store_database import Database
from services.auth.store_rotation import PER_WEBHOOK_HOST, Pending
from shared.clock import SystemClock
from shared.events import Target
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.receiver import Receiver, receiving
from tests.support.servers import NatsServer

LOOPBACK = RotationSettings(webhook_allow=(ip_network("127.0.0.0/8"),))
MORE_THAN_FIT = 24


@dataclass
class Silent:
    """Takes connections and never answers."""

    port: int
    open: int = 0
    most: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])


@asynccontextmanager
async def silence(host: str) -> AsyncGenerator[Silent, None]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.writers.append(writer)
        silent.open += 1
        silent.most = max(silent.most, silent.open)
        try:
            while await reader.read(65_536):
                pass
        finally:
            silent.open -= 1
            writer.close()

    server = await asyncio.start_server(handle, host, 0)
    silent = Silent(server.sockets[0].getsockname()[1])
    async with server:
        yield silent
        for writer in silent.writers:
            writer.close()


@pytest.fixture
async def settings(nats: NatsServer, database: str) -> Settings:
    return msgspec.structs.replace(settings_for(nats, await migrated(database)), rotation=LOOPBACK)


async def rotated(auth: Auth, url: str, **more: Any) -> str:
    made = await auth.post("/key/generate", {"rotation_delivery": [{"type": "webhook", "url": url}], **more})
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    return made["token_id"]


async def reached(receiver: Receiver, count: int) -> None:
    async def look() -> bool:
        return len(receiver.got) >= count

    await eventually(look)


async def test_one_silent_host_holds_up_nobody(settings: Settings) -> None:
    async with silence("127.0.0.2") as silent, receiving() as receiver, auth_running(settings) as auth:
        await auth.ready()
        for n in range(MORE_THAN_FIT):
            await rotated(auth, f"http://127.0.0.2:{silent.port}/{n}")
        await rotated(auth, receiver.url + "/hook")
        await reached(receiver, 1)
        assert 1 <= silent.open <= silent.most <= PER_WEBHOOK_HOST  # they hang still


async def test_many_silent_hosts_of_one_team_hold_up_no_other(settings: Settings) -> None:
    async with silence("0.0.0.0") as silent, receiving() as receiver, auth_running(settings) as auth:
        await auth.ready()
        for team in ("t1", "t2"):
            await auth.post("/team/new", {"team_id": team})
        for n in range(MORE_THAN_FIT):
            await rotated(auth, f"http://127.0.1.{n + 1}:{silent.port}/", team_id="t1")
        await rotated(auth, receiver.url + "/hook", team_id="t2")
        await reached(receiver, 1)
        assert silent.open >= 1


async def test_what_was_never_tried_comes_before_what_failed(settings: Settings) -> None:
    async with silence("127.0.0.2") as silent, auth_running(settings) as auth:
        await auth.ready()
        keys = [await rotated(auth, f"http://127.0.0.2:{silent.port}/{n}") for n in range(4)]

    connection = await asyncpg.connect(settings.postgres_url)
    await connection.execute("UPDATE auth.delivery SET claimed_until = NULL, attempts = 0")
    await connection.execute(
        "UPDATE auth.delivery SET attempts = 3, next_at = next_at - interval '1 hour' WHERE key_id = ANY($1)", keys[:2]
    )
    await connection.close()
    database, now = Database(settings.postgres_url), SystemClock().now()
    try:
        await database.open()
        pending, lease = Pending(database), timedelta(seconds=30)
        first = await pending.claim(now, lease=lease, most=16)
        assert sorted((job.key_id, job.attempts) for job in first) == sorted((key, 1) for key in keys[2:])
        assert await pending.claim(now, lease=lease, most=16) == []  # as many as one host may have
        later = await pending.claim(now + lease, lease=lease, most=16)
        assert len(later) == PER_WEBHOOK_HOST
    finally:
        database.close()


async def test_an_attempt_that_breaks_is_a_failed_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver, auth_running(settings) as auth:
        await auth.ready()

        async def broken(_target: Target, _parcel: Parcel) -> str:
            raise UnicodeEncodeError("ascii", "ü", 0, 1, "out of range")

        monkeypatch.setattr(auth.service.parts.couriers, "deliver", broken)
        key_id = await rotated(auth, receiver.url)

        async def told() -> bool:
            [row] = (await auth.get("/rotation/list"))["keys"]
            return row["token_id"] == key_id and row["last_error"] == "failed: UnicodeEncodeError"

        await eventually(told)
