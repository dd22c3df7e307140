"""What reasoning models do not take: renamed, refused by name, or dropped; all else keeps its bytes."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.prepare import prepare
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.params import touches
from shared.pricing import PriceRow, Rates

ROW = PriceRow(model="m", rates=Rates(input=1_000, output=2_000))
REASONS = ModelFacts(
    reasoning=True, refuses_sampling=True, cap_fields=("max_completion_tokens", "max_tokens"), expansion=1
)
WAY = Way(url="https://h/x", wire=Endpoint.CHAT)


def sent(raw: bytes, *, drop: bool = False, strict: bool = False, way: Way = WAY, facts: ModelFacts = REASONS) -> bytes:
    deployment = Deployment(
        model="m", name="d", provider="azure", host="h", headers=(), row=ROW, fixed_price=True, priced_by="test",
        facts=facts, ways={Endpoint.CHAT: way}, drop_params=drop,
    )  # fmt: skip
    asked = read_request(raw, Endpoint.CHAT, None)
    ready = prepare(asked, raw, deployment, way, ROW, strict=strict, default_output=50)
    ready.seal(ready.need.amount)
    return ready.body


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def test_the_cap_goes_by_its_other_name_in_its_place() -> None:
    raw = b'{ "model":"m","max_tokens" : 5,"x": [ 1.10 ], "messages":[]}'
    assert sent(raw) == b'{"model":"m","max_completion_tokens":5,"x":[ 1.10 ],"messages":[]}'
    assert sent(raw, way=Way(url="u", wire=Endpoint.CHAT, body_model="d")) == (
        b'{"model":"d","max_completion_tokens":5,"x":[ 1.10 ],"messages":[]}'
    )


@pytest.mark.parametrize(
    ("fields", "out"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_completion_tokens": 7}),
        ({"max_completion_tokens": 7, "max_tokens": 5}, {"max_completion_tokens": 7}),
        ({"max_completion_tokens": None, "max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": None}, {"max_completion_tokens": 5}),
    ],
)
def test_two_caps_are_one(fields: dict[str, Any], out: dict[str, Any]) -> None:
    assert json.loads(sent(body(**fields))) == {"model": "m", **out}


@pytest.mark.parametrize(
    "fields",
    [{}, {"temperature": 1}, {"temperature": 1.0}, {"top_p": 1}, {"presence_penalty": 0}, {"frequency_penalty": 0.0},
     {"logprobs": False}, {"top_logprobs": None}, {"logit_bias": {}}, {"temperature": None}, {"max_tokens": None},
     {"temperature": 0.2, "reasoning_effort": "none"}, {"max_completion_tokens": 7}, {"reasoning_effort": "low"}],
)  # fmt: skip
def test_what_says_nothing_passes(fields: dict[str, Any]) -> None:
    assert json.loads(sent(body(**fields))) == {"model": "m", **fields}


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0), ("temperature", 0.7), ("top_p", 0.5), ("presence_penalty", 1), ("frequency_penalty", -1),
     ("logprobs", True), ("top_logprobs", 3), ("logit_bias", {"50256": -100}), ("temperature", "warm")],
)  # fmt: skip
def test_what_is_not_taken_is_refused_or_dropped(name: str, value: Any) -> None:
    raw = body(**{name: value})
    for strict in (False, True):
        with pytest.raises(BadRequest) as refused:
            sent(raw, strict=strict)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)
        assert "drop_params" in str(refused.value)
        assert name not in json.loads(sent(raw, strict=strict, drop=True))


def test_models_that_do_not_reason_take_it_all() -> None:
    raw = body(temperature=0.2, max_tokens=5, logprobs=True)
    assert sent(raw, facts=ModelFacts()) is raw


def test_a_body_without_such_fields_is_the_same_object() -> None:
    raw = body(messages=[{"role": "user", "content": "hi"}], max_completion_tokens=5)
    assert not touches(raw, refuses_sampling=True, drop_params=True)
    assert sent(raw) is raw
    effort = b'{ "model":"m", "reasoning_effort": "high" }'
    assert sent(effort, drop=True) is effort


RESTS = replace(REASONS, refuses_sampling=False)
"""A model that may run with reasoning off."""
SAMPLED = {"temperature": 0.2, "top_p": 0.9, "presence_penalty": 1, "logprobs": True, "logit_bias": {"5": 1}}


@pytest.mark.parametrize("effort", [{}, {"reasoning_effort": "none"}, {"reasoning_effort": "high"}])
def test_a_model_that_may_not_reason_is_asked_itself(effort: dict[str, Any]) -> None:
    raw = b" " + body(**SAMPLED, **effort)
    assert sent(raw, facts=RESTS) is raw, "byte for byte"
    capped = body(**SAMPLED, **effort, max_tokens=5)
    assert json.loads(sent(capped, facts=RESTS)) == {"model": "m", **SAMPLED, **effort, "max_completion_tokens": 5}
    strict = json.loads(sent(capped, facts=RESTS, strict=True))
    assert strict == {"model": "m", **SAMPLED, **effort, "max_completion_tokens": 5}


@pytest.mark.parametrize("effort", [{}, {"reasoning_effort": None}, {"reasoning_effort": "none"}])
def test_sampling_is_kept_where_the_model_may_not_reason(effort: dict[str, Any]) -> None:
    raw = body(**SAMPLED, **effort)
    assert sent(raw, facts=RESTS, drop=True) is raw


def test_sampling_is_dropped_beside_an_effort() -> None:
    raw = body(**SAMPLED, reasoning_effort="low", max_tokens=5)
    for strict in (False, True):
        found = json.loads(sent(raw, facts=RESTS, drop=True, strict=strict))
        assert found == {"model": "m", "reasoning_effort": "low", "max_completion_tokens": 5}


def test_a_strict_call_has_the_cap_that_the_model_takes() -> None:
    assert json.loads(sent(body(messages=[], max_tokens=9), strict=True)) == {
        "model": "m", "messages": [], "max_completion_tokens": 9,
    }  # fmt: skip
