"""Proven upper bounds: what a call of a strict key can cost at the very most, or why nobody can say.

A token stands for at least one byte of the text it was made from, and a JSON text is never shorter than what it
means; so the bytes of a body bound the tokens of its texts. What surrounds a message in a model's template (a few
tokens) is less than what surrounds it in JSON (`{"role":"user","content":""}`), and what a template adds of its own
is allowed for. Where bytes prove nothing (an image by its URL), the model's context window does. What neither
bounds is refused, by name.
"""

from collections.abc import Iterable

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.bounds import (
    NOTHING,
    NULL,
    ROOM_TOKENS_MIN,
    UNKNOWN_OUTPUT_TOKENS,
    Bound,
    all_reasoning,
    at_least_one,
    ceiling_of,
    check_fields,
    check_tier,
    decoded,
    objects,
    own_tools,
    places,
    prompt_bound,
    raw,
    strangers,
    unbounded,
)
from services.proxy.domain.holds.strict_messages import messages_bound
from services.proxy.domain.holds.strict_responses import responses_bound
from services.proxy.domain.holds.strict_units import UNITS, units_bound
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.writing import Fields
from shared.pricing import PriceRow

__all__ = ["ROOM_TOKENS_MIN", "UNKNOWN_OUTPUT_TOKENS", "Bound", "bound", "read_conversation", "unbounded"]

SHAPE = "messages model stream stream_options max_tokens max_completion_tokens n"
SAMPLING = (
    "temperature top_p presence_penalty frequency_penalty logit_bias logprobs top_logprobs stop seed top_k min_p"
    " repetition_penalty random_seed min_tokens"
)
TEXTS = "tools tool_choice parallel_tool_calls functions function_call response_format safe_prompt prediction"
MANNERS = (
    "reasoning_effort verbosity user metadata store prompt_cache_key prompt_cache_retention safety_identifier"
    " user_security_context"
    " service_tier modalities audio"
)
CHAT_FIELDS = frozenset(f"{SHAPE} {SAMPLING} {TEXTS} {MANNERS}".split())
COMPLETION_WORDS = (
    "model prompt suffix stream stream_options max_tokens n best_of temperature top_p presence_penalty"
    " frequency_penalty logit_bias logprobs stop seed user service_tier"
)
COMPLETION_FIELDS = frozenset(COMPLETION_WORDS.split())
EMBEDDING_FIELDS = frozenset(["input", "model", "dimensions", "encoding_format", "user", "input_type"])
MESSAGE_FIELDS = frozenset(
    ["role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "reasoning_content"]
)
PART_FIELDS = frozenset(["type", "text", "refusal", "cache_control"])
TOOL_FIELDS = frozenset(["type", "function", "custom"])
OWN_TOOLS = (b'"function"', b'"custom"')
_LIST = ord("[")
_TEXT_OR_NULL = b'"n'

_parts = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | str])
_texts = msgspec.json.Decoder(list[str] | None)
_input = msgspec.json.Decoder(str | list[str | int | list[int]])


def bound(
    asked: Asked,
    fields: Fields,
    body_bytes: int,
    facts: ModelFacts,
    prompt_guess: int,
    floor: int,
    row: PriceRow | None = None,
) -> Bound:
    """The proven bound of a call. Raises BadRequest `unbounded_cost` naming what has none.

    `asked` and `fields` are those of what goes to Foundry; the fields are made unambiguous on the way. `prompt_guess`
    is the likely size of the prompt: a cap of ours leaves room for it in the model's window. `floor` are the output
    tokens below which an answer without a cap of the caller's is not worth its price.
    """
    endpoint = asked.endpoint
    if endpoint is Endpoint.EMBEDDINGS:
        return _embeddings(fields, body_bytes, facts)
    if endpoint in UNITS:
        return units_bound(asked, fields, facts, row)
    tiers = () if row is None else row.services
    if endpoint is Endpoint.MESSAGES:
        return messages_bound(asked, fields, body_bytes, facts, prompt_guess, floor)
    if endpoint is Endpoint.RESPONSES:
        return responses_bound(asked, fields, body_bytes, facts, prompt_guess, floor, tiers)
    if endpoint is Endpoint.COMPLETIONS:
        check_fields(fields, COMPLETION_FIELDS)
        check_tier(fields, tiers)
        return _completions(asked, fields, body_bytes, facts)
    check_fields(fields, CHAT_FIELDS)
    check_tier(fields, tiers)
    _check_sound(fields)
    own_tools(fields, OWN_TOOLS, TOOL_FIELDS)
    where = read_conversation(fields)
    return _chat(asked, fields, facts, prompt_bound(where, body_bytes, facts), prompt_guess, floor, where is not None)


def read_conversation(fields: Fields) -> str | None:
    """The first part of the messages whose tokens are not bounded by its bytes.

    The messages are written anew, so that a name that stood twice stands once and means the same to everybody.
    """
    if "messages" not in fields:
        return None
    messages = decoded(objects, fields["messages"], "messages", "is no list of messages")
    found: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        found += places(message, MESSAGE_FIELDS, place)
        content = memoryview(message.get("content", NOTHING))
        if content[0] == _LIST:
            parts = decoded(_parts, message["content"], f"{place}.content", "is no list of parts")
            for index, part in enumerate(parts):
                if isinstance(part, dict):
                    found += [f"{place}.content[{index}].{name}" for name in strangers(part, PART_FIELDS)]
            message["content"] = raw(parts)
        elif content[0] not in _TEXT_OR_NULL:
            found.append(f"{place}.content")
    fields["messages"] = raw(messages)
    return found[0] if found else None


def _chat(
    asked: Asked, fields: Fields, facts: ModelFacts, prompt: int, prompt_guess: int, floor: int, mixed: bool
) -> Bound:
    ceiling = ceiling_of(facts, prompt_guess)
    cap = _own_cap(asked, facts)
    beside = len(bytes(fields.get("prediction", msgspec.Raw()))) * asked.choices
    if facts.reasoning_beside:
        beside += all_reasoning(facts) * asked.choices
    if cap is not None:
        cap = min(cap, facts.max_output or cap)
    elif asked.output_cap is not None:
        ceiling = min(ceiling, asked.output_cap)
    return Bound(
        prompt=prompt,
        choices=asked.choices,
        cap=cap,
        least=min(ceiling, floor),
        ceiling=ceiling,
        beside=beside,
        field=facts.cap_fields[0],
        mixed=mixed,
    )


def _completions(asked: Asked, fields: Fields, body_bytes: int, facts: ModelFacts) -> Bound:
    """Prompts by their bytes; the cap of a caller who sent none is written down, as it would be assumed."""
    cap = at_least_one(asked.output_cap or 0, "max_tokens")
    fields["max_tokens"] = msgspec.Raw(b"%d" % cap)
    return Bound(
        prompt=body_bytes * facts.expansion + facts.template_tokens,
        choices=asked.choices,
        cap=cap,
        beside=all_reasoning(facts) * asked.choices if facts.reasoning_beside else 0,
    )


def _embeddings(fields: Fields, body_bytes: int, facts: ModelFacts) -> Bound:
    """Texts by their bytes; token ids are one token each, and no id is shorter than a byte either."""
    check_fields(fields, EMBEDDING_FIELDS)
    decoded(_input, fields.get("input", NOTHING), "input", "only texts and token ids can be bounded")
    return Bound(prompt=body_bytes * facts.expansion)


def _check_sound(fields: Fields) -> None:
    """Refuse spoken answers."""
    if bytes(fields.get("audio", NOTHING)) not in NULL:
        raise unbounded("audio", "no price is known for spoken output")
    modalities: Iterable[str] | None = None
    if "modalities" in fields:
        modalities = decoded(_texts, fields["modalities"], "modalities", "is no list of names")
    if any(name != "text" for name in modalities or ()):
        raise unbounded("modalities", "only text has a known price; ask for 'text'")


def _own_cap(asked: Asked, facts: ModelFacts) -> int | None:
    """The caller's cap for each choice, if it stands in a field that the deployment honours or refuses."""
    if asked.output_cap is None:
        return None
    at_least_one(asked.output_cap, "max_tokens")
    given = {"max_tokens": asked.max_tokens, "max_completion_tokens": asked.max_completion_tokens}
    caps = [cap for name in facts.cap_fields if (cap := given.get(name)) is not None]
    return max(caps, default=None)
