"""Strict budgets beyond chat: bounds that hold for each operation, and refusals that name the field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.prepare import Prepared, prepare
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from shared.pricing import PriceRow, Rates, Usage, price

ROW = PriceRow(
    model="m",
    rates=Rates(input=1_000_000, output=5_000_000, cache_write_1h=2_000_000, image_input=9_000_000),
)
FACTS = ModelFacts(context_window=200_000, max_output=64_000, expansion=1, template_tokens=64)
UNKNOWN = ModelFacts(expansion=1)
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def ready(
    endpoint: Endpoint, fields: dict[str, Any] | bytes, facts: ModelFacts = FACTS, row: PriceRow = ROW
) -> Prepared:
    raw = fields if isinstance(fields, bytes) else json.dumps({"model": "m", **fields}).encode()
    deployment = Deployment(
        model="m", name="d", provider="azure", host="h", headers=(), row=row, fixed_price=True, priced_by="test",
        facts=facts,
    )  # fmt: skip
    asked = read_request(raw, endpoint, None)
    way = Way(url="https://h/x", wire=endpoint)
    return prepare(asked, raw, deployment, way, row, strict=True, default_output=1_000)


def refusal(endpoint: Endpoint, fields: dict[str, Any], facts: ModelFacts = FACTS, row: PriceRow = ROW) -> str | None:
    with pytest.raises(BadRequest) as refused:
        ready(endpoint, fields, facts, row)
    assert refused.value.code == "unbounded_cost"
    assert f"'{refused.value.param}'" in str(refused.value)
    return refused.value.param


TEXT_BLOCKS: list[Any] = [
    "hi",
    [],
    [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}],
    [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],
    [{"type": "tool_result", "tool_use_id": "t", "content": "x"}],
    [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}], "is_error": False}],
]


@pytest.mark.parametrize("content", TEXT_BLOCKS)
def test_messages_of_text_are_bounded_by_bytes(content: Any) -> None:
    fields = {
        "messages": [{"role": "user", "content": content}], "max_tokens": 9, "system": "s",
        "thinking": {"type": "enabled", "budget_tokens": 5}, "tools": [{"name": "f", "input_schema": {}}],
        "stop_sequences": ["x"], "metadata": {"user_id": "u"}, "tool_choice": {"type": "auto"},
    }  # fmt: skip
    call = ready(Endpoint.MESSAGES, fields)
    assert call.need.prompt == len(json.dumps({"model": "m", **fields}).encode()) + 64
    assert (call.need.output, call.need.amount) == (9, call.need.most)
    call.seal(call.need.amount)
    assert json.loads(call.body) == {"model": "m", **fields}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [IMAGE]}]}]},
         "messages[0].content[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "d"}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "citations": [1]}]}]},
         "messages[0].content[0].citations"),
        ({"messages": [{"role": "user", "content": "x", "extra": 1}]}, "messages[0].extra"),
        ({"messages": HI, "system": [IMAGE]}, "system[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ],
)  # fmt: skip
def test_what_bytes_do_not_bound_in_messages_the_window_does(fields: dict[str, Any], place: str) -> None:
    call = ready(Endpoint.MESSAGES, {**fields, "max_tokens": 9})
    assert call.need.prompt == 200_000
    assert call.need.amount == 200_000 * 9 + 9 * 5, "any of it may be a picture"
    assert refusal(Endpoint.MESSAGES, {**fields, "max_tokens": 9}, UNKNOWN) == place


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mcp_servers": []}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"speed": "fast"}, "speed"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"tools": [{"name": "f", "input_schema": {}, "other": 1}]}, "tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"thinking": [7]}, "thinking"),
        ({"messages": 7}, None),
    ],
)
def test_what_has_no_bound_in_messages(fields: dict[str, Any], param: str | None) -> None:
    if param is None:
        with pytest.raises(BadRequest):
            ready(Endpoint.MESSAGES, {"max_tokens": 9, **fields})
    else:
        assert refusal(Endpoint.MESSAGES, {"messages": HI, "max_tokens": 9, **fields}) == param


TEXT_ITEMS: list[Any] = [
    "hi",
    [{"role": "user", "content": "hi"}],
    [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    [{"type": "message", "role": "assistant", "id": "m", "status": "completed",
      "content": [{"type": "output_text", "text": "x", "annotations": []}, {"type": "refusal", "refusal": "no"}]}],
    [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
     {"type": "function_call_output", "call_id": "c", "output": "x"}],
    [{"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
     {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]}],
]  # fmt: skip


@pytest.mark.parametrize("given_input", TEXT_ITEMS)
def test_responses_of_text_are_bounded_by_bytes(given_input: Any) -> None:
    fields = {"input": given_input, "max_output_tokens": 20, "store": False, "reasoning": {"effort": "low"},
              "tools": [{"type": "function", "name": "f", "parameters": {}}], "background": False}  # fmt: skip
    call = ready(Endpoint.RESPONSES, fields)
    assert call.need.prompt == len(json.dumps({"model": "m", **fields}).encode()) + 64
    assert call.need.output == 20
    call.seal(call.need.amount)
    assert json.loads(call.body) == {"model": "m", **fields}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]},
         "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
         "input[0].content[0].file_id"),
        ({"input": [{"type": "item_reference", "id": "i"}]}, "input[0]"),
        ({"input": [{"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"}]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "output": {"x": 1}}]}, "input[0].output"),
        ({"input": [{"role": "user", "content": "x", "extra": 1}]}, "input[0].extra"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
    ],
)  # fmt: skip
def test_what_bytes_do_not_bound_in_responses_the_window_does(fields: dict[str, Any], place: str) -> None:
    call = ready(Endpoint.RESPONSES, {**fields, "max_output_tokens": 20})
    assert call.need.prompt == 200_000
    assert refusal(Endpoint.RESPONSES, {**fields, "max_output_tokens": 20}, UNKNOWN) == place


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "mcp", "server_url": "u"}]}, "tools"),
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"context_management": []}, "context_management"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_has_no_bound_in_responses(fields: dict[str, Any], param: str) -> None:
    assert refusal(Endpoint.RESPONSES, {"input": "x", "max_output_tokens": 20, **fields}) == param


def test_a_response_without_a_cap_gets_ours() -> None:
    call = ready(Endpoint.RESPONSES, {"input": "x"})
    assert call.need.output == 1_000
    cap = call.seal(call.need.most)
    assert cap == 64_000
    assert json.loads(call.body)["max_output_tokens"] == 64_000


def test_names_that_stand_twice_stand_once() -> None:
    block = b'{"type":"image","type":"text","text":"x"}'
    raw = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[' + block + b"]}]}"
    call = ready(Endpoint.MESSAGES, raw)
    call.seal(call.need.amount)
    assert call.body == raw.replace(b'"type":"image",', b"")
    twice = (
        b'{"model":"m","max_output_tokens":20,"input":[{"type":"item_reference","type":"message","content":"a"}],'
        b'"tools":[{"type":"web_search","type":"function","name":"f"}]}'
    )
    call = ready(Endpoint.RESPONSES, twice)
    call.seal(call.need.amount)
    assert b"item_reference" not in call.body
    assert b"web_search" not in call.body


def test_completions() -> None:
    fields = {"prompt": ["one", "two"], "best_of": 3}
    call = ready(Endpoint.COMPLETIONS, fields)
    size = len(json.dumps({"model": "m", **fields}).encode())
    assert (call.need.prompt, call.need.output) == (size + 64, 2 * 3 * 16)
    call.seal(call.need.amount)
    assert json.loads(call.body) == {"model": "m", **fields, "max_tokens": 16}
    assert refusal(Endpoint.COMPLETIONS, {"prompt": "x", "echo": True}) == "echo"
    assert refusal(Endpoint.COMPLETIONS, {"prompt": "x", "max_tokens": 0}) == "max_tokens"


SPEECH = PriceRow(model="tts", rates=Rates(characters=15_000_000_000))
RERANK = PriceRow(model="r", rates=Rates(input=0, output=0, queries=2_000 * 10**9))
PICTURES = PriceRow(model="d", rates=Rates(), kinds={"standard/1024-x-1024": 44_000 * 10**9})


def test_characters_are_exact() -> None:
    call = ready(Endpoint.SPEECH, {"input": "héllo", "voice": "alloy"}, row=SPEECH)
    assert call.need.amount == call.need.most == 5 * 15_000
    assert call.seal(call.need.amount) is None
    assert refusal(Endpoint.SPEECH, {"input": "x"}) == "model"
    assert refusal(Endpoint.SPEECH, {"input": "x", "effects": 1}, row=SPEECH) == "effects"


def test_pictures_by_the_piece_are_exact() -> None:
    call = ready(Endpoint.IMAGES, {"prompt": "x", "n": 3}, row=PICTURES)
    assert call.need.amount == 3 * 44_000_000
    assert refusal(Endpoint.IMAGES, {"prompt": "x"}) == "model"
    assert refusal(Endpoint.IMAGES, {"prompt": "x", "upscale": 4}, row=PICTURES) == "upscale"


def test_search_units_are_bounded_by_bytes() -> None:
    call = ready(Endpoint.RERANK, {"query": "q" * 100, "documents": ["d" * 400] * 100}, row=RERANK)
    assert call.need.amount == 2_000_000
    call = ready(Endpoint.RERANK, {"query": "q" * 100, "documents": ["d" * 401] * 100}, row=RERANK)
    assert call.need.amount == 2 * 2_000_000
    call = ready(Endpoint.RERANK, {"query": "q" * 600, "documents": ["d" * 50, {"text": "é"}]}, row=RERANK)
    assert call.need.amount == 2_000_000
    assert refusal(Endpoint.RERANK, {"query": "q", "documents": ["d"]}, row=PriceRow(
        model="m", rates=Rates(input=5, output=0, queries=5))) == "model"  # fmt: skip


def test_sound_and_documents_have_no_bound() -> None:
    pages = PriceRow(model="ocr", rates=Rates(pages=1))
    assert refusal(Endpoint.OCR, {"document": {"document_url": "u"}, "pages": [0]}, row=pages) == "document"
    raw = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nx\r\n--b\r\n'
        b'Content-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    )
    row = PriceRow(model="w", rates=Rates(milliseconds=1))
    asked = read_request(raw, Endpoint.TRANSCRIPTIONS, None, "multipart/form-data; boundary=b")
    deployment = Deployment(
        model="m", name="d", provider="azure", host="h", headers=(), row=row, fixed_price=True, priced_by="test"
    )
    way = Way(url="u", wire=Endpoint.TRANSCRIPTIONS)
    with pytest.raises(BadRequest) as refused:
        prepare(asked, raw, deployment, way, row, strict=True, default_output=1)
    assert refused.value.param == "file"


texts = st.text(max_size=60)
amounts = st.integers(0, 10**11)
rows = st.builds(
    PriceRow,
    model=st.just("m"),
    rates=st.builds(
        Rates, input=amounts, output=amounts, cached=st.none() | amounts, cache_write=st.none() | amounts,
        cache_write_1h=st.none() | amounts, image_input=st.none() | amounts, reasoning=st.none() | amounts,
    ),
    fee=st.integers(0, 10**9),
)  # fmt: skip


@given(
    st.lists(st.tuples(texts, st.booleans()), max_size=4), rows, st.none() | st.integers(16, 5_000), st.data(),
    st.booleans(),
)  # fmt: skip
def test_no_usage_that_a_body_allows_costs_more_than_its_hold(
    said: list[tuple[str, bool]], row: PriceRow, cap: int | None, data: st.DataObject, claude: bool
) -> None:
    image: dict[str, Any] = IMAGE if claude else {"type": "input_image", "image_url": "https://a.example/b"}
    kind = "text" if claude else "input_text"
    turns = [
        {"role": "user", "content": [{"type": kind, "text": text}, *([image] if pictured else [])]}
        for text, pictured in said
    ]
    endpoint, name = (Endpoint.MESSAGES, "max_tokens") if claude else (Endpoint.RESPONSES, "max_output_tokens")
    fields: dict[str, Any] = {"messages" if claude else "input": turns}
    if cap is not None or claude:
        fields[name] = cap or 77
    call = ready(endpoint, fields, row=row)
    held = data.draw(st.integers(call.need.amount, call.need.most))
    call.seal(held)
    limit = json.loads(call.body)[name]

    pictured = any(one for _, one in said)
    seen = FACTS.context_window or 0
    prompt = data.draw(st.integers(0, seen if pictured else sum(len(text.encode()) + 3 for text, _ in said) + 3))
    write = data.draw(st.integers(0, prompt))
    hour = data.draw(st.integers(0, write))
    images = data.draw(st.integers(0, prompt - write)) if pictured else 0
    output = data.draw(st.integers(0, limit))
    used = Usage(
        input=prompt - write - images, cache_write=write - hour, cache_write_1h=hour, image_input=images,
        output=output, reasoning=data.draw(st.integers(0, output)),
    )  # fmt: skip
    assert price(used, row) <= held
