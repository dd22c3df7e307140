"""The OpenAPI document of the API, from its rows."""

import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, cast, get_args, get_origin

import msgspec

from services.auth.api.operations import Body, Operation
from services.auth.api.words import MEANINGS
from services.auth.once import REPLAYED
from services.version import VERSION
from shared.access import RANKS, REACHES, RIGHTS

Json = dict[str, Any]

_PARAMETER = re.compile(r"\{([a-z_]+):str\}")
_COMPONENT = "#/components/schemas/{name}"
_ERROR = "Error"
ABOUT = (
    "Keys, teams, organizations, users, budgets, rotation and audit, with the names and shapes of LiteLLM."
    " A field or parameter that would have no effect is refused by name (400), unless it asks for nothing."
    " What does not exist and what is out of the caller's reach are the same 404."
    " The calls to models are not described here."
)
_PATHS = {
    "key": "a key id, a secret or its stored hash",
    "team_id": "a team",
    "organization_id": "an organization",
    "user_id": "a user",
}
_REFUSALS = {
    400: ("invalid_value", "Something is not understood, or would have no effect; `param` names it."),
    401: ("invalid_api_key", "There is no credential, or none that is in force."),
    403: ("not_allowed", "The caller's role does not have the right that this takes."),
    404: ("key_not_found", "It does not exist, or is out of the caller's reach."),
    409: ("key_alias_taken", "It clashes with what is there, or with a request that is being done."),
    422: ("idempotency_key_reused", "The `Idempotency-Key` was sent with another request before."),
    429: ("too_many_idempotency_keys", "Too many requests with an `Idempotency-Key` within ten minutes."),
    503: ("unavailable", "The database or the message bus does not answer; try again shortly."),
}
_SECURITY: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The master key, or a key with a role (`sk-…`).",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same, in another header."},
}


def document_of(operations: Sequence[Operation]) -> Json:
    """An OpenAPI 3.1 document as decoded JSON."""
    kinds = [_kinds(operation.answer) for operation in operations]
    schemas, components = msgspec.json.schema_components(
        [kind for some in kinds for kind in some], ref_template=_COMPONENT, schema_hook=_anything
    )
    waiting = iter(schemas)
    paths: dict[str, Json] = {}
    for operation, some in zip(operations, kinds, strict=True):
        answers = [next(waiting) for _ in some]
        path = _PARAMETER.sub(r"{\1}", operation.path)
        answer = answers[0] if len(answers) == 1 else {"anyOf": answers}
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, answer)
    used = _used(paths, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tundish administration", "version": VERSION, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(operation) for operation in operations)],
        "paths": paths,
        "components": {"schemas": used | {_ERROR: _error()}, "securitySchemes": _SECURITY},
    }


def _kinds(answer: Any) -> tuple[Any, ...]:
    """The types that an answer may have; a union of structs without tags is none that can be described by itself."""
    return get_args(answer) if get_origin(answer) is UnionType else (answer,)


def _anything(kind: type) -> Json:
    """The schema of a type that is none of JSON's: values of metadata and the like."""
    if kind is object:
        return {"description": "Anything."}
    raise NotImplementedError(kind)


def _used(paths: object, components: Mapping[str, Json]) -> dict[str, Json]:
    """The components that something refers to, and those that they refer to."""
    found: dict[str, Json] = {}
    waiting = _references(paths)
    while waiting:
        name = waiting.pop()
        if name not in found and name in components:
            found[name] = _explained(_told(components[name]))
            waiting += _references(components[name])
    return dict(sorted(found.items()))


def _body(body: Body) -> Json:
    """A body's schema, with all that it refers to written out: the fields that have an effect, and no others."""
    if body.schema is not None:
        return dict(body.schema)
    (reference,), components = msgspec.json.schema_components(
        [body.kind], ref_template=_COMPONENT, schema_hook=_anything
    )
    whole = components[_references(reference)[0]]
    fields = {name: schema for name, schema in whole["properties"].items() if name in body.fields.known}
    needed = [name for name in whole.get("required", []) if name in fields]
    return {
        "type": "object",
        "properties": _meant(_told(_inlined(fields, components))),
        **({"required": needed} if needed else {}),
        "additionalProperties": False,
    }


def _inlined(value: Any, components: Mapping[str, Json]) -> Any:
    """References replaced by what they refer to (the structs of requests do not refer to themselves)."""
    if isinstance(value, dict):
        found = cast("Json", value)
        if "$ref" in found:
            return _inlined(components[_references(found)[0]], components)
        return {name: _inlined(item, components) for name, item in found.items()}
    return [_inlined(item, components) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _references(value: Any) -> list[str]:
    """The names of the components that are referred to somewhere inside."""
    if isinstance(value, dict):
        found = cast("Json", value)
        own = found.get("$ref")
        inner = [name for item in found.values() for name in _references(item)]
        return [own.rpartition("/")[2], *inner] if isinstance(own, str) else inner
    if isinstance(value, list):
        return [name for item in cast("list[Any]", value) for name in _references(item)]
    return []


def _told(schema: Any) -> Any:
    """A schema with its descriptions on one line, and without titles, which only repeat names."""
    if isinstance(schema, dict):
        return {
            name: " ".join(item.split()) if name == "description" and isinstance(item, str) else _told(item)
            for name, item in cast("Json", schema).items()
            if not (name == "title" and isinstance(item, str))
        }
    return [_told(item) for item in cast("list[Any]", schema)] if isinstance(schema, list) else schema


def _explained(schema: Json) -> Json:
    """A component whose fields say what they mean."""
    return schema | {"properties": _meant(schema["properties"])} if "properties" in schema else schema


def _meant(fields: Mapping[str, Json]) -> Json:
    """Fields with their meanings, where those are known."""
    return {
        name: schema | {"description": MEANINGS[name]} if name in MEANINGS else schema
        for name, schema in fields.items()
    }


def _operation(operation: Operation, answer: Json) -> Json:
    written: Json = {
        "operationId": _name(operation),
        "tags": [_tag(operation)],
        "summary": operation.summary,
        "description": _access(operation),
        "parameters": _parameters(operation),
        "responses": _answers(operation, answer),
        "security": [] if operation.who == "anybody" else [{"bearer": []}, {"apiKey": []}],
    }
    if operation.right is not None and operation.who != "anybody":
        written["x-tundish-right"] = operation.right.value
    if operation.body is not None:
        content: Json = {"schema": _body(operation.body)}
        if operation.example is not None:
            content["example"] = dict(operation.example)
        written["requestBody"] = {
            "required": not operation.body.optional,
            "content": {"application/json": content},
        }
    return written


def _name(operation: Operation) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", _PARAMETER.sub(r"\1", operation.path)) if word]
    return "_".join([operation.method.lower(), *words])


def _tag(operation: Operation) -> str:
    first = operation.path.split("/")[1]
    return operation.path.split("/")[2] if re.fullmatch(r"v\d+", first) else first


def _access(operation: Operation) -> str:
    """Who may call, and what else is to be known, in Markdown."""
    if operation.who == "anybody":
        said = ["Takes no role."]
    elif operation.right is None:
        said = ["For whoever has a key in force, and for the master key."]
    else:
        listed = ", ".join(
            f"`{role}`"
            for role in reversed(RANKS)
            if operation.right in RIGHTS[role] and (not operation.everywhere or "all" in REACHES[role])
        )
        said = [f"Takes the right `{operation.right.value}`: the master key, and keys with the role {listed}."]
        if operation.everywhere:
            said.append("The role must hold everywhere.")
        if operation.who == "keys":
            said.append("A key without a role may ask about itself.")
    if operation.without_store:
        said.append("Works while the database is away.")
    return " ".join(said)


def _parameters(operation: Operation) -> list[Json]:
    found: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATHS.get(name, name),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in _PARAMETER.findall(operation.path)
    ]
    found += [
        {"name": name, "in": "query", "required": False, "description": meaning, "schema": {"type": "string"}}
        for name, meaning in operation.query.known.items()
    ]
    if operation.once:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Repeated with the same key within ten minutes, the request is done once, and its answer"
                " is given again.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
            }
        )
    return found


def _answers(operation: Operation, answer: Json) -> Json:
    schema = answer if operation.media == "application/json" else {"type": "string"}
    done: Json = {"description": "Done.", "content": {operation.media: {"schema": schema}}}
    if operation.once:
        done["headers"] = {
            REPLAYED: {
                "description": "`true`: this is the answer that was given before.",
                "schema": {"type": "string", "enum": ["true"]},
            }
        }
    refusals = [400, 401, 403, 404, *((409, 422, 429) if operation.once else ()), 503]
    return {"200": done} | {str(status): _refusal(status) for status in refusals}


def _refusal(status: int) -> Json:
    code, meaning = _REFUSALS[status]
    kind = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 503: "server_error"}.get(
        status, "invalid_request_error"
    )
    example = {"error": {"message": meaning, "type": kind, "param": None, "code": code}}
    return {
        "description": meaning,
        "content": {"application/json": {"schema": {"$ref": _COMPONENT.format(name=_ERROR)}, "example": example}},
    }


def _error() -> Json:
    text: Json = {"type": "string"}
    maybe: Json = {"type": ["string", "null"]}
    return {
        "type": "object",
        "description": "A refusal, in the shape of OpenAI's errors.",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"message": text, "type": text, "param": maybe, "code": text},
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
    }
