"""Admin calls passed on: which headers go which way, and that only the documentation is a page."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from services.proxy.domain.paths import route_of
from services.proxy.forwarder import Forwarder
from tests.unit.asgi_driver import Exchange, http_scope

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
async def forwarder() -> AsyncIterator[Forwarder]:
    made = Forwarder({"auth": "http://auth.internal/", "ledger": "http://ledger.internal"})
    yield made
    await made.close()


async def ask(forwarder: Forwarder, answer: Answer, path: str, method: str = "GET", **headers: str) -> Exchange:
    await forwarder._client.aclose()
    forwarder._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    route = route_of(path.encode())
    assert route is not None
    exchange = Exchange([])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await forwarder.forward(route, http_scope(method, path, named, b"a=b"), b"{}", exchange.send)
    return exchange


async def test_what_goes_there_and_what_comes_back(forwarder: Forwarder) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        headers = {
            "idempotency-replayed": "true", "retry-after": "1", "link": '<x>; rel="next"', "set-cookie": "a=b",
            "server": "s",
        }  # fmt: skip
        return httpx.Response(200, json={"ok": True}, headers=headers)

    told = await ask(
        forwarder, answer, "/key/k1/rotate", "POST",
        authorization="Bearer sk-x", idempotency_key="i1", x_tundish_actor="me", x_forwarded_for="1.2.3.4", cookie="c",
    )  # fmt: skip
    assert str(seen[0].url) == "http://auth.internal/key/k1/rotate?a=b"
    assert (seen[0].headers["authorization"], seen[0].headers["idempotency-key"]) == ("Bearer sk-x", "i1")
    assert not {"x-tundish-actor", "x-forwarded-for", "cookie"} & set(seen[0].headers)
    assert (told.headers["idempotency-replayed"], told.headers["retry-after"]) == ("true", "1")
    assert told.headers["link"] == '<x>; rel="next"'
    assert not {"set-cookie", "server"} & set(told.headers)
    assert told.headers["content-security-policy"] == "sandbox"


async def test_the_documentation_is_a_page_that_can_do_nothing(forwarder: Forwarder) -> None:
    told = await ask(forwarder, lambda _: httpx.Response(200, html="<h1>Tundish</h1>"), "/docs")
    assert (told.status, told.body) == (200, b"<h1>Tundish</h1>")
    assert told.headers["content-type"] == "text/html; charset=utf-8"
    policy = told.headers["content-security-policy"].split("; ")
    assert policy == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    assert (told.headers["x-content-type-options"], told.headers["content-length"]) == ("nosniff", "16")
    assert [name for name, _ in told.sent[0]["headers"]].count(b"content-security-policy") == 1


@pytest.mark.parametrize("path", ["/openapi.json", "/key/info", "/audit", "/spend/logs"])
@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "image/svg+xml", "application/xhtml+xml"])
async def test_nothing_else_is_a_page(forwarder: Forwarder, path: str, kind: str) -> None:
    told = await ask(forwarder, lambda _: httpx.Response(200, content=b"<x>", headers={"content-type": kind}), path)
    assert (told.headers["content-type"], told.headers["content-security-policy"]) == ("application/json", "sandbox")


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson", "application/jsonl", "text/csv"])
async def test_data_keeps_its_kind(forwarder: Forwarder, kind: str) -> None:
    told = await ask(
        forwarder, lambda _: httpx.Response(200, content=b"1", headers={"content-type": kind}), "/audit/export"
    )
    assert told.headers["content-type"] == kind
