"""Sound: transcriptions and translations of uploads, and speech."""

import struct
from collections.abc import Iterator

import msgspec

from deploy.simulator import errors, multipart
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.chat_bytes import WORDS
from deploy.simulator.deployments import Deployment
from deploy.simulator.faults import Fault
from deploy.simulator.usage import DEFAULT_COMPLETION, Steering, Usage, steering, text_tokens

MAX_SPEECH_CHARS = 4_096
MAX_TRANSCRIPT_WORDS = 16_384
MAX_SPEECH_BYTES = 8 * 1024 * 1024
BYTES_PER_SECOND = 16_000
"""Of sound whose header is not read: 128 kbit/s."""
TOKENS_PER_SECOND = 10
MS_PER_CHARACTER = 60
SPEECH_TOKENS_PER_SECOND = 20
PCM_BYTES_PER_SECOND = 48_000

TEXT_TYPE = b"text/plain; charset=utf-8"
SPEECH_TYPES = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/opus",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}
FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")


class ListenRequest(msgspec.Struct, kw_only=True):
    """A form with a sound to write down. `task` is `transcribe` or `translate`, `milliseconds` its length."""

    task: str
    milliseconds: int
    model: str | None = None
    language: str | None = None
    prompt: str = ""
    response_format: str | None = None
    stream: bool = False

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _listen(self, deployment, call)


class SpeechRequest(msgspec.Struct, kw_only=True):
    """The fields of a speech request that decide anything here."""

    input: str
    model: str | None = None
    voice: str | msgspec.Raw | None = None
    response_format: str | None = None
    speed: float | None = None
    instructions: str = ""
    stream_format: str | None = None

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events; the pieces of a sound are no events."""
        return self.stream_format == "sse"

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _speak(self, deployment, call)


def parse_transcription(body: bytes, content_type: bytes) -> ListenRequest:
    """The request of a form with a `file`; raises a 400."""
    return _parse_form(body, content_type, "transcribe")


def parse_translation(body: bytes, content_type: bytes) -> ListenRequest:
    """The request of a form with a `file`; raises a 400."""
    return _parse_form(body, content_type, "translate")


def parse_speech(body: bytes, content_type: bytes) -> SpeechRequest:
    """The request of a JSON body; raises a 400."""
    return decode(body, SpeechRequest)


def _parse_form(body: bytes, content_type: bytes, task: str) -> ListenRequest:
    form = multipart.parse(body, content_type)
    uploads = form.uploads("file")
    if len(uploads) != 1:
        raise errors.invalid("Missing required parameter: 'file'.", "missing_required_parameter", "file")
    sound = uploads[0].data
    if not sound:
        message = "Audio file is too short. Minimum audio length is 0.1 seconds."
        raise errors.invalid(message, "audio_too_short", "file")
    return ListenRequest(
        task=task,
        milliseconds=duration_ms(sound),
        model=form.text("model"),
        language=form.text("language"),
        prompt=form.text("prompt") or "",
        response_format=form.text("response_format"),
        stream=form.flag("stream"),
    )


def duration_ms(sound: bytes) -> int:
    """The length of a sound: exact for a plain WAV file, else by its size at 128 kbit/s."""
    rate = BYTES_PER_SECOND
    size = len(sound)
    if sound[:4] == b"RIFF" and sound[8:16] == b"WAVEfmt " and size >= 44:
        rate = struct.unpack_from("<I", sound, 28)[0] or BYTES_PER_SECOND
        at = sound.find(b"data", 36)
        if at != -1 and at + 8 <= size:
            size = min(struct.unpack_from("<I", sound, at + 4)[0], size - at - 8)
    return max(100, -(-size * 1000 // rate))


def by_token(model: str) -> bool:
    """Whether a model that listens is billed by the token, not by the second."""
    return model.lower().startswith("gpt-4o")


def listens(model: str) -> bool:
    """Whether a model can write down sounds; one that nobody knows can."""
    lowered = model.lower()
    if "transcribe" in lowered or "whisper" in lowered or "stt" in lowered:
        return True
    known = ("gpt-", "o1", "o3", "o4", "claude", "phi-", "text-embedding", "dall-e", "tts", "flux", "mistral", "cohere")
    return not lowered.startswith(known)


def listen_usage(model: str, milliseconds: int, prompt_chars: int, steer: Steering) -> Usage:
    """What is billed for writing down a sound; a second begun is a second billed."""
    if not by_token(model):
        billed = -(-milliseconds // 1000) * 1000 if steer.milliseconds is None else steer.milliseconds
        return Usage(prompt=0, milliseconds=billed)
    length = milliseconds if steer.milliseconds is None else steer.milliseconds
    audio = steer.audio_prompt or max(1, length * TOKENS_PER_SECOND // 1000)
    prompt = audio + text_tokens(prompt_chars) if steer.prompt is None else steer.prompt
    completion = DEFAULT_COMPLETION if steer.completion is None else steer.completion
    return Usage(prompt=prompt, audio_prompt=min(audio, prompt), completion=completion)


def listen_usage_json(usage: Usage) -> dict[str, object]:
    """The `usage` object of an answer to a sound: a duration, or tokens."""
    if usage.milliseconds:
        seconds = usage.milliseconds // 1000 if usage.milliseconds % 1000 == 0 else usage.milliseconds / 1000
        return {"type": "duration", "seconds": seconds}
    return {
        "type": "tokens",
        "input_tokens": usage.prompt,
        "input_token_details": {"text_tokens": usage.prompt - usage.audio_prompt, "audio_tokens": usage.audio_prompt},
        "output_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }


def transcript(words: int) -> str:
    """So many words of the sentence that all answers say."""
    count = min(words, MAX_TRANSCRIPT_WORDS)
    return " ".join(WORDS[number % len(WORDS)] for number in range(count))


def _listen(request: ListenRequest, deployment: Deployment, call: Call) -> Answer:
    if deployment.claude:
        raise errors.api_not_supported()
    if not listens(deployment.model):
        raise errors.wrong_operation("audio", deployment.model)
    how = request.response_format or "json"
    _check_format(request, deployment.model, how)
    steer = steering(request.prompt, call.caller.usage)
    usage = listen_usage(deployment.model, request.milliseconds, len(request.prompt), steer)
    text = transcript(usage.completion or DEFAULT_COMPLETION)
    told = listen_usage_json(usage) if call.with_usage and not steer.no_usage else None
    made = Answer(
        id="audio-" + call.serial,
        usage=usage,
        charged=usage.prompt,
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )
    if request.stream and by_token(deployment.model):
        fault = call.fault if call.fault is not None and call.fault.kind == "midstream_error" else None
        if fault is not None:
            made.usage = _billed_until(usage, len(text.split()), fault.after_events)
        made.events = _listen_events(text, told, call, fault, steer)
        return made
    if how in ("text", "srt", "vtt"):
        made.content_type = TEXT_TYPE
        made.body = _captions(text, request.milliseconds, how)
        return made
    made.body = msgspec.json.encode(_listen_body(request, text, told, how))
    return made


def _check_format(request: ListenRequest, model: str, how: str) -> None:
    allowed = ("json", "text", "srt", "verbose_json", "vtt")
    if by_token(model):
        allowed = ("json", "text", "diarized_json") if "diarize" in model.lower() else ("json", "text")
    if how not in allowed:
        quoted = " or ".join(f"'{name}'" for name in allowed)
        message = f"response_format '{how}' is not compatible with model '{model}'. Use {quoted} instead."
        raise errors.invalid(message, "unsupported_value", "response_format")


def _listen_body(request: ListenRequest, text: str, told: dict[str, object] | None, how: str) -> dict[str, object]:
    seconds = request.milliseconds / 1000
    body: dict[str, object] = {"text": text}
    if how == "verbose_json":
        segment = {
            "id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": " " + text, "tokens": [50_364],
            "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.1, "no_speech_prob": 0.01,
        }  # fmt: skip
        language = "english" if request.task == "translate" else (request.language or "english")
        body |= {"task": request.task, "language": language, "duration": seconds, "segments": [segment]}
    if how == "diarized_json":
        segment = {"type": "transcript.text.segment", "id": "seg_0", "start": 0.0, "end": seconds, "text": text}
        body |= {"task": "transcribe", "duration": seconds, "segments": [{**segment, "speaker": "A"}]}
    if told is not None:
        body["usage"] = told
    return body


def _captions(text: str, milliseconds: int, how: str) -> bytes:
    if how == "text":
        return text.encode() + b"\n"
    end = f"{milliseconds // 3_600_000:02}:{milliseconds // 60_000 % 60:02}:{milliseconds // 1000 % 60:02}"
    if how == "srt":
        return f"1\n00:00:00,000 --> {end},{milliseconds % 1000:03}\n{text}\n\n".encode()
    return f"WEBVTT\n\n00:00:00.000 --> {end}.{milliseconds % 1000:03}\n{text}\n\n".encode()


def _listen_events(
    text: str, told: dict[str, object] | None, call: Call, fault: Fault | None, steer: Steering
) -> Iterator[bytes]:
    """A delta for each word, then the whole text with its usage."""
    for number, word in enumerate(text.split()):
        if fault is not None and number >= fault.after_events:
            yield b"data: %b\n\n" % (fault.body_bytes() or msgspec.json.encode(errors.server_error(call.request_id)))
            return
        delta = word if number == 0 else " " + word
        yield b"data: %b\n\n" % msgspec.json.encode({"type": "transcript.text.delta", "delta": delta, "logprobs": []})
    done: dict[str, object] = {"type": "transcript.text.done", "text": text, "logprobs": []}
    if told is not None:
        done["usage"] = told
    yield b"data: %b\n\n" % msgspec.json.encode(done)
    if steer.done:
        yield b"data: [DONE]\n\n"


def _billed_until(usage: Usage, words: int, events: int) -> Usage | None:
    if events >= words:
        return usage
    if events == 0:
        return None
    return msgspec.structs.replace(usage, completion=-(-usage.completion * events // words))


def speaks_by_token(model: str) -> bool:
    """Whether a model that speaks is billed by the token, not by the character."""
    return model.lower().startswith("gpt-4o")


def _speak(request: SpeechRequest, deployment: Deployment, call: Call) -> Answer:
    model = deployment.model.lower()
    if deployment.claude:
        raise errors.api_not_supported()
    if "tts" not in model and (model.startswith(("gpt-", "o1", "o3", "o4", "text-embedding", "whisper", "dall-e"))):
        raise errors.wrong_operation("speech", deployment.model)
    how = _check_speech(request, model)
    steer = steering(request.input, call.caller.usage)
    usage, length = _speech_usage(request, model, steer)
    sound = _sound(length)
    made = Answer(
        id="speech-" + call.serial,
        usage=usage,
        charged=text_tokens(len(request.input)),
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )
    if request.streamed:
        told = call.with_usage and not steer.no_usage
        made.events = _speech_events(sound, steer.chunks or 4, usage if told else None)
        return made
    made.content_type = SPEECH_TYPES[how]
    made.body = _wav(sound) if how == "wav" else sound
    return made


def _check_speech(request: SpeechRequest, model: str) -> str:
    if not 1 <= len(request.input) <= MAX_SPEECH_CHARS:
        message = f"Invalid 'input': its length must be between 1 and {MAX_SPEECH_CHARS}."
        raise errors.invalid(message, "string_above_max_length", "input")
    if request.voice is None:
        raise errors.invalid("Missing required parameter: 'voice'.", "missing_required_parameter", "voice")
    how = request.response_format or "mp3"
    if how not in SPEECH_TYPES:
        message = f"Invalid value: '{how}'. Supported values are: {', '.join(SPEECH_TYPES)}."
        raise errors.invalid(message, "invalid_value", "response_format")
    if request.stream_format not in (None, "audio", "sse"):
        raise errors.invalid("'stream_format' must be 'audio' or 'sse'.", "invalid_value", "stream_format")
    if request.streamed and not speaks_by_token(model):
        message = "'stream_format' 'sse' is not supported with this model."
        raise errors.invalid(message, "unsupported_value", "stream_format")
    return how


def _speech_usage(request: SpeechRequest, model: str, steer: Steering) -> tuple[Usage, int]:
    """What is billed, and the length of the sound in milliseconds."""
    length = len(request.input) * MS_PER_CHARACTER if steer.milliseconds is None else steer.milliseconds
    if not speaks_by_token(model):
        return Usage(prompt=0, characters=len(request.input) if steer.characters is None else steer.characters), length
    prompt = text_tokens(len(request.input) + len(request.instructions)) if steer.prompt is None else steer.prompt
    audio = steer.audio_completion or max(1, length * SPEECH_TOKENS_PER_SECOND // 1000)
    completion = audio if steer.completion is None else steer.completion
    return Usage(prompt=prompt, completion=completion, audio_completion=completion), length


def _sound(milliseconds: int) -> bytes:
    """Bytes that stand for a sound, about as many as its length takes."""
    size = min(milliseconds * BYTES_PER_SECOND // 1000, MAX_SPEECH_BYTES) & ~1
    tooth = bytes(range(0, 256, 2))
    return (tooth * (size // len(tooth) + 1))[: max(size, 2)]


def _wav(sound: bytes) -> bytes:
    rate = BYTES_PER_SECOND // 2
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, BYTES_PER_SECOND, 2, 16)
    head = b"RIFF" + struct.pack("<I", 36 + len(sound)) + b"WAVE" + form
    return head + struct.pack("<4sI", b"data", len(sound)) + sound


def _speech_events(sound: bytes, pieces: int, usage: Usage | None) -> Iterator[bytes]:
    step = max(1, -(-len(sound) // pieces))
    for start in range(0, len(sound), step):
        piece = msgspec.json.encode(sound[start : start + step])
        yield b'data: {"type":"speech.audio.delta","audio":%b}\n\n' % piece
    done: dict[str, object] = {"type": "speech.audio.done"}
    if usage is not None:
        total = usage.prompt + usage.completion
        done["usage"] = {"input_tokens": usage.prompt, "output_tokens": usage.completion, "total_tokens": total}
    yield b"data: %b\n\n" % msgspec.json.encode(done)
