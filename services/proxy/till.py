"""Where a call's money is written down: opened before Foundry hears of it, settled before the caller has it all."""

from time import perf_counter_ns

import msgspec

from services.proxy.catalog import PriceRegister
from services.proxy.domain.admission import Caller
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.meter import Reading, estimated
from services.proxy.domain.prices import PriceBook
from services.proxy.holds import Hold
from services.proxy.journal import Journal, OpenRecord
from services.proxy.publisher import Publisher
from services.proxy.treasury import Treasury
from shared.clock import Clock
from shared.events import AccountWindow, Measured, Outcome, UsageRecorded, encode
from shared.ids import CallId, EventId, InstanceId, uuid7
from shared.pricing import PriceRow, Usage, price
from shared.windows import window_at

OUTPUT_UNBOUNDED = 10**9
SERVED_MAX = 10_000
"""Pairs of deployment and served model whose price is remembered."""


class Call:
    """One call on its way: who, what, the money held for it, and when things happened."""

    __slots__ = (
        "body_bytes",
        "caller",
        "deployment",
        "endpoint",
        "first_byte_ns",
        "held_nusd",
        "hold",
        "model",
        "opened",
        "output_max",
        "region",
        "settled",
        "started_ns",
        "upstream_from_ns",
        "upstream_until_ns",
    )

    def __init__(self, caller: Caller, endpoint: str, model: str, deployment: Deployment, started_ns: int) -> None:
        self.caller = caller
        self.endpoint = endpoint
        self.model = model
        self.deployment = deployment
        self.started_ns = started_ns
        self.body_bytes = 0
        self.output_max = OUTPUT_UNBOUNDED
        self.held_nusd = 0
        self.hold: Hold | None = None
        self.opened: OpenRecord | None = None
        self.region: str | None = None
        self.settled = False
        self.first_byte_ns = 0
        self.upstream_from_ns = 0
        self.upstream_until_ns = 0


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
    ) -> None:
        self._journal = journal
        self._publisher = publisher
        self._treasury = treasury
        self._register = register
        self._book = book
        self._clock = clock
        self._instance = instance
        self._source = f"proxy/{instance}"
        self._served: dict[tuple[str, str], PriceRow] = {}
        self.cost_nusd = 0
        self.overdraft_nusd = 0

    def open(self, call: Call, row: PriceRow) -> None:
        """Write that a call begins. Raises JournalError; the caller of this gives the hold back then."""
        now = self._clock.now()
        caller = call.caller
        windows = call.hold.windows if call.hold is not None else ()
        if caller.watched:
            windows += tuple(
                AccountWindow(budget.account, window_at(budget.window, now).index) for budget in caller.watched
            )
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
            serial=call.hold.wallet.serial if call.hold is not None else None,
            price_id=price_id,
            price=None if known else row,
        )
        self._journal.opened(record)
        call.opened = record

    def settle_reading(self, call: Call, reading: Reading, reply_tokens: int, *, outcome: Outcome, status: int) -> int:
        """A reply has come: charge what it says, or a marked estimate when it does not say. The cost.

        `reply_tokens` is what its content looks like; the caller's own cap bounds it.
        """
        row = self._row(call.deployment, reading.served_model)
        if reading.usage is not None:
            usage, measured = reading.usage, "reported"
        else:
            usage, measured = estimated(call.body_bytes, min(reply_tokens, call.output_max)), "estimated"
        return self._settle(call, usage, reading, row, price(usage, row), measured, outcome, status)

    def settle_free(self, call: Call, *, outcome: Outcome, status: int) -> None:
        """Foundry refused, or never got the request: nothing is charged."""
        self._settle(call, Usage(), Reading(), None, 0, "reported", outcome, status)

    def settle_lost(self, call: Call, *, outcome: Outcome, status: int) -> None:
        """Foundry may have served a reply that never arrived: the hold is charged, marked `lost`."""
        self._settle(call, Usage(), Reading(), None, call.held_nusd, "lost", outcome, status)

    def release(self, call: Call) -> None:
        """The call does not begin after all."""
        if call.hold is not None:
            self._treasury.settle(call.hold, 0)
            call.hold = None

    def _row(self, deployment: Deployment, served: str | None) -> PriceRow:
        """The price of the model that served; a price set in the configuration stands."""
        row = deployment.row
        assert row is not None
        if served is None or deployment.fixed_price:
            return row
        key = (deployment.name, served)
        known = self._served.get(key)
        if known is None:
            known = self._book.exact(served) or self._book.by_prefix(served) or row
            deployment.seen(known)
            if len(self._served) < SERVED_MAX:
                self._served[key] = known
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
        record = call.opened
        assert record is not None
        call.settled = True
        now_ns = perf_counter_ns()
        price_id, price_row = record.price_id, record.price
        if row is not None:
            price_id, known = self._register.name(row)
            price_row = None if known else row
        duration_ns = now_ns - call.started_ns
        upstream_ns = (call.upstream_until_ns or now_ns) - call.upstream_from_ns if call.upstream_from_ns else 0
        n = self._publisher.next_n(record.partition)
        event = UsageRecorded(
            id=EventId(uuid7()),
            at=self._clock.now(),
            source=self._source,
            call_id=record.call_id,
            attempt=1,
            instance=self._instance,
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
        )
        encoded = encode(event)
        segment = self._journal.used(record.call_id, encoded)
        self._publisher.offer(record.partition, n, encoded, segment)
        if call.hold is not None:
            self._treasury.settle(call.hold, cost)
        self.cost_nusd += cost
        self.overdraft_nusd += max(0, cost - record.held_nusd) if record.serial is not None else 0
        return cost


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
    )
