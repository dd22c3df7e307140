"""What a key may do: the records of the `keys` and `revoked` buckets, and the lineage a call is charged to.

Auth writes these records; every mirror joins them. An amount or a list that is absent is a positive
statement ("no limit", "all models of the team"), never a gap.
"""

from datetime import datetime
from typing import Literal

import msgspec

from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.windows import WindowSpec

ScopeKind = Literal["key", "team", "org"]
RevocationKind = Literal["deleted", "blocked", "leaked"]

ALL_MODELS = "*"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One account: a scope's limit over a window. A changed window is a new account, a changed limit not."""

    account: AccountId
    scope_kind: ScopeKind
    scope_id: str
    window: WindowSpec
    limit_nusd: int | None = None
    soft_nusd: int | None = None

    @property
    def limited(self) -> bool:
        """Whether money must be held before a call; a soft limit alone only warns."""
        return self.limit_nusd is not None


class SecretRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`s.<label>.<hash>`: one secret version of a key. `seq` is the AUTH sequence that made it."""

    key_id: KeyId
    version: int
    seq: int
    not_after: datetime | None = None


class ScopeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What org, team and key records share."""

    seq: int
    alias: str | None = None
    models: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    blocked: bool = False


class OrgRecord(ScopeRecord, frozen=True, kw_only=True):
    """`o.<id>`. `models` empty: all models."""

    org_id: OrgId


class TeamRecord(ScopeRecord, frozen=True, kw_only=True):
    """`t.<id>`. `models` empty: all that the organization allows."""

    team_id: TeamId
    org_id: OrgId


class KeyRecord(ScopeRecord, frozen=True, kw_only=True):
    """`k.<id>`. `models` empty: all that the team allows."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None = None
    expires_at: datetime | None = None


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `revoked`: it beats every record in every mirror, whatever their order of arrival."""

    kind: RevocationKind
    at: datetime
    actor: str
    cause: str = ""


def lineage_of(org: OrgRecord, team: TeamRecord | None, key: KeyRecord) -> tuple[Budget, ...]:
    """All accounts a call of this key is charged to, narrowest scope first."""
    return key.budgets + (team.budgets if team is not None else ()) + org.budgets


def allows(allowed: tuple[str, ...], model: str) -> bool:
    """Whether an allow list admits a public model name; an empty list (or `*`) admits all."""
    return not allowed or model in allowed or ALL_MODELS in allowed
