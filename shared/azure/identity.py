"""Tokens by `DefaultAzureCredential`: workload identity, managed identity, or what a developer is signed in with.

The library's credentials wait for the network, so they run in a thread of their own, one question after another; it
keeps tokens and renews them ahead of their end.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from shared.errors import TundishError

TOKEN_TIMEOUT_S = 30
"""How long a token may take: on a machine without any identity the library asks around for a while."""
REASON_CHARS_MAX = 600


class IdentityError(TundishError):
    """There is no token to be had; the text says what to do."""


class _Token(Protocol):
    """What the library answers with."""

    @property
    def token(self) -> str:
        """The token itself."""
        ...


class _Credential(Protocol):
    """What is used of the library's credentials."""

    def get_token(self, *scopes: str) -> _Token:
        """A token, from memory while it lasts."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class AzureIdentity:
    """The identity of this process. Nothing is asked of Azure before the first token is."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="azure-identity")
        self._credential: _Credential | None = None

    async def token(self, scope: str) -> str:
        """A token for a scope such as `https://vault.azure.net/.default`. Raises IdentityError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_S):
                return await loop.run_in_executor(self._thread, self._ask, scope)
        except TimeoutError as error:
            raise IdentityError(f"no token for {scope} within {TOKEN_TIMEOUT_S} s") from error

    async def close(self) -> None:
        """Let go of connections; a question under way is not waited for."""
        credential, self._credential = self._credential, None
        if credential is not None:
            self._thread.submit(credential.close)
        self._thread.shutdown(wait=False)

    def _ask(self, scope: str) -> str:
        """Runs in the thread: loading the library takes a while, and only those who need it should wait."""
        from azure.core.exceptions import AzureError
        from azure.identity import DefaultAzureCredential

        try:
            if self._credential is None:
                self._credential = DefaultAzureCredential(exclude_interactive_browser_credential=True)
            return self._credential.get_token(scope).token
        except (AzureError, ValueError, OSError) as error:
            raise IdentityError(
                f"the identity of this process gets no token for {scope}: {_reason(error)}. Give it a managed identity"
                " or a workload identity (AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE), or sign in"
                " with `az login`."
            ) from error


def _reason(error: Exception) -> str:
    """The library's words, without its advice: of a chain that is one line for each kind of identity."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and "https://aka.ms/" not in line and not line.startswith("Content:")]
    text = " ".join(lines) or type(error).__name__
    return text if len(text) <= REASON_CHARS_MAX else text[:REASON_CHARS_MAX] + "…"
