"""Anthropic's Messages API. `input_tokens` leaves cached tokens out: the prompt is the sum of three counts."""

from typing import ClassVar

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters.reading import (
    EMPTY,
    NOTHING,
    UNREADABLE,
    Reading,
    Tokens,
    bounded,
    model_name,
    text_tokens,
    tier_of,
)
from services.proxy.domain.meters.stream import TypedMeter
from shared.pricing import STANDARD, Usage

Fields = dict[str, msgspec.Raw]


class _Creation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _Details(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _Creation | None = None
    output_tokens_details: _Details | None = None
    service_tier: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()


class _Start(msgspec.Struct):
    message: _Body = msgspec.field(default_factory=_Body)


class _Delta(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


class _Block(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class _Content(msgspec.Struct):
    content: list[_Block] = []


_body = msgspec.json.Decoder(_Body)
_content = msgspec.json.Decoder(_Content)
_start = msgspec.json.Decoder(_Start)
_delta = msgspec.json.Decoder(_Delta)
_usage = msgspec.json.Decoder(_Usage)
_fields: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)


def usage_of(raw: bytes, asked_tier: str = STANDARD) -> Usage | None:
    """The classes of a Messages usage object; None if it cannot be read or believed."""
    try:
        said = _usage.decode(raw)
    except UNREADABLE:
        return None
    split = said.cache_creation or _Creation()
    hour = max(0, split.ephemeral_1h_input_tokens or 0)
    write = said.cache_creation_input_tokens
    if write is None:
        write = max(0, split.ephemeral_5m_input_tokens or 0) + hour
    read = said.cache_read_input_tokens or 0
    if min(said.input_tokens, write, read) < 0:
        return None
    details = said.output_tokens_details
    return Tokens(
        prompt=said.input_tokens + write + read,
        output=said.output_tokens,
        cached=read,
        write=write,
        write_1h=hour,
        reasoning=details.thinking_tokens if details is not None else None,
    ).usage(tier_of(said.service_tier, asked_tier))


def read_body(body: bytes, asked_tier: str = STANDARD) -> Reading:
    """What a message said of itself."""
    try:
        said = _body.decode(body)
    except UNREADABLE:
        return NOTHING
    raw = bytes(said.usage)
    if raw in EMPTY:
        return Reading(served_model=model_name(said.model))
    return Reading(usage=usage_of(raw, asked_tier), raw=bounded(raw), served_model=model_name(said.model))


def content_tokens(body: bytes) -> int:
    """What the content of a message looks like in tokens."""
    try:
        said = _content.decode(body)
    except UNREADABLE:
        return 0
    return sum(
        text_tokens(len(block.text or "") + len(block.thinking or "") + len(block.input)) for block in said.content
    )


class MessagesMeter(TypedMeter):
    """Streams of messages. The last usage is cumulative: it replaces the first, field by field where it says any.

    What `message_start` says is no usage yet: its output is a placeholder. Its prompt is what will be billed, though,
    also when the stream breaks off.
    """

    QUIET = frozenset({"message_start", "content_block_start", "ping", "error"})
    MARKS: ClassVar[tuple[bytes, ...]] = (b'"message_delta"', b'"message_stop"', b'"message_start"', b'"error"')

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked_tier = asked.tier
        self._said: Fields = {}

    def event(self, kind: str, data: bytes) -> None:
        """Note what the events of usage say, and the last one."""
        try:
            if kind == "message_start":
                message = _start.decode(data).message
                self._said = _known(message.usage)
                self._reading = Reading(served_model=model_name(message.model))
            elif kind == "message_delta":
                self._replace(_known(_delta.decode(data).usage))
        except UNREADABLE:
            return
        if kind == "message_stop":
            self.done = True

    def reading(self) -> Reading:
        """What the stream has said so far; `partial` as long as there is no usage."""
        if self._reading.usage is not None or not self._said:
            return self._reading
        return msgspec.structs.replace(self._reading, partial=self.partial())

    def partial(self) -> Usage | None:
        """The prompt as `message_start` told it, with about a token for each event of content."""
        if not self._said:
            return None
        counted = {"output_tokens": msgspec.Raw(b"%d" % self.content_frames)}
        return usage_of(msgspec.json.encode(self._said | counted), self._asked_tier)

    def _replace(self, fields: Fields) -> None:
        if not fields:
            return
        self._said.update(fields)
        raw = msgspec.json.encode(self._said)
        usage = usage_of(raw, self._asked_tier)
        if usage is not None:
            self._reading = Reading(usage=usage, raw=bounded(raw), served_model=self._reading.served_model)


def _known(usage: msgspec.Raw) -> Fields:
    """The fields of a usage object that are not null."""
    if bytes(usage) in EMPTY:
        return {}
    return {name: value for name, value in _fields.decode(usage).items() if bytes(value) != b"null"}
