"""Where ids of stored objects stand in the JSON of requests and replies.

Only these places are looked at: what callers make up themselves (metadata, schemas, arguments) is theirs. A key with a
string behind it, found in raw bytes as `"key":`, is never part of a text, because quotes inside texts are escaped.
"""

from collections.abc import Iterator
from typing import cast

import msgspec

from services.proxy.domain.objects.seal import Kind

DEPTH_MAX = 64
"""Deeper JSON than anybody's, Foundry's included."""

KEYS: dict[str, Kind] = {
    "file_id": "file",
    "file_ids": "file",
    "container_id": "container",
    "approval_request_id": "item",
}
"""Keys whose value is an id wherever they stand inside items, parts and tools."""
FOREIGN_WORDS = frozenset({"parameters", "input_schema", "schema", "metadata", "arguments", "variables"})
"""Keys of objects whose content is the caller's own."""

Object = dict[str, object]


class TooDeep(ValueError):
    """JSON nested deeper than DEPTH_MAX."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """An id in its place: `key` is the field it stands in, or the list's."""

    kind: Kind
    key: str
    text: str


def as_object(value: object) -> Object | None:
    """A JSON object, or None."""
    return cast(Object, value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object]:
    """The elements of a JSON list; none of anything else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def references(value: object, depth: int = 0) -> Iterator[Found]:
    """The ids named inside an item, a part or a tool, at any depth. Raises TooDeep."""
    if depth > DEPTH_MAX:
        raise TooDeep(f"nested deeper than {DEPTH_MAX} levels")
    for one in as_list(value):
        yield from references(one, depth + 1)
    for key, inner in (as_object(value) or {}).items():
        kind = KEYS.get(key)
        if kind is not None and isinstance(inner, str):
            yield Found(kind, key, inner)
        elif kind is not None:
            yield from (Found(kind, key, one) for one in as_list(inner) if isinstance(one, str))
        elif key not in FOREIGN_WORDS:
            yield from references(inner, depth + 1)


def in_item(value: object) -> Iterator[Found]:
    """The ids of an item of a response: its own, and those it names."""
    item = as_object(value)
    if item is None:
        return
    if isinstance(own := item.get("id"), str):
        yield Found("item", "id", own)
    yield from references(item)


def in_response(value: object) -> Iterator[Found]:
    """The ids of a response object, or of a list of items."""
    response = as_object(value)
    if response is None:
        return
    listed = response.get("object") == "list"
    if not listed and isinstance(own := response.get("id"), str):
        yield Found("response", "id", own)
    if isinstance(before := response.get("previous_response_id"), str):
        yield Found("response", "previous_response_id", before)
    for key in ("first_id", "last_id"):
        if isinstance(edge := response.get(key), str):
            yield Found("item", key, edge)
    for key in ("output", "input", "instructions", "data"):
        for item in as_list(response.get(key)):
            yield from in_item(item)
    yield from references(response.get("tools"))


def in_chat_request(value: object) -> Iterator[Found]:
    """The ids in messages of chat: of files, and of sound that the model said before."""
    for message in as_list(value):
        said = as_object((as_object(message) or {}).get("audio"))
        if said is not None and isinstance(own := said.get("id"), str):
            yield Found("audio", "id", own)
    yield from references(value)


def in_chat_reply(value: object) -> Iterator[Found]:
    """The ids of the sound in a chat's reply, or in one event of its stream."""
    for choice in as_list((as_object(value) or {}).get("choices")):
        for key in ("message", "delta"):
            said = as_object((as_object((as_object(choice) or {}).get(key)) or {}).get("audio"))
            if said is not None and isinstance(own := said.get("id"), str):
                yield Found("audio", "id", own)


def in_event(value: object) -> Iterator[Found]:
    """The ids of one event of a stream of a response."""
    event = as_object(value)
    if event is None:
        return
    if isinstance(item := event.get("item_id"), str):
        yield Found("item", "item_id", item)
    if isinstance(response := event.get("response_id"), str):
        yield Found("response", "response_id", response)
    yield from in_response(event.get("response"))
    yield from in_item(event.get("item"))
    for key in ("annotation", "part"):
        yield from references(event.get(key))
