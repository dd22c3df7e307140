"""The query of a request to an internal port: known names only, each usable, or refused by name."""

from collections.abc import Mapping
from datetime import UTC, datetime

from shared.errors import ApiError
from shared.http import HttpRequest

PAGE_SIZE = 100
PAGE_SIZE_MAX = 1_000
PAGE_MAX = 1_000_000
TEXT_CHARS_MAX = 300


def query_of(request: HttpRequest, *known: str) -> dict[str, str]:
    """The query's fields that are not empty; raises ApiError 400 for one that is not known."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise ApiError(
                400, "unknown_parameter", f"Unknown parameter '{name}'. Known: {', '.join(known)}.", param=name
            )
        if len(value) > TEXT_CHARS_MAX or "\0" in value:
            raise ApiError(400, "bad_request", f"'{name}' is not a usable value.", param=name)
        if value:
            found[name] = value
    return found


def number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A whole number from 1. Raises ApiError 400."""
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not 1 <= int(text) <= most:
        raise ApiError(400, "bad_request", f"'{name}' must be a whole number from 1 to {most}.", param=name)
    return int(text)


def page_and_size(query: Mapping[str, str]) -> tuple[int, int]:
    """`page` from 1, and `size`, the rows of one. Raises ApiError 400."""
    return number(query, "page", 1, PAGE_MAX), number(query, "size", PAGE_SIZE, PAGE_SIZE_MAX)


def time_of(query: Mapping[str, str], name: str) -> datetime | None:
    """A time (UTC where it names no zone), None if it is not there. Raises ApiError 400."""
    text = query.get(name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ApiError(
            400, "bad_request", f"'{name}' must be a time such as 2026-11-01 or 2026-11-01T12:00:00Z.", param=name
        ) from error
