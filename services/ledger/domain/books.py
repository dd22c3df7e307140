"""What usage and corrections add to the books: totals per scope, spend per account-window.

Totals are what calls cost, for ever. A correction changes the spend of the account-windows it names and nothing else.
Overdraft is cost beyond what was held, counted call by call and only where money was held.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from services.ledger.domain.state import Instance
from shared.events import AccountWindow, AnyUsage, Change, UsageCorrected, UsageRecorded
from shared.policy import ScopeKind
from shared.pricing import PriceRow, Usage, price


class Total(msgspec.Struct, kw_only=True):
    """One scope's sums. `input_tokens` are all tokens of prompts, `output_tokens` all of completions."""

    total_nusd: int = 0
    overdraft_nusd: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    last_at: datetime | None = None

    def add(self, entry: "Entry") -> None:
        """Count one event."""
        self.total_nusd += entry.cost_nusd
        self.overdraft_nusd += entry.overdraft_nusd
        self.calls += 1
        self.input_tokens += entry.usage.prompt
        self.output_tokens += entry.usage.completion
        at = entry.started_at
        self.last_at = at if self.last_at is None or at > self.last_at else self.last_at


class Spent(msgspec.Struct, kw_only=True):
    """One account-window's sums."""

    spent_nusd: int = 0
    overdraft_nusd: int = 0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the books need to know of a call: from the log or from a stored row."""

    key_id: str
    team_id: str | None
    org_id: str
    windows: tuple[AccountWindow, ...]
    cost_nusd: int
    overdraft_nusd: int
    usage: Usage
    started_at: datetime
    secret_version: int = 0


Scope = tuple[ScopeKind, str]
WindowKey = tuple[str, int]
"""(account, window index)."""
SecretKey = tuple[str, int]
"""(key, version of its secret)."""


class Books(msgspec.Struct, kw_only=True):
    """Balances of any set of events: a batch's change, or everything there is.

    `uses` says when each version of a key's secret was last used, where the version is known.
    """

    totals: dict[Scope, Total] = msgspec.field(default_factory=dict[Scope, Total])
    accounts: dict[WindowKey, Spent] = msgspec.field(default_factory=dict[WindowKey, Spent])
    uses: dict[SecretKey, datetime] = msgspec.field(default_factory=dict[SecretKey, datetime])
    events: int = 0
    corrections: int = 0

    def spent(self, account: str, index: int) -> Spent:
        """The sums of an account-window, made when first named."""
        found = self.accounts.get((account, index))
        if found is None:
            found = self.accounts[account, index] = Spent()
        return found


def overdraft(cost_nusd: int, held_nusd: int, serial: int | None) -> int:
    """What a call cost beyond its hold; 0 where no money was held (`serial` is None), since nothing was promised."""
    return 0 if serial is None else max(0, cost_nusd - held_nusd)


def entry_of(event: UsageRecorded) -> Entry:
    """The part of an event that the books add up."""
    return Entry(
        key_id=event.key_id,
        team_id=event.team_id,
        org_id=event.org_id,
        windows=event.windows,
        cost_nusd=event.cost_nusd,
        overdraft_nusd=overdraft(event.cost_nusd, event.held_nusd, event.serial),
        usage=event.usage,
        started_at=event.started_at,
        secret_version=event.secret_version,
    )


def fold(books: Books, entries: Iterable[Entry]) -> Books:
    """Add calls to balances; gives the same books back."""
    for entry in entries:
        books.events += 1
        scopes: list[Scope] = [("key", entry.key_id), ("org", entry.org_id)]
        if entry.team_id is not None:
            scopes.append(("team", entry.team_id))
        for scope in scopes:
            total = books.totals.get(scope)
            if total is None:
                total = books.totals[scope] = Total()
            total.add(entry)
        for window in entry.windows:
            spent = books.spent(window.account, window.index)
            spent.spent_nusd += entry.cost_nusd
            spent.overdraft_nusd += entry.overdraft_nusd
        if entry.secret_version > 0:
            secret = entry.key_id, entry.secret_version
            books.uses[secret] = max(entry.started_at, books.uses.get(secret, entry.started_at))
    return books


def correct(books: Books, corrections: Iterable[tuple[Change, ...]]) -> Books:
    """Add corrections to balances; gives the same books back."""
    for changes in corrections:
        books.corrections += 1
        for change in changes:
            books.spent(change.window.account, change.window.index).spent_nusd += change.delta_nusd
    return books


class Replay:
    """Folds the log from its beginning, each event number once, as the enforcer does."""

    def __init__(self) -> None:
        self.books = Books()
        self._seen: dict[tuple[str, int], Instance] = {}

    def take(self, events: Iterable[AnyUsage]) -> list[AnyUsage]:
        """Fold events; those that were new."""
        fresh = [
            event
            for event in events
            if self._seen.setdefault((event.instance, event.partition), Instance()).see(event.n)
        ]
        fold(self.books, (entry_of(event) for event in fresh if isinstance(event, UsageRecorded)))
        correct(self.books, (event.changes for event in fresh if isinstance(event, UsageCorrected)))
        return fresh


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure on which the books and the log disagree, in nano-dollars (for `… count`: events, tokens, units)."""

    what: str
    id: str
    books_nusd: int
    log_nusd: int


def compare(books: Books, log: Books) -> list[Difference]:
    """Every balance that differs, in a fixed order."""
    figures: list[tuple[str, str, int, int]] = [
        ("event count", "all", books.events, log.events),
        ("correction count", "all", books.corrections, log.corrections),
    ]
    for scope in sorted(books.totals.keys() | log.totals.keys()):
        kind, scope_id = scope
        ours, theirs = books.totals.get(scope, Total()), log.totals.get(scope, Total())
        figures += [
            (f"{kind} total", scope_id, ours.total_nusd, theirs.total_nusd),
            (f"{kind} overdraft", scope_id, ours.overdraft_nusd, theirs.overdraft_nusd),
            (f"{kind} prompt token count", scope_id, ours.input_tokens, theirs.input_tokens),
            (f"{kind} completion token count", scope_id, ours.output_tokens, theirs.output_tokens),
        ]
    for key in sorted(books.accounts.keys() | log.accounts.keys()):
        name = f"{key[0]}#{key[1]}"
        here, there = books.accounts.get(key, Spent()), log.accounts.get(key, Spent())
        figures += [
            ("account window", name, here.spent_nusd, there.spent_nusd),
            ("account window overdraft", name, here.overdraft_nusd, there.overdraft_nusd),
        ]
    return [
        Difference(what=what, id=name, books_nusd=ours, log_nusd=theirs)
        for what, name, ours, theirs in figures
        if ours != theirs
    ]


def subtract(books: Books, later: Books) -> None:
    """Take away what `later` holds: the books as they were before those events."""
    books.events -= later.events
    books.corrections -= later.corrections
    for scope, total in later.totals.items():
        standing = books.totals.setdefault(scope, Total())
        standing.total_nusd -= total.total_nusd
        standing.overdraft_nusd -= total.overdraft_nusd
        standing.calls -= total.calls
        standing.input_tokens -= total.input_tokens
        standing.output_tokens -= total.output_tokens
    for (account, index), change in later.accounts.items():
        spent = books.spent(account, index)
        spent.spent_nusd -= change.spent_nusd
        spent.overdraft_nusd -= change.overdraft_nusd


def repriced(event: UsageRecorded, row: PriceRow | None) -> int | None:
    """What the price row gives when that is not what was charged; None when it agrees or cannot be checked.

    A lost call is charged at its hold, whatever it used, so there is nothing to check.
    """
    if row is None or event.measured == "lost":
        return None
    again = price(event.usage, row)
    return None if again == event.cost_nusd else again
