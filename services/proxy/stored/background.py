"""Responses that Foundry makes in the background: their calls stay open until they are done, within the longest call.

The call keeps its hold and its journal entry while this process asks Foundry again and again. When the time of a call
is up, a strict budget is charged the hold; any other call is handed over: its entry in the bucket `pending` becomes
`open`, the call itself is settled at nothing, and a watcher (of any proxy) charges the response when it is done. The
entry decides: what is `open` there is charged by watchers alone, also if this process dies before it has settled, and
what is not is charged by this process, or by whoever recovers its journal. `handed_over` is what recovery asks.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter_ns

import msgspec

from services.proxy.call import Call
from services.proxy.domain.errors.failures import failure_of_event
from services.proxy.domain.meters import content_tokens, read_reply, trusted
from services.proxy.domain.objects.records import TERMINAL_RESPONSE, Pending
from services.proxy.domain.objects.seal import owner_of
from services.proxy.domain.paths import Endpoint
from services.proxy.stored.foundry import Foundry
from services.proxy.stored.records import Shelf
from services.proxy.till import Till
from services.proxy.upstream import UpstreamError
from shared.allotment import MAX_CALL_MS
from shared.errors import BusError, Conflict
from shared.ids import CallId
from shared.tasks import Supervisor
from shared.topology import pending_kv

log = logging.getLogger(__name__)

MARGIN_S = 30.0
BACKGROUND_HOLD_S = MAX_CALL_MS / 1_000 - MARGIN_S
"""How long a call stays open for a response in the background; the rest of the longest call is for its settlement."""
BACKGROUND_MAX = 1_000
"""Responses in the background that one process follows."""
POLL_FIRST_S, POLL_MAX_S, POLL_GROWTH = 0.5, 10.0, 1.5
HAND_OVER_RETRY_S = 0.5
NUDGE_WAIT_S = 15.0
JSON = "application/json"

Wait = Callable[[asyncio.Event, float], Awaitable[None]]


class _Status(msgspec.Struct):
    id: str = ""
    status: str = ""


@dataclass(slots=True)
class Running:
    """A response in the background that this process follows."""

    call: Call
    upstream: str
    key: str
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    leave: bool = False
    handed: bool = False


async def until_nudged(nudge: asyncio.Event, seconds: float) -> None:
    """Wait for a while, or less when somebody knows that something has happened."""
    try:
        async with asyncio.timeout(seconds):
            await nudge.wait()
    except TimeoutError:
        return
    nudge.clear()


class Background:
    """Follows the responses of this process that Foundry makes in the background."""

    def __init__(
        self, *, foundry: Foundry, shelf: Shelf, till: Till, tasks: Supervisor, wait: Wait = until_nudged
    ) -> None:
        self._foundry = foundry
        self._shelf = shelf
        self._till = till
        self._tasks = tasks
        self._wait = wait
        self._running: dict[tuple[str, str], Running] = {}
        self.handed = 0
        """Responses that were left to the watchers."""

    @property
    def running(self) -> int:
        """Responses that are followed."""
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether no further response in the background should begin."""
        return len(self._running) >= BACKGROUND_MAX

    async def begin(self, call: Call, reply_body: bytes) -> None:
        """Foundry has taken a response on: settle its call when it is done. What is done already is settled at once.

        The call is this object's from now on, whatever happens.
        """
        said = _said(reply_body)
        if said is None or not said.id:
            self._till.settle_lost(call, outcome="upstream_error", status=200)
            return
        if said.status in TERMINAL_RESPONSE:
            self._settle(call, said, reply_body)
            return
        run = Running(call=call, upstream=said.id, key=pending_kv("response", call.call_id))
        self._running[call.deployment.id, said.id] = run
        try:
            await self._shelf.create(run.key, msgspec.json.encode(self._pending(run, "running")))
        except BusError as error:
            log.info("a response in the background is not written down yet: %s", error)
        self._tasks.start(f"background-{call.call_id}", self._follow(run))

    async def settle_now(self, deployment: str, upstream: str) -> bool:
        """Look at a response at once, if this process follows it; False when it is not done."""
        run = self._running.get((deployment, upstream))
        if run is None:
            return True
        run.nudge.set()
        try:
            async with asyncio.timeout(NUDGE_WAIT_S):
                await run.done.wait()
        except TimeoutError:
            return False
        return True

    def nudge(self, deployment: str, upstream: str) -> None:
        """Somebody has seen that a response is done."""
        run = self._running.get((deployment, upstream))
        if run is not None:
            run.nudge.set()

    async def drain(self) -> None:
        """The process ends: hand everything over that may be, and charge the rest at its hold."""
        for run in list(self._running.values()):
            run.leave = True
            run.nudge.set()
        for run in list(self._running.values()):
            await run.done.wait()

    async def _follow(self, run: Running) -> None:
        call = run.call
        delay = POLL_FIRST_S
        try:
            while not run.leave and _age_s(call) < BACKGROUND_HOLD_S:
                await self._wait(run.nudge, min(delay, max(0.0, BACKGROUND_HOLD_S - _age_s(call))))
                delay = min(delay * POLL_GROWTH, POLL_MAX_S)
                if await self._look(run):
                    return
            await self._give_up(run)
        except Exception:
            log.exception("a response in the background cannot be followed")
            if not call.settled and not run.handed:
                self._till.settle_lost(call, outcome="unknown", status=500)
                await self._forget(run)
        finally:
            self._running.pop((call.deployment.id, run.upstream), None)
            run.done.set()

    async def _look(self, run: Running) -> bool:
        """Ask Foundry once; whether the call is settled now."""
        call = run.call
        try:
            answer = await self._foundry.fetch(call.deployment, Endpoint.RESPONSES, run.upstream, call_id=call.call_id)
        except UpstreamError as error:
            log.info("a response in the background could not be looked at: %s", error)
            return False
        if answer.status == 404:
            self._till.settle_lost(call, outcome="unknown", status=404)
            await self._forget(run)
            return True
        said = _said(answer.body) if answer.good else None
        if said is None or said.status not in TERMINAL_RESPONSE:
            return False
        self._settle(call, said, answer.body)
        await self._forget(run)
        return True

    async def _give_up(self, run: Running) -> None:
        """The time of the call is up: charge the hold if the budget is strict, else leave the rest to the watchers."""
        call = run.call
        if call.lineage.strict:
            self._till.settle_lost(call, outcome="timeout", status=200)
            await self._forget(run)
            return
        await self._hand_over(run)
        run.handed = True
        self._till.settle_free(call, outcome="unknown", status=200)
        self.handed += 1

    async def _hand_over(self, run: Running) -> None:
        """Open the entry. Comes back only when that is certain: until then the call is this process's to charge."""
        value = msgspec.json.encode(self._pending(run, "open"))
        while True:
            try:
                entry = await self._shelf.get(run.key)
                if entry is None:
                    await self._shelf.create(run.key, value)
                elif msgspec.json.decode(entry.value, type=Pending).state == "running":
                    await self._shelf.update(run.key, value, entry.revision)
            except Conflict:
                continue
            except BusError as error:
                log.warning("a response in the background cannot be handed over yet: %s", error)
                await asyncio.sleep(HAND_OVER_RETRY_S)
                continue
            return

    async def _forget(self, run: Running) -> None:
        """The call is settled, so its entry says nothing any more; one that stays is nobody's business but time's."""
        try:
            if await self._shelf.get(run.key) is not None:
                await self._shelf.delete(run.key)
        except BusError as error:
            log.info("the entry of a settled response stays: %s", error)

    def _settle(self, call: Call, said: _Status, body: bytes) -> None:
        reading = trusted(
            read_reply(Endpoint.RESPONSES, body, JSON, call.asked), Endpoint.RESPONSES, call.deployment.name
        )
        call.upstream_until_ns = perf_counter_ns()
        if said.status == "failed" and reading.usage is None:
            failure = failure_of_event(body)
            if failure is not None and failure.filtered:
                self._till.settle_filtered(call, outcome="filtered", status=200)
            else:
                self._till.settle_free(call, outcome="upstream_error", status=200)
            return
        tokens = 0 if reading.usage is not None else content_tokens(Endpoint.RESPONSES, body)
        outcome = "client_gone" if said.status == "cancelled" else "upstream_error" if said.status == "failed" else "ok"
        self._till.settle_reading(call, reading, tokens, outcome=outcome, status=200)

    def _pending(self, run: Running, state: str) -> Pending:
        call = run.call
        assert state in ("running", "open")
        return Pending(
            kind="response",
            state=state,
            owner=owner_of(call.caller),
            deployment=call.deployment.id,
            upstream=run.upstream,
            model=call.model,
            endpoint=call.endpoint,
            call_id=CallId(call.call_id),
            key_id=call.caller.key_id,
            org_id=call.caller.org_id,
            team_id=call.caller.team_id,
            partition=call.caller.partition,
            budgets=tuple(budget for budget in call.caller.budgets if budget.covers(call.model)),
            started_at=None if call.opened is None else call.opened.started_at,
            estimate_nusd=call.held_nusd,
            prompt_tokens=call.prepared.guess,
            tier=call.asked.tier,
            secret_version=call.caller.version,
            tags=call.caller.tags,
        )


async def handed_over(shelf: Shelf, call_id: str) -> bool:
    """Whether a call that its process left open is charged by the watchers, so that its journal must not. Raises
    BusError."""
    key = pending_kv("response", call_id)
    while True:
        entry = await shelf.get(key)
        if entry is None:
            return False
        if msgspec.json.decode(entry.value, type=Pending).state != "running":
            return True
        try:
            await shelf.delete(key, entry.revision)  # nobody can hand it over any more
        except Conflict:
            continue
        return False


def _said(body: bytes) -> _Status | None:
    try:
        return msgspec.json.decode(body, type=_Status)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _age_s(call: Call) -> float:
    return (perf_counter_ns() - call.started_ns) / 1e9
