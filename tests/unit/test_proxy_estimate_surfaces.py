"""What calls of every surface are likely to use, class by class, and what is held for it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.estimate import FILE_TOKENS, likely, need_of, row_of_tier
from services.proxy.domain.holds.units import billed_so, tokens_of_image
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.images import FAITHFUL_TOKENS
from shared.pricing import PROMPT_CLASSES, PriceRow, Rates, Service, Usage, price

TOKENS = PriceRow(model="m", rates=Rates(input=1_000_000, output=2_000_000, cache_write=3_000_000))
FACTS = ModelFacts(context_window=128_000, max_output=16_384, image_tokens=(85, 1_445))
URL = "https://a.example/b.png"


def usage(
    endpoint: Endpoint,
    fields: dict[str, Any],
    row: PriceRow = TOKENS,
    facts: ModelFacts = FACTS,
    content_type: str = "application/json",
) -> Usage:
    raw = json.dumps({"model": "m", **fields}).encode()
    return likely(read_request(raw, endpoint, None, content_type), raw, facts, row, 1_000)


def near(found: int, tokens: int) -> bool:
    return tokens <= found <= tokens + 100


PARTS = [
    ({"type": "input_image", "image_url": URL}, (0, 1_445, 0)),
    ({"type": "input_image", "image_url": URL, "detail": "low"}, (0, 85, 0)),
    ({"type": "input_image", "file_id": "file-1"}, (0, 1_445, 0)),
    ({"type": "input_image", "image_url": "data:image/png;base64," + "A" * 90_000}, (0, 1_445, 0)),
    ({"type": "input_file", "file_id": "file-1"}, (FILE_TOKENS, 0, 0)),
    ({"type": "input_file", "file_data": "A" * 160_000}, (20_000, 0, 0)),
    ({"type": "input_audio", "input_audio": {"data": "A" * 49_998, "format": "mp3"}}, (0, 0, 100)),
    ({"type": "input_text", "text": "hi"}, (0, 0, 0)),
    ({"type": "image", "source": {"type": "base64", "data": "A" * 90_000}}, (0, 1_445, 0)),
    ({"type": "document", "source": {"type": "base64", "data": "A" * 160_000}}, (20_000, 0, 0)),
    ({"type": "document", "source": {"type": "url", "url": URL}}, (FILE_TOKENS, 0, 0)),
    ({"type": "document", "source": {"type": "text", "data": "abc" * 500}}, (500, 0, 0)),
    ({"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": URL}}]}, (0, 1_445, 0)),
]


@pytest.mark.parametrize(("part", "tokens"), PARTS)
def test_parts_by_their_kind(part: dict[str, Any], tokens: tuple[int, int, int]) -> None:
    for endpoint, name in ((Endpoint.RESPONSES, "input"), (Endpoint.CHAT, "messages")):
        found = usage(endpoint, {name: [{"role": "user", "content": [part]}]})
        assert near(found.input, tokens[0])
        assert (found.image_input, found.audio_input, found.output) == (*tokens[1:], 1_000)
    claude = usage(Endpoint.MESSAGES, {"messages": [{"role": "user", "content": [part]}], "max_tokens": 9})
    assert near(claude.prompt, sum(tokens))
    assert claude.output == 9


def test_the_window_cuts_text_first() -> None:
    parts = [{"type": "input_image", "image_url": URL}, {"type": "input_text", "text": "x" * 30_000}]
    small = ModelFacts(context_window=2_000, image_tokens=(85, 1_445))
    found = usage(Endpoint.RESPONSES, {"input": [{"role": "user", "content": parts}]}, facts=small)
    assert (found.input, found.image_input) == (555, 1_445)
    tiny = ModelFacts(context_window=1_000, image_tokens=(85, 1_445))
    found = usage(Endpoint.RESPONSES, {"input": [{"role": "user", "content": parts}]}, facts=tiny)
    assert (found.input, found.image_input) == (0, 1_000)


def test_the_output_by_the_callers_cap_or_the_default() -> None:
    assert usage(Endpoint.RESPONSES, {"input": "x"}).output == 1_000
    assert usage(Endpoint.RESPONSES, {"input": "x", "max_output_tokens": 7}).output == 7
    assert usage(Endpoint.RESPONSES, {"input": "x", "max_output_tokens": 10**6}).output == 16_384
    assert usage(Endpoint.COMPLETIONS, {"prompt": ["x", "y"], "best_of": 3}).output == 2 * 3 * 16
    assert usage(Endpoint.COMPLETIONS, {"prompt": [[1, 2], [3]]}).input == 3
    spoken = usage(Endpoint.CHAT, {"messages": [], "modalities": ["text", "audio"], "max_tokens": 50})
    assert (spoken.output, spoken.audio_output) == (0, 50)


def test_embeddings_of_pictures() -> None:
    picture = "data:image/png;base64," + "A" * 90_000
    found = usage(Endpoint.EMBEDDINGS, {"input": [{"image": picture}, {"image": picture, "text": "hi"}]})
    assert found.image_input == 2 * 1_445
    assert found.input < 100
    assert usage(Endpoint.EMBEDDINGS, {"input": [{"x": 1}]}).image_input == 0


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("low/1024-x-1024", 272), ("low/1024-x-1536", 408), ("medium/1024-x-1024", 1_056),
        ("medium/1536-x-1024", 1_584), ("high/1024-x-1024", 4_160), ("high/1024-x-1536", 6_240),
        ("auto/auto", 6_240), ("standard/1024-x-1024", 4_160), ("high/2048-x-2048", 16_640),
    ],
)  # fmt: skip
def test_tokens_of_a_picture(kind: str, tokens: int) -> None:
    assert tokens_of_image(kind) == tokens


PIECES = PriceRow(model="dall-e-3", rates=Rates(), kinds={"standard/1024-x-1024": 44_000 * 10**9})
GPT_IMAGE = PriceRow(
    model="gpt-image-1", rates=Rates(input=5_000_000_000, output=40_000_000_000, image_input=10_000_000_000)
)


def test_pictures_as_their_price_is() -> None:
    asked = {"prompt": "abc" * 10, "n": 2}
    assert usage(Endpoint.IMAGES, asked, PIECES) == Usage(images=2, kind="standard/1024-x-1024")
    assert usage(Endpoint.IMAGES, asked, GPT_IMAGE) == Usage(input=10, image_output=8_320)
    flat = PriceRow(model="flux", rates=Rates(images=40_000 * 10**9))
    assert usage(Endpoint.IMAGES, {**asked, "size": "512x512"}, flat) == Usage(images=2, kind="standard/512-x-512")
    both = PriceRow(model="mai", rates=Rates(input=5, output=1, images=40_000 * 10**9))
    assert usage(Endpoint.IMAGES, asked, both).images == 2, "the dearer one"
    dear = PriceRow(model="mai", rates=Rates(input=5, output=40_000_000_000, images=1))
    assert usage(Endpoint.IMAGES, asked, dear).image_output == 8_320
    assert usage(Endpoint.IMAGES, asked, PriceRow(model="x", rates=Rates())).images == 2
    edits = usage(Endpoint.IMAGE_EDITS, {"images": ["a"], "quality": "low"}, GPT_IMAGE)
    assert edits == Usage(image_input=FAITHFUL_TOKENS, image_output=272)
    held = need_of(edits, GPT_IMAGE, Endpoint.IMAGE_EDITS).amount
    assert held == price(edits, GPT_IMAGE) == FAITHFUL_TOKENS * 10_000 + 272 * 40_000


@pytest.mark.parametrize(
    ("counted", "rates", "so"),
    [
        (Usage(images=1), Rates(), True),
        (Usage(images=1), Rates(input=5, output=40, image_output=40), False),
        (Usage(images=1), Rates(input=5, output=47, images=48), True),
        (Usage(images=1), Rates(input=0, output=0), True),
        (Usage(characters=1), Rates(characters=15), True),
        (Usage(characters=1), Rates(input=1, output=10, audio_output=12, milliseconds=3), False),
        (Usage(characters=1), Rates(), True),
        (Usage(milliseconds=1), Rates(milliseconds=1), True),
        (Usage(milliseconds=1), Rates(input=2, output=10, audio_input=6), False),
        (Usage(pages=1), Rates(input=1, output=1), True),
    ],
)
def test_what_a_model_is_billed_by(counted: Usage, rates: Rates, so: bool) -> None:
    kinds = {"low/1024-x-1024": 11} if counted.images else {}
    assert billed_so(counted, PriceRow(model="m", rates=rates, kinds=kinds)) is so


def test_sound_as_its_price_is() -> None:
    raw = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n' + b"x" * 40_000 + b"\r\n--b\r\n"
        b'Content-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    )
    asked = read_request(raw, Endpoint.TRANSCRIPTIONS, None, "multipart/form-data; boundary=b")
    whisper = PriceRow(model="whisper", rates=Rates(milliseconds=100_000_000))
    assert likely(asked, raw, FACTS, whisper, 1_000) == Usage(milliseconds=10_000)
    tokens = PriceRow(model="t", rates=Rates(input=2, output=10, audio_input=6))
    assert likely(asked, raw, FACTS, tokens, 1_000) == Usage(audio_input=100, output=50)
    small = ModelFacts(context_window=20, max_output=10)
    assert likely(asked, raw, small, tokens, 1_000) == Usage(audio_input=20, output=10)
    assert likely(asked, raw, FACTS, PriceRow(model="x", rates=Rates()), 1_000).milliseconds == 10_000


def test_speech_as_its_price_is() -> None:
    characters = PriceRow(model="tts-1", rates=Rates(characters=15_000_000_000))
    found = usage(Endpoint.SPEECH, {"input": "hello there!"}, characters)
    assert found == Usage(characters=12)
    assert need_of(found, characters, Endpoint.SPEECH).amount == 12 * 15_000
    tokens = PriceRow(model="mini-tts", rates=Rates(input=600, output=10_000, audio_output=12_000))
    assert usage(Endpoint.SPEECH, {"input": "hello there!"}, tokens) == Usage(input=4, audio_output=24)


def test_search_units_and_pages() -> None:
    asked = {"query": "q", "documents": ["d"] * 150}
    assert usage(Endpoint.RERANK, asked) == Usage(queries=2)
    rerank = PriceRow(model="r", rates=Rates(input=0, output=0, queries=2_000 * 10**9))
    assert need_of(Usage(queries=2), rerank, Endpoint.RERANK).amount == 4_000_000
    assert usage(Endpoint.OCR, {"document": {"document_url": "u"}, "pages": [0, 1]}) == Usage(pages=2)


tokens = st.integers(0, 10**6)
rates = st.builds(
    Rates,
    **{name: st.none() | st.integers(0, 10**11) for name in Rates.__struct_fields__ if name not in ("input", "output")},
    input=st.integers(0, 10**11),
    output=st.integers(0, 10**11),
)


@given(
    rates,
    st.builds(Usage, **dict.fromkeys(("input", "image_input", "audio_input", "output", "audio_output"), tokens)),
    st.data(),
)
def test_no_way_of_billing_a_likely_usage_costs_more_than_its_hold(
    one: Rates, said: Usage, data: st.DataObject
) -> None:
    row = PriceRow(model="m", rates=one, fee=data.draw(st.integers(0, 10**9)))
    held = need_of(said, row, Endpoint.CHAT).amount
    cached = data.draw(st.integers(0, said.input))
    write = data.draw(st.integers(0, said.input - cached))
    sound, seen = data.draw(st.integers(0, said.audio_input)), data.draw(st.integers(0, said.image_input))
    billed = Usage(
        input=said.input - cached - write,
        cached=cached,
        cache_write=write,
        audio_input=said.audio_input - sound,
        audio_cached=sound,
        image_input=said.image_input - seen,
        image_cached=seen,
        output=said.output,
        reasoning=data.draw(st.integers(0, said.output)),
        audio_output=said.audio_output,
    )
    assert price(billed, row) <= held + 1, "each rounded once"


@given(rates, rates, tokens, tokens)
def test_a_tier_or_the_standard_may_serve(one: Rates, other: Rates, prompt: int, output: int) -> None:
    row = PriceRow(model="m", rates=one, services={"priority": Service(rates=other)})
    held = need_of(Usage(input=prompt, output=output), row_of_tier(row, "priority"), Endpoint.CHAT).amount
    for tier in ("", "priority"):
        assert price(Usage(input=prompt, output=output, tier=tier), row) <= held
    assert row_of_tier(row, "flex") is row


def test_all_prompt_classes_are_thought_of() -> None:
    assert set(PROMPT_CLASSES) == {
        "input", "cached", "cache_write", "cache_write_1h",
        "audio_input", "audio_cached", "image_input", "image_cached",
    }  # fmt: skip
