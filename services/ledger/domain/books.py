"""What usage events add to the books: totals per scope, spend per account-window."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from services.ledger.domain.state import Instance
from shared.events import AccountWindow, UsageRecorded
from shared.policy import ScopeKind
from shared.pricing import PriceRow, Usage, price


class Total(msgspec.Struct, kw_only=True):
    """One scope's sums."""

    total_nusd: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    last_at: datetime | None = None

    def add(self, cost: int, usage: Usage, at: datetime) -> None:
        """Count one event."""
        self.total_nusd += cost
        self.calls += 1
        self.input_tokens += usage.prompt
        self.output_tokens += usage.output
        self.last_at = at if self.last_at is None or at > self.last_at else self.last_at


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the books need to know of an event: from the log or from a stored row."""

    key_id: str
    team_id: str | None
    org_id: str
    windows: tuple[AccountWindow, ...]
    cost_nusd: int
    usage: Usage
    started_at: datetime


Scope = tuple[ScopeKind, str]


class Books(msgspec.Struct, kw_only=True):
    """Balances of any set of events: a batch's change, or everything there is."""

    totals: dict[Scope, Total] = msgspec.field(default_factory=dict[Scope, Total])
    accounts: dict[tuple[str, int], int] = msgspec.field(default_factory=dict[tuple[str, int], int])
    events: int = 0


def entry_of(event: UsageRecorded) -> Entry:
    """The part of an event that the books add up."""
    return Entry(
        key_id=event.key_id,
        team_id=event.team_id,
        org_id=event.org_id,
        windows=event.windows,
        cost_nusd=event.cost_nusd,
        usage=event.usage,
        started_at=event.started_at,
    )


def fold(books: Books, entries: Iterable[Entry]) -> Books:
    """Add events to balances; gives the same books back."""
    for entry in entries:
        books.events += 1
        scopes: list[Scope] = [("key", entry.key_id), ("org", entry.org_id)]
        if entry.team_id is not None:
            scopes.append(("team", entry.team_id))
        for scope in scopes:
            total = books.totals.get(scope)
            if total is None:
                total = books.totals[scope] = Total()
            total.add(entry.cost_nusd, entry.usage, entry.started_at)
        for window in entry.windows:
            key = (window.account, window.index)
            books.accounts[key] = books.accounts.get(key, 0) + entry.cost_nusd
    return books


class Replay:
    """Folds the log from its beginning, each event number once, as the enforcer does."""

    def __init__(self) -> None:
        self.books = Books()
        self._seen: dict[tuple[str, int], Instance] = {}

    def take(self, events: Iterable[UsageRecorded]) -> list[UsageRecorded]:
        """Fold events; those that were new."""
        fresh = [
            event
            for event in events
            if self._seen.setdefault((event.instance, event.partition), Instance()).see(event.n)
        ]
        fold(self.books, (entry_of(event) for event in fresh))
        return fresh


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure on which the books and the log disagree, in nano-dollars (for `event count`: events)."""

    what: str
    id: str
    books_nusd: int
    log_nusd: int


def compare(books: Books, log: Books) -> list[Difference]:
    """Every balance that differs, in a fixed order."""
    found: list[Difference] = []
    if books.events != log.events:
        found.append(Difference(what="event count", id="all", books_nusd=books.events, log_nusd=log.events))
    for scope in sorted(books.totals.keys() | log.totals.keys()):
        ours, theirs = _amount(books, scope), _amount(log, scope)
        if ours != theirs:
            found.append(Difference(what=f"{scope[0]} total", id=scope[1], books_nusd=ours, log_nusd=theirs))
    for key in sorted(books.accounts.keys() | log.accounts.keys()):
        ours, theirs = books.accounts.get(key, 0), log.accounts.get(key, 0)
        if ours != theirs:
            found.append(Difference(what="account window", id=f"{key[0]}#{key[1]}", books_nusd=ours, log_nusd=theirs))
    return found


def subtract(books: Books, later: Books) -> None:
    """Take away what `later` holds: the books as they were before those events."""
    books.events -= later.events
    for scope, total in later.totals.items():
        standing = books.totals.setdefault(scope, Total())
        standing.total_nusd -= total.total_nusd
        standing.calls -= total.calls
        standing.input_tokens -= total.input_tokens
        standing.output_tokens -= total.output_tokens
    for key, spent in later.accounts.items():
        books.accounts[key] = books.accounts.get(key, 0) - spent


def repriced(event: UsageRecorded, row: PriceRow | None) -> int | None:
    """What the price row gives when that is not what was charged; None when it agrees or cannot be checked.

    A lost call is charged at its hold, whatever it used, so there is nothing to check.
    """
    if row is None or event.measured == "lost":
        return None
    again = price(event.usage, row)
    return None if again == event.cost_nusd else again


def _amount(books: Books, scope: Scope) -> int:
    total = books.totals.get(scope)
    return 0 if total is None else total.total_nusd
