"""Replies of the raw pass-through: the wire is told by what the reply looks like."""

from typing import ClassVar

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters import audio, chat, images, messages, partners, responses
from services.proxy.domain.meters.reading import NOTHING, UNREADABLE, Reading
from services.proxy.domain.meters.stream import OpaqueMeter, StreamMeter, TypedMeter
from services.proxy.domain.sse import data_of
from shared.pricing import Usage

Fields = dict[str, msgspec.Raw]
_fields: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)


def read_raw(body: bytes, asked: Asked) -> Reading:
    """What a reply of an unknown operation said of itself; usage None when it said nothing that is understood."""
    try:
        fields = _fields.decode(body)
        usage = _fields.decode(fields["usage"]) if bytes(fields.get("usage", b"")).startswith(b"{") else {}
    except UNREADABLE:
        return NOTHING
    if "usage_info" in fields:
        return partners.read_ocr(body)
    if "billed_units" in usage:
        return partners.read_cohere_chat(body)
    if "prompt_tokens" in usage:
        return chat.read_body(body, asked.tier)
    if bytes(fields.get("type", b"")) == b'"message"':
        return messages.read_body(body, asked.tier)
    if "output" in fields:
        return responses.read_body(body, asked.tier)
    if "seconds" in usage or "text" in fields:
        return audio.read_transcript(body)
    if "meta" in fields:
        return partners.read_cohere(body)
    return images.read_body(body, asked) if "data" in fields else NOTHING


class CohereMeter(TypedMeter):
    """Streams of Cohere's chat: the last event says what is billed."""

    QUIET: ClassVar[frozenset[str]] = frozenset({"message-start", "content-start"})
    MARKS: ClassVar[tuple[bytes, ...]] = (b'"message-end"', b'"error"')

    def event(self, kind: str, data: bytes) -> None:
        """Note the usage of the last event."""
        if kind == "message-end":
            self.done = True
            self._reading = partners.read_cohere_end(data)


class RawMeter(StreamMeter):
    """Streams of the raw pass-through: the first event that says anything decides how the rest is read."""

    def __init__(self, asked: Asked, *, grok: bool) -> None:
        super().__init__()
        self._asked = asked
        self._grok = grok
        self._inner: StreamMeter | None = None

    @property
    def ends_by_close(self) -> bool:  # type: ignore[override]
        """Whether the wire has no last event."""
        return self._inner is None or self._inner.ends_by_close

    def feed(self, frame: bytes) -> bytes:
        """Note what an event says; it passes as it came."""
        inner = self._inner
        if inner is None:
            data = data_of(frame)
            if not data:
                return frame
            inner = self._inner = self._told(data)
        passed = inner.feed(frame)
        self.begun, self.done, self.failure = inner.begun, inner.done, inner.failure
        self.content_frames = inner.content_frames
        return passed

    def reading(self) -> Reading:
        """What the stream has said so far."""
        return NOTHING if self._inner is None else self._inner.reading()

    def partial(self) -> Usage | None:
        """What the wire that it turned out to be says before its end."""
        return None if self._inner is None else self._inner.partial()

    def _told(self, data: bytes) -> StreamMeter:
        try:
            fields = _fields.decode(data)
        except UNREADABLE:
            return OpaqueMeter()
        kind = bytes(fields.get("type", b""))
        if kind == b'"message_start"':
            return messages.MessagesMeter(self._asked)
        if kind == b'"message-start"':
            return CohereMeter()
        if kind.startswith(b'"response.') or kind == b'"error"':
            return responses.ResponsesMeter(self._asked)
        if kind.startswith(b'"image_'):
            return images.ImagesMeter()
        if kind.startswith(b'"transcript.'):
            return audio.TranscriptMeter()
        if kind.startswith(b'"speech.'):
            return audio.SpeechMeter()
        if "choices" in fields or "error" in fields:
            return chat.ChatMeter(self._asked, hide_usage=False, grok=self._grok)
        return OpaqueMeter()
