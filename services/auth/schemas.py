"""Requests, with LiteLLM's names, read from raw JSON: in a change, absent and null are not the same."""

import re
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain import fields, values
from services.auth.domain.budget import BudgetPatch
from services.auth.domain.fields import Fields
from shared.errors import ApiError

T = TypeVar("T")
_PATH = re.compile(r" - at `\$\.?([A-Za-z_]+)?.*`$")

KEYS_PER_DELETE_MAX = 100


class GenerateKey(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/generate`. Money is dollars; null is the same as absent."""

    key: str | None = None
    key_alias: str | None = None
    duration: str | None = None
    models: list[str] | None = None
    team_id: str | None = None
    organization_id: str | None = None
    metadata: dict[str, object] | None = None
    blocked: bool | None = None
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    budget_timezone: str | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None


class UpdateKey(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/update`: a field sent as null is cleared, a field not sent stays.

    `key` names the key; without it `key_alias` does, and the alias stays.
    """

    key: str | None = None
    key_alias: str | UnsetType | None = UNSET
    duration: str | UnsetType | None = UNSET
    models: list[str] | UnsetType | None = UNSET
    team_id: str | UnsetType | None = UNSET
    organization_id: str | UnsetType | None = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    max_budget: float | UnsetType | None = UNSET
    soft_budget: float | UnsetType | None = UNSET
    budget_duration: str | UnsetType | None = UNSET
    budget_timezone: str | UnsetType | None = UNSET
    tpm_limit: int | UnsetType | None = UNSET
    rpm_limit: int | UnsetType | None = UNSET


class NewTeam(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /team/new`."""

    team_id: str | None = None
    team_alias: str | None = None
    organization_id: str | None = None
    models: list[str] | None = None
    metadata: dict[str, object] | None = None
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    budget_timezone: str | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None


class NewOrganization(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /organization/new`."""

    organization_id: str | None = None
    organization_alias: str | None = None
    models: list[str] | None = None
    metadata: dict[str, object] | None = None
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    budget_timezone: str | None = None


class NameKey(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/block` and `/key/unblock`: a secret, a key id or a stored hash."""

    key: str


class DeleteKeys(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/delete`: by secret, key id or stored hash, or by alias."""

    keys: list[str] | None = None
    key_aliases: list[str] | None = None


def read(body: bytes, known: Fields, kind: type[T]) -> T:
    """A request from its body. Raises ApiError 400 naming the field that is wrong."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"The body is not JSON that can be read: {error}") from error
    if not isinstance(content, dict):
        raise ApiError(400, "invalid_json", 'The body is not a JSON object, such as {"key": "sk-…"}.')
    sifted = fields.sift(content, known)  # pyright: ignore[reportUnknownArgumentType]
    try:
        return msgspec.convert(sifted, kind)
    except msgspec.ValidationError as error:
        raise _misfit(error) from error


def budget_of(request: GenerateKey | NewTeam | NewOrganization) -> BudgetPatch:
    """The budget of a new scope. Raises ApiError 400."""
    return BudgetPatch(
        limit_nusd=values.money("max_budget", request.max_budget),
        soft_nusd=values.money("soft_budget", request.soft_budget),
        duration=values.window_duration(request.budget_duration),
        zone=values.zone(request.budget_timezone),
    )


def budget_change_of(request: UpdateKey) -> BudgetPatch:
    """What a change says of the budget. Raises ApiError 400."""
    limit, soft = request.max_budget, request.soft_budget
    duration, zone = request.budget_duration, request.budget_timezone
    return BudgetPatch(
        limit_nusd=UNSET if isinstance(limit, UnsetType) else values.money("max_budget", limit),
        soft_nusd=UNSET if isinstance(soft, UnsetType) else values.money("soft_budget", soft),
        duration=UNSET if isinstance(duration, UnsetType) else values.window_duration(duration),
        zone=UNSET if isinstance(zone, UnsetType) else values.zone(zone),
    )


def expiry_change_of(request: UpdateKey, now: datetime) -> datetime | UnsetType | None:
    """What a change says of the key's end. Raises ApiError 400."""
    return UNSET if isinstance(request.duration, UnsetType) else values.expiry(request.duration, now)


def targets_of(request: DeleteKeys) -> tuple[list[str], list[str]]:
    """(references, aliases), one of them empty. Raises ApiError 400."""
    references, aliases = request.keys or [], request.key_aliases or []
    if bool(references) == bool(aliases):
        raise ApiError(400, "invalid_value", "Send either keys or key_aliases, with at least one entry.")
    if len(references) + len(aliases) > KEYS_PER_DELETE_MAX:
        param = "keys" if references else "key_aliases"
        raise values.problem(param, f"at most {KEYS_PER_DELETE_MAX} in one request")
    return references, aliases


def _misfit(error: msgspec.ValidationError) -> ApiError:
    text = str(error)
    found = _PATH.search(text)
    param = found[1] if found is not None else None
    what = _PATH.sub("", text)
    return ApiError(400, "invalid_value", f"{param}: {what}" if param else what, param=param)
