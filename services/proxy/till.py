"""Where a call's money is written down: opened before Foundry hears of it, settled before the caller has it all."""

import logging
from time import perf_counter_ns
from typing import Literal

import msgspec

from services.proxy.call import Books, Call
from services.proxy.catalog import PriceRegister
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.facts import FactBook
from services.proxy.domain.holds.units import billed_so
from services.proxy.domain.meters.reading import Reading
from services.proxy.domain.money.figures import Figures
from services.proxy.domain.prices import PriceBook
from services.proxy.journal import Journal, OpenRecord
from services.proxy.publisher import Publisher
from services.proxy.treasury import Treasury
from shared.clock import Clock
from shared.events import AccountWindow, Measured, Outcome, UsageRecorded, encode
from shared.ids import CallId, EventId, InstanceId, uuid7
from shared.pricing import PriceRow, Usage, estimate, price
from shared.telemetry import Counter, Metrics
from shared.windows import window_at

log = logging.getLogger(__name__)

OverdraftKind = Literal["prompt", "output", "price"]


class Till:
    """Opens and settles calls: journal, publisher and wallet always move together."""

    def __init__(
        self,
        *,
        journal: Journal,
        publisher: Publisher,
        treasury: Treasury,
        register: PriceRegister,
        book: PriceBook,
        clock: Clock,
        instance: InstanceId,
        facts: FactBook | None = None,
    ) -> None:
        self._facts = facts
        self._books = Books(journal, publisher, instance)
        self._treasury = treasury
        self._register = register
        self._book = book
        self._clock = clock
        self._by_kind: Counter | None = None
        self._strict: Counter | None = None
        self._unpriced: Counter | None = None
        self.cost_nusd = 0
        self.overdrafts: dict[OverdraftKind, int] = {"prompt": 0, "output": 0, "price": 0}
        """Nano-dollars beyond the holds, by what was larger than thought."""
        self.strict_overdrafts = 0
        """Calls of strict budgets that cost more than their proven bound: each is a defect or a fact that is wrong."""

    @property
    def overdraft_nusd(self) -> int:
        """What calls have cost beyond what was held for them."""
        return sum(self.overdrafts.values())

    def declare(self, metrics: Metrics) -> None:
        """Show what costs more than was held for it."""
        self._by_kind = metrics.counter(
            "tundish_overdraft_nusd_total", "Cost beyond what was held, by what was larger than thought.", "kind"
        )
        for kind, nusd in self.overdrafts.items():
            self._by_kind.add(nusd, kind)
        self._strict = metrics.counter(
            "tundish_strict_overdraft_total", "Calls of strict budgets that cost more than their proven bound."
        )
        self._strict.add(self.strict_overdrafts)
        self._unpriced = metrics.counter(
            "tundish_unpriced_total", "Calls that used what no price is known for, by what it was.", "unit"
        )

    @property
    def full(self) -> bool:
        """Whether too many finished calls wait for the log: no new call is admitted then."""
        return self._books.publisher.full

    def renew(self, books: Books) -> None:
        """Go on under a new instance's name: calls that are open are settled in the books they were opened in."""
        self._books = books

    def open(self, call: Call, *, late: bool = False) -> None:
        """Write that a call begins. Raises JournalError; the caller of this gives the hold back then.

        `late`: Foundry has begun it already and nothing is held for it; it is charged all the same.
        """
        now = self._clock.now()
        caller = call.caller
        windows = call.hold.windows if call.hold is not None else ()
        if late:
            call.held_nusd = 0
            windows = tuple(
                AccountWindow(budget.account, window_at(budget.window, now).index)
                for budget in caller.budgets
                if budget.limited and budget.covers(call.model)
            )
        if call.lineage.watched:
            windows += tuple(
                AccountWindow(budget.account, window_at(budget.window, now).index) for budget in call.lineage.watched
            )
        row = call.deployment.row or call.prepared.row
        price_id, known = self._register.name(row)
        record = OpenRecord(
            call_id=CallId(uuid7()),
            partition=caller.partition,
            held_nusd=call.held_nusd,
            windows=windows,
            key_id=caller.key_id,
            org_id=caller.org_id,
            team_id=caller.team_id,
            endpoint=call.endpoint,
            model=call.model,
            deployment=call.deployment.name,
            started_at=now,
            serial=call.hold.serial if call.hold is not None else None,
            price_id=price_id,
            price=None if known else row,
            secret_version=caller.version,
            tags=caller.tags,
        )
        books = self._books
        books.journal.opened(record)
        call.books = books
        call.opened = record

    def settle_reading(
        self, call: Call, reading: Reading, reply_tokens: int, *, outcome: Outcome, status: int, whole: bool = True
    ) -> int:
        """A reply has come: charge what it says, or what is known when it does not say. The cost.

        `reply_tokens` is what its content looks like. A `whole` reply without usage is charged by that estimate, and so
        is one whose pieces were counted but whose model is billed by tokens. One
        that broke off, or whose rest nobody waited for, may have used all that was held, and a strict budget knows
        nothing but its bound: these are charged at the hold at least, marked `lost`. What a stream has said before its
        end (`reading.partial`) takes the place of what was likely, and is charged in any case.
        """
        row = self._row(call.deployment, reading.served_model)
        if reading.usage is not None and not (reading.counted and _no_measure(reading.usage, call, row)):
            return self.settle_priced(call, reading, row, outcome=outcome, status=status)
        prepared = call.prepared
        usage = prepared.likely
        if call.asked.chat:
            usage = msgspec.structs.replace(usage, output=min(reply_tokens, prepared.output_max))
        cost, told = price(usage, row), 0
        if reading.partial is not None:
            told = price(reading.partial, row)
            usage, cost = reading.partial, told if whole else max(cost, told)
        if call.lineage.strict:
            return self._settle(call, usage, reading, row, max(told, call.held_nusd), "lost", outcome, status)
        if not whole:
            return self._settle(call, usage, reading, row, max(cost, call.held_nusd), "lost", outcome, status)
        return self._settle(call, usage, reading, row, cost, "estimated", outcome, status)

    def settle_priced(self, call: Call, reading: Reading, row: PriceRow, *, outcome: Outcome, status: int) -> int:
        """A reply has said what it used: charge that by this row. The cost.

        What has no price was not foreseen; it is charged at the hold at least, and never at nothing.
        """
        usage = reading.usage
        assert usage is not None
        cost = price(usage, row)
        unknown = row.missing(usage)
        if unknown is None or call.deployment.unpriced:
            return self._settle(call, usage, reading, row, cost, "reported", outcome, status)
        log.error(
            "no price for %s is known for model %s of deployment %s, which has used it: the call is charged at what was"
            " held for it; set the price in model_info",
            unknown,
            row.model,
            call.deployment.name,
        )
        if self._unpriced is not None:
            self._unpriced.add(1, unknown)
        return self._settle(call, usage, reading, row, max(cost, call.held_nusd), "lost", outcome, status)

    def settle_filtered(self, call: Call, *, outcome: Outcome, status: int) -> None:
        """Foundry read the prompt and refused to answer it: the prompt is billed, and its size is an estimate."""
        prepared = call.prepared
        usage = msgspec.structs.replace(prepared.likely, output=0, audio_output=0, image_output=0, images=0)
        row = self._row(call.deployment, None)
        if call.lineage.strict:
            cost = min(call.held_nusd, estimate(prepared.need.prompt, 0, prepared.row))
            self._settle(call, usage, Reading(), row, cost, "lost", outcome, status)
        else:
            self._settle(call, usage, Reading(), row, price(usage, row), "estimated", outcome, status)

    def figures(self, call: Call) -> Figures:
        """What the call's key has spent and what is left, as far as it is known here."""
        return self._treasury.figures(call.hold)

    def settle_free(self, call: Call, *, outcome: Outcome, status: int) -> None:
        """Foundry refused, or never got the request: nothing is charged."""
        self._settle(call, Usage(), Reading(), None, 0, "reported", outcome, status)

    def settle_lost(self, call: Call, *, outcome: Outcome, status: int) -> None:
        """Foundry may have served a reply that never arrived: the hold is charged, marked `lost`."""
        self._settle(call, Usage(), Reading(), None, call.held_nusd, "lost", outcome, status)

    def release(self, call: Call) -> None:
        """The call does not begin after all: whatever it was given goes back, and it counts under no rate limit."""
        if call.hold is not None:
            self._treasury.settle(call.hold, 0)
            call.hold = None
        if call.ticket is not None:
            call.ticket.take_back()

    def _row(self, deployment: Deployment, served: str | None) -> PriceRow:
        """The price of the model that served; a price set in the configuration stands."""
        row = deployment.row
        assert row is not None
        if served is not None and deployment.guessed and self._facts is not None:
            deployment.learn(served, self._facts)
        if served is None or deployment.fixed_price:
            return row
        known = deployment.served.get(served)
        if known is None:
            known = self._book.served(served, row)
            deployment.seen(served, known)
        return known

    def _settle(
        self,
        call: Call,
        usage: Usage,
        reading: Reading,
        row: PriceRow | None,
        cost: int,
        measured: Measured,
        outcome: Outcome,
        status: int,
    ) -> int:
        record, books = call.opened, call.books
        assert record is not None
        assert books is not None
        call.settled = True
        now_ns = perf_counter_ns()
        price_id, price_row = record.price_id, record.price
        if row is not None:
            price_id, known = self._register.name(row)
            price_row = None if known else row
        duration_ns = now_ns - call.started_ns
        upstream_ns = (call.upstream_until_ns or now_ns) - call.upstream_from_ns if call.upstream_from_ns else 0
        n = books.publisher.next_n(record.partition)
        event = UsageRecorded(
            id=EventId(uuid7()),
            at=self._clock.now(),
            source=f"proxy/{books.instance}",
            call_id=record.call_id,
            attempt=1,
            instance=books.instance,
            partition=record.partition,
            n=n,
            windows=record.windows,
            serial=record.serial,
            key_id=record.key_id,
            team_id=record.team_id,
            org_id=record.org_id,
            cost_nusd=cost,
            held_nusd=record.held_nusd,
            measured=measured,
            outcome=outcome,
            endpoint=record.endpoint,
            model=record.model,
            deployment=record.deployment,
            served_model=reading.served_model,
            region=call.region,
            status=status,
            started_at=record.started_at,
            duration_ms=duration_ns // 1_000_000,
            first_byte_ms=(call.first_byte_ns - call.started_ns) // 1_000_000 if call.first_byte_ns else None,
            overhead_us=(duration_ns - upstream_ns) // 1_000,
            usage=usage,
            raw=msgspec.Raw(reading.raw),
            price_id=price_id,
            price=price_row,
            tags=record.tags,
            secret_version=record.secret_version,
        )
        encoded = encode(event)
        segment = books.journal.used(record.call_id, encoded)
        books.publisher.offer(record.partition, n, encoded, segment)
        if call.hold is not None:
            self._treasury.settle(call.hold, cost)
        if call.ticket is not None:
            call.ticket.settle(call.prepared.tokens if measured == "lost" else usage.prompt + usage.completion)
        self.cost_nusd += cost
        if cost > record.held_nusd and record.serial is not None:
            self._overdrawn(call, usage, cost - record.held_nusd)
        return cost

    def _overdrawn(self, call: Call, usage: Usage, beyond: int) -> None:
        """Count what a call cost beyond its hold, by the first thing that was larger than thought."""
        prepared = call.prepared
        kind: OverdraftKind = "prompt"
        if price(usage, prepared.row) <= call.held_nusd:
            kind = "price"
        elif usage.completion > prepared.need.output:
            kind = "output"
        self.overdrafts[kind] += beyond
        if self._by_kind is not None:
            self._by_kind.add(beyond, kind)
        if call.lineage.strict:
            self.strict_overdrafts += 1
            if self._strict is not None:
                self._strict.add(1)
            log.error(
                "a call of a strict budget cost %d nano-dollars more than its proven bound of %d: model %s, deployment"
                " %s, more %s than known (%s); correct the model's facts in model_info",
                beyond,
                call.held_nusd,
                call.model,
                call.deployment.name,
                kind,
                usage,
            )


def _no_measure(counted: Usage, call: Call, row: PriceRow) -> bool:
    """Whether what was counted is not what the model is billed by, and what the call is likely to use is."""
    return not billed_so(counted, row) and row.missing(call.prepared.likely) is None


def lost_event(record: OpenRecord, *, instance: InstanceId, n: int, source: str, clock: Clock) -> UsageRecorded:
    """The event of a call that had begun when its process died: charged at the hold, marked `lost`."""
    now = clock.now()
    return UsageRecorded(
        id=EventId(record.call_id),
        at=now,
        source=source,
        call_id=record.call_id,
        attempt=1,
        instance=instance,
        partition=record.partition,
        n=n,
        windows=record.windows,
        serial=record.serial,
        key_id=record.key_id,
        team_id=record.team_id,
        org_id=record.org_id,
        cost_nusd=record.held_nusd,
        held_nusd=record.held_nusd,
        measured="lost",
        outcome="unknown",
        endpoint=record.endpoint,
        model=record.model,
        deployment=record.deployment,
        status=0,
        started_at=record.started_at,
        duration_ms=max(0, int((now - record.started_at).total_seconds() * 1000)),
        price_id=record.price_id,
        price=record.price,
        tags=record.tags,
        secret_version=record.secret_version,
    )
