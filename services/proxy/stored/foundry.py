"""Small calls to Foundry about stored objects: a request, its whole reply, or its lines as they come."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import msgspec

from services.proxy.answers import Headers, passed_on
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.errors.failures import Failure, caller_failure, read_failure
from services.proxy.domain.objects.seal import Seal, not_found
from services.proxy.domain.objects.sealing import seal_text
from services.proxy.domain.paths import Endpoint
from services.proxy.upstream import Reply, Upstream, UpstreamError, UpstreamRequest
from services.proxy.upstream.port import FailureKind

REPLY_BYTES_MAX = 64 * 1024 * 1024
FILE_BYTES_MAX = 1024 * 1024 * 1024
"""A file larger than this is not passed on."""
LINE_BYTES_MAX = 32 * 1024 * 1024
UPSTREAM_CODES: dict[FailureKind, tuple[int, str, str]] = {
    "connect": (502, "upstream_unreachable", "Foundry cannot be reached. Try again."),
    "timeout": (504, "upstream_timeout", "Foundry did not answer in time."),
    "reset": (502, "upstream_reset", "The connection to Foundry broke before its reply was whole."),
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply; `headers` are those that callers may see."""

    status: int
    body: bytes
    headers: Headers
    retry_after: str | None = None
    retry_after_ms: str | None = None

    @property
    def good(self) -> bool:
        """Whether Foundry did what was asked."""
        return 200 <= self.status < 300


class Foundry:
    """Foundry as stored objects need it. All raise UpstreamError when no whole reply came."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def fetch(
        self,
        deployment: Deployment,
        endpoint: Endpoint,
        *segments: str,
        method: str = "GET",
        body: bytes = b"",
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        call_id: str = "",
    ) -> Answer:
        """One request below the URL of an operation of a deployment, and its whole reply."""
        async with self.open(
            deployment,
            endpoint,
            *segments,
            method=method,
            body=body,
            content_type=content_type,
            query=query,
            call_id=call_id,
        ) as reply:
            parts: list[bytes] = []
            size = 0
            while (part := await reply.chunk()) is not None:
                size += len(part)
                if size > REPLY_BYTES_MAX:
                    raise UpstreamError("reset", f"the reply is larger than {REPLY_BYTES_MAX} bytes")
                parts.append(part)
            return Answer(
                status=reply.status,
                body=b"".join(parts),
                headers=passed_on(reply),
                retry_after=reply.header("retry-after"),
                retry_after_ms=reply.header("retry-after-ms"),
            )

    @asynccontextmanager
    async def open(
        self,
        deployment: Deployment,
        endpoint: Endpoint,
        *segments: str,
        method: str = "GET",
        body: bytes = b"",
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        call_id: str = "",
    ) -> AsyncGenerator[Reply]:
        """The same with the reply as it comes. Raises Refused when the deployment does not offer the operation."""
        way = deployment.ways.get(endpoint)
        if way is None:
            raise not_found()
        assert method in ("GET", "POST", "DELETE")
        headers = [*deployment.headers, *way.headers]
        if call_id:
            headers.append(("x-ms-client-request-id", call_id))
        if method == "POST":
            headers.append(("content-type", content_type))
        url = object_url(way.url, *segments, query=query or {})
        request = UpstreamRequest(url, tuple(headers), body, whole=False, method=method)
        async with self._upstream.open(request) as reply:
            yield reply


def object_url(url: str, *segments: str, query: Mapping[str, str]) -> str:
    """The URL of something below an operation: segments behind its path, `query` behind its own query."""
    path, mark, own = url.partition("?")
    path = "/".join((path, *(quote(segment, safe="") for segment in segments)))
    more = urlencode(query)
    if more:
        own = f"{own}&{more}" if own else more
    return f"{path}?{own}" if mark or own else path


async def lines_of(reply: Reply) -> AsyncGenerator[bytes]:
    """The lines of a reply, without their ends. Raises UpstreamError for more or longer ones than anybody writes."""
    rest, size = b"", 0
    while (chunk := await reply.chunk()) is not None:
        size += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        if size > FILE_BYTES_MAX or len(rest) > LINE_BYTES_MAX:
            raise UpstreamError("reset", "the file is larger than any that is read")
        for line in lines:
            yield line
    if rest:
        yield rest


def said_in(answer: Answer) -> Failure:
    """What Foundry says in a reply that is no good."""
    return read_failure(
        answer.status, answer.body, retry_after=answer.retry_after, retry_after_ms=answer.retry_after_ms
    )


def failure_of(said: Failure, deployment: Deployment, seal: Seal, owner: str, *, stored: bool) -> Failure:
    """What a caller is told of what Foundry `said`. Raises Refused (404) when Foundry knows no such object, if the
    request was for a `stored` one."""
    if stored and said.status == 404:
        raise not_found()
    failure = msgspec.structs.replace(said, message=seal_text(said.message, seal, owner, deployment.id))
    return caller_failure(failure, hide=deployment.secrets, stored=stored)


def failure_of_error(error: UpstreamError) -> Failure:
    """What a caller is told when no reply came."""
    status, code, text = UPSTREAM_CODES[error.kind]
    return Failure(status=status, kind="server_error", code=code, message=text)
