"""Which purse a call uses: one per key and lineage, found by slot (key, and model where it matters).

A lineage that changes leads to another purse: the queue moves along, the old wallet drains.
"""

from collections.abc import Callable

from services.proxy.domain.money.counter import Counter
from services.proxy.domain.money.purse import BankTuning, Chain, Purse
from services.proxy.domain.money.vault import Vault
from services.proxy.domain.money.wallet import Wallet
from shared.ids import AccountId, KeyId

Current = Callable[[KeyId, str], Chain | None]
"""The chain of a key for a model as policy stands now; None when the key is gone."""


def adopt(purse: Purse, chain: Chain) -> bool:
    """Whether a chain means this purse; asks go by its policy from now on, unless that is the older one."""
    known = purse.chain
    if known.accounts != chain.accounts or known.partition != chain.partition:
        return False
    if chain.policy_rev >= known.policy_rev:
        purse.chain = chain
    return True


class Purses:
    """All purses in use. `drained` is called with each wallet that is to give its money back."""

    def __init__(
        self, vault: Vault, counter: Counter, current: Current, drained: Callable[[Wallet, int], None]
    ) -> None:
        self.slots: dict[str, Purse] = {}
        self.owners: dict[int, Purse] = {}
        self._vault = vault
        self._counter = counter
        self._current = current
        self._drained = drained
        self._all: dict[tuple[KeyId, int, tuple[AccountId, ...]], Purse] = {}
        self._families: dict[KeyId, list[Purse]] = {}
        self._forget_at_ms = 0

    def all(self) -> list[Purse]:
        """Every purse in use."""
        return list(self._all.values())

    def siblings(self, purse: Purse, now_ms: int, tuning: BankTuning) -> list[Wallet]:
        """The key's wallets for other models that have something to give back: what they keep beyond a part of their
        horizon is given back here, since an ask for a shared account cannot see it."""
        family = self._families[purse.chain.key_id]
        if len(family) == 1:
            return []
        siblings: list[Wallet] = []
        for other in family:
            wallet = other.wallet
            if other is purse or wallet.partition != purse.wallet.partition:
                continue
            if not other.waiting and not set(wallet.lineage).isdisjoint(purse.wallet.lineage):
                wallet.give_back(now_ms, tuning.sibling_horizons, tuning.idle_after_ms)
            if wallet.returned_known < wallet.returned:
                siblings.append(wallet)
        return siblings[: tuning.rows_max - 1]

    def find(self, chain: Chain, now_ms: int) -> Purse:
        """The purse of a chain, made if need be."""
        purse = self.slots.get(chain.slot)
        if purse is not None and (purse.chain is chain or adopt(purse, chain)):
            return purse
        if purse is not None and chain.policy_rev < purse.chain.policy_rev:
            newer = self._current(chain.key_id, chain.model)
            if newer is None or newer.policy_rev < purse.chain.policy_rev or adopt(purse, newer):
                return purse
            chain = newer
        target = self._open(chain, now_ms)
        self.slots[chain.slot] = target
        target.slots.add(chain.slot)
        if purse is not None:
            self._leave(purse, chain.slot, target, chain, now_ms)
        return target

    def replan(self, purse: Purse, now_ms: int) -> list[Purse]:
        """Lead each slot of a purse to where policy says by now; the other purses that calls have moved to."""
        moved: list[Purse] = []
        for slot in sorted(purse.slots):
            key_id, _, model = slot.partition("/")
            newer = self._current(KeyId(key_id), model)
            if newer is None:
                continue
            target = self.find(newer, now_ms) if newer.accounts else None
            if target is None or newer.slot != slot:  # no money is held any more, or models matter now, or no longer
                self.slots.pop(slot, None)
                self._leave(purse, slot, target, newer, now_ms)
            if target is not None and target is not purse and target not in moved:
                moved.append(target)
        return moved

    def replace(self, purse: Purse, now_ms: int) -> None:
        """The wallet in use is over: let it drain, begin a new one."""
        self._drain(purse.wallet, now_ms)
        purse.wallet = self._vault.make(purse.chain, now_ms)
        self.owners[purse.wallet.serial] = purse
        purse.watch()

    def retire(self, purse: Purse, now_ms: int) -> None:
        """Nobody uses a purse any more: its wallet drains, and an answer that is still to come goes to the vault."""
        for slot in purse.slots:
            del self.slots[slot]
        purse.slots.clear()
        chain = purse.chain
        family = self._families[chain.key_id]
        family.remove(purse)
        if not family:
            del self._families[chain.key_id]
        del self._all[(chain.key_id, chain.partition, chain.accounts)]
        purse.flight = None
        purse.due_ms = None
        self._drain(purse.wallet, now_ms)

    def tidy(self, now_ms: int, tuning: BankTuning) -> None:
        """Give back what is not likely to be needed, let quiet wallets rest, and forget those that are over."""
        if now_ms >= self._forget_at_ms:
            self._forget_at_ms = now_ms + tuning.forget_after_ms // 10
            for wallet in self._vault.resting(now_ms - tuning.forget_after_ms):
                purse = self.owners.get(wallet.serial)
                if purse is not None and not purse.waiting and purse.flight is None:
                    self.retire(purse, now_ms)
        for wallet in list(self._vault.awake.values()):
            purse = self.owners.get(wallet.serial)
            if purse is not None and purse.waiting:
                continue
            resting = purse is None or purse.flight is None
            if purse is not None and resting and wallet.over(now_ms):
                self.retire(purse, now_ms)
                purse = None
            wallet.give_back(now_ms, tuning.keep_horizons, tuning.idle_after_ms)
            if resting:
                self._vault.settle_down(wallet, in_use=purse is not None)

    def _open(self, chain: Chain, now_ms: int) -> Purse:
        name = (chain.key_id, chain.partition, chain.accounts)
        purse = self._all.get(name)
        if purse is None:
            purse = Purse(chain, self._vault.make(chain, now_ms))
            self._all[name] = purse
            self._families.setdefault(chain.key_id, []).append(purse)
            self.owners[purse.wallet.serial] = purse
        else:
            adopt(purse, chain)
        return purse

    def _leave(self, purse: Purse, slot: str, target: Purse | None, chain: Chain, now_ms: int) -> None:
        """A slot no longer leads to a purse: those who wait go where it leads now (None: nothing is to be held any
        more, so they are told to come again)."""
        purse.slots.discard(slot)
        waiting = purse.live()
        purse.waiting.clear()
        for waiter in waiting:
            if waiter.chain.slot != slot:
                purse.waiting.append(waiter)
            elif target is None:
                self._counter.give_up(waiter)
            else:
                waiter.chain = chain
                waiter.asked = False
                self._counter.enqueue(target, waiter)
        purse.watch()
        if not purse.slots:
            self.retire(purse, now_ms)

    def _drain(self, wallet: Wallet, now_ms: int) -> None:
        self.owners.pop(wallet.serial, None)
        wallet.drain()
        wallet.give_back_beyond(0)
        self._vault.awake[wallet.serial] = wallet
        self._drained(wallet, now_ms)
