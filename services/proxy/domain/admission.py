"""Whether a key may make this call at all: the rules before money, in the order a caller meets them."""

from datetime import datetime

import msgspec

from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.policy import Budget, KeyRecord, Limits, OrgRecord, ScopeKind, TeamRecord, allows, lineage_of
from shared.topology import partition_of


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

    `common` is the lineage of all its calls, None when it depends on the model: ask `lineage`.
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
    )


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


def check_caller(caller: Caller, now: datetime) -> None:
    """Raise Refused when the key itself may not call."""
    if caller.blocked is not None:
        raise Refused(
            403,
            "key_blocked",
            f"This {caller.blocked} is blocked. Ask your platform team to unblock it.",
            kind="permission_error",
        )
    if caller.expires_at is not None and now >= caller.expires_at:
        raise Refused(
            401,
            "key_expired",
            f"This API key expired at {caller.expires_at.isoformat()}. Ask your platform team for a new one.",
            kind="authentication_error",
        )


def check_model(caller: Caller, model: str, known: bool) -> None:
    """Raise Refused when the model does not exist or the key may not use it."""
    if not caller.may_use(model):
        raise Refused(
            403,
            "model_not_allowed",
            f"This API key may not use the model '{model}'. GET /v1/models lists what it may use.",
            kind="permission_error",
            param="model",
        )
    if not known:
        raise Refused(
            404,
            "model_not_found",
            f"The model '{model}' does not exist on this gateway. GET /v1/models lists what this key may use.",
            param="model",
        )
