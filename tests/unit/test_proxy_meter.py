"""Reading usage from the bytes that pass: nothing guessed as zero, nothing altered but what must go."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.meter import RAW_BYTES_MAX, TOKENS_MAX, StreamMeter, read_body, usage_of
from services.proxy.domain.sse import FrameSplitter
from shared.pricing import Usage

REPORT = {
    "completion_tokens": 3,
    "completion_tokens_details": {"reasoning_tokens": 0},
    "prompt_tokens": 19,
    "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
    "total_tokens": 22,
}


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def event(**fields: Any) -> bytes:
    return b"data: " + encode(fields) + b"\n\n"


def chunk(text: str, **more: Any) -> bytes:
    choices = [{"delta": {"content": text}, "index": 0}]
    return event(choices=choices, model="gpt-4o-2024-08-06", object="chat.completion.chunk", **more)


FIRST = event(choices=[], created=0, id="", model="", object="", prompt_filter_results=[])
USAGE = event(choices=[], model="gpt-4o-2024-08-06", usage=REPORT)
DONE = b"data: [DONE]\n\n"
STREAM = [FIRST, chunk("Hi", usage=None), chunk(" there", usage=None), USAGE, DONE]


def feed(frames: list[bytes], *, hide: bool) -> tuple[bytes, StreamMeter]:
    meter = StreamMeter(hide_usage=hide)
    return b"".join(meter.feed(frame) for frame in frames), meter


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
        ({"prompt_tokens": 9, "completion_tokens": -1, "total_tokens": 4}, Usage(input=9)),
        ({"prompt_tokens": 9, "completion_tokens": None, "completion_tokens_details": None}, Usage(input=9)),
    ],
)  # fmt: skip
def test_token_classes(said: dict[str, Any], usage: Usage) -> None:
    assert usage_of(encode(said)) == usage


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"input_tokens": 5, "output_tokens": 7},
        {"completion_tokens": 3},
        {"prompt_tokens": None},
        {"prompt_tokens": -1},
        {"prompt_tokens": "19"},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": TOKENS_MAX + 1},
        {"prompt_tokens": 1, "completion_tokens": 10**30},
        {"prompt_tokens": 1, "total_tokens": 10**30},
        [],
        None,
        "19",
    ],
)
def test_what_cannot_be_believed_is_not_zero(said: object) -> None:
    assert usage_of(encode(said)) is None


def test_a_whole_body() -> None:
    reading = read_body(encode({"choices": [], "model": "gpt-4o-2024-08-06", "usage": REPORT}))
    assert (reading.usage, reading.served_model) == (Usage(input=19, output=3), "gpt-4o-2024-08-06")
    assert json.loads(reading.raw) == REPORT


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"usage":', b'{"model":7}', b'{"usage":null}', b"\xff"])
def test_a_body_that_does_not_say(body: bytes) -> None:
    reading = read_body(body)
    assert (reading.usage, reading.served_model, reading.raw) == (None, None, b"null")


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
    reading = read_body(body)
    assert (reading.usage, reading.raw) == (Usage(input=1), b"null")


@pytest.mark.parametrize("model", ["", "a" * 201, "a\x00b", "a\nb"])
def test_odd_served_models_are_not_believed(model: str) -> None:
    assert read_body(encode({"model": model, "usage": REPORT})).served_model is None
    _, meter = feed([event(choices=[], model=model), chunk("Hi")], hide=False)
    assert meter.reading().served_model == "gpt-4o-2024-08-06"


def test_a_stream_passes_unchanged_for_who_asked_for_usage() -> None:
    out, meter = feed(STREAM, hide=False)
    assert out == b"".join(STREAM)
    assert meter.reading().usage == Usage(input=19, output=3)
    assert (meter.done, meter.failed) == (True, False)


def test_usage_is_hidden_from_who_did_not_ask() -> None:
    out, meter = feed(STREAM, hide=True)
    assert out == b"".join([FIRST, chunk("Hi"), chunk(" there"), DONE])
    assert meter.reading().usage == Usage(input=19, output=3)
    assert json.loads(meter.reading().raw) == REPORT
    assert meter.done


def test_hiding_touches_no_content() -> None:
    tricky = chunk('say ,"usage":null and "usage":{"prompt_tokens":1} and [DONE] and "error"', usage=None)
    plain = chunk('say ,"usage":null and "usage":{"prompt_tokens":1} and [DONE] and "error"')
    out, meter = feed([tricky], hide=True)
    assert out == plain
    assert (meter.reading().usage, meter.done, meter.failed) == (None, False, False)


def test_usage_beside_content_is_read_and_stays() -> None:
    last = chunk("Hi", usage=REPORT)
    out, meter = feed([last, DONE], hide=True)
    assert out == last + DONE
    assert meter.reading().usage == Usage(input=19, output=3)


def test_the_last_usage_counts() -> None:
    more = {**REPORT, "completion_tokens": 9, "total_tokens": 28}
    _, meter = feed([chunk("a", usage=REPORT), chunk("b", usage=more), DONE], hide=False)
    assert meter.reading().usage == Usage(input=19, output=9)


def test_an_error_event_is_noticed() -> None:
    out, meter = feed([chunk("Hi"), event(error={"message": "overloaded", "code": "x"})], hide=True)
    assert meter.failed
    assert b"overloaded" in out


def test_a_null_error_is_none() -> None:
    _, meter = feed([chunk("Hi", error=None), DONE], hide=True)
    assert not meter.failed


def test_comments_and_odd_events_pass() -> None:
    frames = [b": keep-alive\n\n", b"event: ping\ndata: {}\n\n", b"data: not json\n\n", b"\n\n"]
    out, meter = feed(frames, hide=True)
    assert out == b"".join(frames)
    assert meter.reading().usage is None


@given(st.lists(st.integers(0, 5_000), max_size=20), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_meters_the_same(places: list[int], hide: bool, end: bytes) -> None:
    data = b"".join(STREAM).replace(b"\n", end)
    edges = [0, *sorted(place % len(data) for place in places), len(data)]
    splitter, meter, out = FrameSplitter(), StreamMeter(hide_usage=hide), b""
    for start, stop in pairwise(edges):
        out += b"".join(meter.feed(frame) for frame in splitter.feed(data[start:stop]))
    whole = [frame.replace(b"\n", end) for frame in STREAM]
    assert (out, meter.reading().usage) == (feed(whole, hide=hide)[0], Usage(input=19, output=3))


@given(st.binary(max_size=300))
def test_garbage_never_raises(garbage: bytes) -> None:
    read_body(garbage)
    usage_of(garbage)
    for hide in (True, False):
        StreamMeter(hide_usage=hide).feed(garbage)
        StreamMeter(hide_usage=hide).feed(b'data: {"usage":' + garbage + b"}\n\n")


def test_deep_garbage_never_raises() -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    assert usage_of(deep) is None
    assert read_body(b'{"usage":' + deep + b"}").usage is None
    frame = b'data: {"usage":' + deep + b"}\n\n"
    assert StreamMeter(hide_usage=True).feed(frame) == frame
