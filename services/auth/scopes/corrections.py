"""The work behind `reset_spend`: a recorded correction of what a scope has spent in its current windows.

Only the ledger changes spend; auth says who asks, and which accounts and windows are meant.
"""

from datetime import datetime

import msgspec

from services.auth.answers.base import CorrectionRow, ResetAnswer
from services.auth.domain import key as key_domain
from services.auth.domain import values
from services.auth.domain.scope import ScopeState
from services.auth.parts import Parts
from services.auth.schemas import base as base_schemas
from services.auth.scopes.finding import org_within, team_within
from services.auth.spend import UNKNOWN, Corrected, Correction, Spend, Target
from shared.access import Principal
from shared.errors import ApiError
from shared.money import usd_from_nusd
from shared.policy import Budget, ScopeKind
from shared.windows import follows_zone, window_at

WAITING = "the correction is stored and takes effect as soon as it is in the ledger's log, which it is not yet"
NOTHING_ABOVE = "nothing was changed: no account of this scope has spent more than reset_to"


class Corrections:
    """Setting spend back."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def key(self, reference: str, request: base_schemas.ResetSpend, caller: Principal) -> ResetAnswer:
        """Of a key. Raises ApiError 400, 404, 503."""
        key_id = await self._parts.find(reference, caller)
        state = key_domain.living(await self._parts.views.key(key_id))
        answer = await self._reset("key", key_id, state, request, caller)
        return msgspec.structs.replace(answer, key_hash=key_id)

    async def team(self, team_id: str, request: base_schemas.ResetSpend, caller: Principal) -> ResetAnswer:
        """Of a team. Raises ApiError 400, 404, 503."""
        state = await team_within(self._parts, team_id, caller)
        answer = await self._reset("team", team_id, state, request, caller)
        return msgspec.structs.replace(answer, team_id=team_id)

    async def org(self, org_id: str, request: base_schemas.ResetSpend, caller: Principal) -> ResetAnswer:
        """Of an organization. Raises ApiError 400, 404, 503."""
        state = await org_within(self._parts, org_id, caller)
        answer = await self._reset("org", org_id, state, request, caller)
        return msgspec.structs.replace(answer, organization_id=org_id)

    async def _reset(
        self, kind: ScopeKind, scope_id: str, state: ScopeState, request: base_schemas.ResetSpend, caller: Principal
    ) -> ResetAnswer:
        to_nusd = values.money("reset_to", request.reset_to) or 0
        reason = values.reason(request.reason)
        if not state.budgets:
            raise ApiError(
                400,
                "not_supported",
                "There is no budget to reset: what was spent in all is history and stays. Budgets of the scopes around"
                " this one are reset there.",
            )
        now = self._parts.clock.now()
        spend = None
        if to_nusd:
            spend = await self._parts.ledger.spend(kind, scope_id, state, now=now, actor=caller.actor)
        chosen = _above(state, spend, to_nusd, now)
        targets = [
            Target(account=budget.account, index=window_at(budget.window, now).index, to_nusd=to_nusd)
            for budget in chosen
        ]
        done = Corrected()
        if targets:
            done = await self._parts.ledger.correct(kind, scope_id, targets, reason=reason, actor=caller.actor)
        if spend is None and _shown(state).account not in {item.account for item in done.corrections}:
            spend = await self._parts.ledger.spend(kind, scope_id, state, now=now, actor=caller.actor)
        return _answer(kind, scope_id, state, done, spend, now)


def _above(state: ScopeState, spend: Spend | None, to_nusd: int, now: datetime) -> tuple[Budget, ...]:
    """The accounts that have spent more than `to_nusd`: a reset never makes one look as if it had spent more.

    Without figures (they are asked for only above 0) it is all of them. Raises ApiError 503.
    """
    if spend is None:
        return state.budgets
    if spend.windows is None:
        raise ApiError(503, "unavailable", f"Nothing was changed: {UNKNOWN}.")
    at = {budget.account: window_at(budget.window, now).index for budget in state.budgets}
    return tuple(
        budget for budget in state.budgets if spend.windows.get((budget.account, at[budget.account]), 0) > to_nusd
    )


def _shown(state: ScopeState) -> Budget:
    """The account that `spend` and `max_budget` of the answer speak of."""
    return state.budget or state.budgets[0]


def _answer(
    kind: ScopeKind, scope_id: str, state: ScopeState, done: Corrected, spend: Spend | None, now: datetime
) -> ResetAnswer:
    """The answer; `spend` has the figures of an account that was left alone."""
    by_account: dict[str, Budget] = {budget.account: budget for budget in state.budgets}
    rows = [_row(item, by_account[item.account], now) for item in done.corrections if item.account in by_account]
    first = _shown(state)
    warnings = [] if done.corrections else [NOTHING_ABOVE]
    corrected = {item.account: item for item in done.corrections}.get(first.account)
    if corrected is not None:
        after, before = usd_from_nusd(corrected.after_nusd), usd_from_nusd(corrected.before_nusd)
    else:
        after = before = None if spend is None else spend.of(first)
        warnings += [] if spend is None else spend.warnings
    return ResetAnswer(
        scope=kind,
        scope_id=scope_id,
        spend=after,
        previous_spend=before,
        max_budget=None if first.limit_nusd is None else usd_from_nusd(first.limit_nusd),
        budget_reset_at=window_at(first.window, now).end,
        corrections=rows,
        warnings=warnings if done.applied else [*warnings, WAITING],
    )


def _row(item: Correction, budget: Budget, now: datetime) -> CorrectionRow:
    window = window_at(budget.window, now)
    return CorrectionRow(
        account=item.account,
        model=budget.model,
        budget_duration=budget.window.duration or None,
        budget_timezone=budget.window.zone if follows_zone(budget.window.duration) else None,
        max_budget=None if budget.limit_nusd is None else usd_from_nusd(budget.limit_nusd),
        window_start=window.start,
        reset_at=window.end,
        before=usd_from_nusd(item.before_nusd),
        after=usd_from_nusd(item.after_nusd),
    )
