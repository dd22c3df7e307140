"""How large the settings of one scope may be: their record has to fit into the bucket that every proxy reads.

Counted is what stands in the events, as JSON. Settings and terms of money are bounded each for itself, so that a budget
object that is in order can be taken over by every scope that is in order.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from services.auth.domain.rates import rpm_of, tpm_of
from services.auth.domain.values import problem
from shared.events import BudgetTerms

if TYPE_CHECKING:
    from services.auth.domain.scope import Settings

SETTINGS_BYTES_MAX = 40 * 1024
"""Models, aliases, limits per model, tags and routes of one scope."""
TERMS_BYTES_MAX = 24 * 1024
"""Budgets of one scope, or of one budget object."""


def check_settings(
    before: "Settings | None",
    after: "Settings",
    *,
    aliases: str,
    routes: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
) -> None:
    """Refuse settings that are too large, unless they stay as they are. Raises ApiError 400 naming the largest field.

    `aliases` is the field of model aliases; `routes` are the allowed routes before and after.
    """
    parts = _parts(after, aliases, routes[1])
    if before is None or _parts(before, aliases, routes[0]) != parts:
        _refuse_above(SETTINGS_BYTES_MAX, parts)


def check_terms(before: BudgetTerms, after: BudgetTerms) -> None:
    """Refuse budgets that are too large, unless they stay as they are. Raises ApiError 400 naming the largest field."""
    if after != before:
        _refuse_above(TERMS_BYTES_MAX, {"budget_limits": after.windows, "model_max_budget": after.models})


def _parts(settings: "Settings", aliases: str, routes: tuple[str, ...]) -> dict[str, object]:
    limits = settings["model_limits"]
    return {
        "models": settings["models"],
        aliases: settings["model_aliases"],
        "model_rpm_limit": rpm_of(limits),
        "model_tpm_limit": tpm_of(limits),
        "tags": settings["tags"],
        "allowed_routes": routes,
    }


def _refuse_above(bound: int, parts: Mapping[str, object]) -> None:
    sizes = {field: len(msgspec.json.encode(part)) for field, part in parts.items()}
    total = sum(sizes.values())
    if total <= bound:
        return
    largest = max(sizes, key=lambda field: sizes[field])
    others = " and ".join((", ".join(field for field in sizes if field != largest)).rsplit(", ", 1))
    raise problem(
        largest,
        f"{sizes[largest]} bytes of JSON, and together with {others} {total}, are more than the {bound} that fit:"
        " use fewer or shorter names, or patterns such as 'gpt-*'",
    )
