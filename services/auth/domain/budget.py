"""What a scope's budgets were asked to be: terms, and what a change makes of them.

Nothing that would mean nothing is kept: a window without a limit, thresholds without a limit, a time zone beside a
window of hours are refused by name.
"""

from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain.size import check_terms
from services.auth.domain.values import field_of
from shared.errors import ApiError
from shared.events import BudgetTerms, WindowTerms
from shared.windows import follows_zone, parse_duration

DEFAULT_ZONE = "UTC"
NOTHING = BudgetTerms()

T = TypeVar("T")


class BudgetPatch(msgspec.Struct, frozen=True, kw_only=True):
    """A change of terms: UNSET stays as it is, None clears. Amounts are nano-dollars.

    The first four are `max_budget`, `soft_budget`, `budget_duration` and `budget_timezone`.
    """

    limit_nusd: int | UnsetType | None = UNSET
    soft_nusd: int | UnsetType | None = UNSET
    duration: str | UnsetType | None = UNSET
    zone: str | UnsetType | None = UNSET
    windows: tuple[WindowTerms, ...] | UnsetType | None = UNSET
    models: tuple[WindowTerms, ...] | UnsetType | None = UNSET
    thresholds: tuple[int, ...] | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


FIELDS = {
    "limit_nusd": "max_budget",
    "soft_nusd": "soft_budget",
    "duration": "budget_duration",
    "zone": "budget_timezone",
    "windows": "budget_limits",
    "models": "model_max_budget",
    "thresholds": "budget_thresholds",
    "strict": "budget_mode",
}
"""The field of a request behind each part of a patch."""
_SAME = {"m": (60, "s"), "h": (3_600, "s"), "w": (7, "d")}


def named(patch: BudgetPatch) -> list[str]:
    """The request's fields that a patch speaks of, clearing included."""
    return [field for part, field in FIELDS.items() if getattr(patch, part) is not UNSET]


def asking(patch: BudgetPatch) -> list[str]:
    """The request's fields by which a patch asks for something."""
    return [field for part, field in FIELDS.items() if getattr(patch, part) not in (UNSET, None, ())]


def patched(before: BudgetTerms, patch: BudgetPatch) -> BudgetTerms:
    """The terms after a change. Raises ApiError 400 naming the field."""
    after = BudgetTerms(
        main=_main_after(before.main, patch),
        windows=_or(patch.windows, before.windows) or (),
        models=_or(patch.models, before.models) or (),
        thresholds=_or(patch.thresholds, before.thresholds),
        strict=bool(_or(patch.strict, before.strict)),
    )
    check_terms(before, after)
    _refuse_twins(after)
    if has_limit(after):
        return after
    for field, wanted in (("budget_thresholds", patch.thresholds), ("budget_mode", patch.strict)):
        if wanted:
            raise _idle(field, "max_budget")
    return msgspec.structs.replace(after, thresholds=None, strict=False)


def checked(terms: WindowTerms, field: str) -> WindowTerms:
    """A window's terms if they make sense. Raises ApiError 400 naming the place (of the main window: each field)."""
    main = field == FIELDS["limit_nusd"]
    if terms.limit_nusd is not None and terms.soft_nusd is not None and terms.soft_nusd > terms.limit_nusd:
        raise _refused(FIELDS["soft_nusd"] if main else field, "soft_budget is above max_budget: it would never warn.")
    if terms.zone != DEFAULT_ZONE and not follows_zone(terms.duration):
        raise _refused(
            FIELDS["zone"] if main else field,
            "budget_timezone means something for windows of days, weeks, months or years only, such as '1d' or '1mo';"
            " windows of hours and less are exact spans: leave budget_timezone out.",
        )
    return terms


def has_limit(terms: BudgetTerms) -> bool:
    """Whether any account of these terms has a limit."""
    main = terms.main is not None and terms.main.limit_nusd is not None
    return main or bool(terms.windows) or bool(terms.models)


def has_plain_limit(terms: BudgetTerms) -> bool:
    """Whether an account that is not for single models has a limit: what a temporary increase raises."""
    return (terms.main is not None and terms.main.limit_nusd is not None) or bool(terms.windows)


def identity(terms: WindowTerms) -> tuple[str | None, tuple[int, str] | None, str]:
    """What an account is known by: (model pattern, duration in one spelling, zone). `60m` is `1h`, `1w` is `7d`;
    `24h` is not `1d`, which may be longer or shorter."""
    if not terms.duration:
        return terms.model, None, terms.zone
    count, unit = parse_duration(terms.duration)
    times, base = _SAME.get(unit, (1, unit))
    return terms.model, (count * times, base), terms.zone


def _main_after(before: WindowTerms | None, patch: BudgetPatch) -> WindowTerms | None:
    was = before or WindowTerms()
    limit, soft = _or(patch.limit_nusd, was.limit_nusd), _or(patch.soft_nusd, was.soft_nusd)
    duration = _or(patch.duration, was.duration) or ""
    kept = was.zone if follows_zone(duration) else DEFAULT_ZONE
    zone = _or(patch.zone, kept) or DEFAULT_ZONE
    if limit is None and soft is None:
        for field, wanted in (("budget_duration", patch.duration), ("budget_timezone", patch.zone)):
            if wanted:
                raise _idle(field, "max_budget or a soft_budget")
        return None
    terms = WindowTerms(limit_nusd=limit, soft_nusd=soft, duration=duration, zone=zone)
    return checked(terms, FIELDS["limit_nusd"])


def _refuse_twins(terms: BudgetTerms) -> None:
    seen: set[object] = set()
    if terms.main is not None:
        seen.add(identity(terms.main))
    for window in terms.windows:
        if identity(window) in seen:
            raise _refused(
                "budget_limits",
                f"two limits for windows of {window.duration} in the same time zone: keep the one that is meant"
                " (max_budget with its budget_duration counts as one of them).",
            )
        seen.add(identity(window))


def _refused(place: str, text: str) -> ApiError:
    return ApiError(
        400, "invalid_value", text if text.startswith(f"{place} ") else f"{place}: {text}", param=field_of(place)
    )


def _idle(field: str, needs: str) -> ApiError:
    return ApiError(400, "invalid_value", f"{field} needs a {needs} beside it.", param=field)


def _or(value: T | UnsetType, current: T) -> T:
    return current if isinstance(value, UnsetType) else value
