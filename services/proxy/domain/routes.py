"""Which routes a key may call: its `allowed_routes` against what a request asks for.

A route is judged by what it does, not by how it is spelled: an entry holds for every prefix that the operation is
served behind (`/v1`, `/openai/v1`, none, Azure's `/openai/deployments/{model}`).
"""

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from services.proxy.domain.paths import CREATING, METERED, STORED, Endpoint, Route

LLM, OPENAI, ANTHROPIC, INFO = "llm_api_routes", "openai_routes", "anthropic_routes", "info_routes"
_MODELS = (Endpoint.MODELS, Endpoint.MODEL)
_OPENAI = frozenset({*CREATING, *STORED, *_MODELS, Endpoint.REALTIME})
_ANTHROPIC = frozenset({Endpoint.MESSAGES, Endpoint.COUNT_TOKENS})
GROUPS: dict[str, frozenset[Endpoint]] = {
    LLM: frozenset({*METERED, *_OPENAI}),
    OPENAI: _OPENAI,
    ANTHROPIC: _ANTHROPIC,
    INFO: frozenset({*_MODELS, Endpoint.MODEL_INFO}),
}
"""Names that stand for many routes. Others (`management_routes`) allow nothing here."""
PREFIXES = ("", "/v1", "/openai/v1", "/openai", "/anthropic/v1", "/v2")
"""What may stand before an operation's own path, the empty one for a path that is written without any."""
_LONGEST_FIRST = sorted(PREFIXES, key=len, reverse=True)
AZURE_STYLE, ENGINE_STYLE = "/openai/deployments/", "/engines/"
"""What stands before a model's name where the path carries it."""
SHOWN_MAX = 10


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """`allowed_routes` made ready: whole operations, paths, and beginnings of paths. `said` is the list as it stands in
    the key's record."""

    endpoints: frozenset[Endpoint]
    paths: frozenset[str]
    beginnings: tuple[str, ...]
    said: tuple[str, ...]

    def admits(self, route: Route) -> bool:
        """Whether a route is among those allowed."""
        if route.endpoint in self.endpoints:
            return True
        names = names_of(route)
        if not self.paths.isdisjoint(names):
            return True
        return bool(self.beginnings) and any(name.startswith(self.beginnings) for name in spelled(route, names))


@lru_cache(maxsize=1_024)
def allowed(said: tuple[str, ...]) -> Allowed | None:
    """The routes of a key's record; None when all are allowed."""
    if not said:
        return None
    endpoints: set[Endpoint] = set()
    paths: set[str] = set()
    beginnings: list[str] = []
    for entry in said:
        if entry in GROUPS:
            endpoints |= GROUPS[entry]
        elif entry.endswith("*") and entry[0] in "/*":
            beginnings.append(entry[:-1])
        elif entry.startswith("/"):
            paths.add(_bare(entry))
    return Allowed(
        endpoints=frozenset(endpoints), paths=frozenset(paths), beginnings=tuple(dict.fromkeys(beginnings)), said=said
    )


def names_of(route: Route) -> tuple[str, ...]:
    """A route's path without prefix: as it was called, and as the table has it (`/responses/{id}`)."""
    if route.endpoint is Endpoint.RAW:
        return (f"/{route.provider}/{route.model}/{route.rest}",)
    if route.endpoint is Endpoint.MODEL:
        return f"/models/{route.model}", "/models/{model}"
    if route.endpoint is Endpoint.MODEL_INFO:
        return (_bare(route.path),)
    pattern = f"/{route.endpoint}"
    if route.object_id is None:
        return (pattern,)
    return pattern.replace("{id}", route.object_id), pattern


def spelled(route: Route, names: Iterable[str]) -> tuple[str, ...]:
    """All ways to write a route's path, for entries that end in `*`."""
    if route.endpoint is Endpoint.RAW:
        return tuple(names)
    found = tuple(prefix + name for name in names for prefix in PREFIXES)
    if route.model is None or route.endpoint is Endpoint.MODEL:
        return found
    return (*found, *(f"{place}{route.model}/{route.endpoint}" for place in (AZURE_STYLE, ENGINE_STYLE)))


def shown(said: tuple[str, ...]) -> str:
    """A list of allowed routes for people, cut where it is long."""
    more = len(said) - SHOWN_MAX
    return ", ".join(said[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _bare(path: str) -> str:
    """A path without its prefix, and without the model in Azure's and the oldest styles."""
    if path.startswith(AZURE_STYLE):
        return _behind_model(path, AZURE_STYLE)
    for prefix in _LONGEST_FIRST:
        if path.startswith(f"{prefix}/"):
            path = path.removeprefix(prefix)
            break
    return _behind_model(path, ENGINE_STYLE) if path.startswith(ENGINE_STYLE) else path


def _behind_model(path: str, place: str) -> str:
    _, _, rest = path.removeprefix(place).partition("/")
    return f"/{rest}" if rest else path
