"""The auth service as a process of its own, as `tundish serve auth` starts it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from tests.support.auth import MASTER_KEY, TOKEN, migrated
from tests.support.eventually import eventually
from tests.support.servers import NatsServer, free_port

ROOT = Path(__file__).parents[2]


def environment(nats: NatsServer, database: str, port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "TUNDISH_MASTER_KEY": MASTER_KEY,
        "TUNDISH_TOKEN": TOKEN,
        "TUNDISH_NATS_URL": nats.url_for("auth"),
        "TUNDISH_POSTGRES_URL": database,
        "TUNDISH_PEPPERS": "p1:" + "cd" * 32,
        "TUNDISH_INTERNAL_PORT": str(port),
    }


async def started(env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.auth", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """(exit code, what it wrote), within a bound."""
    async with asyncio.timeout(20):
        _, said = await process.communicate()
    return process.returncode, said.decode()


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {MASTER_KEY}"}, trust_env=False) as client:
        yield client


async def test_it_serves_and_ends_in_order(nats: NatsServer, database: str, client: httpx.AsyncClient) -> None:
    port = free_port()
    env = environment(nats, await migrated(database), port)
    base = f"http://127.0.0.1:{port}"
    process = await started(env)

    async def ready() -> bool:
        assert process.returncode is None
        return (await client.get(f"{base}/health/readiness")).status_code == 200

    try:
        await eventually(ready, unless=(httpx.TransportError,))
        made = (await client.post(f"{base}/key/generate", json={"max_budget": 0.05})).json()
        assert made["warnings"] == []
        again = await started(env)
        code, said = await ended(again)
        assert code == 1
        assert "TUNDISH_INTERNAL_PORT" in said
        assert "Traceback" not in said
        process.send_signal(signal.SIGKILL)
        await ended(process)
        process = await started(env)
        await eventually(ready, unless=(httpx.TransportError,))
        info = (await client.get(f"{base}/key/info", params={"key": made["key"]})).json()
        assert info["info"]["max_budget"] == 0.05
    finally:
        process.send_signal(signal.SIGTERM)
        code, said = await ended(process)
    assert code == 0, said
    assert made["key"] not in said
    assert MASTER_KEY not in said


async def test_settings_that_are_wrong_are_named(nats: NatsServer, database: str) -> None:
    good = environment(nats, database, free_port())
    for name, value in (("TUNDISH_PEPPERS", "p1:zz"), ("TUNDISH_MASTER_KEY", "weak"), ("TUNDISH_TOKEN", "")):
        code, said = await ended(await started(good | {name: value}))
        assert code == 1
        assert name in said
        assert "Traceback" not in said


async def test_a_missing_topology_is_named(nats_server: NatsServer, database: str) -> None:
    code, said = await ended(await started(environment(nats_server, database, free_port())))
    assert code == 1
    assert "tundish migrate" in said
