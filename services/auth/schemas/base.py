"""What requests have in common, read from raw JSON: in a change, absent and null are not the same."""

import re
from typing import TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain import values
from services.auth.domain.fields.base import Fields, sift
from shared.errors import ApiError

T = TypeVar("T")
_PATH = re.compile(r" - at `\$\.?(([A-Za-z_]+)?.*)`$")
_EXPECTED = re.compile(r"Expected `([a-z| ]+)`, got `([a-z]+)`")
_MISSING = re.compile(r"Object missing required field `([a-z_]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


_WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null",
}  # fmt: skip
_GOT = {**_WORDS, "int": "a number", "bool": "a truth value"}
_NOT_JSON = re.compile(rb'"([A-Za-z_]{1,100})"\s*:\s*\[?\s*-?(?:NaN|Infinity)\b')


class WindowRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of `budget_limits`."""

    budget_duration: str
    max_budget: float
    soft_budget: float | None = None
    budget_timezone: str | None = None


class ModelBudgetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value of `model_max_budget`, in either of LiteLLM's spellings."""

    budget_limit: float | None = None
    max_budget: float | None = None
    time_period: str | None = None
    budget_duration: str | None = None
    soft_budget: float | None = None
    budget_timezone: str | None = None


_ENTRIES: dict[str, tuple[str, ...]] = {
    "budget_limits": WindowRequest.__struct_fields__,
    "model_max_budget": ModelBudgetRequest.__struct_fields__,
    "rotation_delivery": ("type", "vault", "secret", "url", "namespace", "entry"),
}


class MoneyFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a budget is made of, and rate limits for all calls. Money is dollars."""

    max_budget: float | UnsetType | None = UNSET
    soft_budget: float | UnsetType | None = UNSET
    budget_duration: str | UnsetType | None = UNSET
    budget_timezone: str | UnsetType | None = UNSET
    budget_limits: list[WindowRequest] | UnsetType | None = UNSET
    model_max_budget: dict[str, ModelBudgetRequest] | UnsetType | None = UNSET
    budget_thresholds: list[int] | UnsetType | None = UNSET
    budget_mode: str | UnsetType | None = UNSET
    tpm_limit: int | UnsetType | None = UNSET
    rpm_limit: int | UnsetType | None = UNSET
    max_parallel_requests: int | UnsetType | None = UNSET


class ScopeFields(MoneyFields, frozen=True, kw_only=True):
    """What every scope has. In a change a field sent as null is cleared, one that is not sent stays."""

    models: list[str] | UnsetType | None = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET
    budget_id: str | UnsetType | None = UNSET
    temp_budget_increase: float | UnsetType | None = UNSET
    temp_budget_expiry: str | UnsetType | None = UNSET
    model_rpm_limit: dict[str, int] | UnsetType | None = UNSET
    model_tpm_limit: dict[str, int] | UnsetType | None = UNSET


class ResetSpend(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/{key}/reset_spend` and its like; dollars."""

    reset_to: float = 0.0
    reason: str | None = None


def read(body: bytes, known: Fields, kind: type[T]) -> T:
    """A request from its body. Raises ApiError 400 naming the field that is wrong."""
    try:
        content: object = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _unreadable(body, error) from error
    if not isinstance(content, dict):
        raise ApiError(400, "invalid_json", 'The body is not a JSON object, such as {"key": "sk-…"}.')
    sifted = sift(cast("dict[str, object]", content), known)
    try:
        return msgspec.convert(sifted, kind)
    except msgspec.ValidationError as error:
        raise _misfit(error, sifted, kind) from error


def _unreadable(body: bytes, error: Exception) -> ApiError:
    """Why a body is no JSON; NaN and Infinity, which some clients send, are told by their field."""
    found = _NOT_JSON.search(body)
    if found is not None:
        param = found[1].decode()
        return values.problem(param, "NaN and Infinity are no numbers here (and no JSON)")
    return ApiError(400, "invalid_json", f"The body is not JSON that can be read: {error}")


def _misfit(error: msgspec.ValidationError, sifted: dict[str, object], kind: type[object]) -> ApiError:
    """What does not fit, in plain words, with the place it stands at."""
    text = str(error)
    found = _PATH.search(text)
    what = _PATH.sub("", text)
    place = "" if found is None else found[1]
    if found is not None and "[...]" in place:
        place = place.replace("[...]", _entry(text, found[2], sifted, kind), 1)
    missing, unknown, expected = _MISSING.fullmatch(what), _UNKNOWN.fullmatch(what), _EXPECTED.fullmatch(what)
    if missing is not None:
        return values.problem(f"{place}.{missing[1]}".removeprefix("."), "is missing")
    if unknown is not None:
        known = ", ".join(_ENTRIES.get(values.field_of(place), ()))
        use = f": use {known}" if known else ""
        return values.problem(place, f"{unknown[1][:100]!r} is not a field of an entry{use}")
    if expected is not None:
        wanted = " or ".join(_WORDS.get(word, word) for word in expected[1].split(" | "))
        got = "a number with decimals" if expected[2] == "float" and "int" in expected[1] else _GOT.get(expected[2])
        what = f"must be {wanted}, and is {got or expected[2]}"
    return values.problem(place, what) if place else ApiError(400, "invalid_value", what)


def _entry(text: str, field: str, sifted: dict[str, object], kind: type[object]) -> str:
    """The key of the entry that does not fit: the decoder tells only that there is one."""
    entries = sifted.get(field)
    for name, value in cast("dict[str, object]", entries).items() if isinstance(entries, dict) else ():
        try:
            msgspec.convert(sifted | {field: {name: value}}, kind)
        except msgspec.ValidationError as error:
            if str(error) == text:
                return f"[{name[:100]!r}]"
    return "[...]"
