"""An enforcer that has left the office does not keep the lease, whatever becomes of the task that renews it."""

import asyncio
from typing import Any

import pytest

from services.ledger.enforcer import office as module
from services.ledger.enforcer.office import Office


class Lease:
    """Renews with an answer that comes in the very moment in which the office ends, and loses the cancellation."""

    def __init__(self, office: Any) -> None:
        self._office = office
        self.renewals = 0

    async def renew(self) -> bool:
        self.renewals += 1
        if self.renewals == 3:
            self._office._on_doubt("somebody else has decided something")
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return True
        return True


class Clerk:
    def close(self) -> None:
        """Nothing to close."""


async def test_leaving_office_ends_the_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_RENEW_S", 0)
    office: Any = object.__new__(Office)
    office._doubt = asyncio.Event()
    office._partition = 0
    office.lease = Lease(office)
    office.clerk = Clerk()

    async def nothing() -> None:
        """Takes office at once."""

    office._take_office = nothing
    office._answer_until_doubt = office._doubt.wait
    async with asyncio.timeout(10):
        await office._serve()
    assert office.standing == "standby"
    assert office.lease.renewals == 3
