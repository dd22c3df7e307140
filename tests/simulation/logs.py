"""The two streams: AUTH, and LEDGER with usage and decisions in one order and the fence on the decisions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from shared.events import AnyAuthEvent, AnyUsage, GrantBatch
from shared.policy import KeyRecord, OrgRecord, TeamRecord

Record = OrgRecord | TeamRecord | KeyRecord


class Conflict(Exception):
    """Somebody else has appended a decision since."""


@dataclass(frozen=True, slots=True)
class Decree:
    """One event of auth with the record that its relay puts for the mirrors."""

    event: AnyAuthEvent
    record: Record | None


@dataclass
class Logs:
    """Sequences start at 1. `auth[i]` has sequence i + 1, and so has `ledger[i]`."""

    auth: list[Decree] = field(default_factory=list[Decree])
    ledger: list[tuple[AnyUsage, ...] | GrantBatch] = field(default_factory=list["tuple[AnyUsage, ...] | GrantBatch"])
    grant_seq: int = 0
    fenced: ClassVar[bool] = True
    on_auth: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    on_ledger: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    on_usage: list[Callable[[tuple[AnyUsage, ...], int], None]] = field(
        default_factory=list[Callable[[tuple[AnyUsage, ...], int], None]]
    )
    on_grants: list[Callable[[GrantBatch, int], None]] = field(default_factory=list[Callable[[GrantBatch, int], None]])

    def decree(self, event: AnyAuthEvent, record: Record | None) -> int:
        """Append to AUTH; the sequence."""
        self.auth.append(Decree(event, record))
        _tell(self.on_auth)
        return len(self.auth)

    def publish(self, events: tuple[AnyUsage, ...]) -> int:
        """Append one message of usage; the sequence."""
        self.ledger.append(events)
        seq = len(self.ledger)
        for hear in self.on_usage:
            hear(events, seq)
        _tell(self.on_ledger)
        return seq

    def append(self, batch: GrantBatch, expected: int) -> int:
        """Append decisions if `expected` is the sequence of the last ones; the sequence. Raises Conflict."""
        if self.fenced and expected != self.grant_seq:
            raise Conflict
        self.ledger.append(batch)
        self.grant_seq = len(self.ledger)
        for judge in self.on_grants:
            judge(batch, self.grant_seq)
        _tell(self.on_ledger)
        return self.grant_seq


def _tell(listeners: list[Callable[[], None]]) -> None:
    for listener in listeners:
        listener()
