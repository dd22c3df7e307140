"""The OpenAPI document as one page for people: no script, nothing from elsewhere, every text escaped."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any, cast

import msgspec

Json = dict[str, Any]

FIELDS_DEPTH = 4
DEPTH_MAX = 6
"""How deep bodies and answers are described; what lies deeper is named only."""
CONTINUED = " \\\n  "
"""Between the words of a command that goes on in the next line."""
_CODE = re.compile(r"`([^`]+)`")
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0550ae, #79b8ff); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem 1.5rem 6rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); } h3 { margin-top: 2rem; }
a { color: var(--link); } code, pre { font: 0.875em/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: 0.75rem; overflow-x: auto; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; }
td { border-top: 1px solid var(--line); }
nav ul { columns: 18rem; list-style: none; padding: 0; } nav li { break-inside: avoid; }
.method { font-weight: 600; } summary { cursor: pointer; }
"""


def page_of(document: Json) -> bytes:
    """The page, in UTF-8."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1><p>{_prose(info['description'])}</p>",
            '<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
            *_contents(document),
            *(line for tag in document["tags"] for line in _section(document, tag["name"])),
            "</body></html>",
        ]
    ).encode()


def _rows(document: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    """(path, method, operation) of one tag, in the order of the document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield path, method.upper(), operation


def _contents(document: Json) -> Iterator[str]:
    yield "<nav><h2>Contents</h2>"
    for tag in document["tags"]:
        yield f'<h3><a href="#{escape(tag["name"])}">{escape(tag["name"])}</a></h3><ul>'
        for path, method, operation in _rows(document, tag["name"]):
            anchor = escape(operation["operationId"])
            yield f'<li><a href="#{anchor}"><code>{method} {escape(path)}</code></a></li>'
        yield "</ul>"
    yield "</nav>"


def _section(document: Json, tag: str) -> Iterator[str]:
    yield f'<h2 id="{escape(tag)}">{escape(tag)}</h2>'
    for path, method, operation in _rows(document, tag):
        anchor = escape(operation["operationId"])
        yield f'<section><h3 id="{anchor}"><a href="#{anchor}"><code>'
        yield f'<span class="method">{method}</span> {escape(path)}</code></a></h3>'
        yield f"<p>{_prose(operation['summary'])}. {_prose(operation['description'])}</p>"
        yield from _parameters(operation["parameters"])
        yield from _request(path, method, operation)
        yield from _answer(document, operation)
        yield "</section>"


def _parameters(parameters: list[Json]) -> Iterator[str]:
    if not parameters:
        return
    yield "<table><tr><th>parameter</th><th>in</th><th>what it is</th></tr>"
    for parameter in parameters:
        needed = ", needed" if parameter["required"] else ""
        yield f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}{needed}</td>"
        yield f"<td>{_prose(parameter['description'])}</td></tr>"
    yield "</table>"


def _request(path: str, method: str, operation: Json) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        yield from _fields("field", content["schema"], {}, FIELDS_DEPTH)
    example = None if content is None else content.get("example")
    words = [f'curl "$TUNDISH_URL{path}"'] if method == "GET" else [f'curl -X {method} "$TUNDISH_URL{path}"']
    if operation["security"]:
        words.append('-H "Authorization: Bearer $TUNDISH_ADMIN_KEY"')
    if content is not None:
        words.append('-H "Content-Type: application/json"')
    if example is not None:
        words.append("-d " + _quoted(msgspec.json.encode(example).decode()))
    yield f"<pre>{escape(CONTINUED.join(words))}</pre>"


def _quoted(text: str) -> str:
    """A text as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _answer(document: Json, operation: Json) -> Iterator[str]:
    done = operation["responses"]["200"]
    for media, content in done["content"].items():
        yield f"<details><summary>The answer (<code>{escape(media)}</code>)</summary>"
        yield from _fields("field", content["schema"], document["components"]["schemas"], DEPTH_MAX)
        yield "</details>"
    refusals = ", ".join(status for status in operation["responses"] if status != "200")
    yield f"<p>Refusals, in the shape of OpenAI's errors: {refusals}.</p>"


def _fields(word: str, schema: Json, components: dict[str, Json], depth: int) -> Iterator[str]:
    """A table of the fields of an object, or of the entries of a list of objects."""
    rows = list(_lines("", schema, components, depth, ()))
    if not rows:
        yield f"<p>{escape(_type(schema))}</p>"
        return
    yield f"<table><tr><th>{word}</th><th>type</th><th>meaning</th></tr>"
    for name, kind, meaning in rows:
        yield f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{_prose(meaning)}</td></tr>"
    yield "</table>"


def _lines(
    prefix: str, schema: Json, components: dict[str, Json], depth: int, above: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    """(name, type, meaning) of every field, those inside of lists and objects too."""
    if depth <= 0:
        return
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        if name not in above and name in components:
            yield from _lines(prefix, components[name], components, depth, (*above, name))
        return
    for other in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        yield from _lines(prefix, other, components, depth, above)
    if "items" in schema and isinstance(schema["items"], dict):
        items = cast("Json", schema["items"])
        yield from _lines(f"{prefix.removesuffix(chr(46))}[].", items, components, depth - 1, above)
    for field, inner in schema.get("properties", {}).items():
        needed = "Needed. " if field in schema.get("required", []) and not components else ""
        yield f"{prefix}{field}", _type(inner), needed + inner.get("description", "")
        yield from _lines(f"{prefix}{field}.", inner, components, depth - 1, above)


def _type(schema: Json) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    choice = schema.get("anyOf", schema.get("oneOf"))
    if choice is not None:
        return " or ".join(dict.fromkeys(_type(other) for other in choice))
    if "enum" in schema:
        return " or ".join(msgspec.json.encode(value).decode() for value in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(cast("list[str]", kind))
    if kind == "array":
        return f"list of {_type(schema.get('items') or {})}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _prose(text: str) -> str:
    """A text with `code` in it, escaped."""
    return _CODE.sub(r"<code>\1</code>", escape(text))
