"""Chat completions and completions: whole replies, and the meter of the hot path.

`prompt_tokens` includes cached, cache-write, sound and image tokens. Some models (Grok) leave reasoning out of
`completion_tokens`; the total shows it, so output is the larger of the two figures.
"""

import re

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters.reading import (
    EMPTY,
    NOTHING,
    UNREADABLE,
    OutputDetails,
    PromptDetails,
    Reading,
    Tokens,
    bounded,
    model_name,
    text_tokens,
    tier_of,
)
from services.proxy.domain.meters.stream import StreamMeter
from services.proxy.domain.sse import data_of
from shared.pricing import STANDARD, Usage


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()


class _Frame(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    choices: list[msgspec.Raw] = []


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    text: str | None = None


class _Content(msgspec.Struct):
    choices: list[_Choice] = []


_body = msgspec.json.Decoder(_Body)
_content = msgspec.json.Decoder(_Content)
_frame = msgspec.json.Decoder(_Frame)
_usage = msgspec.json.Decoder(_Usage)
_pieces: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def usage_of(raw: bytes, tier: str = STANDARD, *, grok: bool = False) -> Usage | None:
    """The classes of a usage object of chat, completions or embeddings; None if it cannot be read or believed.

    `grok`: reasoning stands beside `completion_tokens` even where no total says so.
    """
    try:
        said = _usage.decode(raw)
    except UNREADABLE:
        return None
    prompt, output = said.prompt_tokens, said.completion_tokens or 0
    if output < 0:
        return None
    given = said.completion_tokens_details
    reasoning = given.reasoning_tokens if given is not None else None
    if said.total_tokens is not None:
        output = max(output, said.total_tokens - prompt)
    elif grok and reasoning is not None and reasoning > 0:
        output += reasoning
    taken = said.prompt_tokens_details
    return Tokens(
        prompt=prompt,
        output=output,
        cached=taken.cached_tokens if taken is not None else None,
        write=taken.cache_write_tokens if taken is not None else None,
        audio=taken.audio_tokens if taken is not None else None,
        image=taken.image_tokens if taken is not None else None,
        reasoning=reasoning,
        audio_out=given.audio_tokens if given is not None else None,
        image_out=given.image_tokens if given is not None else None,
    ).usage(tier)


def read_body(body: bytes, asked_tier: str = STANDARD) -> Reading:
    """What a whole reply of chat, completions or embeddings said of itself."""
    try:
        said = _body.decode(body)
    except UNREADABLE:
        return NOTHING
    raw = bytes(said.usage)
    if raw in EMPTY:
        return Reading(served_model=model_name(said.model))
    usage = usage_of(raw, tier_of(said.service_tier, asked_tier))
    return Reading(usage=usage, raw=bounded(raw), served_model=model_name(said.model))


def content_tokens(body: bytes) -> int:
    """What the content of a whole reply looks like in tokens; of something else than a reply, nothing."""
    try:
        said = _content.decode(body)
    except UNREADABLE:
        return 0
    total = 0
    for choice in said.choices:
        message = choice.message
        size = len(message.content or "") + len(message.reasoning_content or "") + len(choice.text or "")
        total += text_tokens(size + len(message.tool_calls))
    return total


class ChatMeter(StreamMeter):
    """Streams of chat completions and completions.

    Most events pass after a look at their bytes: unescaped quotes cannot stand inside a JSON string, so a field's name
    in quotes is a field, and never content.
    """

    def __init__(self, asked: Asked, *, hide_usage: bool, grok: bool) -> None:
        super().__init__()
        self._asked_tier = asked.tier
        self._hide = hide_usage
        self._grok = grok
        self._usage: Usage | None = None
        self._raw = b"null"
        self._served: str | None = None
        self._tier = msgspec.Raw()

    def feed(self, frame: bytes) -> bytes:
        """Note what an event says; the bytes to pass on (empty: none)."""
        compact_null = b',"usage":null' in frame
        if not self.begun or self._served is None or (not compact_null and b'"usage"' in frame) or b'"error"' in frame:
            return self._look(frame)
        if b"[DONE]" in frame and data_of(frame) == b"[DONE]":
            self.done = True
            return frame
        self.content_frames += 1
        # Only the event's own field can look like this: content has no unescaped quotes.
        return frame.replace(b',"usage":null', b"", 1) if self._hide and compact_null else frame

    def reading(self) -> Reading:
        """What the stream has said so far."""
        return Reading(usage=self._usage, raw=self._raw, served_model=self._served)

    def _look(self, frame: bytes) -> bytes:
        """Read an event as JSON."""
        data = data_of(frame)
        if data == b"[DONE]":
            self.done = True
            return frame
        if not data:
            return frame
        if b'"error"' in frame:
            self._note_failure(data)
        try:
            said = _frame.decode(data)
        except UNREADABLE:
            return frame
        self._served = model_name(said.model) or self._served
        if bytes(said.service_tier) not in EMPTY:
            self._tier = said.service_tier
        if bytes(said.usage).startswith(b"{"):
            self._note_usage(bytes(said.usage))
            if self._hide and not said.choices:
                return b""
        if not self.begun and any(_begins(choice) for choice in said.choices):
            self.begun = True
        self.content_frames += bool(said.choices)
        if self._hide and bytes(said.usage) == b"null":
            return _NULL_USAGE.sub(b"", frame, count=1)
        return frame

    def _note_usage(self, raw: bytes) -> None:
        usage = usage_of(raw, tier_of(self._tier, self._asked_tier), grok=self._grok)
        if usage is not None:
            self._usage, self._raw = usage, bounded(raw)


def _begins(choice: msgspec.Raw) -> bool:
    """Whether a choice of a stream's event gives anything: content of any kind, or a reason to stop."""
    try:
        said = _pieces.decode(choice)
        if bytes(said.get("finish_reason", b"null")) != b"null" or bytes(said.get("text", b'""')) not in _NOTHING_SAID:
            return True
        delta = bytes(said.get("delta", b"null"))
        pieces = _pieces.decode(delta) if delta not in _NOTHING_SAID else {}
    except UNREADABLE:
        return True
    return any(name != "role" and bytes(piece) not in _NOTHING_SAID for name, piece in pieces.items())


_NOTHING_SAID = (b"null", b'""', b"[]", b"{}", b"")
_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null')
"""The `usage` that is null because we asked for it, also where it is written with spaces."""
