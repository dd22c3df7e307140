"""Admin calls at the front door: an allow list of paths, passed to the service that owns them.

Answers are JSON or plain data, which no browser runs. The documentation is the one page, and its policy lets it do
nothing but show itself.
"""

import logging
from typing import Any

import httpx

from services.proxy.domain.admin_paths import DOCS
from services.proxy.domain.admission import Refused
from services.proxy.domain.paths import Route
from services.proxy.relay.whole import JSON_TYPE, Headers, Send, head

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
CONNECTIONS_MAX = 64
ADMIN_BODY_BYTES_MAX = 1_000_000
REQUEST_HEADERS = (b"authorization", b"api-key", b"x-api-key", b"content-type", b"idempotency-key", b"accept")
ANSWER_HEADERS = ("retry-after", "content-disposition", "idempotency-replayed", "link")
PLAIN_TYPES = (JSON_TYPE, b"text/csv", b"text/plain", b"application/x-ndjson", b"application/jsonl")
PAGE_HEADERS: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-store"),
]
"""How a page goes out: no script, no picture, no frame and no form of it does anything."""


class Forwarder:
    """Passes admin calls on with the caller's own credential; nothing else of the caller's is believed."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls = {service: url.rstrip("/") for service, url in urls.items()}
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(TIMEOUT_S, connect=2.0),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
        )

    async def forward(self, route: Route, scope: Any, body: bytes, send: Send) -> None:
        """Pass one call on. Raises Refused when its service does not answer."""
        assert route.service is not None
        headers = [(name, value) for name, value in scope["headers"] if name in REQUEST_HEADERS]
        query: bytes = scope.get("query_string", b"")
        url = self._urls[route.service] + route.path + (f"?{query.decode('ascii', 'replace')}" if query else "")
        try:
            answer = await self._client.request(scope["method"], url, headers=headers, content=body)
        except httpx.InvalidURL as error:
            raise Refused(400, "bad_query", "The query string is not accepted: percent-encode it.") from error
        except httpx.HTTPError as error:
            log.warning("service %s does not answer: %r", route.service, error)
            raise Refused(
                503,
                "service_unavailable",
                f"The {route.service} service does not answer at the moment. Try again shortly.",
                kind="server_error",
                headers=((b"retry-after", b"2"),),
            ) from error
        self._client.cookies.clear()  # one client serves all callers
        out: Headers = [(b"content-length", str(len(answer.content)).encode())]
        out += [
            (name.encode(), value.encode("latin-1"))
            for name in ANSWER_HEADERS
            if (value := answer.headers.get(name)) is not None
        ]
        kind = answer.headers.get("content-type", "").encode("latin-1")
        if route.path == DOCS and kind.startswith(b"text/html"):
            page = [*PAGE_HEADERS, *out]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": page})
        else:
            await send(head(answer.status_code, kind if kind.startswith(PLAIN_TYPES) else JSON_TYPE, out))
        await send({"type": "http.response.body", "body": answer.content})

    async def close(self) -> None:
        """Give up all connections."""
        await self._client.aclose()
