"""What every event carries."""

from datetime import datetime

import msgspec

from shared.ids import EventId


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """The envelope: `id` is a UUIDv7 and the idempotency key, `source` names program and instance."""

    id: EventId
    at: datetime
    source: str
    trace: str = ""


class AuthEvent(Event, frozen=True, kw_only=True):
    """A decision of auth. `position` is its commit order: folds skip a position they have seen."""

    actor: str
    position: int = 0
    cause: str = ""
