"""A call made ready: what goes to Foundry by each way, what is held for it, and what has no price."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.estimate import affordable
from services.proxy.domain.holds.prepare import NoPrice, Prepared, prepare
from services.proxy.domain.meters import read_reply
from services.proxy.domain.paths import Endpoint
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


def test_facts_reach_the_translation() -> None:
    raw = body(messages=HI, max_tokens=5_000, reasoning_effort="high")
    budget, effort = (
        json.loads(ready(Endpoint.CHAT, raw, TO_CLAUDE, facts=replace(CLAUDE, adaptive_thinking=adaptive)).body)
        for adaptive in (False, True)
    )
    assert (budget["thinking"]["type"], "output_config" in budget) == ("enabled", False)
    assert (effort["thinking"], effort["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    raw = body(messages=HI, max_tokens=9, tools=tools, thinking={"type": "enabled", "budget_tokens": 2_000})
    thinker = replace(GPT, reasoning=True, refuses_sampling=True)
    one, other = (
        json.loads(ready(Endpoint.MESSAGES, raw, TO_CHAT, facts=replace(thinker, effort_with_tools=both)).body)
        for both in (True, False)
    )
    assert (one["reasoning_effort"], other["reasoning_effort"]) == ("low", "none")


def test_sampling_of_a_translated_call() -> None:
    raw = body(messages=HI, max_tokens=9, temperature=0.2)
    thinker = replace(GPT, reasoning=True, refuses_sampling=True)
    with pytest.raises(BadRequest) as refused:
        ready(Endpoint.MESSAGES, raw, TO_CHAT, facts=thinker)
    assert refused.value.param == "temperature"
    rests = replace(thinker, refuses_sampling=False)
    assert json.loads(ready(Endpoint.MESSAGES, raw, TO_CHAT, facts=rests).body)["temperature"] == 0.2
    assert json.loads(ready(Endpoint.MESSAGES, raw, TO_CHAT, facts=rests, drop_params=True).body)["temperature"] == 0.2
    thinks = body(messages=HI, max_tokens=9, temperature=0.2, output_config={"effort": "high"})
    assert "temperature" not in json.loads(
        ready(Endpoint.MESSAGES, thinks, TO_CHAT, facts=rests, drop_params=True).body
    )
    assert json.loads(ready(Endpoint.MESSAGES, thinks, TO_CHAT, facts=rests).body)["temperature"] == 0.2


HOSTED: list[tuple[Endpoint, dict[str, Any], str]] = [
    (Endpoint.RESPONSES, {"tools": [{"type": "web_search"}]}, "web_search"),
    (Endpoint.RESPONSES, {"tools": [{"type": "web_search_preview_2025_03_11"}]}, "web_search_preview_2025_03_11"),
    (Endpoint.RESPONSES, {"tools": [{"type": "function", "name": "f"}, {"type": "image_generation"}]},
     "image_generation"),
    (Endpoint.RESPONSES, {"tools": [{"type": "brand_new"}]}, "brand_new"),
    (Endpoint.RESPONSES, {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "shell"),
    (Endpoint.RESPONSES, {"tools": [{"type": "shell"}]}, "shell"),
    (Endpoint.RESPONSES, {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]},
     "web_search"),
    (Endpoint.RESPONSES, {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "code_interpreter"),
    (Endpoint.MESSAGES, {"max_tokens": 5, "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
     "web_search_20250305"),
    (Endpoint.MESSAGES, {"max_tokens": 5, "tools": [{"type": "code_execution_20250825", "name": "c"}]},
     "code_execution_20250825"),
    (Endpoint.CHAT, {"messages": HI, "web_search_options": {}}, "web_search_options"),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "fields", "tool"), HOSTED)
def test_a_tool_without_a_price_is_refused_by_name(endpoint: Endpoint, fields: dict[str, Any], tool: str) -> None:
    raw = body(**fields)
    with pytest.raises(BadRequest) as refused:
        ready(endpoint, raw)
    param = "web_search_options" if endpoint is Endpoint.CHAT else "tools"
    assert (refused.value.code, refused.value.param) == ("price_unknown", param)
    assert f"'{tool}'" in str(refused.value)
    assert "model_info.unpriced: allow" in str(refused.value)
    assert ("code_interpreter_cost_per_session" in str(refused.value)) == (tool == "code_interpreter")
    assert ready(endpoint, raw, unpriced=True).body is raw
    with pytest.raises(BadRequest) as refused:
        ready(endpoint, raw, strict=True, unpriced=True)
    assert refused.value.code == "unbounded_cost"


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (Endpoint.RESPONSES, {"tools": [{"type": "computer_use_preview"}, {"type": "mcp", "server_label": "s"}]}),
        (Endpoint.RESPONSES, {"tools": [{"type": "shell", "environment": {"type": "local"}}, {"type": "apply_patch"}]}),
        (Endpoint.RESPONSES, {"tools": [{"type": "namespace", "tools": [{"type": "function", "name": "f"}]}]}),
        (Endpoint.RESPONSES, {"tools": None}),
        (Endpoint.MESSAGES, {"max_tokens": 5, "tools": [{"name": "f"}, {"type": "custom", "name": "g"},
                             {"type": "bash_20250124", "name": "bash"}, {"type": "web_fetch_20250910", "name": "w"}]}),
        (Endpoint.CHAT, {"messages": HI, "web_search_options": None}),
    ],
)  # fmt: skip
def test_tools_that_cost_tokens_only_pass(endpoint: Endpoint, fields: dict[str, Any]) -> None:
    raw = body(**fields)
    assert ready(endpoint, raw).body is raw


def test_a_container_with_a_price_passes() -> None:
    raw = body(tools=[{"type": "code_interpreter", "container": {"type": "auto"}}])
    priced = replace(ROW, rates=replace(ROW.rates, sessions=33_000_000 * 10**6))
    plain, with_price = ready(Endpoint.RESPONSES, raw, unpriced=True), ready(Endpoint.RESPONSES, raw, row=priced)
    assert with_price.need == plain.need, "a container is not held"


def test_a_tool_that_the_other_dialect_lacks_is_refused_in_its_words() -> None:
    searched = {"type": "web_search_20250305", "name": "web_search"}
    for drop in (False, True):
        with pytest.raises(BadRequest, match=r"tools\[0\]: the tool 'web_search_20250305' runs at Anthropic"):
            ready(Endpoint.MESSAGES, body(messages=HI, max_tokens=5, tools=[searched]), TO_CHAT, drop_params=drop)
        with pytest.raises(BadRequest, match=r"tools\[0\]: a tool of type 'web_search'.*call /v1/messages"):
            ready(Endpoint.CHAT, body(messages=HI, tools=[{"type": "web_search"}]), TO_CLAUDE, facts=CLAUDE,
                  drop_params=drop)  # fmt: skip
    raw = body(messages=HI, web_search_options={})
    with pytest.raises(BadRequest, match="'web_search_options' has no counterpart"):
        ready(Endpoint.CHAT, raw, TO_CLAUDE, facts=CLAUDE)
    dropped = ready(Endpoint.CHAT, raw, TO_CLAUDE, facts=CLAUDE, drop_params=True)
    assert b"web_search" not in dropped.body


DALLE = PriceRow(model="dall-e-3", rates=Rates(), kinds={"standard/1024-x-1024": 44_000_000 * 10**6,
                 "hd/1024-x-1792": 132_000_000 * 10**6})  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "cost"),
    [({}, 44), ({"quality": "standard"}, 44), ({"size": "1024x1024"}, 44), ({"size": "auto", "quality": "auto"}, 44),
     ({"quality": "hd", "size": "1024x1792"}, 132)],
)  # fmt: skip
@pytest.mark.parametrize("strict", [False, True])
def test_a_picture_is_held_at_what_it_is_charged(fields: dict[str, Any], cost: int, strict: bool) -> None:
    raw = body(prompt="x", **fields)
    call = ready(Endpoint.IMAGES, raw, row=DALLE, facts=ModelFacts(), strict=strict)
    asked = read_request(raw, Endpoint.IMAGES, None)
    reply = read_reply(Endpoint.IMAGES, b'{"created":1,"data":[{"b64_json":"AA"}]}', "application/json", asked)
    assert reply.usage is not None
    assert call.need.amount == price(reply.usage, DALLE) == cost * 10**6


@pytest.mark.parametrize("strict", [False, True])
def test_a_picture_of_an_unpriced_kind_is_refused_with_those_that_are(strict: bool) -> None:
    for fields in ({"size": "512x512"}, {"quality": "ultra"}, {"quality": "hd"}):
        with pytest.raises(BadRequest) as refused:
            ready(Endpoint.IMAGES, body(prompt="x", **fields), row=DALLE, strict=strict)
        assert (refused.value.code, refused.value.param) == ("price_unknown", "size")
        assert "Priced are: hd 1024x1792, standard 1024x1024." in str(refused.value)
    assert ready(Endpoint.IMAGES, body(prompt="x", size="512x512"), row=DALLE, unpriced=True).need.amount == 0


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


TIERED = replace(ROW, services={"priority": Service(rates=Rates(input=4_000_000, output=9_000_000))})
HIGH = ({}, {"service_tier": None}, {"service_tier": "auto"})
"""Requests that leave the tier to the deployment, whose own may be `priority`."""


@pytest.mark.parametrize("said", HIGH)
@pytest.mark.parametrize("version", ["", "?api-version=preview", "?api-version=v1", "?api-version=2025-10-01-preview"])
def test_a_strict_call_asks_for_the_standard_tier(said: dict[str, Any], version: str) -> None:
    for endpoint, fields in (
        (Endpoint.CHAT, {"messages": HI, "max_tokens": 100}),
        (Endpoint.RESPONSES, {"input": "hi", "max_output_tokens": 100}),
    ):
        way = Way(url=f"https://h/x{version}", wire=endpoint)
        raw = body(**fields, **said)
        call = ready(endpoint, raw, way, row=TIERED, strict=True, family="openai")
        call.seal(call.need.amount)
        assert json.loads(call.body) == {**json.loads(raw), "service_tier": "default"}
        assert call.need.amount == estimate(call.need.prompt, 100, ROW)
    way = replace(TO_CHAT, url=f"https://h/x{version}")
    call = ready(Endpoint.MESSAGES, body(messages=HI, max_tokens=7), way, row=TIERED, strict=True, family="openai")
    call.seal(call.need.amount)
    assert json.loads(call.body)["service_tier"] == "default"


@pytest.mark.parametrize("said", HIGH)
@pytest.mark.parametrize("version", ["2024-10-21", "2025-04-01-preview"])
def test_where_the_tier_cannot_be_asked_for_the_dearer_one_is_held(said: dict[str, Any], version: str) -> None:
    way = Way(url=f"https://h/x?api-version={version}", wire=Endpoint.CHAT)
    raw = body(messages=HI, max_tokens=100, **said)
    call = ready(Endpoint.CHAT, raw, way, row=TIERED, strict=True, family="openai")
    call.seal(call.need.amount)
    assert json.loads(call.body) == json.loads(raw)
    assert call.need.amount == call.need.prompt * 4 + 900
    plain = ready(Endpoint.CHAT, raw, way, strict=True, family="openai")
    assert plain.need.amount == estimate(plain.need.prompt, 100, ROW), "no such price, no such tier"


@pytest.mark.parametrize("tier", ["default", "flex", "priority"])
def test_a_tier_that_was_asked_for_stands(tier: str) -> None:
    raw = body(messages=HI, max_tokens=100, service_tier=tier)
    call = ready(Endpoint.CHAT, raw, row=TIERED, strict=True, family="openai")
    call.seal(call.need.amount)
    assert json.loads(call.body) == json.loads(raw)


def test_nobody_else_is_asked_for_a_tier() -> None:
    cases: tuple[tuple[Endpoint, dict[str, Any], Way | None, bool, Any], ...] = (
        (Endpoint.CHAT, {"messages": HI, "max_tokens": 5}, None, True, "open"),
        (Endpoint.CHAT, {"messages": HI, "max_tokens": 5}, TO_CLAUDE, True, "claude"),
        (Endpoint.MESSAGES, {"messages": HI, "max_tokens": 5}, None, True, "claude"),
        (Endpoint.COMPLETIONS, {"prompt": "hi", "max_tokens": 5}, None, True, "openai"),
        (Endpoint.EMBEDDINGS, {"input": "hi"}, None, True, "openai"),
        (Endpoint.CHAT, {"messages": HI, "max_tokens": 5}, None, False, "openai"),
        (Endpoint.RESPONSES, {"input": "hi"}, None, False, "openai"),
    )
    for endpoint, fields, way, strict, family in cases:
        call = ready(endpoint, body(**fields), way, row=TIERED, strict=strict, family=family)
        call.seal(call.need.amount)
        assert "service_tier" not in json.loads(call.body)


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
