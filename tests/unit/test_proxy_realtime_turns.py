"""The money of a realtime session: holds before answers, one bill for each, and nothing left open whatever happens."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.proxy.domain.admission import Refused
from services.proxy.domain.deployments import Way
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.realtime import read_server
from services.proxy.realtime.turns import Turns
from tests.support.data_plane import ROW, SECRET, STRICT_SECRET, DataPlane

WAY = Way(url="wss://foundry.example/openai/v1/realtime?model=x", wire=Endpoint.REALTIME)
USED = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    made = DataPlane(tmp_path)
    yield made
    await made.close()


def turns_of(plane: DataPlane, secret: str = SECRET) -> Turns:
    return Turns(
        inference=plane.inference,
        till=plane.till,
        models=plane.inference.models,
        book=PriceBook([ROW]),
        route=Route(endpoint=Endpoint.REALTIME),
        secret=secret,
        model="gpt-4o",
        deployment=plane.models["gpt-4o"][0],
        way=WAY,
        transcribes=False,
    )


def begins(turns: Turns, name: str) -> None:
    turns.answers(read_server(json.dumps({"type": "response.created", "response": {"id": name}}).encode()))


def ends(turns: Turns, name: str, usage: Any = USED, status: str = "completed") -> None:
    data = json.dumps({"type": "response.done", "response": {"id": name, "status": status, "usage": usage}}).encode()
    turns.done(read_server(data), data)


def bills(plane: DataPlane) -> list[tuple[str, bool]]:
    return [(event.measured, event.cost_nusd > 0) for event in plane.events()]


async def test_money_is_held_before_and_given_back_when_nobody_spoke(plane: DataPlane) -> None:
    turns = turns_of(plane)
    await turns.ready()
    assert plane.holds() > 0
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("reported", False)]


async def test_a_refusal_for_money_advises_no_max_tokens(plane: DataPlane) -> None:
    plane.enforcer.limit = 1
    with pytest.raises(Refused) as caught:
        await turns_of(plane).ready()
    assert caught.value.code == "budget_exceeded"
    assert "may cost up to $" in caught.value.message
    assert "max_tokens" not in caught.value.message


async def test_each_answer_is_a_bill(plane: DataPlane) -> None:
    turns = turns_of(plane)
    for name in ("one", "two"):
        await turns.ready()
        begins(turns, name)
        assert turns.answering
        ends(turns, name)
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("reported", True)] * 2
    assert plane.spent() == sum(event.cost_nusd for event in plane.events())


async def test_answers_side_by_side_are_each_held_for(plane: DataPlane) -> None:
    turns = turns_of(plane)
    turns.asked = 3
    await turns.ready()
    held = plane.holds()
    for name in ("one", "two", "three"):
        begins(turns, name)
    assert plane.holds() == held
    for name in ("three", "one", "two"):
        ends(turns, name)
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("reported", True)] * 3


async def test_an_answer_without_a_hold_is_charged_all_the_same(plane: DataPlane) -> None:
    turns = turns_of(plane)
    await turns.ready()
    begins(turns, "held")
    begins(turns, "late")
    ends(turns, "held")
    ends(turns, "late")
    ends(turns, "never heard of")
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("reported", True)] * 3
    late = plane.events()[1]
    assert late.held_nusd == 0
    assert late.serial is None
    assert late.windows


@pytest.mark.parametrize("asked", [0, 1])
async def test_what_is_under_way_at_the_end_is_charged_at_its_hold(plane: DataPlane, asked: int) -> None:
    turns = turns_of(plane)
    turns.asked = 1 + asked
    await turns.ready()
    begins(turns, "cut off")
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("lost", True)] * (1 + asked)
    assert all(event.cost_nusd >= event.held_nusd for event in plane.events())


async def test_a_late_answer_that_is_cut_off_is_not_free(plane: DataPlane) -> None:
    turns = turns_of(plane)
    turns.caller()
    begins(turns, "late")
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("lost", True)]


@pytest.mark.parametrize(("status", "bill"), [("failed", ("reported", False)), ("cancelled", ("lost", True))])
async def test_an_end_without_usage(plane: DataPlane, status: str, bill: tuple[str, bool]) -> None:
    turns = turns_of(plane)
    await turns.ready()
    begins(turns, "one")
    ends(turns, "one", None, status)
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [bill]


async def test_a_renewal_needs_no_second_hold(plane: DataPlane) -> None:
    turns = turns_of(plane)
    await turns.ready()
    held = plane.holds()
    await turns.renew(after_s=0)
    assert plane.holds() == held
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("reported", False)] * 2


async def test_foundrys_refusal_costs_nothing(plane: DataPlane) -> None:
    turns = turns_of(plane)
    await turns.ready()
    turns.refused_by_foundry(429)
    turns.close()
    assert plane.quiet()
    assert bills(plane) == [("reported", False)]


async def test_a_transcription_that_no_budget_covers_is_charged_and_ends_the_session(tmp_path: Path) -> None:
    plane = DataPlane(tmp_path, limit_nusd=60_000_000)
    turns = turns_of(plane)
    await turns.ready()
    data = json.dumps(
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": "item_1",
            "usage": {"type": "tokens", "input_tokens": 900_000, "output_tokens": 100, "total_tokens": 900_100},
        }
    ).encode()
    with pytest.raises(Refused):
        await turns.transcribed(read_server(data), data)
    turns.close()
    assert plane.quiet()
    assert plane.events()[0].usage.input == 900_000
    assert plane.events()[0].cost_nusd > 0
    await plane.close()


async def test_a_strict_budget_takes_no_session(plane: DataPlane) -> None:
    turns = turns_of(plane, STRICT_SECRET)
    with pytest.raises(Refused) as refused:
        await turns.ready()
    assert refused.value.code == "unbounded_cost"
    turns.close()
    assert plane.quiet()
