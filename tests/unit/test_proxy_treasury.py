"""Money for calls: who is admitted, who waits, who is refused, and that nothing leaks whatever is lost."""

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import pytest

from services.proxy import treasury as module
from services.proxy.closing import close_instance
from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller
from services.proxy.domain.wallet import DEMAND_TAU_MS, HORIZON_MS
from services.proxy.holds import Denied, Hold, Unreachable
from services.proxy.treasury import Treasury
from shared.allotment import ASK_WAIT_MS, LEASE_MS, Beat, Return
from shared.bus import Bus
from shared.ids import AccountId, InstanceId, KeyId, OrgId
from shared.topology import allot_subject
from tests.fakes.bus import FakeBus
from tests.fakes.enforcer import ACCOUNT, TERM, FakeEnforcer
from tests.support.clock import FakeClock

ME = InstanceId("me")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def caller(key: str = "k1", *, accounts: tuple[AccountId, ...] = (ACCOUNT,), rev: int = 1) -> Caller:
    return Caller(
        key_id=KeyId(key), org_id=OrgId("o"), team_id=None, blocked=None, expires_at=None, model_lists=(), budgets=(),
        policy_rev=rev, partition=0, accounts=accounts, watched=(),
    )  # fmt: skip


class World:
    """A treasury that talks to a fake enforcer over a fake bus."""

    def __init__(self, limit: int = 1_000) -> None:
        self.clock = FakeClock()
        self.enforcer = FakeEnforcer(self.clock, limit)
        self.bus = FakeBus(responders={allot_subject(0): self.enforcer})
        self.now: Caller | None = caller()
        self.treasury = Treasury(cast(Bus, self.bus), cast(Directory, self), self.clock, ME, 1)

    def current(self, key_id: str) -> Caller | None:
        return self.now

    async def hold(self, amount: int, who: Caller | None = None) -> Hold:
        who = who or caller()
        return self.treasury.try_hold(who, amount) or await self.treasury.hold(who, amount)

    async def beat(self) -> None:
        rows = self.treasury._rows(0)
        await self.treasury._request(0, Beat(instance=ME, rows=rows, sent_ms=self.clock.monotonic_ms()))

    def holds(self) -> int:
        return sum(wallet.holds for wallet in self.treasury._wallets.values())


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "POLICY_RETRY_S", 0)
    made = World()
    async with asyncio.timeout(20):
        yield made
    await made.treasury._tasks.close()


async def settled(task: "asyncio.Task[Hold]") -> Hold | BaseException:
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


async def until_asked(world: World, count: int = 1) -> None:
    while len(world.enforcer.asks) < count:  # noqa: ASYNC110 - a count, not an event
        await asyncio.sleep(0)


async def test_asks_once_then_admits_from_memory(world: World) -> None:
    assert world.treasury.try_hold(caller(), 100) is None
    hold = await world.hold(100)
    assert (hold.amount, hold.windows) == (100, TERM)
    world.treasury.settle(hold, 40)
    again = world.treasury.try_hold(caller(), 60)
    assert again is not None
    assert len(world.enforcer.asks) == 1
    ask = world.enforcer.asks[0]
    assert (ask.need, ask.want, ask.lineage, ask.key_id) == (100, 100, (ACCOUNT,), "k1")


async def test_what_waits_is_asked_for_together(world: World) -> None:
    world.enforcer.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.hold(100))]
    await until_asked(world)
    tasks += [asyncio.create_task(world.hold(amount)) for amount in (10, 20, 30)]
    await asyncio.sleep(0)
    world.enforcer.gate.set()
    holds = await asyncio.gather(*tasks)
    assert [hold.amount for hold in holds] == [100, 10, 20, 30]
    ahead = 100 * HORIZON_MS // DEMAND_TAU_MS  # what the first hold makes likely to come
    assert [(ask.need, ask.want, ask.least) for ask in world.enforcer.asks] == [
        (100, 100, 100),
        (110, 160 + ahead, 10),
    ]
    assert world.holds() == 160


async def test_a_wallet_that_runs_low_asks_before_anybody_waits(world: World) -> None:
    await world.hold(100)
    wallet = next(iter(world.treasury._wallets.values()))
    wallet.learn(1_000, wallet.term, wallet.admit_until_ms)
    world.enforcer.granted[1] = 1_000
    wallet.tight = False
    for _ in range(5):
        assert world.treasury.try_hold(caller(), 100) is not None
    await until_asked(world, 2)
    ahead = world.enforcer.asks[1]
    assert ahead.least == 0
    assert ahead.want > ahead.need
    assert not world.treasury._purses[wallet.key_id].waiting


async def test_reserve_of_another_key_comes_back_before_a_call_is_refused(world: World) -> None:
    world.enforcer.short = "reserved"
    world.treasury.settle(await world.hold(600), 0)
    assert world.enforcer.out() == 600
    hold = await world.hold(700, caller("k2"))
    assert hold.amount == 700
    assert world.enforcer.out() == 700
    assert next(iter(world.treasury._wallets.values())).tight
    with pytest.raises(Denied) as denied:
        await world.hold(400, caller("k1"))  # what k2 holds is for a call in flight
    assert denied.value.verdict == "reserved"


async def test_a_tight_wallet_asks_only_for_what_waits(world: World) -> None:
    await world.hold(100)
    wallet = next(iter(world.treasury._wallets.values()))
    wallet.tight = True
    await world.hold(10)
    assert world.enforcer.asks[1].want == world.enforcer.asks[1].need


async def test_nobody_overtakes(world: World) -> None:
    await world.hold(100)
    wallet = next(iter(world.treasury._wallets.values()))
    wallet.granted += 50
    world.enforcer.granted[1] += 50
    world.enforcer.gate = asyncio.Event()
    large = asyncio.create_task(world.hold(80))
    await until_asked(world, 2)
    assert world.treasury.try_hold(caller(), 10) is None
    world.enforcer.gate.set()
    assert (await large).amount == 80


async def test_exceeded_denies_the_first_and_all_as_large(world: World) -> None:
    world.enforcer.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.hold(amount)) for amount in (2_000, 3_000, 500, 2_000, 400)]
    await until_asked(world)
    world.enforcer.gate.set()
    results = [await settled(task) for task in tasks]
    assert [type(result) for result in results] == [Denied, Denied, Hold, Denied, Hold]
    denied = results[0]
    assert isinstance(denied, Denied)
    assert (denied.verdict, denied.refusal.limit) == ("exceeded", 1_000)
    assert world.holds() == 900


async def test_reserved_is_told_as_such(world: World) -> None:
    world.enforcer.verdict = "reserved"
    with pytest.raises(Denied) as denied:
        await world.hold(10)
    assert denied.value.verdict == "reserved"


async def test_a_smaller_call_is_not_denied_for_a_larger_one_that_gave_up(world: World) -> None:
    world.enforcer.gate = asyncio.Event()
    large = asyncio.create_task(world.hold(2_000))
    await until_asked(world)
    small = asyncio.create_task(world.hold(500))
    await asyncio.sleep(0)
    large.cancel()
    assert isinstance(await settled(large), asyncio.CancelledError)
    world.enforcer.gate.set()
    assert (await small).amount == 500


@pytest.mark.parametrize("fault", ["lost", "answer_lost", "not_active"])
async def test_a_lost_message_is_sent_again_unchanged(world: World, fault: str) -> None:
    world.enforcer.faults.extend([fault, fault])  # type: ignore[list-item]
    assert (await world.hold(100)).amount == 100
    assert len({data for _, data in world.bus.requests}) == 1
    assert len(world.bus.requests) == 3
    assert world.enforcer.out() == 100


async def test_nobody_answers(world: World) -> None:
    started = world.clock.monotonic_ms()
    world.enforcer.faults.extend(["lost"] * 100)
    tasks = [asyncio.create_task(world.hold(amount)) for amount in (10, 20)]
    assert [type(await settled(task)) for task in tasks] == [Unreachable, Unreachable]
    assert ASK_WAIT_MS <= world.clock.monotonic_ms() - started < 2 * ASK_WAIT_MS
    assert world.holds() == 0
    world.enforcer.faults.clear()
    assert (await world.hold(10)).amount == 10


async def test_an_answer_nobody_understands_is_no_answer(world: World) -> None:
    world.enforcer.faults.append("garbage")
    world.clock.ms += 1
    assert (await world.hold(10)).amount == 10


@pytest.mark.parametrize("admit_for_ms", [0, -5])
async def test_answers_that_never_help_are_not_asked_for_ever(world: World, admit_for_ms: int) -> None:
    world.enforcer.admit_for_ms = admit_for_ms
    world.enforcer.on_ask = lambda _: world.clock.advance(0.1)
    with pytest.raises(Unreachable):
        await world.hold(10)
    assert len(world.enforcer.asks) < 30


async def test_policy_means_ask_anew_with_what_is_known_now(world: World) -> None:
    newer = caller(accounts=(ACCOUNT, AccountId("acc-team")), rev=9)

    def on_ask(_: object) -> None:
        world.now = newer
        world.enforcer.verdict = None if len(world.enforcer.asks) > 1 else "policy"

    world.enforcer.verdict = "policy"
    world.enforcer.on_ask = on_ask
    hold = await world.hold(10)
    first, second = world.enforcer.asks
    assert (first.serial, first.policy_rev, second.serial, second.policy_rev) == (1, 1, 2, 9)
    assert hold.wallet.lineage == newer.accounts


async def test_refusals_of_a_deposed_enforcer_are_not_believed(world: World) -> None:
    world.enforcer.epoch = 5
    await world.hold(10)
    world.enforcer.epoch = 4
    world.enforcer.verdict = "exceeded"

    def on_ask(_: object) -> None:
        if len(world.enforcer.asks) > 2:
            world.enforcer.epoch, world.enforcer.verdict = 6, None

    world.enforcer.on_ask = on_ask
    assert (await world.hold(20)).amount == 20


async def test_closed_ends_everything_under_this_name(world: World) -> None:
    await world.hold(10)
    wallet = next(iter(world.treasury._wallets.values()))
    wallet.granted += 100
    world.enforcer.verdict = "closed"
    world.enforcer.on_ask = lambda _: world.clock.advance(0.5)
    with pytest.raises(Unreachable):
        await world.hold(200)
    assert world.treasury.closed.is_set()
    assert world.treasury.try_hold(caller(), 1) is None


async def test_no_hold_after_the_lease(world: World) -> None:
    world.enforcer.admit_for_ms = 10 * LEASE_MS
    hold = await world.hold(100)
    world.treasury.settle(hold, 0)
    world.clock.advance(LEASE_MS / 1_000)
    assert world.treasury.try_hold(caller(), 10) is None
    assert (await world.hold(10)).amount == 10


async def test_a_new_window_is_a_new_allotment(world: World) -> None:
    world.enforcer.admit_for_ms = 1_000
    hold = await world.hold(100)
    world.clock.advance(1)
    other = await world.hold(50)
    assert (hold.wallet.serial, other.wallet.serial) == (1, 2)
    assert hold.wallet.draining
    world.treasury.settle(hold, 30)
    await world.treasury.give_back()
    assert world.enforcer.returned[1] == 70


async def test_a_changed_lineage_is_a_new_allotment(world: World) -> None:
    first = await world.hold(100)
    world.now = caller(accounts=(ACCOUNT, AccountId("acc-team")))
    second = await world.hold(100, world.now)
    assert first.wallet is not second.wallet
    assert first.wallet.draining


async def test_a_caller_who_gives_up_leaves_no_hold(world: World) -> None:
    world.enforcer.gate = asyncio.Event()
    task = asyncio.create_task(world.hold(100))
    await until_asked(world)
    task.cancel()
    assert isinstance(await settled(task), asyncio.CancelledError)
    world.enforcer.gate.set()
    await world.hold(10)
    assert world.holds() == 10


async def test_giving_up_in_the_very_moment_of_the_grant_leaves_no_hold(world: World) -> None:
    world.enforcer.gate = asyncio.Event()
    task = asyncio.create_task(world.hold(100))
    await until_asked(world)
    (purse,) = world.treasury._purses.values()
    wallet = purse.wallet
    wallet.learn(100, TERM, 10**9)
    world.treasury._lease_until_ms[0] = 10**9
    assert not world.treasury._admit_waiting(purse)
    assert world.holds() == 100
    task.cancel()
    assert isinstance(await settled(task), asyncio.CancelledError)
    assert world.holds() == 0
    world.enforcer.gate.set()


async def test_idle_money_goes_back_and_the_wallet_is_forgotten(world: World) -> None:
    hold = await world.hold(100)
    world.treasury.settle(hold, 40)
    world.clock.advance(10)
    await world.treasury.give_back()
    assert (world.enforcer.out(), world.enforcer.spent[1]) == (40, 40)
    world.clock.advance(600)
    await world.treasury.give_back()
    assert world.treasury._wallets == {}
    assert world.treasury._purses == {}
    assert (await world.hold(10)).wallet.serial == 2


async def test_a_return_that_was_lost_is_repeated(world: World) -> None:
    hold = await world.hold(100)
    world.treasury.settle(hold, 40)
    world.clock.advance(10)
    world.enforcer.faults.extend(["lost"] * 100)
    await world.treasury.give_back()
    assert world.enforcer.out() == 100
    world.enforcer.faults.clear()
    await world.treasury.give_back()
    assert world.enforcer.out() == 40
    count = len(world.enforcer.heard)
    await world.treasury.give_back()
    assert len(world.enforcer.heard) == count


async def test_a_late_grant_for_a_forgotten_wallet_goes_back(world: World) -> None:
    hold = await world.hold(100)
    world.treasury.settle(hold, 40)
    world.clock.advance(600)
    await world.treasury.give_back()
    await world.treasury.give_back()
    assert world.treasury._wallets == {}
    world.enforcer.granted[1] += 55  # a late copy of an old ask
    await world.hold(10)
    world.clock.advance(6)
    await world.beat()  # the acknowledgement shows it …
    await world.treasury.give_back()  # … and this gives it back
    assert world.enforcer.granted[1] - world.enforcer.returned[1] == 40


async def test_a_grant_whose_answer_was_lost_goes_back(world: World) -> None:
    world.enforcer.faults.extend(["answer_lost"] * 8)
    with pytest.raises(Unreachable):
        await world.hold(100)
    assert world.enforcer.out() == 100
    world.enforcer.faults.clear()
    await world.beat()
    world.clock.advance(10)
    await world.treasury.give_back()
    assert world.enforcer.out() == 0


async def test_every_return_is_told_however_many_wallets_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_MAX", 2)
    for number in range(7):
        hold = await world.hold(10, caller(f"k{number}"))
        world.treasury.settle(hold, 1)
    world.clock.advance(10)
    for _ in range(4):
        await world.treasury.give_back()
    assert world.enforcer.out() == 7
    assert all(len(request.rows) <= 2 for request in world.enforcer.heard if isinstance(request, Return))


async def test_the_end_gives_all_back_but_running_calls(world: World) -> None:
    hold = await world.hold(100)
    other = await world.hold(200, caller("k2"))
    world.treasury.settle(hold, 30)
    await world.treasury.close()
    assert world.enforcer.out() == 30 + other.amount


async def test_the_end_leaves_nobody_waiting(world: World) -> None:
    world.enforcer.gate = asyncio.Event()
    task = asyncio.create_task(world.hold(100))
    await until_asked(world)
    await world.treasury._tasks.close()
    assert isinstance(await settled(task), Unreachable)
    gc.collect()


async def test_too_many_waiters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITERS_MAX", 1)
    world.enforcer.gate = asyncio.Event()
    first = asyncio.create_task(world.hold(100))
    await until_asked(world)
    with pytest.raises(Unreachable):
        await world.hold(100)
    world.enforcer.gate.set()
    assert (await first).amount == 100


async def test_closing_an_instance(world: World) -> None:
    bus = cast(Bus, world.bus)
    world.enforcer.faults.extend(["lost", "not_active", "garbage"])
    assert await close_instance(bus, world.clock, ME, 0, 7, 5)
    world.enforcer.faults.extend(["lost"] * 100)
    assert not await close_instance(bus, world.clock, ME, 0, 7, 1)
