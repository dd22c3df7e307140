"""Real NATS keeps the contract of the bus."""

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
