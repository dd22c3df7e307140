"""One HTTP request or websocket under way, and what handlers of such requests are."""

import re
from collections.abc import Awaitable, Callable

import msgspec

from deploy.simulator.answers import Answer
from deploy.simulator.site import Line, LineResult, Runner, Site
from deploy.simulator.wire import Caller, Headers, HttpScope, Receive, Send

__all__ = ["Ask", "Handler", "Line", "LineResult", "Runner", "Site", "SocketHandler"]


class Ask(msgspec.Struct, kw_only=True, gc=False):
    """One HTTP request under way. `request_id` is a GUID, `serial` the unique part of ids in answers."""

    site: Site
    scope: HttpScope
    receive: Receive
    send: Send
    caller: Caller
    request_id: str
    serial: str
    body: bytes = b""

    def id_headers(self) -> Headers:
        """The headers by which a call is found again."""
        request_id = self.request_id.encode()
        return [
            (b"apim-request-id", request_id),
            (b"x-request-id", request_id),
            (b"x-ms-client-request-id", self.caller.client_request_id or b"Not-Set"),
        ]


Handler = Callable[[Ask, re.Match[str]], Awaitable[Answer]]
"""Answers a request that names no deployment; gets the match of its path. Raises FoundryError to refuse."""

SocketHandler = Callable[[Ask, re.Match[str]], Awaitable[None]]
"""Serves a websocket from its `websocket.connect` on, through `ask.receive` and `ask.send`; checks the
caller itself (auth.check) and bills itself (site.bill)."""
