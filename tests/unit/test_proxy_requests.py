"""What is read of each operation's requests, and how those that make no sense are refused."""

import json
from typing import Any

import pytest

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.audio import milliseconds_of
from services.proxy.domain.requests.completions import PROMPTS_MAX
from services.proxy.domain.requests.images import FAITHFUL_TOKENS, UPLOAD_TOKENS
from services.proxy.domain.requests.ocr import PAGES
from services.proxy.domain.requests.responses import EARLIER_TOKENS, HOSTED_TOKENS, REFERENCE_TOKENS
from shared.pricing import Usage


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def read(endpoint: Endpoint, **fields: Any) -> Asked:
    return read_request(body(**fields), endpoint, None)


def form(*parts: tuple[str, str | None, bytes], boundary: str = "b0") -> tuple[bytes, str]:
    """A form's body and content type; a part is its name, file name and content."""
    out = b""
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        out += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return out + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def read_form(endpoint: Endpoint, *parts: tuple[str, str | None, bytes], model: str | None = None) -> Asked:
    raw, content_type = form(*parts)
    return read_request(raw, endpoint, model, content_type)


def refused(endpoint: Endpoint, raw: bytes, content_type: str = "application/json") -> BadRequest:
    with pytest.raises(BadRequest) as error:
        read_request(raw, endpoint, None, content_type)
    assert str(error.value)
    return error.value


JSON_ENDPOINTS = [
    Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.RESPONSES, Endpoint.MESSAGES,
    Endpoint.COUNT_TOKENS, Endpoint.IMAGES, Endpoint.IMAGE_EDITS, Endpoint.SPEECH, Endpoint.RERANK, Endpoint.OCR,
]  # fmt: skip
LEAST: dict[Endpoint, dict[str, Any]] = {
    Endpoint.MESSAGES: {"max_tokens": 5},
    Endpoint.SPEECH: {"input": "hi"},
    Endpoint.RERANK: {"query": "q", "documents": ["d"]},
    Endpoint.OCR: {"document": {"type": "document_url", "document_url": "https://a.example/b.pdf"}},
}


@pytest.mark.parametrize("endpoint", JSON_ENDPOINTS)
def test_every_reader_names_model_and_operation(endpoint: Endpoint) -> None:
    asked = read(endpoint, **LEAST.get(endpoint, {}))
    assert (asked.model, asked.endpoint) == ("m", endpoint)
    raw = json.dumps(LEAST.get(endpoint, {})).encode()
    assert read_request(raw, endpoint, "of-the-path").model == "of-the-path"
    assert refused(endpoint, raw).code == "missing_model"


@pytest.mark.parametrize("endpoint", JSON_ENDPOINTS)
@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"nul", b"\xff", b'{"model":"\xff"}', b'{"model":NaN}', b'{"model":7}', b'{"model":"\\ud800"}',
     b"[" * 100_000, b'{"model":' + b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_request_is_refused(endpoint: Endpoint, raw: bytes) -> None:
    assert refused(endpoint, raw).code in ("invalid_json", "invalid_request_body")


@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        (Endpoint.COMPLETIONS, {"n": "2"}, "n"),
        (Endpoint.COMPLETIONS, {"prompt": 7}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": []}, None),
        (Endpoint.COMPLETIONS, {"prompt": ["x"] * (PROMPTS_MAX + 1)}, "prompt"),
        (Endpoint.COMPLETIONS, {"best_of": 0}, "best_of"),
        (Endpoint.COMPLETIONS, {"max_tokens": -1}, "max_tokens"),
        (Endpoint.RESPONSES, {"max_output_tokens": -1}, "max_output_tokens"),
        (Endpoint.RESPONSES, {"max_output_tokens": 10**30}, "max_output_tokens"),
        (Endpoint.RESPONSES, {"input": 7}, "input"),
        (Endpoint.RESPONSES, {"input": [7]}, "input"),
        (Endpoint.RESPONSES, {"tools": [7]}, "tools[0]"),
        (Endpoint.MESSAGES, {}, "max_tokens"),
        (Endpoint.MESSAGES, {"max_tokens": True}, "max_tokens"),
        (Endpoint.MESSAGES, {"max_tokens": 5, "messages": ["x"]}, "messages[0]"),
        (Endpoint.IMAGES, {"n": 0}, "n"),
        (Endpoint.IMAGES, {"size": "large"}, "size"),
        (Endpoint.IMAGES, {"quality": "very good!"}, "quality"),
        (Endpoint.IMAGES, {"partial_images": 9}, "partial_images"),
        (Endpoint.SPEECH, {}, "input"),
        (Endpoint.RERANK, {"documents": ["x"]}, "query"),
        (Endpoint.RERANK, {"query": "x"}, "documents"),
        (Endpoint.RERANK, {"query": "x", "documents": []}, "documents"),
        (Endpoint.RERANK, {"query": "x", "documents": [7]}, "documents[0]"),
        (Endpoint.RERANK, {"query": "x", "documents": ["y"], "top_n": 0}, "top_n"),
        (Endpoint.OCR, {}, "document"),
        (Endpoint.OCR, {"document": {"document_url": "u"}, "pages": "a-b"}, "pages"),
    ],
)
def test_values_out_of_bounds_name_the_field(endpoint: Endpoint, fields: dict[str, Any], param: str | None) -> None:
    if param is None:
        assert read(endpoint, **fields).choices == 1
    else:
        assert refused(endpoint, body(**fields)).param == param


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("hi", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1], [2, 3]], 2), (None, 1), (list(range(5_000)), 1)],
)
def test_each_prompt_of_a_completion_has_its_answers(prompt: Any, prompts: int) -> None:
    assert read(Endpoint.COMPLETIONS, prompt=prompt).choices == prompts
    assert read(Endpoint.COMPLETIONS, prompt=prompt, n=2, best_of=3).choices == 3 * prompts
    assert read(Endpoint.COMPLETIONS, prompt=prompt, n=4).choices == 4 * prompts


def test_a_completion_has_sixteen_tokens_unless_it_says_otherwise() -> None:
    assert read(Endpoint.COMPLETIONS, prompt="x").output_cap == 16
    asked = read(Endpoint.COMPLETIONS, prompt="x", max_tokens=99, stream=True, stream_options={"include_usage": True})
    assert (asked.output_cap, asked.stream, asked.include_usage) == (99, True, True)


def test_a_response() -> None:
    asked = read(
        Endpoint.RESPONSES,
        input="hi", max_output_tokens=50, stream=True, background=True, service_tier="priority",
    )  # fmt: skip
    assert (asked.output_cap, asked.stream, asked.background, asked.tier) == (50, True, True, "priority")
    assert (asked.cap_field, asked.chat, asked.guess.input) == ("max_output_tokens", True, 0)
    assert read(Endpoint.RESPONSES, service_tier="auto").tier == ""


def test_items_of_a_response_that_are_no_plain_text() -> None:
    parts = [{"type": "input_image", "image_url": "https://a.example/b.png"}]
    asked = read(
        Endpoint.RESPONSES,
        input=[
            {"role": "user", "content": "text"},
            {"role": "user", "content": parts},
            {"type": "function_call_output", "call_id": "1", "output": parts},
            {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "u"}},
            {"type": "image_generation_call", "result": "AAAA"},
            {"type": "item_reference", "id": "msg_1"},
        ],
    )
    assert [json.loads(bytes(part)) for part in asked.parts] == [
        parts, parts, [{"type": "computer_screenshot", "image_url": "u"}], [{"image_url": "AAAA"}],
    ]  # fmt: skip
    assert asked.guess.input == REFERENCE_TOKENS


def test_what_a_response_only_names_is_assumed() -> None:
    asked = read(
        Endpoint.RESPONSES,
        previous_response_id="resp_1",
        conversation=None,
        tools=[{"type": "web_search"}, {"type": "function", "name": "f"}, {"type": "custom", "name": "g"}],
    )
    assert asked.guess.input == EARLIER_TOKENS + HOSTED_TOKENS


def test_a_message() -> None:
    image = [{"type": "image", "source": {"type": "url", "url": "u"}}]
    asked = read(
        Endpoint.MESSAGES,
        max_tokens=9, stream=True, system="s", messages=[{"role": "user", "content": image}, {"content": "x"}],
    )  # fmt: skip
    assert (asked.output_cap, asked.max_tokens, asked.stream, len(asked.parts)) == (9, 9, True, 1)
    counted = read(Endpoint.COUNT_TOKENS, messages=[{"role": "user", "content": "x"}])
    assert (counted.output_cap, counted.chat, counted.stream) == (0, False, False)


@pytest.mark.parametrize(
    ("fields", "units"),
    [
        ({}, Usage(images=1, kind="standard/1024-x-1024")),
        ({"n": 3, "quality": "HD", "size": "1792x1024"}, Usage(images=3, kind="hd/1792-x-1024")),
        ({"quality": "auto", "size": "auto"}, Usage(images=1, kind="auto/auto")),
        ({"width": 512, "height": 768, "num_images": 2}, Usage(images=2, kind="standard/512-x-768")),
    ],
)
def test_pictures_and_their_kind(fields: dict[str, Any], units: Usage) -> None:
    assert read(Endpoint.IMAGES, prompt="a cat", **fields).units == units


def test_partial_pictures_are_tokens() -> None:
    asked = read(Endpoint.IMAGES, prompt="abc" * 10, n=2, stream=True, partial_images=3)
    assert (asked.stream, asked.guess) == (True, Usage(input=10, image_output=600))


def test_pictures_to_be_changed() -> None:
    images = [("image[]", "a.png", b"AAA"), ("image[]", "b.png", b"BBB")]
    asked = read_form(
        Endpoint.IMAGE_EDITS, ("model", None, b"gpt-image-1"), *images,
        ("prompt", None, b"a dog"), ("n", None, b"2"), ("size", None, b"1024x1536"), ("quality", None, b"low"),
        ("input_fidelity", None, b"low"),
    )  # fmt: skip
    assert asked.model == "gpt-image-1"
    assert asked.units == Usage(images=2, kind="low/1024-x-1536")
    assert asked.guess.image_input == 2 * UPLOAD_TOKENS
    assert read_form(Endpoint.IMAGE_EDITS, *images, model="m").guess.image_input == 2 * FAITHFUL_TOKENS
    assert read(Endpoint.IMAGE_EDITS, images=["a", "b", "c"]).guess.image_input == 3 * FAITHFUL_TOKENS


def test_sound_is_as_long_as_its_size_says() -> None:
    asked = read_form(
        Endpoint.TRANSCRIPTIONS, ("file", "speech.mp3", b"x" * 40_000), ("model", None, b"whisper"),
        ("prompt", None, b"abc"), ("stream", None, b"true"),
    )  # fmt: skip
    assert (asked.model, asked.stream) == ("whisper", True)
    assert asked.guess == Usage(input=1, milliseconds=10_000)
    assert read_form(Endpoint.TRANSLATIONS, ("file", "s.mp3", b""), model="m").endpoint is Endpoint.TRANSLATIONS


@pytest.mark.parametrize(
    ("name", "size", "milliseconds"),
    [("a.wav", 8_000, 1_000), ("a.MP3", 4_000, 1_000), ("a.webm", 2_000, 1_000), ("a", 2_000, 1_000), (None, 1, 1)],
)
def test_bytes_in_a_second(name: str | None, size: int, milliseconds: int) -> None:
    assert milliseconds_of(b"", size, name) == milliseconds


def test_a_wav_file_says_how_long_it_is() -> None:
    head = (
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0" + (16_000).to_bytes(4, "little") + (32_000).to_bytes(4, "little")
    )
    assert milliseconds_of(head, 64_000, "a.wav") == 2_000
    assert milliseconds_of(head[:28] + bytes(4), 8_000, "a.wav") == 1_000


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([("model", None, b"m")], "file"),
        ([("file", "a.mp3", b""), ("file", "b.mp3", b"")], "file"),
        ([("file", None, b"x")], "file"),
        ([("file", "a.mp3", b""), ("model", None, b"a"), ("model", None, b"b")], "model"),
        ([("file", "a.mp3", b""), ("model", None, b"\xff")], "model"),
        ([("file", "a.mp3", b""), ("model", None, b"m"), ("stream", None, b"maybe")], "stream"),
        ([("file", "a.mp3", b"")], "model"),
    ],
)
def test_forms_that_make_no_sense(parts: list[tuple[str, str | None, bytes]], param: str) -> None:
    raw, content_type = form(*parts)
    assert refused(Endpoint.TRANSCRIPTIONS, raw, content_type).param == param


def test_speech_has_characters() -> None:
    asked = read(Endpoint.SPEECH, input="Grüße 🙂", voice="alloy")
    assert (asked.units.characters, asked.stream) == (7, False)
    assert read(Endpoint.SPEECH, input="x", stream_format="sse").stream


@pytest.mark.parametrize(
    ("fields", "units"),
    [
        ({"documents": ["x"]}, 1),
        ({"documents": ["x"] * 100}, 1),
        ({"documents": ["x"] * 101}, 2),
        ({"documents": [{"text": "x"}] * 101, "return_documents": True}, 2),
        ({"documents": ["x" * 4 * 600] * 100}, 2),
        ({"documents": ["x" * 4 * 600] * 100, "max_chunks_per_doc": 1}, 1),
        ({"documents": ["x" * 4 * 60_000] * 100}, 10),
        ({"documents": ["x" * 4 * 60_000] * 100, "max_tokens_per_doc": 1_000}, 2),
        ({"documents": ["x" * 4 * 400] * 100, "query": "q" * 4 * 200}, 2),
    ],
)
def test_search_units(fields: dict[str, Any], units: int) -> None:
    assert read(Endpoint.RERANK, **{"query": "q", **fields}).units == Usage(queries=units)


@pytest.mark.parametrize(
    ("fields", "pages"),
    [
        ({"document": {"type": "document_url", "document_url": "u"}}, PAGES),
        ({"document": {"type": "document_url", "document_url": "u" * 5_000_000}}, 50),
        ({"document": {"type": "image_url", "image_url": "u"}}, 1),
        ({"document": {"type": "image_url", "image_url": {"url": "u"}}}, 1),
        ({"document": "u"}, PAGES),
        ({"document": {"document_url": "u"}, "pages": [0, 1, 2]}, 3),
        ({"document": {"document_url": "u"}, "pages": "0-3, 7"}, 5),
    ],
)
def test_pages(fields: dict[str, Any], pages: int) -> None:
    assert read(Endpoint.OCR, **fields).guess == Usage(pages=pages)


def test_pages_that_are_described_too_are_of_a_kind_of_their_own() -> None:
    asked = read(Endpoint.OCR, document={"document_url": "u"}, pages=[0], document_annotation_format={"type": "x"})
    assert asked.guess == Usage(pages=1, kind="annotated")


def test_a_chat_that_wants_to_speak_or_to_be_served_first() -> None:
    assert read(Endpoint.CHAT, modalities=["text", "audio"]).spoken
    assert not read(Endpoint.CHAT, modalities=["text"]).spoken
    tiers = {tier: read(Endpoint.CHAT, service_tier=tier).tier for tier in ("flex", "priority", "auto", 7)}
    assert tiers == {"flex": "flex", "priority": "priority", "auto": "", 7: ""}


def test_what_is_no_inference_is_not_read_here() -> None:
    assert refused(Endpoint.FILES, b"{}").code == "invalid_request_body"
