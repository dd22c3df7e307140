"""Rows of the API to routes: let in, read, counted, done (once), answered."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.types import ControllerRouterHandler

from services.auth.api.operations import JSON, Ask, Operation
from services.auth.api.pace import Pace
from services.auth.api.reading import body_of, query_of
from services.auth.draws import Draws
from services.auth.once import HEADER, REPLAYED, Claim, Once, claim_of
from shared.access import Gatekeeper, Principal, bearer
from shared.http import HttpRequest, headers_of

NOBODY = Principal(role=None, actor="anonymous")
"""Who calls where nobody has to say who they are."""


def routes(gate: Gatekeeper, once: Once, pace: Pace, operations: Sequence[Operation]) -> list[ControllerRouterHandler]:
    """A route for each row."""
    return [_route(gate, once, pace, operation) for operation in operations]


def _route(gate: Gatekeeper, once: Once, pace: Pace, operation: Operation) -> HTTPRouteHandler:
    async def handle(request: HttpRequest) -> Response[bytes]:
        headers = headers_of(request)
        ask = await _ask(operation, request, headers, _caller(gate, operation, headers))
        pace.take(operation, ask)

        async def work(draws: Draws) -> bytes:
            return _encoded(await operation.run(replace(ask, draws=draws)))

        claim = await _claim(operation, request, headers, ask) if operation.once else None
        if claim is None:
            return Response(await work(Draws()), status_code=200, media_type=operation.media)
        done = await once.use(claim, work)
        replayed = {REPLAYED: "true"} if done.replayed else {}
        return Response(done.body, status_code=200, media_type=operation.media, headers=replayed)

    name = f"{operation.method} {operation.path}"
    return HTTPRouteHandler(
        operation.path, http_method=[operation.method], status_code=200, name=name, media_type=JSON
    )(handle)


async def _ask(operation: Operation, request: HttpRequest, headers: dict[bytes, bytes], caller: Principal) -> Ask:
    return Ask(
        caller=caller,
        draws=Draws(),
        body=None if operation.body is None else await body_of(request, operation.body),
        query=query_of(request, operation.query),
        path={name: str(value) for name, value in request.path_params.items()},
        secret=bearer(headers),
    )


def _caller(gate: Gatekeeper, operation: Operation, headers: dict[bytes, bytes]) -> Principal:
    """Who calls. Raises ApiError 401, 403, 503."""
    if operation.who == "anybody":
        return NOBODY
    if operation.who == "keys" or operation.right is None:
        return gate.authenticate(headers)
    return gate.admit(headers, operation.right, everywhere=operation.everywhere)


async def _claim(operation: Operation, request: HttpRequest, headers: dict[bytes, bytes], ask: Ask) -> Claim | None:
    """What the request's `Idempotency-Key` stands for; None without one. Raises ApiError 400.

    Who has a role repeats what they asked for, with whatever credential. All others are told apart by the very secret
    that they sent, or where none was sent by the body: nobody collects another one's answer.
    """
    raw = headers.get(HEADER)
    if raw is None:
        return None
    body, anonymous = await request.body(), operation.who == "anybody"
    path, query = str(request.scope["path"]).encode(), bytes(request.scope["query_string"])
    return claim_of(
        raw,
        scope=ask.caller.actor,
        apart=b"" if ask.caller.role is not None else (ask.secret or "").encode() or body,
        request=(operation.method.encode(), path, query, body),
        insist=not (operation.without_store or anonymous),
    )


def _encoded(answer: object) -> bytes:
    return answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
