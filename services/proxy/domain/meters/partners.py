"""Partner models: Cohere's billed units, the pages of OCR; and embeddings, in OpenAI's words or Cohere's."""

import msgspec

from services.proxy.domain.meters import chat
from services.proxy.domain.meters.reading import (
    EMPTY,
    NOTHING,
    UNREADABLE,
    Reading,
    Tokens,
    bounded,
    model_name,
    text_tokens,
    units,
)
from shared.pricing import Usage


class _Billed(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None
    image_tokens: float | None = None
    images: float | None = None
    search_units: float | None = None
    pages: float | None = None


class _Meta(msgspec.Struct):
    billed_units: msgspec.Raw = msgspec.Raw()


class _Cohere(msgspec.Struct):
    model: str | None = None
    meta: _Meta | None = None


class _CohereChat(msgspec.Struct):
    model: str | None = None
    usage: _Meta | None = None


class _Piece(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None


class _Message(msgspec.Struct):
    content: list[_Piece] | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct):
    message: _Message | None = None


class _CohereEnd(msgspec.Struct):
    delta: msgspec.Raw = msgspec.Raw()


class _Pages(msgspec.Struct):
    pages_processed: int | None = None


class _Ocr(msgspec.Struct):
    model: str | None = None
    pages: list[msgspec.Raw] | None = None
    usage_info: msgspec.Raw = msgspec.Raw()


_billed = msgspec.json.Decoder(_Billed)
_cohere = msgspec.json.Decoder(_Cohere)
_cohere_chat = msgspec.json.Decoder(_CohereChat)
_answer = msgspec.json.Decoder(_Answer)
_cohere_end = msgspec.json.Decoder(_CohereEnd)
_ocr = msgspec.json.Decoder(_Ocr)
_pages = msgspec.json.Decoder(_Pages)


def billed_units(raw: bytes) -> Usage | None:
    """The classes of Cohere's `billed_units`: input tokens leave out those of images."""
    try:
        said = _billed.decode(raw)
    except UNREADABLE:
        return None
    found = {name: _whole(getattr(said, name)) for name in _Billed.__struct_fields__}
    if all(count is None for count in found.values()) or any(count == -1 for count in found.values()):
        return None
    text, image = found["input_tokens"] or 0, found["image_tokens"] or 0
    tokens = Tokens(prompt=text + image, output=found["output_tokens"] or 0, image=image).usage()
    if tokens is None:
        return None
    images = 0 if image else found["images"] or 0
    return msgspec.structs.replace(tokens, queries=found["search_units"] or 0, images=images, pages=found["pages"] or 0)


def _whole(count: float | None) -> int | None:
    """A count that Cohere may write as 1.0; −1 for one that cannot be believed."""
    if count is None:
        return None
    known = units(round(count))
    return -1 if known is None or known != count else known


def read_cohere(body: bytes) -> Reading:
    """What a rerank, embed or parse reply of Cohere's said of itself."""
    try:
        said = _cohere.decode(body)
    except UNREADABLE:
        return NOTHING
    return _cohere_reading(said.model, said.meta)


def read_cohere_chat(body: bytes) -> Reading:
    """What a chat reply of Cohere's said of itself."""
    try:
        said = _cohere_chat.decode(body)
    except UNREADABLE:
        return NOTHING
    return _cohere_reading(said.model, said.usage)


def content_tokens(body: bytes) -> int:
    """What the content of a chat reply of Cohere's looks like in tokens; of something else, nothing."""
    try:
        message = _answer.decode(body).message
    except UNREADABLE:
        return 0
    if message is None:
        return 0
    size = sum(len(piece.text or piece.thinking or "") for piece in message.content or ())
    return text_tokens(size + len(message.tool_calls))


def read_cohere_end(event: bytes) -> Reading:
    """What the last event of a stream of Cohere's chat said."""
    try:
        return read_cohere_chat(bytes(_cohere_end.decode(event).delta))
    except UNREADABLE:
        return NOTHING


def _cohere_reading(model: str | None, meta: _Meta | None) -> Reading:
    raw = bytes(meta.billed_units) if meta is not None else b""
    if raw in EMPTY:
        return Reading(served_model=model_name(model))
    return Reading(usage=billed_units(raw), raw=bounded(raw), served_model=model_name(model))


def read_ocr(body: bytes) -> Reading:
    """What an OCR reply said of itself; without a count, as many pages as it holds."""
    try:
        said = _ocr.decode(body)
    except UNREADABLE:
        return NOTHING
    raw, served = bytes(said.usage_info), model_name(said.model)
    if raw in EMPTY:
        usage = Usage(pages=len(said.pages)) if said.pages else None
        return Reading(usage=usage, served_model=served)
    try:
        pages = units(_pages.decode(raw).pages_processed)
    except UNREADABLE:
        pages = None
    return Reading(usage=None if pages is None else Usage(pages=pages), raw=bounded(raw), served_model=served)


def read_embeddings(body: bytes, asked_tier: str) -> Reading:
    """What a reply with embeddings said of itself, in OpenAI's words or Cohere's."""
    said = chat.read_body(body, asked_tier)
    return read_cohere(body) if said.usage is None and b'"billed_units"' in body else said
