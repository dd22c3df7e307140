"""Who is who and what limits whom, as the log of auth tells it."""

import msgspec

from shared.events import (
    AnyAuthEvent,
    BudgetSet,
    KeyDeleted,
    KeyIssued,
    KeySecretMinted,
    KeyUpdated,
    OrgCreated,
    OrgDeleted,
    TeamCreated,
    TeamDeleted,
)
from shared.ids import AccountId, OrgId, TeamId
from shared.policy import Budget, ScopeKind


class KeyPlace(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a key belongs. A deleted key keeps its place, because its history stays."""

    org_id: OrgId
    team_id: TeamId | None = None
    alias: str | None = None
    hint: str | None = None
    deleted: bool = False


class TeamPlace(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a team belongs."""

    org_id: OrgId
    alias: str | None = None


class Realm(msgspec.Struct, frozen=True, kw_only=True):
    """An organization, or one team of it."""

    org_id: str
    team_id: str | None = None


def scope_name(kind: ScopeKind, scope_id: str) -> str:
    """One name for a scope of any kind, such as `team:<id>`."""
    return f"{kind}:{scope_id}"


class Directory(msgspec.Struct, kw_only=True):
    """Keys, teams, organizations and their accounts.

    `scopes` names the accounts in force per scope; `budgets` keeps the last word on every account there ever was,
    because late usage and old windows still name closed ones. `gone` are the deleted teams and organizations, by their
    scope's name: what is theirs is closed as a deleted key is, also before the deletion of each key has come.
    `position` is auth's own commit order.
    """

    position: int = 0
    keys: dict[str, KeyPlace] = msgspec.field(default_factory=dict[str, KeyPlace])
    teams: dict[str, TeamPlace] = msgspec.field(default_factory=dict[str, TeamPlace])
    orgs: dict[str, str | None] = msgspec.field(default_factory=dict[str, "str | None"])
    scopes: dict[str, tuple[AccountId, ...]] = msgspec.field(default_factory=dict[str, "tuple[AccountId, ...]"])
    budgets: dict[str, Budget] = msgspec.field(default_factory=dict[str, Budget])
    gone: set[str] = msgspec.field(default_factory=set[str])

    def lineage(self, key_id: str, model: str = "") -> tuple[Budget, ...] | None:
        """The limited accounts that calls of a key for a model are charged to, narrowest scope first.

        None for a key that is unknown or deleted. Without a model those for certain models only are left out.
        """
        names = self._names(key_id)
        if names is None:
            return None
        budgets = self.budgets
        return tuple(
            budget for name in names if (budget := budgets[name]).limit_nusd is not None and budget.covers(model)
        )

    def goes_by_model(self, key_id: str) -> bool:
        """Whether it depends on the model what calls of a key are charged to."""
        budgets = self.budgets
        return any(budgets[name].model is not None and budgets[name].limited for name in self._names(key_id) or ())

    def _names(self, key_id: str) -> tuple[AccountId, ...] | None:
        """The accounts of a key and of what it belongs to."""
        place = self.keys.get(key_id)
        if place is None or self._ended(place):
            return None
        names = self.scopes.get(f"key:{key_id}", ())
        if place.team_id is not None:
            names += self.scopes.get(f"team:{place.team_id}", ())
        return names + self.scopes.get(f"org:{place.org_id}", ())

    def in_force(self, budget: Budget) -> bool:
        """Whether an account is one of its scope's accounts today."""
        if self.deleted(budget):
            return False
        return budget.account in self.scopes.get(scope_name(budget.scope_kind, budget.scope_id), ())

    def deleted(self, budget: Budget) -> bool:
        """Whether an account is one of a deleted key, team or organization."""
        if budget.scope_kind == "key":
            place = self.keys.get(budget.scope_id)
            return place is not None and self._ended(place)
        if not self.gone:
            return False
        if scope_name(budget.scope_kind, budget.scope_id) in self.gone:
            return True
        team = self.teams.get(budget.scope_id) if budget.scope_kind == "team" else None
        return team is not None and f"org:{team.org_id}" in self.gone

    def _ended(self, place: KeyPlace) -> bool:
        """Whether a key is deleted, or what it belongs to."""
        if place.deleted:
            return True
        return bool(self.gone) and (f"team:{place.team_id}" in self.gone or f"org:{place.org_id}" in self.gone)

    def accounts_of(self, kind: ScopeKind, scope_id: str) -> tuple[AccountId, ...]:
        """The accounts of a scope today."""
        return self.scopes.get(scope_name(kind, scope_id), ())

    def alias(self, kind: ScopeKind, scope_id: str) -> str | None:
        """What people call a scope."""
        if kind == "key":
            key = self.keys.get(scope_id)
            return None if key is None else key.alias
        if kind == "team":
            team = self.teams.get(scope_id)
            return None if team is None else team.alias
        return self.orgs.get(scope_id)

    def within(self, kind: ScopeKind, realm: Realm) -> list[str]:
        """The scopes of a kind that belong to a realm, deleted ones too."""
        if kind == "key":
            return [
                key_id
                for key_id, place in self.keys.items()
                if place.org_id == realm.org_id and realm.team_id in (None, place.team_id)
            ]
        if kind == "team":
            return [
                team_id
                for team_id, place in self.teams.items()
                if place.org_id == realm.org_id and realm.team_id in (None, team_id)
            ]
        return [] if realm.team_id is not None else [realm.org_id]

    def beneath(self, budget: Budget, key_id: str) -> bool:
        """Whether a key belongs to the scope of a budget."""
        if budget.scope_kind == "key":
            return key_id == budget.scope_id
        place = self.keys.get(key_id)
        if place is None:
            return False
        return budget.scope_id == (place.team_id if budget.scope_kind == "team" else place.org_id)


def learn(directory: Directory, event: AnyAuthEvent) -> bool:
    """Take in one event of auth; False for one that was taken in before (the relay may send it twice)."""
    if event.position:
        if event.position <= directory.position:
            return False
        directory.position = event.position
    match event:
        case KeyIssued():
            directory.keys[event.key_id] = KeyPlace(org_id=event.org_id, team_id=event.team_id, alias=event.alias)
        case TeamCreated():
            directory.teams[event.team_id] = TeamPlace(org_id=event.org_id, alias=event.alias)
        case OrgCreated():
            directory.orgs[event.org_id] = event.alias
        case TeamDeleted():
            directory.gone.add(scope_name("team", event.team_id))
        case OrgDeleted():
            directory.gone.add(scope_name("org", event.org_id))
        case BudgetSet():
            name = scope_name(event.scope_kind, event.scope_id)
            directory.scopes[name] = tuple(budget.account for budget in event.budgets)
            for budget in event.budgets:
                directory.budgets[budget.account] = budget
        case KeyUpdated() | KeySecretMinted() | KeyDeleted():
            _update(directory, event)
        case _:
            pass
    return True


def _update(directory: Directory, event: KeyUpdated | KeySecretMinted | KeyDeleted) -> None:
    place = directory.keys.get(event.key_id)
    if place is None:
        return
    match event:
        case KeyUpdated():
            place.alias = event.alias
        case KeySecretMinted():
            place.hint = event.hint
        case KeyDeleted():
            place.deleted = True
