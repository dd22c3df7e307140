"""Two proxies' treasuries, a real enforcer and NATS: money moves to where calls wait, and levels stop a loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from services.ledger.domain.tuning import Tuning
from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller, Lineage
from services.proxy.domain.money.purse import BankTuning
from services.proxy.holds import Denied, Hold
from services.proxy.levels import Levels
from services.proxy.treasury import Treasury
from shared.clock import SystemClock
from shared.ids import AccountId, InstanceId
from shared.tasks import Supervisor
from tests.support.ledger import KEY, ORG, budget, budget_set, key_issued
from tests.support.servers import NatsServer
from tests.support.town import Town, a_town, eventually

ACCOUNT = AccountId("a:key_1")
PATIENT = Tuning(recall_wait_ms=20_000)
"""An ask waits longer for recalled money than any test does: time decides nothing."""
CALM = BankTuning(tidy_ms=3_600_000, ask_wait_ms=20_000)
"""Nothing goes back unless somebody asks for it."""


class Gateway:
    """One proxy, as far as money goes."""

    def __init__(self, town: Town, name: str, caller: Caller) -> None:
        self.caller = caller
        self.tasks = Supervisor()
        directory = cast(Directory, self)
        self.treasury = Treasury(town.proxy, directory, SystemClock(), InstanceId(name), 1, CALM)
        self.levels = Levels(town.proxy, self.treasury)
        self.treasury.start(self.tasks)
        self.tasks.keep("levels", self.levels.mirror.run)

    def current(self, key_id: str) -> Caller:
        """The directory's part."""
        return self.caller

    async def hold(self, amount: int, most: int = 0) -> Hold:
        """Money for one call."""
        lineage = self.caller.lineage("gpt-4o")
        most = most or amount
        held = self.treasury.try_hold(self.caller, lineage, amount, most)
        return held or await self.treasury.hold(self.caller, lineage, amount, most)

    async def stop(self) -> None:
        """End it."""
        await self.treasury.stop()
        await self.tasks.close()


class Gateways:
    """A town with a key of 1,000 nano-dollars and proxies that serve it."""

    def __init__(self, town: Town, rev: int) -> None:
        self.town = town
        self._rev = rev
        self._made: list[Gateway] = []

    async def gateway(self, name: str) -> Gateway:
        """One more proxy, which has loaded the levels."""
        lineage = Lineage(accounts=(ACCOUNT,), watched=(), strict=False)
        caller = Caller(
            key_id=KEY, org_id=ORG, team_id=None, blocked=None, expires_at=None, model_lists=(), budgets=(),
            policy_rev=self._rev, partition=0, common=lineage, limits=(),
        )  # fmt: skip
        made = Gateway(self.town, name, caller)
        self._made.append(made)
        await made.levels.mirror.wait_ready()
        return made

    async def stop(self) -> None:
        """End all."""
        for made in self._made:
            await made.stop()


@pytest.fixture
async def gateways(nats: NatsServer) -> AsyncIterator[Gateways]:
    async with a_town(nats) as town:
        rev = await town.decided(key_issued(), budget_set(budget(KEY, 1_000)))
        await (await town.enforcer(tuning=PATIENT)).active()
        made = Gateways(town, rev)
        async with asyncio.timeout(30):
            yield made
        await made.stop()


async def test_idle_money_moves_to_where_a_call_waits(gateways: Gateways) -> None:
    rich, poor = await gateways.gateway("rich"), await gateways.gateway("poor")
    rich.treasury.settle(await rich.hold(900), 100)
    assert rich.treasury.idle_nusd() == 800
    hold = await poor.hold(700)
    assert hold.amount == 700
    assert rich.treasury.bank.recalls == 1
    assert (rich.treasury.bank.recalled_nusd, rich.treasury.idle_nusd()) == (800, 0)
    assert (await rich.hold(200)).amount == 200, "its own rest is still there for it"


async def test_what_is_spent_is_refused_everywhere_without_asking(gateways: Gateways) -> None:
    first, second = await gateways.gateway("first"), await gateways.gateway("second")
    first.treasury.settle(await first.hold(600), 600)
    with pytest.raises(Denied) as denied:
        await first.hold(500)
    assert (denied.value.verdict, denied.value.refusal.limit) == ("exceeded", 1_000)
    await eventually(lambda: second.levels.exhausted == 1)
    with pytest.raises(Denied) as denied:
        await second.hold(500)
    assert (denied.value.verdict, denied.value.refusal.account) == ("exceeded", ACCOUNT)
    assert second.treasury.bank.asks == 0
    assert (await second.hold(300)).amount == 300


async def test_a_call_that_could_use_more_gets_all_that_is_left(gateways: Gateways) -> None:
    first, second = await gateways.gateway("first"), await gateways.gateway("second")
    await first.hold(200)
    hold = await second.hold(50, most=5_000)
    assert hold.amount == 800, "no share is kept from a call that waits and can use it"
