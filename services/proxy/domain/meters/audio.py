"""Sound: transcriptions and translations (by the second or the token), and speech (by the character or the token)."""

from math import ceil
from typing import ClassVar

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters.reading import (
    EMPTY,
    NOTHING,
    TOKENS_MAX,
    UNREADABLE,
    Reading,
    Tokens,
    bounded,
    model_name,
    text_tokens,
)
from services.proxy.domain.meters.stream import TypedMeter
from shared.pricing import Usage

SECONDS_MAX = TOKENS_MAX // 1_000
"""A longer sound is not believed."""


class _Details(msgspec.Struct, gc=False):
    audio_tokens: int | None = None
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_token_details: _Details | None = None
    input_tokens_details: _Details | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    text: str | None = None
    duration: float | str | None = None
    usage: msgspec.Raw = msgspec.Raw()


_body = msgspec.json.Decoder(_Body)
_usage = msgspec.json.Decoder(_Usage)


def usage_of(raw: bytes, *, spoken: bool = False) -> Usage | None:
    """The classes of a usage object: a duration, or tokens. `spoken`: the output is sound, not text."""
    try:
        said = _usage.decode(raw)
    except UNREADABLE:
        return None
    if said.input_tokens is None:
        return _by_time(said.seconds)
    output = said.output_tokens or 0
    if output < 0:
        return None
    if said.total_tokens is not None:
        output = max(output, said.total_tokens - said.input_tokens)
    details = said.input_token_details or said.input_tokens_details or _Details()
    return Tokens(
        prompt=said.input_tokens,
        output=output,
        cached=details.cached_tokens,
        audio=details.audio_tokens,
        audio_out=output if spoken else None,
    ).usage()


def read_transcript(body: bytes) -> Reading:
    """What a transcription or translation said of itself. Plain text and captions say nothing.

    A `duration` without usage is counted to the second begun, as Foundry bills it.
    """
    try:
        said = _body.decode(body)
    except UNREADABLE:
        return NOTHING
    raw, served = bytes(said.usage), model_name(said.model)
    if raw not in EMPTY:
        return Reading(usage=usage_of(raw), raw=bounded(raw), served_model=served)
    try:
        seconds = float(said.duration) if said.duration is not None else None
        usage = _by_time(None if seconds is None else float(ceil(seconds)))
    except (ValueError, OverflowError):
        usage = None
    return Reading(usage=usage, served_model=served, counted=usage is not None)


def read_speech(asked: Asked) -> Reading:
    """Spoken text says nothing of itself: the characters that were asked for are billed."""
    characters = asked.units.characters
    return Reading(usage=Usage(characters=characters), counted=True) if characters > 0 else NOTHING


def transcript_tokens(body: bytes) -> int:
    """What a transcript looks like in tokens."""
    if body.lstrip()[:1] != b"{":
        return text_tokens(len(body))
    try:
        return text_tokens(len(_body.decode(body).text or ""))
    except UNREADABLE:
        return 0


def _by_time(seconds: float | None) -> Usage | None:
    if seconds is None or not 0 <= seconds <= SECONDS_MAX:
        return None
    return Usage(milliseconds=round(seconds * 1_000))


class _SoundMeter(TypedMeter):
    QUIET: ClassVar[frozenset[str]] = frozenset({"error", "ping", "keepalive"})
    LAST: ClassVar[str] = ""
    SPOKEN: ClassVar[bool] = False

    def event(self, kind: str, data: bytes) -> None:
        """Note the usage of the last event."""
        if kind != self.LAST:
            return
        self.done = True
        try:
            said = _body.decode(data)
        except UNREADABLE:
            return
        raw = bytes(said.usage)
        if raw not in EMPTY:
            usage = usage_of(raw, spoken=self.SPOKEN)
            self._reading = Reading(usage=usage, raw=bounded(raw), served_model=model_name(said.model))


class TranscriptMeter(_SoundMeter):
    """Streams of a transcript."""

    MARKS: ClassVar[tuple[bytes, ...]] = (b'"transcript.text.done"', b'"error"')
    LAST: ClassVar[str] = "transcript.text.done"


class SpeechMeter(_SoundMeter):
    """Streams of spoken text."""

    MARKS: ClassVar[tuple[bytes, ...]] = (b'"speech.audio.done"', b'"error"')
    LAST: ClassVar[str] = "speech.audio.done"
    SPOKEN: ClassVar[bool] = True
