"""OpenAI's four clients: images and sound."""

from typing import Any

import pytest

from tests.clients.either import entered, settle
from tests.clients.openai_clients import FOUR, openai_client
from tests.clients.tape import Tape

PICTURE = ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(64), "image/png")
SOUND = ("a.mp3", b"ID3" + bytes(40_000), "audio/mpeg")


@pytest.fixture(params=FOUR)
async def client(request: pytest.FixtureRequest, tape: Tape) -> Any:
    async with openai_client(request.param, tape) as made:
        yield made


@pytest.mark.row("Images: generation")
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("image", {"quality": "low", "size": "1024x1536", "n": 2}),
        ("dalle", {"quality": "hd", "size": "1024x1792"}),
        ("flux", {}),
        ("mai", {}),
    ],
    ids=["gpt-image-1", "dall-e-3", "flux", "mai-image"],
)
async def test_generate(client: Any, model: str, options: dict[str, Any]) -> None:
    answer = await settle(client.images.generate(model=model, prompt="A ladle", **options))
    assert len(answer.data) == options.get("n", 1)


@pytest.mark.row("Images: generation", mode="stream")
async def test_streamed_generation(client: Any, tape: Tape) -> None:
    stream = await settle(client.images.generate(model="image", prompt="A ladle", stream=True, partial_images=2))
    kinds = [event.type async for event in tape.each(stream)]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]


@pytest.mark.row("Images: edit")
@pytest.mark.parametrize("model", ["image", "mai"])
async def test_edit(client: Any, model: str) -> None:
    answer = await settle(client.images.edit(model=model, prompt="Hotter", image=PICTURE))
    assert answer.data[0].b64_json
    assert answer.usage.input_tokens_details.image_tokens > 0


@pytest.mark.row("Images: edit", mode="stream")
async def test_streamed_edit(client: Any, tape: Tape) -> None:
    stream = await settle(client.images.edit(model="image", prompt="Hotter", image=[PICTURE, PICTURE], stream=True))
    assert [event.type async for event in tape.each(stream)] == ["image_edit.completed"]


@pytest.mark.row("Audio: transcription")
@pytest.mark.parametrize(
    ("model", "form"),
    [("whisper", "json"), ("whisper", "verbose_json"), ("transcribe", "json")],
)
async def test_transcription(client: Any, model: str, form: str) -> None:
    answer = await settle(client.audio.transcriptions.create(model=model, file=SOUND, response_format=form))
    assert answer.text
    assert answer.usage is not None


@pytest.mark.row("Audio: transcription as plain text")
@pytest.mark.estimated("Foundry tells no usage in text, srt and vtt")
@pytest.mark.parametrize(("model", "form"), [("whisper", "text"), ("whisper", "srt"), ("transcribe", "text")])
async def test_transcription_as_text(client: Any, model: str, form: str) -> None:
    answer = await settle(client.audio.transcriptions.create(model=model, file=SOUND, response_format=form))
    assert "ladle" in answer


@pytest.mark.row("Audio: transcription", mode="stream")
async def test_streamed_transcription(client: Any, tape: Tape) -> None:
    stream = await settle(client.audio.transcriptions.create(model="transcribe", file=SOUND, stream=True))
    events = [event async for event in tape.each(stream)]
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text


@pytest.mark.row("Audio: translation")
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_translation(client: Any) -> None:
    assert (await settle(client.audio.translations.create(model="whisper", file=SOUND))).text


@pytest.mark.row("Audio: speech")
@pytest.mark.parametrize("form", ["mp3", "wav"])
async def test_speech(client: Any, form: str) -> None:
    answer = await settle(
        client.audio.speech.create(model="tts", voice="alloy", input="Mind the ladle", response_format=form)
    )
    assert len(answer.content) > 1_000


@pytest.mark.row("Audio: speech by the token")
@pytest.mark.estimated("Foundry tells no usage of speech that is no event stream")
async def test_speech_by_the_token(client: Any) -> None:
    answer = await settle(client.audio.speech.create(model="tts-tokens", voice="alloy", input="Mind the ladle"))
    assert len(answer.content) > 1_000


@pytest.mark.row("Audio: speech", mode="stream")
async def test_streamed_speech(client: Any, tape: Tape) -> None:
    size = 0
    async with entered(
        client.audio.speech.with_streaming_response.create(model="tts", voice="alloy", input="Mind the ladle")
    ) as answer:
        async for piece in tape.each(answer.iter_bytes(4_096)):
            size += len(piece)
    assert size > 1_000


@pytest.mark.row("Audio: speech as events", mode="stream")
async def test_speech_as_events(client: Any, tape: Tape) -> None:
    async with entered(
        client.audio.speech.with_streaming_response.create(
            model="tts-tokens", voice="alloy", input="Mind the ladle", stream_format="sse"
        )
    ) as answer:
        lines = [line async for line in tape.each(answer.iter_lines()) if line.startswith("data: ")]
    assert '"speech.audio.done"' in lines[-1]
