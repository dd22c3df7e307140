"""The ledger's processes as they are run in production, for tests that kill and freeze them."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
MASTER = "sk-master-key-of-the-tests-0123456789"
WITHIN_S = 30.0
ENFORCER = ("services", "serve", "ledger-enforcer")


@asynccontextmanager
async def process(
    arguments: Sequence[str], nats_url: str, port: int, **more: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """One process from `python -m <arguments>`, killed at the end if it still runs."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TUNDISH_MASTER_KEY": MASTER,
        "TUNDISH_TOKEN": "own",
        "TUNDISH_NATS_URL": nats_url,
        "TUNDISH_INTERNAL_PORT": str(port),
        **more,
    }
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, env=env, cwd="/")
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def ready(port: int) -> dict[str, str]:
    """Wait until a process is ready; what its checks say."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(WITHIN_S):
        while True:
            try:
                answer = await http.get(f"http://127.0.0.1:{port}/health/readiness")
                if answer.status_code == 200:
                    return answer.json()["checks"]
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.02)


async def checks_say(port: int, name: str, word: str) -> None:
    """Wait until a ready process says a word of a check."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if (await ready(port))[name] == word:
                return
            await asyncio.sleep(0.02)


async def metrics(port: int) -> str:
    """The metrics page of a process."""
    headers = {"authorization": f"Bearer {MASTER}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
        return (await http.get(f"http://127.0.0.1:{port}/metrics")).text
