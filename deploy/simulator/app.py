"""The ASGI application: finds the surface of a request, checks it as Foundry does, answers and bills it."""

import os
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from urllib.parse import parse_qs

import msgspec

from deploy.simulator import auth, chat, embeddings, errors
from deploy.simulator.answers import Answer, Call, Request
from deploy.simulator.control import PREFIX, Control
from deploy.simulator.delivery import deliver, pause
from deploy.simulator.deployments import FIXED_HEADERS, Deployment, Deployments
from deploy.simulator.errors import FoundryError
from deploy.simulator.faults import Fault, Faults, Target, instead
from deploy.simulator.options import Options
from deploy.simulator.served import ServedCall, ServedLog
from deploy.simulator.wire import (
    JSON_TYPE,
    MAX_BODY_BYTES,
    BodyTooLargeError,
    Caller,
    Headers,
    HttpScope,
    ReaderGoneError,
    Receive,
    Send,
    read_body,
    send_whole,
)
from shared.clock import Clock, SystemClock

MAX_ROUTES_KEPT = 4_096
VERSION_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?\Z")
CLASSIC_PATTERN = re.compile(r"/openai/deployments/([^/]+)/(.+)\Z")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a deployment can do: how its requests are read, and its name in Foundry's messages."""

    name: str
    title: str
    parse: Callable[[bytes], Request]


CHAT = Operation(name="chat", title="ChatCompletions_Create", parse=chat.parse)
EMBEDDINGS = Operation(name="embeddings", title="Embeddings_Create", parse=embeddings.parse)

OPERATIONS = {"chat/completions": CHAT, "embeddings": EMBEDDINGS}
"""The rest of a path, after a surface's prefix → operation."""
SURFACES = {"/openai/v1/": "v1", "/models/": "models"}
"""Prefixes of the surfaces that take the deployment from the body."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes. `deployment` is None where the body names it."""

    surface: str
    operation: Operation
    deployment: str | None = None


@lru_cache(maxsize=MAX_ROUTES_KEPT)
def find_route(path: str) -> Route | None:
    """The route of a decoded path, or None where Foundry has nothing."""
    for prefix, surface in SURFACES.items():
        if path.startswith(prefix):
            operation = OPERATIONS.get(path.removeprefix(prefix))
            return None if operation is None else Route(surface=surface, operation=operation)
    found = CLASSIC_PATTERN.match(path)
    operation = None if found is None else OPERATIONS.get(found[2])
    if found is None or operation is None:
        return None
    return Route(surface="classic", operation=operation, deployment=found[1])


class Ask(msgspec.Struct, kw_only=True, gc=False):
    """One HTTP request under way."""

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


class Job(msgspec.Struct, kw_only=True, gc=False):
    """What a request turned out to ask for. `deployment` is None when no such deployment exists."""

    route: Route
    request: Request
    name: str
    deployment: Deployment | None
    fault: Fault | None


class Simulator:
    """One simulated Foundry resource as an ASGI application."""

    def __init__(self, options: Options | None = None, clock: Clock | None = None) -> None:
        self.options = options or Options()
        self.clock = clock or SystemClock()
        self.deployments = Deployments(self.options)
        self.faults = Faults()
        self.served = ServedLog(self.options.log)
        self._control = Control(self.served, self.faults)
        self._key = self.options.key.encode()
        self._start = os.urandom(6).hex()
        self._asked = 0

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError("the simulator serves plain HTTP only")
        self._asked += 1
        ask = Ask(
            scope=scope,
            receive=receive,
            send=send,
            caller=Caller(scope["headers"]),
            request_id=f"{self._start[:8]}-{self._start[8:]}-4000-8000-{self._asked:012x}",
            serial=f"{self._start}{self._asked:09x}",
        )
        try:
            ask.body = await read_body(receive, ask.caller.content_length)
        except ReaderGoneError:
            return
        except BodyTooLargeError:
            await self._refuse(ask, errors.body_too_large(MAX_BODY_BYTES), None)
            return
        if scope["path"].startswith(PREFIX):
            query = scope["query_string"]
            status, reply = self._control.handle(scope["method"], scope["path"], query, ask.body)
            await send_whole(send, status, [JSON_TYPE], reply)
            return
        await self._serve(ask)

    async def _serve(self, ask: Ask) -> None:
        deployment: Deployment | None = None
        try:
            job = self._read(ask)
            deployment, fault = job.deployment, job.fault
            if fault is not None and fault.replaces:
                await self._serve_instead(ask, job, fault)
                return
            if deployment is None:
                raise errors.no_deployment(job.route.surface, job.name)
            now = self.clock.now()
            call = Call(
                caller=ask.caller,
                request_id=ask.request_id,
                serial=ask.serial,
                created=int(now.timestamp()),
                fault=fault,
            )
            answer = job.request.answer(deployment, call)
        except FoundryError as refused:
            await self._refuse(ask, refused, deployment)
            return
        if fault is not None and fault.kind == "empty":
            answer.body, answer.events = b"", None
        await self._hand_over(ask, job, deployment, answer, now)

    def _read(self, ask: Ask) -> Job:
        """Check path, version and key, then read the body; raises Foundry's refusals."""
        route = find_route(ask.scope["path"])
        if route is None or ask.scope["method"] != "POST":
            raise errors.not_found()
        if route.surface != "v1" and not _version_known(ask.scope["query_string"]):
            raise errors.not_found()
        auth.check(ask.caller, route.surface, self._key)
        request = route.operation.parse(ask.body)
        name = route.deployment or request.model
        if not name:
            raise errors.no_model_name(route.surface)
        deployment = self.deployments.find(name)
        return Job(route=route, request=request, name=name, deployment=deployment, fault=self.faults.take(name))

    async def _hand_over(self, ask: Ask, job: Job, deployment: Deployment, answer: Answer, now: datetime) -> None:
        """Bill the call and deliver its answer, in this order: what was begun is billed, come what may."""
        headers = [
            *deployment.headers,
            *self.deployments.charge(deployment, answer.charged, int(now.timestamp()) // 60),
            *ask.id_headers(),
        ]
        billed = self._bill(ask, job, deployment, answer, now)
        done = False
        try:
            done = await deliver(answer, headers, ask.receive, ask.send, job.fault, ask.scope["client"])
        finally:
            if billed is not None:
                billed.completed = done

    def _bill(self, ask: Ask, job: Job, deployment: Deployment, answer: Answer, now: datetime) -> ServedCall | None:
        if answer.usage is None:
            return None
        client_id = ask.caller.client_request_id
        billed = ServedCall(
            seq=self.served.next_seq(),
            at=now,
            id=answer.id,
            request_id=ask.request_id,
            deployment=deployment.name,
            model=deployment.model,
            surface=job.route.surface,
            operation=job.route.operation.name,
            stream=job.request.streamed,
            status=200,
            usage=answer.usage,
            fault=None if job.fault is None else job.fault.kind,
            client_request_id=None if client_id is None else client_id.decode("latin-1"),
        )
        self.served.add(billed)
        return billed

    async def _serve_instead(self, ask: Ask, job: Job, fault: Fault) -> None:
        """Answer as a fault says, not as the deployment would."""
        if fault.delay_ms and await pause(ask.receive, fault.delay_ms):
            return
        target = Target(
            deployment=job.name,
            model=job.name if job.deployment is None else job.deployment.model,
            region=self.options.region,
            operation=job.route.operation.title,
        )
        status, headers, body = instead(fault, target, ask.request_id)
        shared_headers = FIXED_HEADERS if job.deployment is None else job.deployment.headers
        named = {name for name, _ in headers}
        own = [pair for pair in [*shared_headers, *ask.id_headers()] if pair[0] not in named]
        await send_whole(ask.send, status, [*own, *headers], body)

    async def _refuse(self, ask: Ask, refused: FoundryError, deployment: Deployment | None) -> None:
        """Send an error of Foundry's own."""
        shared_headers = FIXED_HEADERS if deployment is None else deployment.headers
        headers = [*shared_headers, *ask.id_headers(), *refused.headers]
        await send_whole(ask.send, refused.status, headers, refused.body)


@lru_cache(maxsize=256)
def _version_known(query: bytes) -> bool:
    versions = parse_qs(query.decode("latin-1")).get("api-version", [])
    return len(versions) == 1 and VERSION_PATTERN.match(versions[0]) is not None
