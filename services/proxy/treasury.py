"""The bank at work: time, messages and waiting calls for `domain/money/bank.py`, which decides everything.

One treasury serves a process for life. When the ledger closes its instance, `renew` goes on under a new name with a
new bank; calls that run keep the holds of the old one, calls that wait move to the new one.
"""

import asyncio
import contextlib
import functools
import logging
from collections import deque
from itertools import count
from time import perf_counter_ns

import msgspec

from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller, Lineage
from services.proxy.domain.money.bank import Bank
from services.proxy.domain.money.effects import Admitted, Closed, Effect, Refuse, Send, Unreachable
from services.proxy.domain.money.figures import UNKNOWN, Figures
from services.proxy.domain.money.purse import BankTuning, Chain, slot_of
from services.proxy.holds import Denied, Hold
from services.proxy.holds import Unreachable as NobodyAnswers
from shared.allotment import Level, NotActive, Request, decode_recall, decode_reply, encode
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import BusUnavailable
from shared.ids import AccountId, InstanceId, KeyId
from shared.tasks import Supervisor
from shared.topology import allot_subject, recall_subject

log = logging.getLogger(__name__)

CHAINS_MAX = 100_000
"""Chains remembered for keys; beyond it all are made anew when next needed."""
WAITS_KEPT = 4_096
"""How many waits for money the metric of their length looks back on."""
END_WAIT_S = 2.0
"""How long the end waits until the ledger knows what was given back."""


class Treasury:
    """Money for the calls of this process."""

    def __init__(
        self,
        bus: Bus,
        directory: Directory,
        clock: Clock,
        instance: InstanceId,
        partitions: int,
        tuning: BankTuning | None = None,
    ) -> None:
        self._bus = bus
        self._directory = directory
        self._clock = clock
        self._now_ms = clock.monotonic_ms
        self._partitions = partitions
        self._tasks = Supervisor()
        self._chains: dict[str, Chain] = {}
        self._calls: dict[int, asyncio.Future[Hold]] = {}
        self._tokens = count(1)
        self._sends = count(1)
        self._waited_ns: deque[int] = deque(maxlen=WAITS_KEPT)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._ended = False
        self._told = asyncio.Event()
        self._renewed = asyncio.Event()
        self.closed = asyncio.Event()
        self.bank = Bank(instance, partitions, tuning or BankTuning(), self._current)
        self._slots = self.bank.slots

    def start(self, tasks: Supervisor) -> None:
        """Begin to listen to recalls. Beats and all else begin with the first ask."""
        tasks.keep("recalls", self._listen)

    # ---- calls -----------------------------------------------------------------------------------------

    def try_hold(self, caller: Caller, lineage: Lineage, amount: int, most: int) -> Hold | None:
        """Money at hand for a call, or None: then `hold` waits for it. `amount` ≤ held ≤ `most`."""
        purse = self._slots.get(caller.key_id if lineage is caller.common else slot_of(caller.key_id, lineage.model))
        if purse is None:
            return None
        bank = self.bank
        if purse.chain.accounts is not lineage.accounts:
            return self._act_after(bank.try_hold(self._chain(caller, lineage), amount, most, self._now_ms()))
        hold = bank.draw(purse, amount, most, self._now_ms())
        if bank.effects:
            self._act()
        return hold

    async def hold(self, caller: Caller, lineage: Lineage, amount: int, most: int) -> Hold:
        """Money for a call, asked for if need be. Raises Denied or Unreachable (of `holds`)."""
        token = next(self._tokens)
        call: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        self._calls[token] = call
        self.bank.wait(token, self._chain(caller, lineage), amount, most, self._now_ms())
        self._act()
        if not call.done():
            since_ns = perf_counter_ns()
            call.add_done_callback(lambda _: self._waited_ns.append(perf_counter_ns() - since_ns))
        try:
            hold = await call
        except asyncio.CancelledError:
            if self._calls.pop(token, None) is not None:
                self.bank.cancel(token)
                self._act()
            elif not call.cancelled() and call.exception() is None:
                self.settle(call.result(), 0)  # granted in the very moment the call was given up
            raise
        if not self.bank.owns(hold):  # the instance was closed in the very moment of the grant
            return await self.hold(caller, lineage, amount, most)
        return hold

    def settle(self, hold: Hold, cost: int) -> None:
        """A call has ended: its hold becomes `cost`."""
        wallet = hold.wallet
        wallet.holds -= hold.amount
        wallet.spent += cost
        bank = self.bank
        if wallet.alert or bank.refusals.reserved:
            bank.settled(wallet, self._now_ms())
            self._act()

    def figures(self, hold: Hold | None) -> Figures:
        """How the accounts of a call stand, for its answer's head: with its own cost once it is settled.

        As the ledger told it last, with what was settled here since; both unknown for a call that holds no money.
        """
        if hold is None:
            return UNKNOWN
        wallet = hold.wallet
        told = wallet.told
        return UNKNOWN if told is None else told.figures(wallet.spent)

    def wait_p99_ms(self) -> float:
        """The 99th percentile of how long the last calls that had to wait for money did so."""
        waited = sorted(self._waited_ns)
        return waited[len(waited) * 99 // 100] / 1e6 if waited else 0.0

    # ---- what the ledger tells all ---------------------------------------------------------------------

    def level(self, level: Level) -> None:
        """The state of an account, from the bucket of levels."""
        now_ms = self._now_ms()
        ends_ms: int | None = None
        if level.until_s is not None:
            ends_ms = now_ms + int((level.until_s - self._clock.now().timestamp()) * 1_000)
        self.bank.level(level, now_ms, ends_ms)

    def level_gone(self, account: AccountId) -> None:
        """An account has no level any more."""
        self.bank.level_gone(account)

    # ---- one name after another ------------------------------------------------------------------------

    def renew(self, instance: InstanceId) -> None:
        """Go on under a new name: nothing is carried over but what was refused, and the calls that wait."""
        old = self.bank
        self.bank = Bank(instance, self._partitions, old.tuning, self._current, old.refusals)
        self.bank.asks, self.bank.waits = old.asks, old.waits
        self.bank.recalls, self.bank.recalled_nusd = old.recalls, old.recalled_nusd
        self._slots = self.bank.slots
        self.closed.clear()
        self._renewed.set()
        now_ms = self._now_ms()
        for waiter in old.take_waiting():
            self.bank.wait(waiter.token, waiter.chain, waiter.amount, waiter.most, now_ms)
        self._act()

    async def close(self) -> None:
        """No call runs any more: give everything back, and wait a little until the ledger knows."""
        try:
            self.bank.end(self._now_ms())
            self._act()
            async with asyncio.timeout(END_WAIT_S):
                while not self.bank.told:
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            log.warning("the ledger has not heard what was given back; it will when this instance is closed")
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End at once: who waits is told that nobody answers."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        for token in list(self._calls):
            self._fail(token, NobodyAnswers())
        await self._tasks.close()

    # ---- metrics ---------------------------------------------------------------------------------------

    def idle_nusd(self) -> int:
        """Money at hand that no call holds."""
        return self.bank.vault.idle_nusd()

    def held_nusd(self) -> int:
        """Money held by running calls."""
        return self.bank.vault.held_nusd()

    def lease_left_s(self) -> float:
        """How long calls are still admitted if the ledger says nothing more; 0 while no money was asked for."""
        return self.bank.lease_left_ms(self._now_ms()) / 1_000

    # ---- inside ----------------------------------------------------------------------------------------

    def _chain(self, caller: Caller, lineage: Lineage) -> Chain:
        """The chain of a lineage; the same object as long as the policy is."""
        slot = slot_of(caller.key_id, lineage.model)
        chain = self._chains.get(slot)
        if chain is None or chain.accounts is not lineage.accounts or chain.policy_rev != caller.policy_rev:
            chain = Chain(caller.key_id, lineage.accounts, lineage.model, caller.partition, caller.policy_rev)
            if len(self._chains) >= CHAINS_MAX:
                self._chains.clear()
            self._chains[slot] = chain
        return chain

    def _current(self, key_id: KeyId, model: str) -> Chain | None:
        """What policy says by now (see `domain/money/purses.py`).

        A call that began when models did not matter does not say its model: if they matter by now, it has to come
        again, and nothing is to be held for it here.
        """
        caller = self._directory.current(key_id)
        if caller is None:
            return None
        if not model and caller.common is None:
            return Chain(key_id, (), model, caller.partition, caller.policy_rev)
        return self._chain(caller, caller.lineage(model))

    def _act_after(self, hold: Hold | None) -> Hold | None:
        self._act()
        return hold

    def _act(self) -> None:
        """Do what the bank wants done, and come back when it is due."""
        for effect in self.bank.take_effects():
            self._do(effect)
        self._told.set()
        self._schedule()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                if not self._ended:
                    self._tasks.start(f"ledger-{next(self._sends)}", self._send(self.bank, effect))
            case Admitted():
                call = self._calls.pop(effect.token, None)
                if call is None or call.done():
                    self.settle(effect.hold, 0)
                else:
                    call.set_result(effect.hold)
            case Refuse():
                self._fail(effect.token, Denied(effect.verdict, effect.refusal))
            case Unreachable():
                self._fail(effect.token, NobodyAnswers())
            case Closed():
                self.closed.set()

    def _fail(self, token: int, error: Exception) -> None:
        call = self._calls.pop(token, None)
        if call is not None and not call.done():
            call.set_exception(error)

    def _schedule(self) -> None:
        now_ms = self._now_ms()
        due_ms = self.bank.due_ms(now_ms)
        if due_ms is None or self._ended:
            return
        if self._timer is not None:
            if now_ms < due_ms >= self._timer_ms:
                return
            self._timer.cancel()
        self._timer_ms = due_ms
        self._timer = asyncio.get_running_loop().call_later((due_ms - now_ms) / 1_000, self.tick)

    def tick(self) -> None:
        """Do what is due. Calls itself when something is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.bank.tick(self._now_ms())
        self._act()

    async def _send(self, bank: Bank, effect: Send) -> None:
        """One copy of a request; its reply is welcome as long as somebody may wait for it."""
        partition, request = effect.partition, effect.request
        try:
            raw = await self._bus.request(
                allot_subject(partition), encode(request), timeout_s=bank.tuning.ask_wait_ms / 1_000
            )
            reply = decode_reply(raw)
        except BusUnavailable:
            self._failed(bank, partition, request)
            return
        except msgspec.MsgspecError as error:
            log.error("the enforcer's answer cannot be read: %s", error)
            self._failed(bank, partition, request)
            return
        if isinstance(reply, NotActive):
            self._failed(bank, partition, request)
            return
        bank.heard(partition, reply, self._now_ms())
        if bank is self.bank:
            self._act()

    def _failed(self, bank: Bank, partition: int, request: Request) -> None:
        bank.failed(partition, request, self._now_ms())
        if bank is self.bank:
            self._schedule()

    async def _listen(self) -> None:
        """Hear recalls under the present name, until there is another."""
        self._renewed.clear()
        bank = self.bank

        async with contextlib.AsyncExitStack() as subscriptions:
            for partition in range(self._partitions):
                heard = functools.partial(self.recalled, bank, partition)
                subscription = await self._bus.subscribe(recall_subject(partition, bank.instance), heard)
                subscriptions.push_async_callback(subscription.unsubscribe)
            await self._renewed.wait()

    def recalled(self, bank: Bank, partition: int, data: bytes) -> None:
        """The enforcer of a partition wants idle money back; answered at once."""
        try:
            recall = decode_recall(data)
        except msgspec.MsgspecError as error:
            log.error("a recall cannot be read: %s", error)
            return
        if bank is self.bank:
            bank.recalled(partition, recall, self._now_ms())
            self._act()
