"""Reading what a call used from the bytes that pass, wire by wire.

`read_reply` for whole replies, `stream_meter` for streams, `content_tokens` for what a reply without usage looks like.
None of them raises, whatever bytes they are given.
"""

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters import audio, chat, images, messages, partners, responses
from services.proxy.domain.meters.chat import ChatMeter
from services.proxy.domain.meters.raw import RawMeter, read_raw
from services.proxy.domain.meters.reading import NOTHING, Reading
from services.proxy.domain.meters.stream import OpaqueMeter, StreamMeter
from services.proxy.domain.paths import Endpoint
from shared.pricing import Usage

__all__ = ["Reading", "StreamMeter", "content_tokens", "read_reply", "stream_meter", "trusted"]

_CHAT = (Endpoint.CHAT, Endpoint.COMPLETIONS)
_IMAGES = (Endpoint.IMAGES, Endpoint.IMAGE_EDITS)
_LISTEN = (Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS)
_RESPONSE = (Endpoint.RESPONSES, Endpoint.RESPONSE, Endpoint.RESPONSE_CANCEL)
_ECHOES = (*_RESPONSE, Endpoint.MESSAGES)
"""Wires whose replies may name the deployment as their model."""


def read_reply(wire: Endpoint, body: bytes, content_type: str, asked: Asked) -> Reading:
    """What a whole good reply said of itself; usage None when it did not say, so that it is estimated and marked.

    `content_type` is the reply's: only JSON says anything. What replies never say is taken from `asked.units`.
    """
    if wire in _CHAT:
        return chat.read_body(body, asked.tier)
    if wire is Endpoint.SPEECH:
        return audio.read_speech(asked)
    if wire is Endpoint.COUNT_TOKENS:
        return Reading(usage=Usage())
    if "json" not in content_type.lower():
        return NOTHING
    if wire is Endpoint.EMBEDDINGS:
        return partners.read_embeddings(body, asked.tier)
    if wire in _RESPONSE:
        return responses.read_body(body, asked.tier)
    if wire is Endpoint.MESSAGES:
        return messages.read_body(body, asked.tier)
    if wire in _IMAGES:
        return images.read_body(body, asked)
    if wire in _LISTEN:
        return audio.read_transcript(body)
    if wire is Endpoint.RERANK:
        return partners.read_cohere(body)
    if wire is Endpoint.OCR:
        return partners.read_ocr(body)
    return read_raw(body, asked)


def stream_meter(wire: Endpoint, asked: Asked, *, hide_usage: bool, grok: bool) -> StreamMeter:
    """The meter of a stream. `hide_usage`: the caller did not ask for the usage of a chat stream, so it is taken out.
    `grok`: a model that tells reasoning beside its output."""
    if wire in _CHAT:
        return ChatMeter(asked, hide_usage=hide_usage, grok=grok)
    if wire in _RESPONSE:
        return responses.ResponsesMeter(asked)
    if wire is Endpoint.MESSAGES:
        return messages.MessagesMeter(asked)
    if wire in _IMAGES:
        return images.ImagesMeter()
    if wire in _LISTEN:
        return audio.TranscriptMeter()
    if wire is Endpoint.SPEECH:
        return audio.SpeechMeter()
    return RawMeter(asked, grok=grok) if wire is Endpoint.RAW else OpaqueMeter()


def content_tokens(wire: Endpoint, body: bytes) -> int:
    """What the content of a whole reply looks like in tokens; of something else than a reply, nothing."""
    if wire in _CHAT:
        return chat.content_tokens(body)
    if wire in _RESPONSE:
        return responses.content_tokens(body)
    if wire is Endpoint.MESSAGES:
        return messages.content_tokens(body)
    if wire in _LISTEN:
        return audio.transcript_tokens(body)
    if wire is Endpoint.RAW:
        readers = (chat.content_tokens, messages.content_tokens, responses.content_tokens, partners.content_tokens)
        return max(reader(body) for reader in readers)
    return 0


def trusted(reading: Reading, wire: Endpoint, deployment: str) -> Reading:
    """A reading without the model's name where that is only the deployment's, which says nothing of the model."""
    if reading.served_model is None or wire not in _ECHOES or reading.served_model != deployment:
        return reading
    return msgspec.structs.replace(reading, served_model=None)
