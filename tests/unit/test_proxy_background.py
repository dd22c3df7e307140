"""Responses in the background: charged once, by the call, by a watcher, or by the journal of a process that died."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from services.proxy.call import Call
from services.proxy.domain.objects.records import Pending
from services.proxy.recovery import Recovered, recover_all
from services.proxy.stored import background as module
from services.proxy.upstream import UpstreamError
from shared.bus import Bus
from shared.events import UsageRecorded
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import KeyRecord
from shared.topology import key_kv, pending_kv
from tests.support.stored_world import IN, OUT, SEAL, STRICT, TEAM_A, TEAM_B, World, settle_down

USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
COST = 10 * IN + 5 * OUT
HOLD = 1_000_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "journal")
    quick(made.one)
    async with asyncio.timeout(30):
        yield made
    await made.close()


def quick(process: Any) -> None:
    async def wait(_nudge: asyncio.Event, _seconds: float) -> None:
        await asyncio.sleep(0)

    process.background._wait = wait


async def begun(world: World, key: str = "limited", status: str = "queued") -> tuple[Call, str]:
    """A call whose response Foundry makes in the background; with Foundry's id."""
    call = await world.call(world.one, key, hold=HOLD)
    _, name = world.response(key, status=status)
    await world.one.stored.background.begin(call, msgspec.json.encode(world.foundry.responses[name]))
    return call, name


def finish(world: World, name: str, status: str = "completed", usage: Any = USAGE) -> None:
    world.foundry.responses[name].update(status=status, usage=usage)


async def until(true: Callable[[], bool]) -> None:
    """Let tasks run until something is so, and a little longer."""
    for _ in range(100_000):
        if true():
            break
        await asyncio.sleep(0)
    assert true()
    await settle_down()


async def settled(world: World, call: Call) -> UsageRecorded:
    await until(lambda: call.settled)
    (event,) = [event for event in world.one.own_events() if event.call_id == call.call_id]
    assert sum(wallet.holds for wallet in world.one.treasury.bank.vault.wallets.values()) == 0
    return event


def entry(world: World, call: Call) -> Pending | None:
    found = world.pending.content.get(pending_kv("response", call.call_id))
    return None if found is None else msgspec.json.decode(found.value, type=Pending)


def over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of calls is up."""
    monkeypatch.setattr(module, "BACKGROUND_HOLD_S", -1.0)


async def test_the_call_keeps_its_hold_and_is_settled_when_the_response_is_done(world: World) -> None:
    call, name = await begun(world)
    await settle_down()
    assert not call.settled
    assert sum(wallet.holds for wallet in world.one.treasury.bank.vault.wallets.values()) == HOLD
    running = entry(world, call)
    assert running is not None
    assert (running.state, running.upstream) == ("running", name)
    finish(world, name)
    event = await settled(world, call)
    assert (event.cost_nusd, event.held_nusd, event.measured, event.outcome) == (COST, HOLD, "reported", "ok")
    assert entry(world, call) is None
    world.clock.advance(3_600)
    await world.one.watcher.tick()
    assert world.published() == []


async def test_a_response_that_is_done_at_once(world: World) -> None:
    call = await world.call(world.one, TEAM_A)
    _, name = world.response(TEAM_A, usage=USAGE)
    await world.one.stored.background.begin(call, msgspec.json.encode(world.foundry.responses[name]))
    assert (await settled(world, call)).cost_nusd == COST
    assert world.foundry.requests == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"id":""}'])
async def test_a_reply_that_names_no_response_is_charged_at_the_hold(world: World, body: bytes) -> None:
    call = await world.call(world.one, "limited", hold=HOLD)
    await world.one.stored.background.begin(call, body)
    assert (await settled(world, call)).cost_nusd == HOLD


@pytest.mark.parametrize(
    ("status", "usage", "cost", "outcome", "measured"),
    [
        ("incomplete", USAGE, COST, "ok", "reported"),
        ("cancelled", USAGE, COST, "client_gone", "reported"),
        ("cancelled", None, 3 * IN, "client_gone", "estimated"),
        ("failed", None, 0, "upstream_error", "reported"),
        ("failed", USAGE, COST, "upstream_error", "reported"),
    ],
)
async def test_how_responses_end(world: World, status: str, usage: Any, cost: int, outcome: str, measured: str) -> None:
    call, name = await begun(world)
    finish(world, name, status, usage)
    event = await settled(world, call)
    assert (event.cost_nusd, event.outcome, event.measured) == (cost, outcome, measured)


FILTERED = {"code": "content_filter", "message": "The prompt was filtered."}


async def test_a_prompt_that_the_filter_refused_is_charged(world: World) -> None:
    call, name = await begun(world)
    finish(world, name, "failed", None)
    world.foundry.responses[name]["error"] = FILTERED
    event = await settled(world, call)
    assert (event.cost_nusd, event.outcome, event.measured) == (3 * IN, "filtered", "estimated")


async def test_also_when_it_was_handed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    over(monkeypatch)
    call, name = await begun(world)
    assert (await settled(world, call)).cost_nusd == 0
    finish(world, name, "failed", None)
    world.foundry.responses[name]["error"] = FILTERED
    world.clock.advance(60)
    await world.one.watcher.tick()
    (charged,) = world.published()
    assert (charged.cost_nusd, charged.outcome, charged.measured) == (3 * IN, "filtered", "estimated")


async def test_a_response_that_is_gone_is_charged_at_the_hold(world: World) -> None:
    call, name = await begun(world)
    del world.foundry.responses[name]
    event = await settled(world, call)
    assert (event.cost_nusd, event.measured) == (HOLD, "lost")
    assert entry(world, call) is None


async def test_what_goes_wrong_on_the_way_is_tried_again(world: World) -> None:
    world.foundry.fail = [UpstreamError("connect", "x"), (500, b""), (200, b"<html>"), (200, b'{"id":"resp_x"}')]
    call, name = await begun(world)
    finish(world, name)
    assert (await settled(world, call)).cost_nusd == COST


async def test_a_defect_of_ours_is_charged_at_the_hold_and_leaves_nothing_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> bool:
        raise RuntimeError("a defect")

    monkeypatch.setattr(world.one.background, "_look", broken)
    call, _ = await begun(world)
    assert (await settled(world, call)).cost_nusd == HOLD
    assert entry(world, call) is None
    assert world.one.background.running == 0


async def test_a_strict_budget_is_charged_the_hold_when_the_time_is_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(monkeypatch)
    call, name = await begun(world, STRICT)
    event = await settled(world, call)
    assert (event.cost_nusd, event.measured) == (HOLD, "lost")
    finish(world, name)
    world.clock.advance(3_600)
    await world.one.watcher.tick()
    assert world.published() == []


async def test_any_other_is_handed_over_and_charged_by_any_process(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(monkeypatch)
    call, name = await begun(world)
    event = await settled(world, call)
    assert (event.cost_nusd, event.outcome) == (0, "unknown")
    other = world.process()
    await other.watcher.tick()
    assert world.published() == []
    finish(world, name)
    world.clock.advance(60)
    await asyncio.gather(world.one.watcher.tick(), other.watcher.tick())
    (charged,) = world.published()
    assert (charged.cost_nusd, charged.call_id, charged.attempt) == (COST, call.call_id, 2)
    assert (charged.key_id, charged.endpoint, charged.measured) == ("limited", "responses", "reported")
    assert [window.account for window in charged.windows] == ["acc-key"]
    assert await world.one.stored.handed_over(call.call_id)
    for _ in range(3):
        world.clock.advance(600)
        await other.watcher.tick()
    assert len(world.published()) == 1


async def test_who_charges_it_later_knows_the_version_and_the_tags(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(monkeypatch)
    record = KeyRecord(seq=99, key_id=KeyId("limited"), org_id=OrgId("o1"), team_id=TeamId("team_a"), newest=3)

    def tag(*tags: str) -> None:
        world.directory._put_key(key_kv("limited"), msgspec.json.encode(msgspec.structs.replace(record, tags=tags)))

    tag("a")
    call, name = await begun(world)
    tag("later")
    event = await settled(world, call)
    assert (event.tags, event.secret_version) == (("a",), 3)
    finish(world, name)
    world.clock.advance(60)
    await world.one.watcher.tick()
    (charged,) = world.published()
    assert (charged.tags, charged.secret_version) == (("a",), 3)


@pytest.mark.parametrize("fail", [["lost"], ["unacked"], ["lost", "unacked"], ["unacked", "lost"]])
async def test_a_hand_over_in_doubt_is_repeated_until_it_is_certain(
    world: World, monkeypatch: pytest.MonkeyPatch, fail: list[str | None]
) -> None:
    over(monkeypatch)
    monkeypatch.setattr(module, "HAND_OVER_RETRY_S", 0.0)
    world.pending.fail = [None, *fail]
    call, name = await begun(world)
    assert (await settled(world, call)).cost_nusd == 0
    world.pending.fail = []
    open_ = entry(world, call)
    assert open_ is not None
    assert open_.state == "open"
    finish(world, name)
    world.clock.advance(60)
    await world.one.watcher.tick()
    assert [event.cost_nusd for event in world.published()] == [COST]


async def test_without_nats_at_the_start_it_is_handed_over_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pending.fail = ["lost"]
    call, name = await begun(world)
    assert entry(world, call) is None
    over(monkeypatch)
    assert (await settled(world, call)).cost_nusd == 0
    finish(world, name)
    world.clock.advance(60)
    await world.one.watcher.tick()
    assert [event.cost_nusd for event in world.published()] == [COST]


# ---- a process that dies -----------------------------------------------------------------------------


async def test_what_a_dead_process_still_held_is_its_journals_to_charge(world: World) -> None:
    call, name = await begun(world)
    world.one.background._running.clear()
    await world.one.tasks.close()
    finish(world, name)
    other = world.process()
    world.clock.advance(3_600)
    await other.watcher.tick()
    assert world.published() == [], "watchers leave it alone"
    assert not await other.stored.handed_over(call.call_id)
    assert entry(world, call) is None, "and nobody can hand it over any more"
    assert not await other.stored.handed_over(call.call_id)


async def test_what_was_handed_over_is_not_the_journals_to_charge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the hand-over and its own settlement: the call is open in its journal."""
    over(monkeypatch)

    def die(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(world.one.till, "settle_free", die)
    call, name = await begun(world)
    await until(lambda: (found := entry(world, call)) is not None and found.state == "open")
    assert not call.settled
    assert world.one.journal.calls_open == 1
    other = world.process()
    assert await other.stored.handed_over(call.call_id), "recovery charges nothing"
    finish(world, name)
    world.clock.advance(60)
    await other.watcher.tick()
    assert [event.cost_nusd for event in world.published()] == [COST]
    assert await other.stored.handed_over(call.call_id), "also when it comes long after"


async def test_a_process_that_ends_hands_over(world: World) -> None:
    call, name = await begun(world)
    strict, _ = await begun(world, STRICT)
    await world.one.stored.drain()
    assert world.one.background.running == 0
    costs = {event.call_id: event.cost_nusd for event in world.one.own_events()}
    assert costs == {call.call_id: 0, strict.call_id: HOLD}
    finish(world, name)
    other = world.process()
    world.clock.advance(60)
    await other.watcher.tick()
    assert [event.cost_nusd for event in world.published()] == [COST]


@pytest.mark.parametrize(("handed", "cost"), [(True, 0), (False, HOLD)])
async def test_recovery_charges_what_watchers_do_not(
    world: World, monkeypatch: pytest.MonkeyPatch, handed: bool, cost: int
) -> None:
    if handed:
        over(monkeypatch)

    def die(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(world.one.till, "settle_free", die)
    call, name = await begun(world)
    await until(lambda: (found := entry(world, call)) is not None and (found.state == "open") is handed)
    await world.one.tasks.close()
    world.processes.remove(world.one)
    world.one.journal.close(remove=False)
    other = world.process()
    await recover_all(
        cast(Bus, world.bus), world.clock, world.root, other.instance, 1, Recovered(), other.stored.handed_over
    )
    finish(world, name)
    world.clock.advance(600)
    await other.watcher.tick()
    charged = {event.instance: event.cost_nusd for event in world.published() if event.call_id == call.call_id}
    assert charged.pop(world.one.instance) == cost
    assert list(charged.values()) == ([COST] if handed else [])
    await world.one.treasury.stop()


# ---- deleting ----------------------------------------------------------------------------------------


async def test_a_response_is_not_deleted_before_it_is_charged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUDGE_WAIT_S", 0.05)
    call, name = await begun(world, TEAM_A)
    sealed = SEAL.seal("response", "team:team_a", world.deployments["gpt"][0].id, name)
    here = await world.ask(TEAM_A, "DELETE", f"/v1/responses/{sealed}")
    assert (here.status, here.code) == (409, "response_not_charged")
    other = world.process()
    there = await world.ask(TEAM_A, "DELETE", f"/v1/responses/{sealed}", process=other)
    assert there.status == 409
    finish(world, name)
    monkeypatch.setattr(module, "NUDGE_WAIT_S", 5.0)
    assert (await world.ask(TEAM_A, "DELETE", f"/v1/responses/{sealed}")).status == 200
    assert (await settled(world, call)).cost_nusd == COST
    assert (await world.ask(TEAM_B, "DELETE", f"/v1/responses/{sealed}")).status == 404


async def test_one_that_was_handed_over_is_charged_and_then_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(monkeypatch)
    call, name = await begun(world, TEAM_A)
    await settled(world, call)
    sealed = SEAL.seal("response", "team:team_a", world.deployments["gpt"][0].id, name)
    assert (await world.ask(TEAM_A, "DELETE", f"/v1/responses/{sealed}")).status == 409
    finish(world, name)
    assert (await world.ask(TEAM_A, "DELETE", f"/v1/responses/{sealed}")).status == 200
    assert [event.cost_nusd for event in world.published()] == [COST]
