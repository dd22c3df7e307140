"""Values of requests, checked one by one: each function returns what is stored or names the field in an ApiError."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from shared.errors import ApiError
from shared.money import MoneyError, nusd_from_usd
from shared.strength import STRONG_CHARS_MIN, STRONG_DIFFERENT_MIN, guessable
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
ALIASES_MAX = 100
TAGS_MAX = 20
TAG_CHARS_MAX = 100
ROUTES_MAX = 100
ROUTE_GROUPS = ("llm_api_routes", "openai_routes", "anthropic_routes", "info_routes")
MANAGEMENT_ROUTES = "management_routes"
REFERENCE_CHARS_MAX = 512
CUSTOM_SECRET_CHARS_MIN = 16
CUSTOM_SECRET_CHARS_MAX = 200

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_KEY_ID = re.compile(r"key_[0-9a-f]{32}")
_SECRET = re.compile(r"sk-[\x21-\x7e]+")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_ROUTE = re.compile(r"/[A-Za-z0-9_.~/{}:-]*\*?")
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


def key_alias(value: str | None) -> str | None:
    """The alias of a key: nothing that could be taken for a key's id, or for a secret that is then shown in the clear;
    a text that may be one is not repeated."""
    if value is not None and _KEY_ID.fullmatch(value):
        raise problem("key_alias", "an alias shaped like the id of a key could be taken for that key: use another name")
    if value is not None and value.startswith("sk-"):
        raise problem("key_alias", "an alias that begins with 'sk-' could be a secret, and aliases are shown to people")
    return name("key_alias", value)


def scope_id(param: str, value: str) -> str:
    """An id chosen by the caller; it becomes part of subjects and bucket keys."""
    if _ID.fullmatch(value) is None:
        raise problem(param, "use 1 to 100 letters, digits, '-' and '_'")
    return value


def models(value: Sequence[str] | None, *, param: str = "models") -> tuple[str, ...]:
    """Allowed model names and patterns, each once; LiteLLM's words for "all" and for "none" are understood.

    `no-default-models` stays as it is: no model has this name, so alone it allows none.
    """
    names = tuple(dict.fromkeys(value or ()))
    if len(names) > MODELS_MAX:
        raise problem(param, f"at most {MODELS_MAX} names")
    for model in names:
        pattern(param, model)
    if "all-team-models" in names:
        return ()
    return ("*",) if "all-proxy-models" in names else names


def model_aliases(param: str, value: Mapping[str, str] | None) -> dict[str, str]:
    """Other names for models: alias → public model name."""
    aliases = dict(value or {})
    if len(aliases) > ALIASES_MAX:
        raise problem(param, f"at most {ALIASES_MAX} aliases")
    for alias, model in aliases.items():
        for text in (alias, model):
            pattern(param, text)
            if "*" in text:
                raise problem(param, f"{text!r} is a pattern: an alias stands for one model")
        if model in aliases and model != alias:
            raise problem(param, f"{model!r} is an alias itself: name the model that {alias!r} stands for")
    return aliases


def tags(value: Sequence[str] | None) -> tuple[str, ...]:
    """Labels that go onto the usage of every call, each once."""
    found = tuple(dict.fromkeys(value or ()))
    if len(found) > TAGS_MAX:
        raise problem("tags", f"at most {TAGS_MAX} tags")
    for tag in found:
        if not tag.strip() or len(tag) > TAG_CHARS_MAX or _CONTROL.search(tag):
            raise problem("tags", f"a tag has 1 to {TAG_CHARS_MAX} characters without control characters")
    return found


def routes(value: Sequence[str] | None, *, role: bool) -> tuple[str, ...]:
    """What of the API a key may call: paths (a `*` at the end stands for anything) and groups of them, each once.

    A key with a role calls no model: it takes `management_routes`, which says what is so anyway.
    """
    found = tuple(dict.fromkeys(value or ()))
    if len(found) > ROUTES_MAX:
        raise problem("allowed_routes", f"at most {ROUTES_MAX} routes")
    for route in found:
        if role and route != MANAGEMENT_ROUTES:
            raise problem(
                "allowed_routes",
                f"a key with a role administers, and what it may follows from its role: use {MANAGEMENT_ROUTES!r}, or"
                " leave it out",
            )
        if route == MANAGEMENT_ROUTES and not role:
            raise problem(
                "allowed_routes",
                f"{MANAGEMENT_ROUTES!r} takes a key with a role: send key_type too ('admin', 'org_admin', 'team_admin'"
                " or 'viewer')",
            )
        if not role and route not in ROUTE_GROUPS and (len(route) > NAME_CHARS_MAX or _ROUTE.fullmatch(route) is None):
            raise problem(
                "allowed_routes",
                f"{route[:50]!r} is neither a path such as '/v1/chat/completions' or '/v1/*' nor one of the groups"
                f" {', '.join(ROUTE_GROUPS)}",
            )
    return found


def secret_sha256(value: str) -> bytes:
    """The SHA-256 of a secret, as LiteLLM stores it, from its hex form."""
    if _SHA256.fullmatch(value) is None:
        raise problem("key_hash", "use the SHA-256 of the secret as 64 hexadecimal digits")
    return bytes.fromhex(value)


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


def custom_secret(value: str, *, param: str = "key", role: bool = False) -> str:
    """A secret chosen by the caller; the text of it is never repeated. `role`: whoever has it administers or sees
    others' things, so it must be as hard to guess as the master key."""
    if _SECRET.fullmatch(value) is None:
        raise problem(param, "a key of your own begins with 'sk-' and has printable ASCII without spaces")
    if not CUSTOM_SECRET_CHARS_MIN <= len(value) <= CUSTOM_SECRET_CHARS_MAX:
        raise problem(param, f"use {CUSTOM_SECRET_CHARS_MIN} to {CUSTOM_SECRET_CHARS_MAX} characters")
    if role and guessable(value):
        raise problem(
            param,
            f"a key with a role needs at least {STRONG_CHARS_MIN} characters with at least {STRONG_DIFFERENT_MIN}"
            " different ones: leave it out, and a random one is made",
        )
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
