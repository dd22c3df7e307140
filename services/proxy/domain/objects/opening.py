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
    in_chat_request,
    in_item,
    references,
)
from services.proxy.domain.objects.seal import Kind, Opened, Seal
from services.proxy.domain.paths import Endpoint

WATCHED: tuple[str, ...] = (
    "previous_response_id", "conversation", "prompt", "id", "file_id", "file_ids", "container", "container_id",
    "vector_store_id", "vector_store_ids", "session_id", "input_file_id", "approval_request_id", "input", "tools",
)  # fmt: skip
"""Keys behind which a stored object may be named."""
_LOWER = {name.lower() for name in WATCHED}
_LOOK = re.compile(
    rb'"(?:previous_response_id|conversation|prompt|id|file_ids?|container(?:_id)?|vector_store_ids?|session_id|'
    rb'input_file_id|approval_request_id|data_?sources)"\s*:|"file_search"|"item_reference"|\\u00',
    re.IGNORECASE,
)
_STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(\s*+:)?', re.DOTALL)
"""The strings of a JSON text, one after the other; those before a colon are keys."""
_ESCAPED = re.compile(rb"\\u00[4-7]")
"""A letter that is written with an escape, as no program does."""
_READS = (Endpoint.RESPONSES, Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.COUNT_TOKENS, Endpoint.BATCHES)
_MAY_READ = (Endpoint.IMAGES, Endpoint.IMAGE_EDITS, Endpoint.OCR)
"""Operations whose bodies may be no JSON."""


class Unsealed(msgspec.Struct, frozen=True, kw_only=True):
    """A body with the ids that Foundry knows. `deployment` is the one that must serve (its id), `resources` are
    deployments on whose resource it must be served."""

    body: bytes
    deployment: str | None = None
    resources: tuple[str, ...] = ()


def may_name(body: bytes) -> bool:
    """Whether a chat whose messages are plain texts may still name what is stored: sound that was said before, or
    something that is written so that another reader finds what we do not."""
    small = body.lower()
    if b'"audio"' in small or b"file_id" in small or b"sources" in small or small.count(b'"messages"') > 1:
        return True
    return b"\\u00" in small and _ESCAPED.search(small) is not None


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
    exact = {one.deployment for one in opened if one.kind in ("response", "item", "container", "audio")}
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
        for key in document:
            if key.lower() in ("data_sources", "datasources"):
                raise not_isolated(key, "search indexes, which are reached by the gateway's own identity,")
        for message in as_list(document.get("messages")):
            _plainly_spoken(as_object(message) or {})
        yield from in_chat_request(document.get("messages"))
    elif endpoint in _MAY_READ:
        yield from references(document)
    else:
        _plainly(document)
        if document.get("container") is not None:
            raise not_isolated("container", "containers")
        yield from references(document.get("messages"))
        yield from references(document.get("system"))


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


def _plainly_spoken(message: Object) -> None:
    """The same for the sound that a message of chat names."""
    for key, inner in message.items():
        if key != "audio" and key.lower() == "audio" and isinstance(inner, dict):
            raise BadRequest("The field 'audio' is not written in small letters.", param="audio")
    _plainly(as_object(message.get("audio")) or {})


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
    read = dict.fromkeys(WATCHED, 0)
    _tally(document, read, 0)
    seen = dict.fromkeys(WATCHED, 0)
    for found in _STRING.finditer(body):
        if found[2] is None:
            continue
        key, plain = found[1], b"\\" not in found[1]
        name = key.decode() if plain else msgspec.json.decode(b'"%s"' % key, type=str)
        if not plain and name.lower() in _LOWER:
            raise _twice(name.lower())
        if name in seen:
            seen[name] += 1
    for name, count in seen.items():
        if count != read[name]:
            raise _twice(name)


def _twice(name: str) -> BadRequest:
    return BadRequest(f"'{name}' stands twice in one object, or is written with escapes. Write it once.")


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
