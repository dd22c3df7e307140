"""The proven bound of a message to Claude: its texts by their bytes, all else by the model's context window.

Thinking is output within `max_tokens`. Thinking of earlier turns goes back in sealed form, whose bytes prove nothing.
"""

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
    one_object,
    own_tools,
    places,
    prompt_bound,
    raw,
)
from services.proxy.domain.requests.writing import Fields

MESSAGES_WORDS = (
    "model messages system max_tokens metadata stop_sequences stream temperature top_p top_k tools tool_choice thinking"
    " cache_control service_tier output_config output_format"
)
MESSAGES_FIELDS = frozenset(MESSAGES_WORDS.split())
TURN_FIELDS = frozenset(["role", "content"])
BLOCK_FIELDS = {
    b'"text"': frozenset(["type", "text", "cache_control"]),
    b'"tool_use"': frozenset(["type", "id", "name", "input", "cache_control"]),
    b'"tool_result"': frozenset(["type", "tool_use_id", "content", "is_error", "cache_control"]),
}
"""Blocks whose bytes bound their tokens, and their fields."""
OWN_TOOLS = (b"null", b'"custom"')
TOOL_FIELDS = frozenset(["type", "name", "description", "input_schema", "cache_control", "strict"])
NESTING_MAX = 3


class _Thinking(msgspec.Struct):
    budget_tokens: int | None = None


_thinking = msgspec.json.Decoder(_Thinking | None)


def messages_bound(
    asked: Asked, fields: Fields, body_bytes: int, facts: ModelFacts, prompt_guess: int, floor: int
) -> Bound:
    """The bound of a message. Raises BadRequest `unbounded_cost`. The fields are made unambiguous on the way.

    A cap of ours (a translated request may have none of its caller's) is larger than the budget for thinking.
    """
    check_fields(fields, MESSAGES_FIELDS)
    check_tier(fields, ())
    own_tools(fields, OWN_TOOLS, TOOL_FIELDS)
    thinking = decoded(_thinking, fields.get("thinking", NOTHING), "thinking", "is no thinking configuration")
    where = _conversation(fields)
    prompt = prompt_bound(where, body_bytes, facts)
    budget = 0 if thinking is None or thinking.budget_tokens is None else thinking.budget_tokens + 1
    return capped(asked, facts, prompt, prompt_guess, max(floor, budget), mixed=where is not None)


def _conversation(fields: Fields) -> str | None:
    """The first block whose tokens its bytes do not bound; everything is written anew."""
    found: list[str] = []
    if bytes(fields.get("system", NOTHING)) not in NULL:
        fields["system"] = _content(fields["system"], "system", found, NESTING_MAX)
    if "messages" in fields:
        turns = decoded(objects, fields["messages"], "messages", "is no list of messages")
        for number, turn in enumerate(turns):
            place = f"messages[{number}]"
            found += places(turn, TURN_FIELDS, place)
            if "content" in turn:
                turn["content"] = _content(turn["content"], f"{place}.content", found, NESTING_MAX)
        fields["messages"] = raw(turns)
    if bytes(fields.get("thinking", NOTHING)) not in NULL:
        fields["thinking"] = raw(decoded(one_object, fields["thinking"], "thinking", "is no object"))
    return found[0] if found else None


def _content(given: msgspec.Raw, place: str, found: list[str], depth: int) -> msgspec.Raw:
    """A text as it is, or blocks written anew; what bytes do not bound is put into `found`."""
    sign = bytes(memoryview(given)[:1])
    if sign == b'"':
        return given
    if sign != b"[" or not depth:
        found.append(place)
        return given
    blocks = decoded(objects, given, place, "is no list of blocks")
    for index, block in enumerate(blocks):
        here = f"{place}[{index}]"
        known = BLOCK_FIELDS.get(bytes(block.get("type", NOTHING)))
        if known is None:
            found.append(here)
            continue
        found += places(block, known, here)
        if "content" in block:
            block["content"] = _content(block["content"], f"{here}.content", found, depth - 1)
    return raw(blocks)
