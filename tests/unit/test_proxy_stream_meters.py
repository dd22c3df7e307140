"""Streams read event by event: what is passed on, when an answer has begun, how it ends, what it used."""

import json

import pytest

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters import StreamMeter, stream_meter
from services.proxy.domain.paths import Endpoint
from shared.pricing import Usage
from tests.support import wire_streams as wires
from tests.support.wire_streams import CHAT_USAGE, DONE, FAILURES, FILTERS, HI, PING, ROLE, SAMPLES, Sample, chunk, data


def meter_of(wire: Endpoint, *, hide: bool = False) -> StreamMeter:
    return stream_meter(wire, Asked(model="m", endpoint=wire, stream=True), hide_usage=hide, grok=False)


def feed(wire: Endpoint, *frames: bytes, hide: bool = False) -> tuple[bytes, StreamMeter]:
    meter = meter_of(wire, hide=hide)
    return b"".join(meter.feed(frame) for frame in frames), meter


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_stream_passes_unchanged_and_is_metered(sample: Sample) -> None:
    out, meter = feed(sample.wire, *sample.frames)
    assert out == sample.bytes
    assert (meter.reading().usage, meter.reading().served_model) == (sample.usage, sample.model)
    assert (meter.done, meter.failed) == (True, False)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_only_the_last_event_ends_a_stream(sample: Sample) -> None:
    _, meter = feed(sample.wire, *sample.frames[:-1])
    assert not meter.done


@pytest.mark.parametrize(("name", "wire", "first", "content", "end", "code"), FAILURES)
def test_a_stream_begins_with_content_and_can_fail_before(
    name: str,
    wire: Endpoint,
    first: tuple[bytes, ...],
    content: tuple[bytes, ...],
    end: tuple[bytes, ...],
    code: str,
) -> None:
    meter = meter_of(wire)
    for frame in (PING, *first, PING):
        assert meter.feed(frame) == frame
        assert not meter.begun
    _, failed = feed(wire, *first, *end)
    assert failed.failure is not None
    assert (failed.failure.code, failed.begun) == (code, False)
    assert failed.reading().usage is None
    meter.feed(content[0])
    assert meter.begun
    for frame in end:
        assert meter.feed(frame) == frame
    assert meter.failure == failed.failure


def test_the_wait_of_a_failure_is_in_its_event() -> None:
    _, meter = feed(Endpoint.RESPONSES, data(wires.R_CREATED), data(wires.R_FAILED), data(wires.R_ERROR))
    assert meter.failure is not None
    assert (meter.failure.status, meter.failure.retry_after, meter.failure.retryable) == (429, "7", True)
    assert meter.done


def test_a_failed_response_without_its_reason_is_not_done_yet() -> None:
    _, meter = feed(Endpoint.RESPONSES, data(wires.R_CREATED), data(wires.R_FAILED))
    assert (meter.failed, meter.done) == (True, False)


@pytest.mark.parametrize(
    "frame",
    [
        chunk(wires.delta(content="Hi")),
        chunk(wires.delta(reasoning_content="Hm")),
        chunk(wires.delta(refusal="No")),
        chunk(wires.delta(tool_calls=[{"index": 0}])),
        chunk(wires.delta(audio={"id": "a"})),
        chunk({"delta": {}, "finish_reason": "content_filter"}),
        wires.TEXT,
    ],
)
def test_what_begins_a_chat(frame: bytes) -> None:
    assert feed(Endpoint.CHAT, frame)[1].begun


@pytest.mark.parametrize(
    "frame",
    [
        FILTERS,
        ROLE,
        PING,
        wires.ASYNC,
        CHAT_USAGE,
        b"event: ping\ndata: {}\n\n",
        b"data: nonsense\n\n",
        chunk(wires.delta(role="assistant", content="", tool_calls=[], audio=None)),
    ],
)
def test_what_does_not_begin_a_chat(frame: bytes) -> None:
    assert not feed(Endpoint.CHAT, frame)[1].begun


def test_usage_is_hidden_from_who_did_not_ask() -> None:
    out, meter = feed(Endpoint.CHAT, FILTERS, ROLE, HI, HI, wires.STOP, CHAT_USAGE, DONE, hide=True)
    assert out == b"".join((FILTERS, ROLE, HI, HI, wires.STOP, DONE)).replace(b',"usage":null', b"")
    assert meter.reading().usage == Usage(input=10, output=4)
    assert json.loads(meter.reading().raw) == {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


def test_spaces_hide_nothing() -> None:
    frames = [json.dumps(json.loads(frame[6:])).encode() for frame in (ROLE, HI, CHAT_USAGE)]
    out, meter = feed(Endpoint.CHAT, *(b"data: " + frame + b"\n\n" for frame in frames), hide=True)
    assert b'"usage"' not in out
    assert out.count(b"data:") == 2
    assert meter.reading().usage == Usage(input=10, output=4)


def test_injected_usage_that_cannot_be_believed_is_hidden_all_the_same() -> None:
    out, meter = feed(Endpoint.CHAT, HI, chunk(usage={"prompt_tokens": -1}), DONE, hide=True)
    assert b"prompt_tokens" not in out
    assert meter.reading().usage is None


def test_hiding_touches_no_content() -> None:
    text = 'say ,"usage":null and "usage":{"prompt_tokens":1} and [DONE] and "error"'
    tricky, plain = chunk(wires.delta(content=text), usage=None), chunk(wires.delta(content=text))
    out, meter = feed(Endpoint.CHAT, HI, tricky, hide=True)
    assert out.endswith(plain)
    assert (meter.reading().usage, meter.done, meter.failed) == (None, False, False)


def test_usage_beside_content_is_read_and_stays() -> None:
    last = chunk(wires.delta(content="Hi"), usage={"prompt_tokens": 10, "completion_tokens": 4})
    out, meter = feed(Endpoint.CHAT, last, DONE, hide=True)
    assert out == last + DONE
    assert meter.reading().usage == Usage(input=10, output=4)


def test_the_last_usage_counts() -> None:
    more = chunk(usage={"prompt_tokens": 10, "completion_tokens": 9})
    _, meter = feed(Endpoint.CHAT, HI, CHAT_USAGE, more, DONE)
    assert meter.reading().usage == Usage(input=10, output=9)


def test_the_tier_of_an_earlier_event_counts() -> None:
    _, meter = feed(Endpoint.CHAT, chunk(wires.delta(role="assistant"), service_tier="priority"), HI, CHAT_USAGE, DONE)
    assert meter.reading().usage == Usage(input=10, output=4, tier="priority")


def test_a_null_error_and_one_of_the_filter_are_none() -> None:
    odd = {**wires.delta(content="a"), "content_filter_results": {"error": {"code": "content_filter_error"}}}
    _, meter = feed(Endpoint.CHAT, chunk(odd, error=None), HI, chunk(odd, error=None), DONE)
    assert not meter.failed


@pytest.mark.parametrize("tail", [(DONE,), ()])
def test_an_error_event_ends_a_chat_with_and_without_done(tail: tuple[bytes, ...]) -> None:
    out, meter = feed(Endpoint.CHAT, HI, wires.CHAT_ERROR, *tail, hide=True)
    assert (meter.failed, meter.done) == (True, bool(tail))
    assert b"overloaded" in out


def test_what_message_start_says_is_no_usage_yet() -> None:
    _, meter = feed(Endpoint.MESSAGES, data(wires.M_START), data(wires.M_BLOCK), data(wires.M_DELTA))
    assert (meter.reading().usage, meter.reading().served_model) == (None, wires.CLAUDE)


def test_the_last_usage_of_a_message_replaces_field_by_field() -> None:
    later = {
        "type": "message_delta",
        "usage": {"input_tokens": 20, "cache_read_input_tokens": None, "output_tokens": 9},
    }
    _, meter = feed(Endpoint.MESSAGES, *(data(event) for event in (*wires.M_EVENTS[:-1], later, wires.M_STOP)))
    assert meter.reading().usage == Usage(input=20, cached=100, cache_write=1000, cache_write_1h=24, output=9)
    assert json.loads(meter.reading().raw)["output_tokens"] == 9


def test_an_incomplete_response_is_an_end_like_any_other() -> None:
    last = {"type": "response.incomplete", "response": wires.response("incomplete", wires.R_USAGE)}
    _, meter = feed(Endpoint.RESPONSES, data(wires.R_CREATED), data(wires.R_DELTA), data(last))
    assert (meter.done, meter.failed) == (True, False)
    assert meter.reading().usage == Usage(input=5, cached=4, output=71, reasoning=64)


def test_responses_content_is_no_event() -> None:
    _, meter = feed(Endpoint.RESPONSES, data(wires.R_CREATED), data(wires.R_DELTA), data(wires.R_DELTA))
    assert (meter.begun, meter.done, meter.failed, meter.content_frames) == (True, False, False, 2)


def test_coheres_content_is_counted_and_only_its_last_event_tells() -> None:
    delta = data(wires.COHERE_DELTA)
    _, meter = feed(Endpoint.RAW, data(wires.COHERE_START), delta, delta)
    assert (meter.begun, meter.done, meter.content_frames, meter.ends_by_close) == (True, False, 2, False)
    assert meter.reading().usage is None
    _, meter = feed(Endpoint.RAW, data(wires.COHERE_START), delta, data({"type": "message-end", "delta": {}}))
    assert (meter.done, meter.reading().usage) == (True, None)
    _, meter = feed(Endpoint.RAW, data(wires.COHERE_START), data({"type": "message-end", "delta": 7}))
    assert (meter.done, meter.reading().usage) == (True, None)


def test_a_stream_of_which_nothing_is_known_ends_when_it_ends() -> None:
    _, meter = feed(Endpoint.RAW, b"data: {}\n\n", b"data: nonsense\n\n")
    assert (meter.begun, meter.ends_by_close, meter.reading().usage) == (True, True, None)
    _, meter = feed(Endpoint.RAW, HI)
    assert not meter.ends_by_close
