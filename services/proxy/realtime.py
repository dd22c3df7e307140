"""Realtime sessions: a WebSocket passed through, each answer in it a call of its own with its own hold and bill.

Money is held from the moment a session is open, since Foundry may answer whenever somebody speaks. When an answer is
done it is settled before the caller hears of it, and the next hold is taken. While nobody speaks the hold is renewed,
because no hold lasts longer than a call may. Who is revoked, out of money or over a rate limit is told so in the
session, and the session ends.
"""

import asyncio
import logging
from time import perf_counter_ns
from typing import Any
from urllib.parse import parse_qs

import msgspec

from services.proxy.answers import Receive, Send, send_failure_http
from services.proxy.domain.admission import Caller, Refused, check_model
from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.choice import Models
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.estimate import Need
from services.proxy.domain.failures import Failure, caller_failure, failure_of_refusal, own_failure, read_failure
from services.proxy.domain.meters.realtime import read_response_done, read_transcription
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.prepare import Prepared
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.realtime import key_of_subprotocols, read_client, read_server
from services.proxy.inference import Inference, no_price, not_served
from services.proxy.till import Call, Till
from services.proxy.upstream import UpstreamError
from services.proxy.upstream.socket import MESSAGE_BYTES_MAX, HandshakeRefused, Socket, open_socket
from shared.access import bearer
from shared.pricing import PriceRow, Rates, Usage, dearest, price
from shared.tasks import Supervisor

log = logging.getLogger(__name__)

CHECK_S = 1.0
"""How often a session looks whether its key still may call."""
RENEW_S = 240.0
"""How long a hold stands while nobody speaks; a call may take longer, so an answer that has begun is waited for."""
ANSWER_MAX_S = 500.0
"""How long one answer may take in all; below the longest call that the ledger relies on."""
DRAIN_S = 10.0
"""How long an answer that has begun is read on after its caller has left."""
SEND_TIMEOUT_S = 60.0
SESSIONS_MAX = 1_000
TRANSCRIBED_GUESS = Usage(input=1_000, audio_input=2_000, milliseconds=60_000, output=500)
FIRST_TURN = Usage(input=1_000, audio_input=2_000, output=300, audio_output=1_500)
"""What the first answer is likely to use: half a minute each way. Later ones by the one before."""

CLOSE_POLICY, CLOSE_TOO_BIG, CLOSE_ERROR, CLOSE_GOING = 1008, 1009, 1011, 1001
REASON_BYTES_MAX = 120


_NO_RATES = Rates()


class Ended(Exception):
    """A session that the gateway ends: what the caller is told, and the code of the close."""

    def __init__(self, failure: Failure, code: int = CLOSE_POLICY) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.code = code


class Realtime:
    """Opens sessions."""

    def __init__(self, *, inference: Inference, till: Till, models: Models, book: PriceBook, tasks: Supervisor) -> None:
        self._inference = inference
        self._till = till
        self._models = models
        self._book = book
        self._tasks = tasks
        self.open = 0
        self.draining = asyncio.Event()

    async def serve(self, route: Route, scope: Any, receive: Receive, send: Send) -> None:
        """One session from its handshake to its end. Answers errors of the handshake itself."""
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        try:
            await self._serve(route, scope, receive, send)
        except Refused as refused:
            await send_failure_http(send, route.dialect, failure_of_refusal(refused), [*refused.headers])
        except BadRequest as error:
            failure = own_failure(400, error.code, str(error), kind="invalid_request_error")
            await send_failure_http(send, route.dialect, failure, [])

    async def _serve(self, route: Route, scope: Any, receive: Receive, send: Send) -> None:
        secret, subprotocols = _credential(scope)
        caller = self._inference.caller_of(secret)
        model = _model_of(scope)
        check_model(caller, model, model in self._models)
        deployment = self._models.next(model)
        way = deployment.ways.get(Endpoint.REALTIME)
        if way is None:
            raise not_served(model, Endpoint.REALTIME, deployment)
        if self.open >= SESSIONS_MAX or self.draining.is_set():
            raise Refused(503, "overloaded", "No further realtime session can be opened here now.", kind="server_error")
        turns = Turns(self._inference, self._till, self._book, route, secret, model, deployment, way)
        self.open += 1
        with self._inference.counted():
            try:
                await turns.next(caller)
                await self._session(turns, subprotocols, receive, send, route)
            finally:
                turns.close()
                self.open -= 1

    async def _session(
        self, turns: "Turns", subprotocols: list[str], receive: Receive, send: Send, route: Route
    ) -> None:
        socket = await self._connect(turns, subprotocols, send, route)
        if socket is None:
            return
        session = Session(turns, socket, receive, send, self.draining)
        try:
            accept: dict[str, Any] = {"type": "websocket.accept", "headers": turns.headers()}
            if "realtime" in subprotocols:
                accept["subprotocol"] = "realtime"
            await send(accept)
            await session.run()
        finally:
            await socket.close()

    async def _connect(self, turns: "Turns", subprotocols: list[str], send: Send, route: Route) -> Socket | None:
        """Connect to Foundry; None when it would not, which the caller has been told then."""
        deployment = turns.deployment
        headers = (*turns.way.headers, *deployment.headers)
        try:
            return await open_socket(turns.way.url, headers, ("realtime",) if "realtime" in subprotocols else ())
        except HandshakeRefused as refused:
            failure = caller_failure(read_failure(refused.status, refused.body), hide=deployment.secrets)
        except UpstreamError as error:
            log.warning("deployment %s at %s: %s", deployment.name, deployment.host, error)
            failure = own_failure(502, "upstream_unreachable", "Foundry cannot be reached. Try again.")
        turns.free(failure.status)
        await send_failure_http(send, route.dialect, failure, turns.headers())
        return None


class Turns:
    """The calls of one session, one after the other: one is always open while the session is."""

    def __init__(
        self,
        inference: Inference,
        till: Till,
        book: PriceBook,
        route: Route,
        secret: str,
        model: str,
        deployment: Deployment,
        way: Way,
    ) -> None:
        self._inference = inference
        self._till = till
        self._book = book
        self._route = route
        self._secret = secret
        self._likely = FIRST_TURN
        self._turning = asyncio.Lock()
        self.deployment = deployment
        self.way = way
        self.model = model
        self.served: str | None = None
        self.call: Call | None = None
        self.since_ns = 0
        self.transcriber: str | None = None

    def caller(self) -> Caller:
        """The caller as of now. Raises Refused."""
        caller = self._inference.caller_of(self._secret)
        check_model(caller, self.model, known=True)
        return caller

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the handshake's answer says of the first call."""
        return [] if self.call is None else [(b"x-tundish-call-id", self.call.call_id.encode())]

    async def next(self, caller: Caller | None = None) -> None:
        """Hold money for the next answer, in place of what was held before. Raises Refused."""
        async with self._turning:
            call = await self._begin(caller or self.caller(), self._likely, self._row(self.served))
            self.free(200)
            self.call = call
            self.since_ns = perf_counter_ns()

    async def answered(self, event: bytes) -> None:
        """An answer is done: pay for it."""
        call = self.call
        if call is None or call.settled:
            return
        reading = read_response_done(event)
        if reading.served_model is None and self.served is not None:
            reading = msgspec.structs.replace(reading, served_model=self.served)
        call.upstream_until_ns = perf_counter_ns()
        self._till.settle_reading(call, reading, 0, outcome="ok", status=200, whole=reading.usage is not None)
        if reading.usage is not None:
            self._likely = _after(reading.usage)

    async def transcribed(self, event: bytes) -> None:
        """What was said has been transcribed, by a model of its own: pay for that. Raises Refused."""
        reading = read_transcription(event)
        call = await self._begin(self.caller(), reading.usage or TRANSCRIBED_GUESS, self._transcriber())
        if reading.usage is None:
            self._till.settle_lost(call, outcome="ok", status=200)
        else:
            self._till.settle_priced(call, reading, call.prepared.row, outcome="ok", status=200)

    def transcribe_by(self, model: str) -> None:
        """The caller wants its words transcribed by a model. Raises BadRequest when its price is not known."""
        before, self.transcriber = self.transcriber, model
        if not self.deployment.unpriced and self._transcriber().missing(TRANSCRIBED_GUESS) == "input":
            self.transcriber = before
            raise BadRequest(
                f"No price is known for transcription by '{model[:100]}', so it is not offered in this session.",
                code="price_unknown",
                param="session.audio.input.transcription.model",
            )

    def free(self, status: int) -> None:
        """Foundry did nothing for the open call."""
        if self.call is not None and not self.call.settled:
            self._till.settle_free(self.call, outcome="ok" if status == 200 else "upstream_error", status=status)

    def close(self) -> None:
        """The session is over."""
        if self.call is not None:
            self._inference.end(self.call)

    def age_s(self) -> float:
        """How long the open call has been open."""
        return (perf_counter_ns() - self.since_ns) / 1e9

    async def _begin(self, caller: Caller, likely: Usage, row: PriceRow) -> Call:
        lineage = caller.lineage(self.model)
        if lineage.strict:
            raise Refused(
                400,
                "unbounded_cost",
                "This key has a strict budget, which admits only calls whose highest cost is known; what is said in a"
                " realtime session is not known before.",
                param="model",
            )
        if not self.deployment.unpriced and (name := row.missing(likely)) is not None:
            raise no_price(self.model, name)
        amount = price(likely, row)
        need = Need(prompt=likely.prompt, output=likely.completion, amount=amount, most=amount)
        call = Call(
            caller=caller,
            lineage=lineage,
            route=self._route,
            asked=Asked(model=self.model, endpoint=Endpoint.REALTIME),
            deployment=self.deployment,
            way=self.way,
            prepared=Prepared(
                url=self.way.url, body=b"", row=row, need=need, guess=likely.prompt, output_max=likely.completion,
                usage=likely,
            ),
            started_ns=perf_counter_ns(),
        )  # fmt: skip
        await self._inference.begin(call)
        call.upstream_from_ns = perf_counter_ns()
        return call

    def _row(self, served: str | None) -> PriceRow:
        row = self.deployment.hold_row
        if row is None:
            raise no_price(self.model)
        if served is None or self.deployment.fixed_price:
            return row
        return dearest(row, self._book.served(served, row))

    def _transcriber(self) -> PriceRow:
        """The price of the model that transcribes; one without tokens or seconds where it is not known."""
        name = self.transcriber or "whisper-1"
        row = self._book.exact(name) or self._book.by_prefix(name)
        return row if row is not None else PriceRow(model=name, rates=_NO_RATES)


class Session:
    """One open session: two directions and a look at the clock; the first that ends, ends all."""

    def __init__(self, turns: Turns, socket: Socket, receive: Receive, send: Send, draining: asyncio.Event) -> None:
        self._turns = turns
        self._socket = socket
        self._receive = receive
        self._send = send
        self._draining = draining
        self._answering = 0
        self._gone = False

    async def run(self) -> None:
        """Pass on until one side leaves or the session has to end."""
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._watch(), name="realtime-watch")
        hear = loop.create_task(self._from_caller(), name="realtime-caller")
        answer = loop.create_task(self._from_foundry(), name="realtime-foundry")
        tasks = (watch, hear, answer)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if hear.done() and not answer.done() and self._answering:
                await asyncio.wait((answer,), timeout=DRAIN_S)
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        if not self._answering:
            self._turns.free(200)
        ended = next((error for error in done if isinstance(error, Ended)), None)
        failed = next((error for error in done if isinstance(error, Exception) and not isinstance(error, Ended)), None)
        if failed is not None:
            log.error("a realtime session failed", exc_info=failed)
            ended = ended or Ended(own_failure(500, "internal_error", "The gateway failed."), CLOSE_ERROR)
        await self._close(ended)

    async def _close(self, ended: Ended | None) -> None:
        if self._gone:
            return
        code, reason = self._socket.closed_as
        if ended is not None:
            code, reason = ended.code, ended.failure.code or ""
            await self._deliver({"type": "websocket.send", "text": error_event(ended.failure).decode()})
        elif code not in (1000, 1001) and not 3000 <= code < 5000:
            code, reason = CLOSE_ERROR, "upstream_closed"
        reason = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        await self._deliver({"type": "websocket.close", "code": code, "reason": reason})

    async def _from_caller(self) -> None:
        """What the caller sends, one message after the other."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._gone = True
                return
            text = message.get("text")
            data: bytes = text.encode() if text is not None else message.get("bytes") or b""
            if len(data) > MESSAGE_BYTES_MAX:
                text = f"A message is larger than {MESSAGE_BYTES_MAX} bytes."
                raise Ended(own_failure(413, "message_too_large", text), CLOSE_TOO_BIG)
            try:
                event = read_client(data)
                if event.transcription is not None:
                    self._turns.transcribe_by(event.transcription)
            except BadRequest as error:
                failure = Failure(
                    status=400, kind="invalid_request_error", code=error.code, message=str(error), param=error.param
                )
                await self._deliver({"type": "websocket.send", "text": error_event(failure).decode()})
                continue
            try:
                await self._socket.send(event.message.decode())
            except UpstreamError:
                return

    async def _from_foundry(self) -> None:
        """What Foundry sends; an answer is paid before the caller hears that it is done."""
        while (message := await self._socket.receive()) is not None:
            data = message.encode() if isinstance(message, str) else message
            event = read_server(data)
            await self._note(event.type, event.model, data)
            await self._deliver({"type": "websocket.send", "text": data.decode(errors="replace")})
            if event.type == "response.done":
                await self._go_on()

    async def _note(self, kind: str, model: str | None, data: bytes) -> None:
        turns = self._turns
        if model is not None and model != turns.deployment.name:
            turns.served = model
        if kind == "response.created":
            self._answering += 1
        elif kind == "response.done":
            self._answering = max(0, self._answering - 1)
            await turns.answered(data)
        elif kind == "conversation.item.input_audio_transcription.completed":
            try:
                await turns.transcribed(data)
            except Refused as refused:
                raise Ended(failure_of_refusal(refused)) from refused

    async def _go_on(self) -> None:
        """Hold money for what is said next."""
        try:
            await self._turns.next()
        except Refused as refused:
            raise Ended(failure_of_refusal(refused)) from refused
        except BadRequest as error:
            raise Ended(own_failure(400, error.code, str(error))) from error

    async def _watch(self) -> None:
        """End the session of a key that may no longer call, and renew the hold of a silent one."""
        while True:
            await asyncio.sleep(CHECK_S)
            turns = self._turns
            try:
                turns.caller()
            except Refused as refused:
                raise Ended(failure_of_refusal(refused)) from refused
            if self._draining.is_set() and not self._answering:
                text = "This instance is stopping; connect again."
                raise Ended(own_failure(503, "draining", text), CLOSE_GOING)
            age_s = turns.age_s()
            if age_s > RENEW_S and not self._answering:
                await self._go_on()
            elif age_s > ANSWER_MAX_S:
                raise Ended(own_failure(504, "upstream_timeout", "The answer took too long."), CLOSE_ERROR)

    async def _deliver(self, message: dict[str, Any]) -> None:
        if self._gone:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._send(message)
        except (TimeoutError, OSError, RuntimeError) as error:
            log.info("a caller of a realtime session stopped reading: %r", error)
            self._gone = True


def error_event(failure: Failure) -> bytes:
    """An error as realtime clients read it."""
    error = {"type": failure.kind, "code": failure.code, "message": failure.message, "param": failure.param}
    return msgspec.json.encode({"type": "error", "event_id": "event_tundish", "error": {**error, "event_id": None}})


def _credential(scope: Any) -> tuple[str, list[str]]:
    """The key of a handshake, and the subprotocols that may be agreed on. Raises Refused."""
    in_list, others = key_of_subprotocols([str(item) for item in scope.get("subprotocols") or ()])
    secret = bearer(dict(scope["headers"])) or in_list
    if secret is None:
        raise Refused(
            401,
            "missing_api_key",
            "No API key was sent. Send a virtual key as 'Authorization: Bearer sk-…' or 'api-key: sk-…'.",
            kind="authentication_error",
        )
    return secret, others


def _model_of(scope: Any) -> str:
    """The public model name in the query: `model`, or Azure's `deployment`. Raises BadRequest."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    names = query.get("model") or query.get("deployment")
    if not names or len(names) != 1:
        raise BadRequest("Name the model in the query: ?model=…", code="missing_model", param="model")
    return names[0]


def _after(usage: Usage) -> Usage:
    """What the answer after one of this size is likely to use: all of it again as prompt, and as much once more."""
    text = usage.input + usage.cached + usage.output
    sound = usage.audio_input + usage.audio_cached + usage.audio_output
    return Usage(
        input=text + FIRST_TURN.input,
        audio_input=sound + FIRST_TURN.audio_input,
        image_input=usage.image_input + usage.image_cached,
        output=max(usage.output, FIRST_TURN.output),
        audio_output=max(usage.audio_output, FIRST_TURN.audio_output),
    )
