"""Integrations: signals reach them in an account of their own, and nothing else does."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats import connect
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NoAnswer

from shared.bus import Bus
from tests.support.servers import PASSWORD, NatsServer

ROOT = Path(__file__).parents[2]
SUBJECT = "signal.budget.exceeded.v1.key.k1"
SIGNAL = (
    b'{"type":"budget.exceeded.v1","id":"i1","at":"2026-11-22T10:00:00Z","source":"t","scope_kind":"key","scope_id":"k1",'
    b'"account":"a1","window_index":0,"window_start":"2026-11-22T10:00:00Z","window_end":null,"limit_nusd":350000000,'
    b'"spent_nusd":350000000,"alias":"agent"}'
)


@pytest.fixture
async def subscriber(nats: NatsServer) -> AsyncIterator[Client]:
    """A connection as an integration has it."""
    client = await connect(
        nats.url_for("subscriber"), inbox_prefix=b"_INBOX_subscriber", allow_reconnect=False, error_cb=_quiet
    )
    yield client
    await client.close()


async def _quiet(_error: Exception) -> None:
    """Permission errors come here; the tests look at what does not arrive."""


async def publish(nats: NatsServer, data: bytes = SIGNAL) -> None:
    """A signal, as the enforcer publishes it."""
    bus = await Bus.open(nats.url_for("enforcer"), user="enforcer", name="test")
    try:
        await bus.publish(SUBJECT, data)
    finally:
        await bus.close()


async def test_the_durable_delivers_until_acknowledged(nats: NatsServer, subscriber: Client) -> None:
    await publish(nats)
    consumer = await subscriber.jetstream().pull_subscribe_bind("subscriber", "SIGNALS")
    (message,) = await consumer.fetch(1, timeout=5)
    assert (message.subject, message.data) == (SUBJECT, SIGNAL)
    await message.nak()
    (again,) = await consumer.fetch(1, timeout=5)
    assert again.metadata.num_delivered == 2
    await again.ack_sync(timeout=5)
    with pytest.raises(NoAnswer):
        await consumer.fetch(1, timeout=0.2)


async def test_signals_are_heard_live(nats: NatsServer, subscriber: Client) -> None:
    heard = await subscriber.subscribe("signal.>")
    await subscriber.flush()
    await subscriber.flush()
    await publish(nats)
    assert (await heard.next_msg(timeout=5)).data == SIGNAL


async def test_nothing_else_can_be_heard_or_reached(nats: NatsServer, subscriber: Client) -> None:
    everything = await subscriber.subscribe(">")
    await subscriber.flush()
    await publish(nats)
    with pytest.raises(NoAnswer):
        await everything.next_msg(timeout=0.3)
    for subject in ("$JS.API.STREAM.INFO.KV_keys", "$JS.API.CONSUMER.CREATE.SIGNALS.evil", "allot.v1.0"):
        with pytest.raises((NoRespondersError, NoAnswer)):
            await subscriber.request(subject, b"{}", timeout=0.3)
    await subscriber.publish("signal.budget.exceeded.v1.key.forged", b"forged")
    await subscriber.flush()
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    try:
        assert (await bus.stream_info("SIGNALS")).state.messages == 1
    finally:
        await bus.close()


async def test_the_example_prints_signals(nats: NatsServer) -> None:
    await publish(nats)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / "budget_signals.py"),
        nats.url_for("subscriber"),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
    finally:
        process.kill()
        await process.wait()
    assert line == "2026-11-22T10:00:00Z  key agent: EXCEEDED: calls are refused; $0.35 of $0.35 spent\n"
    assert PASSWORD not in line
