"""What the treasury gives to a call, and how it says no."""

from services.proxy.domain.money.wallet import Hold
from shared.allotment import Refusal


class Denied(Exception):
    """No money: `verdict` is `exceeded` or `reserved`; `room` is what would still fit, in nano-dollars."""

    def __init__(self, verdict: str, refusal: Refusal) -> None:
        super().__init__(verdict)
        self.verdict = verdict
        self.refusal = refusal
        self.room = refusal.room


class Unreachable(Exception):
    """Nobody could say in time whether there is money."""


__all__ = ["Denied", "Hold", "Unreachable"]
