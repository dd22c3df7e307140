"""The treasury: the bank with a loop, a bus and a directory. What the bank decides is tested without them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Literal, cast

import pytest

from services.proxy import treasury as module
from services.proxy.closing import close_instance
from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller, Lineage
from services.proxy.domain.money.figures import UNKNOWN, Figures
from services.proxy.domain.money.purse import BankTuning
from services.proxy.holds import Denied, Hold, Unreachable
from services.proxy.levels import Levels
from services.proxy.treasury import Treasury
from shared.allotment import ASK_WAIT_MS, EXCEEDED_TTL_MS, LEASE_MS, Level, Recall, Return, encode
from shared.bus import Bus
from shared.ids import AccountId, InstanceId, KeyId, OrgId
from shared.policy import Budget
from shared.topology import allot_subject
from shared.windows import WindowSpec
from tests.fakes.bus import FakeBus
from tests.fakes.enforcer import ACCOUNT, TERM, FakeEnforcer
from tests.support.clock import FakeClock

ME = InstanceId("me")
WINDOW = WindowSpec(anchor=datetime(2026, 3, 1, tzinfo=UTC))


def lineage(*accounts: AccountId, model: str = "") -> Lineage:
    return Lineage(accounts=accounts, watched=(), strict=False, model=model)


def caller(key: str = "k1", *, accounts: tuple[AccountId, ...] = (ACCOUNT,), rev: int = 1) -> Caller:
    return Caller(
        key_id=KeyId(key), org_id=OrgId("o"), team_id=None, blocked=None, expires_at=None, model_lists=(), budgets=(),
        policy_rev=rev, partition=0, common=lineage(*accounts), limits=(),
    )  # fmt: skip


def budget(account: str, model: str | None = None) -> Budget:
    return Budget(
        account=AccountId(account), scope_kind="key", scope_id="k1", window=WINDOW, limit_nusd=1_000, model=model
    )


def modelled(budgets: tuple[Budget, ...]) -> Caller:
    return Caller(
        key_id=KeyId("k1"), org_id=OrgId("o"), team_id=None, blocked=None, expires_at=None, model_lists=(),
        budgets=budgets, policy_rev=1, partition=0, common=None, limits=(),
    )  # fmt: skip


class World:
    """A treasury that talks to a fake enforcer over a fake bus."""

    def __init__(self, limit: int = 1_000) -> None:
        self.clock = FakeClock()
        self.enforcer = FakeEnforcer(self.clock, limit)
        self.bus = FakeBus(responders={allot_subject(0): self.enforcer})
        self.callers: dict[str, Caller] = {}
        self.treasury = Treasury(cast(Bus, self.bus), cast(Directory, self), self.clock, ME, 1)

    def current(self, key_id: str) -> Caller | None:
        return self.callers.get(key_id)

    def who(self, key: str = "k1") -> Caller:
        return self.callers.setdefault(key, caller(key))

    def try_hold(self, amount: int, who: Caller | None = None, most: int = 0) -> Hold | None:
        who = who or self.who()
        return self.treasury.try_hold(who, who.lineage("m"), amount, most or amount)

    async def hold(self, amount: int, who: Caller | None = None, most: int = 0) -> Hold:
        who = who or self.who()
        most = most or amount
        return self.try_hold(amount, who, most) or await self.treasury.hold(who, who.lineage("m"), amount, most)

    async def pass_(self, seconds: float) -> None:
        """Let time pass, a tenth of a second at a time, and answers come in."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.treasury.tick()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def holds(self) -> int:
        return self.treasury.bank.vault.held_nusd()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with asyncio.timeout(20):
        yield made
    await made.treasury.stop()


async def settled(task: "asyncio.Task[Hold]") -> Hold | BaseException:
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


async def until_asked(world: World, count: int = 1) -> None:
    while len(world.enforcer.asks) < count:  # noqa: ASYNC110 - a count, not an event
        await asyncio.sleep(0)


async def test_asks_once_then_admits_from_memory(world: World) -> None:
    assert world.try_hold(100) is None
    hold = await world.hold(100)
    assert (hold.amount, hold.windows, hold.serial) == (100, TERM, 1)
    world.treasury.settle(hold, 40)
    assert world.try_hold(60) is not None
    assert len(world.enforcer.asks) == 1
    ask = world.enforcer.asks[0]
    assert (ask.need, ask.want, ask.lineage, ask.key_id, ask.instance) == (100, 100, (ACCOUNT,), "k1", ME)


async def test_a_range_takes_what_the_ledger_gives(world: World) -> None:
    assert (await world.hold(100, most=5_000)).amount == 1_000


async def test_refusals_and_what_would_fit(world: World) -> None:
    with pytest.raises(Denied) as denied:
        await world.hold(2_000)
    assert (denied.value.verdict, denied.value.refusal.limit, denied.value.room) == ("exceeded", 1_000, 1_000)
    with pytest.raises(Denied):
        await world.hold(2_000)
    assert len(world.enforcer.asks) == 1


async def test_each_model_with_a_budget_of_its_own_has_its_wallet(world: World) -> None:
    who = modelled((budget("acc-gpt", "gpt-*"), budget("acc-key")))
    for model, accounts in (
        ("gpt-4o", ("acc-gpt", "acc-key")),
        ("gpt-5", ("acc-gpt", "acc-key")),
        ("o3", ("acc-key",)),
    ):
        of_model = who.lineage(model)
        assert of_model.accounts == accounts
        hold = world.treasury.try_hold(who, of_model, 10, 10) or await world.treasury.hold(who, of_model, 10, 10)
        assert hold.wallet.lineage == accounts
        world.treasury.settle(hold, 0)
        again = world.treasury.try_hold(who, of_model, 10, 10)
        assert again is not None
        world.treasury.settle(again, 0)
    assert {(ask.model, ask.serial) for ask in world.enforcer.asks} == {("gpt-4o", 1), ("o3", 2)}


@pytest.mark.parametrize("fault", ["lost", "answer_lost", "not_active", "garbage"])
async def test_a_lost_message_is_sent_again_unchanged(world: World, fault: str) -> None:
    world.enforcer.faults.extend([fault, fault])
    if fault == "garbage":
        world.enforcer.on_ask = lambda _: None
    task = asyncio.create_task(world.hold(100))
    while not task.done():
        await world.pass_(0.1)
    assert (await task).amount == 100
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


async def test_policy_means_ask_anew_with_what_is_known_now(world: World) -> None:
    newer = caller(accounts=(ACCOUNT, AccountId("acc-team")), rev=9)

    def on_ask(_: object) -> None:
        world.callers["k1"] = newer
        world.enforcer.verdict = None if len(world.enforcer.asks) > 1 else "policy"

    world.enforcer.verdict = "policy"
    world.enforcer.on_ask = on_ask
    hold = await world.hold(10)
    first, second = world.enforcer.asks
    assert (first.serial, first.policy_rev, second.serial, second.policy_rev) == (1, 1, 2, 9)
    assert hold.wallet.lineage == newer.lineage("m").accounts


async def test_a_call_that_began_before_models_mattered_comes_again(world: World) -> None:
    def on_ask(_: object) -> None:
        world.callers["k1"] = modelled((budget("acc-gpt", "gpt-*"), budget("acc-key")))

    world.enforcer.verdict = "policy"
    world.enforcer.on_ask = on_ask
    with pytest.raises(Unreachable):
        await world.hold(10)
    assert len(world.enforcer.asks) == 1


async def test_no_hold_after_the_lease(world: World) -> None:
    world.enforcer.admit_for_ms = 10 * LEASE_MS
    world.treasury.settle(await world.hold(100), 0)
    assert world.treasury.lease_left_s() == LEASE_MS / 1_000
    world.clock.advance(LEASE_MS / 1_000)
    assert world.try_hold(10) is None
    assert world.treasury.lease_left_s() == 0
    assert (await world.hold(10)).amount == 10


async def test_idle_money_goes_back(world: World) -> None:
    world.treasury.settle(await world.hold(100), 40)
    await world.pass_(7)
    assert (world.enforcer.out(), world.enforcer.spent[1]) == (40, 40)


async def test_a_late_grant_goes_back(world: World) -> None:
    world.enforcer.faults.extend(["answer_lost"] * 8)
    with pytest.raises(Unreachable):
        await world.hold(100)
    assert world.enforcer.out() == 100
    await world.pass_(10)
    assert world.enforcer.out() == 0


async def test_a_recall_is_answered_at_once(world: World) -> None:
    world.treasury.settle(await world.hold(600), 100)
    recall = encode(Recall(epoch=1, account=ACCOUNT, known=()))
    world.treasury.recalled(world.treasury.bank, 0, b"rubbish")
    world.treasury.recalled(world.treasury.bank, 0, recall)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert isinstance(world.enforcer.heard[-1], Return)
    assert world.enforcer.out() == 100


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
    first = await world.hold(100)
    world.enforcer.gate = asyncio.Event()
    task = asyncio.create_task(world.hold(90))
    await until_asked(world, 2)
    world.treasury.settle(first, 10)
    assert world.holds() == 90
    task.cancel()
    assert isinstance(await settled(task), asyncio.CancelledError)
    assert world.holds() == 0
    world.enforcer.gate.set()


async def test_giving_up_just_before_the_grant_leaves_no_hold(world: World) -> None:
    first = await world.hold(100)
    world.enforcer.gate = asyncio.Event()
    task = asyncio.create_task(world.hold(90))
    await until_asked(world, 2)
    task.cancel()
    world.treasury.settle(first, 10)
    assert isinstance(await settled(task), asyncio.CancelledError)
    assert world.holds() == 0
    world.enforcer.gate.set()


async def test_the_end_gives_all_back_but_running_calls(world: World) -> None:
    hold = await world.hold(100)
    other = await world.hold(200, world.who("k2"))
    world.treasury.settle(hold, 30)
    await world.treasury.close()
    assert world.enforcer.out() == 30 + other.amount


async def test_the_end_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_WAIT_S", 0.01)
    world.treasury.settle(await world.hold(100), 30)
    world.enforcer.gate = asyncio.Event()
    await world.treasury.close()


async def test_the_end_leaves_nobody_waiting(world: World) -> None:
    world.enforcer.gate = asyncio.Event()
    task = asyncio.create_task(world.hold(100))
    await until_asked(world)
    await world.treasury.stop()
    assert isinstance(await settled(task), Unreachable)
    gc.collect()


# ---- a new name --------------------------------------------------------------------------------------

HEIR = InstanceId("heir")


async def test_figures_are_as_told_and_own_cost_comes_on_top(world: World) -> None:
    world.enforcer.others = 300
    assert world.treasury.figures(None) == UNKNOWN
    hold = await world.hold(100)
    assert world.treasury.figures(hold) == Figures(300, 700)
    world.treasury.settle(hold, 40)
    assert world.treasury.figures(hold) == Figures(340, 660)
    asked = len(world.bus.requests)
    world.enforcer.others = 500
    await world.pass_(0.1)
    assert (world.treasury.figures(hold), len(world.bus.requests)) == (Figures(340, 660), asked), "no message for it"
    more = await world.hold(500)
    assert world.treasury.figures(more) == Figures(540, 460)
    world.treasury.settle(more, 10)
    assert world.treasury.figures(hold) == Figures(550, 450)


async def test_a_ledger_without_figures_leaves_them_unknown(world: World) -> None:
    hold = await world.hold(100)
    world.treasury.settle(hold, 40)
    assert world.treasury.figures(hold) == UNKNOWN


async def test_figures_after_the_instance_was_closed(world: World) -> None:
    world.enforcer.others = 300
    old = await world.hold(100)
    world.enforcer.verdict = "closed"
    waits = asyncio.create_task(world.hold(500))
    await world.treasury.closed.wait()
    world.enforcer.verdict, world.enforcer.others = None, 305
    world.enforcer.granted.clear()
    world.treasury.renew(HEIR)
    new = await waits
    assert world.treasury.figures(new) == Figures(305, 695)
    world.treasury.settle(old, 60)
    world.treasury.settle(new, 7)
    assert (world.treasury.figures(old), world.treasury.figures(new)) == (Figures(360, 640), Figures(312, 688))


async def test_a_level_refreshes_the_figures(world: World) -> None:
    world.enforcer.others = 300
    hold = await world.hold(100)
    world.treasury.level(Level(account=ACCOUNT, state="soft", window_index=4, seq=1, limit=1_000, spent=800))
    assert world.treasury.figures(hold) == Figures(800, 200)


async def test_closed_is_told_and_nothing_more_is_held_under_that_name(world: World) -> None:
    await world.hold(10)
    world.enforcer.verdict = "closed"
    task = asyncio.create_task(world.hold(200))
    await world.treasury.closed.wait()
    assert world.try_hold(1) is None
    assert not task.done()
    world.enforcer.verdict = None
    world.treasury.renew(HEIR)
    hold = await task
    assert (hold.serial, world.enforcer.asks[-1].instance, hold.wallet.rseq) == (1, HEIR, 1)
    assert not world.treasury.closed.is_set()


async def test_calls_of_the_old_name_settle_there(world: World) -> None:
    old = await world.hold(10)
    bank = world.treasury.bank
    world.enforcer.verdict = "closed"
    task = asyncio.create_task(world.hold(200))
    await world.treasury.closed.wait()
    world.enforcer.verdict = None
    world.treasury.renew(HEIR)
    new = await task
    world.treasury.settle(old, 7)
    assert (old.wallet.spent, old.wallet.holds) == (7, 0)
    assert (bank.vault.held_nusd(), world.holds()) == (0, new.amount)
    world.treasury.recalled(bank, 0, encode(Recall(epoch=1, account=ACCOUNT, known=())))
    assert world.treasury.bank.recalls == 0


async def test_what_was_refused_is_known_under_the_new_name(world: World) -> None:
    with pytest.raises(Denied):
        await world.hold(2_000)
    world.treasury.renew(HEIR)
    with pytest.raises(Denied):
        await world.hold(2_000)
    assert len(world.enforcer.asks) == 1


# ---- levels ------------------------------------------------------------------------------------------


def level(world: World, state: Literal["open", "exhausted"], seq: int, ends_in_s: int | None = None) -> bytes:
    refusal = world.enforcer.refusal() if state == "exhausted" else None
    until_s = None if ends_in_s is None else int(world.clock.now().timestamp()) + ends_in_s
    made = Level(account=ACCOUNT, state=state, window_index=4, seq=seq, least=50, refusal=refusal, until_s=until_s)
    return encode(made)


async def test_an_exhausted_account_is_refused_without_asking(world: World) -> None:
    levels = Levels(cast(Bus, world.bus), world.treasury)
    levels.mirror._on_load({ACCOUNT: level(world, "exhausted", 1)})
    with pytest.raises(Denied) as denied:
        await world.hold(50)
    assert denied.value.refusal.account == ACCOUNT
    assert (levels.exhausted, world.enforcer.asks) == (1, [])
    levels.mirror._on_put(ACCOUNT, level(world, "open", 2))
    assert (await world.hold(50)).amount == 50
    assert levels.exhausted == 0


async def test_a_level_ends_with_its_window(world: World) -> None:
    levels = Levels(cast(Bus, world.bus), world.treasury)
    levels.mirror._on_put(ACCOUNT, level(world, "exhausted", 1, ends_in_s=2))
    with pytest.raises(Denied):
        await world.hold(50)
    world.clock.advance(2)
    assert (await world.hold(50)).amount == 50


@pytest.mark.parametrize("how", ["removed", "missing", "rubbish", "another"])
async def test_a_level_that_is_gone_or_unreadable_refuses_nobody(world: World, how: str) -> None:
    levels = Levels(cast(Bus, world.bus), world.treasury)
    levels.mirror._on_put(ACCOUNT, level(world, "exhausted", 1))
    match how:
        case "removed":
            levels.mirror._on_remove(ACCOUNT)
        case "missing":
            levels.mirror._on_load({})
        case "rubbish":
            levels.mirror._on_put(ACCOUNT, b"rubbish")
        case _:
            levels.mirror._on_put("other", level(world, "open", 2))
            levels.mirror._on_remove(ACCOUNT)
    assert (await world.hold(50)).amount == 50


async def test_one_call_checks_a_level_now_and_then(world: World) -> None:
    levels = Levels(cast(Bus, world.bus), world.treasury)
    levels.mirror._on_put(ACCOUNT, level(world, "exhausted", 1))
    world.clock.advance(EXCEEDED_TTL_MS / 1_000)
    assert (await world.hold(50)).amount == 50


async def test_tuning_is_the_banks(world: World) -> None:
    treasury = Treasury(cast(Bus, world.bus), cast(Directory, world), world.clock, ME, 1, BankTuning(waiters_max=0))
    with pytest.raises(Unreachable):
        await treasury.hold(world.who(), world.who().lineage("m"), 1, 1)
    await treasury.stop()


async def test_closing_an_instance(world: World) -> None:
    bus = cast(Bus, world.bus)
    world.enforcer.faults.extend(["lost", "not_active", "garbage"])
    assert await close_instance(bus, world.clock, ME, 0, 7, 5)
    world.enforcer.faults.extend(["lost"] * 100)
    assert not await close_instance(bus, world.clock, ME, 0, 7, 1)
