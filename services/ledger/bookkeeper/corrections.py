"""Corrections of spend: ordered by an operator, stored with a number, published until the log has them.

The books change when the correction comes back through the log, like those of every other reader. Sending again is
harmless: folds take a number once. Numbers count under a name of this database's own, so a database that is made
anew begins at 1 under a new name.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.ledger.bookkeeper import store_corrections
from services.ledger.bookkeeper.consumer import Consumer
from services.ledger.bookkeeper.policies import Policies
from services.ledger.bookkeeper.schemas import Corrected, CorrectedAccount, CorrectSpend
from services.ledger.bookkeeper.store import Database
from services.ledger.bookkeeper.store_corrections import OutboxFull, Target
from services.ledger.bookkeeper.store_rows import event_uuid
from services.ledger.bookkeeper.stream import last_message
from services.ledger.domain.directory import Directory
from services.ledger.domain.usage import BALANCE_MAX, SMALL_MAX, read_usage
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import ApiError, BusError, StoreUnavailable
from shared.events import Change, UsageCorrected, usage_batch
from shared.ids import EventId, InstanceId, short_id, uuid7
from shared.policy import ScopeKind
from shared.topology import CORRECTIONS, LEDGER, partition_of, usage_subject
from shared.windows import window_at

log = logging.getLogger(__name__)

ACCOUNTS_MAX = 100
"""Most account-windows in one order."""
REASON_CHARS_MAX = 1_000
DRAIN_MAX = 100
"""Most corrections read from the outbox at once."""
LOOK_S = 1.0
"""How often the outbox is looked at for what another process, or an earlier start, left there."""
APPLY_WAIT_S = 5.0
"""How long an order waits to see itself in the books; it is safe in the outbox long before."""
CLOCK_SLACK = timedelta(minutes=1)
"""A service whose clock is ahead may name a window that has not begun here."""


class Corrections:
    """Takes orders, and empties the outbox into the log."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        policies: Policies,
        consumer: Consumer,
        clock: Clock,
        *,
        partitions: int,
    ) -> None:
        self._bus = bus
        self._database = database
        self._policies = policies
        self._consumer = consumer
        self._clock = clock
        self._partitions = partitions
        self._sending = asyncio.Lock()
        self._ready = False

    @property
    def problem(self) -> str | None:
        """What keeps orders from being taken, None if nothing does."""
        return None if self._ready else "looking at what the log has"

    async def run(self) -> None:
        """Empty the outbox until something is in doubt. Raises StoreUnavailable, BusError."""
        if not self._ready:
            await self._learn_numbers()
            self._ready = True
        while True:
            try:
                await self._send()
            except StoreUnavailable:
                self._ready = False  # who knows which copy of the database comes back
                raise
            await asyncio.sleep(LOOK_S)

    async def order(self, wanted: CorrectSpend, actor: str) -> Corrected:
        """Correct spend; the figures before and after. Raises ApiError, StoreUnavailable."""
        partition = self._check(wanted)
        if not self._ready:
            raise ApiError(503, "starting", "The ledger is still looking at its corrections; try again shortly.")

        def make(instance: InstanceId, n: int, changes: tuple[Change, ...]) -> UsageCorrected:
            return UsageCorrected(
                id=EventId(uuid7()),
                at=self._clock.now(),
                source=f"ledger-bookkeeper/{instance}",
                instance=instance,
                partition=partition,
                n=n,
                scope_kind=wanted.scope_kind,
                scope_id=wanted.scope_id,
                changes=changes,
                actor=actor,
                reason=wanted.reason,
            )

        targets = [Target(account=one.account, index=one.index, to_nusd=one.to_nusd) for one in wanted.accounts]
        try:
            changes, event = await store_corrections.order(
                self._database, partition, InstanceId(short_id("books")), targets, make
            )
        except OutboxFull as error:
            raise ApiError(
                503, "unavailable", "Too many corrections wait for the log; try again when the message bus is back."
            ) from error
        if event is not None:
            log.info("%s corrects the spend of %s %s: %s", actor, wanted.scope_kind, wanted.scope_id, event.id)
        return Corrected(
            corrections=corrected(changes),
            event_id=None if event is None else event.id,
            applied=event is None or await self._applied(event_uuid(event.id)),
        )

    async def _applied(self, event_id: UUID) -> bool:
        """Whether the log and the books have a correction, within a bound; what is left happens by itself."""
        try:
            async with asyncio.timeout(APPLY_WAIT_S):
                await self._send()
                seq = await store_corrections.place(self._database, event_id)
                return seq is None or await self._consumer.reach(seq, APPLY_WAIT_S)
        except TimeoutError:
            return False
        except (BusError, StoreUnavailable) as error:
            log.warning("a correction waits for the log: %s", error)
            return False

    async def _send(self) -> None:
        """Publish what waits, one at a time in the order of the numbers. Raises BusError, StoreUnavailable."""
        async with self._sending:
            while waiting := await store_corrections.unsent(self._database, DRAIN_MAX):
                for one in waiting:
                    subject = usage_subject(one.partition, CORRECTIONS)
                    ack = await self._bus.publish(subject, usage_batch([one.body]), msg_id=str(one.event_id))
                    await store_corrections.sent(self._database, one.event_id, ack.seq)

    async def _learn_numbers(self) -> None:
        """See what the log has, in case this database is an older copy, restored: no number is given twice.

        Where the last correction is not ours we cannot know which numbers of ours came before: a new name is safe.
        """
        for partition, instance in await store_corrections.correctors(self._database):
            last = await last_message(self._bus, LEDGER, usage_subject(partition, CORRECTIONS))
            events = read_usage(last.data)[0] if last.data else []
            if not events:
                continue
            if all(event.instance == instance for event in events):
                highest = max(event.n for event in events)
                await store_corrections.raise_number(self._database, partition, instance, highest)
            else:
                await store_corrections.rename(self._database, partition, instance, InstanceId(short_id("books")))

    def _check(self, wanted: CorrectSpend) -> int:
        """The partition of an order's scope. Raises ApiError saying what is wrong with the order."""
        directory = self._policies.directory
        org_id = _org_of(directory, wanted.scope_kind, wanted.scope_id)
        if org_id is None:
            raise ApiError(
                404, "not_found", f"The ledger knows no {wanted.scope_kind} {wanted.scope_id!r}.", param="scope_id"
            )
        if not 1 <= len(wanted.accounts) <= ACCOUNTS_MAX:
            raise ApiError(400, "bad_request", f"'accounts' must name 1 to {ACCOUNTS_MAX} windows.", param="accounts")
        if len({(one.account, one.index) for one in wanted.accounts}) < len(wanted.accounts):
            raise ApiError(400, "bad_request", "'accounts' names a window twice.", param="accounts")
        if len(wanted.reason) > REASON_CHARS_MAX:
            raise ApiError(
                400, "bad_request", f"'reason' is longer than {REASON_CHARS_MAX} characters.", param="reason"
            )
        for place, one in enumerate(wanted.accounts):
            self._check_account(directory, wanted, place)
            if not 0 <= one.to_nusd <= BALANCE_MAX:
                raise ApiError(
                    400,
                    "bad_request",
                    f"'to_nusd' must be 0 or more (nano-dollars, at most {BALANCE_MAX}): spend is never negative.",
                    param=f"accounts[{place}].to_nusd",
                )
        return partition_of(org_id, self._partitions)

    def _check_account(self, directory: Directory, wanted: CorrectSpend, place: int) -> None:
        one = wanted.accounts[place]
        budget = directory.budgets.get(one.account)
        if budget is None or (budget.scope_kind, budget.scope_id) != (wanted.scope_kind, wanted.scope_id):
            raise ApiError(
                404,
                "not_found",
                f"{one.account!r} is no account of the {wanted.scope_kind} {wanted.scope_id!r}.",
                param=f"accounts[{place}].account",
            )
        newest = window_at(budget.window, self._clock.now() + CLOCK_SLACK).index
        if not 0 <= one.index <= min(newest, SMALL_MAX):
            raise ApiError(
                400,
                "bad_request",
                f"The account {one.account!r} has windows 0 to {newest} so far, not {one.index}.",
                param=f"accounts[{place}].index",
            )


def _org_of(directory: Directory, kind: ScopeKind, scope_id: str) -> str | None:
    """The organization of a scope, None for one that auth has never named."""
    match kind:
        case "key":
            key = directory.keys.get(scope_id)
            return None if key is None else key.org_id
        case "team":
            team = directory.teams.get(scope_id)
            return None if team is None else team.org_id
        case "org":
            return scope_id if scope_id in directory.orgs else None


def corrected(changes: Sequence[Change]) -> list[CorrectedAccount]:
    """Changes as the API shows them."""
    return [
        CorrectedAccount(
            account=change.window.account,
            index=change.window.index,
            before_nusd=change.before_nusd,
            after_nusd=change.before_nusd + change.delta_nusd,
        )
        for change in changes
    ]
