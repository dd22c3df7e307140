"""The queue before a purse: who is admitted, who is refused, who has waited too long."""

from services.proxy.domain.money.effects import Admitted, Effect, Refuse, Unreachable
from services.proxy.domain.money.purse import BankTuning, Purse, Waiter
from services.proxy.domain.money.refusals import Refusals
from services.proxy.domain.money.wallet import Hold
from shared.allotment import Ack, Answer, Refusal


class Leases:
    """Until when holds may be placed, per partition, by the proxy's own clock."""

    def __init__(self, partitions: int) -> None:
        self.until_ms = [0] * partitions
        self._epoch = [0] * partitions

    def renew(self, partition: int, reply: Answer | Ack) -> bool:
        """A reply renews the lease from when its request was first sent; whether it is of the newest epoch known.

        A new office may give another lease than the old one, so its first word replaces what was.
        """
        if reply.epoch < self._epoch[partition]:
            return False
        until_ms = reply.sent_ms + reply.lease_ms
        if reply.epoch > self._epoch[partition]:
            self._epoch[partition] = reply.epoch
            self.until_ms[partition] = until_ms
        elif until_ms > self.until_ms[partition]:
            self.until_ms[partition] = until_ms
        return True

    def end(self) -> None:
        """No more holds."""
        self.until_ms[:] = [0] * len(self.until_ms)


class Counter:
    """Serves queues; what becomes of those who waited is appended to `effects`."""

    def __init__(self, tuning: BankTuning, partitions: int, refusals: Refusals) -> None:
        self.leases = Leases(partitions)
        self.refusals = refusals
        self.effects: list[Effect] = []
        self.waiters: dict[int, Waiter] = {}
        self._ask_wait_ms = tuning.ask_wait_ms

    def enqueue(self, purse: Purse, waiter: Waiter) -> None:
        """Last in line."""
        purse.waiting.append(waiter)
        self.waiters[waiter.token] = waiter
        purse.wallet.alert = True

    def fits(self, purse: Purse, waiter: Waiter, now_ms: int) -> bool:
        """Whether the next in line can be admitted now."""
        wallet = purse.wallet
        if now_ms >= wallet.admit_until_ms or now_ms >= self.leases.until_ms[wallet.partition]:
            return False
        room = wallet.room()
        if room >= waiter.most:
            return True
        if room < waiter.amount:
            return False
        return waiter.tried or wallet.short or self.refusals.would_refuse(wallet.lineage, waiter.most, now_ms)

    def admit(self, purse: Purse, waiter: Waiter, now_ms: int) -> None:
        """One that fits has its money, as much as it can use of what there is."""
        wallet = purse.wallet
        amount = min(waiter.most, wallet.room())
        wallet.take(amount, now_ms)
        self.waiters.pop(waiter.token, None)
        self.effects.append(Admitted(waiter.token, Hold(wallet, amount)))

    def serve(self, purse: Purse, now_ms: int) -> None:
        """Admit in order of arrival while there is room."""
        waiting = purse.waiting
        while waiting:
            waiter = waiting[0]
            if not waiter.gone:
                if not self.fits(purse, waiter, now_ms):
                    break
                self.admit(purse, waiter, now_ms)
            waiting.popleft()
        purse.watch()

    def deny(self, purse: Purse, asked: int, verdict: str, refusal: Refusal) -> None:
        """Refuse all that want as much as was asked for in vain, or more; smaller ones still have their turn."""
        waiting = purse.live()
        purse.waiting.clear()
        for waiter in waiting:
            if waiter.amount >= asked:
                del self.waiters[waiter.token]
                self.effects.append(Refuse(waiter.token, verdict, refusal))
            else:
                purse.waiting.append(waiter)
        purse.watch()

    def expire(self, purse: Purse, now_ms: int) -> None:
        """Nobody waits longer than `ask_wait_ms`; one that could do with less takes what there is."""
        waiting = purse.waiting
        while waiting and (waiting[0].gone or waiting[0].since_ms + self._ask_wait_ms <= now_ms):
            waiter = waiting.popleft()
            if waiter.gone:
                continue
            waiter.tried = True
            if self.fits(purse, waiter, now_ms):
                self.admit(purse, waiter, now_ms)
            else:
                self.give_up(waiter)
        purse.watch()

    def give_up(self, waiter: Waiter) -> None:
        """Nobody can tell one who was in line whether there is money."""
        self.waiters.pop(waiter.token, None)
        self.effects.append(Unreachable(waiter.token))
