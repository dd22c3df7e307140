"""The front door: one raw ASGI handler with a table of its own, and the mapping of refusals to answers."""

import logging
from typing import Any

import msgspec

from services.proxy.body import read_body
from services.proxy.domain.admission import Refused
from services.proxy.domain.dialect import BadRequest, error_body
from services.proxy.domain.paths import BadPath, Endpoint, Route, route_of
from services.proxy.forwarder import ADMIN_BODY_BYTES_MAX, Forwarder
from services.proxy.inference import Inference
from services.proxy.relay import JSON_TYPE, Receive, Send, head
from shared.http import Health
from shared.telemetry import Counter

log = logging.getLogger(__name__)

ADMIN_WORDS = (
    "key", "team", "organization", "user", "customer", "budget", "model", "model_group", "spend", "global", "audit",
    "credentials", "config", "project", "tag", "invitation", "sso", "ledger", "scheduler",
)  # fmt: skip
"""First words of the admin paths that people know from LiteLLM, and of our own."""


class FrontDoor:
    """Every request of the public port, from its path to its answer."""

    def __init__(
        self, *, inference: Inference, forwarder: Forwarder | None, health: Health, calls: Counter, refused: Counter
    ) -> None:
        self._inference = inference
        self._forwarder = forwarder
        self._health = health
        self._calls = calls
        self._refused = refused
        self.draining = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request; whatever happens, exactly one answer begins."""
        started = _Started(send)
        try:
            await self._serve(scope, receive, started)
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
            log.exception("a request failed")
            if not started.begun:
                text = "The gateway failed on this request; its log says why."
                await _refuse(started, Refused(500, "internal_error", text, kind="server_error"))

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        route = route_of(raw_path_of(scope))
        if route is None:
            raise _nothing_here(raw_path_of(scope).decode("latin-1"))
        if scope["method"] not in route.methods:
            raise Refused(
                405,
                "method_not_allowed",
                f"{scope['method']} is not served here; use {' or '.join(route.methods)}.",
                headers=((b"allow", ", ".join(route.methods).encode()),),
            )
        endpoint = route.endpoint
        if endpoint is Endpoint.CHAT or endpoint is Endpoint.EMBEDDINGS:
            if self.draining:
                raise Refused(503, "draining", "This instance is stopping; try again.", kind="server_error")
            self._calls.add(1, str(endpoint))
            await self._inference.serve(route, scope, receive, send)
        elif endpoint is Endpoint.ADMIN:
            await self._admin(route, scope, receive, send)
        else:
            await self._small(route, scope, send)

    async def _admin(self, route: Route, scope: Any, receive: Receive, send: Send) -> None:
        if self._forwarder is None:
            raise Refused(404, "not_found", "Administration is switched off on this port.")
        body = await read_body(dict(scope["headers"]), receive, ADMIN_BODY_BYTES_MAX, self._inference.patience)
        await self._forwarder.forward(route, scope, body, send)

    async def _small(self, route: Route, scope: Any, send: Send) -> None:
        """Models and health: answered from memory."""
        if route.endpoint is Endpoint.ALIVE:
            await _json(send, 200, {"status": "alive"})
        elif route.endpoint is Endpoint.READY:
            ready, _ = self._health.report()
            ready = ready and not self.draining
            await _json(send, 200 if ready else 503, {"status": "ready" if ready else "not ready"})
        else:
            caller = self._inference.caller(dict(scope["headers"]))
            if route.model is not None:
                await _json(send, 200, self._inference.model(caller, route.model))
            else:
                await _json(send, 200, {"object": "list", "data": self._inference.model_list(caller)})


class _Started:
    """Passes messages on and remembers whether an answer has begun."""

    __slots__ = ("_send", "begun")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: dict[str, Any]) -> None:
        self.begun = True
        await self._send(message)


def raw_path_of(scope: Any) -> bytes:
    """The path as it came over the wire, without the query."""
    raw: bytes | None = scope.get("raw_path")
    return raw if raw is not None else scope["path"].encode()


def _nothing_here(path: str) -> Refused:
    """Why a path is not served, and where to look instead."""
    if path.split("/")[1] in ADMIN_WORDS:
        text = f"{path} is not served by this version; docs/api.md lists the administrative calls that are."
        return Refused(404, "not_supported", text)
    if path in ("/health", "/metrics"):
        text = f"{path} is not served here: GET /health/readiness is, and metrics are on the internal ports."
        return Refused(404, "not_found", text)
    text = f"Nothing is served at {path}. Models are called at /v1/chat/completions and /v1/embeddings."
    return Refused(404, "not_found", text)


async def _refuse(send: _Started, refused: Refused) -> None:
    if send.begun:
        return
    body = error_body(refused.message, kind=refused.kind, code=refused.code, param=refused.param, extra=refused.extra)
    headers = [*refused.headers, (b"content-length", str(len(body)).encode())]
    await send(head(refused.status, JSON_TYPE, headers))
    await send({"type": "http.response.body", "body": body})


async def _json(send: Send, status: int, content: object) -> None:
    body = msgspec.json.encode(content)
    await send(head(status, JSON_TYPE, [(b"content-length", str(len(body)).encode())]))
    await send({"type": "http.response.body", "body": body})
