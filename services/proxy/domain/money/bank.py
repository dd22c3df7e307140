"""Money for calls: wallets, and the conversation about them with the ledger's enforcer. Pure: no clock, no I/O.

A call whose wallet has room is admitted here and now. Otherwise it waits its turn while one request per wallet is in
flight; what waits when a request leaves is asked for together, with what the calls of the next seconds are likely to
need. A wallet that runs low asks before anybody has to wait. Requests carry what is known of the wallets, renew the
lease, and may be repeated, late or lost without harm. Whoever drives the bank calls it with the time (monotonic
milliseconds), sends what `take_effects` says, and calls `tick` at `due_ms`.
"""

from services.proxy.domain.money.agenda import Agenda
from services.proxy.domain.money.counter import Counter
from services.proxy.domain.money.effects import Closed, Effect, Refuse, Unreachable
from services.proxy.domain.money.figures import Standings
from services.proxy.domain.money.post import Post
from services.proxy.domain.money.purse import BankTuning, Chain, Flight, Purse, Waiter, ask_for
from services.proxy.domain.money.purses import Current, Purses, adopt
from services.proxy.domain.money.refusals import Refusals
from services.proxy.domain.money.vault import Vault
from services.proxy.domain.money.wallet import DEMAND_TAU_MS, Hold, Wallet
from shared.allotment import Ack, Answer, Ask, Level, NotActive, Recall, Reply, Request
from shared.ids import AccountId, InstanceId, KeyId

NEVER_MS = 1 << 62


def _nothing_newer(key_id: KeyId, model: str) -> Chain | None:
    """For a driver that has no policy of its own: calls bring their chains."""
    return None


class Bank:
    """All wallets of one proxy instance."""

    def __init__(
        self,
        instance: InstanceId,
        partitions: int,
        tuning: BankTuning,
        current: Current = _nothing_newer,
        refusals: Refusals | None = None,
    ) -> None:
        self.instance = instance
        self.partitions = partitions
        self.tuning = tuning
        self.refusals = refusals or Refusals(tuning.reserved_ttl_ms, tuning.exceeded_ttl_ms)
        self.vault = Vault(tuning)
        self.closed = False
        self.asks = 0
        self.waits = 0
        self.recalls = 0
        self.recalled_nusd = 0
        self._counter = Counter(tuning, partitions, self.refusals)
        self._post = Post(instance, tuning, self.vault, self._counter.effects)
        self._purses = Purses(self.vault, self._counter, current, self._post.give_back_soon)
        self.slots = self._purses.slots
        self._until_ms = self._counter.leases.until_ms
        self._agenda = Agenda(tuning.ask_wait_ms)
        self._standings = Standings()
        self._tidy_at_ms: int | None = None
        self._low = tuning.low_water * tuning.horizon_ms / DEMAND_TAU_MS

    # ---- calls -----------------------------------------------------------------------------------------

    def try_hold(self, chain: Chain, amount: int, most: int, now_ms: int) -> Hold | None:
        """Money at hand for a call, or None: then `wait`."""
        purse = self.slots.get(chain.slot)
        if purse is None or (purse.chain is not chain and not adopt(purse, chain)):
            return None
        return self.draw(purse, amount, most, now_ms)

    def draw(self, purse: Purse, amount: int, most: int, now_ms: int) -> Hold | None:
        """Like `try_hold`, for a purse that was looked up already.

        A call that could use more than it needs takes what there is only when the ledger has no more to give.
        """
        wallet = purse.wallet
        if purse.waiting or now_ms >= wallet.admit_until_ms or now_ms >= self._until_ms[wallet.partition]:
            return None
        room = wallet.granted - wallet.returned - wallet.spent - wallet.holds
        if room < most:
            if room < amount or not wallet.short:
                return None
            most = room
        wallet.take(most, now_ms)
        if room - most < wallet.demand * self._low and not wallet.tight and purse.flight is None:
            self._ask_ahead(purse, now_ms)
        return Hold(wallet, most)

    def wait(self, token: int, chain: Chain, amount: int, most: int, now_ms: int) -> None:
        """Queue a call for money; what becomes of it is an effect with its token, often at once."""
        purse = None if self.closed or not chain.accounts else self._purses.find(chain, now_ms)
        if purse is None or len(purse.waiting) >= self.tuning.waiters_max:
            self._counter.effects.append(Unreachable(token))
            return
        waiter = Waiter(token, chain, amount, max(amount, most), now_ms)
        if not purse.waiting and self._counter.fits(purse, waiter, now_ms):
            self._counter.admit(purse, waiter, now_ms)
            return
        known = self.refusals.find(chain.accounts, amount, now_ms)
        if known is not None:
            self._counter.effects.append(Refuse(token, *known))
            return
        self.waits += 1
        self._counter.enqueue(purse, waiter)
        if purse.flight is None and now_ms >= purse.ask_at_ms:
            self._ask(purse, now_ms)
        self._agenda.plan(purse)

    def cancel(self, token: int) -> None:
        """A call that waits has given up."""
        waiter = self._counter.waiters.pop(token, None)
        if waiter is None:
            return
        waiter.gone = True
        purse = self.slots.get(waiter.chain.slot)
        if purse is not None:
            purse.clear_gone()
            purse.watch()

    def settle(self, hold: Hold, cost: int, now_ms: int) -> None:
        """A call has ended: its hold becomes `cost`."""
        wallet = hold.wallet
        wallet.holds -= hold.amount
        wallet.spent += cost
        if wallet.alert or self.refusals.reserved:
            self.settled(wallet, now_ms)

    def settled(self, wallet: Wallet, now_ms: int) -> None:
        """What follows from a settle when somebody waits for it (`alert`, or a refusal as reserved is remembered)."""
        self.refusals.settled(wallet.lineage)
        if self.vault.wallets.get(wallet.serial) is not wallet:
            return
        if wallet.draining:
            wallet.give_back_beyond(0)
            self._post.give_back_soon(wallet, now_ms)
        else:
            purse = self._purses.owners.get(wallet.serial)
            if purse is not None and purse.waiting:
                self._counter.serve(purse, now_ms)
                self._agenda.plan(purse)

    def owns(self, hold: Hold) -> bool:
        """Whether a hold that is not settled was placed here."""
        return self.vault.wallets.get(hold.serial) is hold.wallet

    def take_waiting(self) -> list[Waiter]:
        """All calls that still wait, for another bank to serve; this one forgets them."""
        waiting = [waiter for waiter in self._counter.waiters.values() if not waiter.gone]
        self._counter.waiters.clear()
        for purse in self._purses.all():
            purse.waiting.clear()
        return sorted(waiting, key=lambda waiter: (waiter.since_ms, waiter.token))

    # ---- what comes from outside -----------------------------------------------------------------------

    def heard(self, partition: int, reply: Reply, now_ms: int) -> None:
        """A reply of an enforcer, whichever request it is for; late and doubled ones do no harm."""
        if isinstance(reply, NotActive):
            for purse in self._purses.all():
                flight = purse.flight
                ours = purse.wallet.partition == partition
                if ours and flight is not None and flight.request.sent_ms == reply.sent_ms:
                    self.failed(partition, flight.request, now_ms)
            return
        fresh = not self.closed and self._counter.leases.renew(partition, reply)
        if isinstance(reply, Ack):
            if reply.closed:
                self._close()
            for known in reply.known:
                until_ms = reply.sent_ms + known.admit_for_ms
                self.vault.believe(partition, known.serial, known.granted, known.returned, known.term, until_ms)
        else:
            self._answered(partition, reply, fresh, now_ms)

    def failed(self, partition: int, request: Request, now_ms: int) -> None:
        """Nobody took a request, or the enforcer does not hold the office: it is sent again a little later."""
        purse = self._purses.owners.get(request.serial) if isinstance(request, Ask) else None
        flight = None if purse is None else purse.flight
        if purse is not None and flight is not None and flight.request is request:
            flight.resend_ms = min(flight.resend_ms, flight.sent_ms + flight.pause_ms)
            flight.pause_ms = min(2 * flight.pause_ms, self.tuning.retransmit_ms)
            self._agenda.plan(purse)

    def recalled(self, partition: int, recall: Recall, now_ms: int) -> None:
        """Others need an account: give back what is idle there, but what queued calls need; answered at once."""
        if self.closed:
            return
        self.recalls += 1
        for known in recall.known:
            self.vault.believe(partition, known.serial, known.granted, known.returned)
        rows: list[Wallet] = []
        for wallet in self.vault.over(recall.account):
            if wallet.partition != partition:
                continue
            purse = self._purses.owners.get(wallet.serial)
            self.recalled_nusd += wallet.give_back_beyond(0 if purse is None else purse.queued())
            wallet.tight = True
            if wallet.returned_known < wallet.returned:
                rows.append(wallet)
        self._post.give_back(partition, rows, now_ms)

    def level(self, level: Level, now_ms: int, ends_ms: int | None = None) -> None:
        """The state of an account as the ledger shows it to all."""
        self._standings.level(level)
        self.refusals.level(level, now_ms, ends_ms)

    def level_gone(self, account: AccountId) -> None:
        """An account has no level any more."""
        self.refusals.level_gone(account)

    def tick(self, now_ms: int) -> None:
        """Do what is due: send again, give up waiting, beat, tidy."""
        for purse in self._agenda.take_due(now_ms):
            self._turn(purse, now_ms)
        if self.closed:
            return
        self._post.tick(now_ms)
        if self._tidy_at_ms is not None and now_ms >= self._tidy_at_ms:
            self._tidy(now_ms)

    def due_ms(self, now_ms: int) -> int | None:
        """When `tick` has something to do, if nothing happens before."""
        due = [self._agenda.next_ms()]
        if not self.closed:
            due += [self._tidy_at_ms, self._post.due_ms()]
        times = [at_ms for at_ms in due if at_ms is not None]
        return max(now_ms, min(times)) if times else None

    @property
    def effects(self) -> list[Effect]:
        """What is to be done, so far."""
        return self._counter.effects

    def take_effects(self) -> list[Effect]:
        """What is to be done since the last time."""
        effects = self._counter.effects.copy()
        self._counter.effects.clear()
        return effects

    def end(self, now_ms: int) -> None:
        """No call runs any more: give everything back."""
        for wallet in self.vault.wallets.values():
            wallet.drain()
        self._tidy(now_ms)

    @property
    def told(self) -> bool:
        """Whether the ledger knows of everything that was given back."""
        return self.closed or self._post.told

    def lease_left_ms(self, now_ms: int) -> int:
        """How long calls may still be admitted if the ledger says nothing more, in the worst partition in use."""
        return max(0, min((self._until_ms[partition] - now_ms for partition in self._post.touched), default=0))

    # ---- asking ----------------------------------------------------------------------------------------

    def _ask_ahead(self, purse: Purse, now_ms: int) -> None:
        if now_ms >= purse.ask_at_ms:
            self._ask(purse, now_ms)
            self._agenda.plan(purse)

    def _ask(self, purse: Purse, now_ms: int) -> None:
        """One request, for all that wait and what is likely to come."""
        if purse.wallet.over(now_ms):
            self._purses.replace(purse, now_ms)
        wallet = purse.wallet
        siblings = self._purses.siblings(purse, now_ms, self.tuning)
        purse.clear_gone()
        head = purse.waiting[0] if purse.waiting else None
        request = ask_for(purse, self.instance, siblings, now_ms)
        self.asks += 1
        purse.flight = Flight(
            request=request,
            first=head.amount if head is not None else 0,
            token=head.token if head is not None else 0,
            since_ms=now_ms,
            resend_ms=now_ms + self.tuning.retransmit_ms,
            pause_ms=self.tuning.retry_ms,
            sent_ms=now_ms,
        )
        if self._tidy_at_ms is None:
            self._tidy_at_ms = now_ms + self.tuning.tidy_ms
        self.vault.awake[wallet.serial] = wallet
        self._post.send(wallet.partition, request, now_ms)

    def _answered(self, partition: int, answer: Answer, fresh: bool, now_ms: int) -> None:
        until_ms = answer.sent_ms + answer.admit_for_ms
        wallet = self.vault.wallets.get(answer.serial)
        if wallet is None:
            self.vault.believe(partition, answer.serial, answer.granted, 0)
        else:
            self.vault.learn(wallet, answer.granted, answer.term, until_ms)
        if answer.verdict == "closed":
            self._close()
            return
        if fresh and wallet is not None:
            wallet.told = self._standings.hear(answer, wallet.told)
        purse = self._purses.owners.get(answer.serial)
        if purse is None:
            return
        flight = purse.flight
        if flight is None or flight.request.rseq != answer.rseq:
            self._counter.serve(purse, now_ms)
            return
        self._land(purse, flight.token)
        if fresh or answer.verdict == "ok":
            self._take_in(purse, answer, flight, now_ms)
        else:
            self._pause(purse, now_ms)
        if purse.waiting and purse.flight is None and now_ms >= purse.ask_at_ms:
            self._ask(purse, now_ms)
        self._agenda.plan(purse)

    def _land(self, purse: Purse, token: int | None = None) -> None:
        """The ask in flight has ended: by its answer for the call with `token`, or for nobody (None), whom all of those
        it was for have waited for in vain."""
        purse.flight = None
        for waiter in purse.waiting:
            if waiter.asked and (token is None or waiter.token == token):
                waiter.tried = True

    def _take_in(self, purse: Purse, answer: Answer, flight: Flight, now_ms: int) -> None:
        """Act on the verdict about a flight."""
        wallet, first = purse.wallet, flight.first
        if answer.verdict == "policy":
            self._replan(purse, now_ms)
            return
        refused = answer.verdict != "ok"
        wallet.tight = answer.tight or refused
        wallet.short = answer.granted < flight.request.fill
        self._counter.serve(purse, now_ms)
        if first and answer.verdict != "exceeded":
            self.refusals.not_exceeded(wallet.lineage, first)
        if first and not refused:
            self.refusals.not_reserved(wallet.lineage, first)
        elif first and answer.refusal is not None:
            self.refusals.refused(answer.verdict, first, answer.refusal, now_ms)
            self._counter.deny(purse, first, answer.verdict, answer.refusal)
        purse.clear_gone()
        if purse.waiting and purse.waiting[0].token == flight.token:
            self._pause(purse, now_ms)
        else:
            purse.pause_ms = 0

    def _pause(self, purse: Purse, now_ms: int) -> None:
        """An answer did not help: ask again, but not at once and ever more slowly."""
        purse.pause_ms = min(max(self.tuning.retry_ms, 2 * purse.pause_ms), self.tuning.retransmit_ms)
        purse.ask_at_ms = now_ms + purse.pause_ms

    def _replan(self, purse: Purse, now_ms: int) -> None:
        """The ledger goes by another policy, or by the next window: go by what policy says here by now."""
        used = purse.wallet.granted > 0
        for target in self._purses.replan(purse, now_ms):
            if target.flight is None and target.waiting:
                self._ask(target, now_ms)
            self._agenda.plan(target)
        if not purse.slots:
            return
        if used:
            self._purses.replace(purse, now_ms)
        else:
            self._pause(purse, now_ms)

    def _close(self) -> None:
        """The ledger has given this instance up. Calls that wait are left to `take_waiting` or their time-out."""
        if self.closed:
            return
        self.closed = True
        self._counter.leases.end()
        for purse in self._purses.all():
            purse.flight = None
            purse.ask_at_ms = NEVER_MS
            self._agenda.plan(purse)
        for wallet in self.vault.wallets.values():
            wallet.drain()
        self._counter.effects.append(Closed())

    # ---- what time brings ------------------------------------------------------------------------------

    def _turn(self, purse: Purse, now_ms: int) -> None:
        """Send an ask again, give it up, or begin the next one."""
        flight = purse.flight
        if flight is not None and now_ms >= flight.since_ms + self.tuning.ask_wait_ms:
            self._land(purse)
        elif flight is not None and now_ms >= flight.resend_ms:
            flight.sent_ms = now_ms
            flight.resend_ms = now_ms + self.tuning.retransmit_ms
            self._post.send(purse.wallet.partition, flight.request, now_ms)
        self._counter.expire(purse, now_ms)
        if not self.closed and purse.waiting and purse.flight is None and now_ms >= purse.ask_at_ms:
            self._ask(purse, now_ms)
        self._agenda.plan(purse)

    def _tidy(self, now_ms: int) -> None:
        """Give back what is not likely to be needed, and forget wallets that are over."""
        self._tidy_at_ms = now_ms + self.tuning.tidy_ms
        self._purses.tidy(now_ms, self.tuning)
        self._post.give_back_all(now_ms)
