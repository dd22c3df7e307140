"""How fast one key may administer."""

from typing import Any

import msgspec
import pytest

from services.auth.api.operations import Ask, Body, Operation
from services.auth.api.pace import ACTORS_MAX, BURST, PER_SECOND, Pace
from services.auth.domain.fields.base import Fields
from services.auth.draws import Draws
from shared.access import MASTER, Principal, Right
from shared.errors import ApiError
from shared.ids import KeyId
from tests.support.clock import FakeClock


class Many(msgspec.Struct):
    keys: list[int]


async def nothing(_ask: Ask) -> None: ...


BASE: dict[str, Any] = {"path": "/x", "summary": "X", "run": nothing, "answer": None}
CHANGE = Operation(method="POST", right=Right.KEY_WRITE, **BASE)
BULK = Operation(
    method="POST",
    right=Right.KEY_WRITE,
    body=Body(fields=Fields(known=("keys",), refused={}), kind=Many),
    changes=lambda body: len(body.keys),
    **BASE,
)
READ = Operation(method="POST", right=Right.KEY_READ, **BASE)
END = Operation(method="POST", right=Right.KEY_WRITE, without_store=True, **BASE)


def by(actor: str, body: object = None) -> Ask:
    return Ask(caller=Principal(role="team_admin", actor=actor, key_id=KeyId(actor)), draws=Draws(), body=body)


def refused(pace: Pace, ask: Ask, operation: Operation = CHANGE) -> ApiError:
    with pytest.raises(ApiError) as error:
        pace.take(operation, ask)
    return error.value


def test_many_at_once_and_then_so_many_per_second() -> None:
    clock = FakeClock()
    pace = Pace(clock)
    for _ in range(BURST):
        pace.take(CHANGE, by("key_a"))
    error = refused(pace, by("key_a"))
    assert (error.status, error.code, error.retry_after_s) == (429, "too_many_changes", 1)
    pace.take(CHANGE, by("key_b"))
    for operation in (READ, END):
        pace.take(operation, by("key_a"))
    clock.advance(1)
    for _ in range(PER_SECOND):
        pace.take(CHANGE, by("key_a"))
    refused(pace, by("key_a"))
    clock.advance(3_600)
    for _ in range(BURST):
        pace.take(CHANGE, by("key_a"))
    refused(pace, by("key_a"))


def test_each_entry_of_a_bulk_call_is_one_change() -> None:
    clock = FakeClock()
    pace = Pace(clock)
    for _ in range(BURST // 100):
        pace.take(BULK, by("key_a", Many(keys=[0] * 100)))
    refused(pace, by("key_a"))
    clock.advance(0.1)
    pace.take(BULK, by("key_a", Many(keys=[0] * 1_000_000)))
    error = refused(pace, by("key_a"))
    assert error.retry_after_s == 15, "what is owed is bounded"


def test_the_master_key_and_services_are_not_held_back() -> None:
    pace = Pace(FakeClock())
    for actor in (MASTER, "service:scheduler"):
        ask = Ask(caller=Principal(role="admin", actor=actor), draws=Draws())
        for _ in range(BURST + 1):
            pace.take(CHANGE, ask)


def test_it_remembers_only_so_many() -> None:
    clock = FakeClock()
    pace = Pace(clock)
    for n in range(ACTORS_MAX):
        pace.take(CHANGE, by(f"key_{n}"))
    for _ in range(BURST):
        pace.take(CHANGE, by("key_x"))
    refused(pace, by("key_x"))
    clock.advance(1)
    pace.take(CHANGE, by("key_y"))
    for _ in range(PER_SECOND):
        pace.take(CHANGE, by("key_x"))
    refused(pace, by("key_x"))
