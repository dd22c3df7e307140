"""Rate limits of a scope: what a change makes of them, and which of two is in force."""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from shared.policy import Limits


class RatePatch(msgspec.Struct, frozen=True, kw_only=True):
    """A change of limits: UNSET stays, None clears. The last two are per model pattern, replaced whole."""

    rpm: int | UnsetType | None = UNSET
    tpm: int | UnsetType | None = UNSET
    parallel: int | UnsetType | None = UNSET
    model_rpm: Mapping[str, int] | UnsetType | None = UNSET
    model_tpm: Mapping[str, int] | UnsetType | None = UNSET


def limits_after(before: Limits, patch: RatePatch) -> Limits:
    """The limits of all calls after a change."""
    return Limits(
        rpm=before.rpm if patch.rpm is UNSET else patch.rpm,
        tpm=before.tpm if patch.tpm is UNSET else patch.tpm,
        parallel=before.parallel if patch.parallel is UNSET else patch.parallel,
    )


def model_limits_after(before: Mapping[str, Limits], patch: RatePatch) -> dict[str, Limits]:
    """The limits per model pattern after a change."""
    rpm = rpm_of(before) if isinstance(patch.model_rpm, UnsetType) else patch.model_rpm or {}
    tpm = tpm_of(before) if isinstance(patch.model_tpm, UnsetType) else patch.model_tpm or {}
    return {model: Limits(rpm=rpm.get(model), tpm=tpm.get(model)) for model in {**rpm, **tpm}}


def rpm_of(limits: Mapping[str, Limits]) -> dict[str, int]:
    """Requests per minute by model pattern."""
    return {model: item.rpm for model, item in limits.items() if item.rpm is not None}


def tpm_of(limits: Mapping[str, Limits]) -> dict[str, int]:
    """Tokens per minute by model pattern."""
    return {model: item.tpm for model, item in limits.items() if item.tpm is not None}


def tightest(own: Limits, lent: Limits) -> Limits:
    """Both in force: the lower of each."""
    return Limits(
        rpm=_lower(own.rpm, lent.rpm), tpm=_lower(own.tpm, lent.tpm), parallel=_lower(own.parallel, lent.parallel)
    )


def _lower(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
