"""Who has which budget: what auth decides in the simulated world, before and while it runs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast

import msgspec

from services.proxy.domain.admission import Caller, join
from shared.events import (
    AnyAuthEvent,
    BudgetSet,
    KeyBlocked,
    KeyIssued,
    KeyUnblocked,
    OrgCreated,
    TeamCreated,
)
from shared.ids import AccountId, EventId, KeyId, OrgId, TeamId
from shared.policy import Budget, Increase, KeyRecord, OrgRecord, ScopeKind, TeamRecord
from shared.windows import WindowSpec
from tests.simulation.agenda import START
from tests.simulation.logs import Logs, Record

MODELS = ("gpt-a", "gpt-b", "gpt-c")
_KINDS: dict[type[Record], ScopeKind] = {OrgRecord: "org", TeamRecord: "team", KeyRecord: "key"}


class Estate:
    """Auth's side: the records in force, and the ways to change them. Every change is an event with its record."""

    def __init__(self, logs: Logs, now: Callable[[], datetime]) -> None:
        self._logs = logs
        self._now = now
        self._count = 0
        self.orgs: dict[str, OrgRecord] = {}
        self.teams: dict[str, TeamRecord] = {}
        self.keys: dict[str, KeyRecord] = {}

    # ---- building -----------------------------------------------------------------------------------

    def org(self, name: str, *budgets: Budget) -> OrgId:
        """A new organization with budgets."""
        org_id = OrgId(name)
        record = OrgRecord(seq=0, org_id=org_id)
        self._put(OrgCreated(org_id=org_id, **self._envelope()), record)
        self._first_budgets("org", name, budgets)
        return org_id

    def team(self, name: str, org: str, *budgets: Budget) -> TeamId:
        """A new team with budgets."""
        team_id = TeamId(name)
        record = TeamRecord(seq=0, team_id=team_id, org_id=OrgId(org))
        self._put(TeamCreated(team_id=team_id, org_id=OrgId(org), **self._envelope()), record)
        self._first_budgets("team", name, budgets)
        return team_id

    def key(self, name: str, team: str | None, org: str, *budgets: Budget) -> KeyId:
        """A new key with budgets."""
        self.place_key(name, team, org)
        self._first_budgets("key", name, budgets)
        return KeyId(name)

    def place_key(self, name: str, team: str | None, org: str) -> None:
        """A key's place: new, or another one than before."""
        key_id, team_id = KeyId(name), None if team is None else TeamId(team)
        old = self.keys.get(name)
        record = KeyRecord(
            seq=0, key_id=key_id, org_id=OrgId(org), team_id=team_id, budgets=() if old is None else old.budgets
        )
        self._put(KeyIssued(key_id=key_id, org_id=OrgId(org), team_id=team_id, **self._envelope()), record)

    # ---- changing -----------------------------------------------------------------------------------

    def set_budgets(self, kind: ScopeKind, scope: str, budgets: tuple[Budget, ...]) -> None:
        """All budgets of a scope from now on."""
        event = BudgetSet(scope_kind=kind, scope_id=scope, budgets=budgets, **self._envelope())
        self._put(event, msgspec.structs.replace(self.record(kind, scope), budgets=budgets))

    def change(self, account: str, **fields: Any) -> None:
        """Change some fields of one budget."""
        kind, scope, budgets = self.holding(account)
        changed = tuple(
            msgspec.structs.replace(budget, **fields) if budget.account == account else budget for budget in budgets
        )
        self.set_budgets(kind, scope, changed)

    def increase(self, account: str, amount: int, for_ms: float) -> None:
        """A temporary increase of one budget."""
        until = self._now() + timedelta(milliseconds=for_ms)
        self.change(account, increase=Increase(amount_nusd=amount, until=until))

    def add(self, budget: Budget) -> None:
        """One more budget for a scope."""
        budgets = (*self.record(budget.scope_kind, budget.scope_id).budgets, budget)
        self.set_budgets(budget.scope_kind, budget.scope_id, budgets)

    def remove(self, account: str) -> None:
        """Close one budget."""
        kind, scope, budgets = self.holding(account)
        self.set_budgets(kind, scope, tuple(budget for budget in budgets if budget.account != account))

    def block(self, key: str, *, blocked: bool) -> None:
        """Block a key, or unblock it."""
        kind = KeyBlocked if blocked else KeyUnblocked
        event = kind(key_id=KeyId(key), **self._envelope())
        self._put(event, msgspec.structs.replace(self.keys[key], blocked=blocked))

    # ---- reading ------------------------------------------------------------------------------------

    def record(self, kind: ScopeKind, scope: str) -> Record:
        """The record of a scope as auth has it now."""
        return cast("dict[str, Record]", {"org": self.orgs, "team": self.teams, "key": self.keys}[kind])[scope]

    def budgets(self) -> list[Budget]:
        """All budgets in force."""
        records = (*self.keys.values(), *self.teams.values(), *self.orgs.values())
        return [budget for record in records for budget in record.budgets]

    def holding(self, account: str) -> tuple[ScopeKind, str, tuple[Budget, ...]]:
        """The scope that an account belongs to, with all its budgets."""
        for budget in self.budgets():
            if budget.account == account:
                kind, scope = budget.scope_kind, budget.scope_id
                return kind, scope, self.record(kind, scope).budgets
        raise LookupError(account)

    def _first_budgets(self, kind: ScopeKind, scope: str, budgets: tuple[Budget, ...]) -> None:
        if budgets:
            self.set_budgets(kind, scope, tuple(self.fit(budget, kind, scope) for budget in budgets))

    @staticmethod
    def fit(budget: Budget, kind: ScopeKind, scope: str) -> Budget:
        """A budget for a scope."""
        return msgspec.structs.replace(budget, scope_kind=kind, scope_id=scope)

    def _put(self, event: AnyAuthEvent, record: Record) -> None:
        record = msgspec.structs.replace(record, seq=len(self._logs.auth) + 1)
        file(self.orgs, self.teams, self.keys, record)
        self._logs.decree(event, record)

    def _envelope(self) -> dict[str, Any]:
        self._count += 1
        return {
            "id": EventId(f"auth-{self._count}"),
            "at": self._now(),
            "source": "auth",
            "actor": "simulation",
            "position": self._count,
        }


def file(orgs: dict[str, OrgRecord], teams: dict[str, TeamRecord], keys: dict[str, KeyRecord], record: Record) -> None:
    """Put a record where it belongs."""
    match record:
        case OrgRecord():
            orgs[record.org_id] = record
        case TeamRecord():
            teams[record.team_id] = record
        case KeyRecord():
            keys[record.key_id] = record


class Mirror:
    """A proxy's copy of the records, as far as it has heard; it knows nothing before its first load has finished."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._orgs: dict[str, OrgRecord] = {}
        self._teams: dict[str, TeamRecord] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._callers: dict[str, Caller] = {}
        self.position = 0
        self.loaded = False

    def read(self, upto: int) -> None:
        """Take in what auth said up to a sequence."""
        for decree in self._logs.auth[self.position : upto]:
            if decree.record is not None:
                file(self._orgs, self._teams, self._keys, decree.record)
        if upto > self.position:
            self.position = upto
            self._callers.clear()

    def caller(self, key: str) -> Caller | None:
        """A key with everything it inherits; None while its records are not all here."""
        found = self._callers.get(key)
        if found is None:
            record = self._keys.get(key)
            org = None if record is None else self._orgs.get(record.org_id)
            team = None if record is None or record.team_id is None else self._teams.get(record.team_id)
            if record is None or org is None or (team is None and record.team_id is not None):
                return None
            found = self._callers[key] = join(record, team, org, 1)
        return found


def budget(
    account: str,
    limit: int | None,
    duration: str = "",
    *,
    strict: bool = True,
    model: str | None = None,
    soft: int | None = None,
    thresholds: tuple[int, ...] = (),
    kind: ScopeKind = "key",
    scope: str = "",
    anchor: datetime = START,
) -> Budget:
    """A budget in few words."""
    return Budget(
        account=AccountId(account),
        scope_kind=kind,
        scope_id=scope,
        window=WindowSpec(anchor=anchor, duration=duration),
        limit_nusd=limit,
        soft_nusd=soft,
        model=model,
        thresholds=thresholds,
        strict=strict,
    )


class Draw:
    """Random estates: chains of one to four accounts, per-model accounts, small windows."""

    def __init__(self, random: Random, mode: str, scale: int) -> None:
        self._random = random
        self._mode = mode
        self.scale = scale
        self._count = 0

    def budgets(self, size: float, most: int = 2) -> tuple[Budget, ...]:
        """The budgets of one scope whose limit is about `size` of the scale."""
        found: list[Budget] = []
        for _ in range(self._random.randint(0, most)):
            model = self._random.choice(MODELS) if self._random.random() < 0.2 else None
            found.append(self.one(size * (0.5 if model else 1.0), model))
        return tuple(found)

    def one(self, size: float, model: str | None = None) -> Budget:
        """One budget, by chance with a window, a soft limit and thresholds."""
        random = self._random
        self._count += 1
        limit = int(self.scale * size * random.uniform(0.5, 1.5))
        duration = f"{random.randint(50, 170)}s" if random.random() < 0.75 else ""
        only_soft = random.random() < 0.08
        strict = self._mode == "strict" or (self._mode == "mixed" and random.random() < 0.5)
        return budget(
            f"acc_{self._count}",
            None if only_soft else limit,
            duration,
            strict=strict,
            model=model,
            soft=int(limit * 0.7) if only_soft or random.random() < 0.3 else None,
            thresholds=random.choice(((), (80,), (50, 90))),
            anchor=START - timedelta(milliseconds=random.randint(0, 200_000)),
        )

    def build(self, estate: Estate, teams: int, keys: int) -> None:
        """An organization with teams and keys; at least one account is limited."""
        random = self._random
        estate.org("org", *self.budgets(2.0, most=1))
        for number in range(teams):
            estate.team(f"team{number}", "org", *self.budgets(1.0))
        for number in range(keys):
            team = f"team{random.randrange(teams)}" if random.random() < 0.85 else None
            estate.key(f"key{number}", team, "org", *self.budgets(0.5))
        if not any(found.limited for found in estate.budgets()):
            estate.add(Estate.fit(self.one(1.0), "org", "org"))
