"""The front door's table: which request path means what. Nothing here is ever joined into an upstream URL.

A path is judged on its raw bytes. Dot segments, empty segments, encoded slashes and control characters are
refused in any spelling, so that no two components can read one path differently.
"""

from enum import StrEnum

import msgspec

PATH_BYTES_MAX = 2_048
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~:@!$&'()*+,;=")


class BadPath(ValueError):
    """A path that could be read in two ways; the text says what is wrong with it."""


class Endpoint(StrEnum):
    """What a path asks for."""

    CHAT = "chat/completions"
    EMBEDDINGS = "embeddings"
    MODELS = "models"
    MODEL = "model"
    ALIVE = "alive"
    READY = "ready"
    ADMIN = "admin"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table. `model` is the public model name when the path carries it (Azure's style);
    `service` and `methods` are for admin paths."""

    endpoint: Endpoint
    methods: tuple[str, ...] = ("POST",)
    model: str | None = None
    service: str | None = None
    path: str = ""


def _inference() -> dict[bytes, Route]:
    table: dict[bytes, Route] = {}
    for prefix in ("/v1", "", "/openai/v1"):
        table[f"{prefix}/chat/completions".encode()] = Route(endpoint=Endpoint.CHAT)
        table[f"{prefix}/embeddings".encode()] = Route(endpoint=Endpoint.EMBEDDINGS)
        table[f"{prefix}/models".encode()] = Route(endpoint=Endpoint.MODELS, methods=("GET",))
    table[b"/openai/models"] = Route(endpoint=Endpoint.MODELS, methods=("GET",))
    for path in ("/health/liveliness", "/health/liveness"):
        table[path.encode()] = Route(endpoint=Endpoint.ALIVE, methods=("GET", "HEAD"))
    table[b"/health/readiness"] = Route(endpoint=Endpoint.READY, methods=("GET", "HEAD"))
    return table


def _admin() -> dict[bytes, Route]:
    rows = {
        "auth": {
            "POST": (
                "/key/generate /key/update /key/block /key/unblock /key/delete /team/new /team/update"
                " /organization/new /organization/update /budget/new /budget/update /budget/info /budget/delete"
            ),
            "PATCH": "/organization/update",
            "GET": (
                "/key/info /key/list /team/info /team/list /organization/info /organization/list /budget/list"
                " /budget/settings"
            ),
        },
        "ledger": {
            "GET": "/spend/keys /spend/teams /spend/logs /spend/corrections /ledger/status",
            "POST": "/ledger/rebuild",
        },
        "scheduler": {"GET": "/scheduler/status"},
    }
    table: dict[bytes, Route] = {}
    for service, methods in rows.items():
        for method, paths in methods.items():
            for path in paths.split():
                known = table.get(path.encode())
                served = (method,) if known is None else (*known.methods, method)
                table[path.encode()] = Route(endpoint=Endpoint.ADMIN, methods=served, service=service, path=path)
    return table


INFERENCE_TABLE = _inference()
ADMIN_TABLE = _admin()
_TABLE = {**INFERENCE_TABLE, **ADMIN_TABLE}

_DEPLOYMENT_OPS: dict[tuple[str, ...], Endpoint] = {
    ("chat", "completions"): Endpoint.CHAT,
    ("embeddings",): Endpoint.EMBEDDINGS,
}
_MODEL_PREFIXES: set[tuple[str, ...]] = {
    ("v1", "models"),
    ("models",),
    ("openai", "v1", "models"),
    ("openai", "models"),
}
_REBUILD = ("ledger", "rebuild")
_SCOPES = ("key", "team", "organization")


def route_of(raw_path: bytes) -> Route | None:
    """The row for a raw path (no query), or None if there is none. Raises BadPath."""
    route = _TABLE.get(raw_path)
    if route is not None:
        return route
    segments = split_path(raw_path)
    if len(segments) >= 4 and segments[:2] == ("openai", "deployments"):
        endpoint = _DEPLOYMENT_OPS.get(segments[3:])
        return None if endpoint is None else Route(endpoint=endpoint, model=segments[2])
    if len(segments) >= 2 and segments[:-1] in _MODEL_PREFIXES:
        return Route(endpoint=Endpoint.MODEL, methods=("GET",), model=segments[-1])
    if len(segments) == 3 and segments[:2] == _REBUILD and _opaque(segments[2]):
        path = f"/ledger/rebuild/{segments[2]}"
        return Route(endpoint=Endpoint.ADMIN, methods=("GET",), service="ledger", path=path)
    if len(segments) == 3 and segments[0] in _SCOPES and segments[2] == "reset_spend" and _opaque(segments[1]):
        path = f"/{segments[0]}/{segments[1]}/reset_spend"
        return Route(endpoint=Endpoint.ADMIN, service="auth", path=path)
    return None


def split_path(raw_path: bytes) -> tuple[str, ...]:
    """The decoded segments of an absolute path. Raises BadPath for anything ambiguous."""
    if not raw_path.startswith(b"/"):
        raise BadPath("the path does not begin with '/'")
    if len(raw_path) > PATH_BYTES_MAX:
        raise BadPath(f"the path is longer than {PATH_BYTES_MAX} bytes")
    if raw_path == b"/":
        return ()
    return tuple(_segment(part) for part in raw_path[1:].split(b"/"))


def _segment(part: bytes) -> str:
    decoded = _percent_decoded(part)
    if not decoded:
        raise BadPath("the path has an empty segment ('//' or a '/' at its end)")
    if decoded in (b".", b".."):
        raise BadPath("the path has a '.' or '..' segment")
    if b"/" in decoded or b"\\" in decoded:
        raise BadPath("the path has a slash or backslash inside a segment")
    try:
        text = decoded.decode()
    except UnicodeDecodeError as error:
        raise BadPath("the path is not UTF-8") from error
    if any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in text):
        raise BadPath("the path has a control character")
    return text


def _percent_decoded(part: bytes) -> bytes:
    if b"%" not in part:
        return part
    out = bytearray()
    at = 0
    while at < len(part):
        if part[at] != 0x25:
            out.append(part[at])
            at += 1
            continue
        try:
            out.append(int(part[at + 1 : at + 3].decode("ascii"), 16) if len(part) >= at + 3 else -1)
        except ValueError as error:
            raise BadPath("the path has a '%' that is not followed by two hexadecimal digits") from error
        at += 3
    return bytes(out)


def _opaque(text: str) -> bool:
    return len(text) <= 100 and all(byte in _PLAIN for byte in text.encode())
