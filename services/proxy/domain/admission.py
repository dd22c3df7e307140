"""Whether a key may make this call at all: the rules before money, in the order a caller meets them."""

from datetime import datetime

import msgspec

from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.policy import Budget, KeyRecord, OrgRecord, TeamRecord, allows, lineage_of
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


class Caller(msgspec.Struct, kw_only=True):
    """A key with everything it inherits, joined once when a record changes.

    `accounts` are those with a limit (money must be held), `watched` those that only warn.
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
    accounts: tuple[AccountId, ...]
    watched: tuple[Budget, ...]
    _models: dict[str, bool] = msgspec.field(default_factory=dict[str, bool])

    def may_use(self, model: str) -> bool:
        """Whether key, team and organization all allow a public model name."""
        known = self._models.get(model)
        if known is None:
            known = all(allows(allowed, model) for allowed in self.model_lists)
            if len(self._models) < 1_000:
                self._models[model] = known
        return known


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
        accounts=tuple(budget.account for budget in budgets if budget.limited),
        watched=tuple(budget for budget in budgets if not budget.limited),
    )


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
