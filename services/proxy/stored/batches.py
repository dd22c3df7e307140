"""Batches: begun when the budget covers what the whole file is likely to cost, charged by a watcher at their end."""

import contextlib

import msgspec

from services.proxy.body import read_body
from services.proxy.domain.admission import Refused, check_model
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.holds.refusal import Wanted, budget_refused, ledger_unreachable
from services.proxy.domain.objects.lines import endpoint_of
from services.proxy.domain.objects.opening import open_request
from services.proxy.domain.objects.records import TERMINAL_BATCH, ObjectRecord, Pending, record_of
from services.proxy.domain.objects.seal import Kind, Opened, is_upstream_id
from services.proxy.domain.paths import Endpoint
from services.proxy.holds import Denied, Hold, Unreachable
from services.proxy.stored.desk import Desk, Visit, page, unwritable, visible
from services.proxy.stored.foundry import Answer
from services.proxy.stored.records import Shelf
from services.proxy.stored.watcher import Watcher
from services.proxy.treasury import Treasury
from services.proxy.upstream import UpstreamError
from shared.errors import BusError
from shared.ids import CallId
from shared.pricing import PriceRow, Rates
from shared.topology import pending_kv

SHOWN: dict[str, Kind] = {"id": "batch", "input_file_id": "file", "output_file_id": "file", "error_file_id": "file"}
LISTED_DEFAULT, LISTED_MAX = 20, 100
FIELDS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")
BODY_BYTES_MAX = 64 * 1024
HOLDS_MAX = 20
"""How often a batch asks for money anew because others have begun meanwhile."""
CREATING_MS = 30_000
"""How long Foundry has for its answer to a new batch before the watcher looks for it."""


class _New(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str = ""


class _Batch(msgspec.Struct):
    id: str = ""
    status: str = ""


class Batches:
    """The routes of batches."""

    def __init__(self, desk: Desk, watcher: Watcher, shelf: Shelf, treasury: Treasury) -> None:
        self._desk = desk
        self._watcher = watcher
        self._shelf = shelf
        self._treasury = treasury

    async def create(self, visit: Visit) -> None:
        """Begin a batch. The work is written down before Foundry hears of it, and the record before the caller does."""
        visit.only()
        body = await read_body(visit.headers, visit.receive, BODY_BYTES_MAX, self._desk.patience)
        new = _read(body)
        unsealed = open_request(Endpoint.BATCHES, body, self._desk.seal, visit.owner)
        input_file = self._desk.seal.must_open("file", visit.owner, new.input_file_id)
        try:
            record = await self._desk.records.get(visit.owner, input_file)
        except BusError as error:
            raise unwritable(error) from error
        deployment = self._checked(visit, new, input_file, record)
        assert record is not None
        hold = await self._afford(visit, record)
        try:
            await self._begin(visit, unsealed.body, record, deployment)
        finally:
            if hold is not None:
                self._treasury.settle(hold, 0)

    async def list(self, visit: Visit) -> None:
        """The caller's own batches, from our records."""
        await self._desk.good(visit, await page(self._desk, visit, "batch", SHOWN, LISTED_DEFAULT, LISTED_MAX))

    async def get(self, visit: Visit) -> None:
        """How far a batch is."""
        visit.only()
        await self._ask(visit)

    async def cancel(self, visit: Visit) -> None:
        """Cancel a batch; what it has done is charged."""
        visit.only()
        await self._ask(visit, "cancel", method="POST")

    # ---- inside --------------------------------------------------------------------------------------

    async def _ask(self, visit: Visit, *segments: str, method: str = "GET") -> None:
        opened, deployment = self._desk.open(visit, "batch")
        answer = await self._desk.foundry.fetch(
            deployment, Endpoint.BATCHES, opened.upstream, *segments, method=method, call_id=visit.call_id
        )
        if not answer.good:
            await self._desk.bad(visit, answer, deployment)
            return
        if msgspec.json.decode(answer.body, type=_Batch).status in TERMINAL_BATCH:
            self._watcher.hurry(opened.deployment, opened.upstream)
        with contextlib.suppress(BusError):
            await self._desk.records.said(visit.owner, opened, answer.body)
        await self._desk.good(visit, visible(self._desk, visit, answer.body, deployment.id, SHOWN), answer)

    def _checked(self, visit: Visit, new: _New, opened: Opened, record: ObjectRecord | None) -> Deployment:
        """The deployment that will run a file. Raises Refused, BadRequest."""
        if record is None or record.purpose != "batch":
            raise BadRequest(
                "The input file must be uploaded through this gateway with the purpose 'batch'.",
                code="invalid_input_file",
                param="input_file_id",
            )
        deployment = self._desk.places.holder(opened)
        check_model(visit.caller, record.model, record.model in self._desk.places)
        if str(endpoint_of(new.endpoint)) != record.endpoint:
            raise BadRequest(
                f"'endpoint' is not the operation of the file's lines, which is {record.endpoint}.", param="endpoint"
            )
        if visit.caller.lineage(record.model).strict:
            raise Refused(
                400,
                "unbounded_cost",
                "A strict budget takes no batches: what a batch costs is known when it is done, hours after its money"
                " could be held.",
                headers=((b"x-should-retry", b"false"),),
            )
        return deployment

    async def _afford(self, visit: Visit, record: ObjectRecord) -> Hold | None:
        """Hold what the whole file is likely to cost, and all work under way that the same budgets will be charged
        for, for the moment of its beginning. Raises Refused."""
        lineage = visit.caller.lineage(record.model)
        if not lineage.accounts:
            return None
        for _ in range(HOLDS_MAX):
            before = self._watcher.under_way(lineage.accounts)
            hold = await self._hold(visit, record, before)
            if self._watcher.under_way(lineage.accounts) <= before:
                return hold
            self._treasury.settle(hold, 0)  # others have begun while this one waited for its money
        text = "Other batches on the same budget begin all the time. Try again shortly."
        raise Refused(429, "budget_reserved", text, kind="budget_reserved", headers=((b"retry-after", b"2"),))

    async def _hold(self, visit: Visit, record: ObjectRecord, before: int) -> Hold:
        """Money for a file, beside `before` for the work under way. Raises Refused."""
        lineage = visit.caller.lineage(record.model)
        amount = before + record.estimate_nusd
        hold = self._treasury.try_hold(visit.caller, lineage, amount, amount)
        if hold is not None:
            return hold
        try:
            return await self._treasury.hold(visit.caller, lineage, amount, amount)
        except Denied as denied:
            row = PriceRow(model=record.model, rates=Rates())
            wanted = Wanted(held_nusd=amount, prompt_tokens=0, row=row, choices=0, under_way_nusd=before)
            raise budget_refused(
                denied.verdict, denied.refusal, wanted, exceeded_status=self._desk.exceeded_status
            ) from denied
        except Unreachable as unreachable:
            raise ledger_unreachable() from unreachable

    async def _begin(self, visit: Visit, body: bytes, record: ObjectRecord, deployment: Deployment) -> None:
        """Write the work down, tell Foundry, write down what it says, answer."""
        pending = self._pending(visit, record)
        key = pending_kv("batch", visit.call_id)
        try:
            revision = await self._shelf.create(key, msgspec.json.encode(pending))
        except BusError as error:
            raise unwritable(error) from error
        self._watcher.put(key, msgspec.json.encode(pending))  # counts for the next batch before the mirror says so
        try:
            answer = await self._desk.foundry.fetch(
                deployment, Endpoint.BATCHES, method="POST", body=body, call_id=visit.call_id
            )
        except UpstreamError as error:
            if error.kind == "connect":
                await self._drop(key)
            raise  # Foundry may have it: the watcher finds out
        if not answer.good:
            if 400 <= answer.status < 500:
                await self._drop(key)
            await self._desk.bad(visit, answer, deployment, stored=False)
            return
        await self._begun(visit, answer, pending, key, revision)
        await self._desk.good(visit, visible(self._desk, visit, answer.body, deployment.id, SHOWN), answer)

    async def _begun(self, visit: Visit, answer: Answer, pending: Pending, key: str, revision: int) -> None:
        """Foundry has taken a batch on. Raises Refused when that cannot be written down; the watcher does then."""
        batch = msgspec.json.decode(answer.body, type=_Batch)
        if not is_upstream_id(batch.id):
            raise UpstreamError("reset", "Foundry's answer to a batch names none")
        opened = Opened(kind="batch", deployment=pending.deployment, upstream=batch.id)
        begun = msgspec.structs.replace(pending, state="open", upstream=batch.id, next_ms=0)
        try:
            await self._desk.records.create(visit.owner, opened, record_of(pending, answer.body, batch.id))
            await self._shelf.update(key, msgspec.json.encode(begun), revision)
        except BusError as error:
            raise unwritable(error) from error

    async def _drop(self, key: str) -> None:
        """Foundry has not taken the work on; an entry that stays is dropped by the watcher."""
        with contextlib.suppress(BusError):
            await self._shelf.delete(key)
            self._watcher.remove(key)

    def _pending(self, visit: Visit, record: ObjectRecord) -> Pending:
        caller = visit.caller
        return Pending(
            kind="batch",
            state="creating",
            owner=visit.owner,
            deployment=record.deployment,
            model=record.model,
            endpoint=record.endpoint,
            call_id=CallId(visit.call_id),
            key_id=caller.key_id,
            org_id=caller.org_id,
            team_id=caller.team_id,
            partition=caller.partition,
            budgets=tuple(budget for budget in caller.budgets if budget.covers(record.model)),
            started_at=self._desk.clock.now(),
            input=record.upstream,
            estimate_nusd=record.estimate_nusd,
            prompt_tokens=record.prompt_tokens,
            lines=record.lines,
            secret_version=caller.version,
            tags=caller.tags,
            next_ms=int(self._desk.clock.now().timestamp() * 1_000) + CREATING_MS,
        )


def _read(body: bytes) -> _New:
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        new = msgspec.json.decode(body, type=_New)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"The body is no request for a batch: {error}.") from error
    for name in fields:
        if name not in FIELDS:
            raise BadRequest(f"The field '{name[:60]}' is not served in batches.", param=name[:60])
    return new
