"""A request's query and body, read by its row: what would have no effect is refused by name."""

from collections.abc import Mapping

from services.auth.api.operations import Body, Query
from services.auth.domain import values
from services.auth.schemas import base as base_schemas
from shared.errors import ApiError
from shared.http import HttpRequest

PAGE_MAX = 1_000_000
PAGE_SIZE = 10
PAGE_SIZE_MAX = 100


async def body_of(request: HttpRequest, wanted: Body) -> object:
    """The body as the row's struct. Raises ApiError 400 naming a field."""
    raw = await request.body()
    if wanted.reader is not None:
        return wanted.reader(raw)
    return base_schemas.read(raw or b"{}" if wanted.optional else raw, wanted.fields, wanted.kind)


def query_of(request: HttpRequest, wanted: Query) -> dict[str, str]:
    """The query's parameters. Raises ApiError 400 for one without effect, for it would give a wrong answer."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        text = str(value)
        if name in wanted.known:
            values.refuse_odd(name, text)
            found[name] = text
        elif text.lower() not in wanted.harmless.get(name, ()):
            known = ", ".join(wanted.known)
            raise ApiError(
                400,
                "unknown_parameter",
                f"{name[:100]!r} has no effect here: leave it out" + (f", or use {known}." if known else "."),
                param=name[:100],
            )
    return found


def needed(query: Mapping[str, str], name: str) -> str:
    """A parameter that must be there. Raises ApiError 400."""
    if name not in query:
        raise ApiError(400, "invalid_value", f"Say which one: ?{name}=…", param=name)
    return query[name]


def number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A whole number from 1. Raises ApiError 400."""
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise values.problem(name, f"use a whole number from 1 to {most}")
    return int(text)


def truth(query: Mapping[str, str], name: str) -> bool:
    """`true` or `false`. Raises ApiError 400."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise values.problem(name, "use true or false")
    return text == "true"


def page_of(query: Mapping[str, str]) -> int:
    """`page`, from 1."""
    return number(query, "page", 1, PAGE_MAX)


def size_of(query: Mapping[str, str]) -> int:
    """`size`, rows per page."""
    return number(query, "size", PAGE_SIZE, PAGE_SIZE_MAX)
