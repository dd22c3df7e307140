"""Looks after work that Foundry does for calls that are over (batches, responses handed over), and charges it.

Every proxy watches all of it, by a mirror of the bucket `pending`. A look begins with a claim (an update of the entry
at its revision) that ends by itself, so that one proxy at a time asks Foundry; should two do so all the same, `booking`
charges once. What is to be charged is read from Foundry alone, so any proxy can do it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Container
from datetime import timedelta
from typing import Literal

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.errors.failures import failure_of_event
from services.proxy.domain.meters import content_tokens, read_reply, trusted
from services.proxy.domain.objects.places import Places
from services.proxy.domain.objects.records import (
    TERMINAL_BATCH,
    TERMINAL_RESPONSE,
    Pending,
    record_of,
)
from services.proxy.domain.objects.seal import Opened, is_upstream_id
from services.proxy.domain.objects.tally import Group, Tally
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.prices import PriceBook
from services.proxy.stored.booking import Booking, Contended, Ended
from services.proxy.stored.foundry import Foundry, lines_of
from services.proxy.stored.records import Records, Shelf
from services.proxy.upstream import UpstreamError
from shared.clock import Clock
from shared.errors import BusError, Conflict
from shared.events import Outcome
from shared.ids import AccountId
from shared.pricing import PriceRow, Rates, Usage

log = logging.getLogger(__name__)

TICK_S = 1.0
LOOKS_AT_ONCE = 8
CLAIM_MS = 120_000
"""How long a claim lasts: longer than a look, which reads a file at most."""
NEXT_FIRST_MS, NEXT_MAX_MS = 1_000, 60_000
GIVE_UP_AFTER = timedelta(days=35)
"""When Foundry has said nothing for so long, the estimate is charged, marked `lost`."""
CREATING_FOR = timedelta(hours=1)
"""How long a batch is looked for of which it is not known whether Foundry has taken it on."""
CHARGED_COUNTS_MS = 10_000
"""How long charged work still counts as under way: the ledger has it by then, and what proxies held idle went back."""
LIST_PAGES_MAX = 10
LOOK_MAX_S = 100.0
BATCH_OUTCOMES: dict[str, Outcome] = {"completed": "ok", "cancelled": "client_gone", "expired": "timeout"}

Look = Literal["settled", "running", "failed"]


class _Batch(msgspec.Struct):
    id: str = ""
    status: str = ""
    input_file_id: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int = 0


class _BatchList(msgspec.Struct):
    data: list[msgspec.Raw] = []
    has_more: bool = False
    last_id: str | None = None


class Watcher:
    """All work that is still to be charged, and the looks at it."""

    def __init__(
        self,
        *,
        foundry: Foundry,
        places: Places,
        shelf: Shelf,
        records: Records,
        booking: Booking,
        book: PriceBook,
        clock: Clock,
        name: str,
    ) -> None:
        self._foundry = foundry
        self._places = places
        self._shelf = shelf
        self._records = records
        self._booking = booking
        self._book = book
        self._clock = clock
        self._name = name
        self._entries: dict[str, Pending] = {}
        self._charged: dict[str, tuple[int, Pending]] = {}
        self._soon = asyncio.Event()
        self._hurried: set[str] = set()
        self.booked = 0
        """Pieces of work that were charged here."""

    # ---- what the mirror brings ----------------------------------------------------------------------

    def load(self, content: dict[str, bytes]) -> None:
        """The whole bucket."""
        self._entries.clear()
        for key, value in content.items():
            self.put(key, value)

    def put(self, key: str, value: bytes) -> None:
        """An entry is new, or another."""
        if key.startswith("slot."):
            return
        pending = msgspec.json.decode(value, type=Pending)
        if pending.state == "booked":
            self._end(key)
        else:
            self._entries[key] = pending

    def remove(self, key: str) -> None:
        """An entry is gone."""
        self._entries.pop(key, None)

    # ---- what others ask -----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Pieces of work that are still to be charged."""
        return len(self._entries)

    def of(self, owner: str) -> list[tuple[str, Pending]]:
        """An owner's work that is still to be charged."""
        return [(key, pending) for key, pending in self._entries.items() if pending.owner == owner]

    def under_way(self, accounts: Container[AccountId]) -> int:
        """What the work that is still to be charged to any of these accounts is likely to cost, in nano-dollars; what
        has just been charged counts too, until the accounts are sure to show it.

        A response that its process still follows has a hold of its own.
        """
        self._forget()
        return sum(
            pending.estimate_nusd
            for pending in (*self._entries.values(), *(pending for _, pending in self._charged.values()))
            if pending.state != "running" and any(budget.account in accounts for budget in pending.budgets)
        )

    def find(self, deployment: str, upstream: str) -> tuple[str, Pending] | None:
        """The work that an object stands for, if it is still to be charged."""
        for key, pending in self._entries.items():
            if pending.upstream == upstream and pending.deployment == deployment:
                return key, pending
        return None

    def hurry(self, deployment: str, upstream: str) -> None:
        """Somebody has seen that an object is done: look at it next."""
        found = self.find(deployment, upstream)
        if found is not None:
            self._hurried.add(found[0])
            self._soon.set()

    # ---- looks ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at what is due, for ever."""
        while True:
            await self.tick()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._soon.wait()
            except TimeoutError:
                pass
            self._soon.clear()

    async def tick(self) -> None:
        """Look at what is due, a few at a time."""
        self._forget()
        due = self._due()
        for at in range(0, len(due), LOOKS_AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for key in due[at : at + LOOKS_AT_ONCE]:
                    group.create_task(self._look_safely(key))

    async def look(self, key: str) -> Look:
        """Look at one piece of work now, whoever has claimed it: charged, not done yet, or not to be found out."""
        return await self._look_safely(key, force=True)

    def _end(self, key: str) -> None:
        pending = self._entries.pop(key, None)
        if pending is not None:
            self._charged[key] = (self._now_ms() + CHARGED_COUNTS_MS, pending)

    def _forget(self) -> None:
        """Let go of what was charged long enough ago; the oldest stands first."""
        now_ms = self._now_ms()
        while self._charged:
            key = next(iter(self._charged))
            if self._charged[key][0] > now_ms:
                return
            del self._charged[key]

    def _due(self) -> list[str]:
        now_ms = self._now_ms()
        hurried, self._hurried = self._hurried, set[str]()
        found: list[tuple[int, str]] = []
        for key, pending in self._entries.items():
            if pending.state == "running" or (pending.claimed_ms > now_ms and pending.claimed_by != self._name):
                continue
            if key in hurried or pending.next_ms <= now_ms:
                found.append((pending.next_ms, key))
        return [key for _, key in sorted(found)]

    async def _look_safely(self, key: str, *, force: bool = False) -> Look:
        try:
            async with asyncio.timeout(LOOK_MAX_S):
                return await self._look(key, force=force)
        except (UpstreamError, BusError, Contended, TimeoutError, ValueError) as error:
            log.info("work %s could not be charged yet (%s); it is looked at again", key, error)
            return "failed"
        except Exception:
            log.exception("a look at work %s failed", key)
            return "failed"

    async def _look(self, key: str, *, force: bool) -> Look:
        entry = await self._shelf.get(key)
        if entry is None:
            self._entries.pop(key, None)
            return "settled"
        pending = msgspec.json.decode(entry.value, type=Pending)
        if pending.state == "booked":
            self.put(key, entry.value)
            return "settled"
        now_ms = self._now_ms()
        if pending.state == "running":
            return "running"
        if not force and pending.claimed_ms > now_ms and pending.claimed_by != self._name:
            return "running"
        claimed = self._claimed(pending, now_ms)
        try:
            revision = await self._shelf.update(key, msgspec.json.encode(claimed), entry.revision)
        except Conflict:
            return "running"
        self._entries[key] = claimed
        looked, again = await self._advance(key, claimed)
        if looked == "settled":
            self._end(key)
            self.booked += 1
            return looked
        released = msgspec.structs.replace(again, claimed_by="", claimed_ms=0)
        try:
            await self._shelf.update(key, msgspec.json.encode(released), revision)
            self._entries[key] = released
        except Conflict:
            log.debug("work %s was claimed by another meanwhile", key)
        return looked

    def _claimed(self, pending: Pending, now_ms: int) -> Pending:
        wait_ms = min(NEXT_MAX_MS, NEXT_FIRST_MS + 500 * pending.looks)
        return msgspec.structs.replace(
            pending,
            claimed_by=self._name,
            claimed_ms=now_ms + CLAIM_MS,
            next_ms=now_ms + wait_ms,
            looks=pending.looks + 1,
        )

    async def _advance(self, key: str, pending: Pending) -> tuple[Look, Pending]:
        """Find out how far the work is, and charge it when it is done; the entry as it is to stand otherwise."""
        now = self._clock.now()
        age = now - (pending.started_at or now)
        deployment = self._places.find(pending.deployment)
        if age > GIVE_UP_AFTER:
            log.error("work %s is charged at its estimate: nothing could be found out for %s", key, age)
            return await self._lost(key, pending), pending
        if deployment is None:
            log.error("work %s waits for deployment %s, which is not configured", key, pending.deployment)
            return "failed", pending
        if pending.state == "creating":
            return await self._adopt(key, pending, deployment, age)
        if pending.kind == "response":
            return await self._response(key, pending, deployment), pending
        return await self._batch(key, pending, deployment), pending

    async def _lost(self, key: str, pending: Pending) -> Look:
        nusd = 0 if pending.state == "creating" else pending.estimate_nusd
        await self._booking.book(key, Ended([], "unknown", nusd))
        return "settled"

    # ---- responses -----------------------------------------------------------------------------------

    async def _response(self, key: str, pending: Pending, deployment: Deployment) -> Look:
        answer = await self._foundry.fetch(deployment, Endpoint.RESPONSES, pending.upstream, call_id=pending.call_id)
        if answer.status == 404:
            return await self._lost(key, pending)
        if not answer.good:
            return "failed"
        status = msgspec.json.decode(answer.body, type=_Batch).status
        if status not in TERMINAL_RESPONSE:
            return "running"
        wire = Endpoint.RESPONSES
        asked = Asked(model=pending.model, endpoint=wire, tier=pending.tier)
        reading = trusted(read_reply(wire, answer.body, "application/json", asked), wire, deployment.name)
        row = self._row(deployment, reading.served_model)
        groups: list[Group] = []
        failure = failure_of_event(answer.body) if status == "failed" else None
        filtered = failure is not None and failure.filtered
        if reading.usage is not None:
            groups.append(_group(row, reading.served_model, reading.usage, measured=True))
        elif status != "failed" or filtered:
            guess = Usage(input=pending.prompt_tokens, output=0 if filtered else content_tokens(wire, answer.body))
            groups.append(_group(row, reading.served_model, guess, measured=False))
        ok: Outcome = "ok" if status in ("completed", "incomplete") else "filtered" if filtered else "upstream_error"
        return await self._charge(key, pending, deployment, groups, "client_gone" if status == "cancelled" else ok)

    # ---- batches -------------------------------------------------------------------------------------

    async def _batch(self, key: str, pending: Pending, deployment: Deployment) -> Look:
        answer = await self._foundry.fetch(deployment, Endpoint.BATCHES, pending.upstream, call_id=pending.call_id)
        if answer.status == 404:
            return await self._lost(key, pending)
        if not answer.good:
            return "failed"
        batch = msgspec.json.decode(answer.body, type=_Batch)
        opened = Opened(kind="batch", deployment=pending.deployment, upstream=pending.upstream)
        await self._records.said(pending.owner, opened, answer.body)
        if batch.status not in TERMINAL_BATCH:
            return "running"
        tally = Tally(
            wire=Endpoint(pending.endpoint),
            model=pending.model,
            deployment=deployment.name,
            prompt_tokens=pending.prompt_tokens,
            row_of=lambda served: self._row(deployment, served),
        )
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id and not await self._add_up(tally, deployment, file_id):
                log.error("the output of batch work %s is gone; it is charged at its estimate", key)
                return await self._lost(key, pending)
        outcome = BATCH_OUTCOMES.get(batch.status, "ok" if tally.lines else "upstream_error")
        return await self._charge(key, pending, deployment, tally.groups(), outcome)

    async def _add_up(self, tally: Tally, deployment: Deployment, file_id: str) -> bool:
        """Count the lines of a file; False when Foundry has it no more. Raises UpstreamError."""
        if not is_upstream_id(file_id):
            raise ValueError(f"{file_id[:40]!r} is no id of a file")
        async with self._foundry.open(deployment, Endpoint.FILES, file_id, "content") as reply:
            if reply.status == 404:
                return False
            if reply.status != 200:
                raise UpstreamError("reset", f"Foundry answers {reply.status} for the output of a batch")
            async for line in lines_of(reply):
                tally.add(line)
        return True

    async def _adopt(self, key: str, pending: Pending, deployment: Deployment, age: timedelta) -> tuple[Look, Pending]:
        """Find the batch that a request may have made whose answer never came."""
        async for raw in self._listed(deployment):
            batch = msgspec.json.decode(raw, type=_Batch)
            opened = Opened(kind="batch", deployment=pending.deployment, upstream=batch.id)
            began = pending.started_at
            if batch.input_file_id != pending.input or began is None or batch.created_at < began.timestamp() - 60:
                continue
            if self.find(pending.deployment, batch.id) or await self._records.get(pending.owner, opened):
                continue
            await self._records.create(pending.owner, opened, record_of(pending, raw, batch.id))
            log.info("work %s was found in Foundry as a batch", key)
            return "running", msgspec.structs.replace(pending, state="open", upstream=batch.id, next_ms=0)
        if age > CREATING_FOR:
            await self._shelf.delete(key)
            return "settled", pending
        return "running", pending

    async def _listed(self, deployment: Deployment) -> AsyncGenerator[bytes]:
        """The batches of a resource, newest first, as far as LIST_PAGES_MAX pages go."""
        query = {"limit": "100"}
        for _ in range(LIST_PAGES_MAX):
            answer = await self._foundry.fetch(deployment, Endpoint.BATCHES, query=query)
            if not answer.good:
                raise UpstreamError("reset", f"Foundry answers {answer.status} for the list of batches")
            page = msgspec.json.decode(answer.body, type=_BatchList)
            for raw in page.data:
                yield bytes(raw)
            if not page.has_more or not page.last_id:
                return
            query["after"] = page.last_id

    async def _charge(
        self, key: str, pending: Pending, deployment: Deployment, groups: list[Group], outcome: Outcome
    ) -> Look:
        """Charge what was used; what has no price is charged at the estimate at least, and never at nothing."""
        lost_nusd: int | None = None
        for group in groups:
            unknown = group.row.missing(group.usage)
            if unknown is not None and not deployment.unpriced:
                log.error("no price for %s is known for model %s, which has used it", unknown, group.row.model)
                lost_nusd = max(sum(one.cost_nusd for one in groups), pending.estimate_nusd)
        await self._booking.book(key, Ended(groups, outcome, lost_nusd))
        return "settled"

    # ---- prices --------------------------------------------------------------------------------------

    def _row(self, deployment: Deployment, served: str | None) -> PriceRow:
        """The price of the model that served; a price set in the configuration stands."""
        row = deployment.row
        if row is None:
            return PriceRow(model=deployment.model, rates=Rates(), source="unpriced")
        if served is None or deployment.fixed_price:
            return row
        known = deployment.served.get(served)
        if known is None:
            known = self._book.served(served, row)
            deployment.seen(served, known)
        return known

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1_000)


def _group(row: PriceRow, served: str | None, usage: Usage, *, measured: bool) -> Group:
    return Group(row=row, served_model=served, measured="reported" if measured else "estimated", usage=usage, lines=1)
