"""Rerank: documents put in order for a query, billed by search units."""

import msgspec

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.reading import count_of, model_of
from shared.pricing import Usage

DOCUMENTS_PER_UNIT = 100
PIECE_TOKENS = 500
"""A longer document counts as several; the query counts in each."""
PIECES_MAX = 10
"""No document is cut into more, unless the request says so: the rest of it is not read."""
DOCUMENTS_MAX = 10_000
BYTES_PER_TOKEN = 4
"""English has four; a document is not cut for less than what is likely."""


class _Rerank(msgspec.Struct):
    model: str | None = None
    query: str | None = None
    documents: list[str | dict[str, msgspec.Raw]] | None = None
    top_n: int | None = None
    max_chunks_per_doc: int | None = None
    max_tokens_per_doc: int | None = None


_body = msgspec.json.Decoder(_Rerank)


def read_rerank(body: bytes, path_model: str | None) -> Asked:
    """A rerank in the shapes of Cohere's v1 and v2; `units.queries` are its likely search units. Raises BadRequest, and
    whatever msgspec raises for what is no JSON."""
    said = _body.decode(body)
    if said.query is None:
        raise BadRequest("'query' is missing: say what the documents are to be ranked by.", param="query")
    if not said.documents:
        raise BadRequest("'documents' is missing: send a list of at least one text.", param="documents")
    if len(said.documents) > DOCUMENTS_MAX:
        raise BadRequest(f"'documents' has more than {DOCUMENTS_MAX} documents: send fewer.", param="documents")
    count_of(said.top_n, "top_n", most=DOCUMENTS_MAX)
    most = count_of(said.max_chunks_per_doc, "max_chunks_per_doc", default=PIECES_MAX, most=1_000)
    if said.max_tokens_per_doc is not None:
        longest = count_of(said.max_tokens_per_doc, "max_tokens_per_doc", most=10**6)
        most = min(most, -(-longest // PIECE_TOKENS))
    query = len(said.query.encode("utf-8", "replace")) // BYTES_PER_TOKEN
    room = max(PIECE_TOKENS // 2, PIECE_TOKENS - query)
    pieces = sum(min(most, pieces_of(bytes_of(one) // BYTES_PER_TOKEN, room)) for one in said.documents)
    return Asked(
        model=model_of(path_model or said.model),
        endpoint=Endpoint.RERANK,
        output_cap=0,
        units=Usage(queries=units_of(pieces)),
    )


def units_of(pieces: int) -> int:
    """Search units of so many pieces: one for each hundred, begun ones too."""
    return -(-pieces // DOCUMENTS_PER_UNIT)


def pieces_of(tokens: int, room: int) -> int:
    """The pieces of a document of so many tokens, with room for so many in each."""
    return max(1, -(-tokens // room))


def bytes_of(document: str | dict[str, msgspec.Raw]) -> int:
    """How long a document is, at most: the bytes of its text, or of all its fields."""
    if isinstance(document, str):
        return len(document.encode("utf-8", "replace"))
    return sum(len(name.encode("utf-8", "replace")) + len(value) + 4 for name, value in document.items())
