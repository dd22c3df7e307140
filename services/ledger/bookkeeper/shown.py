"""Figures of the books as the API shows them, with the names and limits that auth knows."""

from datetime import datetime
from typing import Any, cast

import msgspec

from services.ledger.bookkeeper.corrections import corrected
from services.ledger.bookkeeper.schemas import (
    AccountBalance,
    CorrectionRow,
    KeySpend,
    OrgSpend,
    ScopeSpend,
    TeamSpend,
)
from services.ledger.bookkeeper.store_corrections import Correction
from services.ledger.domain.books import Spent, Total, WindowKey
from services.ledger.domain.directory import Directory, scope_name
from shared.money import usd_from_nusd
from shared.policy import Budget, ScopeKind
from shared.windows import Window


def account_balance(budget: Budget, window: Window, spent: dict[WindowKey, Spent], now: datetime) -> AccountBalance:
    """One account in its current window."""
    sums = spent.get((budget.account, window.index), Spent())
    return AccountBalance(
        account=budget.account,
        index=window.index,
        spent_nusd=sums.spent_nusd,
        overdraft_nusd=sums.overdraft_nusd,
        start=window.start,
        end=window.end,
        limit_nusd=budget.limit_at(now),
        soft_nusd=budget.soft_nusd,
        duration=budget.window.duration,
        zone=budget.window.zone,
        model=budget.model,
    )


def correction_row(directory: Directory, one: Correction) -> CorrectionRow:
    """One correction of the audit trail."""
    return CorrectionRow(
        event_id=str(one.event_id),
        at=one.at,
        scope_kind=one.scope_kind,
        scope_id=one.scope_id,
        alias=directory.alias(cast("ScopeKind", one.scope_kind), one.scope_id),
        actor=one.actor,
        reason=one.reason,
        changes=corrected(one.changes),
        pending=one.pending,
    )


def key_spend(directory: Directory, key_id: str, total: Total, now: datetime) -> KeySpend:
    """One key; one that auth never named shows its id and figures."""
    place = directory.keys.get(key_id)
    return KeySpend(
        token=key_id,
        key_id=key_id,
        key_alias=None if place is None else place.alias,
        key_name=None if place is None else place.hint,
        team_id=None if place is None else place.team_id,
        organization_id=None if place is None else place.org_id,
        **_sums(directory, "key", key_id, total, now),
    )


def team_spend(directory: Directory, team_id: str, total: Total, now: datetime) -> TeamSpend:
    """One team."""
    place = directory.teams.get(team_id)
    return TeamSpend(
        team_id=team_id,
        team_alias=None if place is None else place.alias,
        organization_id=None if place is None else place.org_id,
        **_sums(directory, "team", team_id, total, now),
    )


def org_spend(directory: Directory, org_id: str, total: Total, now: datetime) -> OrgSpend:
    """One organization."""
    return OrgSpend(
        organization_id=org_id,
        organization_alias=directory.orgs.get(org_id),
        **_sums(directory, "org", org_id, total, now),
    )


def _sums(directory: Directory, kind: ScopeKind, scope_id: str, total: Total, now: datetime) -> dict[str, Any]:
    """The fields that all kinds of scopes have in common."""
    sums = ScopeSpend(
        spend=usd_from_nusd(total.total_nusd),
        spend_nusd=total.total_nusd,
        overdraft_nusd=total.overdraft_nusd,
        calls=total.calls,
        prompt_tokens=total.input_tokens,
        completion_tokens=total.output_tokens,
        total_tokens=total.input_tokens + total.output_tokens,
        max_budget=_max_budget(directory, kind, scope_id, now),
        last_active=total.last_at,
    )
    return msgspec.structs.asdict(sums)


def _max_budget(directory: Directory, kind: ScopeKind, scope_id: str, now: datetime) -> float | None:
    """The lowest limit in force on all calls of a scope, in dollars."""
    budgets = [directory.budgets[name] for name in directory.scopes.get(scope_name(kind, scope_id), ())]
    limits = [limit for one in budgets if one.model is None and (limit := one.limit_at(now)) is not None]
    return usd_from_nusd(min(limits)) if limits else None
