"""Whether a key may make this call at all: the rules before money, in the order a caller meets them."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from services.proxy.domain.paths import Route
from services.proxy.domain.routes import Allowed, allowed, names_of, shown
from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.policy import (
    Budget,
    KeyRecord,
    Limits,
    OrgRecord,
    Revocation,
    Role,
    ScopeKind,
    SecretRecord,
    TeamRecord,
    allows,
    lineage_of,
)
from shared.topology import partition_of

TAGS_MAX = 60
"""Tags of a key, its team and its organization together."""

ALIASES_SHOWN = 5
ROLE_KEY = "role_key_on_data_plane"
"""The code by which keys with a role are refused where models are called."""
RevokedWhat = Literal["key", "team", "organization"]


class Refused(Exception):
    """A call that is not admitted: HTTP status, `code`, `kind` (OpenAI's `type`) and a text for the caller."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        extra: dict[str, object] | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind
        self.param = param
        self.extra = extra
        self.headers = headers


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What calls of one key for one model are charged to.

    `accounts` are those with a limit (money must be held), `watched` those that only warn. `model` is empty unless a
    per-model budget touches the key; `strict` when any account wants proven upper bounds.
    """

    accounts: tuple[AccountId, ...]
    watched: tuple[Budget, ...]
    strict: bool
    model: str = ""


class ScopeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The rate limits of one scope that a call counts against, in all and per model pattern."""

    scope_kind: ScopeKind
    scope_id: str
    alias: str | None
    limits: Limits
    model_limits: dict[str, Limits]


class Caller(msgspec.Struct, kw_only=True):
    """A key with everything it inherits, joined once when a record changes.

    `common` is the lineage of all its calls, None when it depends on the model: ask `lineage`. `routes` is None where
    all are allowed. `aliases` are other names for models, as this caller may use them. Which secret was sent is in
    `version`, with `retires_at` and `overlap`, the headers that tell the caller of a newer one: see `as_sent`.
    """

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None
    blocked: str | None
    expires_at: datetime | None
    model_lists: tuple[tuple[str, ...], ...]
    budgets: tuple[Budget, ...]
    policy_rev: int
    partition: int
    common: Lineage | None
    limits: tuple[ScopeLimits, ...]
    role: Role | None = None
    routes: Allowed | None = None
    aliases: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    newest: int = 1
    collectable: bool = False
    version: int = 0
    retires_at: datetime | None = None
    overlap: tuple[tuple[bytes, bytes], ...] = ()
    _lineages: dict[str, Lineage] = msgspec.field(default_factory=dict[str, Lineage])
    _models: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])

    def may_use(self, model: str) -> bool:
        """Whether key, team and organization all allow a public model name."""
        known = self._models.get(model)
        if known is None:
            known = all(allows(allowed, model) for allowed in self.model_lists)
            if len(self._models) < 1_000:
                self._models[model] = known
        return known

    def resolved(self, model: str) -> str:
        """The public name of a model that a caller names, which may be by an alias. One step: no alias of an alias."""
        return self.aliases.get(model, model)

    def lineage(self, model: str) -> Lineage:
        """What calls for a public model name are charged to."""
        if self.common is not None:
            return self.common
        known = self._lineages.get(model)
        if known is None:
            known = lineage_for(self.budgets, model)
            if len(self._lineages) < 1_000:
                self._lineages[model] = known
        return known


def lineage_for(budgets: tuple[Budget, ...], model: str) -> Lineage:
    """The part of a key's budgets that calls for a model are charged to; an empty name leaves per-model ones out."""
    covering = [budget for budget in budgets if budget.covers(model)]
    return Lineage(
        accounts=tuple(budget.account for budget in covering if budget.limited),
        watched=tuple(budget for budget in covering if not budget.limited),
        strict=any(budget.strict and budget.limited for budget in covering),
        model=model,
    )


def join(key: KeyRecord, team: TeamRecord | None, org: OrgRecord, partitions: int) -> Caller:
    """One caller from its records."""
    scopes = (key, org) if team is None else (key, team, org)
    budgets = lineage_of(org, team, key)
    names = {id(key): "key", id(team): "team", id(org): "organization"}
    return Caller(
        key_id=key.key_id,
        org_id=org.org_id,
        team_id=None if team is None else team.team_id,
        blocked=next((names[id(scope)] for scope in scopes if scope.blocked), None),
        expires_at=key.expires_at,
        model_lists=tuple(scope.models for scope in scopes),
        budgets=budgets,
        policy_rev=max(scope.seq for scope in scopes),
        partition=partition_of(org.org_id, partitions),
        common=None if any(budget.model is not None for budget in budgets) else lineage_for(budgets, ""),
        limits=tuple(_limits_of(scope) for scope in scopes if scope.limits.any or scope.model_limits),
        role=key.role,
        routes=allowed(key.allowed_routes),
        aliases={name: model for scope in reversed(scopes) for name, model in scope.model_aliases.items()},
        tags=tuple(dict.fromkeys(tag for scope in scopes for tag in scope.tags))[:TAGS_MAX],
        newest=key.newest,
        collectable=key.collectable,
        version=key.newest,
    )


def as_sent(caller: Caller, secret: SecretRecord) -> Caller:
    """A key's caller who sent this version of its secret. What is counted by key is shared by all of them."""
    if secret.version == caller.version and secret.not_after is None:
        return caller
    overlap = () if secret.version >= caller.newest else overlap_headers(caller, secret)
    return msgspec.structs.replace(caller, version=secret.version, retires_at=secret.not_after, overlap=overlap)


def overlap_headers(caller: Caller, secret: SecretRecord) -> tuple[tuple[bytes, bytes], ...]:
    """What every answer tells a caller whose key has a newer secret than the one that was sent."""
    headers = [
        (b"x-tundish-key-version", b"%d" % secret.version),
        (b"x-tundish-key-newest", b"%d" % caller.newest),
    ]
    if secret.not_after is not None:
        ends = secret.not_after.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        headers.append((b"x-tundish-key-ends", ends.encode()))
    if caller.collectable:
        headers.append((b"x-tundish-key-exchange", b"true"))
    return tuple(headers)


def _limits_of(scope: KeyRecord | TeamRecord | OrgRecord) -> ScopeLimits:
    kind, scope_id = _scope_of(scope)
    return ScopeLimits(
        scope_kind=kind,
        scope_id=scope_id,
        alias=scope.alias,
        limits=scope.limits,
        model_limits=scope.model_limits,
    )


def _scope_of(scope: KeyRecord | TeamRecord | OrgRecord) -> tuple[ScopeKind, str]:
    match scope:
        case KeyRecord():
            return "key", scope.key_id
        case TeamRecord():
            return "team", scope.team_id
        case OrgRecord():
            return "org", scope.org_id


def blocked(what: str) -> Refused:
    """The refusal of a key that is blocked, or whose team or organization is."""
    said = "This key is blocked" if what == "key" else f"The {what} of this key is blocked"
    return Refused(403, "key_blocked", f"{said}. Ask your platform team to unblock it.", kind="permission_error")


def revoked(revocation: Revocation, what: RevokedWhat) -> Refused:
    """The refusal of a secret whose own entry in `revoked`, or that of its key, team or organization, says so."""
    if revocation.kind == "blocked":
        return blocked(what)
    if revocation.kind == "leaked":
        said = "This API key was reported as leaked, so it is dead"
    else:
        said = "This API key was deleted" if what == "key" else f"The {what} of this API key was deleted"
    return Refused(401, "key_revoked", f"{said}. Ask your platform team for a new one.", kind="authentication_error")


def retired() -> Refused:
    """The refusal of a secret whose time is over."""
    return Refused(
        401,
        "key_retired",
        "This API key was replaced by a newer one. Ask its owner or your platform team for it.",
        kind="authentication_error",
    )


def check_caller(caller: Caller, now: datetime) -> None:
    """Raise Refused when the key itself may not call."""
    if caller.blocked is not None:
        raise blocked(caller.blocked)
    if caller.expires_at is not None and now >= caller.expires_at:
        raise Refused(
            401,
            "key_expired",
            f"This API key expired at {caller.expires_at.isoformat()}. Ask your platform team for a new one.",
            kind="authentication_error",
        )
    if caller.role is not None:
        raise Refused(
            403,
            ROLE_KEY,
            f"This key has the role {caller.role}: it administers, and calls no models. Mint a key without a role for"
            " calls, with POST /key/generate.",
            kind="permission_error",
        )


def check_route(caller: Caller, route: Route) -> None:
    """Raise Refused when the key is for other routes."""
    routes = caller.routes
    if routes is not None and not routes.admits(route):
        raise Refused(
            403,
            "route_not_allowed",
            f"This API key may not call {names_of(route)[-1]}. It may call: {shown(routes.said)}. Ask your platform"
            " team for another key, or to widen its allowed_routes.",
            kind="permission_error",
        )


def check_model(caller: Caller, model: str, known: bool) -> None:
    """Raise Refused when the model does not exist or the key may not use it. `model` is resolved: no alias."""
    if not caller.may_use(model):
        raise Refused(
            403,
            "model_not_allowed",
            f"This API key may not use the model {_known_as(caller, model)}. GET /v1/models lists what it may use.",
            kind="permission_error",
            param="model",
        )
    if not known:
        raise Refused(
            404,
            "model_not_found",
            f"The model {_known_as(caller, model)} does not exist on this gateway. GET /v1/models lists what this key"
            " may use.",
            param="model",
        )


def _known_as(caller: Caller, model: str) -> str:
    """A model's name for an error, with the names by which this caller may have meant it."""
    names = [name for name, meant in caller.aliases.items() if meant == model][:ALIASES_SHOWN]
    return f"'{model}'" + (f" (for this key also {', '.join(names)})" if names else "")
