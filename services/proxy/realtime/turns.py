"""The money of a realtime session: each answer in it is a call of its own, with its own hold and its own bill.

Foundry may answer whenever somebody speaks, so money is held before anybody does: the *spare* calls. An answer that
begins takes one of them; one that begins all the same without any is charged late, with nothing held for it.
"""

import asyncio
import logging
from time import perf_counter_ns

import msgspec

from services.proxy.call import Call
from services.proxy.domain.admission import Caller, Refused, check_model, check_route
from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.choice import Models
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.holds.estimate import Need
from services.proxy.domain.holds.prepare import Prepared
from services.proxy.domain.meters.reading import NOTHING, Reading
from services.proxy.domain.meters.realtime import read_response_done, read_transcription
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.realtime import ServerEvent
from services.proxy.domain.refused import FINAL, no_price
from services.proxy.inference import Inference
from services.proxy.journal import JournalError
from services.proxy.till import Till
from shared.events import Outcome
from shared.pricing import PriceRow, Usage, dearest, price

log = logging.getLogger(__name__)

FIRST_TURN = Usage(input=1_000, audio_input=2_000, output=300, audio_output=1_500)
"""What the first answer is likely to use: half a minute each way. Later ones by the one before."""
HEARD_TOKENS = Usage(input=1_000, audio_input=2_000, output=500)
HEARD_TIME = Usage(milliseconds=60_000)
"""What a turn of the caller's is likely to use when it is transcribed, by tokens or by the time."""
ANSWERS_MAX = 8
"""Answers that a session may have asked for and not heard of yet."""
HEARD_MAX = 1_000
"""Turns of the caller's whose transcription is waited for."""


class Turns:
    """The calls of one session. `secret` is looked at again and again, since a key may be revoked."""

    def __init__(
        self,
        *,
        inference: Inference,
        till: Till,
        models: Models,
        book: PriceBook,
        route: Route,
        secret: str,
        model: str,
        deployment: Deployment,
        way: Way,
        transcribes: bool,
        overlap: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self._inference = inference
        self._till = till
        self._models = models
        self._book = book
        self._route = route
        self._secret = secret
        self._transcribes = transcribes
        self._likely: Usage | None = None
        self._holding = asyncio.Lock()
        self._spares: list[Call] = []
        self._running: dict[str, Call] = {}
        self._rows: dict[str, PriceRow] = {}
        self._transcriber: str | None = deployment.name if transcribes else None
        self._heard: dict[str, str | None] = {}
        self._served: str | None = None
        self._caller: Caller | None = None
        self.model = model
        self.deployment = deployment
        self.way = way
        self.overlap = overlap
        self.call_id = ""
        """The session's first call's id, by which Foundry knows the connection."""
        self.asked = 0
        """Answers that the caller has asked for and of which Foundry has not said anything yet."""

    # ---- whether the session may go on -------------------------------------------------------------------

    def caller(self) -> Caller:
        """The caller as of now. Raises Refused."""
        caller = self._inference.caller_of(self._secret)
        check_route(caller, self._route)
        check_model(caller, self.model, known=True)
        self._caller = caller
        return caller

    @property
    def answering(self) -> bool:
        """Whether an answer is under way."""
        return bool(self._running)

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way that will cost anything."""
        return not (self._running or self.asked or self._heard)

    def longest_s(self) -> float:
        """How long the longest call with an answer in it has been open."""
        oldest = min((call.upstream_from_ns for call in self._running.values()), default=0)
        return (perf_counter_ns() - oldest) / 1e9 if oldest else 0.0

    # ---- money before anybody speaks ---------------------------------------------------------------------

    async def ready(self) -> None:
        """Hold money for the answers that may begin: at least one, and all that were asked for. Raises Refused."""
        async with self._holding:
            while len(self._spares) < max(1, self.asked):
                call = await self._begin(self.caller(), self._next(), self._row())
                self._spares.append(call)
                self.call_id = self.call_id or call.call_id

    async def renew(self, after_s: float) -> None:
        """Hold anew what has been held for longer than this: no call is open for ever. Raises Refused.

        The old hold goes first, so that a budget that is almost used up pays for the new one.
        """
        now_ns = perf_counter_ns()
        old = [call for call in self._spares if now_ns - call.upstream_from_ns > after_s * 1e9]
        if old:
            self._spares = [call for call in self._spares if call not in old]
            for call in old:
                self._till.settle_free(call, outcome="ok", status=200)
            await self.ready()

    def refused_by_foundry(self, status: int) -> None:
        """Foundry has not opened the session: nothing is charged."""
        for call in self._spares:
            self._till.settle_free(call, outcome="upstream_error", status=status)
        self._spares = []

    def close(self) -> None:
        """The session is over: what is under way is charged at its hold, the rest is free."""
        under_way = [*self._running.values(), *self._spares[: self.asked]]
        for call in under_way:
            self._lost(call)
        for call in self._spares[self.asked :]:
            self._till.settle_free(call, outcome="ok", status=200)
        self._running, self._spares, self.asked = {}, [], 0

    def _lost(self, call: Call) -> None:
        """An answer whose end is not heard of may have used all that was held, or what such answers use."""
        self._till.settle_reading(call, NOTHING, 0, outcome="unknown", status=200, whole=False)

    # ---- what happens in the session ---------------------------------------------------------------------

    def settings(self, event: ServerEvent) -> None:
        """Foundry has said by which models it answers and transcribes from now on."""
        if event.model is not None and event.model != self.deployment.name:
            self._served = event.model
        self._transcriber = event.transcription

    def answers(self, event: ServerEvent) -> None:
        """An answer begins."""
        self.asked = max(0, self.asked - 1)
        spare = self._spares.pop(0) if self._spares else self._late(self._next(), self._row())
        if spare is None:
            return
        before = self._running.pop(event.response_id, None)
        if before is not None:  # two answers by one name: Foundry never does
            self._lost(before)
        self._running[event.response_id] = spare

    def done(self, event: ServerEvent, data: bytes) -> None:
        """An answer is done: pay for it."""
        reading = read_response_done(data)
        call = self._running.pop(event.response_id, None) or self._late(self._next(), self._row())
        if call is None:
            return
        if reading.served_model is None and self._served is not None:
            reading = msgspec.structs.replace(reading, served_model=self._served)
        call.upstream_until_ns = perf_counter_ns()
        usage = reading.usage
        outcome: Outcome = "upstream_error" if event.failed else "ok"
        if usage is None and event.failed:
            self._till.settle_free(call, outcome=outcome, status=200)
            return
        self._till.settle_reading(call, reading, 0, outcome=outcome, status=200, whole=usage is not None)
        if usage is not None:
            self._likely = _after(usage)

    def hears(self, event: ServerEvent) -> None:
        """A turn of the caller's has ended: if it is transcribed, that is paid for when it is done."""
        if self._transcriber is not None and len(self._heard) < HEARD_MAX:
            self._heard[event.item_id] = self._transcriber

    def not_heard(self, event: ServerEvent) -> None:
        """A turn was not transcribed."""
        self._heard.pop(event.item_id, None)

    async def transcribed(self, event: ServerEvent, data: bytes) -> None:
        """What was said has been transcribed, by a model of its own: pay for that. Raises Refused, having paid."""
        name = self._heard.pop(event.item_id, self._transcriber)
        row = self._row_of_transcriber(name)
        reading = read_transcription(data)
        likely = reading.usage or _heard_by(row)
        try:
            call = await self._begin(self.caller(), likely, row)
        except BaseException:
            self._pay(self._late(likely, row), reading, row)
            raise
        self._pay(call, reading, row)

    def _pay(self, call: Call | None, reading: Reading, row: PriceRow) -> None:
        if call is None:
            return
        if reading.usage is None and call.held_nusd:
            self._till.settle_lost(call, outcome="ok", status=200)
        elif reading.usage is None:
            self._till.settle_reading(call, reading, 0, outcome="ok", status=200)
        else:
            self._till.settle_priced(call, reading, row, outcome="ok", status=200)

    # ---- models that transcribe --------------------------------------------------------------------------

    def transcriber(self, name: str) -> str:
        """The name by which Foundry knows a model that the caller wants its words transcribed by: a model of this
        gateway on the same resource that the key may use, or one that Foundry has there for everybody.

        Raises Refused for models that the key may not use, BadRequest for those whose price is not known.
        """
        caller = self.caller()
        name = caller.resolved(name)
        found = self._named(name)
        if found:
            chosen = next((one for one in found if caller.may_use(one.model)), found[0])
            check_model(caller, chosen.model, known=True)
            name, row = chosen.name, chosen.row
        else:
            row = self._book.exact(name)
        if row is None or (row.rates.input is None and row.rates.milliseconds is None):
            raise BadRequest(
                f"No price is known for transcription by '{name[:100]}', so it is not offered in this session.",
                code="price_unknown",
                param="session.audio.input.transcription.model",
            )
        self._rows[name] = row
        return name

    def _named(self, name: str) -> list[Deployment]:
        """The deployments on this resource that a name may mean, public names first."""
        here = [
            one
            for public in self._models.names()
            for one in self._models.of(public)
            if one.base == self.deployment.base and name in (public, one.name)
        ]
        return sorted(here, key=lambda one: one.model != name)

    def _row_of_transcriber(self, name: str | None) -> PriceRow:
        if name is None or (self._transcribes and name == self.deployment.name):
            return self._row()
        return self._rows.get(name) or self._book.exact(name) or self._row()

    # ---- calls -------------------------------------------------------------------------------------------

    def _next(self) -> Usage:
        """What the next answer is likely to use."""
        row = self._row()
        if self._transcribes:
            return _heard_by(row)
        if row.rates.input is None and row.rates.milliseconds is not None:
            return HEARD_TIME
        return self._likely or FIRST_TURN

    async def _begin(self, caller: Caller, likely: Usage, row: PriceRow) -> Call:
        """A call with its money held. Raises Refused."""
        call = self._call(caller, likely, row)
        if call.lineage.strict:
            raise Refused(
                400,
                "unbounded_cost",
                "This key has a strict budget, which admits only calls whose highest cost is known; what is said in a"
                " realtime session is not known before.",
                param="model",
                headers=FINAL,
            )
        if not self.deployment.unpriced and (name := row.missing(likely)) is not None:
            raise no_price(self.deployment, Endpoint.REALTIME, name)
        await self._inference.begin(call)
        call.upstream_from_ns = perf_counter_ns()
        return call

    def _late(self, likely: Usage, row: PriceRow) -> Call | None:
        """A call that Foundry has begun already, and for which no money could be held; None when it cannot be written
        down, which the log says."""
        assert self._caller is not None
        call = self._call(self._caller, likely, row)
        try:
            self._till.open(call, late=True)
        except JournalError as error:
            log.error("an answer in a realtime session of key %s is not charged: %s", self._caller.key_id, error)
            return None
        call.upstream_from_ns = perf_counter_ns()
        return call

    def _call(self, caller: Caller, likely: Usage, row: PriceRow) -> Call:
        amount = price(likely, row)
        return Call(
            caller=caller,
            lineage=caller.lineage(self.model),
            route=self._route,
            asked=Asked(model=self.model, endpoint=Endpoint.REALTIME),
            deployment=self.deployment,
            way=self.way,
            prepared=Prepared(
                url=self.way.url,
                body=b"",
                row=row,
                need=Need(prompt=likely.prompt, output=likely.completion, amount=amount, most=amount),
                guess=likely.prompt,
                output_max=likely.completion,
                usage=likely,
            ),
            started_ns=perf_counter_ns(),
        )

    def _row(self) -> PriceRow:
        """The price by which money is held. Raises Refused when none is known."""
        row = self.deployment.hold_row
        if row is None:
            raise no_price(self.deployment, Endpoint.REALTIME)
        if self._served is None or self.deployment.fixed_price:
            return row
        return dearest(row, self._book.served(self._served, row))


def _heard_by(row: PriceRow) -> Usage:
    """What a turn of the caller's is likely to use by the units that a model is billed in."""
    return HEARD_TIME if row.rates.input is None and row.rates.milliseconds is not None else HEARD_TOKENS


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
        milliseconds=usage.milliseconds,
    )
