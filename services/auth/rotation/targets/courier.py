"""What a courier brings, and how it says that it could not."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.errors import TundishError
from shared.events import Target
from shared.ids import KeyId

REPLY_BYTES_MAX = 64 * 1024
"""What is read of a target's answer."""
TIMEOUT_S = 10
"""How long one exchange with a target may take, all of it."""


class DeliveryError(TundishError):
    """A secret was not delivered; the text is for people and holds nothing of the secret.

    `lasting`: it will not get better by itself (a target outside of the rules, a missing right).
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose secrets they are."""

    key_id: KeyId
    org_id: str
    team_id: str | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A secret for its owner. `ends_at`: when it ends itself, when that is known. `old_ends_at`: the older ones.

    `message_id` is the same for every attempt of one delivery.
    """

    owner: Owner
    version: int
    secret: str = field(repr=False)
    minted_at: datetime
    message_id: str
    ends_at: datetime | None = None
    old_ends_at: datetime | None = None


class Courier(Protocol):
    """Brings secrets to one kind of target."""

    async def check(self, target: Target, owner: Owner) -> None:
        """Look whether secrets of this owner may be brought there. Raises DeliveryError."""
        ...

    async def deliver(self, target: Target, parcel: Parcel) -> str:
        """Bring it there; where it is now, in a few words, if there is anything to say. A repetition does no harm.

        Raises DeliveryError.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
