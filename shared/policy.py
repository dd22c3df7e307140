"""What a key may do: the records of the `keys` and `revoked` buckets, and the lineage a call is charged to.

Auth writes these records; every mirror joins them. An amount or a list that is absent is a positive
statement ("no limit", "all models of the team"), never a gap.
"""

from datetime import datetime
from typing import Literal

import msgspec

from shared.ids import AccountId, KeyId, OrgId, TeamId, UserId
from shared.windows import WindowSpec

ScopeKind = Literal["key", "team", "org"]
RevocationKind = Literal["deleted", "blocked", "leaked"]
Role = Literal["admin", "org_admin", "team_admin", "viewer"]
"""What a key that administers may do; what each role means is in `shared.access`."""
Reach = Literal["all", "org", "team"]
"""How far a role goes: everything, or the organization or team that the key belongs to."""

ALL_MODELS = "*"


class Increase(msgspec.Struct, frozen=True, kw_only=True):
    """A temporary increase of a limit: in force until `until` (UTC)."""

    amount_nusd: int
    until: datetime


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One account: a scope's limit over a window. A changed window is a new account, a changed limit not.

    `model` makes it an account for calls of matching public models only (`*` stands for any text). `thresholds` are
    percents of the limit that warn, `soft_nusd` an amount that warns. `strict`: held money is a proven upper bound,
    and what a lost instance held counts as spent until its journal is found.
    """

    account: AccountId
    scope_kind: ScopeKind
    scope_id: str
    window: WindowSpec
    limit_nusd: int | None = None
    soft_nusd: int | None = None
    model: str | None = None
    thresholds: tuple[int, ...] = ()
    strict: bool = False
    increase: Increase | None = None

    @property
    def limited(self) -> bool:
        """Whether money must be held before a call; a soft limit alone only warns."""
        return self.limit_nusd is not None

    def limit_at(self, now: datetime) -> int | None:
        """The limit in force at an instant, with a temporary increase that has not ended."""
        if self.limit_nusd is None or self.increase is None or now >= self.increase.until:
            return self.limit_nusd
        return self.limit_nusd + self.increase.amount_nusd

    def covers(self, model: str) -> bool:
        """Whether calls of a public model are charged to this account."""
        return self.model is None or matches(self.model, model)


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rate limits: requests and tokens in any sixty seconds, and calls in flight. None: no limit."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self.rpm is not None or self.tpm is not None or self.parallel is not None


class SecretRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`s.<label>.<hash>`: one secret version of a key. `seq` is the AUTH sequence that made it."""

    key_id: KeyId
    version: int
    seq: int
    not_after: datetime | None = None


class ScopeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What org, team and key records share. `model_limits` are limits of the scope per model pattern, `model_aliases`
    other names for models (the narrowest scope's word counts), `tags` go onto the usage of every call."""

    seq: int
    alias: str | None = None
    models: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = {}
    model_aliases: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    blocked: bool = False


class OrgRecord(ScopeRecord, frozen=True, kw_only=True):
    """`o.<id>`. `models` empty: all models."""

    org_id: OrgId


class TeamRecord(ScopeRecord, frozen=True, kw_only=True):
    """`t.<id>`. `models` empty: all that the organization allows."""

    team_id: TeamId
    org_id: OrgId


class KeyRecord(ScopeRecord, frozen=True, kw_only=True):
    """`k.<id>`. `models` empty: all that the team allows; `allowed_routes` empty: all routes.

    A key with a `role` administers within its `reach` and calls no model. `newest` is the newest version of its secret;
    `collectable`: who sends an older one may collect the newest by POST /key/exchange.
    """

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None = None
    expires_at: datetime | None = None
    allowed_routes: tuple[str, ...] = ()
    user_id: UserId | None = None
    role: Role | None = None
    reach: Reach | None = None
    newest: int = 1
    collectable: bool = False


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `revoked`: it beats every record in every mirror, whatever their order of arrival.

    It stands under the name of what is revoked: a secret (`s.…`), a key (`k.…`), or with all that belongs to it a team
    (`t.…`) or an organization (`o.…`).
    """

    kind: RevocationKind
    at: datetime
    actor: str
    cause: str = ""


def lineage_of(org: OrgRecord, team: TeamRecord | None, key: KeyRecord) -> tuple[Budget, ...]:
    """All accounts a call of this key is charged to, narrowest scope first."""
    return key.budgets + (team.budgets if team is not None else ()) + org.budgets


def matches(pattern: str, model: str) -> bool:
    """Whether a public model name fits a pattern, in which `*` stands for any text."""
    if "*" not in pattern:
        return pattern == model
    head, *middle, tail = pattern.split("*")
    if len(model) < len(head) + len(tail) or not model.startswith(head) or not model.endswith(tail):
        return False
    at, end = len(head), len(model) - len(tail)
    for part in middle:
        found = model.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def allows(allowed: tuple[str, ...], model: str) -> bool:
    """Whether an allow list of names and patterns admits a public model name; an empty list (or `*`) admits all."""
    return not allowed or model in allowed or any("*" in name and matches(name, model) for name in allowed)
