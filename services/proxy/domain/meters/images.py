"""Images: by the token where the reply says so, else by the piece: those that came are counted, not those asked."""

from typing import ClassVar

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.meters.reading import EMPTY, NOTHING, UNREADABLE, Reading, Tokens, bounded, model_name
from services.proxy.domain.meters.stream import TypedMeter
from shared.pricing import Usage


class _Details(msgspec.Struct, gc=False):
    image_tokens: int | None = None
    cached_tokens: int | None = None
    cached_tokens_details: "_Details | None" = None


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()


_body = msgspec.json.Decoder(_Body)
_usage = msgspec.json.Decoder(_Usage)


def usage_of(raw: bytes) -> Usage | None:
    """The classes of an image reply's usage; output is all image tokens unless its details say otherwise."""
    try:
        said = _usage.decode(raw)
    except UNREADABLE:
        return None
    output = said.output_tokens or 0
    if output < 0:
        return None
    if said.total_tokens is not None:
        output = max(output, said.total_tokens - said.input_tokens)
    taken, given = said.input_tokens_details or _Details(), said.output_tokens_details
    divided = taken.cached_tokens_details
    images = output if given is None or given.image_tokens is None else given.image_tokens
    return Tokens(
        prompt=said.input_tokens,
        output=output,
        cached=taken.cached_tokens,
        cached_image=divided.image_tokens if divided is not None else None,
        image=taken.image_tokens,
        image_out=images,
    ).usage()


def read_body(body: bytes, asked: Asked) -> Reading:
    """What a reply with images said of itself; without usage, as many images as it holds, of the kind asked for."""
    try:
        said = _body.decode(body)
    except UNREADABLE:
        return NOTHING
    raw, served = bytes(said.usage), model_name(said.model)
    if raw not in EMPTY:
        return Reading(usage=usage_of(raw), raw=bounded(raw), served_model=served)
    if not said.data:
        return Reading(served_model=served)
    return Reading(usage=Usage(images=len(said.data), kind=asked.units.kind), served_model=served, counted=True)


class ImagesMeter(TypedMeter):
    """Streams of partial images and a completed one; they exist for models that are billed by the token."""

    QUIET: ClassVar[frozenset[str]] = frozenset({"error", "ping", "keepalive"})
    MARKS: ClassVar[tuple[bytes, ...]] = (b'.completed"', b'"error"')

    def event(self, kind: str, data: bytes) -> None:
        """Note the usage of the completed image."""
        if not kind.endswith(".completed"):
            return
        self.done = True
        try:
            said = _body.decode(data)
        except UNREADABLE:
            return
        raw = bytes(said.usage)
        if raw not in EMPTY:
            self._reading = Reading(usage=usage_of(raw), raw=bounded(raw), served_model=model_name(said.model))
