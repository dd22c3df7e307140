"""Streams from the first byte to the bill, with callers and upstreams that behave badly."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.proxy.relay import reader
from services.proxy.relay import stream as relay_stream
from tests.support.data_plane import NANO_PER_INPUT, NANO_PER_OUTPUT, SECRET, DataPlane, Step, chat, refuse
from tests.unit.asgi_driver import GONE, Exchange, Pause, http_scope, pieces

COST = 10 * NANO_PER_INPUT + 4 * NANO_PER_OUTPUT


def frame(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


HI = frame(choices=[{"delta": {"content": "Hi"}}], model="gpt-4o-2024-08-06", usage=None)
THERE = frame(choices=[{"delta": {"content": " there"}}], model="gpt-4o-2024-08-06", usage=None)
USAGE = frame(choices=[], model="gpt-4o-2024-08-06", usage={"prompt_tokens": 10, "completion_tokens": 4})
DONE = b"data: [DONE]\n\n"
PASSED = (HI + THERE).replace(b',"usage":null', b"") + DONE


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    made = DataPlane(tmp_path / "journal")
    async with asyncio.timeout(20):
        yield made
    await made.close()


def start(plane: DataPlane, *then: dict[str, Any] | Pause, **fields: Any) -> tuple[Exchange, "asyncio.Task[None]"]:
    exchange = Exchange([*pieces(chat(stream=True, **fields)), *then], plane.log)
    scope = http_scope("POST", "/v1/chat/completions", {"authorization": f"Bearer {SECRET}"})
    return exchange, asyncio.create_task(plane.door(scope, exchange.receive, exchange.send))


async def run(plane: DataPlane, *steps: Step, **fields: Any) -> Exchange:
    plane.upstream.stream(*steps)
    exchange, task = start(plane, **fields)
    await task
    return exchange


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - any condition, not only an event
        await asyncio.sleep(0)


async def test_a_stream(plane: DataPlane) -> None:
    answer = await run(plane, HI, THERE, USAGE, DONE)
    assert (answer.status, answer.body, answer.finished) == (200, PASSED, True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    sent = json.loads(plane.upstream.requests[0].body)
    assert sent["stream_options"] == {"include_usage": True}
    (event,) = plane.events()
    assert (event.cost_nusd, event.measured, event.outcome) == (COST, "reported", "ok")
    assert event.first_byte_ms is not None
    assert plane.quiet()


async def test_done_is_held_back_until_the_call_is_settled(plane: DataPlane) -> None:
    answer = await run(plane, HI + THERE + USAGE + DONE)
    assert plane.log == ["opened", "head", "body", "used", "last"]
    assert answer.chunks[-1] == DONE


async def test_who_asked_for_usage_gets_the_bytes_as_they_came(plane: DataPlane) -> None:
    answer = await run(plane, HI, USAGE + DONE, stream_options={"include_usage": True})
    assert answer.body == HI + USAGE + DONE
    assert plane.upstream.requests[0].body == chat(stream=True, stream_options={"include_usage": True})


async def test_the_usage_frame_is_split_at_every_byte(plane: DataPlane) -> None:
    data = HI + THERE + USAGE + DONE
    for at in range(len(HI + THERE) - 3, len(data)):
        answer = await run(plane, data[:at], data[at:])
        assert answer.body == PASSED
        assert plane.events()[-1].cost_nusd == COST
    assert {event.measured for event in plane.events()} == {"reported"}
    assert plane.quiet()


async def test_each_event_leaves_before_the_next_comes(plane: DataPlane) -> None:
    seen: list[bytes] = []

    async def look() -> None:
        seen.append(exchange.body)

    plane.upstream.stream(look, HI, look, THERE, look, USAGE, DONE)
    exchange, task = start(plane, stream_options={"include_usage": True})
    await task
    assert seen == [b"", HI, HI + THERE]


@pytest.mark.parametrize("tail", [b"", b"data: [DONE]\n", b"data: [DONE]"])
async def test_a_last_event_without_its_blank_line(plane: DataPlane, tail: bytes) -> None:
    answer = await run(plane, HI, USAGE + tail)
    assert answer.body.startswith(HI.replace(b',"usage":null', b"") + tail)
    assert (b"upstream_stream_broken" in answer.chunks[-1]) == (not tail)
    assert answer.finished
    (event,) = plane.events()
    assert (event.cost_nusd, event.outcome) == (COST, "ok" if tail else "upstream_error")


async def test_usage_in_a_last_event_without_its_blank_line(plane: DataPlane) -> None:
    answer = await run(plane, HI, USAGE[:-2])
    assert b"prompt_tokens" not in answer.body
    assert plane.events()[0].cost_nusd == COST


async def test_no_usage_is_a_marked_estimate(plane: DataPlane) -> None:
    await run(plane, HI, THERE, DONE)
    (event,) = plane.events()
    assert event.measured == "estimated"
    assert event.cost_nusd > 0
    assert plane.quiet()


@pytest.mark.parametrize("kind", ["reset", "timeout"])
async def test_a_stream_that_breaks(plane: DataPlane, kind: str) -> None:
    answer = await run(plane, HI, refuse(kind))
    assert (answer.status, answer.finished) == (200, True)
    last = json.loads(answer.chunks[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "upstream_stream_broken"
    (event,) = plane.events()
    assert (event.measured, event.outcome, event.cost_nusd) == ("lost", "upstream_error", event.held_nusd)
    assert plane.log[-2:] == ["used", "last"]
    assert plane.quiet()


async def test_a_stream_that_breaks_after_its_usage(plane: DataPlane) -> None:
    await run(plane, HI, USAGE, refuse("reset"))
    assert (plane.events()[0].cost_nusd, plane.events()[0].measured) == (COST, "reported")


async def test_an_error_event_of_foundrys_passes(plane: DataPlane) -> None:
    error = frame(error={"message": "overloaded", "code": "overloaded"})
    answer = await run(plane, HI, error)
    assert answer.chunks[-1] == error
    assert plane.events()[0].outcome == "upstream_error"


async def test_an_endless_event_is_given_up(plane: DataPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.proxy.domain.sse.FRAME_BYTES_MAX", 1_000)
    answer = await run(plane, HI, b"data: " + b"x" * 2_000)
    assert b"upstream_stream_broken" in answer.chunks[-1]
    assert plane.quiet()


async def test_garbage_in_a_stream_is_passed_and_leaks_nothing(plane: DataPlane) -> None:
    odd = b'data: {"usage":' + b"[" * 20_000 + b"]" * 20_000 + b"}\n\n"
    answer = await run(plane, odd, b"\xff\x00\n\n", USAGE, DONE)
    assert answer.body == odd + b"\xff\x00\n\n" + DONE
    assert plane.events()[0].cost_nusd == COST


async def test_what_follows_done_is_read_but_not_passed(plane: DataPlane) -> None:
    read: list[bool] = []

    async def look() -> None:
        read.append(True)

    answer = await run(plane, USAGE, DONE, look, b"more")
    assert answer.body == DONE
    assert read == [True]


async def test_an_end_that_breaks_after_done_is_no_failure(plane: DataPlane) -> None:
    answer = await run(plane, USAGE, DONE, refuse("reset"))
    assert answer.body == DONE
    assert [event.outcome for event in plane.events()] == ["ok"]


async def test_a_plain_answer_to_a_streaming_call(plane: DataPlane) -> None:
    plane.upstream.json({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4}})
    exchange, task = start(plane)
    await task
    assert exchange.headers["content-type"] == "application/json"
    assert plane.events()[0].cost_nusd == COST


async def test_an_error_to_a_streaming_call(plane: DataPlane) -> None:
    plane.upstream.json({"error": {"code": "429", "message": "slow"}}, 429)
    exchange, task = start(plane)
    await task
    assert (exchange.status, exchange.error["code"]) == (429, "429")


async def test_a_caller_who_leaves_before_the_stream_begins(plane: DataPlane) -> None:
    gone = asyncio.Event()

    async def leave() -> None:
        gone.set()

    plane.upstream.stream(gone.wait, HI, USAGE, DONE)  # type: ignore[arg-type]
    exchange, task = start(plane, leave, GONE)
    await task
    assert exchange.sent == []  # the head waits for content
    (event,) = plane.events()
    assert (event.cost_nusd, event.measured, event.outcome) == (COST, "reported", "client_gone")
    assert plane.quiet()


async def test_a_caller_who_leaves_between_chunks(plane: DataPlane) -> None:
    read, gone = asyncio.Event(), asyncio.Event()

    async def after_the_first() -> None:
        read.set()
        await gone.wait()
        await asyncio.sleep(0)

    async def leave() -> None:
        await read.wait()
        gone.set()

    plane.upstream.stream(HI, after_the_first, THERE, USAGE, DONE)
    exchange, task = start(plane, leave, GONE)
    await task
    assert exchange.body == HI.replace(b',"usage":null', b"")
    (event,) = plane.events()
    assert (event.cost_nusd, event.outcome) == (COST, "client_gone")
    assert plane.quiet()


@pytest.mark.parametrize("how", ["never", OSError("gone"), RuntimeError("gone")])
async def test_a_send_that_blocks_or_fails(
    plane: DataPlane, monkeypatch: pytest.MonkeyPatch, how: str | Exception
) -> None:
    monkeypatch.setattr(reader, "SEND_TIMEOUT_S", 0.01)
    plane.upstream.stream(HI, THERE, USAGE, DONE)
    exchange, task = start(plane)

    async def stuck(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            if isinstance(how, Exception):
                raise how
            await asyncio.Event().wait()

    exchange.on_send = stuck
    await task
    assert exchange.chunks == []
    (event,) = plane.events()
    assert (event.cost_nusd, event.outcome) == (COST, "client_gone")
    assert plane.upstream.left == 1
    assert plane.quiet()


async def test_a_reply_that_goes_on_for_too_long_after_its_caller_left(
    plane: DataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_stream, "DRAIN_MAX_S", -1)
    gone = asyncio.Event()

    async def leave() -> None:
        gone.set()

    plane.upstream.stream(gone.wait, HI, THERE, USAGE, DONE)  # type: ignore[arg-type]
    _, task = start(plane, leave, GONE)
    await task
    (event,) = plane.events()
    assert (event.measured, event.outcome, event.cost_nusd) == ("lost", "client_gone", event.held_nusd)
    assert plane.quiet()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_is_cancelled_is_still_settled(plane: DataPlane, stream: bool) -> None:
    never = asyncio.Event()
    plane.upstream.stream(HI, never.wait)  # type: ignore[arg-type]
    if not stream:
        plane.upstream.replies[0].headers["content-type"] = "application/json"  # type: ignore[union-attr]
    _, task = start(plane)
    await until(lambda: plane.upstream.requests and not plane.upstream.replies)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = plane.events()
    assert (event.measured, event.cost_nusd) == ("lost", event.held_nusd)
    assert plane.quiet()


async def test_cancelled_at_any_moment_nothing_stays_held(plane: DataPlane) -> None:
    """The n-th step of the loop, for all n."""
    for steps in range(60):
        plane.upstream.replies.clear()
        plane.upstream.stream(HI, lambda: asyncio.sleep(0), THERE, lambda: asyncio.sleep(0), USAGE, DONE)
        _, task = start(plane)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not plane.treasury._tasks._tasks)
        assert plane.quiet()
    assert plane.spent() == sum(event.cost_nusd for event in plane.events())
    assert [event.n for event in plane.events()] == list(range(1, len(plane.events()) + 1))


async def test_many_at_once(plane: DataPlane) -> None:
    for _ in range(50):
        plane.upstream.stream(HI, lambda: asyncio.sleep(0), USAGE, DONE)
    calls = [start(plane) for _ in range(50)]
    await asyncio.gather(*(task for _, task in calls))
    assert {exchange.status for exchange, _ in calls} == {200}
    assert plane.spent() == 50 * COST
    assert plane.quiet()
