"""Sound: transcribed, translated, or made from a text."""

import msgspec

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.holds.tokens import words_tokens
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.multipart import flag_of, form_of, text_of
from services.proxy.domain.requests.reading import model_of
from shared.pricing import Usage

SLOWEST_BYTES_PER_S = {
    "wav": 8_000,
    "flac": 8_000,
    "mp3": 4_000,
    "mpga": 4_000,
    "mpeg": 4_000,
    "m4a": 4_000,
    "mp4": 4_000,
    "ogg": 2_000,
    "oga": 2_000,
    "opus": 2_000,
    "webm": 2_000,
}
"""Bytes in a second of speech where it is small, by the file's ending: telephone quality, 32 kbit/s, 16 kbit/s."""
UNKNOWN_BYTES_PER_S = 2_000
SSE = "sse"


class _Speech(msgspec.Struct):
    model: str | None = None
    input: str | None = None
    instructions: str | None = None
    stream_format: str | None = None


_speech = msgspec.json.Decoder(_Speech)


def read_sound(body: bytes, path_model: str | None, content_type: str, endpoint: Endpoint) -> Asked:
    """A transcription or translation. `guess` has the length of the sound by its file's size. Raises BadRequest."""
    form = form_of(body, content_type)
    files = [part for part in form.parts if part.name == "file"]
    if len(files) != 1 or files[0].filename is None:
        raise BadRequest("Send the sound as one part 'file' with a file name, such as 'speech.mp3'.", param="file")
    file = files[0]
    prompt = text_of(form, body, "prompt") or ""
    named = text_of(form, body, "model")
    return Asked(
        model=model_of(path_model or named),
        endpoint=endpoint,
        stream=flag_of(form, body, "stream"),
        output_cap=0,
        guess=Usage(
            input=words_tokens(prompt),
            milliseconds=milliseconds_of(body[file.start : file.start + 64], file.end - file.start, files[0].filename),
        ),
        content_type=content_type,
        form=form,
    )


def read_speech(body: bytes, path_model: str | None) -> Asked:
    """A text to be spoken; `units` are its characters. Raises BadRequest, and whatever msgspec raises."""
    said = _speech.decode(body)
    if said.input is None:
        raise BadRequest("'input' is missing: send the text to be spoken.", param="input")
    return Asked(
        model=model_of(path_model or said.model),
        endpoint=Endpoint.SPEECH,
        stream=said.stream_format == SSE,
        output_cap=0,
        units=Usage(characters=len(said.input)),
        guess=Usage(input=words_tokens(said.input) + words_tokens(said.instructions)),
    )


def milliseconds_of(head: bytes, size: int, filename: str | None) -> int:
    """How long a sound is, by its size in bytes: exactly for plain WAV files, at most as speech goes for others."""
    per_second = SLOWEST_BYTES_PER_S.get((filename or "").rpartition(".")[2].lower(), UNKNOWN_BYTES_PER_S)
    if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt ":
        per_second = int.from_bytes(head[28:32], "little") or per_second
    return -(-size * 1_000 // per_second)
