"""Money for calls: wallets, and the conversation about them with the ledger's enforcer.

A call whose wallet has room is admitted here and now, in memory. Otherwise it waits its turn while one request
per wallet is in flight; what waits when a request leaves is asked for together, with what the calls of the next
seconds are likely to need. A wallet that runs low asks before anybody has to wait. Requests carry what is known of
the wallets, renew the lease, and may be repeated, late or lost without harm.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field

import msgspec

from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller
from services.proxy.domain.wallet import Wallet
from services.proxy.holds import Denied, Hold, Unreachable
from shared.allotment import (
    ASK_WAIT_MS,
    BEAT_MS,
    LEASE_MS,
    RETRANSMIT_MS,
    Ack,
    Answer,
    Ask,
    Beat,
    NotActive,
    Refusal,
    Reply,
    Request,
    Return,
    Row,
    decode_reply,
    encode,
)
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import BusUnavailable
from shared.ids import AccountId, InstanceId, KeyId
from shared.tasks import Supervisor
from shared.topology import allot_subject

log = logging.getLogger(__name__)

TIDY_S = 1.0
WAITERS_MAX = 10_000
POLICY_RETRY_S = 0.02
ROWS_MAX = 2_000
TOMBSTONES_MAX = 100_000
FORGET_AFTER_MS = 300_000
"""A wallet without calls for this long is emptied and forgotten."""

_NOBODY = KeyId("")


@dataclass(slots=True)
class _Purse:
    """What a key has here: its wallet in use, and the calls that wait for it."""

    caller: Caller
    wallet: Wallet
    waiting: deque[tuple[int, asyncio.Future[Hold]]] = field(default_factory=deque[tuple[int, "asyncio.Future[Hold]"]])
    asking: bool = False
    freed_for: asyncio.Future[Hold] | None = None
    """The call for which other wallets were asked to give back last."""


class Treasury:
    """All wallets of this instance."""

    def __init__(self, bus: Bus, directory: Directory, clock: Clock, instance: InstanceId, partitions: int) -> None:
        self._bus = bus
        self._directory = directory
        self._clock = clock
        self._instance = instance
        self._partitions = partitions
        self._tasks = Supervisor()
        self._purses: dict[str, _Purse] = {}
        self._wallets: dict[int, Wallet] = {}
        self._gone: dict[int, int] = {}
        self._serial = 0
        self._lease_until_ms = [0] * partitions
        self._epoch = [0] * partitions
        self.closed = asyncio.Event()
        self.asks = 0
        self.waits = 0

    def start(self, tasks: Supervisor) -> None:
        """Begin to beat and to tidy."""
        tasks.keep("beats", self._beat)
        tasks.keep("tidy", self._tidy)

    # ---- holding and settling ------------------------------------------------------------------------

    def try_hold(self, caller: Caller, amount: int) -> Hold | None:
        """Money at hand for a call, or None: then `hold` waits for it."""
        purse = self._purses.get(caller.key_id)
        if purse is None or purse.waiting or purse.wallet.lineage != caller.accounts:
            return None
        wallet = purse.wallet
        now = self._clock.monotonic_ms()
        if now >= self._lease_until_ms[wallet.partition] or not wallet.hold(amount, now):
            return None
        if not purse.asking and wallet.low(now):
            self._start_asking(purse, ahead=True)
        return Hold(wallet, amount)

    async def hold(self, caller: Caller, amount: int) -> Hold:
        """Money for a call, asked for if need be. Raises Denied or Unreachable."""
        purse = self._purse(caller)
        if len(purse.waiting) >= WAITERS_MAX:
            raise Unreachable
        future: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        purse.waiting.append((amount, future))
        self.waits += 1
        if not purse.asking:
            self._start_asking(purse, ahead=False)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.settle(future.result(), 0)  # granted in the very moment the call was given up
            raise

    def settle(self, hold: Hold, cost: int) -> None:
        """A call has ended: its hold becomes `cost`."""
        hold.wallet.settle(hold.amount, cost)

    def _purse(self, caller: Caller) -> _Purse:
        purse = self._purses.get(caller.key_id)
        if purse is None:
            purse = _Purse(caller, self._new_wallet(caller))
            self._purses[caller.key_id] = purse
        elif purse.wallet.lineage != caller.accounts:
            self._replace(purse, caller)
        return purse

    def _new_wallet(self, caller: Caller) -> Wallet:
        self._serial += 1
        wallet = Wallet(
            serial=self._serial,
            key_id=caller.key_id,
            lineage=caller.accounts,
            partition=caller.partition,
            last_call_ms=self._clock.monotonic_ms(),
        )
        self._wallets[wallet.serial] = wallet
        return wallet

    def _replace(self, purse: _Purse, caller: Caller) -> None:
        """The wallet in use is over (window, lineage): let it drain, begin a new one."""
        purse.wallet.draining = True
        purse.caller = caller
        purse.wallet = self._new_wallet(caller)

    # ---- asking --------------------------------------------------------------------------------------

    def _start_asking(self, purse: _Purse, *, ahead: bool) -> None:
        purse.asking = True
        self._tasks.start(f"ask-{purse.caller.key_id}", self._serve_waiting(purse, ahead))

    async def _serve_waiting(self, purse: _Purse, ahead: bool) -> None:
        """Ask until nobody waits (with `ahead` once even so); the only task that asks for this key. The first in line
        waits ASK_WAIT_MS at most, whatever is answered meanwhile."""
        try:
            if ahead:
                await self._ask(purse)
            first: list[asyncio.Future[Hold]] = []
            since = 0
            while self._admit_waiting(purse):
                now = self._clock.monotonic_ms()
                if first != [purse.waiting[0][1]]:
                    first, since = [purse.waiting[0][1]], now
                elif now - since >= ASK_WAIT_MS:
                    self._fail_waiting(purse)
                    return
                await self._ask(purse)
        except BaseException:
            self._fail_waiting(purse)
            raise
        finally:
            purse.asking = False

    def _admit_waiting(self, purse: _Purse) -> bool:
        """Admit in order of arrival while there is room; whether anybody still waits."""
        now = self._clock.monotonic_ms()
        wallet = purse.wallet
        while purse.waiting:
            amount, future = purse.waiting[0]
            if future.done():
                purse.waiting.popleft()
                continue
            if now >= self._lease_until_ms[wallet.partition] or not wallet.hold(amount, now):
                return True
            purse.waiting.popleft()
            future.set_result(Hold(wallet, amount))
        return False

    async def _ask(self, purse: _Purse) -> None:
        """One request, for all that wait and what is likely to come."""
        wallet = purse.wallet
        now = self._clock.monotonic_ms()
        if wallet.draining or (wallet.term and not wallet.open(now)):
            self._replace(purse, self._directory.current(purse.caller.key_id) or purse.caller)
            wallet = purse.wallet
        amounts = [amount for amount, future in purse.waiting if not future.done()]
        first = amounts[0] if amounts else 0
        base = wallet.returned + wallet.spent + wallet.holds
        wallet.rseq += 1
        self.asks += 1
        answer = await self._request(
            wallet.partition,
            Ask(
                instance=self._instance,
                serial=wallet.serial,
                key_id=wallet.key_id,
                lineage=wallet.lineage,
                policy_rev=purse.caller.policy_rev,
                rseq=wallet.rseq,
                need=base + first,
                want=base + sum(amounts) + wallet.ahead(now),
                least=min(amounts, default=0),
                sent_ms=now,
                rows=(wallet.row(),),
            ),
        )
        if isinstance(answer, Answer):
            await self._believe(purse, wallet, answer, first)

    async def _believe(self, purse: _Purse, wallet: Wallet, answer: Answer, asked: int) -> None:
        """Take an answer in; `asked` is the call that its verdict is about (0: nobody waited)."""
        partition = wallet.partition
        until = min(answer.sent_ms + answer.admit_for_ms, answer.sent_ms + LEASE_MS)
        wallet.learn(answer.granted, answer.term, until)
        wallet.tight = answer.tight
        if answer.verdict == "closed":
            self.closed.set()
            self._lease_until_ms = [0] * self._partitions
        stale = answer.epoch < self._epoch[partition]
        self._epoch[partition] = max(self._epoch[partition], answer.epoch)
        if answer.verdict == "policy":
            self._replace(purse, self._directory.current(purse.caller.key_id) or purse.caller)
        if stale or answer.verdict in ("policy", "closed"):
            await asyncio.sleep(POLICY_RETRY_S)
            return
        if answer.verdict in ("exceeded", "reserved") and answer.refusal is not None and asked:
            self._admit_waiting(purse)
            if answer.verdict == "reserved" and await self._free_siblings(purse, answer.refusal.account):
                return  # ask again: what other wallets of this instance kept in reserve may be enough
            self._deny_waiting(purse, asked, answer.verdict, answer.refusal)

    async def _free_siblings(self, purse: _Purse, account: AccountId) -> bool:
        """Give back what other wallets of this instance hold idle of an account; whether it was anything.

        Tried once for each call that waits first, so that two keys cannot take money from each other for ever.
        """
        first = purse.waiting[0][1] if purse.waiting else None
        if first is None or purse.freed_for is first:
            return False
        purse.freed_for = first
        mine = purse.wallet
        freed = 0
        for wallet in self._wallets.values():
            owner = self._purses.get(wallet.key_id)
            wanted = owner is not None and owner.wallet is wallet and owner.waiting
            if wallet is not mine and wallet.partition == mine.partition and account in wallet.lineage and not wanted:
                freed += wallet.give_back_all()
        if freed == 0:
            return False
        rows, sent = self._rows(mine.partition), self._clock.monotonic_ms()
        return await self._request(mine.partition, Return(instance=self._instance, rows=rows, sent_ms=sent)) is not None

    def _deny_waiting(self, purse: _Purse, asked: int, verdict: str, refusal: Refusal) -> None:
        """Refuse all that want as much as was asked for in vain, or more; smaller ones still have their turn."""
        waiting = [(amount, future) for amount, future in purse.waiting if not future.done()]
        purse.waiting.clear()
        for amount, future in waiting:
            if amount >= asked:
                future.set_exception(Denied(verdict, refusal))
            else:
                purse.waiting.append((amount, future))

    def _fail_waiting(self, purse: _Purse) -> None:
        for _, future in purse.waiting:
            if not future.done():
                future.set_exception(Unreachable())
        purse.waiting.clear()

    # ---- talking to the enforcer ---------------------------------------------------------------------

    async def _request(self, partition: int, request: Request) -> Reply | None:
        """Send until answered, the same message each time; None when nobody answered within ASK_WAIT_MS."""
        data = encode(request)
        deadline = request.sent_ms + ASK_WAIT_MS
        while (left := deadline - self._clock.monotonic_ms()) > 0:
            try:
                raw = await self._bus.request(allot_subject(partition), data, timeout_s=min(left, RETRANSMIT_MS) / 1000)
                reply = decode_reply(raw)
            except BusUnavailable:
                await asyncio.sleep(POLICY_RETRY_S)
                continue
            except msgspec.MsgspecError as error:
                log.error("the enforcer's answer cannot be read: %s", error)
                return None
            if isinstance(reply, NotActive):
                await asyncio.sleep(POLICY_RETRY_S)
                continue
            self._lease_until_ms[partition] = max(self._lease_until_ms[partition], reply.sent_ms + LEASE_MS)
            if isinstance(reply, Ack):
                self._learn_known(reply, partition)
            if self.closed.is_set():
                self._lease_until_ms = [0] * self._partitions  # nothing more may be held under this name
            return reply
        return None

    def _learn_known(self, ack: Ack, partition: int) -> None:
        """Believe what the log has; money granted for a wallet we have forgotten goes back at once."""
        if ack.closed:
            self.closed.set()
        for known in ack.known:
            wallet = self._wallets.get(known.serial)
            if wallet is None:
                spent = self._gone.get(known.serial, 0)
                wallet = Wallet(serial=known.serial, key_id=_NOBODY, lineage=(), partition=partition, spent=spent)
                wallet.draining = True
                self._wallets[known.serial] = wallet
            wallet.learn(known.granted, known.term, ack.sent_ms + known.admit_for_ms)
            wallet.returned_known = max(wallet.returned_known, known.returned)

    def _rows(self, partition: int) -> tuple[Row, ...]:
        """The wallets of a partition, those first whose returns the ledger does not know yet."""
        wallets = [wallet for wallet in self._wallets.values() if wallet.partition == partition]
        wallets.sort(key=lambda wallet: wallet.returned_known >= wallet.returned)
        return tuple(wallet.row() for wallet in wallets[:ROWS_MAX])

    async def _beat(self) -> None:
        """Say that this instance lives, in every partition where it has wallets."""
        while True:
            await asyncio.sleep(BEAT_MS / 1000)
            for partition in range(self._partitions):
                rows = self._rows(partition)
                if rows:
                    sent = self._clock.monotonic_ms()
                    await self._request(partition, Beat(instance=self._instance, rows=rows, sent_ms=sent))

    async def _tidy(self) -> None:
        """Give back what is not likely to be needed, and forget wallets that are over."""
        while True:
            await asyncio.sleep(TIDY_S)
            await self.give_back()

    async def give_back(self) -> None:
        """Return idle money of every wallet and drop those that the ledger knows to be empty."""
        now = self._clock.monotonic_ms()
        changed: set[int] = set()
        for wallet in list(self._wallets.values()):
            purse = self._purses.get(wallet.key_id)
            in_use = purse is not None and purse.wallet is wallet
            if purse is not None and in_use and purse.waiting:
                continue
            if (wallet.term and now >= wallet.admit_until_ms) or now - wallet.last_call_ms > FORGET_AFTER_MS:
                wallet.draining = True
            if wallet.give_back(now) > 0 or wallet.returned_known < wallet.returned:
                changed.add(wallet.partition)
            if wallet.empty():
                self._forget(wallet)
                if in_use:
                    del self._purses[wallet.key_id]
        for partition in changed:
            sent = self._clock.monotonic_ms()
            await self._request(partition, Return(instance=self._instance, rows=self._rows(partition), sent_ms=sent))

    def _forget(self, wallet: Wallet) -> None:
        del self._wallets[wallet.serial]
        self._gone[wallet.serial] = wallet.spent
        if len(self._gone) > TOMBSTONES_MAX:
            del self._gone[next(iter(self._gone))]

    async def close(self) -> None:
        """No call runs any more: give everything back."""
        for wallet in self._wallets.values():
            wallet.draining = True
        await self.give_back()
        await self._tasks.close()
