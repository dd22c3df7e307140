"""What a message of the stream AUTH says, and whether it is an event of auth at all.

Nobody but auth may publish there; but a NATS server sends the acknowledgement of a message to whatever reply subject
its sender named, and so every service that may publish anything can have some JSON put into AUTH. Nobody may trip over
that: what is no event is passed over, and told.
"""

import logging
from datetime import datetime

import msgspec

from shared.bus import Message
from shared.errors import TundishError
from shared.events import AnyAuthEvent, decode_auth, type_of
from shared.telemetry import Metrics
from shared.topology import AUTH

log = logging.getLogger(__name__)

AUTH_SUBJECTS = "auth.>"
FOREIGN = "tundish_auth_log_foreign_total"
_SUBJECT_CHARS = 100


class LaterEvent(TundishError):
    """An event of auth that this version cannot read: a later one wrote it."""


class _Envelope(msgspec.Struct, frozen=True):
    """What every event of auth has, of any version, and nothing else that ends up in a stream."""

    type: str
    id: str
    at: datetime
    source: str
    actor: str


def auth_event(message: Message) -> AnyAuthEvent | None:
    """The event in a message of AUTH; None when it is none. Raises LaterEvent."""
    try:
        event = decode_auth(message.data)
    except msgspec.DecodeError as error:
        if not _is_later(message):
            return None
        raise LaterEvent(
            f"message {message.seq} of {AUTH} is an event that this version cannot read ({error}):"
            " run the version that wrote it"
        ) from error
    return event if message.subject.startswith(f"auth.{type_of(event)}.") else None


def _is_later(message: Message) -> bool:
    try:
        envelope = msgspec.json.decode(message.data, type=_Envelope)
    except msgspec.DecodeError:
        return False
    return message.subject.startswith(f"auth.{envelope.type}.")


class AuthLog:
    """Reads messages of AUTH for one reader, and tells of each that is no event: once, and by number in a metric."""

    def __init__(self, metrics: Metrics) -> None:
        self._foreign = metrics.counter(FOREIGN, "Messages of AUTH that are no events of auth, as far as it was read.")
        self._told = 0

    def event(self, message: Message) -> AnyAuthEvent | None:
        """The event in a message; None when it is none. Raises LaterEvent."""
        event = auth_event(message)
        if event is None:
            self._tell(message)
        return event

    def known_event(self, message: Message) -> AnyAuthEvent | None:
        """The same for a reader who can do without the events of later versions."""
        try:
            return self.event(message)
        except LaterEvent as error:
            log.info("an event of auth is passed over: %s", error)
            return None

    def _tell(self, message: Message) -> None:
        if message.seq <= self._told:
            return
        self._told = message.seq
        self._foreign.add()
        log.warning(
            "message %d of %s, under %.*s, is no event of auth and is passed over: somebody else had it put there",
            message.seq,
            AUTH,
            _SUBJECT_CHARS,
            ascii(message.subject),
        )
