"""The front door under random bytes: as body, path, query, method and headers. Never a 500, never a leak."""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.proxy.domain.paths import INFERENCE_TABLE
from tests.support.data_plane import FREE_SECRET, MASTER, SECRET, STRICT_SECRET, DataPlane
from tests.unit.asgi_driver import Exchange, http_scope, pieces

CALLS = 6
"""Requests of each example."""
CREDENTIAL, HOST = "foundry-key", "foundry.example"
LEAKS = (CREDENTIAL, HOST, MASTER, SECRET, FREE_SECRET, STRICT_SECRET, "Traceback", "/work", "site-packages")
MODELS = ("gpt-4o", "phi-4", "gpt-5", "mystery", "unpriced", "secret-model", "gone", "")
TABLE = sorted({(path, method) for path, route in INFERENCE_TABLE.items() for method in route.methods})
POSTS = [path for path, method in TABLE if method == "POST"]
OPERATIONS = (
    b"chat/completions",
    b"embeddings",
    b"completions",
    b"images/generations",
    b"audio/speech",
    b"audio/transcriptions",
)
PATHS = [*POSTS, *(b"/openai/deployments/gpt-4o/" + operation for operation in OPERATIONS)]
OBJECTS = (b"/v1/responses/", b"/v1/files/", b"/v1/batches/", b"/v1/models/", b"/azure/gpt-4o/", b"/azure_ai/gpt-4o/")
ASIS = st.sampled_from(
    ["model", "messages", "input", "prompt", "stream", "stream_options", "max_tokens", "max_output_tokens", "n",
     "tools", "role", "content", "type", "text", "image_url", "url", "file_id", "previous_response_id", "query",
     "documents",
     "voice", "size", "quality", "tool_choice", "response_format", "include_usage", "system", "reasoning", "store",
     "background", "document", "texts", "service_tier", "conversation", "metadata"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(MODELS)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ASIS | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=200),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.tuples(st.sampled_from(MODELS), st.dictionaries(ASIS, VALUES, max_size=6)).map(
        lambda pair: json.dumps({**pair[1], "model": pair[0]}).encode()
    ),
    st.integers(1, 9_000).map(lambda depth: b'{"model":"gpt-4o","messages":' + b"[" * depth),
    st.binary(max_size=100).map(
        lambda data: b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\n' + data + b"\r\n--b--"
    ),
)
TYPES = st.sampled_from(
    ["application/json", "multipart/form-data; boundary=b", "multipart/form-data", "text/plain", "", "\xff",
     "a" * 5_000]
)  # fmt: skip
HEADER_TEXT = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=60)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-length", "transfer-encoding", "authorization", "api-key", "x-api-key", "anthropic-version", "accept",
         "content-encoding", "x-tundish-tags", "host", "cookie", "expect", "x-ms-client-request-id", "x-forwarded-for"]
    ) | st.from_regex(r"[a-z-]{1,12}", fullmatch=True),
    HEADER_TEXT,
    max_size=5,
)  # fmt: skip
SECRETS = st.sampled_from([SECRET, FREE_SECRET, STRICT_SECRET])

Request = tuple[str, bytes, dict[str, str], bytes, bytes]


async def knock(plane: DataPlane, request: Request) -> Exchange:
    method, path, headers, body, query = request
    plane.upstream.replies.clear()
    text = f"https://{HOST}/openai refused the key {CREDENTIAL}. Please retry after 1 seconds."
    plane.upstream.json({"error": {"code": "429", "message": text, "inner_error": {"at": f"https://{HOST}/"}}}, 429)
    exchange = Exchange(pieces(body), plane.log)
    await plane.door(http_scope(method, path, headers, query), exchange.receive, exchange.send)
    return exchange


def check(plane: DataPlane, answer: Exchange) -> int:
    """One whole answer, without a leak, and nothing left held or open. Its status."""
    assert answer.finished
    assert answer.status != 500, answer.body
    shown = answer.body.decode("utf-8", "replace") + repr(answer.sent[0]["headers"])
    assert not [leak for leak in LEAKS if leak in shown], shown
    assert plane.quiet()
    return int(answer.status)


def expected(call: Request, status: int) -> bool:
    """Whether Foundry's refusal or the caller's own mistake is answered; counting tokens may need no Foundry."""
    return 400 <= status < 500 or (status == 200 and call[1].endswith(b"/count_tokens"))


def run(work: Callable[[DataPlane], Awaitable[None]]) -> None:
    async def inside() -> None:
        with tempfile.TemporaryDirectory() as folder:
            plane = DataPlane(Path(folder) / "journal", limit_nusd=10**15)
            try:
                async with asyncio.timeout(60):
                    await work(plane)
            finally:
                await plane.close()

    asyncio.run(inside())


NO_HEADERS, POST = st.just(dict[str, str]()), st.just("POST")


def requests(paths: Any, bodies: Any, headers: Any = NO_HEADERS, methods: Any = POST) -> Any:
    """Several requests with a good key."""

    def made(method: str, path: bytes, body: bytes, kind: str, key: str, more: dict[str, str]) -> Request:
        return method, path, {"authorization": f"Bearer {key}", "content-type": kind, **more}, body, b""

    return st.lists(st.builds(made, methods, paths, bodies, TYPES, SECRETS, headers), min_size=CALLS, max_size=CALLS)


@settings(max_examples=60, deadline=None)
@given(requests(st.sampled_from(PATHS), BODIES))
def test_bodies(calls: list[Request]) -> None:
    async def work(plane: DataPlane) -> None:
        for call in calls:
            answer = await knock(plane, call)
            status = check(plane, answer)
            # 503: a model without a known price; all else is the caller's own doing, or Foundry's 429.
            assert expected(call, status) or (status == 503 and answer.error["code"] == "price_unknown"), answer.body

    run(work)


@settings(max_examples=40, deadline=None)
@given(requests(st.sampled_from(PATHS), st.sampled_from([b"", b"{}", b'{"model":"gpt-4o","messages":[]}']), HEADERS))
def test_headers(calls: list[Request]) -> None:
    async def work(plane: DataPlane) -> None:
        for call in calls:
            assert expected(call, check(plane, await knock(plane, call)))

    run(work)


METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "\xff"])
RAW_PATHS = st.one_of(
    st.binary(max_size=40).map(lambda data: b"/" + data),
    st.tuples(st.sampled_from([*PATHS, *OBJECTS]), st.binary(max_size=20)).map(b"".join),
    st.tuples(
        st.sampled_from([*PATHS, *OBJECTS]),
        st.sampled_from(
            [b"/..", b"/%2e%2e", b"//", b"%2f", b"%5c", b"%00", b"/.", b"\\", b"%", b"%zz", b"/%c3%28", b"?a"]
        ),
        st.binary(max_size=6),
    ).map(b"".join),
)


@settings(max_examples=60, deadline=None)
@given(
    requests(RAW_PATHS, st.just(b"{}"), methods=METHODS),
    st.binary(max_size=30),
)
def test_paths(calls: list[Request], query: bytes) -> None:
    async def work(plane: DataPlane) -> None:
        for method, path, headers, body, _ in calls:
            status = check(plane, await knock(plane, (method, path, headers, body, query)))
            assert 400 <= status < 500 or (method == "GET" and status == 200), path

    run(work)


@pytest.mark.parametrize(
    "key", ["", "Bearer", "Bearer ", "Basic YTpi", f"Bearer {MASTER}", "Bearer sk-unknown", "\xff" * 300]
)
def test_a_bad_key_is_told_nothing(key: str) -> None:
    async def work(plane: DataPlane) -> None:
        for path in PATHS:
            answer = await knock(plane, ("POST", path, {"authorization": key}, b"{", b""))
            stored = path.endswith((b"/files", b"/batches"))  # not offered without the stores behind them
            assert check(plane, answer) in ((401, 403, 404) if stored else (401, 403)), path
        assert not plane.upstream.requests

    run(work)
