"""The routes of what Foundry stores: responses, files and batches, each for its owner alone."""

import asyncio
from typing import Any

import msgspec

from services.proxy.answers import Receive, Send
from services.proxy.body import Patience
from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller, Refused
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.objects.places import Places
from services.proxy.domain.objects.records import TERMINAL_RESPONSE
from services.proxy.domain.objects.seal import Opened, Seal, not_found
from services.proxy.domain.objects.sealing import SealingTransform
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.prices import PriceBook
from services.proxy.relay.complaints import Complaints
from services.proxy.stored.background import Background, handed_over
from services.proxy.stored.batches import Batches
from services.proxy.stored.booking import Booking
from services.proxy.stored.desk import Desk, Visit, number
from services.proxy.stored.files import Files
from services.proxy.stored.foundry import Foundry
from services.proxy.stored.records import BucketShelf, Records, Shelf
from services.proxy.stored.watcher import Watcher
from services.proxy.till import Till
from services.proxy.treasury import Treasury
from services.proxy.upstream import Upstream, UpstreamError
from shared.bus import Bus, Mirror
from shared.clock import Clock
from shared.ids import uuid7
from shared.tasks import Supervisor
from shared.topology import OBJECTS_BUCKET, PENDING_BUCKET

ITEMS_MAX = 100


class _Status(msgspec.Struct):
    status: str = ""


class StoredObjects:
    """Stored objects of all callers, and the work on them that goes on after calls. `run` looks after that work."""

    def __init__(
        self,
        *,
        bus: Bus,
        upstream: Upstream,
        places: Places,
        seal: Seal,
        directory: Directory,
        treasury: Treasury,
        till: Till,
        book: PriceBook,
        clock: Clock,
        tasks: Supervisor,
        patience: Patience,
        body_bytes_max: int,
        default_output_tokens: int,
        exceeded_status: int,
        objects: Shelf | None = None,
        pending: Shelf | None = None,
    ) -> None:
        self.seal = seal
        self.places = places
        self._directory = directory
        foundry = Foundry(upstream)
        self._pending = pending or BucketShelf(bus, PENDING_BUCKET)
        records = Records(objects or BucketShelf(bus, OBJECTS_BUCKET))
        self._desk = Desk(
            foundry=foundry,
            places=places,
            seal=seal,
            records=records,
            complaints=Complaints(clock),
            clock=clock,
            patience=patience,
            body_bytes_max=body_bytes_max,
            default_output=default_output_tokens,
            exceeded_status=exceeded_status,
        )
        self.background = Background(foundry=foundry, shelf=self._pending, till=till, tasks=tasks)
        self.watcher = Watcher(
            foundry=foundry,
            places=places,
            shelf=self._pending,
            records=records,
            booking=Booking(bus=bus, shelf=self._pending, directory=directory, clock=clock),
            book=book,
            clock=clock,
            name=uuid7(),
        )
        self.mirror = Mirror(
            bus, PENDING_BUCKET, on_load=self.watcher.load, on_put=self.watcher.put, on_remove=self.watcher.remove
        )
        self._files = Files(self._desk, self.watcher)
        self._batches = Batches(self._desk, self.watcher, self._pending, treasury)

    async def handed_over(self, call_id: str) -> bool:
        """What recovery asks of each call that a dead instance left open. Raises BusError."""
        return await handed_over(self._pending, call_id)

    # ---- the work that goes on -----------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the work that is to be charged, and charge it. Raises BusError; run it again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.mirror.run())
            group.create_task(self._watch())

    async def _watch(self) -> None:
        for mirror in (self.mirror, self._directory.keys, self._directory.revoked):
            await mirror.wait_ready()  # before that no key has budgets, and work would be charged to none
        await self.watcher.run()

    async def drain(self) -> None:
        """The process ends: leave the responses in the background to other processes."""
        await self.background.drain()

    # ---- routes --------------------------------------------------------------------------------------

    async def serve(self, route: Route, scope: Any, receive: Receive, send: Send, caller: Caller) -> None:
        """One request. Raises Refused or BadRequest while nothing was sent."""
        visit = Visit.of(route, scope, receive, send, caller)
        try:
            await self._serve(visit)
        except UpstreamError as error:
            await self._desk.broken(visit, error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(
                502, "upstream_bad_reply", "Foundry's reply about this object cannot be read.", kind="server_error"
            ) from error

    async def _serve(self, visit: Visit) -> None:
        match visit.route.endpoint, visit.method:
            case Endpoint.FILES, "POST":
                await self._files.create(visit)
            case Endpoint.FILES, _:
                await self._files.list(visit)
            case Endpoint.FILE, "DELETE":
                await self._files.delete(visit)
            case Endpoint.FILE, _:
                await self._files.get(visit)
            case Endpoint.FILE_CONTENT, _:
                await self._files.content(visit)
            case Endpoint.BATCHES, "POST":
                await self._batches.create(visit)
            case Endpoint.BATCHES, _:
                await self._batches.list(visit)
            case Endpoint.BATCH, _:
                await self._batches.get(visit)
            case Endpoint.BATCH_CANCEL, _:
                await self._batches.cancel(visit)
            case Endpoint.RESPONSE, "DELETE":
                await self._delete_response(visit)
            case Endpoint.RESPONSE, _:
                await self._response(visit, query=self._response_query(visit))
            case Endpoint.RESPONSE_CANCEL, _:
                visit.only()
                await self._response(visit, "cancel", method="POST")
            case Endpoint.RESPONSE_ITEMS, _:
                await self._response(visit, "input_items", query=self._items_query(visit))
            case _:
                raise not_found()

    async def _response(
        self, visit: Visit, *segments: str, method: str = "GET", query: dict[str, str] | None = None
    ) -> None:
        """Ask for a response and pass on what Foundry says, with sealed ids."""
        opened, deployment = self._desk.open(visit, "response")
        answer = await self._desk.foundry.fetch(
            deployment,
            Endpoint.RESPONSES,
            opened.upstream,
            *segments,
            method=method,
            query=query,
            call_id=visit.call_id,
        )
        if not answer.good:
            await self._desk.bad(visit, answer, deployment)
            return
        if not segments or segments == ("cancel",):
            self._seen(opened, answer.body)
        transform = SealingTransform(self.seal, visit.owner, opened.deployment)
        await self._desk.good(visit, transform.whole(answer.body), answer)

    async def _delete_response(self, visit: Visit) -> None:
        """Delete a response; one that is made in the background must be charged first."""
        visit.only()
        opened, _ = self._desk.open(visit, "response")
        if not await self._charged(opened):
            raise Refused(
                409,
                "response_not_charged",
                "This response is still being made, or is not charged yet. Cancel it, or try again shortly.",
                headers=((b"retry-after", b"10"),),
            )
        await self._response(visit, method="DELETE")

    async def _charged(self, opened: Opened) -> bool:
        if not await self.background.settle_now(opened.deployment, opened.upstream):
            return False
        found = self.watcher.find(opened.deployment, opened.upstream)
        if found is None:
            return True
        key, _ = found
        return await self.watcher.look(key) == "settled"

    def _seen(self, opened: Opened, body: bytes) -> None:
        """A caller has looked at a response: if it is done, whoever charges it need not wait."""
        if msgspec.json.decode(body, type=_Status).status in TERMINAL_RESPONSE:
            self.background.nudge(opened.deployment, opened.upstream)
            self.watcher.hurry(opened.deployment, opened.upstream)

    def _response_query(self, visit: Visit) -> dict[str, str]:
        if visit.query.get("stream", "false").lower() == "true" or "starting_after" in visit.query:
            raise BadRequest(
                "A stored response is not streamed here: leave 'stream' and 'starting_after' out and ask again until"
                " its status is final.",
                code="stream_not_served",
                param="stream",
            )
        query = visit.only("include", "include[]", "stream")
        query.pop("stream", None)
        return query

    def _items_query(self, visit: Visit) -> dict[str, str]:
        query = visit.only("limit", "order", "after", "before", "include", "include[]")
        if query.get("order", "desc") not in ("asc", "desc"):
            raise BadRequest("'order' must be 'asc' or 'desc'.", param="order")
        number(query, "limit", ITEMS_MAX, ITEMS_MAX)
        for edge in ("after", "before"):
            if edge in query:
                query[edge] = self.seal.must_open("item", visit.owner, query[edge]).upstream
        return query
