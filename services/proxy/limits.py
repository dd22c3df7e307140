"""Rate limits on the way of a call: `rpm_limit`, `tpm_limit`, `max_parallel_requests` of key, team and organization.

How it is used, once per process and once per call:

    limits = RateLimits(clock, instance)
    gossip = Gossip(bus, limits, clock, instance)   # services/proxy/gossip.py
    gossip.start(tasks)                             # once the bus is connected; `await gossip.close()` before it goes

    ticket = limits.admit(caller, model, tokens)    # raises Refused (429), or None: nothing limits this call
    if ticket is not None:
        answer_headers += ticket.headers
        ...
        ticket.settle(actual_tokens)                # exactly at the call's end, however it ends; more often is harmless
        ticket.take_back()                          # instead, when the call is refused before anybody heard of it

`await limits.enter(...)` is `admit` for callers who can wait: when the fleet has room and only this instance is out
of its part of the limit, it asks the other instances for some of theirs first, a few milliseconds.

State is in memory only. Without `Gossip` the limits hold for this instance alone.
"""

import asyncio
import contextlib
from typing import NoReturn

from services.proxy.domain.admission import Caller, ScopeLimits
from services.proxy.domain.limits.fleet import Fleet
from services.proxy.domain.limits.quota import IN_FLIGHT_WAIT_MS, Quota
from services.proxy.domain.limits.rate_answer import Headers, Rule, headers_of, refusal, rules_of
from shared.clock import Clock
from shared.ids import InstanceId

PLANS_MAX = 50_000
RIGHTS_WAIT_S = 0.1
"""How long a call waits at most for rights of other instances."""
WAY_MS = 50
"""Added to a wait that depends on figures of other instances: theirs reach us later by the message's way."""


class _Plan:
    """What calls of one key for one model count against."""

    __slots__ = ("generation", "items", "requests", "scopes", "tokens")

    def __init__(self, scopes: tuple[ScopeLimits, ...], generation: int, items: list[tuple[Quota, Rule]]) -> None:
        self.scopes = scopes
        self.generation = generation
        self.items = [(quota, rule.limit, rule.kind == "t", rule) for quota, rule in items]
        self.requests = [quota for quota, rule in items if rule.kind == "r"]
        self.tokens = [quota for quota, rule in items if rule.kind == "t"]


class Ticket:
    """One admitted call: what it counts, until it is settled."""

    __slots__ = ("_at_ms", "_counted", "_limits", "_plan", "_settled")

    def __init__(self, limits: "RateLimits", plan: _Plan, counted: list[tuple[int, int]], at_ms: int) -> None:
        self._limits = limits
        self._plan = plan
        self._counted = counted
        self._at_ms = at_ms
        self._settled = False

    @property
    def headers(self) -> Headers:
        """`x-ratelimit-*` for the answer's head, as of now."""
        return self._limits.headers(self._plan)

    def settle(self, tokens: int) -> None:
        """The call ended: what it really used, and its place among the calls in flight is free. Counts once."""
        if not self._settled:
            self._settled = True
            self._limits.settle(self._plan, self._counted, tokens)

    def take_back(self) -> None:
        """The call was refused before it left the gateway: it counts nowhere. Nothing, once it is settled."""
        if not self._settled:
            self._settled = True
            self._limits.take_back(self._plan, self._counted, self._at_ms)


class RateLimits:
    """All limits at this instance."""

    def __init__(self, clock: Clock, instance: InstanceId) -> None:
        self._clock = clock
        self.fleet = Fleet(instance)
        self._plans: dict[tuple[str, str], _Plan] = {}
        self.wake = asyncio.Event()
        """Set when the others should hear of us now."""
        self._moved = asyncio.Event()
        self.admitted = 0
        self.refused = 0
        self.waited = 0

    def admit(self, caller: Caller, model: str, tokens: int, assumed: int = 0) -> Ticket | None:
        """Count a call that may need `tokens`, or raise Refused with status 429; None: nothing limits it.

        `assumed` of them are output that nobody has capped, for the refusal's text.
        """
        if not caller.limits:
            return None
        plan = self._plan(caller, model)
        if not plan.items:
            return None
        now_ms = self._clock.monotonic_ms()
        ticket = self._take(plan, tokens, now_ms)
        if ticket is None:
            self._refuse(plan, tokens, assumed, now_ms)
        return ticket

    async def enter(self, caller: Caller, model: str, tokens: int, assumed: int = 0) -> Ticket | None:
        """`admit`, after a short wait when other instances have the rights that this call lacks. Raises Refused."""
        if not caller.limits:
            return None
        plan = self._plan(caller, model)
        now_ms = self._clock.monotonic_ms()
        ticket = self._take(plan, tokens, now_ms) if plan.items else None
        if ticket is not None or not plan.items:
            return ticket
        if self._only_rights(plan, tokens, now_ms):
            self.waited += 1
            self._demand(plan, tokens, now_ms)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RIGHTS_WAIT_S):
                    while ticket is None and self._only_rights(plan, tokens, self._clock.monotonic_ms()):
                        await self._moved.wait()
                        ticket = self._take(plan, tokens, self._clock.monotonic_ms())
        return ticket if ticket is not None else self.admit(caller, model, tokens, assumed)

    def moved(self) -> None:
        """Something was heard: whoever waits for rights looks again."""
        self._moved.set()
        self._moved = asyncio.Event()
        if self.fleet.urgent:
            self.wake.set()

    def headers(self, plan: _Plan) -> Headers:
        """The `x-ratelimit-*` headers of a plan as of now."""
        return headers_of(plan.requests, plan.tokens, self._clock.monotonic_ms())

    def settle(self, plan: _Plan, counted: list[tuple[int, int]], tokens: int) -> None:
        """Set the tokens of a call right and free its place; see Ticket."""
        fleet = self.fleet
        for (quota, _, by_tokens, rule), (bucket, weight) in zip(plan.items, counted, strict=True):
            if by_tokens:
                quota.estimates.done(bucket, weight)
                if quota.change(bucket, tokens - weight):
                    fleet.used(quota)
            elif rule.kind == "p":
                quota.change(bucket, -weight)
                fleet.used(quota)

    def take_back(self, plan: _Plan, counted: list[tuple[int, int]], at_ms: int) -> None:
        """Undo what an admission counted; see Ticket. Whoever waits for rights looks again."""
        self.admitted -= 1
        for (quota, _, by_tokens, _), (bucket, weight) in zip(plan.items, counted, strict=True):
            if by_tokens:
                quota.estimates.done(bucket, weight)
            quota.take_back(bucket, weight, at_ms)
            self.fleet.used(quota)
        self.moved()

    # ---- inside --------------------------------------------------------------------------------------

    def _plan(self, caller: Caller, model: str) -> _Plan:
        found = self._plans.get((caller.key_id, model))
        if found is not None and found.scopes is caller.limits and found.generation == self.fleet.generation:
            return found
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        now_ms = self._clock.monotonic_ms()
        rules = rules_of(caller.limits, model)
        items = [(self.fleet.quota(rule.id, rule.limit, now_ms), rule) for rule in rules]
        made = self._plans[(caller.key_id, model)] = _Plan(caller.limits, self.fleet.generation, items)
        return made

    def _take(self, plan: _Plan, tokens: int, now_ms: int) -> Ticket | None:
        """All limits at once, or nothing."""
        for quota, limit, by_tokens, _ in plan.items:
            if quota.limit != limit:
                quota.set_limit(limit)
            if not quota.fits(quota.weight(tokens) if by_tokens else 1, now_ms):
                return None
        counted: list[tuple[int, int]] = []
        fleet = self.fleet
        alone = fleet.size == 1
        for quota, _, by_tokens, _ in plan.items:
            weight = quota.weight(tokens) if by_tokens else 1
            bucket = quota.add(weight, now_ms)
            counted.append((bucket, weight))
            if by_tokens:
                quota.estimates.add(bucket, weight)
            fleet.used(quota)
            if not alone and quota.short(2 * weight, now_ms):
                self.wake.set()
        self.admitted += 1
        return Ticket(self, plan, counted, now_ms)

    def _short_items(self, plan: _Plan, tokens: int, now_ms: int) -> list[tuple[Quota, Rule, int]]:
        """The limits that stand in the way, and what the call weighs under each."""
        found: list[tuple[Quota, Rule, int]] = []
        for quota, _, by_tokens, rule in plan.items:
            weight = quota.weight(tokens) if by_tokens else 1
            if not quota.fits(weight, now_ms):
                found.append((quota, rule, weight))
        return found

    def _only_rights(self, plan: _Plan, tokens: int, now_ms: int) -> bool:
        """Whether the fleet has room under every limit that stands in the way."""
        items = self._short_items(plan, tokens, now_ms)
        return bool(items) and all(quota.short(weight, now_ms) for quota, _, weight in items)

    def _demand(self, plan: _Plan, tokens: int, now_ms: int) -> None:
        """Let the others know what is lacking."""
        for quota, _, weight in self._short_items(plan, tokens, now_ms):
            quota.missed(weight, now_ms)
            self.fleet.used(quota)
            if quota.short(weight, now_ms):
                self.wake.set()

    def _refuse(self, plan: _Plan, tokens: int, assumed: int, now_ms: int) -> NoReturn:
        """Say which limit takes longest to have room again."""
        self.refused += 1
        self._demand(plan, tokens, now_ms)
        worst: tuple[float, Quota, Rule, int, int | None] | None = None
        for quota, rule, weight in self._short_items(plan, tokens, now_ms):
            wait = quota.wait_ms(weight, now_ms)
            if wait is not None and wait != IN_FLIGHT_WAIT_MS and self.fleet.size > 1:
                wait += WAY_MS
            rank = float("inf") if wait is None else float(wait)
            if worst is None or rank > worst[0]:
                worst = (rank, quota, rule, weight, wait)
        assert worst is not None
        _, quota, rule, weight, wait = worst
        raise refusal(
            rule,
            used=quota.limit - quota.room(now_ms),
            wanted=weight if rule.kind != "t" else max(weight, tokens),
            wait_ms=wait,
            headers=self.headers(plan),
            in_flight=quota.in_flight(now_ms),
            assumed=assumed,
        )
