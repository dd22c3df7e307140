"""Values of requests, checked one by one: each function returns what is stored or names the field in an ApiError."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from shared.errors import ApiError
from shared.money import MoneyError, nusd_from_usd
from shared.windows import WindowError, check_zone, duration_seconds, parse_duration

NAME_CHARS_MAX = 200
MODELS_MAX = 200
METADATA_BYTES_MAX = 16 * 1024
METADATA_DEPTH_MAX = 32
LIMIT_MAX = 10**12
DOLLARS_MAX = 1e9
DOLLARS_MIN = 1e-9
BUDGET_LIMITS_MAX = 8
"""Windows of one scope beside that of `max_budget`."""
MODEL_BUDGETS_MAX = 50
MODEL_LIMITS_MAX = 100
THRESHOLDS_MAX = 10
PATTERN_STARS_MAX = 4
INCREASE_DAYS_MAX = 366
REASON_CHARS_MAX = 500
REFERENCE_CHARS_MAX = 512
CUSTOM_SECRET_CHARS_MIN = 16
CUSTOM_SECRET_CHARS_MAX = 200

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SECRET = re.compile(r"sk-[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def problem(place: str, text: str) -> ApiError:
    """The refusal of a value at a place such as `max_budget` or `budget_limits[0].max_budget`."""
    return ApiError(400, "invalid_value", f"{place}: {text}", param=field_of(place))


def field_of(place: str) -> str:
    """The field of the request that a place is in."""
    return re.split(r"[.\[]", place, maxsplit=1)[0]


def name(param: str, value: str | None) -> str | None:
    """An alias for people."""
    if value is None:
        return None
    if not value.strip() or len(value) > NAME_CHARS_MAX or _CONTROL.search(value):
        raise problem(param, f"use 1 to {NAME_CHARS_MAX} characters without control characters")
    return value


def scope_id(param: str, value: str) -> str:
    """An id chosen by the caller; it becomes part of subjects and bucket keys."""
    if _ID.fullmatch(value) is None:
        raise problem(param, "use 1 to 100 letters, digits, '-' and '_'")
    return value


def models(value: Sequence[str] | None, *, param: str = "models") -> tuple[str, ...]:
    """Allowed model names, each once; LiteLLM's words for "all" are understood."""
    names = tuple(dict.fromkeys(value or ()))
    if len(names) > MODELS_MAX:
        raise problem(param, f"at most {MODELS_MAX} names")
    for model in names:
        if not model or len(model) > NAME_CHARS_MAX or _CONTROL.search(model):
            raise problem(param, f"a name has 1 to {NAME_CHARS_MAX} characters without control characters")
        if model == "no-default-models":
            raise problem(param, "'no-default-models' is not known here: name the models, or block the key")
        if "*" in model and model != "*":
            raise problem(param, f"{model!r} is a pattern: name each model, or use '*' for all")
    if "all-team-models" in names:
        return ()
    return ("*",) if "all-proxy-models" in names else names


def metadata(value: dict[str, object] | None) -> dict[str, object]:
    """Free-form notes, bounded in size and depth."""
    notes = value or {}
    for misplaced in ("model_rpm_limit", "model_tpm_limit"):
        if notes.get(misplaced) not in (None, {}):
            raise ApiError(
                400,
                "field_not_supported",
                f"metadata.{misplaced} is not in force there: send {misplaced} beside metadata.",
                param="metadata",
            )
    if _depth(notes) > METADATA_DEPTH_MAX:
        raise problem("metadata", f"nested deeper than {METADATA_DEPTH_MAX} levels")
    encoded = msgspec.json.encode(notes)
    if len(encoded) > METADATA_BYTES_MAX:
        raise problem("metadata", f"larger than {METADATA_BYTES_MAX} bytes of JSON")
    if b"\\u0000" in encoded.replace(b"\\\\", b""):
        raise problem("metadata", "a NUL character cannot be stored")
    return notes


def money(param: str, value: float | None) -> int | None:
    """Nano-dollars from dollars."""
    if value is None:
        return None
    try:
        nusd = nusd_from_usd(value)
    except MoneyError as error:
        raise problem(param, str(error)) from error
    if value > DOLLARS_MAX:
        raise problem(param, f"{value!r} is more than a billion dollars, which is the most that can be set")
    if 0 < value < DOLLARS_MIN:
        raise problem(param, f"{value!r} is less than a billionth of a dollar, the smallest amount that is counted")
    return nusd


def limit(param: str, value: int | None) -> int | None:
    """A count: per minute, or in flight."""
    if value is not None and not 0 <= value <= LIMIT_MAX:
        raise problem(param, f"use a whole number from 0 to {LIMIT_MAX}")
    return value


def pattern(param: str, value: str) -> str:
    """A model name or pattern, in which `*` stands for any text."""
    if not value or value != value.strip() or len(value) > NAME_CHARS_MAX or _CONTROL.search(value):
        raise problem(
            param,
            f"{value[:50]!r} names no model: use 1 to {NAME_CHARS_MAX} characters, no blanks around them and no"
            " control characters",
        )
    if "**" in value or value.count("*") > PATTERN_STARS_MAX:
        raise problem(param, f"{value!r} is no pattern: at most {PATTERN_STARS_MAX} '*', and no two side by side")
    return value


def model_limits(param: str, value: Mapping[str, int]) -> dict[str, int]:
    """Counts per minute by model pattern."""
    if len(value) > MODEL_LIMITS_MAX:
        raise problem(param, f"at most {MODEL_LIMITS_MAX} models")
    for model, count in value.items():
        limit(param, count)
        pattern(param, model)
    return dict(value)


def thresholds(value: Sequence[int]) -> tuple[int, ...]:
    """Percents of a limit that warn, in order."""
    if len(value) > THRESHOLDS_MAX:
        raise problem("budget_thresholds", f"at most {THRESHOLDS_MAX} percents")
    if any(not 1 <= percent <= 100 for percent in value):
        raise problem("budget_thresholds", "use whole percents from 1 to 100, such as [50, 80]")
    if len(set(value)) < len(value):
        raise problem("budget_thresholds", "a percent is named twice")
    return tuple(sorted(value))


def mode(value: str) -> bool:
    """Whether a budget is strict."""
    if value not in ("default", "strict"):
        raise problem("budget_mode", "use 'default' or 'strict'")
    return value == "strict"


def increase_end(value: str, now: datetime) -> datetime:
    """When a temporary increase is over, in UTC."""
    param = "temp_budget_expiry"
    try:
        end = datetime.fromisoformat(value)
    except ValueError as error:
        raise problem(param, f"{value[:50]!r} is not a time: use one such as '2026-03-31T18:00:00Z'") from error
    if end.tzinfo is None:
        raise problem(param, "say the time zone too, such as '2026-03-31T18:00:00Z'")
    try:
        end = end.astimezone(UTC)
    except OverflowError as error:
        raise problem(param, f"use a time within {INCREASE_DAYS_MAX} days") from error
    if end <= now:
        raise problem(param, "this time is over: use one in the future")
    if end > now + timedelta(days=INCREASE_DAYS_MAX):
        raise problem(param, f"more than {INCREASE_DAYS_MAX} days ahead: raise max_budget instead")
    return end


def reason(value: str | None) -> str:
    """Why something was done, for the record."""
    text = value or ""
    if len(text) > REASON_CHARS_MAX or _CONTROL.search(text):
        raise problem("reason", f"at most {REASON_CHARS_MAX} characters without control characters")
    return text


def window_duration(value: str | None, *, param: str = "budget_duration") -> str | None:
    """A budget's window."""
    return _duration(param, value)


def expiry(value: str | None, now: datetime) -> datetime | None:
    """The end of a key that lives for `value` from now on."""
    text = _duration("duration", value)
    return None if text is None else now + timedelta(seconds=duration_seconds(text))


def zone(value: str | None, *, param: str = "budget_timezone") -> str | None:
    """A time zone for windows of days and more."""
    if value is None:
        return None
    try:
        return check_zone(value)
    except (WindowError, OSError) as error:
        raise problem(param, str(error)) from error


def custom_secret(value: str) -> str:
    """A secret chosen by the caller; the text of it is never repeated."""
    if _SECRET.fullmatch(value) is None:
        raise problem("key", "a key of your own begins with 'sk-' and has printable ASCII without spaces")
    if not CUSTOM_SECRET_CHARS_MIN <= len(value) <= CUSTOM_SECRET_CHARS_MAX:
        raise problem("key", f"use {CUSTOM_SECRET_CHARS_MIN} to {CUSTOM_SECRET_CHARS_MAX} characters")
    return value


def refuse_odd(param: str, value: str) -> None:
    """Refuse a text that cannot name anything: empty, very long, or with control characters."""
    if not value or len(value) > REFERENCE_CHARS_MAX or _CONTROL.search(value):
        raise problem(param, f"use 1 to {REFERENCE_CHARS_MAX} characters without control characters")


def _duration(param: str, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parse_duration(value)
    except WindowError as error:
        raise problem(param, str(error)) from error
    return value


def _depth(value: object) -> int:
    """Levels of nesting; stops counting just above the bound."""
    level: list[object] = [value]
    depth = 0
    while level and depth <= METADATA_DEPTH_MAX:
        depth += 1
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())  # pyright: ignore[reportUnknownArgumentType]
            elif isinstance(item, list):
                below.extend(item)  # pyright: ignore[reportUnknownArgumentType]
        level = below
    return depth
