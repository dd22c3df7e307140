"""`/openapi.json` and `/docs`: what the API is, for anybody; there are no data in it."""

from collections.abc import Sequence

import msgspec
from litestar import MediaType, Response, get
from litestar.types import ControllerRouterHandler

from services.auth.api.document import page_of
from services.auth.api.openapi import document_of
from services.auth.api.operations import Operation

CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "max-age=300",
}


def pages(operations: Sequence[Operation]) -> list[ControllerRouterHandler]:
    """The routes of both; they are written once, at the start."""
    content = document_of(operations)
    document, page = msgspec.json.encode(content), page_of(content)

    @get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response[bytes]:
        return Response(document, media_type=MediaType.JSON, headers=HEADERS)

    @get("/docs", include_in_schema=False)
    async def docs() -> Response[bytes]:
        return Response(page, media_type=MediaType.HTML, headers=HEADERS)

    return [openapi, docs]
