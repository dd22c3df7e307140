"""Calls of one key over one lineage: the wallet in use, those who wait for it, and the ask in flight."""

from collections import deque
from dataclasses import dataclass, field

import msgspec

from services.proxy.domain.money.wallet import HORIZON_MS, IDLE_AFTER_MS, LOW_WATER, Wallet
from shared.allotment import (
    ASK_WAIT_MS,
    BEAT_MS,
    EXCEEDED_TTL_MS,
    RESERVED_TTL_MS,
    RETRANSMIT_MS,
    Ask,
)
from shared.ids import AccountId, InstanceId, KeyId


class BankTuning(msgspec.Struct, frozen=True, kw_only=True):
    """Times and bounds of the proxy's side; the lease itself is told by the ledger's replies."""

    beat_ms: int = BEAT_MS
    retransmit_ms: int = RETRANSMIT_MS
    ask_wait_ms: int = ASK_WAIT_MS
    retry_ms: int = 20
    """First pause after an answer that did not help; doubles up to `retransmit_ms`."""
    horizon_ms: int = HORIZON_MS
    low_water: float = LOW_WATER
    keep_horizons: float = 2.0
    sibling_horizons: float = 0.5
    idle_after_ms: int = IDLE_AFTER_MS
    tidy_ms: int = 1_000
    return_gap_ms: int = 20
    forget_after_ms: int = 300_000
    """A wallet without calls for this long is emptied and forgotten."""
    reserved_ttl_ms: int = RESERVED_TTL_MS
    exceeded_ttl_ms: int = EXCEEDED_TTL_MS
    waiters_max: int = 10_000
    rows_max: int = 2_000
    tombstones_max: int = 100_000


@dataclass(slots=True, eq=False)
class Chain:
    """What calls are charged to, as the policy stands: never changed once made. `slot` names it for look-ups."""

    key_id: KeyId
    accounts: tuple[AccountId, ...]
    model: str
    partition: int
    policy_rev: int
    slot: str = field(init=False)

    def __post_init__(self) -> None:
        self.slot = slot_of(self.key_id, self.model)


def slot_of(key_id: str, model: str) -> str:
    """The name under which calls of a key (for a model, where models have budgets of their own) find their purse."""
    return f"{key_id}/{model}" if model else key_id


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits for at least `amount`, at best `most`. `asked`: the ask in flight has counted it; `tried`: an
    ask that was for it has ended, so that it takes less than `most` if there is no more."""

    token: int
    chain: Chain
    amount: int
    most: int
    since_ms: int
    asked: bool = False
    tried: bool = False
    gone: bool = False


@dataclass(slots=True, eq=False)
class Flight:
    """An ask that is not answered yet; `first` is the amount it is about, for the call with `token` (0: nobody)."""

    request: Ask
    first: int
    token: int
    since_ms: int
    resend_ms: int
    pause_ms: int
    sent_ms: int


@dataclass(slots=True, eq=False)
class Purse:
    """What a key has here for one lineage. `slots` are the chains that lead to it."""

    chain: Chain
    wallet: Wallet
    waiting: deque[Waiter] = field(default_factory=deque[Waiter])
    flight: Flight | None = None
    ask_at_ms: int = 0
    pause_ms: int = 0
    due_ms: int | None = None
    slots: set[str] = field(default_factory=set[str])

    def clear_gone(self) -> None:
        """Drop callers who have given up from the head of the queue."""
        waiting = self.waiting
        while waiting and waiting[0].gone:
            waiting.popleft()

    def watch(self) -> None:
        """Have settles reported while somebody waits."""
        self.wallet.alert = self.wallet.draining or bool(self.waiting)

    def live(self) -> list[Waiter]:
        """Those who still wait, in order of arrival."""
        return [waiter for waiter in self.waiting if not waiter.gone]

    def queued(self) -> int:
        """What those who wait need, in nano-dollars."""
        return sum(waiter.amount for waiter in self.waiting if not waiter.gone)

    def next_due_ms(self, ask_wait_ms: int) -> int | None:
        """When something is to be done here though nobody says anything."""
        due: list[int] = []
        if self.waiting:
            due.append(self.waiting[0].since_ms + ask_wait_ms)
        if self.flight is not None:
            due.append(min(self.flight.resend_ms, self.flight.since_ms + ask_wait_ms))
        elif self.waiting:
            due.append(self.ask_at_ms)
        return min(due, default=None)


def ask_for(purse: Purse, instance: InstanceId, siblings: list[Wallet], now_ms: int) -> Ask:
    """One request for all that wait and what is likely to come; rows of siblings ride along.

    It is for the first who waits (`need`, and `fill` if that one can use more); the others are served from what is
    given beyond, or have the next request.
    """
    wallet = purse.wallet
    waiting = purse.live()
    for waiter in waiting:
        waiter.asked = True
    first, most = (waiting[0].amount, waiting[0].most) if waiting else (0, 0)
    base = wallet.returned + wallet.spent + wallet.holds
    wanted = sum(waiter.most for waiter in waiting) + wallet.ahead(now_ms)
    wallet.rseq += 1
    return Ask(
        instance=instance,
        serial=wallet.serial,
        key_id=wallet.key_id,
        lineage=wallet.lineage,
        model=purse.chain.model,
        policy_rev=purse.chain.policy_rev,
        rseq=wallet.rseq,
        need=base + first,
        want=base + max(first, wanted),
        fill=base + most if most > first else 0,
        least=min((waiter.amount for waiter in waiting), default=0),
        sent_ms=now_ms,
        rows=(wallet.row(), *(sibling.row() for sibling in siblings)),
    )
