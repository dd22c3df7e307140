"""OpenAI's clients, both flavours, sync and async, pointed at the gateway."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import openai

from tests.clients.either import PLAIN, settle
from tests.clients.tape import Tape

FOUR = ["OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI"]
API_VERSION = "2025-04-01-preview"


@contextlib.asynccontextmanager
async def openai_client(name: str, tape: Tape) -> AsyncGenerator[Any]:
    """The client of a name; it never repeats a call by itself."""
    kind = getattr(openai, name)
    http = openai.DefaultAsyncHttpxClient if name.startswith("Async") else openai.DefaultHttpxClient
    where: dict[str, Any] = {"base_url": f"{tape.url}/v1"}
    if "Azure" in name:  # which takes all sockets for encrypted ones unless it is told
        socket = tape.url.replace("http", "ws", 1) + "/openai"
        where = {"azure_endpoint": tape.url, "api_version": API_VERSION, "websocket_base_url": socket}
    connections = http(verify=PLAIN, trust_env=False, timeout=30)
    made = kind(api_key=tape.key, max_retries=0, http_client=connections, **where)
    try:
        yield made
    finally:
        await settle(made.close())
