"""Whole replies on their way through: what passes, as what, and what becomes of everything else."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from services.proxy.domain.paths import Endpoint
from shared.pricing import Usage
from tests.support import wire_streams as wires
from tests.support.relays import HOST, Bench, ScriptedReply, call_of
from tests.unit.test_proxy_relay_stream import Choking, Loud

REPLY = {"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}
JSON = "application/json; charset=utf-8"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with asyncio.timeout(20):
        yield made
    await made.close()


def reply(body: object, kind: str = JSON, status: int = 200, **headers: str) -> ScriptedReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ScriptedReply(raw, status=status, content_type=kind, **headers)


async def test_a_reply(bench: Bench) -> None:
    answer = await bench.whole(call_of(Endpoint.CHAT), reply(REPLY, set_cookie="a=b", apim_request_id="r1"))
    assert (answer.status, json.loads(answer.body)) == (200, REPLY)
    assert (answer.headers["x-tundish-cost-nusd"], answer.headers["x-litellm-response-cost"]) == ("1234", "0.000001234")
    assert (answer.headers["apim-request-id"], "set-cookie" in answer.headers) == ("r1", False)
    assert bench.settled.usage == Usage(input=10, output=4)
    assert bench.log == ["used", "head", "last"]


@pytest.mark.parametrize(
    ("wire", "kind", "shown"),
    [
        (Endpoint.SPEECH, "audio/mpeg", "audio/mpeg"),
        (Endpoint.SPEECH, "application/octet-stream", "application/octet-stream"),
        (Endpoint.TRANSCRIPTIONS, "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        (Endpoint.TRANSCRIPTIONS, "text/vtt", "text/plain; charset=utf-8"),
        (Endpoint.SPEECH, "text/html", None),
        (Endpoint.SPEECH, "application/json", None),
        (Endpoint.SPEECH, "image/svg+xml", None),
        (Endpoint.TRANSCRIPTIONS, "audio/mpeg", None),
        (Endpoint.CHAT, "text/plain", None),
        (Endpoint.CHAT, "text/html", None),
        (Endpoint.CHAT, "", None),
    ],
)
async def test_only_the_wires_own_types_pass(bench: Bench, wire: Endpoint, kind: str, shown: str | None) -> None:
    sound = bytes(range(256))
    answer = await bench.whole(call_of(wire, units=Usage(characters=12)), reply(sound, kind))
    if shown is None:
        assert (answer.status, answer.error["code"]) == (502, "upstream_bad_reply")
        assert bench.settled.outcome == "upstream_error"
    else:
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, sound, shown)
        assert bench.settled.outcome == "ok"
    if wire is Endpoint.SPEECH:
        assert bench.settled.usage == Usage(characters=12)
    else:
        assert bench.settled.usage is None


async def test_captions_are_estimated_by_their_size(bench: Bench) -> None:
    await bench.whole(call_of(Endpoint.TRANSCRIPTIONS), reply(b"WEBVTT..", "text/vtt"))
    assert (bench.settled.usage, bench.settled.tokens) == (None, 2)


async def test_an_error_keeps_its_words_and_gives_nothing_away(bench: Bench) -> None:
    body = {"error": {"code": "RateLimitReached", "message": f"{HOST} is full. Please retry after 20 seconds."}}
    answer = await bench.whole(call_of(Endpoint.MESSAGES, dialect="anthropic"), reply(body, status=429))
    assert (answer.status, answer.headers["retry-after"]) == (429, "20")
    assert answer.error["type"] == "rate_limit_error"
    assert HOST.encode() not in answer.body
    assert (bench.settled.how, bench.settled.status) == ("free", 429)


async def test_an_error_with_status_200_is_an_error(bench: Bench) -> None:
    answer = await bench.whole(call_of(Endpoint.CHAT), reply({"error": {"code": "429", "message": "slow"}}))
    assert (answer.status, answer.error["code"]) == (429, "429")
    assert bench.settled.how == "free"


async def test_a_failed_response_is_a_reply(bench: Bench) -> None:
    failed = wires.response("failed", error={"code": "server_error", "message": "x"})
    answer = await bench.whole(call_of(Endpoint.RESPONSES), reply(failed))
    assert (answer.status, json.loads(answer.body)) == (200, failed)


async def test_a_stream_that_nobody_asked_for_is_metered_and_refused(bench: Bench) -> None:
    frames = b"".join((wires.HI, wires.CHAT_USAGE, wires.DONE))
    answer = await bench.whole(call_of(Endpoint.CHAT), reply(frames, "text/event-stream"))
    assert (answer.status, answer.error["code"]) == (502, "upstream_bad_reply")
    assert (bench.settled.usage, bench.settled.outcome) == (Usage(input=10, output=4), "upstream_error")


async def test_a_failed_stream_that_nobody_asked_for_is_its_failure(bench: Bench) -> None:
    frames = wires.data(wires.R_FAILED) + wires.data(wires.R_ERROR)
    answer = await bench.whole(call_of(Endpoint.RESPONSES), reply(frames, "text/event-stream"))
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert bench.settled.how == "free"


async def test_a_transform_is_applied_after_the_meter(bench: Bench) -> None:
    answer = await bench.whole(call_of(Endpoint.CHAT, transform=Loud()), reply(REPLY))
    assert answer.body == json.dumps(REPLY).encode().upper()
    assert answer.headers["content-length"] == str(len(answer.body))
    assert bench.settled.usage == Usage(input=10, output=4)


async def test_a_reply_that_cannot_be_translated_is_charged_and_refused(bench: Bench) -> None:
    answer = await bench.whole(call_of(Endpoint.CHAT, transform=Choking()), reply(REPLY))
    assert (answer.status, answer.error["code"]) == (502, "upstream_bad_reply")
    assert (bench.settled.usage, bench.settled.outcome) == (Usage(input=10, output=4), "upstream_error")
