"""What a desk decides in one go, and what may leave once it is in the log."""

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from services.ledger.domain.draft import Draft
from services.ledger.domain.recall import Target
from shared.allotment import Ask, Recall, Reply, Request
from shared.events import AccountWindow, GrantEntry
from shared.ids import InstanceId


class Out(msgspec.Struct, kw_only=True):
    """What may leave now: replies by token, recalls by instance. `failed`: requests that could not be decided."""

    replies: list[tuple[int, Reply]] = msgspec.field(default_factory=list[tuple[int, Reply]])
    recalls: list[tuple[InstanceId, Recall]] = msgspec.field(default_factory=list[tuple[InstanceId, Recall]])
    failed: list[tuple[Request, Exception]] = msgspec.field(default_factory=list[tuple[Request, Exception]])


@dataclass(slots=True)
class Letter:
    """A request, and the shell's handle of it. `until_ms`: how long it may wait for policy."""

    token: int
    request: Request
    until_ms: int


@dataclass(slots=True, eq=False)
class Waiter:
    """An ask that waits for money to come back to `windows`, and everybody who sent a copy of it."""

    ask: Ask
    copies: list[tuple[int, Ask]]
    until_ms: int
    windows: tuple[AccountWindow, ...]


@dataclass(slots=True, eq=False)
class Batch:
    """What to append now, and (private to the desk) what may leave then.

    `records` may be empty: then there is nothing to append, and `committed` may be called at once. `at`, `auth_pos`
    and `usage_pos` belong into the `GrantBatch`, `expected` is the last decision behind which it must be appended.
    """

    records: tuple[GrantEntry, ...]
    at: datetime
    auth_pos: int
    usage_pos: int
    expected: int
    draft: Draft
    letters: list[Letter]
    told: int = 0
    replies: list[tuple[int, Reply]] = field(default_factory=list[tuple[int, Reply]])
    kept: dict[tuple[str, int], Waiter] = field(default_factory=dict[tuple[str, int], Waiter])
    joined: list[tuple[Waiter, Letter]] = field(default_factory=list[tuple[Waiter, Letter]])
    served: list[Waiter] = field(default_factory=list[Waiter])
    targets: list[Target] = field(default_factory=list[Target])
    silenced: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])
    unfinished: bool = False
    out: Out = field(default_factory=Out)
