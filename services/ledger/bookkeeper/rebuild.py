"""Folding the whole log again: to prove that the books are what the log says, or to write them anew.

The books are compared at the position where the replay ended, whatever was stored meanwhile.
"""

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Sequence

from services.ledger.bookkeeper import store_rebuild, store_views
from services.ledger.bookkeeper.catalog import Catalog
from services.ledger.bookkeeper.consumer import USAGE_SUBJECTS, Consumer
from services.ledger.bookkeeper.meters import Meters
from services.ledger.bookkeeper.schemas import RebuildJob
from services.ledger.bookkeeper.store import Database
from services.ledger.bookkeeper.store_rebuild import Number
from services.ledger.bookkeeper.store_rows import USAGE_COLUMNS, Row, kept, text
from services.ledger.bookkeeper.stream import last_message
from services.ledger.domain.books import Difference, Replay, compare, repriced, subtract
from services.ledger.domain.usage import read_usage
from shared.bus import Bus, Tail
from shared.errors import ApiError, TundishError
from shared.events import AnyUsage, UsageCorrected, UsageRecorded
from shared.ids import uuid7
from shared.pricing import Usage
from shared.tasks import Supervisor
from shared.topology import LEDGER

log = logging.getLogger(__name__)

JOBS_KEPT = 16
DIFFERENCES_MAX = 1_000
BOOKS_WAIT_S = 90.0
"""How long the books may take to hold what the log held when the job began."""
EVENTS_MAX = 2_000
"""Most events compared at once."""


class Rebuilds:
    """Rebuild jobs of this process, one at a time; the last ones can be asked for."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        consumer: Consumer,
        catalog: Catalog,
        meters: Meters,
        supervisor: Supervisor,
        *,
        created: str,
    ) -> None:
        self._bus = bus
        self._database = database
        self._consumer = consumer
        self._catalog = catalog
        self._meters = meters
        self._supervisor = supervisor
        self._created = created
        self._jobs: OrderedDict[str, RebuildJob] = OrderedDict()

    def start(self, *, check: bool) -> str:
        """Begin a job; its id. Raises ApiError 409 while another one runs."""
        for name, job in self._jobs.items():
            if job.state == "running":
                raise ApiError(409, "rebuild_running", f"The rebuild {name} is running; wait for its end.")
        name = uuid7()
        job = self._jobs[name] = RebuildJob(check=check, differences=[])
        while len(self._jobs) > JOBS_KEPT:
            self._jobs.popitem(last=False)
        self._supervisor.start(f"rebuild {name}", self._run(job))
        return name

    def get(self, name: str) -> RebuildJob:
        """A job by id. Raises ApiError 404."""
        job = self._jobs.get(name)
        if job is None:
            raise ApiError(404, "not_found", "There is no such rebuild; a restart of the ledger forgets its jobs.")
        return job

    async def _run(self, job: RebuildJob) -> None:
        try:
            await self._rebuild(job)
            job.equal = not job.differences
            job.state = "done"
            if job.differences:
                self._meters.differences.add(len(job.differences))
                log.error("the books differ from the log in %d figures", len(job.differences))
        except TundishError as error:
            job.error = str(error)
            job.state = "failed"
            with contextlib.suppress(TundishError):  # the database may be what failed; the next rebuild clears up then
                await store_rebuild.drop_shadow(self._database)
        finally:
            if job.state == "running":
                job.error = "the job was interrupted; see the ledger's log"
                job.state = "failed"

    async def _rebuild(self, job: RebuildJob) -> None:
        last = (await last_message(self._bus, LEDGER, USAGE_SUBJECTS)).seq
        job.total = (await store_views.counts(self._database)).events
        if not await self._consumer.reach(last, BOOKS_WAIT_S):
            raise TundishError(
                f"the books have not caught up with the log within {BOOKS_WAIT_S:g} s"
                f" ({self._consumer.problem or 'they are behind'}): try again later"
            )
        if not job.check:
            await store_rebuild.empty_shadow(self._database)
        replay = Replay()
        if last:
            await self._replay(job, replay, last)
        if job.check:
            shown, later = await store_rebuild.books_at(self._database, last)
            subtract(shown, later)
            self._found(job, compare(shown, replay.books))
        else:
            shown, rebuilt = await store_rebuild.replace(self._database, last)
            self._found(job, compare(shown, rebuilt))

    async def _replay(self, job: RebuildJob, replay: Replay, last: int) -> None:
        """Fold the log up to a sequence, comparing event by event."""
        fresh: list[tuple[int, AnyUsage]] = []
        async for batch in Tail(self._bus, LEDGER, USAGE_SUBJECTS, created=self._created).batches():
            for message in batch.messages:
                if message.seq <= last:
                    events, _ = read_usage(message.data)
                    fresh += [(message.seq, event) for event in replay.take(events)]
                if len(fresh) >= EVENTS_MAX:
                    await self._take(job, fresh)
                    fresh = []
            if batch.caught_up or batch.messages[-1].seq >= last:
                await self._take(job, fresh)
                return

    async def _take(self, job: RebuildJob, fresh: list[tuple[int, AnyUsage]]) -> None:
        calls = [(seq, event) for seq, event in fresh if isinstance(event, UsageRecorded)]
        corrections = [(seq, event) for seq, event in fresh if isinstance(event, UsageCorrected)]
        job.events += len(calls)
        job.corrections += len(corrections)
        if calls:
            books = await store_rebuild.stored_calls(self._database, [_number(event) for _, event in calls])
            costs = {number: cost for number, (cost, _) in books.items()}
            self._found(job, _differing("event", [(event, event.cost_nusd) for _, event in calls], costs))
            usages = {number: usage for number, (_, usage) in books.items()}
            self._found(job, _used_otherwise([event for _, event in calls], usages))
        if corrections:
            stored = await store_rebuild.stored_deltas(self._database, [_number(event) for _, event in corrections])
            self._found(job, _differing("correction", [(event, _delta(event)) for _, event in corrections], stored))
        if not job.check:
            rows = [(seq, Row(event, repriced(event, self._catalog.row_of(event)))) for seq, event in calls]
            await store_rebuild.fill_shadow(self._database, rows, corrections)

    def _found(self, job: RebuildJob, differences: list[Difference]) -> None:
        job.differences += differences[: DIFFERENCES_MAX - len(job.differences)]


def _number(event: AnyUsage) -> Number:
    return text(event.instance), event.partition, event.n


def _delta(event: UsageCorrected) -> int:
    return sum(change.delta_nusd for change in event.changes)


def _differing(what: str, found: Sequence[tuple[AnyUsage, int]], stored: dict[Number, int]) -> list[Difference]:
    """Events whose figure in the books is not that of the log; those that the books lack count as 0 there."""
    return [
        Difference(what=what, id=event.id, books_nusd=stored.get(_number(event), 0), log_nusd=amount)
        for event, amount in found
        if stored.get(_number(event)) != amount
    ]


def _used_otherwise(events: Sequence[UsageRecorded], stored: dict[Number, Usage]) -> list[Difference]:
    """What calls used, class by class, where the books do not say what the log says.

    Calls that the books lack are left to `_differing`. A text that differs counts as 0 in the books, 1 in the log.
    """
    differences: list[Difference] = []
    for event in events:
        ours, theirs = stored.get(_number(event)), kept(event.usage)
        if ours is None or ours == theirs:
            continue
        for field, column in USAGE_COLUMNS.items():
            here, there = getattr(ours, field), getattr(theirs, field)
            if here != there:
                amounts = (here, there) if isinstance(there, int) else (0, 1)
                differences.append(
                    Difference(what=f"event {column} count", id=event.id, books_nusd=amounts[0], log_nusd=amounts[1])
                )
    return differences
