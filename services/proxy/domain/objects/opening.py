"""Opening the ids inside a request body, and refusing what is stored in Foundry and not isolated here.

Bytes that hold no id stay as they are; ids are exchanged in their places. A key that matters and stands twice, or is
spelled in a way that another reader may take for it, is refused: nobody must read another id than was opened.
"""

import re
from collections.abc import Iterator

import msgspec

from services.proxy.domain.admission import Refused
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.objects.positions import (
    DEPTH_MAX,
    FOREIGN_WORDS,
    KEYS,
    Found,
    Object,
    TooDeep,
    as_list,
    as_object,
    in_item,
    references,
)
from services.proxy.domain.objects.seal import Kind, Opened, Seal
from services.proxy.domain.paths import Endpoint

WATCHED = (
    "previous_response_id", "conversation", "prompt", "id", "file_id", "file_ids", "container", "container_id",
    "vector_store_id", "vector_store_ids", "session_id", "input_file_id", "approval_request_id", "input", "tools",
)  # fmt: skip
"""Keys behind which a stored object may be named."""
_LOWER = {name.lower() for name in WATCHED}
_LOOK = re.compile(
    rb'"(?:previous_response_id|conversation|prompt|id|file_ids?|container(?:_id)?|vector_store_ids?|session_id|'
    rb'input_file_id|approval_request_id)"\s*:|"file_search"|"item_reference"|\\u00',
    re.IGNORECASE,
)
_COUNTED = {name: re.compile(rb'"%s"\s*:' % name.encode()) for name in WATCHED}
"""Keys whose number in the bytes must be their number in what was read."""
_READS = (Endpoint.RESPONSES, Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.BATCHES)
_MAY_READ = (Endpoint.IMAGES, Endpoint.IMAGE_EDITS, Endpoint.RAW)
"""Operations whose bodies may be no JSON."""


class Unsealed(msgspec.Struct, frozen=True, kw_only=True):
    """A body with the ids that Foundry knows. `deployment` is the one that must serve (its id), `resources` are
    deployments on whose resource it must be served."""

    body: bytes
    deployment: str | None = None
    resources: tuple[str, ...] = ()


def open_request(endpoint: Endpoint, body: bytes, seal: Seal, owner: str) -> Unsealed:
    """The body for Foundry. Raises Refused: 404 for an id that is not this owner's, 400 for stored things that are not
    isolated; BadRequest for what cannot be read with certainty."""
    reads = endpoint in _READS or (endpoint in _MAY_READ and body.lstrip()[:1] in (b"{", b"["))
    if not reads or _LOOK.search(body) is None:
        return Unsealed(body=body)
    try:
        document = as_object(msgspec.json.decode(body))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from error
    if document is None:
        raise BadRequest("The request body is not a JSON object.", code="invalid_json")
    try:
        found = list(_named(endpoint, document))
        _count(body, document)
    except TooDeep as error:
        raise BadRequest(f"The request body is {error}.") from error
    opened = [(one, seal.must_open(one.kind, owner, one.text)) for one in found]
    for one, real in opened:
        body = _exchanged(body, one, real)
    return _pinned(body, [real for _, real in opened])


def _pinned(body: bytes, opened: list[Opened]) -> Unsealed:
    exact = {one.deployment for one in opened if one.kind in ("response", "item", "container")}
    if len(exact) > 1:
        raise BadRequest(
            "The responses and items named in the request were made by different deployments, and none of them knows"
            " all of these. Leave out the ids of the others.",
            code="objects_elsewhere",
        )
    resources = tuple(sorted({one.deployment for one in opened if one.kind in ("file", "batch")}))
    return Unsealed(body=body, deployment=next(iter(exact), None), resources=resources)


def _named(endpoint: Endpoint, document: Object) -> Iterator[Found]:
    """The ids a body names. Raises Refused for what may not be named."""
    if endpoint is Endpoint.BATCHES:
        _plainly(document)
        yield from _text(document, "input_file_id", "file")
    elif endpoint is Endpoint.RESPONSES:
        _plainly(document)
        yield from _in_responses(document)
    elif endpoint is Endpoint.CHAT:
        yield from references(document.get("messages"))
    elif endpoint in (Endpoint.IMAGES, Endpoint.IMAGE_EDITS):
        yield from references(document)
    else:
        if document.get("container") is not None:
            raise not_isolated("container", "containers")
        yield from references(document.get("messages"))
        if endpoint is Endpoint.RAW:  # whichever operation it is
            _plainly(document)
            yield from _in_responses(document)
            yield from _text(document, "input_file_id", "file")


def _in_responses(document: Object) -> Iterator[Found]:
    for key, what in (("conversation", "conversations"), ("prompt", "stored prompts")):
        if document.get(key) is not None:
            raise not_isolated(key, what)
    yield from _text(document, "previous_response_id", "response")
    for item in as_list(document.get("input")):
        _plainly(as_object(item) or {})
        yield from in_item(item)
    for tool in as_list(document.get("tools")):
        _check_tool(as_object(tool) or {})
        yield from references(tool)


def _text(document: Object, key: str, kind: Kind) -> Iterator[Found]:
    value = document.get(key)
    if isinstance(value, str):
        yield Found(kind, key, value)
    elif value is not None:
        raise BadRequest(f"'{key}' must be a string.", param=key)


def _check_tool(tool: Object) -> None:
    """Refuse tools that reach what is stored and not isolated."""
    _plainly(tool)
    if tool.get("type") == "file_search":
        raise not_isolated("tools", "vector stores (the tool 'file_search')")
    if isinstance(tool.get("container"), str):
        raise not_isolated("tools.container", "containers by id; {'type': 'auto'} is served, and")
    for key in _keys(tool, 0):
        if key in ("vector_store_id", "vector_store_ids"):
            raise not_isolated(f"tools.{key}", "vector stores")
        if key in ("container_id", "session_id"):
            raise not_isolated(f"tools.{key}", "containers and sessions")


def not_isolated(field: str, what: str) -> Refused:
    """The answer to naming something in Foundry that every team would share."""
    return Refused(
        400,
        "not_isolated",
        f"'{field}' is not served: {what} are stored in Foundry for all teams together, and this gateway does not keep"
        " them apart.",
        param=field,
        headers=((b"x-should-retry", b"false"),),
    )


def _plainly(value: Object) -> None:
    """Refuse keys that a reader who ignores letter case would take for one that matters."""
    for key, inner in value.items():
        if key not in WATCHED and key.lower() in _LOWER and isinstance(inner, (str, list, dict)):
            raise BadRequest(f"The field '{key[:60]}' is not written as '{key.lower()}'.", param=key.lower())


def _keys(value: object, depth: int) -> Iterator[str]:
    """All keys at any depth, but for those of the caller's own schemas."""
    if depth > DEPTH_MAX:
        raise TooDeep(f"nested deeper than {DEPTH_MAX} levels")
    for one in as_list(value):
        yield from _keys(one, depth + 1)
    for key, inner in (as_object(value) or {}).items():
        yield key
        if key not in FOREIGN_WORDS:
            yield from _keys(inner, depth + 1)


def _count(body: bytes, document: Object) -> None:
    """Refuse a body in which a key that matters stands twice in one object, or in disguise."""
    read = dict.fromkeys(_COUNTED, 0)
    _tally(document, read, 0)
    for name, pattern in _COUNTED.items():
        if len(pattern.findall(body)) != read[name]:
            raise BadRequest(f"'{name}' stands twice in one object, or is written with escapes. Write it once.")


def _tally(value: object, read: dict[str, int], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise TooDeep(f"nested deeper than {DEPTH_MAX} levels")
    for one in as_list(value):
        _tally(one, read, depth + 1)
    for key, inner in (as_object(value) or {}).items():
        if key in read:
            read[key] += 1
        elif key.lower() in KEYS and isinstance(inner, (str, list)):
            raise BadRequest(f"The field '{key}' is not written as '{key.lower()}'.", param=key.lower())
        _tally(inner, read, depth + 1)


def _exchanged(body: bytes, found: Found, real: Opened) -> bytes:
    """The body with an id in the place of its seal: behind its key, or inside that key's list."""
    text, upstream = b'"%s"' % found.text.encode(), b'"%s"' % real.upstream.encode()
    behind = re.compile(rb'("%s"\s*:\s*)%s' % (re.escape(found.key.encode()), re.escape(text)))
    out, count = behind.subn(lambda match: match[1] + upstream, body)
    if not count and found.key.endswith("s"):
        inside = re.compile(rb'("%s"\s*:\s*\[[^\]]*?)%s' % (re.escape(found.key.encode()), re.escape(text)))
        while (match := inside.search(out)) is not None:
            out, count = out[: match.start()] + match[1] + upstream + out[match.end() :], count + 1
    if not count and text in body:  # the same id once more: it was exchanged with the first
        return body
    if not count and upstream not in body:
        raise BadRequest(f"An id in '{found.key}' is written with escapes. Write it as it was given.", param=found.key)
    return out
