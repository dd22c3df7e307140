"""The Responses API: whole responses, and streams that say their usage in their last event only.

Azure names the deployment as `model`, so the name is no evidence of the model that served (see `trusted`).
"""

from typing import ClassVar

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
from services.proxy.domain.meters.stream import TypedMeter
from shared.pricing import STANDARD, Usage

CONTAINER_CALL = b'"code_interpreter_call"'


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: PromptDetails | None = None
    output_tokens_details: OutputDetails | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()


class _Ran(msgspec.Struct):
    type: msgspec.Raw = msgspec.Raw()
    container_id: msgspec.Raw = msgspec.Raw()


class _Event(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    arguments: str | None = None
    input: str | None = None


class _Content(msgspec.Struct):
    output: list[_Item] = []


_body = msgspec.json.Decoder(_Body)
_content = msgspec.json.Decoder(_Content)
_event = msgspec.json.Decoder(_Event)
_usage = msgspec.json.Decoder(_Usage)
_ran = msgspec.json.Decoder(list[_Ran])


def usage_of(raw: bytes, tier: str = STANDARD) -> Usage | None:
    """The classes of a usage object with `input_tokens` that include the cached ones; None if it cannot be read."""
    try:
        said = _usage.decode(raw)
    except UNREADABLE:
        return None
    output = said.output_tokens or 0
    if output < 0:
        return None
    if said.total_tokens is not None:
        output = max(output, said.total_tokens - said.input_tokens)
    taken, given = said.input_tokens_details or PromptDetails(), said.output_tokens_details or OutputDetails()
    return Tokens(
        prompt=said.input_tokens,
        output=output,
        cached=taken.cached_tokens,
        write=taken.cache_write_tokens,
        audio=taken.audio_tokens,
        image=taken.image_tokens,
        reasoning=given.reasoning_tokens,
        audio_out=given.audio_tokens,
        image_out=given.image_tokens,
    ).usage(tier)


def read_body(body: bytes, asked_tier: str = STANDARD) -> Reading:
    """What a response object said of itself; one that is still queued or in progress says no usage."""
    try:
        said = _body.decode(body)
    except UNREADABLE:
        return NOTHING
    raw = bytes(said.usage)
    if raw in EMPTY:
        return Reading(served_model=model_name(said.model))
    usage = usage_of(raw, tier_of(said.service_tier, asked_tier))
    if usage is not None and CONTAINER_CALL in body:
        usage = msgspec.structs.replace(usage, sessions=containers_in(said.output))
    return Reading(usage=usage, raw=bounded(raw), served_model=model_name(said.model))


def containers_in(output: bytes) -> int:
    """How many containers the code interpreter ran in, by the items of an output; calls without an id share one."""
    try:
        items = _ran.decode(output)
    except UNREADABLE:
        return 0
    return len({bytes(item.container_id) for item in items if bytes(item.type) == CONTAINER_CALL})


def content_tokens(body: bytes) -> int:
    """What the output of a response looks like in tokens."""
    try:
        said = _content.decode(body)
    except UNREADABLE:
        return 0
    total = 0
    for item in said.output:
        parts = [*(item.content or ()), *(item.summary or ())]
        size = sum(len(part.text or "") + len(part.refusal or "") for part in parts)
        total += text_tokens(size + len(item.arguments or "") + len(item.input or ""))
    return total


class ResponsesMeter(TypedMeter):
    """Streams of the Responses API."""

    QUIET = frozenset(
        {
            "response.created",
            "response.queued",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_summary_part.added",
            "response.failed",
            "error",
            "keepalive",
            "ping",
        }
    )
    MARKS = (
        b'"response.completed"',
        b'"response.incomplete"',
        b'"response.cancelled"',
        b'"response.failed"',
        b'"error"',
    )
    ENDS: ClassVar[frozenset[str]] = frozenset({"response.completed", "response.incomplete", "response.cancelled"})

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked_tier = asked.tier
        self._failed_types: set[str] = set()

    def event(self, kind: str, data: bytes) -> None:
        """Note the response that an event carries, whether it is the last, and whether it tells of an error."""
        if kind in ("response.failed", "error"):
            self._fail(kind, data)
        elif kind in self.ENDS:
            self.done = True
        if b'"response"' not in data:
            return
        try:
            response = _event.decode(data).response
        except UNREADABLE:
            return
        if bytes(response) in EMPTY:
            return
        said = read_body(bytes(response), self._asked_tier)
        if said.usage is not None or self._reading.usage is None:
            self._reading = said

    def _fail(self, kind: str, data: bytes) -> None:
        """Azure sends a bare `response.failed` and then an `error` with the reason, OpenAI the other way round."""
        self._note_failure(data)
        self._failed_types.add(kind)
        self.done = len(self._failed_types) > 1
