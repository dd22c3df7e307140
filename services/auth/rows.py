"""States as answers: what is stored in nano-dollars and accounts, shown in dollars under LiteLLM's names."""

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.answers import (
    AttachedRow,
    BudgetObject,
    BudgetTable,
    KeyRow,
    ModelBudgetRow,
    OrgRow,
    ScopeRow,
    TeamRow,
    TermsRow,
    WindowRow,
)
from services.auth.domain.accounts import account_for, increase_of, thresholds_of
from services.auth.domain.budget_object import Attached, BudgetState
from services.auth.domain.key import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.rates import rpm_of, tpm_of
from services.auth.domain.scope import ScopeState
from services.auth.domain.team import TeamState
from services.auth.spend import Spend
from shared.events import BudgetTerms, WindowTerms
from shared.money import usd_from_nusd
from shared.policy import Budget, Limits
from shared.windows import follows_zone, window_at

R = TypeVar("R", bound=msgspec.Struct)
S = TypeVar("S", bound=ScopeRow)
W = TypeVar("W", bound=TermsRow)


def extended(row: msgspec.Struct, kind: type[R], **more: object) -> R:
    """A row with further fields, as the kind that has them."""
    return kind(**msgspec.structs.asdict(row), **more)


def key_row(state: KeyState, now: datetime, spend: Spend | None = None) -> KeyRow:
    """A key as it is at an instant."""
    row = KeyRow(
        token_id=state.key_id,
        token=state.key_id,
        key_name=state.secrets[-1].hint if state.secrets else None,
        key_alias=state.alias,
        status=status_of(state, now),
        blocked=state.blocked,
        expires=state.expires_at,
        models=state.models,
        team_id=state.team_id,
        organization_id=state.org_id,
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
    )
    return _with_money(row, state, now, spend)


def team_row(state: TeamState, now: datetime, spend: Spend | None = None) -> TeamRow:
    """A team as it is at an instant."""
    row = TeamRow(
        team_id=state.team_id,
        team_alias=state.alias,
        organization_id=state.org_id,
        models=state.models,
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        default_key_budget_id=state.default_key_budget_id,
    )
    return _with_money(row, state, now, spend)


def org_row(state: OrgState, now: datetime, spend: Spend | None = None) -> OrgRow:
    """An organization as it is at an instant."""
    row = OrgRow(
        organization_id=state.org_id,
        organization_alias=state.alias,
        models=state.models,
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
    )
    row = _with_money(row, state, now, spend)
    if row.litellm_budget_table is None and (state.budgets or state.limits.any):
        row.litellm_budget_table = _table(state, state.limits, now)
    return row


def object_row(state: BudgetState, attached: Attached, warnings: list[str] | None = None) -> BudgetObject:
    """A budget object."""
    row = BudgetObject(
        budget_id=state.budget_id,
        version=state.version,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        attached=msgspec.convert(msgspec.to_builtins(attached), AttachedRow),
        warnings=warnings or [],
    )
    return _with_terms(row, state.terms, state.limits, _Unattached())


def status_of(state: KeyState, now: datetime) -> str:
    """`active`, `expired`, `revoked` (blocked) or `deleted`."""
    if state.deleted_at is not None:
        return "deleted"
    if state.blocked:
        return "revoked"
    return "expired" if state.expires_at is not None and state.expires_at <= now else "active"


class _Unattached:
    """Terms without accounts: they have no window that runs, and no spend."""

    def reset_at(self, window: WindowTerms) -> datetime | UnsetType | None:
        """When the window of these terms ends."""
        return UNSET

    def spend(self, window: WindowTerms) -> float | UnsetType | None:
        """What was spent in it, in dollars."""
        return UNSET


class _Held(_Unattached):
    """The terms of a scope, with the accounts that follow from them."""

    def __init__(self, budgets: tuple[Budget, ...], now: datetime, spend: Spend | None) -> None:
        self._budgets = budgets
        self._now = now
        self._spend = spend

    def reset_at(self, window: WindowTerms) -> datetime | UnsetType | None:
        budget = account_for(window, self._budgets)
        return None if budget is None else window_at(budget.window, self._now).end

    def spend(self, window: WindowTerms) -> float | UnsetType | None:
        budget = account_for(window, self._budgets)
        return UNSET if self._spend is None or budget is None else self._spend.of(budget)


def _with_money(row: S, state: ScopeState, now: datetime, spend: Spend | None) -> S:
    _with_terms(row, state.terms, state.limits, _Held(state.budgets, now, spend))
    row.budget_id = state.budget_id
    row.budget_reset_at = None if state.budget is None else window_at(state.budget.window, now).end
    increase = increase_of(state.budgets, now)
    if increase is not None:
        row.temp_budget_increase = usd_from_nusd(increase.amount_nusd)
        row.temp_budget_expiry = increase.until
    row.model_rpm_limit = rpm_of(state.model_limits)
    row.model_tpm_limit = tpm_of(state.model_limits)
    if state.budget_id is not None:
        row.litellm_budget_table = _table(state, state.lent, now)
    return row


def _table(state: ScopeState, limits: Limits, now: datetime) -> BudgetTable:
    table = _with_terms(BudgetTable(budget_id=state.budget_id), state.terms, limits, _Held(state.budgets, now, None))
    table.budget_reset_at = None if state.budget is None else window_at(state.budget.window, now).end
    return table


def _with_terms(row: W, terms: BudgetTerms, limits: Limits, held: _Unattached) -> W:
    main = terms.main
    if main is not None:
        row.max_budget, row.soft_budget = _usd(main.limit_nusd), _usd(main.soft_nusd)
        row.budget_duration, row.budget_timezone = main.duration or None, _zone(main)
    row.budget_limits = [
        WindowRow(
            budget_duration=window.duration or None,
            max_budget=_usd(window.limit_nusd),
            soft_budget=_usd(window.soft_nusd),
            budget_timezone=_zone(window),
            reset_at=held.reset_at(window),
            spend=held.spend(window),
        )
        for window in terms.windows
    ]
    row.model_max_budget = {
        window.model or "": ModelBudgetRow(
            budget_limit=_usd(window.limit_nusd),
            time_period=window.duration or None,
            soft_budget=_usd(window.soft_nusd),
            budget_timezone=_zone(window),
            reset_at=held.reset_at(window),
            spend=held.spend(window),
        )
        for window in terms.models
    }
    windows = (() if main is None else (main,)) + terms.windows + terms.models
    row.budget_thresholds = sorted({percent for window in windows for percent in thresholds_of(terms, window)})
    row.budget_mode = ("strict" if terms.strict else "default") if windows else None
    row.rpm_limit, row.tpm_limit, row.max_parallel_requests = limits.rpm, limits.tpm, limits.parallel
    return row


def _usd(nusd: int | None) -> float | None:
    return None if nusd is None else usd_from_nusd(nusd)


def _zone(window: WindowTerms) -> str | None:
    return window.zone if follows_zone(window.duration) else None
