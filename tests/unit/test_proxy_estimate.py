"""What is held for a call in default mode: rarely too little, and never more than the model can use."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.estimate import FILE_TOKENS, Need, affordable, prompt_tokens, realistic, text_tokens
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from shared.pricing import PriceRow, Rates, estimate

ROW = PriceRow(model="m", rates=Rates(input=1_000_000, output=2_000_000, cache_write=3_000_000))
GPT = ModelFacts(context_window=128_000, max_output=16_384, image_tokens=(85, 1_445))
CHAT, EMBEDDINGS = Endpoint.CHAT, Endpoint.EMBEDDINGS


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", **fields}, ensure_ascii=False).encode()


def need(raw: bytes, endpoint: Endpoint = CHAT, facts: ModelFacts = GPT, default: int = 1_000) -> Need:
    return realistic(read_request(raw, endpoint, None), raw, facts, ROW, default)


def prompt(raw: bytes, endpoint: Endpoint = CHAT, facts: ModelFacts = GPT) -> int:
    return prompt_tokens(read_request(raw, endpoint, None), raw, facts)


def said(*parts: Any) -> bytes:
    return body(messages=[{"role": "user", "content": list(parts)}])


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({}, 1_000),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 10}, 10),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"n": 3}, 3_000),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 1_000_000}, 16_384),
        ({"max_tokens": 1_000_000, "n": 2}, 32_768),
    ],
)
def test_the_output_is_the_callers_cap_or_the_default_for_each_choice(fields: dict[str, Any], output: int) -> None:
    raw = body(messages=[], **fields)
    found = need(raw)
    assert found.output == output
    assert found.prompt == -(-len(raw) // 3)
    assert found.amount == found.most == estimate(found.prompt, output, ROW)


def test_the_default_output_is_bounded_by_what_the_model_gives() -> None:
    assert need(body(), facts=ModelFacts(max_output=300)).output == 300
    assert need(body(), facts=ModelFacts()).output == 1_000
    assert need(body(max_tokens=10**7), facts=ModelFacts()).output == 10**7


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("abc", 1), ("abcd", 2), ("", 0), ("ж", 1), ("жжж", 3), ("漢", 2), ("漢漢", 3), ("abc漢漢", 4), ("🙂", 2)],
)
def test_text_by_its_bytes(text: str, tokens: int) -> None:
    assert text_tokens(text.encode()) == tokens


# Texts and their well-known token counts (cl100k_base), each inside the smallest message.
@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("hello world", 2),
        ("1234567890", 4),
    ],
)
def test_what_is_known_of_tokenizers_is_not_underestimated(text: str, true: int) -> None:
    raw = body(messages=[{"role": "user", "content": text}])
    assert prompt(raw) >= true + 7


URL = {"url": "https://pictures.example/a.png"}


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": URL}, 1_445),
        ({"type": "image_url", "image_url": {**URL, "detail": "high"}}, 1_445),
        ({"type": "image_url", "image_url": {**URL, "detail": "auto"}}, 1_445),
        ({"type": "image_url", "image_url": {**URL, "detail": "low"}}, 85),
        ({"type": "image_url", "image_url": "https://pictures.example/a.png"}, 1_445),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000, "detail": "low"}}, 85),
        ({"type": "input_audio", "input_audio": {"data": "A" * 50_000, "format": "mp3"}}, 100),
        ({"type": "input_audio", "input_audio": {"data": "A" * 50_000, "format": "wav"}}, 50),
        ({"type": "file", "file": {"file_id": "file-1"}}, FILE_TOKENS),
        ({"type": "file", "file": {"file_data": "A" * 80_000, "filename": "a.pdf"}}, 10_000),
        ({"type": "text", "text": "hello"}, 0),
        ("hello", 0),
        ({"type": "something_new", "something_new": 1}, 0),
    ],
)
def test_parts_are_counted_by_kind_and_their_data_is_no_text(part: Any, tokens: int) -> None:
    found = prompt(said(part))
    assert tokens <= found <= tokens + 80


def test_images_are_counted_each() -> None:
    image = {"type": "image_url", "image_url": URL}
    assert prompt(said(image, image, image)) >= 3 * 1_445
    twice = body(messages=[{"role": "user", "content": [image]}] * 2)
    assert prompt(twice) >= 2 * 1_445


def test_an_image_is_as_large_as_the_model_sees_it() -> None:
    image = said({"type": "image_url", "image_url": {**URL, "detail": "low"}})
    mini = ModelFacts(image_tokens=(2_833, 48_169))
    assert prompt(image, facts=mini) >= 2_833


def test_the_context_window_bounds_the_prompt() -> None:
    raw = body(messages=[{"role": "user", "content": "x" * 300_000}])
    assert prompt(raw, facts=ModelFacts(context_window=8_192)) == 8_192
    assert prompt(raw, facts=ModelFacts()) > 100_000


@pytest.mark.parametrize(
    "content", [[7], [None], [{"type": 7}], [{"image_url": 7}], [{"input_audio": []}], [[]], [{"file": "x"}]]
)
def test_parts_that_make_no_sense_count_as_text(content: Any) -> None:
    raw = body(messages=[{"role": "user", "content": content}])
    assert prompt(raw) == text_tokens(raw)


def test_tools_and_schemas_count_as_text() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    raw = body(messages=[], tools=[tool] * 10)
    assert prompt(raw) == -(-len(raw) // 3)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [([1, 2, 3], 3), ([[1, 2], [3]], 3), ([7], 1), (list(range(1_000)), 1_000)],
)
def test_token_ids_need_no_guess(given: Any, tokens: int) -> None:
    assert prompt(body(input=given), EMBEDDINGS) == tokens


def test_embeddings_of_texts_have_a_prompt_only() -> None:
    raw = body(input=["alpha", "beta"], max_tokens=500)
    found = need(raw, EMBEDDINGS)
    assert (found.prompt, found.output) == (-(-len(raw) // 3), 0)
    assert prompt(body(), EMBEDDINGS) > 0


@given(st.text(max_size=300), st.booleans())
def test_more_bytes_are_never_fewer_tokens(text: str, escaped: bool) -> None:
    raw = json.dumps(text, ensure_ascii=escaped).encode("utf-8", "replace")
    assert text_tokens(raw + b"abc") > text_tokens(raw) or not raw
    assert len(raw) / 3 <= text_tokens(raw) <= len(raw)


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.integers(0, 10**11), st.integers(1, 10**11))
def test_what_is_affordable_is_paid_for(nusd: int, tokens: int, input_rate: int, output_rate: int) -> None:
    row = PriceRow(model="m", rates=Rates(input=input_rate, output=output_rate))
    found = affordable(nusd, tokens, row)
    assert found is not None
    if found >= 0:
        assert estimate(tokens, found, row) <= nusd
    assert estimate(tokens, max(0, found + 1), row) >= nusd or found < -1


def test_output_that_costs_nothing_has_no_bound() -> None:
    assert affordable(1, 1, PriceRow(model="m", rates=Rates(input=1, output=0))) is None
