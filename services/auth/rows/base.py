"""States as answers: what is stored in nano-dollars and accounts, shown in dollars under LiteLLM's names."""

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.answers.base import BudgetTable, ModelBudgetRow, ScopeRow, TermsRow, WindowRow
from services.auth.domain.accounts import account_for, increase_of, thresholds_of
from services.auth.domain.rates import rpm_of, tpm_of
from services.auth.domain.scope import ScopeState
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


class Unattached:
    """Terms without accounts: they have no window that runs, and no spend."""

    def reset_at(self, window: WindowTerms) -> datetime | UnsetType | None:
        """When the window of these terms ends."""
        return UNSET

    def spend(self, window: WindowTerms) -> float | UnsetType | None:
        """What was spent in it, in dollars."""
        return UNSET


class _Held(Unattached):
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


def with_money(row: S, state: ScopeState, now: datetime, spend: Spend | None) -> S:
    """The row of a scope with its budgets and rate limits filled in."""
    with_terms(row, state.terms, state.limits, _Held(state.budgets, now, spend))
    row.budget_id = state.budget_id
    row.budget_reset_at = None if state.budget is None else window_at(state.budget.window, now).end
    increase = increase_of(state.budgets, now)
    if increase is not None:
        row.temp_budget_increase = usd_from_nusd(increase.amount_nusd)
        row.temp_budget_expiry = increase.until
    row.model_rpm_limit = rpm_of(state.model_limits)
    row.model_tpm_limit = tpm_of(state.model_limits)
    if state.budget_id is not None:
        row.litellm_budget_table = table_of(state, state.lent, now)
    return row


def table_of(state: ScopeState, limits: Limits, now: datetime) -> BudgetTable:
    """`litellm_budget_table` of a scope."""
    table = with_terms(BudgetTable(budget_id=state.budget_id), state.terms, limits, _Held(state.budgets, now, None))
    table.budget_reset_at = None if state.budget is None else window_at(state.budget.window, now).end
    return table


def with_terms(row: W, terms: BudgetTerms, limits: Limits, held: Unattached) -> W:
    """The row with what a budget says filled in."""
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
