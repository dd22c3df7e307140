"""OpenAI's clients: realtime sessions over WebSockets, metered answer by answer."""

import asyncio
import base64
import inspect
import threading
from typing import Any

import openai
import pytest

from tests.clients.either import entered, settle
from tests.clients.openai_clients import FOUR, openai_client
from tests.clients.tape import Tape

SOUND = base64.b64encode(bytes(48 * 900)).decode()
SILENCE_S = 15.0
LAST = ("response.done", "error")

# OpenAI's sync client opens its WebSocket in a way that the library it uses warns of.
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")


@pytest.fixture(params=FOUR)
async def client(request: pytest.FixtureRequest, tape: Tape) -> Any:
    async with openai_client(request.param, tape) as made:
        yield made


async def until(tape: Tape, session: Any, last: tuple[str, ...] = LAST) -> Any:
    """The first of these events; a session that says nothing for too long is closed."""
    timer = threading.Timer(SILENCE_S, session.close)
    if not inspect.iscoroutinefunction(session.close):
        timer.start()
    try:
        async with asyncio.timeout(SILENCE_S):
            async for event in tape.each(session):
                if event.type in last:
                    return event
    finally:
        timer.cancel()
    raise AssertionError("the session ended")


async def ask(session: Any, text: str) -> None:
    await settle(
        session.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        )
    )
    await settle(session.response.create())


@pytest.mark.row("Realtime: text", mode="stream")
async def test_text(client: Any, tape: Tape) -> None:
    async with entered(client.realtime.connect(model="realtime")) as session:
        await settle(session.session.update(session={"type": "realtime", "output_modalities": ["text"]}))
        for _ in range(2):
            await ask(session, "Say hi [[sim completion=9]]")
            done = await until(tape, session)
            assert done.type == "response.done"
            assert done.response.usage.output_tokens == 9


@pytest.mark.row("Realtime: sound", mode="stream")
@pytest.mark.parametrize(
    "steering",
    [
        "prompt=600 audio_prompt=400 cached=300 audio_cached=200 completion=90 audio_completion=60",
        "prompt=900 image_prompt=500 cached=100 completion=30",
        "",
    ],
    ids=["cached-sound", "images", "unsteered"],
)
async def test_sound(client: Any, tape: Tape, steering: str) -> None:
    async with entered(client.realtime.connect(model="realtime")) as session:
        await settle(session.input_audio_buffer.append(audio=SOUND))
        await settle(session.input_audio_buffer.commit())
        await ask(session, f"Say hi [[sim {steering}]]" if steering else "Say hi")
        done = await until(tape, session)
        assert done.type == "response.done"
        assert done.response.usage.total_tokens > 0


@pytest.mark.row("Realtime: transcription of what was said", mode="stream")
async def test_transcription(client: Any, tape: Tape) -> None:
    async with entered(client.realtime.connect(model="realtime")) as session:
        listening: dict[str, Any] = {"input_audio_transcription": {"model": "transcribe"}, "turn_detection": None}
        if "Azure" not in type(client).__name__:  # Azure's path still speaks the older protocol
            listening = {"transcription": {"model": "transcribe"}, "turn_detection": None}
            listening = {"type": "realtime", "audio": {"input": listening}}
        await settle(session.session.update(session=listening))
        await settle(session.input_audio_buffer.append(audio=SOUND))
        await settle(session.input_audio_buffer.commit())
        kinds = ("conversation.item.input_audio_transcription.completed", "error")
        assert (await until(tape, session, kinds)).type == kinds[0]


@pytest.mark.row("Realtime: cancel", mode="stream")
async def test_cancel(client: Any, tape: Tape) -> None:
    async with entered(client.realtime.connect(model="realtime")) as session:
        await settle(session.session.update(session={"type": "realtime", "output_modalities": ["text"]}))
        await ask(session, "Say hi [[sim completion=2000 chunk_delay_ms=50]]")
        await until(tape, session, ("response.created", "error"))
        await settle(session.response.cancel())
        assert (await until(tape, session)).response.status == "cancelled"


@pytest.mark.row("Errors: realtime", mode="stream")
async def test_errors(client: Any, tape: Tape) -> None:
    async with entered(client.realtime.connect(model="realtime")) as session:
        await settle(session.send({"type": "conversation.item.create"}))
        assert (await until(tape, session)).type == "error"


@pytest.mark.row("Errors: realtime with an unknown key or model")
async def test_refused(client: Any) -> None:
    for key, model in ((client.api_key, "gpt-9"), ("sk-nobody-knows-this-key", "realtime")):
        client.api_key = key
        with pytest.raises(Exception, match=r"40[134]") as refused:
            async with entered(client.realtime.connect(model=model)):
                pass
        assert not isinstance(refused.value, openai.APIConnectionError)
