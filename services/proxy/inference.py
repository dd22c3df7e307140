"""The way of one inference call: who, what, how much, then Foundry, then the bill."""

import asyncio
import hmac
import logging
from time import perf_counter_ns
from typing import Any, NamedTuple

from services.proxy.answers import Headers, Receive, Send, send_failure, send_json
from services.proxy.body import Patience, read_body
from services.proxy.call import Call
from services.proxy.choosing import Choosing, resolved
from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller, Refused, check_caller, check_model
from services.proxy.domain.asked import Asked
from services.proxy.domain.choice import Models
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.errors.failures import own_failure
from services.proxy.domain.holds.estimate import prompt_tokens
from services.proxy.domain.holds.prepare import NoPrice, prepare
from services.proxy.domain.holds.refusal import budget_refused, ledger_unreachable
from services.proxy.domain.objects import Places, Seal, SealingTransform, SoundSealing, owner_of
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.refused import FINAL, missing_key, no_price
from services.proxy.domain.transform import Transform
from services.proxy.domain.translate.transforms import translation_of
from services.proxy.holds import Denied, Hold, Unreachable
from services.proxy.journal import JournalError
from services.proxy.limits import RateLimits
from services.proxy.relay.complaints import Complaints
from services.proxy.relay.reading import gateway_headers
from services.proxy.relay.whole import StreamRelay, WholeRelay
from services.proxy.stored.background import Background
from services.proxy.till import Till
from services.proxy.treasury import Treasury
from services.proxy.upstream import Reply, Upstream, UpstreamError, UpstreamRequest
from shared.access import bearer
from shared.clock import Clock
from shared.tasks import Supervisor

log = logging.getLogger(__name__)

ESTIMATED = ((b"x-tundish-estimated", b"true"),)


class Visitor(NamedTuple):
    """A request by somebody who was let in: its row of the table and its headers. `started_ns` is when it came."""

    route: Route
    headers: dict[bytes, bytes]
    caller: Caller
    started_ns: int


class Inference:
    """Serves every call that is metered by the reply to it."""

    def __init__(
        self,
        *,
        directory: Directory,
        treasury: Treasury,
        till: Till,
        upstream: Upstream,
        models: Models,
        clock: Clock,
        tasks: Supervisor,
        seal: Seal,
        places: Places,
        master_key: str,
        body_bytes_max: int,
        default_output_tokens: int,
        exceeded_status: int,
        patience: Patience,
        limits: RateLimits | None = None,
        follow: Background | None = None,
    ) -> None:
        self._directory = directory
        self._treasury = treasury
        self._till = till
        self._upstream = upstream
        self.models = models
        self._clock = clock
        self.complaints = Complaints(clock)
        self._whole = WholeRelay(till, self.complaints, None if follow is None else follow.begin)
        self._follow = follow
        self._stream = StreamRelay(till, tasks, self.complaints)
        self._seal = seal
        self._choosing = Choosing(models, places, seal)
        self._master_key = master_key.encode()
        self.body_bytes_max = body_bytes_max
        self.default_output = default_output_tokens
        self._exceeded_status = exceeded_status
        self._limits = limits
        self.patience = patience
        self.running = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def caller(self, headers: dict[bytes, bytes]) -> Caller:
        """The caller behind a request's headers. Raises Refused."""
        secret = bearer(headers)
        if secret is None:
            raise missing_key()
        return self.caller_of(secret)

    def caller_of(self, secret: str) -> Caller:
        """The caller who holds a secret. Raises Refused."""
        if hmac.compare_digest(secret.encode(), self._master_key):
            raise Refused(
                403,
                "master_key_on_data_plane",
                "The master key administers; it never calls models. Mint a virtual key with POST /key/generate.",
                kind="permission_error",
            )
        now = self._clock.now()
        caller = self._directory.find(secret, now)
        check_caller(caller, now)
        return caller

    def administrator(self, headers: dict[bytes, bytes]) -> Caller:
        """The holder of a key with a role, which `caller` has refused for that alone. Raises Refused."""
        secret = bearer(headers)
        if secret is None:
            raise missing_key()
        return self._directory.find(secret, self._clock.now())

    async def serve(self, visitor: Visitor, scope: Any, receive: Receive, send: Send) -> None:
        """One call from its head to its bill. Raises Refused or BadRequest while nothing was sent."""
        route, headers, caller, started_ns = visitor
        body = await read_body(headers, receive, self.body_bytes_max, self.patience)
        asked = self._choosing.read(route, headers, body)
        if caller.aliases:
            asked = resolved(asked, caller)
        check_model(caller, asked.model, asked.model in self.models)
        if asked.background:
            self._check_background(asked)
        deployment, way, body = self._choosing.choose(route, scope, caller, asked, body)
        if asked.endpoint is Endpoint.COUNT_TOKENS and not way.url:
            await send_json(send, 200, {"input_tokens": prompt_tokens(asked, body, deployment.facts)}, ESTIMATED)
            return
        call = self.call(caller, route, asked, deployment, way, body, started_ns)
        self.entered()
        try:
            headers_out = await self.begin(call)
            await self._exchange(call, receive, send, headers_out)
        finally:
            self.end(call)
            self.left()

    def _check_background(self, asked: Asked) -> None:
        """Raises Refused for a background response that could not be followed to its end."""
        if asked.stream:
            raise Refused(
                400,
                "not_supported",
                "A background response is not streamed by this gateway: leave out 'stream', and poll it with GET.",
                param="stream",
                headers=FINAL,
            )
        if self._follow is None or self._follow.full:
            raise Refused(
                503,
                "background_full",
                "Too many background responses are running here. Try again shortly.",
                kind="server_error",
                headers=((b"retry-after", b"5"),),
            )

    def call(
        self, caller: Caller, route: Route, asked: Asked, deployment: Deployment, way: Way, body: bytes, started_ns: int
    ) -> Call:
        """A call made ready: its body for Foundry and the money it needs. Raises Refused or BadRequest."""
        row = deployment.row
        if row is None:
            raise no_price(deployment, asked.endpoint)
        lineage = caller.lineage(asked.model)
        try:
            prepared = prepare(
                asked, body, deployment, way, row, strict=lineage.strict, default_output=self.default_output
            )
        except NoPrice as error:
            raise no_price(deployment, asked.endpoint, str(error)) from error
        return Call(
            caller=caller,
            lineage=lineage,
            route=route,
            asked=asked,
            deployment=deployment,
            way=way,
            prepared=prepared,
            started_ns=started_ns,
        )

    # ---- from the hold to the bill -----------------------------------------------------------------------

    def entered(self) -> None:
        """Count a call as running, so that a stop waits for it; `left` takes it back."""
        self.running += 1
        if self.running == 1:
            self.idle.clear()

    def left(self) -> None:
        """A call that was counted is over."""
        self.running -= 1
        if not self.running:
            self.idle.set()

    async def begin(self, call: Call) -> Headers:
        """Let a call begin: limits, money, journal. Headers for its answer. Raises Refused; nothing is held then."""
        try:
            if call.caller.limits and self._limits is not None:
                prepared = call.prepared
                assumed = prepared.need.output if call.asked.chat and call.asked.output_cap is None else 0
                call.ticket = await self._limits.enter(call.caller, call.model, prepared.tokens, assumed)
            return await self._hold(call)
        except BaseException as error:
            self._till.release(call)
            if isinstance(error, Refused):
                error.headers += call.limits_left
            raise

    def end(self, call: Call) -> None:
        """A call is over: what began and was not settled is charged at its hold."""
        if call.opened is not None and not call.settled and not call.followed:
            self._till.settle_lost(call, outcome="unknown", status=500)

    async def _hold(self, call: Call) -> Headers:
        """Hold the money and write the call down. Raises Refused."""
        if self._till.full:
            raise Refused(
                503,
                "usage_backlog",
                "Too many finished calls wait to be recorded. Try again shortly.",
                kind="server_error",
                headers=((b"retry-after", b"5"),),
            )
        cap: int | None = None
        if call.lineage.accounts:
            need = call.prepared.need
            call.hold = self._treasury.try_hold(call.caller, call.lineage, need.amount, need.most)
            if call.hold is None:
                call.hold = await self._wait_for_money(call)
            call.held_nusd = call.hold.amount
            cap = call.prepared.seal(call.hold.amount)
        try:
            self._till.open(call)
        except JournalError as error:
            log.error("%s", error)
            raise Refused(
                503,
                "journal_unavailable",
                "The gateway cannot write its journal, so no call may begin. The platform team must look at its disk.",
                kind="server_error",
            ) from error
        return [] if cap is None else [(b"x-tundish-max-tokens", b"%d" % cap)]

    async def _wait_for_money(self, call: Call) -> Hold:
        """Money that is not at hand. Raises Refused."""
        need = call.prepared.need
        try:
            return await self._treasury.hold(call.caller, call.lineage, need.amount, need.most)
        except Denied as denied:
            wanted = call.prepared.wanted(call.asked, call.deployment)
            raise budget_refused(
                denied.verdict, denied.refusal, wanted, exceeded_status=self._exceeded_status
            ) from denied
        except Unreachable as unreachable:
            raise ledger_unreachable() from unreachable

    async def _exchange(self, call: Call, receive: Receive, send: Send, headers: Headers) -> None:
        """Call Foundry and pass its reply on."""
        prepared, way = call.prepared, call.way
        call.transform = self._transform(call)
        request = UpstreamRequest(
            prepared.url,
            (
                ("content-type", prepared.content_type),
                ("x-ms-client-request-id", call.call_id),
                *way.headers,
                *call.deployment.headers,
            ),
            prepared.body,
            whole=not call.asked.stream,
        )
        call.upstream_from_ns = perf_counter_ns()
        try:
            async with self._upstream.open(request) as reply:
                call.region = reply.header("x-ms-region")
                if call.asked.stream and reply.status == 200 and is_stream(reply):
                    await self._stream.relay(call, reply, receive, send, headers)
                else:
                    await self._whole.relay(call, reply, send, headers)
        except UpstreamError as error:
            call.upstream_until_ns = perf_counter_ns()
            await self._failed(call, error, send, headers)

    def _transform(self, call: Call) -> Transform | None:
        if call.way.translation is not None:
            created = int(self._clock.now().timestamp())
            sent = call.prepared.body
            return translation_of(call.way.translation, call.asked, sent, call_id=call.call_id, created=created)
        if call.asked.endpoint is Endpoint.RESPONSES:
            return SealingTransform(self._seal, owner_of(call.caller), call.deployment.id)
        if call.asked.spoken and call.asked.endpoint is Endpoint.CHAT:
            return SoundSealing(self._seal, owner_of(call.caller), call.deployment.id)
        return None

    async def _failed(self, call: Call, error: UpstreamError, send: Send, headers: Headers) -> None:
        """No whole reply came. What was never sent costs nothing; the rest is charged at the hold, as lost."""
        log.warning("deployment %s at %s: %s", call.deployment.name, call.deployment.host, error)
        if call.settled:
            return
        if error.kind == "connect":
            self._till.settle_free(call, outcome="upstream_error", status=502)
            failure = own_failure(502, "upstream_unreachable", "Foundry cannot be reached. Try again.")
        elif error.kind == "timeout":
            self._till.settle_lost(call, outcome="timeout", status=504)
            failure = own_failure(504, "upstream_timeout", "Foundry did not answer in time.")
        else:
            self._till.settle_lost(call, outcome="upstream_error", status=502)
            text = "The connection to Foundry broke before its reply was whole."
            failure = own_failure(502, "upstream_reset", text)
        told = gateway_headers(call, [*headers, *call.limits_left], self._till.figures(call))
        await send_failure(send, call.route.dialect, failure, told, call.call_id)


def is_stream(reply: Reply) -> bool:
    """Whether a reply comes as server-sent events."""
    return (reply.header("content-type") or "").lower().startswith("text/event-stream")
