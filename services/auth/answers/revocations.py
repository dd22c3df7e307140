"""Answers about what is refused from now on."""

from datetime import datetime

import msgspec


class FleetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Of so many proxies that are alive, so many refuse already; `ms` after the revocation began, or was waited for."""

    proxies: int
    applied: int
    ms: float


class RevokedSecrets(msgspec.Struct, kw_only=True):
    """`POST /key/revoke`: the versions of a key's secret that are dead now. The key itself, its settings and its spend
    stay. `versions_left` still work (null: the database did not answer); without any, regenerate the key."""

    token_id: str
    token: str
    key_alias: str | None
    team_id: str | None
    organization_id: str
    versions: list[int]
    versions_left: list[int] | None
    leaked: bool
    revoked_at: datetime
    recorded: bool
    fleet: FleetAnswer
    warnings: list[str] = msgspec.field(default_factory=list[str])


class Received(msgspec.Struct, kw_only=True):
    """`POST /key/report-leak`: how many tokens were read. Whether any is a key of ours is not told."""

    received: int
