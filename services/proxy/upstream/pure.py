"""The fallback adapter: httpx, pure Python, for platforms without a pyreqwest wheel."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from services.proxy.upstream.port import (
    CONNECT_TIMEOUT_S,
    IDLE_CONNECTIONS_MAX,
    KEEP_ALIVE_S,
    Reply,
    UpstreamError,
    UpstreamRequest,
)
from shared.clock import Clock, SystemClock

CONNECTIONS_MAX = 4_096
"""Above any number of calls in flight, so that no call waits for a connection."""


class _Reply:
    __slots__ = ("_clock", "_deadline_ms", "_parts", "_response", "status")

    def __init__(self, response: httpx.Response, clock: Clock, deadline_ms: int) -> None:
        self._response = response
        self._parts = response.aiter_raw()
        self._clock = clock
        self._deadline_ms = deadline_ms
        self.status = response.status_code

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    async def chunk(self) -> bytes | None:
        try:
            async with asyncio.timeout((self._deadline_ms - self._clock.monotonic_ms()) / 1000):
                return await anext(self._parts, None)
        except httpx.HTTPError as error:
            raise _mapped(error) from error
        except TimeoutError as error:
            raise UpstreamError("timeout", "the call took too long") from error


class HttpxUpstream:
    """See the port. `total_s` bounds a whole call, `idle_s` the time between two reads."""

    def __init__(self, *, total_s: float, idle_s: float) -> None:
        self._total_ms = int(total_s * 1000)
        self._clock = SystemClock()
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            http1=True,
            http2=False,
            timeout=httpx.Timeout(connect=CONNECT_TIMEOUT_S, read=idle_s, write=idle_s, pool=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=IDLE_CONNECTIONS_MAX,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
            headers={"user-agent": "tundish", "accept-encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    @asynccontextmanager
    async def open(self, request: UpstreamRequest) -> AsyncGenerator[Reply]:
        """Send a request; see the port."""
        deadline = self._clock.monotonic_ms() + self._total_ms
        built = self._client.build_request(
            request.method, request.url, headers=request.headers, content=request.body or None
        )
        try:
            async with asyncio.timeout(self._total_ms / 1000):
                response = await self._client.send(built, stream=True)
        except httpx.HTTPError as error:
            raise _mapped(error) from error
        except TimeoutError as error:
            raise UpstreamError("timeout", "the call took too long") from error
        try:
            yield _Reply(response, self._clock, deadline)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Give up all connections."""
        await self._client.aclose()


def _mapped(error: httpx.HTTPError) -> UpstreamError:
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return UpstreamError("connect", f"the connection could not be made: {error!r}")
    if isinstance(error, httpx.TimeoutException):
        return UpstreamError("timeout", f"no answer in time: {error!r}")
    return UpstreamError("reset", f"the connection broke: {error!r}")
