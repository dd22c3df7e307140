"""docs/migration.md, its tables: LiteLLM's names with their states, which the code says.

`python -m tests.support.migration` writes them anew.
"""

import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import MagicMock

import services.auth.api
from services.auth.api.operations import Operation
from services.auth.domain.fields.base import Fields
from services.proxy.domain.paths import Endpoint, not_offered, route_of
from tests.support.litellm_fields import DIFFERENT, FIELDS, LIKE
from tests.support.litellm_routes import ROUTES

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
ROUTES_MARK, FIELDS_MARK, END_MARK = "<!-- routes -->", "<!-- fields -->", "<!-- end -->"
IN_FORCE, DIFFERS, REFUSED, NOT_OFFERED = "in force", "in force; ", "refused: ", "not offered"
OURS = "in force, ours"
REPEATED = re.compile(r"^[^:.]* (are|is) not offered(: |\.)")
"""What the gateway's own words begin with."""


class Line(NamedTuple):
    """A route of LiteLLM's: its note says what is different, or what to use."""

    method: str
    path: str
    note: str


@cache
def operations() -> dict[tuple[str, str], Operation]:
    """The rows of auth's API by method and path, such as `/key/{key}/rotate`."""
    rows: dict[tuple[str, str], Operation] = {}
    for module in pkgutil.iter_modules(services.auth.api.__path__):
        loaded = importlib.import_module(f"services.auth.api.{module.name}")
        for name, make in vars(loaded).items():
            if name.endswith("_operations") and make.__module__ == loaded.__name__:
                made: list[Operation] = make(*[MagicMock() for _ in inspect.signature(make).parameters])
                rows |= {(row.method, re.sub(r":\w+}", "}", row.path)): row for row in made}
    return rows


def served(method: str, path: str) -> bool:
    """Whether the front door passes a request with this path on, and somebody behind it answers."""
    route = route_of(_sample(path).encode())
    if route is None or method not in route.methods:
        return False
    return route.endpoint is not Endpoint.ADMIN or route.service != "auth" or (method, path) in operations()


def fields_of(path: str) -> Fields:
    """The fields that a route takes and refuses."""
    row = next(row for (_, known), row in operations().items() if known == path and row.body is not None)
    assert row.body is not None
    return row.body.fields


def route_state(line: Line) -> str:
    """What the page says of a route."""
    if served(line.method, line.path):
        return DIFFERS + line.note if line.note else IN_FORCE
    why = line.note or not_offered(_sample(line.path).encode())
    assert why, f"{line.method} {line.path} is not served, and nobody says what to use in place of it"
    said = REPEATED.sub("", why).rstrip(".")
    return f"{NOT_OFFERED}: {'use ' if said.startswith('`') else ''}{said}" if said else NOT_OFFERED


def field_state(path: str, field: str) -> str:
    """What the page says of a field of a request."""
    fields = fields_of(path)
    if field in fields.known:
        if field not in FIELDS[path]:
            return OURS
        note = DIFFERENT.get(f"{_root(path)} {field}", DIFFERENT.get(field))
        return IN_FORCE if note is None else DIFFERS + note
    assert field in fields.refused, f"{path} answers neither way for {field}"
    return REFUSED + fields.refused[field]


def _root(path: str) -> str:
    while path in LIKE:
        path = LIKE[path]
    return path


def lines() -> dict[str, list[Line]]:
    """All routes by heading."""
    return {heading: [_line(text) for text in block.strip().splitlines()] for heading, block in ROUTES.items()}


def field_names(path: str) -> list[str]:
    """All fields of a route: LiteLLM's in their order, then those of ours; where it is like another route, only those
    with another state."""
    fields = fields_of(path)
    names = list(dict.fromkeys((*FIELDS[path], *fields.known, *fields.refused)))
    like = LIKE.get(path)
    if like is None:
        return names
    other = {name: field_state(like, name) for name in _all(like)}
    return [name for name in names if other.get(name) != field_state(path, name)]


def gone(path: str) -> list[str]:
    """Fields of the route that this one is like which it does not have."""
    like = LIKE.get(path)
    return [] if like is None else [name for name in _all(like) if name not in _all(path)]


def _all(path: str) -> list[str]:
    fields = fields_of(path)
    return list(dict.fromkeys((*FIELDS[path], *fields.known, *fields.refused)))


def routes_part() -> str:
    """The tables of routes."""
    out = ""
    for heading, found in lines().items():
        out += f"\n### {heading}\n\n| LiteLLM's route | state |\n|---|---|\n"
        out += "".join(f"| `{line.method} {line.path}` | {route_state(line)} |\n" for line in found)
    return out


def fields_part() -> str:
    """The tables of fields."""
    out = ""
    for path in FIELDS:
        names, like = field_names(path), LIKE.get(path)
        out += f"\n### `{path}`\n\n"
        if like is not None:
            absent = "".join(f", without `{name}`" for name in gone(path))
            out += f"As `{like}`{absent}{', but:' if names else '.'}\n" + ("\n" if names else "")
        if names:
            out += "| field | state |\n|---|---|\n"
            out += "".join(f"| `{name}` | {field_state(path, name)} |\n" for name in names)
    return out


def rendered(text: str) -> str:
    """The page with its tables written anew."""
    before, _, rest = text.partition(ROUTES_MARK)
    _, _, rest = rest.partition(END_MARK)
    between, _, rest = rest.partition(FIELDS_MARK)
    _, _, after = rest.partition(END_MARK)
    return (
        f"{before}{ROUTES_MARK}\n{routes_part()}\n{END_MARK}{between}{FIELDS_MARK}\n{fields_part()}\n{END_MARK}{after}"
    )


def _line(text: str) -> Line:
    what, _, note = text.partition(" | ")
    method, _, path = what.partition(" ")
    return Line(method, path.strip(), note.strip())


def _sample(path: str) -> str:
    """The path with names in it, as a caller would send it."""
    return re.sub(r"{path}", "chat/completions", path).replace("{", "").replace("}", "")


def main() -> None:
    """Write the tables anew."""
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
