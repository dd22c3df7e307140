"""What the treasury gives to a call, and how it says no."""

from dataclasses import dataclass

from services.proxy.domain.wallet import Wallet
from shared.allotment import Refusal
from shared.events import AccountWindow


class Denied(Exception):
    """The ledger says no: `verdict` is `exceeded` or `reserved`."""

    def __init__(self, verdict: str, refusal: Refusal) -> None:
        super().__init__(verdict)
        self.verdict = verdict
        self.refusal = refusal


class Unreachable(Exception):
    """Nobody could say in time whether there is money."""


@dataclass(slots=True)
class Hold:
    """Money reserved for one call; give it to `settle` exactly once."""

    wallet: Wallet
    amount: int

    @property
    def windows(self) -> tuple[AccountWindow, ...]:
        """The account-windows the call is charged to."""
        return self.wallet.term
