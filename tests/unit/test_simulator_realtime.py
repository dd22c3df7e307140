"""The simulator's realtime conversations through the openai clients and a bare websocket."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, OpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.unit.simulator_driver import KEY
from tests.unit.simulator_server import Server, running

TEXT: Any = {"type": "realtime", "output_modalities": ["text"]}
LOUD = base64.b64encode(b"\1\2" * 24_000).decode()
"""One second of sound."""
SILENT = base64.b64encode(b"\0\0" * 12_000).decode()


@pytest.fixture(scope="module")
def process() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def server(process: Server) -> Server:
    process.reset()
    return process


def address(server: Server, path: str = "/openai/v1") -> str:
    return server.url.replace("http", "ws", 1) + path


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


class Talk:
    """A bare connection that speaks JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, kind: str, **fields: object) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """The events up to the first of this kind."""
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != kind:
            events.append(json.loads(await self.connection.recv()))
        return events

    async def error(self) -> str:
        """The code of the error that comes next."""
        return (await self.until("error"))[-1]["error"]["code"]


def bare(server: Server, query: str = "model=gpt-realtime", headers: dict[str, str] | None = None) -> connect:
    return connect(f"{address(server)}/realtime?{query}", additional_headers={**KEY, **(headers or {})}, proxy=None)


async def test_text_through_the_async_client(server: Server) -> None:
    async with (
        AsyncOpenAI(api_key=KEY["api-key"], websocket_base_url=address(server)) as client,
        client.realtime.connect(model="gpt-realtime") as connection,
    ):
        created = await connection.recv()
        assert (created.type, created.to_dict()["session"]["model"]) == ("session.created", "gpt-realtime")  # type: ignore[index]
        await connection.session.update(session=TEXT)
        assert (await connection.recv()).type == "session.updated"
        await connection.conversation.item.create(item=said("Say hi [[sim completion=4]]"))  # type: ignore[arg-type]
        await connection.response.create()
        kinds: list[str] = []
        text = ""
        async for event in connection:
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.done":
                usage = event.response.usage
                break
        else:
            raise AssertionError
    assert kinds == [
        "conversation.item.added", "conversation.item.done", "response.created", "rate_limits.updated",
        "response.output_item.added", "conversation.item.added", "response.content_part.added",
        *["response.output_text.delta"] * 4, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.done",
    ]  # fmt: skip
    assert text == "The ladle tips and"
    assert usage is not None
    assert usage.input_token_details is not None
    assert (usage.input_tokens, usage.output_tokens) == (15, 4)
    call = server.last()
    assert (call["surface"], call["operation"], call["model"]) == ("realtime", "realtime", "gpt-realtime")
    assert call["usage"] == {"prompt": 15, "completion": 4}


@pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")  # the client's own call
def test_sound_through_the_sync_client(server: Server) -> None:
    with (
        OpenAI(api_key=KEY["api-key"], websocket_base_url=address(server)) as client,
        client.realtime.connect(model="gpt-realtime") as connection,
    ):
        connection.input_audio_buffer.append(audio=LOUD)
        connection.input_audio_buffer.commit()
        connection.response.create()
        done: Any = None
        sounds = 0
        for event in connection:
            sounds += event.type == "response.output_audio.delta"
            if event.type == "response.done":
                done = event.response.usage
                break
    assert sounds == 16
    assert (done.input_token_details.audio_tokens, done.output_token_details.audio_tokens) == (10, 32)
    assert (done.input_tokens, done.output_tokens) == (18, 48)
    assert server.last()["usage"] == {"prompt": 18, "audio_prompt": 10, "completion": 48, "audio_completion": 32}


async def test_the_older_dialect_of_azure(server: Server) -> None:
    async with (
        AsyncAzureOpenAI(
            azure_endpoint=server.url,
            api_key=KEY["api-key"],
            api_version="2024-10-01-preview",
            websocket_base_url=address(server, "/openai"),
        ) as client,
        client.realtime.connect(model="gpt-4o-realtime-preview") as connection,
    ):
        events: list[Any] = [await connection.recv()]
        await connection.send({"type": "conversation.item.create", "item": said("hi")})  # type: ignore[typeddict-item]
        await connection.send({"type": "response.create", "response": {"modalities": ["text"]}})  # type: ignore[typeddict-unknown-key]
        while events[-1].type != "response.done":
            events.append(await connection.recv())
    kinds = [event.type for event in events]
    assert "conversation.item.created" in kinds
    assert "response.text.delta" in kinds
    assert not any("output_text" in kind for kind in kinds)
    assert events[0].session.to_dict()["input_audio_format"] == "pcm16"
    assert server.last()["deployment"] == "gpt-4o-realtime-preview"


async def test_later_responses_read_from_the_cache(server: Server) -> None:
    async with bare(server) as connection:
        talk = Talk(connection)
        await talk.send("session.update", session=TEXT)
        await talk.send("conversation.item.create", item=said("word " * 200))
        await talk.send("response.create")
        first = (await talk.until("response.done"))[-1]["response"]["usage"]
        await talk.send("conversation.item.create", item=said("and then?"))
        await talk.send("response.create")
        second = (await talk.until("response.done"))[-1]["response"]["usage"]
    assert first["input_token_details"]["cached_tokens"] == 0
    assert second["input_token_details"]["cached_tokens"] == 256
    assert second["input_tokens"] > first["input_tokens"]
    assert [call["usage"].get("cached", 0) for call in server.served()] == [0, 256]


async def test_every_class_of_usage_can_be_steered(server: Server) -> None:
    words = (
        "prompt=1000 audio_prompt=400 image_prompt=100 cached=300 audio_cached=200 completion=90 audio_completion=50"
    )
    async with bare(server, headers={"x-sim-usage": words.replace(" ", ",")}) as connection:
        talk = Talk(connection)
        await talk.send("response.create")
        usage = (await talk.until("response.done"))[-1]["response"]["usage"]
    assert usage["input_token_details"] == {
        "text_tokens": 500, "audio_tokens": 400, "image_tokens": 100, "cached_tokens": 300,
        "cached_tokens_details": {"text_tokens": 100, "audio_tokens": 200, "image_tokens": 0},
    }  # fmt: skip
    assert usage["output_token_details"] == {"text_tokens": 40, "audio_tokens": 50}
    assert server.last()["usage"] == {
        "prompt": 1000, "cached": 300, "audio_cached": 200, "audio_prompt": 400, "image_prompt": 100,
        "completion": 90, "audio_completion": 50,
    }  # fmt: skip


async def test_a_cancelled_response_is_billed_for_what_was_said(server: Server) -> None:
    async with bare(server) as connection:
        talk = Talk(connection)
        await talk.send("session.update", session=TEXT)
        await talk.send("conversation.item.create", item=said("[[sim completion=10 chunk_delay_ms=600000]]"))
        await talk.send("response.create")
        await talk.until("response.output_text.delta")
        await talk.send("response.create")
        assert await talk.error() == "conversation_already_has_active_response"
        await talk.send("response.cancel")
        done = (await talk.until("response.done"))[-1]["response"]
        await talk.send("response.cancel")
        assert await talk.error() == "response_cancel_not_active"
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert done["usage"]["output_tokens"] == 1
    assert server.last()["usage"]["completion"] == 1


async def test_a_caller_who_leaves_pays_for_what_was_said(server: Server) -> None:
    async with bare(server) as connection:
        talk = Talk(connection)
        await talk.send("session.update", session=TEXT)
        await talk.send("conversation.item.create", item=said("[[sim completion=10 chunk_delay_ms=600000]]"))
        await talk.send("response.create")
        await talk.until("response.output_text.delta")
    # The server notices the closed connection after the client does.
    calls = next(calls for _ in range(5_000) if (calls := server.served()))
    assert (calls[-1]["usage"]["completion"], calls[-1]["completed"]) == (1, False)


async def test_a_cap_makes_it_incomplete_and_tools_are_called(server: Server) -> None:
    async with bare(server) as connection:
        talk = Talk(connection)
        await talk.send("response.create", response={"output_modalities": ["text"], "max_output_tokens": 3})
        done = (await talk.until("response.done"))[-1]["response"]
        assert (done["status"], done["status_details"]["reason"]) == ("incomplete", "max_output_tokens")
        assert done["usage"]["output_tokens"] == 3
        await talk.send("session.update", session={**TEXT, "tools": [{"type": "function", "name": "tap"}]})
        await talk.send("conversation.item.create", item=said("[[sim tool=1]]"))
        await talk.send("response.create")
        done = (await talk.until("response.done"))[-1]["response"]
    assert (done["output"][0]["type"], done["output"][0]["name"]) == ("function_call", "tap")


async def test_silence_ends_a_turn_and_the_sound_is_written_down(server: Server) -> None:
    heard = {"transcription": {"model": "whisper"}, "turn_detection": {"type": "server_vad"}}
    async with bare(server) as connection:
        talk = Talk(connection)
        await talk.send("session.update", session={**TEXT, "audio": {"input": heard}})
        await talk.send("input_audio_buffer.append", audio=LOUD)
        await talk.send("input_audio_buffer.append", audio=SILENT)
        events = await talk.until("response.done")
    kinds = [event["type"] for event in events]
    for kind in ("speech_started", "speech_stopped", "committed"):
        assert f"input_audio_buffer.{kind}" in kinds
    written = events[kinds.index("conversation.item.input_audio_transcription.completed")]
    assert written["usage"] == {"type": "duration", "seconds": 2}
    whisper, spoken = server.served()
    assert (whisper["deployment"], whisper["operation"], whisper["usage"]["milliseconds"]) == (
        "whisper", "transcriptions", 2000,
    )  # fmt: skip
    assert spoken["usage"]["audio_prompt"] == 15


async def test_models_that_are_billed_by_the_second(server: Server) -> None:
    async with bare(server, "model=gpt-live-1") as connection:
        talk = Talk(connection)
        await talk.send("input_audio_buffer.append", audio=LOUD)
        await talk.send("input_audio_buffer.commit")
        for seconds in (1, 0):
            await talk.send("response.create")
            done = (await talk.until("response.done"))[-1]["response"]
            assert done["output"][0]["content"][0]["transcript"]
            assert done["usage"].get("seconds", 0) == seconds
    assert [call["usage"] for call in server.served()] == [{"prompt": 0, "milliseconds": 1000}, {"prompt": 0}]


async def test_a_session_that_only_writes_down(server: Server) -> None:
    async with bare(server, "model=gpt-4o-transcribe&intent=transcription") as connection:
        talk = Talk(connection)
        created = (await talk.until("session.created"))[0]["session"]
        assert created["type"] == "transcription"
        await talk.send("input_audio_buffer.append", audio=LOUD)
        await talk.send("input_audio_buffer.commit")
        done = (await talk.until("conversation.item.input_audio_transcription.completed"))[-1]
        await talk.send("response.create")
        assert await talk.error() == "invalid_request"
    assert done["usage"]["input_token_details"]["audio_tokens"] == 10
    assert server.last()["model"] == "gpt-4o-transcribe"


async def test_errors_leave_the_session_open(server: Server) -> None:
    async with bare(server) as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        for raw, code in (
            ("{", "invalid_json"),
            ("[]", "missing_required_parameter"),
            ('{"type":"no.such"}', "invalid_value"),
            ('{"type":"session.update"}', "missing_required_parameter"),
            ('{"type":"session.update","session":{"type":"realtime","model":"gpt-realtime-mini"}}', "invalid_value"),
            ('{"type":"session.update","session":{"type":"realtime","audio":3}}', "invalid_type"),
            ('{"type":"session.update","session":{"type":"transcription"}}', "invalid_value"),
            ('{"type":"input_audio_buffer.append","audio":"%%"}', "invalid_value"),
            ('{"type":"input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
            ('{"type":"conversation.item.create","item":{"type":"message","role":"x"}}', "invalid_value"),
            (
                '{"type":"conversation.item.create","item":{"type":"message","role":"user","content":"x"}}',
                "invalid_type",
            ),
            ('{"type":"conversation.item.delete","item_id":"no"}', "item_not_found"),
            ('{"type":"response.create","response":{"instructions":"[[sim x=1]]"}}', "invalid_value"),
        ):
            await connection.send(raw)
            assert await talk.error() == code, raw
        await talk.send("conversation.item.create", item={**said("a"), "id": "one"})
        await talk.send("conversation.item.retrieve", item_id="one")
        assert (await talk.until("conversation.item.retrieved"))[-1]["item"]["role"] == "user"
        await talk.send("conversation.item.create", item={**said("a"), "id": "one"})
        assert await talk.error() == "item_create_duplicate_id"
        await talk.send("conversation.item.delete", item_id="one")
        await talk.until("conversation.item.deleted")
        await talk.send("input_audio_buffer.clear")
        await talk.until("input_audio_buffer.cleared")
    assert server.served() == []


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("model=gpt-realtime", {"api-key": "wrong"}, 401),
        ("model=missing-realtime", KEY, 404),
        ("", KEY, 400),
        ("model=gpt-4o", KEY, 400),
    ],
)
async def test_handshakes_that_are_refused(server: Server, query: str, headers: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{address(server)}/realtime?{query}", additional_headers=headers, proxy=None):
            pass
    assert refused.value.response.status_code == status
    assert b"error" in (refused.value.response.body or b"")
    older = f"{address(server, '/openai')}/realtime?deployment=gpt-realtime"
    with pytest.raises(InvalidStatus):
        async with connect(older, additional_headers=KEY, proxy=None):
            pass


async def test_faults(server: Server) -> None:
    server.fault(deployment="gpt-realtime", kind="status", status=429, count=1)
    with pytest.raises(InvalidStatus) as refused:
        async with bare(server):
            pass
    assert refused.value.response.status_code == 429
    for kind, code in (("reset", 1006), ("midstream_error", 1011)):
        server.fault(deployment="gpt-realtime", kind=kind, after_events=8, count=1)
        async with bare(server) as connection:
            talk = Talk(connection)
            await talk.send("response.create")
            with pytest.raises(ConnectionClosed):
                await talk.until("response.done")
            assert connection.close_code == code
        call = server.last()
        assert (call["completed"], call["usage"]["completion"]) == (False, 3)
