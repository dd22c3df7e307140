"""OCR: the text of a document, billed by the page."""

import re

import msgspec

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.reading import model_of
from shared.pricing import Usage

PAGES = 20
"""What is assumed of a document that nobody has counted."""
PAGES_MAX = 10_000
CHARS_PER_PAGE = 100_000
"""Base64 characters of a page, where a document has so many that it has more pages than are assumed."""
ANNOTATED = "annotated"
"""The kind of pages that are described too, at a price of their own."""
NULL = (b"", b"null")

_RANGE = re.compile(r"\s*([0-9]{1,6})\s*(?:-\s*([0-9]{1,6})\s*)?")


class _Document(msgspec.Struct):
    type: str | None = None
    document_url: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()


class _Ocr(msgspec.Struct):
    model: str | None = None
    document: _Document | str | None = None
    pages: list[int] | str | None = None
    bbox_annotation_format: msgspec.Raw = msgspec.Raw()
    document_annotation_format: msgspec.Raw = msgspec.Raw()


_body = msgspec.json.Decoder(_Ocr)


def read_ocr(body: bytes, path_model: str | None) -> Asked:
    """A document to be read; `guess.pages` are those asked for, else likely ones. Raises BadRequest, and whatever
    msgspec raises for what is no JSON."""
    said = _body.decode(body)
    if said.document is None:
        raise BadRequest("'document' is missing: send an object with 'document_url' or 'image_url'.", param="document")
    annotated = any(bytes(one) not in NULL for one in (said.bbox_annotation_format, said.document_annotation_format))
    return Asked(
        model=model_of(path_model or said.model),
        endpoint=Endpoint.OCR,
        output_cap=0,
        guess=Usage(pages=_pages(said, said.document), kind=ANNOTATED if annotated else ""),
    )


def _pages(said: _Ocr, document: _Document | str) -> int:
    if isinstance(said.pages, list) and said.pages:
        return min(len(said.pages), PAGES_MAX)
    if isinstance(said.pages, str):
        return _ranges(said.pages)
    url = document if isinstance(document, str) else document.document_url
    if url is None and not isinstance(document, str) and len(document.image_url):
        return 1
    return min(PAGES_MAX, max(PAGES, -(-len(url or "") // CHARS_PER_PAGE)))


def _ranges(pages: str) -> int:
    """Pages of a text such as `0-3,7`. Raises BadRequest."""
    count = 0
    for one in pages.split(","):
        found = _RANGE.fullmatch(one)
        if found is None:
            raise BadRequest("'pages' must be page numbers, such as [0, 1] or '0-3,7'.", param="pages")
        count += max(1, int(found[2] or found[1]) - int(found[1]) + 1)
    return min(count, PAGES_MAX)
