"""The fake keeps the contract of the bus."""

from typing import cast

import pytest

from shared.bus import Bus
from tests.contract.bus_suite import Answer, BusContract
from tests.fakes.bus import FakeBus


class TestFake(BusContract):
    @pytest.fixture
    def bus(self) -> Bus:
        return cast(Bus, FakeBus())

    async def answer(self, bus: Bus, subject: str, responder: Answer) -> None:
        cast(FakeBus, bus).responders[subject] = responder
