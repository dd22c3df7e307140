"""Proven bounds of calls that are no conversations: pictures by the piece, characters, search units.

Sound and documents have no bound: no number of bytes proves how long a sound or how thick a document is. Nor have
pictures that are billed by tokens, since no cap holds those.
"""

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.bounds import NOTHING, Bound, check_fields, decoded, unbounded
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.rerank import PIECE_TOKENS, bytes_of, pieces_of, units_of
from services.proxy.domain.requests.writing import Fields
from shared.pricing import PriceRow, Usage

IMAGE_WORDS = (
    "model prompt n num_images size width height quality style response_format user output_format output_compression"
    " background moderation seed stream partial_images image images mask input_image input_fidelity"
)
IMAGE_FIELDS = frozenset(IMAGE_WORDS.split())
SPEECH_WORDS = "model input voice instructions response_format speed stream_format"
SPEECH_FIELDS = frozenset(SPEECH_WORDS.split())
RERANK_WORDS = "model query documents top_n return_documents rank_fields max_chunks_per_doc max_tokens_per_doc priority"
RERANK_FIELDS = frozenset(RERANK_WORDS.split())
UNITS = frozenset(
    [
        Endpoint.COUNT_TOKENS,
        Endpoint.IMAGES,
        Endpoint.IMAGE_EDITS,
        Endpoint.TRANSCRIPTIONS,
        Endpoint.TRANSLATIONS,
        Endpoint.SPEECH,
        Endpoint.RERANK,
        Endpoint.OCR,
    ]
)
TOKEN_CLASSES = ("input", "output", "image_input", "image_output", "audio_input", "audio_output")

_text = msgspec.json.Decoder(str)
_documents = msgspec.json.Decoder(list[str | dict[str, msgspec.Raw]])


def units_bound(asked: Asked, fields: Fields, facts: ModelFacts, row: PriceRow | None) -> Bound:
    """The bound of a call that is billed by units. Raises BadRequest `unbounded_cost`."""
    endpoint = asked.endpoint
    if endpoint is Endpoint.COUNT_TOKENS:
        return Bound(prompt=0)
    if endpoint in (Endpoint.IMAGES, Endpoint.IMAGE_EDITS):
        check_fields(fields, IMAGE_FIELDS)
        _only_units(row, "images", "model", "its pictures are billed by tokens, which no cap holds")
        return Bound(prompt=0, units=asked.units)
    if endpoint is Endpoint.SPEECH:
        check_fields(fields, SPEECH_FIELDS)
        _only_units(row, "characters", "model", "its speech is billed by tokens, which no cap holds")
        return Bound(prompt=0, units=asked.units)
    if endpoint is Endpoint.RERANK:
        check_fields(fields, RERANK_FIELDS)
        _only_units(row, "queries", "model", "it is billed by tokens, whose number is not bounded")
        return Bound(prompt=0, units=Usage(queries=_search_units(fields, facts)))
    if endpoint is Endpoint.OCR:
        raise unbounded("document", "nobody knows how many pages it has before it is read")
    raise unbounded("file", "no number of bytes proves how long a sound is")


def _only_units(row: PriceRow | None, name: str, field: str, why: str) -> None:
    """Refuse a model whose price has tokens in it."""
    if row is None or any(row.rates.rate(one) for one in TOKEN_CLASSES):
        raise unbounded(field, why)
    if name != "images" and row.rates.rate(name) is None:
        raise unbounded(field, why)


def _search_units(fields: Fields, facts: ModelFacts) -> int:
    """Search units at the most: each byte of query and documents a token, and the query in each piece."""
    query = len(decoded(_text, fields.get("query", NOTHING), "query", "is no text").encode("utf-8", "replace"))
    documents = decoded(_documents, fields.get("documents", NOTHING), "documents", "is no list of texts")
    room = max(1, PIECE_TOKENS - query * facts.expansion)
    return units_of(sum(pieces_of(bytes_of(one) * facts.expansion, room) for one in documents))
