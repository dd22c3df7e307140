"""Every wallet of one instance, by serial and by account: in use, draining, and the memory of those that are gone.

A wallet is *awake* while it has money, holds, or returns that the ledger may not know of. Only those are looked at
every second and shown in every beat, so that thousands of keys that rest cost nothing.
"""

from collections.abc import Iterable, Iterator

from services.proxy.domain.money.purse import BankTuning, Chain
from services.proxy.domain.money.wallet import Wallet
from shared.events import AccountWindow
from shared.ids import AccountId, KeyId

_NOBODY = KeyId("")


class Vault:
    """Keeps wallets; decides nothing about calls."""

    def __init__(self, tuning: BankTuning) -> None:
        self._tuning = tuning
        self.wallets: dict[int, Wallet] = {}
        self.awake: dict[int, Wallet] = {}
        self._by_account: dict[AccountId, dict[int, Wallet]] = {}
        self._gone: dict[int, int] = {}
        self._serial = 0
        self._shown = 0

    def make(self, chain: Chain, now_ms: int) -> Wallet:
        """An empty wallet with the next serial: it is never used for anything but this lineage and one term."""
        self._serial += 1
        wallet = Wallet(
            serial=self._serial,
            key_id=chain.key_id,
            lineage=chain.accounts,
            partition=chain.partition,
            horizon_ms=self._tuning.horizon_ms,
            last_call_ms=now_ms,
        )
        self._keep(wallet)
        return wallet

    def over(self, account: AccountId) -> Iterable[Wallet]:
        """The wallets that are charged to an account."""
        return tuple(self._by_account.get(account, {}).values())

    def learn(self, wallet: Wallet, granted: int, term: tuple[AccountWindow, ...], admit_until_ms: int) -> None:
        """Believe the ledger about a wallet."""
        if granted > wallet.granted:
            self.awake[wallet.serial] = wallet
        wallet.learn(granted, term, admit_until_ms)

    def believe(
        self,
        partition: int,
        serial: int,
        granted: int,
        returned: int,
        term: tuple[AccountWindow, ...] = (),
        admit_until_ms: int = 0,
    ) -> None:
        """What the log has of an allotment; money granted to a wallet that was forgotten goes back."""
        wallet = self.wallets.get(serial)
        if wallet is None:
            spent = self._gone.get(serial, 0)
            if granted - returned <= spent:
                return  # what is out there is usage on its way
            wallet = Wallet(serial=serial, key_id=_NOBODY, lineage=(), partition=partition)
            wallet.spent = spent
            wallet.returned = returned
            wallet.drain()
            self._keep(wallet)
        self.learn(wallet, granted, term, admit_until_ms)
        wallet.returned_known = max(wallet.returned_known, returned)

    def untold(self, partition: int) -> list[Wallet]:
        """Wallets whose returns the ledger may not know of."""
        return [
            wallet
            for wallet in self.awake.values()
            if wallet.returned_known < wallet.returned and wallet.partition == partition
        ]

    def to_show(self, partition: int) -> list[Wallet]:
        """The wallets for a beat: those first whose returns may be unknown, then the others in turn."""
        shown = self.untold(partition)[: self._tuning.rows_max]
        mine = [
            wallet
            for wallet in self.awake.values()
            if wallet.partition == partition and wallet.returned_known >= wallet.returned
        ]
        if not mine:
            return shown
        left = self._tuning.rows_max - len(shown)
        if len(mine) <= left:
            return shown + mine
        start = self._shown % len(mine)
        self._shown += left
        return shown + (mine[start:] + mine[:start])[:left]

    def settle_down(self, wallet: Wallet, *, in_use: bool) -> None:
        """Let a quiet wallet rest, or forget it when nobody uses it: a tombstone remembers what it spent."""
        if not wallet.quiet():
            return
        del self.awake[wallet.serial]
        if in_use:
            return
        del self.wallets[wallet.serial]
        for account in wallet.lineage:
            of_account = self._by_account[account]
            del of_account[wallet.serial]
            if not of_account:
                del self._by_account[account]
        self._gone[wallet.serial] = wallet.spent
        if len(self._gone) > self._tuning.tombstones_max:
            del self._gone[next(iter(self._gone))]

    def resting(self, before_ms: int) -> Iterator[Wallet]:
        """Wallets in use without a call since an instant."""
        return (
            wallet
            for wallet in tuple(self.wallets.values())
            if not wallet.draining and wallet.last_call_ms < before_ms and wallet.holds == 0
        )

    def idle_nusd(self) -> int:
        """Money at hand that no call holds."""
        return sum(max(0, wallet.room()) for wallet in self.awake.values())

    def held_nusd(self) -> int:
        """Money held by running calls."""
        return sum(wallet.holds for wallet in self.awake.values())

    def _keep(self, wallet: Wallet) -> None:
        self.wallets[wallet.serial] = wallet
        self.awake[wallet.serial] = wallet
        for account in wallet.lineage:
            self._by_account.setdefault(account, {})[wallet.serial] = wallet
