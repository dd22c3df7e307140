"""One rate limit at one proxy instance: its own use, its part of the limit, and what the others say of theirs.

The parts ("rights") of all instances add up to the limit. Each begins with an even part; after that rights move only by
gifts: whoever has rights that it does not use hands them to those that want more, and counts them off before anybody
can count them on. So however late, lost or repeated the gossip is, the parts never add up to more than the limit.

A call is admitted when, by all that is known here, the whole fleet stays within the limit, and it fits into this
instance's own part. One call may go beyond the part, when none was admitted here for SETTLE_MS and the last debt is
paid back: otherwise a limit smaller than the fleet, or a call larger than a part, would be refused while there is room.
"""

from typing import Protocol

import msgspec

from services.proxy.domain.limits.gossip import Row
from services.proxy.domain.limits.rates import BUCKET_MS, NEVER_MS, WINDOW_MS, Estimates, Gauge, Window, wait_ms

SETTLE_MS = 250
"""Gossip that arrives within this keeps the fleet within limit + N - 1 calls; later gossip within limit + N."""
IN_FLIGHT_WAIT_MS = 1_000
"""When to ask again for what calls in flight take, a place or estimated tokens: nobody knows when one ends."""
WANT_FOR_MS = 1_000
"""How long what another instance wants is believed without being said again."""
ROW_FOR_MS = 150_000
"""How long the figures of a living instance are believed; it repeats them for as long as anybody uses the limit."""
FAIR_TIMES = 2
"""How much more than its fair part an instance may go on using while others are short."""


class Peer(msgspec.Struct, kw_only=True):
    """Another instance: how far our clock is ahead of its (with the message's way), and when it was last heard."""

    instance: str
    offset_ms: int
    heard_ms: int
    seq: int = 0
    alive: bool = True


class Members(Protocol):
    """Who shares the limits, as a quota needs to know it."""

    me: str
    size: int
    rank: int
    view: int
    trusted_until_ms: int
    careful_until_ms: int


class _Told:
    """What another instance last said of a limit."""

    __slots__ = (
        "demand", "gave_me", "heard_ms", "in_flight", "limit", "peer", "rights", "seq", "used", "wants", "whole_seq",
    )  # fmt: skip

    def __init__(self, peer: Peer, used: Window) -> None:
        self.peer = peer
        self.used = used
        self.seq = self.whole_seq = 0
        self.limit = self.rights = self.demand = self.wants = self.gave_me = self.heard_ms = self.in_flight = 0


class Quota:
    """The state of one limit here. Times are this instance's monotonic milliseconds."""

    __slots__ = (
        "_before_ms", "_cap", "_cap_until_ms", "_changed", "_demand", "_folded_ms", "_last_ms", "_members", "_offered",
        "_others", "_others_last_ms", "_told", "_view", "base", "estimates", "gave", "gone", "id", "limit", "next_ms",
        "own", "queued", "rights", "said", "touched_ms", "whole",
    )  # fmt: skip

    def __init__(self, quota_id: str, limit: int, members: Members, now_ms: int) -> None:
        self.id = quota_id
        self.limit = limit
        self._members = members
        self.own: Window = self._empty()
        self.estimates = Estimates()
        self._told: dict[str, _Told] = {}
        self.gave: dict[str, int] = {}
        self._others = 0
        self._others_last_ms = 0
        self.base = self.rights = 0
        self._view = -1
        self.next_ms = 0
        self._last_ms = self._before_ms = -SETTLE_MS
        self._offered = 0
        self._demand = 0.0
        self._folded_ms = now_ms
        self._cap = 0
        self._cap_until_ms = 0
        self._changed: set[int] = set()
        self.touched_ms = now_ms
        self.queued = False
        self.said = False
        self.gone = False
        self.whole = True

    def _empty(self) -> Window:
        return Gauge() if self.id[-1] == "p" else Window()

    # ---- admission -----------------------------------------------------------------------------------

    def weight(self, amount: int) -> int:
        """What a call counts: never more than the whole limit, or a large estimate could never be admitted."""
        return max(1, min(amount, self.limit))

    def fits(self, weight: int, now_ms: int) -> bool:
        """Whether a call may begin now."""
        if now_ms >= self.next_ms or self._view != self._members.view:
            self._refresh(now_ms)
        used = self.own.total(now_ms)
        if used + self._others + weight > self.limit:
            return False
        share = self._share(now_ms)
        if used + weight <= share:
            return True
        return used <= share and now_ms - self._last_ms >= SETTLE_MS

    def add(self, weight: int, now_ms: int) -> int:
        """A call begins; the bucket that it counts in."""
        number = self.own.add(now_ms, weight)
        self._changed.add(number)
        self._offered += weight
        self._before_ms = self._last_ms
        self._last_ms = self.touched_ms = now_ms
        return number

    def take_back(self, number: int, weight: int, at_ms: int) -> None:
        """A call that was added at `at_ms` does not take place: as if it had never been, to all who hear of it."""
        self.change(number, -weight)
        self._offered -= weight
        if self._last_ms == at_ms:
            self._last_ms = self._before_ms

    def change(self, number: int, amount: int) -> bool:
        """Set a call's weight right where it was counted; False when that lies outside the window by now."""
        changed = self.own.change(number, amount)
        if changed:
            self._changed.add(number)
        return changed

    def missed(self, weight: int, now_ms: int) -> None:
        """A call was refused: that is demand too."""
        self._offered += weight
        self.touched_ms = now_ms

    def room(self, now_ms: int) -> int:
        """What is left of the limit in the whole fleet, as far as is known here; negative when it was passed."""
        if now_ms >= self.next_ms or self._view != self._members.view:
            self._refresh(now_ms)
        return self.limit - self.own.total(now_ms) - self._others

    def short(self, weight: int, now_ms: int) -> bool:
        """Whether the fleet has room for this weight, but the rights to it are with others, who can hand them over."""
        used = self.own.total(now_ms)
        lacking = used + weight > self.rights and used + self._others + weight <= self.limit
        return lacking and self._members.size > 1 and now_ms <= self._members.trusted_until_ms

    def free(self, now_ms: int) -> int:
        """Rights that nothing here has used."""
        return self.rights - self.own.total(now_ms)

    def reset_ms(self, now_ms: int) -> int:
        """How long until the whole limit is free if nobody calls; 0 for calls in flight, whose end nobody knows."""
        return max(0, self.own.last_ms - now_ms, self._others_last_ms - now_ms)

    def wait_ms(self, weight: int, now_ms: int) -> int | None:
        """The shortest wait after which a refused call fits if nobody else calls; None: it never will."""
        if self.limit < 1:
            return None
        excess = weight - self.room(now_ms)
        if self.id[-1] == "p":
            return IN_FLIGHT_WAIT_MS if excess > 0 else SETTLE_MS
        wait = self._window_wait_ms(weight, excess, now_ms)
        if wait is not None and wait > IN_FLIGHT_WAIT_MS and self._in_the_way(excess, now_ms):
            return IN_FLIGHT_WAIT_MS
        return wait

    def in_flight(self, now_ms: int) -> int:
        """What of the fleet's use are estimates of calls that have not ended, as far as is known here."""
        living = (told for told in self._told.values() if told.peer.alive)
        others = sum(min(told.in_flight, told.used.total(now_ms - told.peer.offset_ms)) for told in living)
        return self.estimates.total(now_ms) + others

    def _in_the_way(self, excess: int, now_ms: int) -> bool:
        """Whether a call would fit if those in flight turned out to use nothing."""
        mine = self.estimates.total(now_ms)
        if excess > self.in_flight(now_ms):
            return False
        trusted = now_ms <= self._members.trusted_until_ms
        return trusted or (mine > 0 and self.own.total(now_ms) - mine <= self._share(now_ms))

    def _window_wait_ms(self, weight: int, excess: int, now_ms: int) -> int | None:
        """The wait until so much has dropped out of the window as stands in the way."""
        own = self.own.ends()
        until = wait_ms(own + self._others_ends(), excess, now_ms)
        if until is None:
            return None
        later = now_ms + until
        used = sum(amount for at_ms, amount in own if at_ms > later)
        share = self._share(now_ms)
        if used + weight <= share:
            return until
        if used <= share:
            return max(until, self._last_ms + SETTLE_MS - now_ms)
        if now_ms <= self._members.trusted_until_ms:
            return until or SETTLE_MS  # what drops out elsewhere is given to us as soon as we ask
        return max(until, wait_ms(own, self.own.total(now_ms) - share, now_ms) or 0)

    def _share(self, now_ms: int) -> int:
        """The part of the limit that this instance may use itself.

        Out of touch it is the even part, and for those who gave rights away only after a window: by then what was done
        with these rights elsewhere counts no more.
        """
        members = self._members
        if now_ms > members.trusted_until_ms or now_ms < members.careful_until_ms:
            lonely = now_ms - members.trusted_until_ms > WINDOW_MS + BUCKET_MS
            return self.base if lonely else min(self.base, self.rights)
        if now_ms < self._cap_until_ms:
            return min(self.rights, self._cap)
        return self.rights

    # ---- what others say -----------------------------------------------------------------------------

    def set_limit(self, limit: int) -> None:
        """The limit was changed: what was used stays used, gifts under the old one are void on both sides."""
        if limit != self.limit:
            self.limit = limit
            self.gave = {}
            self._cap_until_ms = 0
            self._view = -1

    def heard(self, peer: Peer, row: Row, seq: int, now_ms: int) -> None:
        """Another instance's row, which may be late or repeated."""
        told = self._told.get(peer.instance)
        if told is None:
            told = self._told[peer.instance] = _Told(peer, self._empty())
        if seq <= told.seq:
            self._heard_late(told, row, seq, now_ms)
            return
        told.seq, told.heard_ms = seq, now_ms
        told.limit, told.rights, told.demand, told.wants = row.limit, row.rights, row.demand, row.wants
        told.gave_me, told.in_flight = row.gave.get(self._members.me, 0), row.in_flight
        theirs_ms = now_ms - peer.offset_ms
        if row.whole:
            told.whole_seq = seq
            told.used.replace(row.amounts, theirs_ms)
        else:
            for number, amount in row.amounts:
                told.used.put(number, amount, theirs_ms)
        if row.wants or told.used.total(theirs_ms):
            self.touched_ms = now_ms
        self._view = -1

    def _heard_late(self, told: _Told, row: Row, seq: int, now_ms: int) -> None:
        """A row that a later one has overtaken: only what it adds to the buckets may be new."""
        if seq <= told.whole_seq or self.id[-1] == "p":
            return
        theirs_ms = now_ms - told.peer.offset_ms
        for number, amount in row.amounts:
            if amount > told.used.amount(number):
                told.used.put(number, amount, theirs_ms)
        self._view = -1

    def _refresh(self, now_ms: int) -> None:
        """Add up the others, and this instance's part."""
        others = dead = received = given = last_ms = 0
        next_ms = NEVER_MS
        for name, told in list(self._told.items()):
            peer = told.peer
            if peer.alive and now_ms - told.heard_ms > ROW_FOR_MS:
                del self._told[name]
                continue
            if not peer.alive and self.id[-1] == "p":
                continue
            used = told.used.total(now_ms - peer.offset_ms)
            next_ms = min(next_ms, told.used.next_ms + peer.offset_ms)
            others += used
            if used:
                last_ms = max(last_ms, told.used.last_ms + peer.offset_ms)
            if not peer.alive:
                dead += used
            elif told.limit == self.limit:
                received += told.gave_me
                given += self.gave.get(name, 0)
        members = self._members
        pool = max(0, self.limit - dead)
        self.base = pool // members.size + (members.rank < pool % members.size)
        self.rights = self.base + received - given
        self._others, self._others_last_ms, self.next_ms, self._view = others, last_ms, next_ms, members.view

    def _others_ends(self) -> list[tuple[int, int]]:
        ends: list[tuple[int, int]] = []
        for told in self._told.values():
            ends += told.used.ends(told.peer.offset_ms)
        return ends

    # ---- what we say, and gifts ----------------------------------------------------------------------

    def row(self, now_ms: int) -> Row:
        """What to tell the others; what it says of changes is then taken as said."""
        free = self.rights - self.own.total(now_ms)
        goal = min(self.limit, round(self._fold(now_ms)))
        amounts = self.own.amounts(None if self.whole else self._changed)
        row = Row(
            id=self.id,
            limit=self.limit,
            rights=self.rights,
            demand=goal,
            wants=max(0, -free, goal - free),
            gave=dict(self.gave),
            amounts=amounts,
            whole=self.whole,
            in_flight=self.estimates.total(now_ms),
        )
        self._changed.clear()
        self.whole, self.said = False, True
        return row

    def give(self, now_ms: int) -> tuple[bool, bool]:
        """Hand rights that are free here to those that want more; whether any were, and whether anybody wants some.

        Free rights are shared by demand. Whoever has none free, but uses far more than its fair part while others are
        short, admits no more than that part until its use has dropped to it, and what drops out is given away.
        """
        if now_ms >= self.next_ms or self._view != self._members.view:
            self._refresh(now_ms)
        living = [told for told in self._told.values() if told.peer.alive and told.limit == self.limit]
        needy = [told for told in living if told.wants > 0 and now_ms - told.heard_ms <= WANT_FOR_MS]
        if not needy or now_ms > self._members.trusted_until_ms:
            return False, bool(needy)
        free = self.rights - self.own.total(now_ms)
        mine = round(self._fold(now_ms))
        total = mine + sum(max(told.demand, 1) for told in needy)
        if free <= 0:
            self._hold_back(mine, total, sum(told.rights for told in needy), now_ms)
            return False, True
        all_free = free + sum(max(0, self._free_of(told, now_ms)) for told in needy)
        surplus = free - all_free * mine // total
        if mine and surplus <= max(1, all_free // 8):
            return False, True  # as good as even: no use in handing rights to and fro
        gave = False
        for told in needy:
            part = min(surplus * max(told.demand, 1) // (total - mine), self._portion(told, free, living, now_ms))
            if part > 0:
                name = told.peer.instance
                self.gave[name] = self.gave.get(name, 0) + part
                self.rights -= part
                told.wants -= part
                gave = True
        return gave, True

    def _free_of(self, told: _Told, now_ms: int) -> int:
        return told.rights - told.used.total(now_ms - told.peer.offset_ms)

    def _portion(self, taker: _Told, free: int, living: list[_Told], now_ms: int) -> int:
        """My part of what one instance wants, so that all who have something to give do not give it twice."""
        holders = [(-free, self._members.me)]
        for told in living:
            theirs = self._free_of(told, now_ms)
            if told is not taker and theirs > 0:
                holders.append((-theirs, told.peer.instance))
        holders.sort()
        mine = holders.index((-free, self._members.me))
        return taker.wants // len(holders) + (mine < taker.wants % len(holders))

    def _hold_back(self, mine: int, total: int, theirs: int, now_ms: int) -> None:
        """Leave to the needy what their demand gives them a claim to, once it drops out of our window."""
        fair = (self.rights + theirs) * mine // total
        if mine and self.rights > fair * FAIR_TIMES + 1:
            self._cap, self._cap_until_ms = fair, now_ms + WANT_FOR_MS

    def _fold(self, now_ms: int) -> float:
        """What was lately offered: a sum that halves every second."""
        passed = now_ms - self._folded_ms
        self._demand = max(0.0, self._demand * 0.5 ** (passed / 1_000) + self._offered)
        self._offered, self._folded_ms = 0, now_ms
        return self._demand

    # ---- ends ----------------------------------------------------------------------------------------

    @property
    def news(self) -> bool:
        """Whether calls came since the last row."""
        return bool(self._changed or self._offered)

    def tidy(self, gone: set[str], now_ms: int) -> None:
        """Forget instances that are gone for good, and look at the age of all figures."""
        for name in gone:
            self._told.pop(name, None)
            self.gave.pop(name, None)
        self._view = -1
        if self.own.total(now_ms):
            self.touched_ms = now_ms
