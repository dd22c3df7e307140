"""Reading usage from the bytes that pass, wire by wire: nothing guessed as zero, no token counted twice."""

import json
from typing import Any

import pytest

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters import (
    Reading,
    audio,
    chat,
    content_tokens,
    images,
    messages,
    partners,
    read_reply,
    realtime,
    responses,
    stream_meter,
    trusted,
)
from services.proxy.domain.meters.reading import RAW_BYTES_MAX, TOKENS_MAX, Tokens
from services.proxy.domain.paths import Endpoint
from shared.pricing import Usage
from tests.support.wire_streams import encode

REPORT = {
    "completion_tokens": 3,
    "completion_tokens_details": {"audio_tokens": 0, "reasoning_tokens": 0},
    "prompt_tokens": 19,
    "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
    "total_tokens": 22,
}


def asked(endpoint: Endpoint = Endpoint.CHAT, units: Usage | None = None, tier: str = "") -> Asked:
    return Asked(model="m", endpoint=endpoint, units=units or Usage(), tier=tier)


def read(wire: Endpoint, body: object, units: Usage | None = None, tier: str = "") -> Reading:
    content = body if isinstance(body, bytes) else encode(body)
    return read_reply(wire, content, "application/json", asked(wire, units, tier))


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (REPORT, Usage(input=19, output=3)),
        ({"prompt_tokens": 2, "total_tokens": 2}, Usage(input=2)),
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 60}},
            Usage(input=40, cached=60, output=5),
        ),
        (
            {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}},
            Usage(input=10, cached=60, cache_write=30),
        ),
        (  # more cached than there was prompt: never a negative class
            {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5}},
            Usage(cached=10),
        ),
        (
            {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": -5, "cache_write_tokens": None}},
            Usage(input=10),
        ),
        (  # reasoning is inside completion_tokens: not added again
            {"prompt_tokens": 9, "completion_tokens": 71, "total_tokens": 80,
             "completion_tokens_details": {"reasoning_tokens": 64}},
            Usage(input=9, output=71, reasoning=64),
        ),
        (  # … or outside of it, which only the total shows
            {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 80,
             "completion_tokens_details": {"reasoning_tokens": 64}},
            Usage(input=9, output=71, reasoning=64),
        ),
        (  # more reasoning than output
            {"prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 64}},
            Usage(input=9, output=7, reasoning=7),
        ),
        ({"prompt_tokens": 9, "completion_tokens": None, "completion_tokens_details": None}, Usage(input=9)),
        (  # sound in and out of both totals
            {"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"audio_tokens": 70},
             "completion_tokens_details": {"audio_tokens": 40, "reasoning_tokens": 20}},
            Usage(input=30, audio_input=70, output=10, audio_output=40, reasoning=10),
        ),
        (  # images, with a cached part that is text first
            {"prompt_tokens": 100, "completion_tokens": 5,
             "prompt_tokens_details": {"image_tokens": 60, "text_tokens": 40, "cached_tokens": 30}},
            Usage(input=10, cached=30, image_input=60, output=5),
        ),
        (  # … and goes on into the images, which are billed as cached text
            {"prompt_tokens": 100, "prompt_tokens_details": {"image_tokens": 60, "cached_tokens": 70}},
            Usage(cached=70, image_input=30),
        ),
        (  # … and last into the sound
            {"prompt_tokens": 100, "prompt_tokens_details": {"audio_tokens": 60, "cached_tokens": 70}},
            Usage(cached=40, audio_cached=30, audio_input=30),
        ),
        (  # parts larger than the whole
            {"prompt_tokens": 10,
             "prompt_tokens_details": {"audio_tokens": 60, "image_tokens": 70, "cached_tokens": 9}},
            Usage(audio_cached=9, audio_input=1),
        ),
        (
            {"prompt_tokens": 10, "prompt_tokens_details": {"image_tokens": 8, "cache_write_tokens": 6}},
            Usage(cache_write=6, image_input=4),
        ),
    ],
)  # fmt: skip
def test_chat_classes(said: dict[str, Any], usage: Usage) -> None:
    assert chat.usage_of(encode(said)) == usage


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"input_tokens": 5, "output_tokens": 7},
        {"completion_tokens": 3},
        {"prompt_tokens": None},
        {"prompt_tokens": -1},
        {"prompt_tokens": 9, "completion_tokens": -1, "total_tokens": 4},
        {"prompt_tokens": "19"},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": TOKENS_MAX + 1},
        {"prompt_tokens": 1, "completion_tokens": 10**30},
        {"prompt_tokens": 1, "total_tokens": 10**30},
        {"prompt_tokens": 1, "completion_tokens": TOKENS_MAX + 1},
        [],
        None,
        "19",
    ],
)
def test_what_cannot_be_believed_is_not_zero(said: object) -> None:
    assert chat.usage_of(encode(said)) is None


def test_grok_without_a_total_tells_reasoning_beside_its_output() -> None:
    said = {"prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 64}}
    assert chat.usage_of(encode(said), grok=True) == Usage(input=9, output=71, reasoning=64)
    assert chat.usage_of(encode({**said, "total_tokens": 80}), grok=True) == Usage(input=9, output=71, reasoning=64)


@pytest.mark.parametrize(
    ("said", "wanted", "tier"),
    [
        (None, "", ""),
        ("default", "priority", ""),
        ("auto", "", ""),
        ("standard", "", ""),
        ("scale", "", ""),
        (7, "", ""),
        ("flex", "", "flex"),
        ("priority", "", "priority"),
        ("batch", "", "batch"),
        (None, "priority", "priority"),
        (None, "flex", ""),
    ],
)
def test_the_tier_that_served_counts(said: object, wanted: str, tier: str) -> None:
    body: dict[str, object] = {"usage": {"prompt_tokens": 1}} | ({} if said is None else {"service_tier": said})
    assert read(Endpoint.CHAT, body, tier=wanted).usage == Usage(input=1, tier=tier)
    body["usage"] = {"input_tokens": 1}
    assert read(Endpoint.RESPONSES, body, tier=wanted).usage == Usage(input=1, tier=tier)
    inside = {"usage": {"input_tokens": 1, "output_tokens": 0, "service_tier": said}}
    assert read(Endpoint.MESSAGES, inside, tier=wanted).usage == Usage(input=1, tier=tier)


def test_a_whole_body() -> None:
    reading = read(Endpoint.CHAT, {"choices": [], "model": "gpt-4o-2024-08-06", "usage": REPORT})
    assert (reading.usage, reading.served_model) == (Usage(input=19, output=3), "gpt-4o-2024-08-06")
    assert json.loads(reading.raw) == REPORT


WIRES = [wire for wire in Endpoint if wire not in (Endpoint.COUNT_TOKENS, Endpoint.SPEECH)]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"usage":', b'{"model":7}', b'{"usage":null}', b"\xff"])
def test_a_body_that_does_not_say(wire: Endpoint, body: bytes) -> None:
    assert read(wire, body) == Reading()


@pytest.mark.parametrize(
    "odd",
    [
        '"x":"' + "a" * RAW_BYTES_MAX + '"',
        '"x":' + "[" * 70 + "]" * 70,
        '"x":"\\u0000"',
        '"x":"\udcff"',
    ],
)
def test_raw_usage_is_kept_only_if_every_reader_can_store_it(odd: str) -> None:
    body = ('{"usage":{"prompt_tokens":1,' + odd + "}}").encode("utf-8", "surrogateescape")
    reading = read(Endpoint.CHAT, body)
    assert (reading.usage, reading.raw) == (Usage(input=1), b"null")


@pytest.mark.parametrize("model", ["", "a" * 201, "a\x00b", "a\nb"])
def test_odd_served_models_are_not_believed(model: str) -> None:
    assert read(Endpoint.CHAT, {"model": model, "usage": REPORT}).served_model is None


def test_the_name_of_a_deployment_says_nothing_of_its_model() -> None:
    reading = Reading(served_model="chat-mini")
    assert trusted(reading, Endpoint.RESPONSES, "chat-mini").served_model is None
    assert trusted(reading, Endpoint.MESSAGES, "other").served_model == "chat-mini"
    assert trusted(reading, Endpoint.CHAT, "chat-mini").served_model == "chat-mini"


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (
            {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
             "output_tokens": 71, "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 80},
            Usage(input=3, cached=4, cache_write=2, output=71, reasoning=64),
        ),
        ({"input_tokens": 9, "output_tokens": 7, "total_tokens": 80}, Usage(input=9, output=71)),
        ({"input_tokens": 9, "output_tokens": -7}, None),
        ({"input_tokens": -9, "output_tokens": 7}, None),
        ({"prompt_tokens": 9}, None),
    ],
)  # fmt: skip
def test_responses_classes(said: dict[str, Any], usage: Usage | None) -> None:
    assert responses.usage_of(encode(said)) == usage
    assert read(Endpoint.RESPONSES, {"status": "completed", "usage": said}).usage == usage


RAN = {"type": "code_interpreter_call", "status": "completed", "code": "1+1"}


@pytest.mark.parametrize(
    ("output", "sessions"),
    [
        ([], 0),
        ([{"type": "message", "content": [{"type": "output_text", "text": '"code_interpreter_call"'}]}], 0),
        ([{**RAN, "container_id": "cntr_1"}], 1),
        ([{**RAN, "container_id": "cntr_1"}, {"type": "reasoning"}, {**RAN, "container_id": "cntr_1"}], 1),
        ([{**RAN, "container_id": "cntr_1"}, {**RAN, "container_id": "cntr_2"}], 2),
        ([RAN, {**RAN, "container_id": None}], 2),
        ([{**RAN, "container_id": 7}], 1),
        ({"type": "code_interpreter_call"}, 0),
        ([7, {**RAN, "container_id": "cntr_1"}], 0),
    ],
)
def test_containers_of_a_code_interpreter_are_counted_once_each(output: Any, sessions: int) -> None:
    body = {"status": "completed", "usage": {"input_tokens": 4, "output_tokens": 2}, "output": output}
    expected = Usage(input=4, output=2, sessions=sessions)
    assert read(Endpoint.RESPONSES, body).usage == expected
    assert read(Endpoint.RAW, body).usage == expected
    meter = stream_meter(Endpoint.RESPONSES, asked(Endpoint.RESPONSES), hide_usage=False, grok=False)
    for event in (
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.completed", "response": body},
    ):
        meter.feed(b"data: " + encode(event) + b"\n\n")
    assert meter.reading().usage == expected
    assert read(Endpoint.RESPONSES, {"status": "in_progress", "usage": None, "output": output}).usage is None


def test_a_response_that_is_queued_has_not_said_yet() -> None:
    reading = read(Endpoint.RESPONSE, {"status": "queued", "model": "gpt5-mini", "usage": None})
    assert (reading.usage, reading.served_model) == (None, "gpt5-mini")


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"input_tokens": 12, "output_tokens": 4}, Usage(input=12, output=4)),
        (
            {"input_tokens": 12, "cache_creation_input_tokens": 1024, "cache_read_input_tokens": 7, "output_tokens": 4},
            Usage(input=12, cached=7, cache_write=1024, output=4),
        ),
        (
            {"input_tokens": 12, "cache_creation_input_tokens": 1024, "output_tokens": 4,
             "cache_creation": {"ephemeral_5m_input_tokens": 24, "ephemeral_1h_input_tokens": 1000}},
            Usage(input=12, cache_write=24, cache_write_1h=1000, output=4),
        ),
        (  # a split larger than its total
            {"input_tokens": 12, "cache_creation_input_tokens": 10, "output_tokens": 4,
             "cache_creation": {"ephemeral_5m_input_tokens": 24, "ephemeral_1h_input_tokens": 1000}},
            Usage(input=12, cache_write_1h=10, output=4),
        ),
        (  # only the split
            {"input_tokens": 12, "output_tokens": 4,
             "cache_creation": {"ephemeral_5m_input_tokens": 24, "ephemeral_1h_input_tokens": 1000}},
            Usage(input=12, cache_write=24, cache_write_1h=1000, output=4),
        ),
        ({"input_tokens": 12, "cache_read_input_tokens": -7, "output_tokens": 4}, None),
        ({"input_tokens": 12}, None),
        ({"input_tokens": 12, "output_tokens": -4}, None),
    ],
)  # fmt: skip
def test_messages_classes(said: dict[str, Any], usage: Usage | None) -> None:
    assert messages.usage_of(encode(said)) == usage
    assert read(Endpoint.MESSAGES, {"type": "message", "usage": said}).usage == usage


def test_counting_tokens_costs_nothing() -> None:
    assert read(Endpoint.COUNT_TOKENS, {"input_tokens": 123}).usage == Usage()


def test_images_by_the_token() -> None:
    said = {"input_tokens": 50, "input_tokens_details": {"image_tokens": 40, "text_tokens": 10}, "output_tokens": 90}
    assert images.usage_of(encode(said)) == Usage(input=10, image_input=40, image_output=90)
    said["output_tokens_details"] = {"image_tokens": 80, "text_tokens": 10}
    assert images.usage_of(encode(said)) == Usage(input=10, image_input=40, output=10, image_output=80)
    body = {"data": [{"b64_json": ""}], "usage": said}
    assert read(Endpoint.IMAGES, body).usage == Usage(input=10, image_input=40, output=10, image_output=80)


def test_images_by_the_piece_are_those_that_came() -> None:
    wanted = Usage(images=4, kind="hd/1024-x-1024")
    reading = read(Endpoint.IMAGES, {"data": [{"url": "a"}, {"url": "b"}]}, wanted)
    assert reading.usage == Usage(images=2, kind="hd/1024-x-1024")
    assert read(Endpoint.IMAGE_EDITS, {"data": []}, wanted).usage is None
    assert read(Endpoint.IMAGES, {"data": [{}], "usage": {"input_tokens": -1}}, wanted).usage is None


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"text": "Hi", "usage": {"type": "duration", "seconds": 3}}, Usage(milliseconds=3_000)),
        ({"text": "Hi", "usage": {"type": "duration", "seconds": 2.5}}, Usage(milliseconds=2_500)),
        ({"text": "Hi", "duration": 2.1}, Usage(milliseconds=3_000)),
        ({"text": "Hi", "duration": "2.1"}, Usage(milliseconds=3_000)),
        ({"text": "Hi", "duration": "inf"}, None),
        ({"text": "Hi", "duration": "nan"}, None),
        ({"text": "Hi", "duration": -1}, None),
        ({"text": "Hi", "usage": {"type": "duration", "seconds": -3}}, None),
        ({"text": "Hi", "usage": {"type": "duration", "seconds": 1e30}}, None),
        (
            {"text": "Hi", "duration": 9, "usage": {"type": "tokens", "input_tokens": 30, "output_tokens": 2,
             "input_token_details": {"text_tokens": 5, "audio_tokens": 25}, "total_tokens": 32}},
            Usage(input=5, audio_input=25, output=2),
        ),
        ({"text": "Hi"}, None),
    ],
)  # fmt: skip
def test_transcripts(body: dict[str, Any], usage: Usage | None) -> None:
    assert read(Endpoint.TRANSCRIPTIONS, body).usage == usage
    assert read(Endpoint.TRANSLATIONS, body).usage == usage


def test_captions_say_nothing() -> None:
    reading = read_reply(Endpoint.TRANSCRIPTIONS, b'{"usage":1}', "text/plain", asked(Endpoint.TRANSCRIPTIONS))
    assert reading == Reading()


def test_speech_is_the_characters_that_were_asked_for() -> None:
    wire = Endpoint.SPEECH
    reading = read_reply(wire, b"\xff\xf3", "audio/mpeg", asked(wire, Usage(characters=12)))
    assert reading.usage == Usage(characters=12)
    assert read_reply(wire, b"\xff\xf3", "audio/mpeg", asked(wire)).usage is None
    assert audio.usage_of(b'{"input_tokens":5,"output_tokens":9}', spoken=True) == Usage(input=5, audio_output=9)


@pytest.mark.parametrize(
    ("wire", "body", "usage"),
    [
        (Endpoint.RERANK, {"results": [], "meta": {"billed_units": {"search_units": 2}}}, Usage(queries=2)),
        (Endpoint.RERANK, {"results": [], "meta": {"billed_units": {"search_units": 1.0}}}, Usage(queries=1)),
        (Endpoint.RERANK, {"results": [], "meta": {"billed_units": {"search_units": 1.5}}}, None),
        (Endpoint.RERANK, {"results": [], "meta": {"billed_units": {"search_units": -1}}}, None),
        (Endpoint.RERANK, {"results": [], "meta": {"billed_units": {}}}, None),
        (Endpoint.RERANK, {"results": [], "meta": {}}, None),
        (Endpoint.EMBEDDINGS, {"meta": {"billed_units": {"input_tokens": 7}}}, Usage(input=7)),
        (
            Endpoint.EMBEDDINGS,
            {"meta": {"billed_units": {"input_tokens": 7, "image_tokens": 1000, "images": 1}}},
            Usage(input=7, image_input=1000),
        ),
        (Endpoint.EMBEDDINGS, {"meta": {"billed_units": {"images": 2}}}, Usage(images=2)),
        (Endpoint.EMBEDDINGS, {"data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}, Usage(input=7)),
        (Endpoint.OCR, {"pages": [{}], "usage_info": {"pages_processed": 3}}, Usage(pages=3)),
        (Endpoint.OCR, {"pages": [{}, {}]}, Usage(pages=2)),
        (Endpoint.OCR, {"pages": [{}], "usage_info": {"pages_processed": -3}}, None),
        (Endpoint.OCR, {"pages": [{}], "usage_info": {"doc_size_bytes": 3}}, None),
        (Endpoint.RAW, {"pages": [{}], "usage_info": {"pages_processed": 3}}, Usage(pages=3)),
        (Endpoint.RAW, {"meta": {"billed_units": {"search_units": 2}}}, Usage(queries=2)),
        (
            Endpoint.RAW,
            {"message": {}, "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 6}, "tokens": {}}},
            Usage(input=5, output=6),
        ),
        (Endpoint.RAW, {"choices": [], "usage": REPORT}, Usage(input=19, output=3)),
        (Endpoint.RAW, {"type": "message", "usage": {"input_tokens": 1, "output_tokens": 2}}, Usage(input=1, output=2)),
        (Endpoint.RAW, {"output": [], "usage": {"input_tokens": 1, "output_tokens": 2}}, Usage(input=1, output=2)),
        (Endpoint.RAW, {"text": "", "usage": {"type": "duration", "seconds": 2}}, Usage(milliseconds=2_000)),
        (Endpoint.RAW, {"data": [{"b64_json": ""}]}, Usage(images=1)),
        (Endpoint.RAW, {"something": 1}, None),
    ],
)  # fmt: skip
def test_partners(wire: Endpoint, body: dict[str, Any], usage: Usage | None) -> None:
    assert read(wire, body).usage == usage


def test_billed_units_of_odd_types_are_not_believed() -> None:
    assert partners.billed_units(b'{"search_units":"2"}') is None


def done(usage: object, **more: Any) -> bytes:
    return encode({"type": "response.done", "response": {"id": "r", "usage": usage, **more}})


def test_a_realtime_answer_divides_the_cached_part_as_it_says() -> None:
    said = {
        "total_tokens": 250,
        "input_tokens": 150,
        "output_tokens": 100,
        "input_token_details": {
            "text_tokens": 60,
            "audio_tokens": 70,
            "image_tokens": 20,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 30, "audio_tokens": 24, "image_tokens": 10},
        },
        "output_token_details": {"text_tokens": 20, "audio_tokens": 80},
    }
    assert realtime.usage_of_response_done(done(said)) == Usage(
        input=30, cached=30, audio_input=46, audio_cached=24, image_input=10, image_cached=10, output=20,
        audio_output=80,
    )  # fmt: skip
    reading = realtime.read_response_done(done(said, model="gpt-realtime-2025-08-28"))
    assert (json.loads(reading.raw), reading.served_model) == (said, "gpt-realtime-2025-08-28")


def test_a_cancelled_realtime_answer_may_not_say() -> None:
    assert realtime.usage_of_response_done(done(None)) is None
    timed = {"type": "duration", "seconds": 2.5}
    assert realtime.usage_of_response_done(done(timed)) == Usage(milliseconds=2_500)
    assert realtime.usage_of_response_done(b"nonsense") is None
    assert realtime.usage_of_response_done(done({"input_tokens": -1})) is None


def test_a_realtime_transcription() -> None:
    said: dict[str, Any] = {"type": "tokens", "input_tokens": 22, "input_token_details": {"audio_tokens": 20}}
    event = encode({"type": "conversation.item.input_audio_transcription.completed", "usage": said})
    assert realtime.usage_of_transcription(event) == Usage(input=2, audio_input=20)
    assert realtime.usage_of_transcription(encode({"usage": {"type": "duration", "seconds": 2}})) == Usage(
        milliseconds=2_000
    )
    assert realtime.usage_of_transcription(encode({"usage": None})) is None
    assert realtime.usage_of_transcription(b"{") is None


@pytest.mark.parametrize(
    ("wire", "body", "tokens"),
    [
        (Endpoint.CHAT, {"choices": [{"message": {"content": "12345678"}}, {"message": {"tool_calls": [1]}}]}, 3),
        (Endpoint.COMPLETIONS, {"choices": [{"text": "12345678"}]}, 2),
        (Endpoint.RESPONSES, {"output": [{"content": [{"text": "1234"}]}, {"arguments": "12345"}]}, 3),
        (Endpoint.MESSAGES, {"content": [{"type": "text", "text": "1234"}, {"type": "tool_use", "input": {}}]}, 2),
        (Endpoint.TRANSCRIPTIONS, {"text": "12345"}, 2),
        (Endpoint.EMBEDDINGS, {"data": []}, 0),
        (Endpoint.CHAT, [], 0),
        (Endpoint.RESPONSES, [], 0),
        (Endpoint.MESSAGES, [], 0),
    ],
)
def test_what_a_reply_looks_like(wire: Endpoint, body: object, tokens: int) -> None:
    assert content_tokens(wire, encode(body)) == tokens


def test_what_a_reply_of_coheres_chat_looks_like() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "1234"}, {"type": "text", "text": "12345"}]}
    assert content_tokens(Endpoint.RAW, encode({"message": message})) == 3
    assert content_tokens(Endpoint.RAW, encode({"message": {"tool_calls": [1, 2]}})) == 2
    assert content_tokens(Endpoint.RAW, encode({"message": None})) == 0


@pytest.mark.parametrize(
    ("wire", "body", "counted"),
    [
        (Endpoint.IMAGES, {"data": [{}]}, True),
        (Endpoint.IMAGES, {"data": [{}], "usage": {"input_tokens": 1, "output_tokens": 1}}, False),
        (Endpoint.TRANSCRIPTIONS, {"text": "a", "duration": 2}, True),
        (Endpoint.TRANSCRIPTIONS, {"text": "a", "usage": {"type": "duration", "seconds": 2}}, False),
        (Endpoint.TRANSCRIPTIONS, {"text": "a"}, False),
        (Endpoint.RAW, {"data": [{}]}, True),
        (Endpoint.SPEECH, {}, True),
        (Endpoint.OCR, {"pages": [{}]}, False),
    ],
)
def test_what_was_counted_and_not_said_is_marked(wire: Endpoint, body: object, counted: bool) -> None:
    assert read(wire, body, Usage(characters=3)).counted is counted


def test_captions_look_like_their_text() -> None:
    assert content_tokens(Endpoint.TRANSCRIPTIONS, b"WEBVTT..") == 2


def test_classes_are_never_negative_and_never_more_than_their_totals() -> None:
    odd = (None, -3, 0, 4, 50)
    for cached in odd:
        for write in odd:
            for audio_in in odd:
                for image in odd:
                    for divided in odd:
                        said = Tokens(
                            prompt=10, output=6, cached=cached, cached_audio=divided, cached_image=divided,
                            write=write, write_1h=write, audio=audio_in, image=image, reasoning=cached,
                            audio_out=audio_in, image_out=image,
                        )  # fmt: skip
                        usage = said.usage()
                        assert usage is not None
                        assert (usage.prompt, usage.completion) == (10, 6), said
                        assert all(getattr(usage, name) >= 0 for name in ("input", "cached", "cache_write", "output",
                            "cache_write_1h", "audio_input", "audio_cached", "image_input", "image_cached",
                            "audio_output", "image_output")), said  # fmt: skip
                        assert usage.reasoning <= usage.output


def test_every_endpoint_has_a_meter() -> None:
    for wire in Endpoint:
        meter = stream_meter(wire, asked(wire), hide_usage=True, grok=False)
        assert meter.feed(b": alive\n\n") == b": alive\n\n"
        assert not (meter.begun or meter.done or meter.failed)
