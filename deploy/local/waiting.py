"""Waiting for a server to be ready, and noticing that it will not be."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from deploy.local.children import Child
from deploy.local.errors import UpError

POLL_FIRST_S = 0.02
POLL_MAX_S = 0.25
FALLS_MAX = 3
"""A child that fell this often before it was ready will not get better by itself."""
PROBE_LIMIT_S = 3.0
LINES_SHOWN = 15

Probe = Callable[[], Awaitable[str | None]]
"""Asks once: None is "ready", a text says why not yet."""


async def wait_ready(name: str, probe: Probe, limit_s: float, child: Child | None = None) -> None:
    """Ask until ready. Raises UpError after `limit_s` seconds, or when the child behind it keeps falling."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + limit_s
    pause = POLL_FIRST_S
    while (reason := await probe()) is not None:
        if child is not None and (child.misconfigured or child.falls >= FALLS_MAX):
            raise UpError(f"{name} cannot start (tried {child.falls} times).{last_lines(child)}")
        if clock() >= deadline:
            raise UpError(f"{name} was not ready within {limit_s:g} s: {reason}.{last_lines(child)}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, POLL_MAX_S)


def last_lines(child: Child | None) -> str:
    """The end of a child's log, for the report of its failure."""
    lines = [] if child is None else list(child.recent)[-LINES_SHOWN:]
    return "" if not lines else " Its last lines:\n" + "\n".join(f"    {line}" for line in lines)


def http_probe(client: httpx.AsyncClient, url: str) -> Probe:
    """Ready when the URL answers 200."""

    async def probe() -> str | None:
        try:
            answer = await client.get(url)
        except httpx.HTTPError as error:
            return f"no answer from {url} ({type(error).__name__})"
        return None if answer.status_code == 200 else f"{url} says {answer.status_code} {answer.text[:200]}"

    return probe


def nats_probe(port: int) -> Probe:
    """Ready when the server greets on its port."""

    async def probe() -> str | None:
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    greeting = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            return f"no answer on port {port} ({type(error).__name__})"
        return None if greeting.startswith(b"INFO ") else f"something else answers on port {port}"

    return probe
