"""Realtime sessions: the usage of each answer, and of each transcription of what was said."""

import msgspec

from services.proxy.domain.meters import audio
from services.proxy.domain.meters.reading import EMPTY, NOTHING, UNREADABLE, Reading, Tokens, bounded, model_name
from shared.pricing import Usage


class _Cached(msgspec.Struct, gc=False):
    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Input(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cached_tokens_details: _Cached | None = None


class _Output(msgspec.Struct, gc=False):
    audio_tokens: int | None = None
    image_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_token_details: _Input | None = None
    output_token_details: _Output | None = None


class _Response(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()


class _Done(msgspec.Struct):
    response: _Response = msgspec.field(default_factory=_Response)


class _Transcribed(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


_done = msgspec.json.Decoder(_Done)
_transcribed = msgspec.json.Decoder(_Transcribed)
_usage = msgspec.json.Decoder(_Usage)


def usage_of(raw: bytes) -> Usage | None:
    """The classes of a realtime answer's usage; cached tokens are divided as the details say."""
    try:
        said = _usage.decode(raw)
    except UNREADABLE:
        return audio.usage_of(raw)  # models that are billed by the second tell a duration
    output = said.output_tokens or 0
    if output < 0:
        return None
    if said.total_tokens is not None:
        output = max(output, said.total_tokens - said.input_tokens)
    taken, given = said.input_token_details or _Input(), said.output_token_details or _Output()
    divided = taken.cached_tokens_details
    return Tokens(
        prompt=said.input_tokens,
        output=output,
        cached=taken.cached_tokens,
        cached_audio=(divided.audio_tokens or 0) if divided is not None else None,
        cached_image=(divided.image_tokens or 0) if divided is not None else None,
        audio=taken.audio_tokens,
        image=taken.image_tokens,
        audio_out=given.audio_tokens,
        image_out=given.image_tokens,
        reasoning=given.reasoning_tokens,
    ).usage()


def read_response_done(event: bytes) -> Reading:
    """What a `response.done` event said; usage None when it did not say (a cancelled or failed answer may not)."""
    try:
        said = _done.decode(event).response
    except UNREADABLE:
        return NOTHING
    raw = bytes(said.usage)
    if raw in EMPTY:
        return Reading(served_model=model_name(said.model))
    return Reading(usage=usage_of(raw), raw=bounded(raw), served_model=model_name(said.model))


def usage_of_response_done(event: bytes) -> Usage | None:
    """The usage of a `response.done` event."""
    return read_response_done(event).usage


def read_transcription(event: bytes) -> Reading:
    """What `conversation.item.input_audio_transcription.completed` said: tokens or a duration of another model."""
    try:
        raw = bytes(_transcribed.decode(event).usage)
    except UNREADABLE:
        return NOTHING
    return NOTHING if raw in EMPTY else Reading(usage=audio.usage_of(raw), raw=bounded(raw))


def usage_of_transcription(event: bytes) -> Usage | None:
    """The usage of a transcription's event."""
    return read_transcription(event).usage
