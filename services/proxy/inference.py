"""The way of one inference call: who, what, how much, then Foundry, then the bill."""

import asyncio
import hmac
import logging
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from services.proxy.body import BODY_WAIT_S, Patience, read_body
from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller, Refused, check_caller, check_model
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.dialect import Asked, read_request
from services.proxy.domain.paths import Route
from services.proxy.domain.prepare import must_inject, prepare
from services.proxy.domain.refusal import budget_refused, ledger_unreachable
from services.proxy.holds import Denied, Hold, Unreachable
from services.proxy.journal import JournalError
from services.proxy.limits import RateLimits
from services.proxy.relay import Headers, Receive, Send, StreamRelay, WholeRelay, send_error
from services.proxy.till import Call, Till
from services.proxy.treasury import Treasury
from services.proxy.upstream import Upstream, UpstreamError, UpstreamRequest
from shared.access import bearer
from shared.clock import Clock
from shared.pricing import PriceRow
from shared.tasks import Supervisor

log = logging.getLogger(__name__)


class Models:
    """Public model names and the deployments behind them, taken in turn."""

    def __init__(self, models: dict[str, list[Deployment]]) -> None:
        self._models = models
        self._turn = 0

    def __contains__(self, model: str) -> bool:
        return model in self._models

    def names(self) -> list[str]:
        """All public names, in the order of the configuration."""
        return list(self._models)

    def next(self, model: str) -> Deployment:
        """The deployment that serves the next call of a model."""
        deployments = self._models[model]
        if len(deployments) == 1:
            return deployments[0]
        self._turn += 1
        return deployments[self._turn % len(deployments)]


class Inference:
    """Serves chat completions and embeddings."""

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
        master_key: str,
        body_bytes_max: int,
        default_output_tokens: int,
        exceeded_status: int,
        limits: RateLimits | None = None,
    ) -> None:
        self._directory = directory
        self._treasury = treasury
        self._till = till
        self._upstream = upstream
        self._models = models
        self._clock = clock
        self._whole = WholeRelay(till)
        self._stream = StreamRelay(till, tasks)
        self._master_key = master_key.encode()
        self._body_bytes_max = body_bytes_max
        self._default_output = default_output_tokens
        self._exceeded_status = exceeded_status
        self._limits = limits
        self.patience = Patience(BODY_WAIT_S)
        self.running = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def caller(self, headers: dict[bytes, bytes]) -> Caller:
        """The caller behind a request's headers. Raises Refused."""
        secret = bearer(headers)
        if secret is None:
            raise Refused(
                401,
                "missing_api_key",
                "No API key was sent. Send a virtual key as 'Authorization: Bearer sk-…' or 'api-key: sk-…'.",
                kind="authentication_error",
            )
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

    async def serve(self, route: Route, scope: Any, receive: Receive, send: Send) -> None:
        """One call from its head to its bill. Raises Refused or BadRequest while nothing was sent."""
        started_ns = perf_counter_ns()
        headers = dict(scope["headers"])
        caller = self.caller(headers)
        body = await read_body(headers, receive, self._body_bytes_max, self.patience)
        asked = read_request(body, route.endpoint, route.model)
        check_model(caller, asked.model, asked.model in self._models)
        deployment = self._models.next(asked.model)
        row = deployment.row
        if row is None:
            raise _no_price(asked.model)
        lineage = caller.lineage(asked.model)
        prepared = prepare(
            asked, body, deployment, route.endpoint, row, strict=lineage.strict, default_output=self._default_output
        )
        call = Call(caller, lineage, str(route.endpoint), asked.model, deployment, prepared, started_ns)
        self.running += 1
        if self.running == 1:
            self.idle.clear()
        try:
            if caller.limits and self._limits is not None:
                assumed = prepared.need.output if asked.output_cap is None else 0
                call.ticket = await self._limits.enter(caller, asked.model, prepared.tokens, assumed)
            headers_out = await self._begin(call, asked, row)
            await self._exchange(call, asked, receive, send, headers_out)
        except Refused as refused:
            if call.opened is None:
                self._till.release(call)
            refused.headers += call.limits_left
            raise
        finally:
            self.running -= 1
            if not self.running:
                self.idle.set()
            if call.opened is None:
                self._till.release(call)
            elif not call.settled:
                self._till.settle_lost(call, outcome="unknown", status=500)

    async def _begin(self, call: Call, asked: Asked, row: PriceRow) -> Headers:
        """Hold the money and write the call down; headers for the answer. Raises Refused; nothing is held then."""
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
                call.hold = await self._wait_for_money(call, asked)
            call.held_nusd = call.hold.amount
            cap = call.prepared.seal(call.hold.amount)
        try:
            self._till.open(call, row)
        except JournalError as error:
            log.error("%s", error)
            raise Refused(
                503,
                "journal_unavailable",
                "The gateway cannot write its journal, so no call may begin. The platform team must look at its disk.",
                kind="server_error",
            ) from error
        assert call.opened is not None
        headers: Headers = [(b"x-tundish-call-id", call.opened.call_id.encode())]
        if cap is not None:
            headers.append((b"x-tundish-max-tokens", b"%d" % cap))
        return headers

    async def _wait_for_money(self, call: Call, asked: Asked) -> Hold:
        """Money that is not at hand. Raises Refused."""
        need = call.prepared.need
        try:
            return await self._treasury.hold(call.caller, call.lineage, need.amount, need.most)
        except Denied as denied:
            wanted = call.prepared.wanted(asked, call.deployment)
            raise budget_refused(
                denied.verdict, denied.refusal, wanted, exceeded_status=self._exceeded_status
            ) from denied
        except Unreachable as unreachable:
            raise ledger_unreachable() from unreachable

    async def _exchange(self, call: Call, asked: Asked, receive: Receive, send: Send, headers: Headers) -> None:
        """Call Foundry and pass its reply on."""
        assert call.opened is not None
        call_id = call.opened.call_id
        request = UpstreamRequest(
            call.prepared.url,
            (
                ("content-type", "application/json"),
                ("x-ms-client-request-id", call_id),
                *call.deployment.headers,
            ),
            call.prepared.body,
            whole=not asked.stream,
        )
        call.upstream_from_ns = perf_counter_ns()
        try:
            async with self._upstream.open(request) as reply:
                call.region = reply.header("x-ms-region")
                kind = (reply.header("content-type") or "").lower()
                if asked.stream and reply.status == 200 and kind.startswith("text/event-stream"):
                    hide = must_inject(call.deployment, asked)
                    await self._stream.relay(call, reply, receive, send, headers, hide_usage=hide)
                else:
                    await self._whole.relay(call, reply, send, headers)
        except UpstreamError as error:
            call.upstream_until_ns = perf_counter_ns()
            await self._failed(call, error, send, headers)

    async def _failed(self, call: Call, error: UpstreamError, send: Send, headers: Headers) -> None:
        """No whole reply came. What was never sent costs nothing; the rest is charged at the hold, as lost."""
        log.warning("deployment %s at %s: %s", call.deployment.name, call.deployment.host, error)
        if call.settled:
            return
        if error.kind == "connect":
            self._till.settle_free(call, outcome="upstream_error", status=502)
            headers = [*headers, *call.limits_left]
            await send_error(send, 502, "upstream_unreachable", "Foundry cannot be reached. Try again.", headers)
        elif error.kind == "timeout":
            self._till.settle_lost(call, outcome="timeout", status=504)
            headers = [*headers, *call.limits_left]
            await send_error(send, 504, "upstream_timeout", "Foundry did not answer in time.", headers)
        else:
            self._till.settle_lost(call, outcome="upstream_error", status=502)
            headers = [*headers, *call.limits_left]
            text = "The connection to Foundry broke before its reply was whole."
            await send_error(send, 502, "upstream_reset", text, headers)

    def model_list(self, caller: Caller) -> list[dict[str, object]]:
        """The models a key may use, as the models endpoint shows them."""
        return [model_entry(name) for name in self._models.names() if caller.may_use(name)]

    def model(self, caller: Caller, name: str) -> dict[str, object]:
        """One model. Raises Refused when there is none that this key may use."""
        check_model(caller, name, name in self._models)
        return model_entry(name)


def _no_price(model: str) -> Refused:
    return Refused(
        503,
        "price_unknown",
        f"No price is known for the model '{model}', so it is not served. The platform team must set"
        " model_info.base_model or a price in the gateway's configuration.",
        kind="server_error",
        headers=((b"x-should-retry", b"false"),),
    )


_EPOCH = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def model_entry(name: str) -> dict[str, object]:
    """A model as OpenAI's clients read it; Foundry gives deployments no creation time, so one date stands for all."""
    return {"id": name, "object": "model", "created": _EPOCH, "owned_by": "tundish"}
