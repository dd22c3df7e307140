"""The ASGI application: finds the row of a request, checks it as Foundry does, answers and bills it."""

import os
from datetime import datetime

import msgspec

from deploy.simulator import auth, errors
from deploy.simulator.answers import Answer, Call, Request
from deploy.simulator.asks import Ask, Site
from deploy.simulator.control import PREFIX, Control
from deploy.simulator.delivery import deliver, pause
from deploy.simulator.deployments import FIXED_HEADERS, Deployment, Estimate
from deploy.simulator.errors import FoundryError
from deploy.simulator.faults import Fault, Target, instead
from deploy.simulator.lines import LineRunner
from deploy.simulator.options import Options
from deploy.simulator.routes import (
    SERVERLESS,
    PathRow,
    Route,
    Surface,
    find_path,
    find_route,
    find_socket,
)
from deploy.simulator.served import ServedCall
from deploy.simulator.versions import serverless_name, version_fits
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

SPILL_STATUSES = (429, 500, 503)


class Job(msgspec.Struct, kw_only=True, gc=False):
    """What a request turned out to ask for. `deployment` is None when no such deployment exists.

    `spilled_from` and `spill_code`: the provisioned deployment that could not serve it, and its status.
    """

    route: Route
    request: Request
    name: str
    deployment: Deployment | None
    fault: Fault | None
    spilled_from: str | None = None
    spill_code: int = 0

    def spill_headers(self) -> Headers:
        """The headers of a spilled call, whatever came of it."""
        if self.spilled_from is None:
            return []
        return [
            (b"x-ms-spillover-from-deployment", self.spilled_from.encode()),
            (b"x-ms-spillover-error", b"%d" % self.spill_code),
        ]


class Simulator:
    """One simulated Foundry resource as an ASGI application."""

    def __init__(self, options: Options | None = None, clock: Clock | None = None) -> None:
        self.site = Site(options or Options(), clock or SystemClock())
        self._start = os.urandom(6).hex()
        self.site.run = LineRunner(self.site, self._next_ids)
        self.served = self.site.served
        self._deployments = self.site.deployments
        self._faults = self.site.faults
        self._control = Control(self.site)
        self._start_id = f"{self._start[:8]}-{self._start[8:]}-4000-8000-"
        self._asked = 0

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Answer one request, or serve one websocket."""
        if scope["type"] != "http":
            await self._socket(scope, receive, send)
            return
        ask = self._ask(scope, receive, send)
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

    def _ask(self, scope: HttpScope, receive: Receive, send: Send) -> Ask:
        request_id, serial = self._next_ids()
        return Ask(
            site=self.site,
            scope=scope,
            receive=receive,
            send=send,
            caller=Caller(scope["headers"]),
            request_id=request_id,
            serial=serial,
        )

    def _next_ids(self) -> tuple[str, str]:
        """The GUID of the next call, and the unique part of the ids in its answer."""
        self._asked += 1
        return f"{self._start_id}{self._asked:012x}", f"{self._start}{self._asked:09x}"

    async def _socket(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError("the simulator serves HTTP and websockets only")
        found = find_socket(scope["path"])
        if found is None:
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        await found[0].handler(self._ask(scope, receive, send), found[1])

    async def _serve(self, ask: Ask) -> None:
        route = find_route(ask.scope["path"]) if ask.scope["method"] == "POST" else None
        try:
            if route is None:
                await self._serve_path(ask)
                return
            job = self._read(ask, route)
        except FoundryError as refused:
            await self._refuse(ask, refused, None, None if route is None else route.surface)
            return
        await self._serve_job(ask, job)

    def _read(self, ask: Ask, route: Route) -> Job:
        """Check version and key, then read the body; raises Foundry's refusals."""
        surface = route.surface
        self._check(ask, surface, versioned=True, preview=route.operation.preview)
        request = route.operation.parse(ask.body, ask.caller.content_type)
        name = route.deployment or request.model
        if surface is SERVERLESS:
            name = serverless_name(ask.caller) or name or self.site.options.serverless
        if not name:
            raise errors.no_model_name(surface.name)
        deployment = self._deployments.find(name)
        fault = self._faults.take(name, route.operation.name, ask.caller.headers.get(b"x-sim-fault"))
        return Job(route=route, request=request, name=name, deployment=deployment, fault=fault)

    def _check(self, ask: Ask, surface: Surface, *, versioned: bool, preview: bool = False) -> None:
        if versioned and surface.versions != "any":
            query = ask.scope["query_string"]
            if not version_fits(surface.versions, query) and not (preview and version_fits("undated", query)):
                raise errors.not_found()
        auth.check(ask.caller, surface.name, self.site)

    async def _serve_job(self, ask: Ask, job: Job) -> None:
        deployment, fault = job.deployment, job.fault
        if fault is not None and fault.replaces:
            if not await self._spilled(ask, job, fault.shown_status):
                await self._serve_instead(ask, job, fault)
            return
        try:
            if deployment is None:
                raise errors.no_deployment(job.route.surface.name, job.name)
            now = self.site.clock.now()
            call = Call(
                caller=ask.caller,
                request_id=ask.request_id,
                serial=ask.serial,
                created=int(now.timestamp()),
                surface=job.route.surface.name,
                site=self.site,
                fault=fault,
            )
            answer = job.request.answer(deployment, call)
            if deployment.limited:
                limits = self._admit(job, deployment, answer, now)
            else:
                limits = self._deployments.count(deployment, answer.charged, call.created // 60)
        except FoundryError as refused:
            status = 400 if refused.too_long else refused.status if refused.status in SPILL_STATUSES else 0
            if not (status and await self._spilled(ask, job, status)):
                await self._refuse(ask, refused, deployment, job.route.surface, job.spill_headers())
            return
        if fault is not None and fault.kind == "empty":
            answer.body, answer.events = b"", None
        await self._hand_over(ask, job, deployment, answer, limits, now)

    def _admit(self, job: Job, deployment: Deployment, answer: Answer, now: datetime) -> Headers:
        """Count a call against its deployment's limits; the headers that tell them, or the refusal raised."""
        settings = self.site.settings
        estimate = Estimate(charged=answer.charged, output=answer.charged_output, usage=answer.usage)
        return self._deployments.admit(deployment, estimate, job.route.operation.title, now, settings)

    async def _spilled(self, ask: Ask, job: Job, status: int) -> bool:
        """Serve a call that its provisioned deployment could not serve with the standard one, if there is one."""
        first = job.deployment
        if first is None or first.ptu is None or job.spilled_from is not None:
            return False
        asked = ask.caller.headers.get(b"x-ms-spillover-deployment")
        name = first.spillover or (None if asked is None else asked.decode("latin-1"))
        second = None if name is None else self._deployments.find(name)
        if second is None or second is first or (status not in SPILL_STATUSES and status != 400):
            return False
        fault = self._faults.take(second.name, job.route.operation.name, None)
        again = Job(
            route=job.route,
            request=job.request,
            name=second.name,
            deployment=second,
            fault=fault,
            spilled_from=first.name,
            spill_code=status,
        )
        await self._serve_job(ask, again)
        return True

    async def _hand_over(
        self, ask: Ask, job: Job, deployment: Deployment, answer: Answer, limits: Headers, now: datetime
    ) -> None:
        """Bill the call and deliver its answer, in this order: what was begun is billed, come what may."""
        headers = [*deployment.headers, *limits, *ask.id_headers(), *answer.headers]
        if job.spilled_from is not None:
            headers += job.spill_headers()
        billed = self._bill(ask, job, deployment, answer, now)
        if answer.commit is not None:
            answer.commit()
        done = False
        try:
            done = await deliver(answer, headers, ask.receive, ask.send, job.fault, ask.scope["client"])
        finally:
            if billed is not None:
                billed.completed = done
            if deployment.ptu is not None and answer.usage is not None:
                deployment.ptu.settle(answer.charged, answer.charged_output, answer.usage)

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
            surface=job.route.surface.billed_as,
            operation=job.route.operation.name,
            stream=job.request.streamed,
            status=answer.status,
            usage=answer.usage,
            fault=None if job.fault is None else job.fault.kind,
            client_request_id=None if client_id is None else client_id.decode("latin-1"),
        )
        if deployment.special or job.spilled_from is not None:
            billed.spilled_from = job.spilled_from
            billed.provisioned = deployment.ptu is not None
            billed.routed = deployment.router
        self.served.add(billed)
        return billed

    async def _serve_instead(self, ask: Ask, job: Job, fault: Fault) -> None:
        """Answer as a fault says, not as the deployment would."""
        if fault.delay_ms and await pause(ask.receive, fault.delay_ms):
            return
        surface = job.route.surface
        target = Target(
            deployment=job.name,
            model=job.name if job.deployment is None else job.deployment.model,
            region=self.site.options.region,
            operation=job.route.operation.title,
            surface=surface.name,
            anthropic=surface.name == "anthropic" and self.site.settings.claude_errors == "anthropic",
        )
        status, headers, body = instead(fault, target, ask.request_id)
        shared_headers = self._site_headers() if job.deployment is None else job.deployment.headers
        named = {name for name, _ in headers}
        own = [pair for pair in [*shared_headers, *ask.id_headers(), *job.spill_headers()] if pair[0] not in named]
        await send_whole(ask.send, status, [*own, *headers], body)

    async def _serve_path(self, ask: Ask) -> None:
        """Answer a request that names no deployment; raises Foundry's refusals."""
        found = find_path(ask.scope["method"], ask.scope["path"])
        if found is None:
            raise errors.not_found()
        row, match = found
        if row.surface is not None:
            self._check(ask, row.surface, versioned=row.versioned)
        fault = self._faults.take_row(row.name, ask.caller.headers.get(b"x-sim-fault"))
        if fault is not None and fault.replaces:
            await self._path_instead(ask, row, fault)
            return
        answer = await row.handler(ask, match)
        if answer.commit is not None:
            answer.commit()
        headers = [*self._site_headers(), *ask.id_headers(), *answer.headers]
        await deliver(answer, headers, ask.receive, ask.send, fault, ask.scope["client"])

    async def _path_instead(self, ask: Ask, row: PathRow, fault: Fault) -> None:
        if fault.delay_ms and await pause(ask.receive, fault.delay_ms):
            return
        target = Target(deployment=row.name, model=row.name, region=self.site.options.region, operation=row.name)
        status, headers, body = instead(fault, target, ask.request_id)
        named = {name for name, _ in headers}
        own = [pair for pair in [*self._site_headers(), *ask.id_headers()] if pair[0] not in named]
        await send_whole(ask.send, status, [*own, *headers], body)

    def _site_headers(self) -> Headers:
        return [*FIXED_HEADERS, (b"x-ms-region", self.site.options.region.encode("latin-1", "replace"))]

    async def _refuse(
        self,
        ask: Ask,
        refused: FoundryError,
        deployment: Deployment | None,
        surface: Surface | None = None,
        more: Headers | None = None,
    ) -> None:
        """Send an error of Foundry's own."""
        shared_headers = self._site_headers() if deployment is None else deployment.headers
        body = refused.body
        if surface is not None and surface.name == "anthropic" and self.site.settings.claude_errors == "anthropic":
            body = errors.as_anthropic(refused.status, body, ask.request_id)
        named = {name for name, _ in refused.headers}
        own = [pair for pair in [*shared_headers, *ask.id_headers()] if pair[0] not in named]
        await send_whole(ask.send, refused.status, [*own, *(more or []), *refused.headers], body)
