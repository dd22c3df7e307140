"""Realtime sessions: a WebSocket passed through, each answer in it a call of its own with its own hold and bill.

Money is held from the moment a session is open, since Foundry may answer whenever somebody speaks. When an answer is
done it is settled before the caller hears of it, and the next hold is taken. While nobody speaks the hold is renewed,
because no hold lasts longer than a call may. Who is revoked, out of money or over a rate limit is told so in the
session, and the session ends. This module has the handshake; `realtime_session` what passes, `realtime_turns` the
money.
"""

import asyncio
import logging
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from services.proxy.answers import Receive, Send, send_failure_http
from services.proxy.domain.admission import Caller, Refused, check_model, check_route
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.choice import Models
from services.proxy.domain.errors.failures import caller_failure, own_failure, read_failure
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.realtime import QUERY_WORDS, key_of_subprotocols, session_url
from services.proxy.domain.refused import missing_key, not_served
from services.proxy.inference import Inference
from services.proxy.realtime.session import Clockwork, Session
from services.proxy.realtime.turns import Turns
from services.proxy.till import Till
from services.proxy.upstream import UpstreamError
from services.proxy.upstream.socket import HandshakeRefused, Socket, open_socket
from shared.access import bearer

log = logging.getLogger(__name__)

SESSIONS_MAX = 1_000
SUBPROTOCOL = "realtime"
BETA_PATH = b"/openai/realtime"
BETA_HEADER = (b"openai-beta", b"realtime=v1")


class Wish(NamedTuple):
    """What a handshake asks for."""

    secret: str
    subprotocols: tuple[str, ...]
    model: str
    beta: bool
    version: str | None
    transcribes: bool


class Realtime:
    """Opens sessions."""

    def __init__(
        self, *, inference: Inference, till: Till, models: Models, book: PriceBook, clockwork: Clockwork | None = None
    ) -> None:
        self._inference = inference
        self._till = till
        self._models = models
        self._book = book
        self._clockwork = clockwork or Clockwork()
        self.open = 0
        self.draining = asyncio.Event()

    async def serve(self, route: Route, scope: Any, receive: Receive, send: Send) -> None:
        """One session from its handshake to its end. Raises Refused or BadRequest while nothing was sent."""
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        wish = wish_of(scope)
        caller = self._inference.caller_of(wish.secret)
        try:
            turns = self._turns(route, wish, caller)
            self.open += 1
            self._inference.entered()
            try:
                await turns.ready()
                await self._session(turns, wish, receive, send, route)
            finally:
                turns.close()
                self._inference.left()
                self.open -= 1
        except Refused as refused:
            refused.headers += caller.overlap
            raise

    def _turns(self, route: Route, wish: Wish, caller: Caller) -> Turns:
        """What is to be paid, and by whom. Raises Refused."""
        check_route(caller, route)
        model = caller.resolved(wish.model)
        check_model(caller, model, model in self._models)
        deployment = self._models.next(model)
        way = deployment.ways.get(Endpoint.REALTIME)
        if way is None:
            raise not_served(model, Endpoint.REALTIME, deployment)
        if self.open >= SESSIONS_MAX or self.draining.is_set():
            raise Refused(503, "overloaded", "No further realtime session can be opened here now.", kind="server_error")
        return Turns(
            inference=self._inference,
            till=self._till,
            models=self._models,
            book=self._book,
            route=route,
            secret=wish.secret,
            model=model,
            overlap=caller.overlap,
            deployment=deployment,
            way=way,
            transcribes=wish.transcribes,
        )

    async def _session(self, turns: Turns, wish: Wish, receive: Receive, send: Send, route: Route) -> None:
        socket = await self._connect(turns, wish, send, route)
        if socket is None:
            return
        try:
            # The server sends no headers with it, so that a session's call id stands in the books alone.
            chosen = SUBPROTOCOL if SUBPROTOCOL in wish.subprotocols else None
            try:
                await send({"type": "websocket.accept", "subprotocol": chosen})
            except (OSError, RuntimeError) as error:
                log.info("a caller has left before its realtime session was open: %r", error)
                return
            await Session(turns, socket, receive, send, self.draining, self._clockwork).run()
        finally:
            await socket.close()

    async def _connect(self, turns: Turns, wish: Wish, send: Send, route: Route) -> Socket | None:
        """Connect to Foundry; None when it would not, which the caller has been told then."""
        deployment = turns.deployment
        url = session_url(
            deployment.base, deployment.name, beta=wish.beta, version=wish.version, transcribes=wish.transcribes
        )
        headers = (("x-ms-client-request-id", turns.call_id), *turns.way.headers, *deployment.headers)
        try:
            return await open_socket(url, headers, (SUBPROTOCOL,) if SUBPROTOCOL in wish.subprotocols else ())
        except HandshakeRefused as refused:
            said = read_failure(refused.status, refused.body, retry_after=refused.retry_after)
            failure = caller_failure(said, hide=deployment.secrets)
            self._inference.complaints.note(deployment, said, failure)
        except UpstreamError as error:
            log.warning("deployment %s at %s: %s", deployment.name, deployment.host, error)
            failure = own_failure(502, "upstream_unreachable", "Foundry cannot be reached. Try again.")
        turns.refused_by_foundry(failure.status)
        await send_failure_http(send, route.dialect, failure, _headers(turns))
        return None


def _headers(turns: Turns) -> list[tuple[bytes, bytes]]:
    """What the handshake's answer says of the session, and of a newer secret of its key."""
    identity = turns.call_id.encode()
    return [(b"x-tundish-call-id", identity), (b"x-litellm-call-id", identity), *turns.overlap]


def wish_of(scope: Any) -> Wish:
    """What a handshake asks for, and by which key. Raises Refused, BadRequest."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    offered = [word.strip() for item in scope.get("subprotocols") or () for word in str(item).split(",")]
    in_list, others = key_of_subprotocols(offered)
    secret = bearer(headers) or in_list
    if secret is None:
        raise missing_key()
    query: dict[str, str] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name in query or name not in QUERY_WORDS:
            said = "is given twice" if name in query else "is not offered in realtime sessions"
            raise BadRequest(f"The query parameter '{name[:60]}' {said}.", param=name[:60])
        query[name] = value
    model = query.get("model") or query.get("deployment")
    if not model or ("model" in query and "deployment" in query):
        raise BadRequest("Name the model in the query, once: ?model=…", code="missing_model", param="model")
    intent = query.get("intent", "conversation")
    if intent not in ("conversation", "transcription"):
        raise BadRequest("'intent' must be 'transcription' or left out.", param="intent")
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return Wish(
        secret=secret,
        subprotocols=tuple(others),
        model=model,
        beta=path == BETA_PATH or headers.get(BETA_HEADER[0]) == BETA_HEADER[1],
        version=query.get("api-version"),
        transcribes=intent == "transcription",
    )
