"""Reading what a call used from the bytes that pass: bodies and streams of the OpenAI shape.

Counts are taken as Foundry reports them. Missing usage is not zero usage: it is estimated and marked.
"""

import msgspec

from services.proxy.domain.sse import data_of
from shared.pricing import Usage

RAW_BYTES_MAX = 4_096
RAW_NESTING_MAX = 64
MODEL_NAME_MAX = 200
TOKENS_MAX = 10**9
"""More tokens than any call can have: such a count is not believed."""
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
BYTES_PER_TOKEN = 4
"""The common rule of thumb, for estimates only."""


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()


class _Frame(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    choices: list[msgspec.Raw] = []
    error: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)


class _Content(msgspec.Struct):
    choices: list[_Choice] = []


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a reply said of itself; `usage` is None when it did not say."""

    usage: Usage | None = None
    raw: bytes = b"null"
    served_model: str | None = None


_body = msgspec.json.Decoder(_Body)
_content = msgspec.json.Decoder(_Content)
_frame = msgspec.json.Decoder(_Frame)
_usage = msgspec.json.Decoder(_Usage)


def usage_of(raw: bytes) -> Usage | None:
    """Token classes from a usage object of chat completions or embeddings; None if it cannot be read.

    `prompt_tokens` includes cached and cache-write tokens. Some models leave reasoning out of
    `completion_tokens`; the total shows it, so output is the larger of the two figures.
    """
    try:
        said = _usage.decode(raw)
    except UNREADABLE:
        return None
    prompt = said.prompt_tokens
    details = said.prompt_tokens_details
    cached = min(prompt, max(0, (details.cached_tokens or 0) if details else 0))
    write = min(prompt - cached, max(0, (details.cache_write_tokens or 0) if details else 0))
    by_total = said.total_tokens - prompt if said.total_tokens is not None else 0
    reasoning = said.completion_tokens_details.reasoning_tokens if said.completion_tokens_details else 0
    output = max(said.completion_tokens or 0, by_total, 0)
    if prompt < 0 or max(prompt, output, reasoning or 0) > TOKENS_MAX:
        return None
    return Usage(
        input=prompt - cached - write,
        cached=cached,
        cache_write=write,
        output=output,
        reasoning=max(0, reasoning or 0),
    )


def read_body(body: bytes) -> Reading:
    """What a whole JSON reply said of itself."""
    try:
        said = _body.decode(body)
    except UNREADABLE:
        return Reading()
    raw = bytes(said.usage)
    if not raw or raw == b"null":
        return Reading(served_model=_name(said.model))
    return Reading(usage=usage_of(raw), raw=_bounded(raw), served_model=_name(said.model))


class StreamMeter:
    """Reads a stream event by event. `hide_usage`: the caller did not ask for usage, so it is taken out."""

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide = hide_usage
        self._usage: Usage | None = None
        self._raw = b"null"
        self._served: str | None = None
        self.content_frames = 0
        self.done = False
        self.failed = False

    def feed(self, frame: bytes) -> bytes:
        """Note what an event says; the bytes to pass on (empty: none)."""
        has_usage = b'"usage"' in frame and b'"usage":null' not in frame
        if has_usage or self._served is None or b'"error"' in frame:
            data = data_of(frame)
            if data == b"[DONE]":
                self.done = True
                return frame
            if data and self._note(data) and self._hide:
                return b""
        elif b"[DONE]" in frame and data_of(frame) == b"[DONE]":
            self.done = True
            return frame
        self.content_frames += 1
        if self._hide and b',"usage":null' in frame:
            # Unescaped quotes cannot stand inside a JSON string, so this never touches content.
            return frame.replace(b',"usage":null', b"", 1)
        return frame

    def reading(self) -> Reading:
        """What the stream has said so far."""
        return Reading(usage=self._usage, raw=self._raw, served_model=self._served)

    def _note(self, data: bytes) -> bool:
        """Note one JSON event; whether it carries usage and nothing else."""
        try:
            said = _frame.decode(data)
        except UNREADABLE:
            return False
        self._served = _name(said.model) or self._served
        if bytes(said.error) not in (b"", b"null"):
            self.failed = True
        raw = bytes(said.usage)
        if not raw or raw == b"null":
            return False
        usage = usage_of(raw)
        if usage is None:
            return False
        self._usage, self._raw = usage, _bounded(raw)
        return not said.choices


def content_tokens(body: bytes) -> int:
    """What the content of a whole reply looks like in tokens; of something else than a reply, nothing."""
    try:
        said = _content.decode(body)
    except UNREADABLE:
        return 0
    return sum(_tokens(len(choice.message.content or "") + len(choice.message.tool_calls)) for choice in said.choices)


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _bounded(raw: bytes) -> bytes:
    """A usage object that every reader of the log can decode and store, else null."""
    if len(raw) > RAW_BYTES_MAX or raw.count(b"{") + raw.count(b"[") > RAW_NESTING_MAX or b"\\u" in raw:
        return b"null"
    try:
        raw.decode()
    except UnicodeDecodeError:
        return b"null"
    return raw


def _name(model: str | None) -> str | None:
    return model if model and len(model) <= MODEL_NAME_MAX and model.isprintable() else None
