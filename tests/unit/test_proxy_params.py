"""What reasoning models do not take: renamed, refused by name, or dropped; all else keeps its bytes."""

import json
from typing import Any

import pytest

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.prepare import prepare
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.params import touches
from shared.pricing import PriceRow, Rates

ROW = PriceRow(model="m", rates=Rates(input=1_000, output=2_000))
REASONS = ModelFacts(reasoning=True, cap_fields=("max_completion_tokens", "max_tokens"), expansion=1)
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
    assert not touches(raw)
    assert sent(raw) is raw


def test_a_strict_call_has_the_cap_that_the_model_takes() -> None:
    assert json.loads(sent(body(messages=[], max_tokens=9), strict=True)) == {
        "model": "m", "messages": [], "max_completion_tokens": 9,
    }  # fmt: skip
