"""A scope's budget: what a request asks for, and the account that comes of it.

A changed limit keeps its account and so its spend; a changed window is a new account that starts empty.
"""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from shared.errors import ApiError
from shared.ids import AccountId
from shared.policy import Budget, ScopeKind
from shared.windows import WindowSpec, parse_duration

CALENDAR_UNITS = ("mo", "y")
DEFAULT_ZONE = "UTC"


class BudgetTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a budget says: limits in nano-dollars, `duration` ('' = for ever), time zone of calendar windows."""

    limit_nusd: int | None = None
    soft_nusd: int | None = None
    duration: str = ""
    zone: str = DEFAULT_ZONE


class BudgetPatch(msgspec.Struct, frozen=True, kw_only=True):
    """A change of terms: UNSET stays as it is, None clears."""

    limit_nusd: int | UnsetType | None = UNSET
    soft_nusd: int | UnsetType | None = UNSET
    duration: str | UnsetType | None = UNSET
    zone: str | UnsetType | None = UNSET


def is_calendar(duration: str) -> bool:
    """Whether windows of this duration follow the calendar, and so a time zone."""
    return bool(duration) and parse_duration(duration)[1] in CALENDAR_UNITS


def terms_of(budget: Budget) -> BudgetTerms:
    """The terms of an account."""
    return BudgetTerms(
        limit_nusd=budget.limit_nusd,
        soft_nusd=budget.soft_nusd,
        duration=budget.window.duration,
        zone=budget.window.zone,
    )


def patched(current: Budget | None, patch: BudgetPatch) -> BudgetTerms | None:
    """The terms after a change, None when no budget is left. Raises ApiError 400 naming the field."""
    before = BudgetTerms() if current is None else terms_of(current)
    limit = before.limit_nusd if patch.limit_nusd is UNSET else patch.limit_nusd
    soft = before.soft_nusd if patch.soft_nusd is UNSET else patch.soft_nusd
    duration = before.duration if patch.duration is UNSET else patch.duration or ""
    calendar = is_calendar(duration)
    kept = before.zone if calendar else DEFAULT_ZONE
    zone = kept if patch.zone is UNSET else patch.zone or DEFAULT_ZONE
    if limit is None and soft is None:
        _refuse_idle(patch)
        return None
    if limit is not None and soft is not None and soft > limit:
        raise ApiError(
            400, "invalid_value", "soft_budget is above max_budget: it would never warn.", param="soft_budget"
        )
    if zone != DEFAULT_ZONE and not calendar:
        raise ApiError(
            400,
            "invalid_value",
            "budget_timezone means something for calendar windows only: set budget_duration to months or years,"
            " such as '1mo', or leave budget_timezone out.",
            param="budget_timezone",
        )
    return BudgetTerms(limit_nusd=limit, soft_nusd=soft, duration=duration, zone=zone)


def budgets_after(
    current: Budget | None,
    patch: BudgetPatch,
    *,
    kind: ScopeKind,
    scope_id: str,
    fresh: AccountId,
    at: datetime,
) -> tuple[Budget, ...] | None:
    """The scope's accounts after a change; None when nothing changes. `fresh` names a new account.

    Raises ApiError 400 naming the field.
    """
    terms = patched(current, patch)
    if terms is None:
        return None if current is None else ()
    if current is not None and terms == terms_of(current):
        return None
    same = current is not None and (current.window.duration, current.window.zone) == (terms.duration, terms.zone)
    if current is not None and same:
        account, window = current.account, current.window
    else:
        account, window = fresh, WindowSpec(anchor=at, duration=terms.duration, zone=terms.zone)
    return (
        Budget(
            account=account,
            scope_kind=kind,
            scope_id=scope_id,
            window=window,
            limit_nusd=terms.limit_nusd,
            soft_nusd=terms.soft_nusd,
        ),
    )


def _refuse_idle(patch: BudgetPatch) -> None:
    """A window or a time zone without any limit would be stored and mean nothing."""
    for name, value in (("budget_duration", patch.duration), ("budget_timezone", patch.zone)):
        if value is not UNSET and value is not None:
            raise ApiError(400, "invalid_value", f"{name} needs a max_budget or a soft_budget beside it.", param=name)
