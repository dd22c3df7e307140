"""Real NATS keeps the contract of the bus."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.bus import Bus
from shared.bus.connection import Request
from tests.contract.bus_suite import Answer, BusContract
from tests.support.servers import NatsServer


class TestNats(BusContract):
    @pytest.fixture
    async def bus(self, nats: NatsServer) -> AsyncIterator[Bus]:
        made = await Bus.open(nats.url, user="admin", name="contract")
        yield made
        await made.close()

    async def answer(self, bus: Bus, subject: str, responder: Answer) -> None:
        async def handle(request: Request) -> None:
            await request.respond(await responder(request.data))

        await bus.serve(subject, handle)

    async def test_a_subscription_hears_every_message_once_the_call_returns(self, bus: Bus) -> None:
        heard: list[bytes] = []
        done = asyncio.Event()

        def handler(data: bytes) -> None:
            heard.append(data)
            if data == b"bad":
                raise ValueError("a handler's error ends nothing")
            if data == b"last":
                done.set()

        subscription = await bus.subscribe("gossip.v1.limits", handler)
        for data in (b"one", b"bad", b"last"):
            await bus.send("gossip.v1.limits", data)
        async with asyncio.timeout(5):
            await done.wait()
        assert heard == [b"one", b"bad", b"last"]
        await subscription.unsubscribe()
