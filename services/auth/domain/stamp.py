"""What an event carries beside its content: who, when, why, and an id made outside of the domain."""

from datetime import datetime
from typing import TypedDict

import msgspec

from shared.ids import EventId


class Envelope(TypedDict):
    """The keyword arguments that every event of auth takes."""

    id: EventId
    at: datetime
    source: str
    actor: str
    cause: str


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """One decision's time (UTC), actor and cause, with enough fresh ids for its events."""

    at: datetime
    source: str
    actor: str
    ids: tuple[EventId, ...]
    cause: str = ""

    def envelope(self, n: int) -> Envelope:
        """The envelope of the decision's n-th event."""
        return Envelope(id=self.ids[n], at=self.at, source=self.source, actor=self.actor, cause=self.cause)

    def not_before(self, at: datetime | None) -> "Stamp":
        """The same at an instant that another program's clock gave, where ours is behind that one."""
        return self if at is None or at <= self.at else msgspec.structs.replace(self, at=at)


IDS_PER_DECISION = 24
"""No decision makes more events than this."""
