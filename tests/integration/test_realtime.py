"""Realtime sessions over the whole product: turns, bills, refusals, ends. After each the books say what was served."""

import asyncio
import base64
import json
import os
import signal
from typing import Any

import httpx
import openai
import pytest

from tests.support.sockets import Talk, refused, talk
from tests.support.stack import Stack, wait_until
from tests.support.surfaces import Ledger

pytestmark = pytest.mark.stack

PATH = "/v1/realtime?model=realtime"
SOUND = base64.b64encode(b"\1\2" * 24_000).decode()
"""One second of what a caller says."""


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def settled(ledger: Ledger) -> Any:
    """Wait, off the loop, until the books say what was served."""
    return await asyncio.to_thread(ledger.equal)


async def gone(ledger: Ledger, cents: Any) -> None:
    """Wait until a condition on the ledger holds."""
    await asyncio.to_thread(wait_until, "the books", lambda: cents(ledger))


# ---- turns ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:connect\\(\\) must be used as a context manager:DeprecationWarning")
def test_openais_client_talks_and_each_answer_is_a_call(surfaces: Stack, ledger: Ledger) -> None:
    with (
        openai.OpenAI(base_url=f"{surfaces.url}/v1", api_key=ledger.mint(), max_retries=0) as client,
        client.realtime.connect(model="realtime") as talking,
    ):
        talking.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        for turn in range(3):
            content: Any = [{"type": "input_text", "text": f"Turn {turn} [[sim completion={5 + turn}]]"}]
            talking.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            talking.response.create()
            for event in talking:
                assert event.type != "error", event
                if event.type == "response.done":
                    assert event.response.usage is not None
                    assert event.response.usage.output_tokens == 5 + turn
                    break
    total = ledger.equal()
    assert total.usage["output"] == 5 + 6 + 7
    assert len([row for row in ledger.rows() if row["cost_nusd"]]) == 3


async def test_openais_async_client_hears_sound_and_pays_by_class(surfaces: Stack, ledger: Ledger) -> None:
    async with (
        openai.AsyncOpenAI(base_url=f"{surfaces.url}/v1", api_key=ledger.mint(), max_retries=0) as client,
        client.realtime.connect(model="realtime") as talking,
    ):
        await talking.input_audio_buffer.append(audio=SOUND)
        await talking.input_audio_buffer.commit()
        await talking.response.create()
        async for event in talking:
            assert event.type != "error", event
            if event.type == "response.done":
                break
    total = await settled(ledger)
    assert total.usage["audio_input"] > 0
    assert total.usage["audio_output"] > 0


async def test_cached_text_and_sound_are_told_apart(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        words = "[[sim prompt=900 cached=320 audio_prompt=500 audio_cached=128 image_prompt=20 completion=60]]"
        done = await session.ask(words, output_modalities=["audio"])
        assert done["usage"]["input_token_details"]["cached_tokens"] == 320
    total = await settled(ledger)
    assert total.usage["audio_cached"] == 128
    assert total.usage["cached"] == 320 - 128
    assert total.usage["audio_input"] == 500 - 128
    assert total.usage["image_input"] == 20


async def test_the_hold_is_there_before_and_the_answer_is_paid_before_it_is_told(
    surfaces: Stack, ledger: Ledger
) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.ask("Hello")
        await gone(ledger, lambda ledger: any(row["cost_nusd"] for row in ledger.rows()))
    await settled(ledger)


async def test_a_silent_session_renews_its_hold_and_goes_on(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint(max_parallel_requests=1))) as session:
        await session.text_only()
        await gone(ledger, lambda ledger: len(ledger.rows()) >= 2)  # renewed twice
        assert {row["cost_nusd"] for row in ledger.rows()} == {0}
        await session.ask("Still there? [[sim completion=9]]")
    assert (await settled(ledger)).usage["output"] == 9


async def test_a_cancelled_answer_costs_what_it_had_used(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.write("Long [[sim completion=400 chunk_delay_ms=50]]")
        await session.say("response.create")
        await session.until("response.output_text.delta")
        await session.say("response.cancel")
        done = await session.until("response.done")
        assert done["response"]["status"] == "cancelled"
        await session.ask("Short [[sim completion=3]]")
    assert (await settled(ledger)).usage["output"] < 400


async def test_answers_side_by_side_are_each_held_and_paid(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.write("Slow [[sim completion=20 chunk_delay_ms=10]]")
        await session.say("response.create")
        await session.say("response.create")
        error = await session.until("error")
        assert error["error"]["code"] == "conversation_already_has_active_response"
        await session.until("response.done")
        await session.ask("Again [[sim completion=4]]")
    assert (await settled(ledger)).usage["output"] == 24


async def test_a_tool_is_called_and_paid_for(surfaces: Stack, ledger: Ledger) -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        done = await session.ask("Weather? [[sim tool=1 completion=7]]", tools=[tool])
        assert done["output"][0]["type"] == "function_call"
    await settled(ledger)


# ---- transcription ----------------------------------------------------------------------------------------


async def heard(session: Talk, model: str) -> dict[str, Any]:
    transcription = {"transcription": {"model": model}}
    await session.say("session.update", session={"type": "realtime", "audio": {"input": transcription}})
    await session.until("session.updated")
    await session.say("input_audio_buffer.append", audio=SOUND)
    await session.say("input_audio_buffer.commit")
    return await session.until("conversation.item.input_audio_transcription.completed")


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "transcribe", "whisper"])
async def test_a_transcription_is_a_call_of_its_own_model(surfaces: Stack, ledger: Ledger, model: str) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        assert (await heard(session, model))["transcript"]
    total = await settled(ledger)
    assert total.nusd > 0
    assert ("milliseconds" in total.usage) is ("whisper" in model)


async def test_a_model_without_a_price_transcribes_nothing(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        transcription = {"transcription": {"model": "a-model-nobody-knows"}}
        await session.say("session.update", session={"type": "realtime", "audio": {"input": transcription}})
        error = await session.until("error")
        assert error["error"]["code"] == "price_unknown"
        await session.text_only()
        await session.ask("The session goes on")
    await settled(ledger)


@pytest.mark.parametrize("name", ["transcribe", "gpt-4o-transcribe-deployment"])
async def test_a_key_transcribes_by_no_model_that_it_may_not_use(surfaces: Stack, ledger: Ledger, name: str) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint(models=["realtime"]))) as session:
        transcription = {"transcription": {"model": name}}
        await session.say("session.update", session={"type": "realtime", "audio": {"input": transcription}})
        error = await session.until("error")
        assert error["error"]["code"] == "model_not_allowed"
    await settled(ledger)


async def test_a_transcription_session_is_paid_by_what_it_heard(surfaces: Stack, ledger: Ledger) -> None:
    path = "/v1/realtime?model=transcribe&intent=transcription"
    async with talk(surfaces.url, path, headers=bearer(ledger.mint())) as session:
        await session.until("session.created")
        await session.say("input_audio_buffer.append", audio=SOUND)
        await session.say("input_audio_buffer.commit")
        await session.until("conversation.item.input_audio_transcription.completed")
    assert (await settled(ledger)).nusd > 0


# ---- who is let in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["authorization", "api-key", "subprotocol"])
async def test_the_key_may_stand_where_clients_put_it(surfaces: Stack, ledger: Ledger, where: str) -> None:
    key = ledger.mint()
    how: dict[str, Any] = {"headers": bearer(key)}
    if where == "api-key":
        how = {"headers": {"api-key": key}}
    elif where == "subprotocol":
        how = {"subprotocols": ["realtime", f"openai-insecure-api-key.{key}", "openai-beta.realtime-v1"]}
    async with talk(surfaces.url, PATH, **how) as session:
        await session.until("session.created")
        assert session.connection.subprotocol == ("realtime" if where == "subprotocol" else None)
    await settled(ledger)


@pytest.mark.parametrize("path", [PATH, "/realtime?model=realtime", "/openai/v1/realtime?model=realtime"])
async def test_the_current_dialect(surfaces: Stack, ledger: Ledger, path: str) -> None:
    async with talk(surfaces.url, path, headers=bearer(ledger.mint())) as session:
        assert "output_modalities" in (await session.until("session.created"))["session"]
        await session.ask("Hello")
    await settled(ledger)


@pytest.mark.parametrize("version", ["2024-10-01-preview", "2025-04-01-preview", "none-of-ours"])
async def test_the_older_dialect(surfaces: Stack, ledger: Ledger, version: str) -> None:
    path = f"/openai/realtime?api-version={version}&deployment=realtime"
    async with talk(surfaces.url, path, headers={"api-key": ledger.mint()}) as session:
        assert "modalities" in (await session.until("session.created"))["session"]
        await session.say("session.update", session={"modalities": ["text"]})
        await session.write("Hello")
        await session.say("response.create")
        await session.until("response.text.done")
        await session.until("response.done")
    await settled(ledger)


async def test_the_header_of_the_older_dialect_counts_too(surfaces: Stack, ledger: Ledger) -> None:
    headers = {**bearer(ledger.mint()), "openai-beta": "realtime=v1"}
    async with talk(surfaces.url, PATH, headers=headers) as session:
        assert "modalities" in (await session.until("session.created"))["session"]
    await settled(ledger)


@pytest.mark.parametrize(
    ("path", "fields", "status", "code"),
    [
        ("/v1/realtime?model=nothing", {}, 404, "model_not_found"),
        ("/v1/realtime", {}, 400, "missing_model"),
        ("/v1/realtime?model=realtime&model=realtime", {}, 400, "invalid_request_body"),
        ("/v1/realtime?model=realtime&call_id=rtc_1", {}, 400, "invalid_request_body"),
        ("/v1/realtime?model=realtime&intent=spying", {}, 400, "invalid_request_body"),
        ("/v1/realtime?model=gpt-4o", {}, 400, "OperationNotSupported"),
        ("/v1/realtime?model=claude", {}, 400, "endpoint_not_supported"),
        (PATH, {"models": ["gpt-4o"]}, 403, "model_not_allowed"),
        (PATH, {"max_budget": 0.000001}, 402, "budget_exceeded"),
        (PATH, {"max_budget": 1, "budget_mode": "strict"}, 400, "unbounded_cost"),
        ("/v1/realtime?model=realtime-missing", {}, 502, "upstream_deployment_not_found"),
    ],
)
async def test_a_refused_handshake_is_answered_in_http(
    surfaces: Stack, ledger: Ledger, path: str, fields: dict[str, Any], status: int, code: str
) -> None:
    told, body = await refused(surfaces.url, path, headers=bearer(ledger.mint(**fields)))
    assert (told, body["error"]["code"]) == (status, code), body
    await settled(ledger)


async def test_nobody_gets_in_without_a_key(surfaces: Stack) -> None:
    assert (await refused(surfaces.url, PATH))[0] == 401
    assert (await refused(surfaces.url, PATH, headers=bearer("sk-wrong")))[0] == 401
    assert (await refused(surfaces.url, PATH, headers=bearer(surfaces.master_key)))[0] == 403


# ---- how sessions end -------------------------------------------------------------------------------------


async def test_a_budget_that_runs_out_ends_the_session_in_words(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint(max_budget=0.5))) as session:
        await session.text_only()
        await session.ask("Dear [[sim prompt=1000 completion=25000]]")
        events, code, reason = await session.end()
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["code"] == "budget_exceeded"
    assert (code, reason) == (1008, "budget_exceeded")
    await settled(ledger)


@pytest.mark.parametrize("answering", [False, True], ids=["silent", "answering"])
async def test_a_deleted_key_ends_its_session_within_two_seconds(
    surfaces: Stack, ledger: Ledger, answering: bool
) -> None:
    key = ledger.mint()
    async with talk(surfaces.url, PATH, headers=bearer(key)) as session:
        await session.text_only()
        if answering:
            await session.write("Long [[sim completion=2000 chunk_delay_ms=20]]")
            await session.say("response.create")
            await session.until("response.output_text.delta")
        await asyncio.to_thread(surfaces.call, "POST", "/key/delete", json={"keys": [key]})
        async with asyncio.timeout(3):
            events, code, reason = await session.end()
    assert events[-1]["error"]["code"] == "key_revoked"
    assert (code, reason) == (1008, "key_revoked")
    total = await settled(ledger)
    assert (total.nusd > 0) is answering


async def test_a_caller_who_leaves_pays_what_was_made_and_no_more(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.write("Long [[sim completion=2000 chunk_delay_ms=20]]")
        await session.say("response.create")
        await session.until("response.output_text.delta")
    total = await settled(ledger)
    assert 0 < total.usage["output"] < 2000


async def test_a_caller_who_leaves_before_the_answer_has_begun_pays_for_it(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.write("Quick [[sim prompt=77 completion=5]]")
        await session.say("response.create")
    total = await settled(ledger)
    assert total.usage["input"] == 77


async def test_a_caller_who_breaks_off_pays_what_was_made(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.write("Long [[sim completion=2000 chunk_delay_ms=20]]")
        await session.say("response.create")
        await session.until("response.output_text.delta")
        session.connection.transport.abort()
    assert (await settled(ledger)).nusd > 0


@pytest.mark.parametrize("pieces", [1, 20])
async def test_a_message_that_is_too_long_ends_the_session_in_words(
    surfaces: Stack, ledger: Ledger, pieces: int
) -> None:
    """Whole, as long as the server takes a frame; in pieces, longer than that."""
    text = json.dumps({"type": "input_audio_buffer.append", "audio": "A" * (15_900_000 if pieces == 1 else 17_000_000)})
    step = -(-len(text) // pieces)
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.until("session.created")
        parts = [text[at : at + step] for at in range(0, len(text), step)]
        await session.connection.send(text if pieces == 1 else parts)
        events, code, reason = await session.end()
        assert (events[-1]["error"]["code"], code, reason) == ("message_too_large", 1009, "message_too_large")
    assert await settled(ledger) is not None


@pytest.mark.parametrize("kind", ["reset", "midstream_error"])
async def test_an_answer_that_breaks_off_in_foundry_is_charged_at_its_hold(
    surfaces: Stack, ledger: Ledger, kind: str
) -> None:
    with surfaces.simulator() as simulator:
        fault = {"deployment": "gpt-realtime-deployment", "kind": kind, "count": 1, "after_events": 9}
        assert simulator.post("/_sim/faults", json=fault).status_code == 200
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.write("Long [[sim completion=50]]")
        await session.say("response.create")
        events, code, _ = await session.end()
    assert code == 1011
    assert events[-1]["type"] == "error"
    await gone(ledger, lambda ledger: len(ledger.marked()) == 1)
    (lost,) = ledger.marked()
    assert lost["measured"] == "lost"
    assert lost["cost_nusd"] == lost["held_nusd"] > ledger.true().nusd


async def test_foundrys_refusal_of_a_session_is_told_and_costs_nothing(surfaces: Stack, ledger: Ledger) -> None:
    with surfaces.simulator() as simulator:
        fault = {"deployment": "gpt-realtime-deployment", "kind": "status", "status": 429, "count": 1}
        assert simulator.post("/_sim/faults", json=fault).status_code == 200
    assert (await refused(surfaces.url, PATH, headers=bearer(ledger.mint())))[0] == 429
    await settled(ledger)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "session.update", "session": {"prompt": {"id": "pmpt_1"}}}, "not_supported"),
        ({"type": "response.create", "response": {"prompt": {"id": "pmpt_1"}}}, "not_supported"),
        ({"type": "response.create", "response": {"conversation": "conv_1"}}, "not_supported"),
        ({"type": "fine_tuning.create"}, "unknown_event"),
        (["no", "event"], "invalid_request_body"),
    ],
)
async def test_what_is_not_offered_is_answered_and_the_session_goes_on(
    surfaces: Stack, ledger: Ledger, event: Any, code: str
) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        fields = {"event_id": "mine", **event} if isinstance(event, dict) else event
        await session.connection.send(json.dumps(fields))
        error = (await session.until("error"))["error"]
        assert error["code"] == code
        assert error["event_id"] == (None if isinstance(event, list) else "mine")
        await session.text_only()
        await session.ask("Hello")
    await settled(ledger)


async def test_a_stopping_instance_lets_answers_end_and_closes(surfaces: Stack, ledger: Ledger) -> None:
    async with talk(surfaces.url, PATH, headers=bearer(ledger.mint())) as session:
        await session.text_only()
        await session.write("Long [[sim completion=40 chunk_delay_ms=50]]")
        await session.say("response.create")
        await session.until("response.output_text.delta")
        os.kill(surfaces.pid("proxy"), signal.SIGTERM)
        events, code, reason = await session.end()
    assert "response.done" in [event["type"] for event in events]
    assert (code, reason) == (1001, "draining")

    def ready() -> bool:
        try:
            return httpx.get(f"{surfaces.url}/health/readiness", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    await asyncio.to_thread(wait_until, "the proxy is back", ready)
    await settled(ledger)
