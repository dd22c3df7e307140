"""The simulator's sounds through the openai clients: written down, translated, spoken."""

import io
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import AsyncAzureOpenAI, BadRequestError, OpenAI

from tests.unit.simulator_driver import KEY
from tests.unit.simulator_server import Server, running


def sound(seconds: float) -> tuple[str, bytes, str]:
    """A WAV file of so many seconds."""
    raw = io.BytesIO()
    with wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(b"\1\2" * int(8_000 * seconds))
    return "speech.wav", raw.getvalue(), "audio/wav"


@pytest.fixture(scope="module")
def process() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def server(process: Server) -> Server:
    process.reset()
    return process


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/openai/v1", api_key=KEY["api-key"], max_retries=0) as client:
        yield client


def test_whisper_is_billed_by_the_second_begun(server: Server, client: OpenAI) -> None:
    made: Any = client.audio.transcriptions.create(model="whisper", file=sound(2.3))
    assert made.usage.to_dict() == {"type": "duration", "seconds": 3}
    assert made.text
    assert server.last()["usage"] == {"prompt": 0, "milliseconds": 3000}
    verbose = client.audio.transcriptions.create(model="whisper", file=sound(2.3), response_format="verbose_json")
    assert verbose.duration == 2.3
    exact = client.audio.transcriptions.create(model="whisper", file=sound(1), prompt="[[sim milliseconds=2500]]")
    assert exact.to_dict()["usage"] == {"type": "duration", "seconds": 2.5}
    assert server.last()["usage"]["milliseconds"] == 2500


@pytest.mark.parametrize("how", ["text", "srt", "vtt"])
def test_texts_and_captions_tell_no_usage(server: Server, client: OpenAI, how: Any) -> None:
    text = client.audio.transcriptions.create(model="whisper", file=sound(61), response_format=how)
    assert isinstance(text, str)
    assert "ladle" in text
    assert "usage" not in text
    if how != "text":
        assert "00:01:01" in text
    assert server.last()["usage"] == {"prompt": 0, "milliseconds": 61_000}


def test_transcribe_models_are_billed_by_the_token(server: Server, client: OpenAI) -> None:
    made = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound(5), prompt="names: Giesserei")
    assert made.to_dict()["usage"] == {
        "type": "tokens",
        "input_tokens": 54,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 50},
        "output_tokens": 16,
        "total_tokens": 70,
    }
    assert server.last()["usage"] == {"prompt": 54, "audio_prompt": 50, "completion": 16}
    with pytest.raises(BadRequestError, match="not compatible"):
        client.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound(1), response_format="srt")
    told: Any = client.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize", file=sound(1), response_format="diarized_json"
    )
    assert told.segments[0].speaker == "A"


def test_a_streamed_transcription_ends_with_its_usage(server: Server, client: OpenAI) -> None:
    with client.audio.transcriptions.create(
        model="gpt-4o-mini-transcribe", file=sound(2), stream=True, prompt="[[sim completion=5]]"
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["transcript.text.delta"] * 5 + ["transcript.text.done"]
    done: Any = events[-1]
    assert done.text == "".join(getattr(event, "delta", "") for event in events)
    assert (done.usage.output_tokens, done.usage.input_token_details.audio_tokens) == (5, 20)
    assert server.last()["stream"] is True
    server.fault(deployment="*", kind="midstream_error", after_events=2, count=1)
    with pytest.raises(Exception, match="server had an error"):  # noqa: SIM117
        with client.audio.transcriptions.create(
            model="gpt-4o-mini-transcribe", file=sound(2), stream=True, prompt="[[sim completion=5]]"
        ) as stream:
            list(stream)
    assert server.last()["usage"]["completion"] == 2


async def test_the_azure_client_translates(server: Server) -> None:
    async with AsyncAzureOpenAI(
        azure_endpoint=server.url, api_key=KEY["api-key"], api_version="2024-10-21", azure_deployment="whisper"
    ) as client:
        with pytest.warns(DeprecationWarning, match="deprecated"):  # the client's own view of translations
            made = await client.audio.translations.create(  # pyright: ignore[reportDeprecated]
                model="whisper", file=sound(1.5)
            )
        assert made.text
        call = server.last()
        assert (call["surface"], call["operation"], call["usage"]["milliseconds"]) == ("classic", "translations", 2000)
        spoken = await client.audio.transcriptions.create(model="whisper", file=("a.mp3", b"x" * 32_000))
        assert spoken.text
        assert server.last()["usage"]["milliseconds"] == 2000


def test_speech_is_billed_by_the_character(server: Server, client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1-hd", input="Guten Tag, Gießerei", voice="alloy"
    ) as made:
        assert made.headers["content-type"] == "audio/mpeg"
        assert len(made.read()) > 1_000
    assert server.last()["usage"] == {"prompt": 0, "characters": 19}
    wav = client.audio.speech.create(model="tts-1", input="Hi", voice="alloy", response_format="wav").read()
    with wave.open(io.BytesIO(wav)) as file:
        assert file.getnframes() > 0


def test_speech_by_the_token_tells_its_usage_in_events_only(server: Server, client: OpenAI) -> None:
    plain = client.audio.speech.create(model="gpt-4o-mini-tts", input="Hello there", voice="alloy")
    assert plain.read()
    assert server.last()["usage"] == {"prompt": 3, "completion": 13, "audio_completion": 13}
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", input="Hello [[sim completion=40]]", voice="alloy", stream_format="sse"
    ) as streamed:
        text = streamed.read().decode()
    assert text.count('"speech.audio.delta"') == 4
    assert '"speech.audio.done","usage":{"input_tokens":7,"output_tokens":40,"total_tokens":47}' in text
    assert server.last()["usage"]["completion"] == 40
    with pytest.raises(BadRequestError, match="stream_format"):
        client.audio.speech.create(model="tts-1", input="Hi", voice="alloy", stream_format="sse")


def test_what_is_refused(server: Server, client: OpenAI) -> None:
    url = f"{server.url}/openai/v1/audio"
    cases: list[tuple[str, dict[str, Any]]] = [
        ("transcriptions", {"data": {"model": "whisper"}, "files": {"other": b"x"}}),
        ("transcriptions", {"data": {"model": "whisper"}, "files": {"file": b""}}),
        ("transcriptions", {"data": {"model": "gpt-4o"}, "files": {"file": b"x"}}),
        ("speech", {"json": {"model": "tts-1", "input": "", "voice": "alloy"}}),
        ("speech", {"json": {"model": "tts-1", "input": "x"}}),
        ("speech", {"json": {"model": "tts-1", "input": "x", "voice": "alloy", "response_format": "midi"}}),
        ("speech", {"json": {"model": "gpt-4o", "input": "x", "voice": "alloy"}}),
    ]
    for path, given in cases:
        assert httpx.post(f"{url}/{path}", headers=KEY, **given).status_code == 400
    assert server.served() == []
