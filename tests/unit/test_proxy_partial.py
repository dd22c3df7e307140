"""Streams that break off after they have told their prompt: that much is charged at least."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters import Reading, StreamMeter, stream_meter
from services.proxy.domain.paths import Endpoint
from services.proxy.upstream import UpstreamError
from shared.pricing import Usage
from tests.support import wire_streams as wires
from tests.support.relays import Bench, ScriptedReply, call_of
from tests.support.stored_world import IN, OUT, World
from tests.support.wire_streams import data

TOLD = Usage(input=12, cached=100, cache_write=1000, cache_write_1h=24)
"""The prompt that the samples' `message_start` tells."""
HOLD = 1_000_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "journal")
    async with asyncio.timeout(20):
        yield made
    await made.close()


def meter_of(wire: Endpoint, *events: object) -> StreamMeter:
    meter = stream_meter(wire, Asked(model="m", endpoint=wire, stream=True), hide_usage=False, grok=False)
    for event in events:
        meter.feed(data(event))
    return meter


# ---- the meter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [Endpoint.MESSAGES, Endpoint.RAW])
def test_message_start_tells_the_prompt_and_events_of_content_the_output(wire: Endpoint) -> None:
    start = wires.M_START
    assert meter_of(wire, start).partial() == TOLD
    meter = meter_of(wire, start, wires.M_BLOCK, wires.M_DELTA, wires.M_DELTA)
    assert meter.partial() == replace(TOLD, output=2)
    assert meter.reading() == Reading(served_model=wires.CLAUDE, partial=replace(TOLD, output=2))


def test_usage_takes_the_place_of_what_was_partial() -> None:
    meter = meter_of(Endpoint.MESSAGES, *wires.M_EVENTS)
    assert meter.reading().usage is not None
    assert meter.reading().partial is None


@pytest.mark.parametrize(
    "usage", [None, {}, {"input_tokens": -1, "output_tokens": 1}, {"input_tokens": "many"}, {"input_tokens": 10**12}]
)
def test_a_prompt_that_cannot_be_believed_is_not_told(usage: object) -> None:
    start = {"type": "message_start", "message": {"model": wires.CLAUDE, "usage": usage}}
    assert meter_of(Endpoint.MESSAGES, start, wires.M_DELTA).reading().partial is None


def test_other_wires_say_nothing_before_their_end() -> None:
    assert meter_of(Endpoint.RAW).partial() is None
    for wire, event in ((Endpoint.RESPONSES, wires.R_CREATED), (Endpoint.CHAT, {"choices": [], "usage": None})):
        meter = meter_of(wire, event)
        assert (meter.partial(), meter.reading().partial) == (None, None)


# ---- the relay ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [0, 3])
async def test_the_till_is_told_of_it_when_the_connection_breaks(content: int) -> None:
    bench = Bench()
    frames = [data(wires.M_START), data(wires.M_BLOCK), *[data(wires.M_DELTA)] * content]
    reply = ScriptedReply(*frames, UpstreamError("reset", "it was reset"), content_type="text/event-stream")
    await bench.stream(call_of(Endpoint.MESSAGES, dialect="anthropic"), reply)
    settled = bench.settled
    assert (settled.how, settled.whole, settled.usage) == ("reading", False, None)
    assert settled.reading.partial == replace(TOLD, output=content)
    await bench.close()


# ---- the till ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "cost"), [(20_000, 20_000 * IN + 6 * OUT), (10, HOLD)])
@pytest.mark.parametrize("key", ["limited", "strict"])
async def test_a_stream_that_broke_costs_what_it_told_and_never_less_than_its_hold(
    world: World, key: str, prompt: int, cost: int
) -> None:
    call = await world.call(world.one, key, hold=HOLD)
    partial = Usage(input=prompt, output=6)
    world.one.till.settle_reading(call, Reading(partial=partial), 6, outcome="upstream_error", status=200, whole=False)
    (event,) = world.one.own_events()
    assert (event.cost_nusd, event.measured, event.usage) == (cost, "lost", partial)
    assert sum(wallet.spent for wallet in world.one.treasury.bank.vault.wallets.values()) == cost


async def test_a_whole_stream_without_its_last_usage_is_estimated_by_what_it_told(world: World) -> None:
    call = await world.call(world.one, "limited", hold=HOLD)
    partial = Usage(input=700, output=6)
    world.one.till.settle_reading(call, Reading(partial=partial), 6, outcome="ok", status=200)
    (event,) = world.one.own_events()
    assert (event.cost_nusd, event.measured, event.usage) == (700 * IN + 6 * OUT, "estimated", partial)
