"""One test for a client and its async twin: values and streams that may have to be awaited."""

import contextlib
import inspect
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Of connections that are never encrypted: to load the machine's certificates takes longer than most tests."""


async def settle(value: Any) -> Any:
    """The value, awaited where it must be."""
    return await value if inspect.isawaitable(value) else value


async def each(stream: Any) -> AsyncIterator[Any]:
    """The items of a stream of either kind."""
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


@contextlib.asynccontextmanager
async def entered(context: Any) -> AsyncGenerator[Any]:
    """Either kind of context manager."""
    if hasattr(context, "__aenter__"):
        async with context as inside:
            yield inside
    else:
        with context as inside:
            yield inside
