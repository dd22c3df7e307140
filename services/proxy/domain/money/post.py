"""What is told to the enforcer beside asks: that this instance lives, and what it gives back."""

from services.proxy.domain.money.effects import Effect, Send
from services.proxy.domain.money.purse import BankTuning
from services.proxy.domain.money.vault import Vault
from services.proxy.domain.money.wallet import Wallet
from shared.allotment import Beat, Request, Return
from shared.ids import InstanceId


class Post:
    """Writes messages to `out`. From the first one on a partition is beaten to for ever: money may be out there
    of which this instance has not heard."""

    def __init__(self, instance: InstanceId, tuning: BankTuning, vault: Vault, out: list[Effect]) -> None:
        self.touched: dict[int, None] = {}
        self._instance = instance
        self._tuning = tuning
        self._vault = vault
        self._out = out
        self._beat_at_ms: int | None = None
        self._return_at_ms: dict[int, int] = {}

    def send(self, partition: int, request: Request, now_ms: int) -> None:
        """One message to the enforcer of a partition."""
        self.touched[partition] = None
        if self._beat_at_ms is None:
            self._beat_at_ms = now_ms + self._tuning.beat_ms
        self._out.append(Send(partition, request))

    def give_back(self, partition: int, wallets: list[Wallet], now_ms: int) -> None:
        """Tell what came back, in as many messages as it takes."""
        most = self._tuning.rows_max
        for at in range(0, len(wallets), most):
            rows = tuple(wallet.row() for wallet in wallets[at : at + most])
            self.send(partition, Return(instance=self._instance, rows=rows, sent_ms=now_ms), now_ms)

    def give_back_soon(self, wallet: Wallet, now_ms: int) -> None:
        """A draining wallet has something to give back: told once for all that drain in the same moment."""
        if wallet.returned_known < wallet.returned:
            self._return_at_ms.setdefault(wallet.partition, now_ms + self._tuning.return_gap_ms)

    def give_back_all(self, now_ms: int) -> None:
        """Tell again whatever the ledger may not have heard."""
        for partition in self.touched:
            self.give_back(partition, self._vault.untold(partition), now_ms)

    @property
    def told(self) -> bool:
        """Whether the ledger knows of everything that was given back."""
        return not any(self._vault.untold(partition) for partition in self.touched)

    def tick(self, now_ms: int) -> None:
        """Beat, and send the returns that are due."""
        if self._beat_at_ms is not None and now_ms >= self._beat_at_ms:
            self._beat_at_ms = now_ms + self._tuning.beat_ms
            for partition in self.touched:
                rows = tuple(wallet.row() for wallet in self._vault.to_show(partition))
                self._out.append(Send(partition, Beat(instance=self._instance, rows=rows, sent_ms=now_ms)))
        for partition, at_ms in list(self._return_at_ms.items()):
            if now_ms >= at_ms:
                del self._return_at_ms[partition]
                self.give_back(partition, self._vault.untold(partition), now_ms)

    def due_ms(self) -> int | None:
        """When `tick` has something to do."""
        due = list(self._return_at_ms.values())
        if self._beat_at_ms is not None:
            due.append(self._beat_at_ms)
        return min(due, default=None)
