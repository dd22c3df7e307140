"""Money refusals: which budget, how much, until when, and what would still fit."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.proxy.domain.admission import Refused
from services.proxy.domain.errors.failures import error_body, failure_of_refusal
from services.proxy.domain.holds.refusal import Wanted, budget_refused, ledger_unreachable
from shared.allotment import Refusal
from shared.ids import AccountId
from shared.pricing import PriceRow, Rates, estimate

ROW = PriceRow(model="m", rates=Rates(input=2_500_000_000, output=10_000_000_000))
REFUSAL = Refusal(
    account=AccountId("a"),
    scope_kind="team",
    scope_id="t1",
    limit=50_000_000,
    spent=49_000_000,
    reserved=1_000,
    room=400_000,
    window_start_s=1_767_225_600,
    window_end_s=1_769_817_600,
    duration="30d",
    alias="search",
)


def refused(
    verdict: str, refusal: Refusal = REFUSAL, row: PriceRow = ROW, prompt: int = 100, choices: int = 1
) -> Refused:
    return budget_refused(
        verdict,
        refusal,
        Wanted(held_nusd=10_000_000, prompt_tokens=prompt, row=row, choices=choices),
        exceeded_status=402,
    )


def test_exceeded_says_it_all() -> None:
    answer = refused("exceeded")
    assert (answer.status, answer.code, answer.kind) == (402, "budget_exceeded", "budget_exceeded")
    assert dict(answer.headers) == {b"x-should-retry": b"false"}
    for part in ("team 'search'", "$0.049", "$0.05", "2026-01-31T00:00:00Z", "up to $0.01", "30d budget of"):
        assert part in answer.message
    assert "$0.05 is spent and $0.000001 is reserved for other calls. It resets at" in answer.message
    assert "ask your platform team to raise it if it must go on before" in answer.message
    assert "would still fit" not in answer.message, "nobody wants an answer of 15 tokens"
    assert "max_tokens of at most 16 would still fit" in refused("exceeded", replace(REFUSAL, room=410_000)).message
    assert answer.extra is not None
    assert answer.extra["budget"] == {
        "scope": "team",
        "scope_id": "t1",
        "alias": "search",
        "model": None,
        "max_budget": 0.05,
        "spend": 0.049,
        "reserved": 0.000001,
        "needed": 0.01,
        "budget_duration": "30d",
        "window_start": "2026-01-01T00:00:00Z",
        "budget_reset_at": "2026-01-31T00:00:00Z",
        "max_tokens_that_fit": 15,
    }
    body = error_body("openai", failure_of_refusal(answer))
    assert json.loads(body)["error"]["budget"]["scope_id"] == "t1"


@pytest.mark.parametrize(
    ("model", "name"), [("gpt-4o", "team 'search' for the model 'gpt-4o'"), ("gpt-*", "for the models 'gpt-*'")]
)
def test_a_budget_for_a_model_is_named(model: str, name: str) -> None:
    answer = refused("exceeded", replace(REFUSAL, model=model))
    assert name in answer.message
    assert answer.extra is not None
    assert cast(dict[str, Any], answer.extra["budget"])["model"] == model
    assert name in refused("reserved", replace(REFUSAL, model=model)).message


def test_the_hint_knows_what_no_cap_holds() -> None:
    def fits(**fields: Any) -> object:
        wanted = Wanted(held_nusd=1, prompt_tokens=100, row=ROW, **fields)
        extra = budget_refused("exceeded", REFUSAL, wanted, exceeded_status=402).extra
        assert extra is not None
        return cast(dict[str, Any], extra["budget"])["max_tokens_that_fit"]

    assert fits() == 15
    assert fits(choices=0) is None
    assert fits(beside=5) == 10
    assert fits(beside=15) is None
    assert fits(beside=5, choices=2) == 5
    assert fits(output_max=7) == 7


@pytest.mark.parametrize("status", [402, 429, 422, 400])
def test_the_status_is_configurable(status: int) -> None:
    answer = budget_refused("exceeded", REFUSAL, Wanted(held_nusd=1, prompt_tokens=1, row=ROW), exceeded_status=status)
    assert answer.status == status


def test_reserved_is_worth_a_retry() -> None:
    answer = refused("reserved", replace(REFUSAL, retry_after_s=7))
    assert (answer.status, answer.code, answer.kind) == (429, "budget_reserved", "budget_reserved")
    assert dict(answer.headers) == {b"retry-after": b"7"}
    assert "Try again in 7 s" in answer.message
    assert "What is left of the 30d budget of the team 'search' ($0.05, $0.049 spent, $0.000001 reserved)" in (
        answer.message
    )
    assert "reserved" not in refused("exceeded", replace(REFUSAL, reserved=0)).message
    assert dict(refused("reserved").headers) == {b"retry-after": b"1"}


def test_a_budget_without_end_and_alias() -> None:
    answer = refused("exceeded", replace(REFUSAL, window_end_s=None, alias=None, duration=""))
    assert answer.message.startswith("The budget of the team t1 does not")
    assert "does not reset" in answer.message
    assert answer.extra is not None
    budget = cast(dict[str, Any], answer.extra["budget"])
    assert budget["budget_reset_at"] is None
    assert budget["budget_duration"] is None


@pytest.mark.parametrize("room", [-5_000_000, 0, 1, 250_000])
def test_nothing_fits(room: int) -> None:
    answer = refused("exceeded", replace(REFUSAL, room=room))
    assert "would still fit" not in answer.message


def test_no_hint_where_output_is_free() -> None:
    free = PriceRow(model="m", rates=Rates(input=1, output=0))
    assert "would still fit" not in refused("exceeded", row=free).message


@given(
    st.integers(0, 10**12),
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.integers(0, 10**11),
    st.integers(1, 10**11),
)
def test_what_is_said_to_fit_fits(room: int, prompt: int, choices: int, input_rate: int, output_rate: int) -> None:
    row = PriceRow(model="m", rates=Rates(input=input_rate, output=output_rate))
    answer = refused("exceeded", replace(REFUSAL, room=room), row, prompt, choices)
    assert answer.extra is not None
    budget = cast(dict[str, Any], answer.extra["budget"])
    fits = budget["max_tokens_that_fit"]
    if fits is not None:
        assert fits >= 1
        assert estimate(prompt, fits * choices, row) <= room
    assert estimate(prompt, ((fits or 0) + 1) * choices, row) >= room


def test_unreachable_is_neither() -> None:
    answer = ledger_unreachable()
    assert (answer.status, answer.code, answer.kind) == (503, "ledger_unreachable", "ledger_unreachable")
    assert dict(answer.headers) == {b"retry-after": b"2"}
