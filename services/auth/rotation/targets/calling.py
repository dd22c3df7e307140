"""One exchange with a target over HTTP: no redirects, no proxies, a bound on time and on what is read."""

import asyncio
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from services.auth.rotation.targets.courier import REPLY_BYTES_MAX, TIMEOUT_S, DeliveryError

CONNECT_TIMEOUT_S = 5
CONNECTIONS_MAX = 20


def client(trust: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """A client that keeps nothing: no connections, and no cookies, which others behind the same address would get.

    `trust` None: the system's authorities (or those of SSL_CERT_FILE)."""
    return httpx.AsyncClient(
        verify=trust or httpx.create_ssl_context(),
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=0),
    )


async def exchange(
    calls: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    content: bytes | None = None,
    extensions: dict[str, Any] | None = None,
    whole: bool = True,
) -> tuple[int, bytes]:
    """(status, body up to its bound); `whole` False takes a body beyond it as well, and cuts it.

    Raises DeliveryError.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            request = calls.build_request(method, url, headers=headers, content=content, extensions=extensions)
            answer = await calls.send(request, stream=True)
            try:
                return answer.status_code, await _body(answer, whole)
            finally:
                await answer.aclose()
    except TimeoutError as error:
        raise DeliveryError(f"no answer within {TIMEOUT_S} s") from error
    except httpx.HTTPError as error:
        raise DeliveryError(f"the connection failed: {_words(error)}") from error


async def _body(answer: httpx.Response, whole: bool) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > REPLY_BYTES_MAX:
            if whole:
                raise DeliveryError(f"the answer is larger than {REPLY_BYTES_MAX} bytes")
            break
    return bytes(body[:REPLY_BYTES_MAX])


def _words(error: httpx.HTTPError) -> str:
    """What went wrong, without the URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted ({cause.verify_message})"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
