"""A row of the API: what a path does, who may, what it takes and what it answers.

Everything else follows from the rows: the routes, who is let in, the fields that are refused by name, what is done once
only, the OpenAPI document and the table of roles.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from services.auth.domain.fields.base import Fields
from services.auth.draws import Draws
from shared.access import Principal, Right

Method = Literal["GET", "POST", "PATCH", "DELETE"]
Who = Literal["people", "keys", "anybody"]

JSON = "application/json"


def one(_body: object) -> int:
    """Most requests change one thing."""
    return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A JSON object: its fields by name, and the struct that it is read into.

    `reader` reads a body that is not (always) an object into such a struct, and refuses it by ApiError 400; `schema` is
    then what the documentation says of it.
    """

    fields: Fields
    kind: type[msgspec.Struct]
    optional: bool = False
    reader: Callable[[bytes], msgspec.Struct] | None = None
    schema: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Parameters of a query: `known` ones with what they mean, and `harmless` ones with the values that ask for nothing
    else than what is done anyway."""

    known: Mapping[str, str] = field(default_factory=dict[str, str])
    harmless: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, let in and read. `body` is an instance of the row's `Body.kind` (None for a row without);
    `secret` is the credential that was sent, for the rows that look at it."""

    caller: Principal
    draws: Draws
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    path: Mapping[str, str] = field(default_factory=dict[str, str])
    secret: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row. `path` is Litestar's, such as `/key/{key:str}/regenerate`.

    `who` may call: `people` are the master key, services and keys with a role that has `right` (with the reach `all`
    where `everywhere`); `keys` are those and every virtual key in force; `anybody` sends no credential at all. Within
    which organizations and teams people may act is for `run` to check: it knows what the request is about.
    `once`: an `Idempotency-Key` is honoured. `without_store`: it works while Postgres is away, and the key is then not
    insisted on. `media`: the type of what `run` answers; other than JSON, it answers bytes.
    """

    method: Method
    path: str
    summary: str
    run: Callable[[Ask], Awaitable[Any]]
    answer: Any
    right: Right | None = None
    who: Who = "people"
    everywhere: bool = False
    body: Body | None = None
    query: Query = Query()
    once: bool = False
    without_store: bool = False
    media: str = JSON
    changes: Callable[[Any], int] = one
    """How many changes a body asks for."""
    example: Mapping[str, object] | None = None
    """A body that works, for the documentation."""
