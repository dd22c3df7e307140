"""Streams on their way through: held back until content, failures as HTTP errors before it and as events after it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.proxy.domain.paths import Dialect, Endpoint
from services.proxy.relay import reader
from services.proxy.relay import stream as relay_stream
from services.proxy.upstream import UpstreamError
from shared.pricing import Usage
from tests.support import wire_streams as wires
from tests.support.relays import HOST, KEY, Bench, ScriptedReply, call_of
from tests.support.wire_streams import CHAT_USAGE, DONE, FAILURES, FILTERS, HI, PING, ROLE, SAMPLES, STOP, Sample, data
from tests.unit.asgi_driver import GONE, Exchange


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with asyncio.timeout(20):
        yield made
    await made.close()


class Loud:
    """A transform that can be seen in every byte."""

    def whole(self, body: bytes) -> bytes:
        return body.upper()

    def feed(self, frame: bytes) -> bytes:
        return frame.upper()

    def end(self) -> bytes:
        return b"data: END\n\n"

    def text(self, message: str) -> str:
        return message


class Choking:
    """A transform that cannot make sense of content."""

    def whole(self, body: bytes) -> bytes:
        raise ValueError("no sense")

    def feed(self, frame: bytes) -> bytes:
        if "Grüße".encode() in frame:
            raise ValueError("no sense")
        return frame

    def end(self) -> bytes:
        return b""

    def text(self, message: str) -> str:
        return message


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_every_wire_passes(bench: Bench, sample: Sample) -> None:
    answer = await bench.stream(call_of(sample.wire), ScriptedReply(*sample.frames))
    assert (answer.status, answer.body, answer.finished) == (200, sample.bytes, True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-tundish-call-id"] == "call-1"
    settled = bench.settled
    assert (settled.usage, settled.outcome, settled.status, settled.whole) == (sample.usage, "ok", 200, True)
    assert bench.log[bench.log.index("used") + 1 :] == (["last"] if sample.name != "chat, empty" else ["head", "last"])


async def test_the_head_waits_for_content(bench: Bench) -> None:
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(exchange.sent))

    exchange = Exchange([], bench.log)
    reply = ScriptedReply(look, FILTERS, look, PING, look, ROLE, look, HI, look, HI + DONE)
    await bench.stream(call_of(Endpoint.CHAT), reply, exchange)
    assert seen == [0, 0, 0, 0, 2]
    assert exchange.chunks[0] == FILTERS + PING + ROLE + HI


async def test_a_stream_without_content_is_passed_whole_at_its_end(bench: Bench) -> None:
    answer = await bench.stream(call_of(Endpoint.CHAT, inject=True), ScriptedReply(FILTERS, CHAT_USAGE, DONE))
    assert (answer.status, answer.body) == (200, FILTERS + DONE)
    assert bench.log == ["used", "head", "last"]


async def test_after_a_while_the_head_goes_out_whatever_has_come(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "HOLD_BACK_S", 0)
    head = asyncio.Event()

    async def sent(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and PING in message["body"]:
            head.set()

    exchange = Exchange([], bench.log)
    exchange.on_send = sent
    reply = ScriptedReply(FILTERS, PING, head.wait, wires.CHAT_ERROR)
    await bench.stream(call_of(Endpoint.CHAT), reply, exchange)
    assert (exchange.status, exchange.finished) == (200, True)
    assert exchange.body == FILTERS + PING + wires.CHAT_ERROR
    assert (bench.settled.how, bench.settled.whole) == ("reading", False)


async def test_first_events_are_held_back_up_to_a_size(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_stream, "HOLD_BACK_BYTES", 100)
    answer = await bench.stream(call_of(Endpoint.CHAT), ScriptedReply(PING * 20 + wires.CHAT_ERROR))
    assert (answer.status, answer.body) == (200, PING * 20 + wires.CHAT_ERROR)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize(("name", "wire", "first", "content", "end", "code"), FAILURES)
async def test_a_failure_before_content_is_a_plain_error(
    bench: Bench, name: str, wire: Endpoint, first: Any, content: Any, end: Any, code: str, dialect: Dialect
) -> None:
    answer = await bench.stream(call_of(wire, dialect=dialect), ScriptedReply(*first, *end))
    assert answer.status >= 429
    assert answer.headers["content-type"] == "application/json"
    assert answer.error["code"] == code
    assert ("type" in json.loads(answer.body)) == (dialect == "anthropic")
    assert (bench.settled.how, bench.settled.status) == ("free", answer.status)
    assert bench.log == ["used", "head", "last"]


async def test_a_responses_stream_that_failed_then_erred_is_a_429(bench: Bench) -> None:
    reply = ScriptedReply(data(wires.R_FAILED), data(wires.R_ERROR))
    answer = await bench.stream(call_of(Endpoint.RESPONSES), reply)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("7", "true")


async def test_the_wait_of_the_replys_head_is_told(bench: Bench) -> None:
    reply = ScriptedReply(data({"error": {"code": "429", "message": "slow"}}), retry_after="9")
    answer = await bench.stream(call_of(Endpoint.CHAT), reply)
    assert (answer.status, answer.headers["retry-after"]) == (429, "9")


@pytest.mark.parametrize(("name", "wire", "first", "content", "end", "code"), FAILURES)
async def test_a_failure_after_content_is_an_event(
    bench: Bench, name: str, wire: Endpoint, first: Any, content: Any, end: Any, code: str
) -> None:
    answer = await bench.stream(call_of(wire), ScriptedReply(*first, *content, *end))
    assert (answer.status, answer.body, answer.finished) == (200, b"".join((*first, *content, *end)), True)
    settled = bench.settled
    assert (settled.how, settled.usage, settled.whole) == ("reading", None, False)
    assert bench.log[-2:] == ["used", "last"]


async def test_a_failure_in_a_translated_stream_is_told_in_the_callers_dialect(bench: Bench) -> None:
    frames = (wires.named(wires.M_START), wires.named(wires.M_DELTA), wires.named(wires.M_ERROR))
    call = call_of(Endpoint.MESSAGES, transform=Loud(), translation="chat_to_messages")
    answer = await bench.stream(call, ScriptedReply(*frames))
    assert answer.body.startswith(b"".join(frames[:2]).upper())
    last = answer.chunks[-1]
    assert b"END" not in answer.body
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "overloaded_error"


@pytest.mark.parametrize("early", [True, False])
async def test_a_failure_gives_nothing_of_foundrys_away(bench: Bench, early: bool) -> None:
    text = f"https://{HOST}/openai failed for key {KEY}"
    error = data({"error": {"message": text, "code": "x", "type": "server_error"}})
    answer = await bench.stream(call_of(Endpoint.CHAT), ScriptedReply(*(() if early else (HI,)), error))
    assert HOST.encode() not in answer.body
    assert KEY.encode() not in answer.body
    assert b'"code":"x"' in answer.body


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("reset", 502, "upstream_reset"), ("timeout", 504, "upstream_timeout")]
)
async def test_a_connection_that_breaks_before_content(bench: Bench, kind: Any, status: int, code: str) -> None:
    answer = await bench.stream(call_of(Endpoint.CHAT), ScriptedReply(ROLE, UpstreamError(kind, "it broke")))
    assert (answer.status, answer.error["code"]) == (status, code)
    settled = bench.settled
    assert (settled.how, settled.usage, settled.whole) == ("reading", None, False)
    assert settled.outcome == ("timeout" if kind == "timeout" else "upstream_error")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_stream_that_stops_before_its_last_event_has_failed(bench: Bench, sample: Sample, how: str) -> None:
    if sample.name in ("chat, empty", "chat without usage"):
        return
    broken = [] if how == "close" else [UpstreamError("reset", "it broke")]
    answer = await bench.stream(call_of(sample.wire), ScriptedReply(*sample.frames[:-1], *broken))
    assert (answer.status, answer.finished) == (200, True)
    assert answer.body.startswith(b"".join(sample.frames[:-1]))
    assert b"upstream_stream_broken" in answer.chunks[-1]
    assert (bench.settled.outcome, bench.settled.whole) == ("upstream_error", False)


async def test_an_empty_stream_has_failed(bench: Bench) -> None:
    answer = await bench.stream(call_of(Endpoint.CHAT), ScriptedReply())
    assert (answer.status, answer.error["code"]) == (502, "upstream_stream_broken")


async def test_what_only_ends_by_its_close_is_no_failure(bench: Bench) -> None:
    answer = await bench.stream(call_of(Endpoint.RAW), ScriptedReply(b"data: {}\n\n", b"data: 1"))
    assert answer.body == b"data: {}\n\ndata: 1"
    assert (bench.settled.outcome, bench.settled.whole) == ("ok", True)


async def test_a_transform_sees_what_was_metered(bench: Bench) -> None:
    call = call_of(Endpoint.CHAT, inject=True, transform=Loud())
    answer = await bench.stream(call, ScriptedReply(ROLE + HI, CHAT_USAGE, DONE))
    assert answer.body == (ROLE + HI + DONE).replace(b',"usage":null', b"").upper() + b"data: END\n\n"
    assert bench.settled.usage == Usage(input=10, output=4)


async def test_a_translation_sees_the_usage_that_callers_do_not(bench: Bench) -> None:
    call = call_of(Endpoint.CHAT, inject=True, transform=Loud(), translation="messages_to_chat")
    answer = await bench.stream(call, ScriptedReply(HI, CHAT_USAGE, DONE))
    assert CHAT_USAGE.upper() in answer.body


@pytest.mark.parametrize("first", [(), (wires.chunk(wires.delta(content="a")),)])
async def test_a_stream_that_cannot_be_translated_is_still_metered(bench: Bench, first: tuple[bytes, ...]) -> None:
    call = call_of(Endpoint.CHAT, transform=Choking(), translation="messages_to_chat", dialect="anthropic")
    answer = await bench.stream(call, ScriptedReply(*first, HI, CHAT_USAGE, DONE))
    assert b"upstream_bad_reply" in answer.body
    assert answer.status == (200 if first else 502)
    assert (bench.settled.usage, bench.settled.outcome) == (Usage(input=10, output=4), "upstream_error")


async def test_a_caller_who_leaves_before_content_is_sent_nothing(bench: Bench) -> None:
    gone = asyncio.Event()

    async def leave() -> None:
        gone.set()

    exchange = Exchange([leave, GONE], bench.log)
    await bench.stream(call_of(Endpoint.CHAT), ScriptedReply(gone.wait, HI, STOP, CHAT_USAGE, DONE), exchange)
    assert exchange.sent == []
    assert (bench.settled.usage, bench.settled.outcome) == (Usage(input=10, output=4), "client_gone")


async def test_the_reason_of_a_failure_is_not_waited_for_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_stream, "END_WAIT_S", 0.01)
    answer = await bench.stream(call_of(Endpoint.CHAT), ScriptedReply(wires.CHAT_ERROR, asyncio.Event().wait))
    assert (answer.status, answer.error["code"]) == (503, "x")


async def test_the_model_that_served_is_read_from_the_head_where_the_stream_names_the_deployment(bench: Bench) -> None:
    created = {**wires.R_COMPLETED, "response": wires.response("completed", wires.R_USAGE, model="chat-mini")}
    reply = ScriptedReply(data(wires.R_DELTA), data(created), x_ms_served_model="gpt-5-mini-2025-08-07")
    await bench.stream(call_of(Endpoint.RESPONSES), reply)
    assert bench.settled.reading.served_model == "gpt-5-mini-2025-08-07"


async def test_nothing_is_left_running(bench: Bench) -> None:
    await bench.stream(call_of(Endpoint.CHAT), ScriptedReply(HI, CHAT_USAGE, DONE))
    while bench.tasks._tasks:  # noqa: ASYNC110 - they end by themselves
        await asyncio.sleep(0)
