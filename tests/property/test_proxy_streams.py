"""Any cut of any stream gives the caller the same bytes and the till the same reading; nothing ever raises."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.simulator import Simulator
from services.proxy.domain.asked import Asked
from services.proxy.domain.meters import content_tokens, read_reply, stream_meter
from services.proxy.domain.meters import realtime as realtime_meter
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.sse import FrameSplitter
from services.proxy.upstream import UpstreamError
from shared.pricing import CLASSES, Usage
from tests.support.relays import Bench, ScriptedReply, Settled, call_of
from tests.support.wire_streams import DONE, FAILURES, HI, PING, SAMPLES, Sample
from tests.unit.asgi_driver import Exchange
from tests.unit.simulator_driver import ask

STREAMING = (
    Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES, Endpoint.IMAGES,
    Endpoint.TRANSCRIPTIONS, Endpoint.SPEECH, Endpoint.RAW,
)  # fmt: skip
ENDS = (b"\n", b"\r\n", b"\r")
PLACES = st.lists(st.integers(0, 100_000), max_size=12)
FRAMES = sorted({frame for sample in SAMPLES for frame in sample.frames} | {PING, HI, DONE})
ODD = (b"", b"\n", b"data:", b"data: {}\n\n", b"\xef\xbb\xbf", b"data: [DONE]", b"event: error\n", b": \xff\n\n", b"\r")


class Doubling:
    """A transform whose every step shows: each event twice, and a last word."""

    def whole(self, body: bytes) -> bytes:
        return body + body

    def feed(self, frame: bytes) -> bytes:
        return frame + frame

    def end(self) -> bytes:
        return b": the end\n\n"

    def text(self, message: str) -> str:
        return message


class Outcome:
    """What came of one passage: everything that must not depend on how the network cut the stream."""

    def __init__(self, answer: Exchange, settled: Settled) -> None:
        self.seen = (answer.status, answer.body, settled)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


async def pass_through(wire: Endpoint, steps: list[Any], *, inject: bool, changed: bool, told: bool) -> Outcome:
    bench = Bench()
    call = call_of(
        wire,
        inject=inject,
        transform=Doubling() if changed else None,
        translation="messages_to_chat" if told else None,
    )
    answer = await bench.stream(call, ScriptedReply(*steps))
    await bench.close()
    assert answer.finished
    return Outcome(answer, bench.settled)


def check_any_cut(wire: Endpoint, data: bytes, places: list[int], end: Any, **how: bool) -> Outcome:
    async def both() -> tuple[Outcome, Outcome]:
        whole = await pass_through(wire, [data, *end] if data else [*end], **how)
        parts = await pass_through(wire, [*cut(data, places), *end], **how)
        return whole, parts

    whole, parts = asyncio.run(both())
    assert parts.seen == whole.seen
    return whole


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(SAMPLES), PLACES, st.sampled_from(ENDS), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)
def test_good_streams(
    sample: Sample, places: list[int], end: bytes, inject: bool, changed: bool, told: bool, stops: bool
) -> None:
    frames = sample.frames[:-1] if stops else sample.frames
    data = b"".join(frame.replace(b"\n", end) for frame in frames)
    found = check_any_cut(sample.wire, data, places, (), inject=inject, changed=changed, told=told)
    early = sample.wire in (Endpoint.CHAT, Endpoint.RAW, Endpoint.MESSAGES) and b"message-end" not in sample.frames[-1]
    assert found.seen[2].usage == (sample.usage if early or not stops else None)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(FAILURES), PLACES, st.integers(0, 4), st.booleans(), st.booleans(), st.booleans())
def test_failed_streams(case: Any, places: list[int], contents: int, inject: bool, changed: bool, told: bool) -> None:
    _, wire, first, content, end, _ = case
    data = b"".join((*first, *(content * contents), *end))
    found = check_any_cut(wire, data, places, (), inject=inject, changed=changed, told=told)
    assert found.seen[2].how == ("reading" if contents else "free")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(STREAMING),
    st.lists(st.sampled_from([*FRAMES, *ODD]), max_size=12),
    PLACES,
    st.sampled_from([(), (UpstreamError("reset", "it broke"),), (UpstreamError("timeout", "it hung"),)]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_invented_streams(
    wire: Endpoint, frames: list[bytes], places: list[int], end: Any, inject: bool, changed: bool, told: bool
) -> None:
    check_any_cut(wire, b"".join(frames), places, end, inject=inject, changed=changed, told=told)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(STREAMING), st.binary(max_size=300), PLACES, st.booleans())
def test_random_bytes(wire: Endpoint, data: bytes, places: list[int], inject: bool) -> None:
    check_any_cut(wire, data, places, (), inject=inject, changed=False, told=False)


def check_usage(usage: Usage | None) -> None:
    assert usage is None or all(getattr(usage, name) >= 0 for name in CLASSES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["usage", "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "model",
         "prompt_tokens_details", "input_tokens_details", "input_token_details", "cached_tokens", "audio_tokens",
         "image_tokens", "cache_creation", "ephemeral_1h_input_tokens", "cache_creation_input_tokens", "seconds",
         "cache_read_input_tokens", "meta", "billed_units", "search_units", "usage_info", "pages_processed", "data",
         "type", "response", "message", "choices", "delta", "error", "service_tier", "duration", "text", "pages"]),
        inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(Endpoint)), JSON | st.binary(max_size=100))
def test_readers_never_raise(wire: Endpoint, content: Any) -> None:
    import json

    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    asked = Asked(model="m", endpoint=wire)
    check_usage(read_reply(wire, body, "application/json", asked).usage)
    assert content_tokens(wire, body) >= 0
    check_usage(realtime_meter.usage_of_response_done(body))
    check_usage(realtime_meter.usage_of_transcription(body))
    for hide in (True, False):
        meter = stream_meter(wire, asked, hide_usage=hide, grok=hide)
        for frame in (b"data: " + body + b"\n\n", body, b"data: " + body + b"\n\n"):
            meter.feed(frame)
        check_usage(meter.reading().usage)


@pytest.mark.parametrize("wire", list(Endpoint))
def test_deep_nesting_never_raises(wire: Endpoint) -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    for body in (deep, b'{"usage":' + deep + b"}", b'{"type":"response.completed","error":' + deep + b"}"):
        asked = Asked(model="m", endpoint=wire)
        read_reply(wire, body, "application/json", asked)
        content_tokens(wire, body)
        meter = stream_meter(wire, asked, hide_usage=True, grok=False)
        frame = b"data: " + body + b"\n\n"
        assert meter.feed(frame) == frame


CHAT_BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}}
MESSAGE_BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 40}
IMAGE_BODY: dict[str, Any] = {"prompt": "A ladle", "partial_images": 2}
SPEECH_BODY: dict[str, Any] = {"input": "Say it aloud", "voice": "alloy", "stream_format": "sse"}
V1 = "/openai/v1/"
CASES: tuple[tuple[Endpoint, str, str, dict[str, Any], str], ...] = (
    (Endpoint.CHAT, V1 + "chat/completions", "gpt-4o", CHAT_BODY, ""),
    (Endpoint.CHAT, V1 + "chat/completions", "gpt-4o", CHAT_BODY,
     "prompt=90,cached=30,reasoning=2,comments=1,async_filter=1"),
    (Endpoint.CHAT, V1 + "chat/completions", "gpt-4o", CHAT_BODY, "prompt=90,cache_write=30,tool=1,image_prompt=40"),
    (Endpoint.CHAT, V1 + "chat/completions", "gpt-4o", CHAT_BODY, "prompt=90,audio_prompt=50,audio_completion=9"),
    (Endpoint.CHAT, V1 + "chat/completions", "gpt-4o", CHAT_BODY, "tier=2"),
    (Endpoint.CHAT, V1 + "chat/completions", "grok-4", CHAT_BODY, "reasoning=9,grok=1"),
    (Endpoint.MESSAGES, "/anthropic/v1/messages", "claude-sonnet-4-5", MESSAGE_BODY, ""),
    (Endpoint.MESSAGES, "/anthropic/v1/messages", "claude-sonnet-4-5", MESSAGE_BODY,
     "prompt=900,cached=3,cache_write=20,cache_write_1h=30,partial=1"),
    (Endpoint.RESPONSES, V1 + "responses", "gpt-5-mini", {"input": "Hi"}, "prompt=90,cached=30,reasoning=5"),
    (Endpoint.RESPONSES, V1 + "responses", "gpt-5-mini", {"input": "Hi"}, "event=0,done=1,tier=1"),
    (Endpoint.RESPONSES, V1 + "responses", "gpt-5-mini", {"input": "Hi"}, "event=1,done=0,tool=1"),
    (Endpoint.IMAGES, V1 + "images/generations", "gpt-image-1", IMAGE_BODY, ""),
    (Endpoint.SPEECH, V1 + "audio/speech", "gpt-4o-mini-tts", SPEECH_BODY, ""),
)  # fmt: skip


async def served(path: str, body: dict[str, Any], steer: str) -> tuple[bytes, dict[str, Any]]:
    """A stream of the simulator's, and what it says that it billed for it."""
    simulator = Simulator()
    headers = {"api-key": "sim-foundry-key", "anthropic-version": "2023-06-01"} | (
        {"x-sim-usage": steer} if steer else {}
    )
    reply = await ask(simulator, path, body, query="", headers=headers)
    assert reply.status == 200, reply.body
    log = await ask(simulator, "/_sim/served", method="GET", query="")
    return reply.body, log.json["calls"][0]["usage"]


def as_billed(usage: Usage) -> dict[str, Any]:
    """Our classes in the simulator's words, which count parts inside their wholes."""
    told = {
        "prompt": usage.prompt,
        "cached": usage.cached + usage.audio_cached + usage.image_cached,
        "cache_write": usage.cache_write,
        "cache_write_1h": usage.cache_write_1h,
        "audio_prompt": usage.audio_input + usage.audio_cached,
        "image_prompt": usage.image_input + usage.image_cached,
        "completion": usage.completion,
        "reasoning": usage.reasoning,
        "audio_completion": usage.audio_output,
        "image_completion": usage.image_output,
        "service_tier": usage.tier,
    }
    return {name: value for name, value in told.items() if value}


@pytest.mark.parametrize(("wire", "path", "model", "body", "steer"), CASES)
def test_the_simulators_streams(wire: Endpoint, path: str, model: str, body: dict[str, Any], steer: str) -> None:
    """Every byte apart, and all at once: the bytes come through, and what was billed is what was read."""
    stream, billed = asyncio.run(served(path, {"model": model, "stream": True, **body}, steer))
    every = list(range(len(stream))) if len(stream) < 30_000 else list(range(0, len(stream), 97))
    found = check_any_cut(wire, stream, every, (), inject=False, changed=False, told=False)
    status, passed, settled = found.seen
    after = b"data: [DONE]\n\n" if wire is Endpoint.RESPONSES else b""
    assert (status, passed) == (200, stream.removesuffix(after) if after else stream)
    assert settled.usage is not None
    assert as_billed(settled.usage) == billed
    assert (settled.outcome, settled.whole) == ("ok", True)


@given(st.binary(max_size=400), PLACES)
def test_the_splitter_never_loses_a_byte(data: bytes, places: list[int]) -> None:
    splitter = FrameSplitter()
    frames = [frame for part in cut(data, places) for frame in splitter.feed(part)]
    assert b"".join(frames) + splitter.rest() == data
