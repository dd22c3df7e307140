"""A JSON value that fits a simple JSON schema: the arguments of tool calls, and structured answers."""

from typing import Any, TypeAlias, cast

import msgspec

MAX_DEPTH = 12
MAX_ITEMS = 8

Schema: TypeAlias = dict[str, Any]


def example(raw: msgspec.Raw) -> object:
    """A value that fits the schema of these bytes; an empty object where there is none, or none that is read."""
    if not raw:
        return {}
    try:
        schema = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return _value(schema, schema, 0)


def _value(schema: Schema, root: Schema, depth: int) -> object:
    if depth > MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _value(_referred(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _value(schema[name][0], root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kinds = cast("list[str]", kind) if isinstance(kind, list) else [str(kind)]
    return _of_type(kinds[0], schema, root, depth)


def _of_type(kind: str, schema: Schema, root: Schema, depth: int) -> object:
    match kind:
        case "object":
            properties = cast("dict[str, Schema]", schema.get("properties", {}))
            return {name: _value(inner, root, depth + 1) for name, inner in properties.items()}
        case "array":
            count = min(MAX_ITEMS, max(1, int(schema.get("minItems", 1))))
            return [_value(schema.get("items", {}), root, depth + 1) for _ in range(count)]
        case "integer":
            return int(schema.get("minimum", 1))
        case "number":
            return float(schema.get("minimum", 1.5))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "launder".ljust(int(schema.get("minLength", 0)), "-")


def _referred(reference: str, root: Schema) -> Schema:
    found: object = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            found = cast("dict[str, object]", found).get(step, {}) if isinstance(found, dict) else {}
    return cast("Schema", found) if isinstance(found, dict) else {}
