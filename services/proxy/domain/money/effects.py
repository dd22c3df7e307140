"""What the bank wants done: messages to send, and what becomes of calls that waited for money."""

import msgspec

from services.proxy.domain.money.wallet import Hold
from shared.allotment import Refusal, Request


class Send(msgspec.Struct, frozen=True):
    """A request to the enforcer of a partition. Copies are sent unchanged."""

    partition: int
    request: Request


class Admitted(msgspec.Struct, frozen=True):
    """The call that waited under `token` has its money."""

    token: int
    hold: Hold


class Refuse(msgspec.Struct, frozen=True):
    """The call is refused: `verdict` is `exceeded` or `reserved`."""

    token: int
    verdict: str
    refusal: Refusal


class Unreachable(msgspec.Struct, frozen=True):
    """Nobody could say in time whether there is money for the call."""

    token: int


class Closed(msgspec.Struct, frozen=True):
    """The ledger has closed this instance: nothing more may be held under its name. Told once."""


Effect = Send | Admitted | Refuse | Unreachable | Closed
