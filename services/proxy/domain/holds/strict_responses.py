"""The proven bound of a response: texts by their bytes, what is only named or sealed by the model's context window.

Tools that Foundry runs make as many turns as they like, and a response in the background has no caller to wait for it
within the hold's time: both are refused.
"""

from collections.abc import Container

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.bounds import (
    NOTHING,
    NULL,
    Bound,
    capped,
    check_fields,
    check_tier,
    decoded,
    objects,
    own_tools,
    places,
    prompt_bound,
    raw,
    unbounded,
)
from services.proxy.domain.requests.writing import Fields

LEAST_CAP = 16
"""Foundry takes no lower `max_output_tokens`."""
RESPONSE_WORDS = (
    "model input instructions max_output_tokens max_tool_calls stream stream_options temperature top_p top_logprobs"
    " tools tool_choice parallel_tool_calls text reasoning metadata user store previous_response_id truncation include"
    " prompt_cache_key prompt_cache_retention safety_identifier service_tier background"
)
RESPONSE_FIELDS = frozenset(RESPONSE_WORDS.split())
CALL_FIELDS = ["type", "id", "status", "call_id", "name"]
ITEM_FIELDS = {
    b"null": frozenset(["type", "role", "content", "id", "status"]),
    b'"message"': frozenset(["type", "role", "content", "id", "status", "phase"]),
    b'"function_call"': frozenset([*CALL_FIELDS, "arguments"]),
    b'"function_call_output"': frozenset([*CALL_FIELDS, "output"]),
    b'"custom_tool_call"': frozenset([*CALL_FIELDS, "input"]),
    b'"custom_tool_call_output"': frozenset([*CALL_FIELDS, "output"]),
}
"""Items whose bytes bound their tokens, and their fields."""
PART_FIELDS = frozenset(["type", "text", "refusal", "annotations", "logprobs"])
OWN_TOOLS = (b'"function"', b'"custom"')
TOOL_FIELDS = frozenset(["type", "name", "description", "parameters", "strict", "format"])
OFF = (*NULL, b"false")


def responses_bound(
    asked: Asked,
    fields: Fields,
    body_bytes: int,
    facts: ModelFacts,
    prompt_guess: int,
    floor: int,
    tiers: Container[str],
) -> Bound:
    """The bound of a response. Raises BadRequest `unbounded_cost`. The fields are made unambiguous on the way."""
    check_fields(fields, RESPONSE_FIELDS)
    check_tier(fields, tiers)
    if bytes(fields.get("background", NOTHING)) not in OFF:
        raise unbounded("background", "a response in the background is not bounded; leave it out")
    own_tools(fields, OWN_TOOLS, TOOL_FIELDS)
    where = _input(fields)
    if bytes(fields.get("previous_response_id", NOTHING)) not in NULL:
        where = "previous_response_id"
    prompt = prompt_bound(where, body_bytes, facts)
    return capped(asked, facts, prompt, prompt_guess, max(floor, LEAST_CAP), mixed=where is not None)


def _input(fields: Fields) -> str | None:
    """The first item or part whose tokens its bytes do not bound; everything is written anew."""
    given = fields.get("input", NOTHING)
    if bytes(memoryview(given)[:1]) != b"[":
        return None if bytes(memoryview(given)[:1]) in (b'"', b"n") else "input"
    items = decoded(objects, given, "input", "is no list of items")
    found: list[str] = []
    for number, item in enumerate(items):
        place = f"input[{number}]"
        known = ITEM_FIELDS.get(bytes(item.get("type", NOTHING)))
        if known is None:
            found.append(place)
            continue
        found += places(item, known, place)
        for name in ("content", "output"):
            if name in item:
                item[name] = _parts(item[name], f"{place}.{name}", found)
    fields["input"] = raw(items)
    return found[0] if found else None


def _parts(given: msgspec.Raw, place: str, found: list[str]) -> msgspec.Raw:
    sign = bytes(memoryview(given)[:1])
    if sign in (b'"', b"n"):
        return given
    if sign != b"[":
        found.append(place)
        return given
    parts = decoded(objects, given, place, "is no list of parts")
    for index, part in enumerate(parts):
        found += places(part, PART_FIELDS, f"{place}[{index}]")
    return raw(parts)
