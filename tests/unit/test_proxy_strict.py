"""Strict budgets: a bound that no usage can pass, or a refusal that names the field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.prepare import Prepared, prepare
from services.proxy.domain.holds.strict import ROOM_TOKENS_MIN, UNKNOWN_OUTPUT_TOKENS, Bound, bound
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.writing import outgoing_fields
from shared.pricing import PriceRow, Rates, Usage, dearest, estimate, price

FLOOR = 1_000
CHAT, EMBEDDINGS = Endpoint.CHAT, Endpoint.EMBEDDINGS
GPT = ModelFacts(
    context_window=128_000,
    max_output=16_384,
    cap_fields=("max_tokens", "max_completion_tokens"),
    template_tokens=64,
    expansion=1,
)
O3 = ModelFacts(
    context_window=200_000,
    max_output=100_000,
    cap_fields=("max_completion_tokens", "max_tokens"),
    template_tokens=64,
    expansion=1,
)
PHI = ModelFacts(context_window=16_384, max_output=16_384, template_tokens=2_048, expansion=1)
UNKNOWN = ModelFacts()
ROW = PriceRow(model="m", rates=Rates(input=2_500_000_000, output=10_000_000_000, cache_write=3_000_000_000))
WAY = Way(url="https://h/chat", wire=CHAT)
HI = {"role": "user", "content": "hi"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": [HI], **fields}).encode()


def bounded(raw: bytes, facts: ModelFacts = GPT, endpoint: Endpoint = CHAT, guess: int = 10) -> Bound:
    asked = read_request(raw, endpoint, None)
    return bound(asked, outgoing_fields(raw, model=None, inject_usage=False), len(raw), facts, guess, FLOOR)


def refusal(raw: bytes, facts: ModelFacts = GPT, endpoint: Endpoint = CHAT) -> str | None:
    with pytest.raises(BadRequest) as refused:
        bounded(raw, facts, endpoint)
    assert refused.value.code == "unbounded_cost"
    assert refused.value.param is not None
    assert f"'{refused.value.param}'" in str(refused.value)
    return refused.value.param


@pytest.mark.parametrize(
    "message",
    [
        HI,
        {"role": "system", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, "ho"], "name": "me"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function"}], "refusal": None},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
        {"role": "assistant", "audio": None, "content": [{"type": "refusal", "refusal": "no"}]},
    ],
)
def test_texts_are_bounded_by_their_bytes(message: Any) -> None:
    raw = body(messages=[message])
    assert bounded(raw).prompt == len(raw) + 64
    assert bounded(raw, PHI).prompt == len(raw) + 2_048
    assert bounded(raw, UNKNOWN).prompt == len(raw) * 11 + 2_048


def test_the_context_window_bounds_texts_too() -> None:
    assert bounded(body(messages=[{"role": "user", "content": "x" * 300_000}])).prompt == 128_000


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": [IMAGE]}, "messages[0].content[0].image_url"),
        ({"role": "user", "content": ["hi", {"type": "text", "text": "x", "more": 1}]}, "messages[0].content[1].more"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "messages[0].content[0].file"),
        ({"role": "user", "content": [{"input_audio": {}}]}, "messages[0].content[0].input_audio"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio"),
        ({"role": "user", "content": {"x": 1}}, "messages[0].content"),
        ({"role": "user", "content": 7}, "messages[0].content"),
        ({"role": "user", "content": "x", "documents": ["d"]}, "messages[0].documents"),
    ],
)  # fmt: skip
def test_what_bytes_do_not_bound_the_window_does(message: Any, place: str) -> None:
    raw = body(messages=[message])
    assert bounded(raw).prompt == 128_000
    assert refusal(raw, UNKNOWN) == place


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"content":[{"type":"image_url"}],"content":"hi"}', '{"content":"hi"}'),
        ('{"content":[{"type":"x", "type":"text","text":"a","text":"b"}]}', '{"content":[{"type":"text","text":"b"}]}'),
    ],
)
def test_a_name_that_stands_twice_hides_nothing(written: str, sent: str) -> None:
    raw = ('{"model":"m","messages":[' + written + '],"max_tokens":5}').encode()
    prepared = ready(raw, GPT, ROW)
    prepared.seal(prepared.need.amount)
    assert prepared.body == ('{"model":"m","messages":[' + sent + '],"max_tokens":5}').encode()
    twice = raw.replace(b'"messages"', b'"tools":[{"type":"web_search","type":"function"}],"messages"')
    tools = ready(twice, GPT, ROW)
    tools.seal(tools.need.amount)
    assert b'"tools":[{"type":"function"}]' in tools.body


def test_an_image_under_another_name_is_no_text() -> None:
    part = '{"type":"image_url","image_url":{"url":"https://a.example/b.png"},"type":"text"}'
    assert bounded(('{"model":"m","messages":[{"role":"user","content":[' + part + "]}]}").encode()).prompt == 128_000


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        ({"data_sources": [{"type": "azure_search"}]}, "data_sources"),
        ({"best_of": 5}, "best_of"),
        ({"Max_Tokens": 5}, "Max_Tokens"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": 7}, "service_tier"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"modalities": "audio"}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {}, "web": 1}]}, "tools"),
        ({"tools": {}}, "tools"),
        ({"tools": [7]}, "tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content"),
    ],
)
def test_what_has_no_bound_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refusal(body(**fields)) == param


@pytest.mark.parametrize(
    "fields",
    [
        {"web_search_options": None},
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"service_tier": "flex"},
        {"service_tier": None},
        {"modalities": ["text"]},
        {"modalities": None},
        {"audio": None},
        {"tools": None},
        {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {}}]},
        {"temperature": 1, "stop": ["x"], "seed": 7, "user": "u", "metadata": {}, "logit_bias": {"1": 2}},
        {"response_format": {"type": "json_schema", "json_schema": {}}, "reasoning_effort": "high"},
        {"messages": []},
    ],
)
def test_what_tokens_bound_is_admitted(fields: dict[str, Any]) -> None:
    raw = body(**fields)
    assert bounded(raw).prompt == len(raw) + 64


@pytest.mark.parametrize(
    ("fields", "facts", "cap"),
    [
        ({"max_tokens": 10}, GPT, 10),
        ({"max_completion_tokens": 10}, GPT, 10),
        ({"max_tokens": 10, "max_completion_tokens": 20}, GPT, 20),
        ({"max_tokens": 10}, O3, 10),
        ({"max_tokens": 10**6}, GPT, 16_384),
        ({"max_tokens": 10**6}, UNKNOWN, 10**6),
        ({"max_tokens": 10}, PHI, 10),
    ],
)
def test_the_callers_cap_bounds_the_output(fields: dict[str, Any], facts: ModelFacts, cap: int) -> None:
    found = bounded(body(**fields, n=3), facts)
    assert found.cap == cap
    assert found.need(ROW).output == 3 * cap
    assert found.need(ROW).amount == found.need(ROW).most == estimate(found.prompt, 3 * cap, ROW)


def test_a_cap_that_the_deployment_may_overlook_is_said_again() -> None:
    found = bounded(body(max_completion_tokens=10), PHI)
    assert (found.cap, found.ceiling, found.field) == (None, 10, "max_tokens")
    assert found.cap_for(10**12, ROW) == 10


@pytest.mark.parametrize(
    ("facts", "guess", "ceiling", "field"),
    [
        (GPT, 10, 16_384, "max_tokens"),
        (O3, 10, 100_000, "max_completion_tokens"),
        (UNKNOWN, 10, UNKNOWN_OUTPUT_TOKENS, "max_tokens"),
        (PHI, 400, 15_984, "max_tokens"),
        (PHI, 20_000, ROOM_TOKENS_MIN, "max_tokens"),
    ],
)
def test_without_a_cap_ours_leaves_room_for_the_prompt(facts: ModelFacts, guess: int, ceiling: int, field: str) -> None:
    found = bounded(body(), facts, guess=guess)
    assert (found.cap, found.ceiling, found.field) == (None, ceiling, field)
    need = found.need(ROW)
    assert need.output == min(ceiling, FLOOR)
    assert need.most == estimate(found.prompt, ceiling, ROW)
    assert found.cap_for(need.most, ROW) == ceiling
    assert found.cap_for(need.amount, ROW) >= need.output


def test_rejected_predictions_are_output_that_no_cap_holds() -> None:
    prediction = {"type": "content", "content": "x" * 100}
    found = bounded(body(prediction=prediction, max_tokens=10))
    assert found.beside == len(json.dumps(prediction))
    assert found.need(ROW).output == 10 + found.beside


def test_reasoning_that_no_cap_holds() -> None:
    grok = ModelFacts(context_window=256_000, max_output=8_000, reasoning_beside=True, expansion=1)
    found = bounded(body(max_tokens=10, n=2), grok)
    assert found.need(ROW).output == 2 * 10 + 2 * 8_000
    assert refusal(body(max_tokens=10), ModelFacts(reasoning_beside=True)) == "max_tokens"


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_embeddings_are_bounded_by_bytes(given: Any) -> None:
    raw = json.dumps({"model": "e", "input": given, "encoding_format": "float", "dimensions": 3}).encode()
    found = bounded(raw, GPT, EMBEDDINGS)
    assert (found.prompt, found.need(ROW).output) == (len(raw), 0)
    ids = given if isinstance(given, list) else []
    assert found.prompt >= sum(len(one) if isinstance(one, list) else 1 for one in ids)


@pytest.mark.parametrize("given", [{"image": "x"}, [{"image": "x"}], None, 7, [None]])
def test_embeddings_of_something_else(given: Any) -> None:
    assert refusal(json.dumps({"model": "e", "input": given}).encode(), GPT, EMBEDDINGS) == "input"
    assert refusal(b'{"model":"e","input":"x","images":["y"]}', GPT, EMBEDDINGS) == "images"


# ---- the property that all is about --------------------------------------------------------------------------------

amounts = st.integers(0, 200 * 10**9)
rates = st.builds(Rates, input=amounts, output=amounts, cached=st.none() | amounts, cache_write=st.none() | amounts)
texts = st.text(max_size=200)
parts = st.just(IMAGE) | st.builds(lambda text: {"type": "text", "text": text}, texts)
messages = st.lists(
    st.builds(lambda content: {"role": "user", "content": content}, texts | st.lists(parts, max_size=3)), max_size=5
)
facts_of = st.sampled_from([GPT, O3, PHI])
caps = st.none() | st.integers(1, 200_000)


def row_of(one: Rates, above: int | None, more: int) -> PriceRow:
    if above is None:
        return PriceRow(model="m", rates=one)
    tier = Rates(
        input=(one.input or 0) + more,
        output=(one.output or 0) + more,
        cached=None if one.cached is None else one.cached + more,
        cache_write=None if one.cache_write is None else one.cache_write + more,
    )
    return PriceRow(model="m", rates=one, tier_above=above, tier=tier)


rows = st.builds(row_of, rates, st.none() | st.integers(0, 100_000), amounts)


def deployment(facts: ModelFacts, row: PriceRow) -> Deployment:
    return Deployment(
        model="m",
        name="d",
        provider="azure",
        host="h",
        ways={CHAT: WAY},
        headers=(),
        row=row,
        fixed_price=True,
        priced_by="test",
        facts=facts,
    )


def ready(raw: bytes, facts: ModelFacts, row: PriceRow) -> Prepared:
    asked = read_request(raw, CHAT, None)
    return prepare(asked, raw, deployment(facts, row), WAY, row, strict=True, default_output=100)


@given(messages, facts_of, caps, st.integers(1, 4), rows, st.data(), st.booleans())
def test_no_usage_that_the_body_allows_costs_more_than_the_hold(
    said: Any, facts: ModelFacts, cap: int | None, choices: int, row: PriceRow, data: st.DataObject, escaped: bool
) -> None:
    fields: dict[str, Any] = {"model": "m", "messages": said, "n": choices}
    if cap is not None:
        fields[facts.cap_fields[0]] = cap
    raw = json.dumps(fields, ensure_ascii=escaped).encode()
    prepared = ready(raw, facts, row)
    held = data.draw(st.integers(prepared.need.amount, prepared.need.most))
    ours = prepared.seal(held)
    sent = json.loads(prepared.body)
    limit = sent[facts.cap_fields[0]]
    assert limit == (cap if cap is not None else ours)
    assert limit >= 1
    assert {**sent, facts.cap_fields[0]: None} == {**fields, facts.cap_fields[0]: None}
    assert set(fields) <= set(sent)

    # Every byte of every text a token of its own, three tokens around each message, an image as large as can be.
    seen = sum(_text_bytes(message["content"]) + 3 for message in said) + 3
    if any(part == IMAGE for message in said for part in message["content"]):
        seen = facts.context_window or 0
    prompt = data.draw(st.integers(0, min(seen, facts.context_window or seen)))
    write = data.draw(st.integers(0, prompt))
    cached = data.draw(st.integers(0, prompt - write))
    output = choices * data.draw(st.integers(0, min(limit, facts.max_output or limit)))
    usage = Usage(input=prompt - write - cached, cached=cached, cache_write=write, output=output)
    assert price(usage, row) <= held


def _text_bytes(content: Any) -> int:
    if isinstance(content, str):
        return len(content.encode())
    return sum(len(part.get("text", "").encode()) for part in content)


@given(messages, rows)
def test_the_strict_hold_is_never_below_the_realistic_prompt(said: Any, row: PriceRow) -> None:
    raw = json.dumps({"model": "m", "messages": said, "max_tokens": 5}).encode()
    prepared = ready(raw, GPT, row)
    assert prepared.need.prompt >= min(prepared.guess, 128_000)


def test_until_an_answer_names_the_model_its_dearest_version_is_held() -> None:
    dear = PriceRow(model="gpt-4o-2024-05-13", rates=Rates(input=5_000_000_000, output=15_000_000_000))
    one = deployment(GPT, ROW)
    one.versions_row = dearest(ROW, dear)
    raw = body(max_tokens=10)
    asked = read_request(raw, CHAT, None)

    def held(*, strict: bool) -> int:
        return prepare(asked, raw, one, WAY, ROW, strict=strict, default_output=100).need.amount

    before, lenient = held(strict=True), held(strict=False)
    one.seen("gpt-4o-2024-08-06", ROW)
    assert held(strict=True) < before
    assert held(strict=False) == lenient
    one.seen("gpt-4o-2024-05-13", dear)
    assert held(strict=True) == before


def test_in_default_mode_the_body_is_the_callers() -> None:
    raw = body(data_sources=[{}])
    asked = read_request(raw, CHAT, None)
    prepared = prepare(asked, raw, deployment(GPT, ROW), WAY, ROW, strict=False, default_output=100)
    assert prepared.body is raw
    assert prepared.seal(10**9) is None
    assert prepared.body is raw


def test_a_field_that_stands_twice_reaches_foundry_once() -> None:
    raw = b'{"model":"m","messages":[],"max_tokens":9,"n":1,"max_tokens":5,"n":2}'
    prepared = ready(raw, GPT, ROW)
    prepared.seal(prepared.need.amount)
    assert prepared.body == b'{"model":"m","messages":[],"max_tokens":5,"n":2}'
    assert prepared.need.output == 10


def test_what_is_said_to_fit_fits_with_the_cap_in_the_body() -> None:
    for fields in ({}, {"n": 3}, {"max_tokens": 5_000}):
        raw = body(**fields)
        asked = read_request(raw, CHAT, None)
        for strict in (True, False):
            prepared = prepare(asked, raw, deployment(GPT, ROW), WAY, ROW, strict=strict, default_output=100)
            wanted = prepared.wanted(asked, deployment(GPT, ROW))
            room = estimate(wanted.prompt_tokens, 77 * wanted.choices, ROW)
            again = body(**{**fields, "max_tokens": 77})
            after = prepare(
                read_request(again, CHAT, None), again, deployment(GPT, ROW), WAY, ROW, strict=strict, default_output=1
            )
            assert after.need.amount <= room
