"""Whatever is sent to any operation: it is read and made ready, or refused as a bad request; nothing else happens."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.prepare import NoPrice, prepare
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import READ, read_request
from shared.pricing import PriceRow, Rates, Service

ROW = PriceRow(
    model="m",
    rates=Rates(
        input=1_000, output=2_000, cached=100, cache_write_1h=3_000, images=5, milliseconds=1, characters=1, queries=1,
        pages=1,
    ),
    services={"priority": Service(rates=Rates(input=5_000, output=9_000))},
    kinds={"hd/1024-x-1024": 7},
)  # fmt: skip
ENDPOINTS = sorted(READ)
FACTS = [ModelFacts(), ModelFacts(context_window=1_000, max_output=100, reasoning=True, expansion=1)]
NAMES = [
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "best_of", "prompt",
    "input", "max_output_tokens", "tools", "service_tier", "background", "previous_response_id", "system", "thinking",
    "size", "quality", "width", "height", "partial_images", "images", "image", "query", "documents", "top_n",
    "document",
    "pages", "temperature", "logit_bias", "reasoning_effort", "type", "content", "role", "source", "text", "image_url",
    "input_audio", "file", "data", "output", "result", "file_data", "modalities", "audio", "budget_tokens", "user",
    "prediction", "max_chunks_per_doc", "response_format", "stop", "tool_choice", "metadata", "instructions",
]  # fmt: skip
WORDS = [
    "m", "auto", "text", "image", "input_image", "tool_result", "tool_use", "document", "1024x1024", "hd", "priority",
    "function", "custom", "message", "item_reference", "user", "assistant", "enabled", "none", "base64", "0-3",
    "computer_screenshot", "image_url", "input_file", "high", "\ud800", "é", "",
]  # fmt: skip

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner),
    max_leaves=12,
)
likely_fields: dict[str, st.SearchStrategy[Any]] = {
    "model": st.just("m"),
    "max_tokens": st.integers(1, 50),
    "messages": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": values})),
    "input": values,
    "query": st.just("q"),
    "documents": st.just(["d"]) | values,
    "document": values,
}
bodies = st.builds(
    lambda usual, odd: {**usual, **odd},
    st.fixed_dictionaries({}, optional=likely_fields),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
)


def ways(endpoint: Endpoint) -> list[Way]:
    found = [Way(url="https://h/x", wire=endpoint), Way(url="https://h/x", wire=endpoint, body_model="d")]
    if endpoint is Endpoint.CHAT:
        found.append(Way(url="https://h/x", wire=Endpoint.MESSAGES, body_model="d", translation="chat_to_messages"))
    if endpoint is Endpoint.MESSAGES:
        found.append(Way(url="https://h/x", wire=Endpoint.CHAT, body_model="d", translation="messages_to_chat"))
    return found


def read(endpoint: Endpoint, raw: bytes, content_type: str) -> Asked | BadRequest:
    try:
        return read_request(raw, endpoint, "m", content_type)
    except BadRequest as refused:
        return refused


def check(endpoint: Endpoint, raw: bytes, content_type: str) -> None:
    asked = read(endpoint, raw, content_type)
    if isinstance(asked, BadRequest):
        assert asked.code
        assert str(asked).isprintable()
        return
    for facts in FACTS:
        for way in ways(endpoint):
            for strict in (False, True):
                deployment = Deployment(
                    model="m", name="d", provider="azure", host="h", headers=(), row=ROW, fixed_price=True,
                    priced_by="test", facts=facts, ways={endpoint: way}, drop_params=not strict,
                )  # fmt: skip
                try:
                    ready = prepare(asked, raw, deployment, way, ROW, strict=strict, default_output=50)
                except (BadRequest, NoPrice):
                    continue
                assert 0 <= ready.need.amount <= ready.need.most
                assert ready.tokens >= 0
                assert isinstance(ready.likely.prompt, int)
                ready.wanted(asked, deployment)
                ready.seal(ready.need.amount)
                assert isinstance(ready.body, bytes)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(max_examples=60, deadline=None)
@given(fields=bodies)
def test_any_json(endpoint: Endpoint, fields: dict[str, Any]) -> None:
    check(endpoint, json.dumps(fields).encode(), "application/json")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=200), content_type=st.text(max_size=40) | st.just("multipart/form-data; boundary=b"))
def test_any_bytes(endpoint: Endpoint, raw: bytes, content_type: str) -> None:
    for prefix in (b"", b'{"model":', b'{"messages":[', b'--b\r\nContent-Disposition: form-data; name="file"'):
        check(endpoint, prefix + raw, content_type)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "raw",
    [b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}", b'{"messages":' + b'[{"content":' * 2_000, b'{"a":1,"a":2,"a":[',
     b'{"input":' + b"[" * 5_000 + b"]" * 5_000 + b"}", b'{"n":1' + b"0" * 5_000 + b"}",
     b'{"max_tokens":5,"system":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
     b'{"max_tokens":5,"messages":[{"role":"user","content":' + b'[{"type":"tool_result","content":' * 900 + b'"x"'
     + b"}]" * 900 + b"}]}", b'{"temperature":1e999}', b'{"prompt":' + b"9" * 5_000 + b"}"],
)  # fmt: skip
def test_depth_and_size_are_no_crash(endpoint: Endpoint, raw: bytes) -> None:
    check(endpoint, raw, "application/json")
