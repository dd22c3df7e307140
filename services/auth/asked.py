"""What a request asks for, as changes of the domain: every value checked, the field named that is wrong.

Nothing here looks anything up; a budget object comes in as the attachment that was found for its id.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from msgspec import UNSET, UnsetType

from services.auth.domain import values
from services.auth.domain.budget import DEFAULT_ZONE, BudgetPatch, checked
from services.auth.domain.fields.base import MONEY
from services.auth.domain.rates import RatePatch
from services.auth.domain.scope import Attachment, MoneyChange, ScopeChange
from services.auth.schemas.base import ModelBudgetRequest, MoneyFields, ScopeFields, WindowRequest
from shared.events import WindowTerms
from shared.policy import Increase

V = TypeVar("V", float, str)


def change_of(
    request: ScopeFields,
    alias: str | UnsetType | None,
    attach: Attachment | UnsetType | None,
    now: datetime,
    *,
    model_aliases: dict[str, str] | UnsetType = UNSET,
) -> ScopeChange:
    """The change of a scope's settings and money. Raises ApiError 400.

    `model_aliases` are those of `aliases_of`: keys and other scopes have different names for them.
    """
    models, notes, tags = request.models, request.metadata, request.tags
    return ScopeChange(
        alias=alias,
        models=UNSET if isinstance(models, UnsetType) else values.models(models),
        metadata=UNSET if isinstance(notes, UnsetType) else values.metadata(notes),
        model_aliases=model_aliases,
        tags=UNSET if isinstance(tags, UnsetType) else values.tags(tags),
        rates=rates_of(request),
        money=MoneyChange(patch=patch_of(request), increase=increase_of(request, now), attach=attach),
    )


def aliases_of(param: str, value: dict[str, str] | UnsetType | None) -> dict[str, str] | UnsetType:
    """The change of other names for models, which the field `param` holds. Raises ApiError 400."""
    return UNSET if isinstance(value, UnsetType) else values.model_aliases(param, value)


def patch_of(request: MoneyFields) -> BudgetPatch:
    """The change of a budget's terms. Raises ApiError 400."""
    limit, soft = request.max_budget, request.soft_budget
    duration, zone = request.budget_duration, request.budget_timezone
    thresholds, mode = request.budget_thresholds, request.budget_mode
    return BudgetPatch(
        limit_nusd=UNSET if isinstance(limit, UnsetType) else values.money("max_budget", limit),
        soft_nusd=UNSET if isinstance(soft, UnsetType) else values.money("soft_budget", soft),
        duration=UNSET if isinstance(duration, UnsetType) else values.window_duration(duration),
        zone=UNSET if isinstance(zone, UnsetType) else values.zone(zone),
        windows=_windows(request.budget_limits),
        models=_model_budgets(request.model_max_budget),
        thresholds=thresholds if thresholds is UNSET or thresholds is None else values.thresholds(thresholds),
        strict=mode if mode is UNSET or mode is None else values.mode(mode),
    )


def rates_of(request: MoneyFields) -> RatePatch:
    """The change of rate limits. Raises ApiError 400."""
    scope = request if isinstance(request, ScopeFields) else ScopeFields()
    return RatePatch(
        rpm=_count("rpm_limit", request.rpm_limit),
        tpm=_count("tpm_limit", request.tpm_limit),
        parallel=_count("max_parallel_requests", request.max_parallel_requests),
        model_rpm=_counts("model_rpm_limit", scope.model_rpm_limit),
        model_tpm=_counts("model_tpm_limit", scope.model_tpm_limit),
    )


def increase_of(request: ScopeFields, now: datetime) -> Increase | UnsetType | None:
    """The temporary increase: amount and end, both or neither. Raises ApiError 400."""
    amount, end = request.temp_budget_increase, request.temp_budget_expiry
    if isinstance(amount, UnsetType) and isinstance(end, UnsetType):
        return UNSET
    if amount is None and end is None:
        return None
    if isinstance(amount, UnsetType) or amount is None:
        raise values.problem("temp_budget_increase", "needed beside temp_budget_expiry: both or neither")
    if isinstance(end, UnsetType) or end is None:
        raise values.problem("temp_budget_expiry", "needed beside temp_budget_increase: both or neither")
    nusd = values.money("temp_budget_increase", amount)
    if not nusd:
        raise values.problem("temp_budget_increase", "use an amount above zero")
    return Increase(amount_nusd=nusd, until=values.increase_end(end, now))


def names_a_budget(request: ScopeFields) -> bool:
    """Whether a request for a new scope says what its budget is."""
    return any(getattr(request, field) not in (UNSET, None, [], {}) for field in (*MONEY, "budget_id"))


def _windows(entries: list[WindowRequest] | UnsetType | None) -> tuple[WindowTerms, ...] | UnsetType | None:
    if isinstance(entries, UnsetType) or entries is None:
        return entries
    field = "budget_limits"
    if len(entries) > values.BUDGET_LIMITS_MAX:
        raise values.problem(field, f"at most {values.BUDGET_LIMITS_MAX} windows")
    return tuple(_window(entry, f"{field}[{index}]") for index, entry in enumerate(entries))


def _window(entry: WindowRequest, place: str) -> WindowTerms:
    window = WindowTerms(
        limit_nusd=values.money(f"{place}.max_budget", entry.max_budget),
        soft_nusd=values.money(f"{place}.soft_budget", entry.soft_budget),
        duration=values.window_duration(entry.budget_duration, param=f"{place}.budget_duration") or "",
        zone=values.zone(entry.budget_timezone, param=f"{place}.budget_timezone") or DEFAULT_ZONE,
    )
    return checked(window, place)


def _model_budgets(
    entries: Mapping[str, ModelBudgetRequest] | UnsetType | None,
) -> tuple[WindowTerms, ...] | UnsetType | None:
    if isinstance(entries, UnsetType) or entries is None:
        return entries
    field = "model_max_budget"
    if len(entries) > values.MODEL_BUDGETS_MAX:
        raise values.problem(field, f"at most {values.MODEL_BUDGETS_MAX} models")
    terms: list[WindowTerms] = []
    for model, entry in entries.items():
        values.pattern(field, model)
        terms.append(_model_budget(model, entry, f"{field}[{model!r}]"))
    return tuple(terms)


def _model_budget(model: str, entry: ModelBudgetRequest, place: str) -> WindowTerms:
    limit = _one_of(entry.budget_limit, entry.max_budget, "budget_limit", "max_budget", model)
    duration = _one_of(entry.time_period, entry.budget_duration, "time_period", "budget_duration", model)
    if limit is None:
        raise values.problem(place, "needs a budget_limit")
    money, span = ("max_budget", "budget_duration")
    if entry.budget_limit is not None:
        money = "budget_limit"
    if entry.time_period is not None:
        span = "time_period"
    window = WindowTerms(
        limit_nusd=values.money(f"{place}.{money}", limit),
        soft_nusd=values.money(f"{place}.soft_budget", entry.soft_budget),
        duration=values.window_duration(duration, param=f"{place}.{span}") or "",
        zone=values.zone(entry.budget_timezone, param=f"{place}.budget_timezone") or DEFAULT_ZONE,
        model=model,
    )
    return checked(window, place)


def _one_of(first: V | None, second: V | None, name: str, other: str, model: str) -> V | None:
    """The value under either of two names that mean the same."""
    if first is not None and second is not None:
        raise values.problem("model_max_budget", f"{model!r} has both {name} and {other}, which mean the same")
    return second if first is None else first


def _count(param: str, value: int | UnsetType | None) -> int | UnsetType | None:
    return value if isinstance(value, UnsetType) else values.limit(param, value)


def _counts(param: str, value: dict[str, int] | UnsetType | None) -> dict[str, int] | UnsetType | None:
    return value if isinstance(value, UnsetType) or value is None else values.model_limits(param, value)
