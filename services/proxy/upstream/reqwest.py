"""The default adapter: pyreqwest (Rust's reqwest), an order of magnitude faster than clients in pure Python."""

from datetime import timedelta
from types import TracebackType

from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import RequestError, RequestTimeoutError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response, ResponseBodyReader

from services.proxy.upstream.port import (
    CONNECT_TIMEOUT_S,
    IDLE_CONNECTIONS_MAX,
    KEEP_ALIVE_S,
    Reply,
    UpstreamError,
    UpstreamRequest,
)

NEVER_CONNECTED = "client error (Connect)"
"""How reqwest names a failure before the request was sent, among an error's causes."""
NO_READ_AHEAD = 0
"""pyreqwest holds head and body back until its read-ahead buffer is full; zero passes them on at once."""
READ_AHEAD = 256 * 1024
"""For replies that are read whole anyway: most come in one piece then, without a hop between threads for each."""


class _Reply:
    __slots__ = ("_reader", "_response", "status")

    def __init__(self, response: Response) -> None:
        self._response = response
        self._reader: ResponseBodyReader = response.body_reader
        self.status = response.status

    def header(self, name: str) -> str | None:
        try:
            return self._response.get_header(name)
        except ValueError:  # bytes that are no ASCII
            return None

    async def chunk(self) -> bytes | None:
        try:
            part = await self._reader.read_chunk()
        except RequestError as error:
            raise _mapped(error) from error
        return None if part is None else bytes(part)


class _Exchange:
    """One request and its reply; a plain class, since it is made for every call."""

    __slots__ = ("_request",)

    def __init__(self, request: StreamRequest) -> None:
        self._request = request

    async def __aenter__(self) -> Reply:
        try:
            return _Reply(await self._request.__aenter__())
        except RequestError as error:
            raise _mapped(error) from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._request.__aexit__(kind, error, trace)


class ReqwestUpstream:
    """See the port. `total_s` bounds a whole call, `idle_s` the time between two reads."""

    def __init__(self, *, total_s: float, idle_s: float) -> None:
        self._client = (
            ClientBuilder()
            .http1_only()
            .follow_redirects(False)
            .referer(False)
            .no_proxy()
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .default_cookie_store(False)
            .error_for_status(False)
            .max_connections(None)
            .connect_timeout(timedelta(seconds=CONNECT_TIMEOUT_S))
            .read_timeout(timedelta(seconds=idle_s))
            .timeout(timedelta(seconds=total_s))
            .pool_idle_timeout(timedelta(seconds=KEEP_ALIVE_S))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_nodelay(True)
            .tcp_keepalive(timedelta(seconds=KEEP_ALIVE_S))
            .user_agent("tundish")
            .build()
        )

    def open(self, request: UpstreamRequest) -> "_Exchange":
        """Send a request; see the port."""
        if request.method == "POST":
            building = self._client.post(request.url).headers(request.headers).body_bytes(request.body)
        else:
            building = self._client.request(request.method, request.url).headers(request.headers)
        return _Exchange(
            building.streamed_read_buffer_limit(READ_AHEAD if request.whole else NO_READ_AHEAD).build_streamed()
        )

    async def close(self) -> None:
        """Give up all connections."""
        await self._client.close()


def _mapped(error: RequestError) -> UpstreamError:
    """The kind of a failure. pyreqwest calls everything before the reply's head a connect error, also when the
    request was sent and may have been served; only the causes tell whether a connection was ever made."""
    causes = error.details.get("causes") or ()
    if any(cause["message"] == NEVER_CONNECTED for cause in causes):
        return UpstreamError("connect", f"the connection could not be made: {error}")
    if isinstance(error, RequestTimeoutError):
        return UpstreamError("timeout", f"no answer in time: {error}")
    return UpstreamError("reset", f"the connection broke: {error}")
