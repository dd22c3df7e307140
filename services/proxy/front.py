"""The front door: one raw ASGI handler with a table of its own, and the mapping of refusals to answers."""

import logging
from collections.abc import Awaitable
from time import perf_counter_ns
from typing import Any, Protocol

from services.proxy.answers import Receive, Send, send_failure, send_failure_http, send_json
from services.proxy.body import read_body
from services.proxy.domain.admin_paths import ADMIN_WORDS, OF_OWNERS
from services.proxy.domain.admission import ROLE_KEY, Caller, Refused, check_route
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.errors.failures import failure_of_refusal
from services.proxy.domain.paths import (
    METERED,
    STORED,
    BadPath,
    Dialect,
    Endpoint,
    Route,
    not_offered,
    route_of,
)
from services.proxy.forwarder import ADMIN_BODY_BYTES_MAX, Forwarder
from services.proxy.inference import Inference, Visitor
from services.proxy.models import ModelPages
from shared.http import Health
from shared.ids import uuid7
from shared.telemetry import Counter

log = logging.getLogger(__name__)

ANTHROPIC_PATHS = (b"/anthropic", b"/v1/messages")
"""Beginnings of paths below which errors are told in Anthropic's words, whatever the rest is."""
CALL_ID = b"x-tundish-call-id"
POLICY_VIOLATION = 1008
"""How a WebSocket is closed whose handshake cannot be answered in words."""


class Stored(Protocol):
    """Serves the objects that Foundry keeps."""

    def serve(self, route: Route, scope: Any, receive: Receive, send: Send, caller: Caller) -> Awaitable[None]:
        """One call about a stored object. Raises Refused or BadRequest while nothing was sent."""
        ...


class Sockets(Protocol):
    """Serves realtime sessions."""

    def serve(self, route: Route, scope: Any, receive: Receive, send: Send) -> Awaitable[None]:
        """One session from its handshake to its end. Raises Refused or BadRequest while nothing was sent."""
        ...


class FrontDoor:
    """Every request of the public port, from its path to its answer.

    `stored` and `realtime` are None where stored objects or realtime sessions are not offered. `admin` False closes
    administration, but for what belongs to whoever holds a key.
    """

    def __init__(
        self,
        *,
        inference: Inference,
        forwarder: Forwarder | None,
        health: Health,
        pages: ModelPages,
        calls: Counter,
        refused: Counter,
        admin: bool = True,
    ) -> None:
        self._inference = inference
        self._forwarder = forwarder
        self._open = admin
        self._health = health
        self._pages = pages
        self._calls = calls
        self._refused = refused
        self.stored: Stored | None = None
        self.realtime: Sockets | None = None
        self.draining = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request; whatever happens, exactly one answer begins."""
        started = _Started(scope, send)
        try:
            route = self._route(scope, started)
            if started.socket:
                await self._session(route, scope, receive, started)
            else:
                await self._serve(route, scope, receive, started)
        except Refused as refused:
            self._refused.add(1, refused.code)
            await _refuse(started, refused)
        except BadRequest as error:
            self._refused.add(1, error.code)
            await _refuse(started, Refused(400, error.code, str(error), param=error.param))
        except BadPath as error:
            self._refused.add(1, "bad_path")
            await _refuse(started, Refused(400, "bad_path", f"The request path is not accepted: {error}."))
        except Exception:
            log.exception("the request %s failed", started.call_id)
            if not started.begun:
                text = "The gateway failed on this request; its log says why."
                await _refuse(started, Refused(500, "internal_error", text, kind="server_error"))

    def _route(self, scope: Any, started: "_Started") -> Route:
        """The row of the table. Raises BadPath, and Refused where there is none."""
        raw_path = raw_path_of(scope)
        if raw_path.startswith(ANTHROPIC_PATHS):
            started.dialect = "anthropic"
        route = route_of(raw_path)
        if route is None:
            raise _nothing_here(raw_path)
        started.dialect = route.dialect
        return route

    async def _serve(self, route: Route, scope: Any, receive: Receive, send: "_Started") -> None:
        if scope["method"] not in route.methods:
            if any(name == b"anthropic-version" for name, _ in scope["headers"]):
                send.dialect = "anthropic"
            raise Refused(
                405,
                "method_not_allowed",
                f"{scope['method']} is not served here; use {' or '.join(route.methods)}.",
                headers=((b"allow", ", ".join(route.methods).encode()),),
            )
        endpoint = route.endpoint
        if endpoint in METERED:
            if endpoint is Endpoint.RAW and scope["method"] != "POST":
                raise Refused(404, "not_supported", "Raw paths are called with POST: docs/api.md lists them.")
            self._begin(endpoint)
            started_ns = perf_counter_ns()
            headers: dict[bytes, bytes] = dict(scope["headers"])
            caller = self._let_in(route, headers, send)
            await self._inference.serve(Visitor(route, headers, caller, started_ns), scope, receive, send)
        elif endpoint in STORED:
            if self.stored is None:
                raise Refused(404, "not_supported", "Stored objects are not offered by this gateway.")
            caller = self._let_in(route, dict(scope["headers"]), send)
            self._begin(endpoint)
            await self.stored.serve(route, scope, receive, send, caller)
        elif endpoint is Endpoint.ADMIN:
            await self._admin(route, scope, receive, send)
        elif endpoint is Endpoint.REALTIME:
            text = "Realtime sessions are WebSockets: open one at this path (wss://…)."
            raise Refused(426, "upgrade_required", text, headers=((b"upgrade", b"websocket"),))
        else:
            await self._small(route, scope, send)

    def _let_in(self, route: Route, headers: dict[bytes, bytes], send: "_Started") -> Caller:
        """The caller of a route of the data plane. Raises Refused. Who sent an older secret is told so by the answer,
        whatever it is."""
        caller = self._inference.caller(headers)
        send.overlap = caller.overlap
        if caller.routes is not None:
            check_route(caller, route)
        return caller

    async def _session(self, route: Route, scope: Any, receive: Receive, send: Send) -> None:
        """A WebSocket: only realtime sessions are."""
        if route.endpoint is not Endpoint.REALTIME:
            raise Refused(404, "not_supported", "No WebSocket is served here; realtime sessions are at /v1/realtime.")
        if self.realtime is None:
            raise Refused(404, "not_supported", "Realtime sessions are not offered by this gateway.")
        self._begin(route.endpoint)
        await self.realtime.serve(route, scope, receive, send)

    def _begin(self, endpoint: Endpoint) -> None:
        """Count a call in. Raises Refused while this instance is stopping."""
        if self.draining:
            raise Refused(503, "draining", "This instance is stopping; try again.", kind="server_error")
        self._calls.add(1, str(endpoint))

    async def _admin(self, route: Route, scope: Any, receive: Receive, send: Send) -> None:
        if self._forwarder is None or not (self._open or route.path in OF_OWNERS):
            raise Refused(404, "not_found", "Administration is switched off on this port.")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if route.service != "auth":  # which tells keys itself what they may ask; the others know no keys
            self._refuse_key(headers)
        body = await read_body(headers, receive, ADMIN_BODY_BYTES_MAX, self._inference.patience)
        await self._forwarder.forward(route, scope, body, send)

    def _refuse_key(self, headers: dict[bytes, bytes]) -> None:
        """Raises Refused for a good virtual key without a role, which administers nothing. All others the service
        judges."""
        try:
            self._inference.caller(headers)
        except Refused:
            return
        text = "A virtual key may ask GET /key/info about itself; all else takes the master key, or a key with a role."
        raise Refused(403, "not_allowed", text, kind="permission_error")

    async def _small(self, route: Route, scope: Any, send: "_Started") -> None:
        """Models and health: answered from memory."""
        if route.endpoint is Endpoint.ALIVE:
            await send_json(send, 200, {"status": "alive"})
        elif route.endpoint is Endpoint.READY:
            ready, _ = self._health.report()
            ready = ready and not self.draining
            await send_json(send, 200 if ready else 503, {"status": "ready" if ready else "not ready"})
        else:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            anthropic = b"anthropic-version" in headers and route.endpoint is not Endpoint.MODEL_INFO
            if anthropic:
                send.dialect = "anthropic"
            caller = self._reader(route, headers, send)
            await send_json(send, 200, self._pages.page(route, caller, anthropic=anthropic))

    def _reader(self, route: Route, headers: dict[bytes, bytes], send: "_Started") -> Caller | None:
        """Who reads about models. Administrators call none but may see what there is: None is one who sees all, and
        where; a key with another role sees what its team and organization may use."""
        try:
            return self._let_in(route, headers, send)
        except Refused as refused:
            if route.endpoint is not Endpoint.MODEL_INFO or refused.code not in ("master_key_on_data_plane", ROLE_KEY):
                raise
            if refused.code != ROLE_KEY:
                return None
            known = self._inference.administrator(headers)
            return None if known.role == "admin" else known


class _Started:
    """Passes messages on and remembers whether an answer has begun, and in whose words it is given.

    `overlap` are headers for callers who sent an older secret than they could.
    """

    __slots__ = ("_call_id", "_send", "begun", "dialect", "overlap", "refusable", "socket")

    def __init__(self, scope: Any, send: Send) -> None:
        self._send = send
        self._call_id = ""
        self.begun = False
        self.dialect: Dialect = "openai"
        self.overlap: tuple[tuple[bytes, bytes], ...] = ()
        self.socket: bool = scope["type"] == "websocket"
        self.refusable = self.socket and "websocket.http.response" in (scope.get("extensions") or {})

    @property
    def call_id(self) -> str:
        """The id of a request that became no call, made when it is asked for: what its caller can quote."""
        self._call_id = self._call_id or uuid7()
        return self._call_id

    async def __call__(self, message: dict[str, Any]) -> None:
        self.begun = True
        if self.overlap and message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *self.overlap]
        await self._send(message)


def raw_path_of(scope: Any) -> bytes:
    """The path as it came over the wire, without the query."""
    raw: bytes | None = scope.get("raw_path")
    return raw if raw is not None else scope["path"].encode()


def _nothing_here(raw_path: bytes) -> Refused:
    """Why a path is not served, and where to look instead."""
    path = raw_path.decode("latin-1")
    why = not_offered(raw_path)
    if why is not None:
        return Refused(404, "not_supported", f"{path} is not served. {why}")
    if path.split("/")[1] in ADMIN_WORDS:
        text = (
            f"{path} is not served by this version. docs/api.md lists the administrative calls that are, and"
            " docs/migration.md what stands in the place of the others."
        )
        return Refused(404, "not_supported", text)
    if path in ("/health", "/metrics"):
        text = f"{path} is not served here: GET /health/readiness is, and metrics are on the internal ports."
        return Refused(404, "not_found", text)
    text = (
        f"Nothing is served at {path}. Models are called at /v1/chat/completions, /v1/responses, /v1/messages and"
        " /v1/embeddings; docs/api.md lists all paths."
    )
    return Refused(404, "not_found", text)


async def _refuse(send: _Started, refused: Refused) -> None:
    if send.begun:
        return
    failure, headers = failure_of_refusal(refused), [*refused.headers, (CALL_ID, send.call_id.encode())]
    log.debug("the request %s is refused: %d %s", send.call_id, refused.status, refused.code)
    if not send.socket:
        await send_failure(send, send.dialect, failure, headers, send.call_id)
    elif send.refusable:
        await send_failure_http(send, send.dialect, failure, headers)
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refused.code})
