"""A call made ready: what goes to Foundry by each way, what is held for it, and what has no price."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.estimate import affordable
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.prepare import NoPrice, Prepared, prepare
from services.proxy.domain.requests import read_request
from shared.pricing import PriceRow, Rates, Service, Usage, estimate, price

ROW = PriceRow(
    model="m", rates=Rates(input=1_000_000, output=5_000_000, cache_write=1_250_000, cache_write_1h=2_000_000)
)
CLAUDE = ModelFacts(context_window=200_000, max_output=64_000, expansion=1)
GPT = ModelFacts(context_window=128_000, max_output=16_000, cap_fields=("max_tokens", "max_completion_tokens"))
TO_CLAUDE = Way(url="https://h/m", wire=Endpoint.MESSAGES, body_model="claude", translation="chat_to_messages")
TO_CHAT = Way(url="https://h/c", wire=Endpoint.CHAT, body_model="gpt", translation="messages_to_chat")
HI = [{"role": "user", "content": "hi"}]


def deployment(row: PriceRow = ROW, facts: ModelFacts = GPT, **more: Any) -> Deployment:
    return Deployment(
        model="m", name="d", provider="azure", host="h", headers=(), row=row, fixed_price=True, priced_by="test",
        facts=facts, **more,
    )  # fmt: skip


def ready(
    endpoint: Endpoint,
    raw: bytes,
    way: Way | None = None,
    *,
    row: PriceRow = ROW,
    facts: ModelFacts = GPT,
    strict: bool = False,
    content_type: str = "application/json",
    **more: Any,
) -> Prepared:
    asked = read_request(raw, endpoint, None, content_type)
    way = way or Way(url="https://h/x", wire=endpoint)
    return prepare(asked, raw, deployment(row, facts, **more), way, row, strict=strict, default_output=1_000)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def test_usage_is_asked_for_where_streams_do_not_tell_it() -> None:
    for endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        call = ready(endpoint, body(stream=True))
        assert call.inject
        assert json.loads(call.body)["stream_options"] == {"include_usage": True}
        asked_for = ready(endpoint, body(stream=True, stream_options={"include_usage": True}))
        assert not asked_for.inject
        raw = body(stream=True)
        assert ready(endpoint, raw, stream_usage=False).body is raw
    for endpoint, fields in ((Endpoint.RESPONSES, {}), (Endpoint.MESSAGES, {"max_tokens": 5})):
        raw = body(stream=True, **fields)
        assert ready(endpoint, raw).body is raw


def test_a_model_in_the_body() -> None:
    way = Way(url="https://h/x", wire=Endpoint.RESPONSES, body_model="dep")
    assert ready(Endpoint.RESPONSES, b'{"model":"m", "x": 1.0}', way).body == b'{"model":"dep","x":1.0}'


def test_a_model_in_a_form() -> None:
    raw = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n\xff\r\n--b--\r\n'
    )
    row = PriceRow(model="whisper", rates=Rates(milliseconds=100))
    kind = 'multipart/form-data; boundary="b"'
    plain = ready(Endpoint.TRANSCRIPTIONS, raw, row=row, content_type=kind)
    assert (plain.body, plain.content_type) == (raw, "multipart/form-data; boundary=b")
    way = Way(url="https://h/x", wire=Endpoint.TRANSCRIPTIONS, body_model="dep")
    other = ready(Endpoint.TRANSCRIPTIONS, raw, way, row=row, content_type=kind)
    assert other.body == raw.replace(b"\r\n\r\nm\r\n", b"\r\n\r\ndep\r\n")
    assert other.likely == Usage(milliseconds=1)


def test_chat_for_claude() -> None:
    call = ready(Endpoint.CHAT, body(messages=HI, stream=True), TO_CLAUDE, facts=CLAUDE)
    out = json.loads(call.body)
    assert (out["model"], out["max_tokens"], out["stream"]) == ("claude", 64_000, True)
    assert not call.inject
    assert call.need.output == 1_000


def test_messages_for_chat() -> None:
    call = ready(Endpoint.MESSAGES, body(messages=HI, max_tokens=7, stream=True), TO_CHAT)
    out = json.loads(call.body)
    assert (out["model"], out["max_tokens"], out["stream_options"]) == ("gpt", 7, {"include_usage": True})
    assert not call.inject
    silent = ready(Endpoint.MESSAGES, body(messages=HI, max_tokens=7, stream=True), TO_CHAT, stream_usage=False)
    assert "stream_options" not in json.loads(silent.body)


def test_a_translated_strict_call_is_bound_by_what_is_sent() -> None:
    raw = body(messages=HI, max_tokens=7)
    call = ready(Endpoint.CHAT, raw, TO_CLAUDE, facts=CLAUDE, strict=True)
    assert call.seal(call.need.amount) is None
    out = json.loads(call.body)
    assert out["max_tokens"] == 7
    assert call.need.prompt == len(call.body) + CLAUDE.template_tokens
    assert call.need.amount == estimate(call.need.prompt, 7, ROW)
    back = ready(Endpoint.MESSAGES, raw, TO_CHAT, strict=True)
    back.seal(back.need.amount)
    assert json.loads(back.body)["max_tokens"] == 7


def test_a_translated_strict_call_without_a_cap_gets_ours() -> None:
    call = ready(Endpoint.CHAT, body(messages=HI), TO_CLAUDE, facts=CLAUDE, strict=True)
    assert call.need.output == 1_000
    assert call.need.most == estimate(call.need.prompt, 64_000, ROW)
    cap = call.seal(call.need.amount + 5_000)
    assert cap is not None
    assert cap >= 2_000
    assert json.loads(call.body)["max_tokens"] == cap
    thinks = ready(Endpoint.CHAT, body(messages=HI, reasoning_effort="high"), TO_CLAUDE, facts=CLAUDE, strict=True)
    cap = thinks.seal(thinks.need.amount)
    out = json.loads(thinks.body)
    assert out["max_tokens"] == cap
    assert cap is not None
    assert cap > out["thinking"]["budget_tokens"]


def test_a_class_without_a_price() -> None:
    raw = body(messages=HI, max_tokens=5)
    for strict in (False, True):
        with pytest.raises(NoPrice, match="output"):
            ready(Endpoint.CHAT, raw, row=PriceRow(model="m", rates=Rates(input=1)), strict=strict)
        with pytest.raises(NoPrice, match="input"):
            ready(Endpoint.CHAT, raw, row=PriceRow(model="m", rates=Rates()), strict=strict)
        with pytest.raises(NoPrice, match="images"):
            ready(Endpoint.IMAGES, body(prompt="x"), row=PriceRow(model="m", rates=Rates()), strict=strict)
        free = ready(Endpoint.CHAT, raw, row=PriceRow(model="m", rates=Rates()), strict=strict, unpriced=True)
        assert free.need.amount == 0
    tier = PriceRow(model="m", rates=Rates(input=1, output=1), tier_above=10**6, tier=Rates(input=1))
    with pytest.raises(NoPrice, match="output"):
        ready(Endpoint.CHAT, raw, row=tier)
    assert ready(Endpoint.EMBEDDINGS, body(input="x"), row=PriceRow(model="m", rates=Rates(input=1))).need.output == 0


@pytest.mark.parametrize(
    ("marks", "usage"),
    [
        ({}, "input"),
        ({"cache_control": {"type": "ephemeral"}}, "cache_write"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, "cache_write_1h"),
    ],
)
def test_claudes_cache_costs_where_it_is_asked_for(marks: dict[str, Any], usage: str) -> None:
    call = ready(Endpoint.MESSAGES, body(messages=HI, max_tokens=5, **marks), facts=CLAUDE)
    classes: dict[str, Any] = {usage: call.need.prompt, "output": 5}
    assert call.likely == Usage(**classes)
    assert call.need.amount == price(call.likely, ROW)


def test_counting_tokens_costs_nothing() -> None:
    for strict in (False, True):
        call = ready(Endpoint.COUNT_TOKENS, body(messages=HI), strict=strict)
        assert (call.need.amount, call.need.most, call.tokens, call.likely) == (0, 0, 0, Usage())


def test_a_tier_is_held_at_its_own_price_and_no_lower_than_the_standard() -> None:
    row = replace(
        ROW,
        services={
            "priority": Service(rates=Rates(input=4_000_000, output=9_000_000)),
            "flex": Service(rates=Rates(input=500_000, output=2_000_000)),
        },
    )
    raw = {"messages": HI, "max_tokens": 100}
    standard, flex, priority = (
        ready(Endpoint.CHAT, body(**raw, service_tier=tier), row=row) for tier in ("default", "flex", "priority")
    )
    assert standard.need.amount == estimate(standard.need.prompt, 100, ROW)
    assert flex.need.amount >= price(Usage(input=flex.need.prompt, output=100), ROW)
    assert priority.need.amount == priority.need.prompt * 4 + 900
    strict = ready(Endpoint.CHAT, body(**raw, service_tier="priority"), row=row, strict=True)
    assert strict.need.amount == strict.need.prompt * 4 + 900
    with pytest.raises(BadRequest) as refused:
        ready(Endpoint.CHAT, body(**raw, service_tier="priority"), strict=True)
    assert refused.value.param == "service_tier"


def hint(call: Prepared, endpoint: Endpoint, raw: bytes) -> Any:
    return call.wanted(read_request(raw, endpoint, None), deployment())


def test_a_refusal_names_the_callers_cap() -> None:
    cases = (
        (Endpoint.RESPONSES, {"input": "x"}, "max_output_tokens"),
        (Endpoint.MESSAGES, {"messages": HI, "max_tokens": 5}, "max_tokens"),
        (Endpoint.CHAT, {"messages": HI, "max_completion_tokens": 5}, "max_completion_tokens"),
        (Endpoint.CHAT, {"messages": HI}, "max_tokens"),
    )
    for endpoint, fields, name in cases:
        raw = body(**fields)
        wanted = hint(ready(endpoint, raw), endpoint, raw)
        assert (wanted.field, wanted.choices) == (name, 1)
    for endpoint, fields, row in (
        (Endpoint.EMBEDDINGS, {"input": "x"}, ROW),
        (Endpoint.SPEECH, {"input": "x"}, PriceRow(model="m", rates=Rates(characters=1))),
        (Endpoint.CHAT, {"messages": HI, "modalities": ["audio"]}, ROW),
    ):
        raw = body(**fields)
        assert hint(ready(endpoint, raw, row=row), endpoint, raw).choices == 0, "no cap helps"


@pytest.mark.parametrize("endpoint", [Endpoint.RESPONSES, Endpoint.CHAT, Endpoint.MESSAGES])
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_said_to_fit_fits_with_pictures_too(endpoint: Endpoint, strict: bool) -> None:
    row = replace(ROW, rates=replace(ROW.rates, image_input=7_000_000))
    kind: dict[str, Any] = {
        "type": "input_image" if endpoint is Endpoint.RESPONSES else "image_url",
        "image_url": "https://a.example/b",
    }
    if endpoint is Endpoint.MESSAGES:
        kind = {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}}
    said = [{"role": "user", "content": [kind]}]
    field = "input" if endpoint is Endpoint.RESPONSES else "messages"
    cap = "max_output_tokens" if endpoint is Endpoint.RESPONSES else "max_tokens"
    raw = body(**{field: said, cap: 900})
    call = ready(endpoint, raw, row=row, strict=strict)
    wanted = hint(call, endpoint, raw)
    room = call.need.amount - 100 * 5
    fits = affordable(room - wanted.more_nusd, wanted.prompt_tokens, row)
    assert fits is not None
    assert 700 <= fits <= 810
    again = ready(endpoint, body(**{field: said, cap: fits}), row=row, strict=strict)
    assert again.need.amount <= room
