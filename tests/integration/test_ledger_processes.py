"""Both ledger processes as they are run in production: start, answer, stop in order, be killed and come back."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from shared import allotment, pg
from shared.allotment import Answer
from shared.bus import Bus
from shared.errors import BusUnavailable
from shared.events import encode, type_of
from shared.topology import allot_subject, auth_subject
from tests.support.ledger import KEY, ask, budget, budget_set, key_issued
from tests.support.servers import NatsServer, free_port

ROOT = Path(__file__).parents[2]
MASTER = "sk-master-key-of-the-tests-0123456789"
WITHIN_S = 30.0


@asynccontextmanager
async def process(
    arguments: Sequence[str], nats_url: str, port: int, **more: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
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


async def ready(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(WITHIN_S):
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/health/readiness")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.02)


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncGenerator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    for event in (key_issued(), budget_set(budget(KEY, 100))):
        await bus.publish(auth_subject(type_of(event), "x"), encode(event))
    await bus.close()
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    yield bus
    await bus.close()


async def asked(proxy: Bus, need: int, rseq: int) -> Answer:
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                data = await proxy.request(allot_subject(0), allotment.encode(ask(need, rseq=rseq)), timeout_s=1)
                reply = allotment.decode_reply(data)
                if isinstance(reply, Answer):
                    return reply
            except BusUnavailable:
                pass
            await asyncio.sleep(0.02)


async def test_the_enforcer_is_killed_and_comes_back(nats: NatsServer, proxy: Bus) -> None:
    port = free_port()
    url = nats.url_for("enforcer")
    async with process(("services", "serve", "ledger-enforcer"), url, port) as first:
        await ready(port)
        assert (await asked(proxy, 40, 1)).granted == 40
        first.kill()
        await first.wait()
    async with process(("services.ledger", "enforcer"), url, port) as second:
        await ready(port)
        answer = await asked(proxy, 50, 2)
        assert (answer.granted, answer.epoch) == (50, 2)
        headers = {"authorization": f"Bearer {MASTER}"}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
            page = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
        assert "tundish_ledger_escrow_nusd 50" in page
        assert 'tundish_ledger_answers_total{verdict="ok"} 1' in page
        second.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await second.wait() == 0
    async with process(("services.ledger", "enforcer"), url, port):  # the lease was left, nobody is waited for
        await ready(port)
        assert (await asked(proxy, 60, 3)).epoch == 3


async def test_the_bookkeeper_starts_and_stops(nats: NatsServer, database: str) -> None:
    await pg.migrate(database, schema="ledger", package="services.ledger.bookkeeper", progress=lambda _line: None)
    port = free_port()
    arguments = ("services", "serve", "ledger-bookkeeper")
    async with process(arguments, nats.url_for("bookkeeper"), port, TUNDISH_POSTGRES_URL=database) as child:
        await ready(port)
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await child.wait() == 0


async def test_a_taken_port_ends_the_start_with_a_word(nats: NatsServer) -> None:
    port = free_port()
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    async with taken, process(("services.ledger", "enforcer"), nats.url_for("enforcer"), port) as child:
        async with asyncio.timeout(WITHIN_S):
            assert await child.wait() == 1


async def test_an_unknown_program_is_refused(nats: NatsServer) -> None:
    async with process(("services.ledger", "treasurer"), nats.url_for("enforcer"), 1) as child:
        async with asyncio.timeout(WITHIN_S):
            assert await child.wait() == 1
