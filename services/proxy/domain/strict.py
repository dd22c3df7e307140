"""Proven upper bounds: what a call of a strict key can cost at the very most, or why nobody can say.

A token stands for at least one byte of the text it was made from, and a JSON text is never shorter than what it
means; so the bytes of a body bound the tokens of its texts. What surrounds a message in a model's template (a few
tokens) is less than what surrounds it in JSON (`{"role":"user","content":""}`), and what a template adds of its own
is allowed for. Where bytes prove nothing (an image by its URL), the model's context window does. What neither
bounds is refused, by name.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from services.proxy.domain.dialect import Asked, BadRequest, Fields
from services.proxy.domain.estimate import Need, affordable
from services.proxy.domain.facts import ModelFacts
from shared.pricing import PriceRow, estimate

ROOM_TOKENS_MIN = 64
"""The cap of our own where the prompt seems to fill the model's window: that is a guess, and Foundry knows better."""
UNKNOWN_OUTPUT_TOKENS = 4_096
"""The cap where the model's own maximum is not known: every chat model gives as much."""

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
EMBEDDING_FIELDS = frozenset(["input", "model", "dimensions", "encoding_format", "user", "input_type"])
MESSAGE_FIELDS = frozenset(
    ["role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "reasoning_content"]
)
PART_FIELDS = frozenset(["type", "text", "refusal", "cache_control"])
TOOL_FIELDS = frozenset(["type", "function", "custom"])
TIERS = (b"null", b'"auto"', b'"default"', b'"flex"')
"""Service tiers that cost no more than the list price."""
OWN_TOOLS = (b'"function"', b'"custom"')
NULL = (b"null", b"")
_NOTHING = msgspec.Raw(b"null")
_LIST = ord("[")
_TEXT_OR_NULL = b'"n'

T = TypeVar("T")

_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_parts = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | str])
_texts = msgspec.json.Decoder(list[str] | None)
_input = msgspec.json.Decoder(str | list[str | int | list[int]])
_encode = msgspec.json.encode
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a call may use at most. `cap`: the caller's own; None: ours to set, between `least` and `ceiling` tokens
    for each choice, in `field`. `beside`: output tokens that no cap holds, of all choices."""

    prompt: int
    choices: int
    cap: int | None
    least: int
    ceiling: int
    beside: int
    field: str

    def need(self, row: PriceRow) -> Need:
        """What to hold: without a cap, enough for the least output, at best for all that the model gives."""
        low = self.least if self.cap is None else self.cap
        high = self.ceiling if self.cap is None else self.cap
        output = low * self.choices + self.beside
        return Need(
            prompt=self.prompt,
            output=output,
            amount=estimate(self.prompt, output, row),
            most=estimate(self.prompt, high * self.choices + self.beside, row),
        )

    def cap_for(self, amount: int, row: PriceRow) -> int:
        """The cap on each choice that an amount pays for, which is enough for the least output at any rate."""
        tokens = affordable(amount, self.prompt, row)
        if tokens is None:
            return self.ceiling
        return max(self.least, min(self.ceiling, (tokens - self.beside) // self.choices))


def bound(asked: Asked, fields: Fields, body_bytes: int, facts: ModelFacts, prompt_guess: int, floor: int) -> Bound:
    """The proven bound of a call. Raises BadRequest `unbounded_cost` naming what has none.

    `fields` are made unambiguous on the way. `prompt_guess` is the likely size of the prompt: a cap of ours leaves
    room for it in the model's window. `floor` are the output tokens below which an answer without a cap of the
    caller's is not worth its price.
    """
    if not asked.chat:
        return _embeddings(fields, body_bytes, facts)
    _check_fields(fields, CHAT_FIELDS)
    _check_options(fields)
    prompt = body_bytes * facts.expansion + facts.template_tokens
    where = read_conversation(fields)
    if where is not None:
        if facts.context_window is None:
            raise unbounded(
                where, "no number of bytes bounds its tokens, and the context window of this model is not known here"
            )
        prompt = facts.context_window
    elif facts.context_window is not None:
        prompt = min(prompt, facts.context_window)
    ceiling = _ceiling(facts, prompt_guess)
    cap = _own_cap(asked, facts)
    beside = len(bytes(fields.get("prediction", msgspec.Raw()))) * asked.choices
    if facts.reasoning_beside:
        beside += _all_reasoning(facts) * asked.choices
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
    )


def unbounded(field: str, why: str) -> BadRequest:
    """The refusal of what cannot be bounded."""
    return BadRequest(
        f"This key has a strict budget, which admits only calls whose highest cost is known. '{field}': {why}.",
        code="unbounded_cost",
        param=field,
    )


def read_conversation(fields: Fields) -> str | None:
    """The first part of the messages whose tokens are not bounded by its bytes.

    The messages are written anew, so that a name that stood twice stands once and means the same to everybody.
    """
    if "messages" not in fields:
        return None
    messages = _decoded(_objects, fields["messages"], "messages", "is no list of messages")
    found: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        found += [f"{place}.{name}" for name in _strangers(message, MESSAGE_FIELDS) if bytes(message[name]) not in NULL]
        content = memoryview(message.get("content", _NOTHING))
        if content[0] == _LIST:
            parts = _decoded(_parts, message["content"], f"{place}.content", "is no list of parts")
            for index, part in enumerate(parts):
                if isinstance(part, dict):
                    found += [f"{place}.content[{index}].{name}" for name in _strangers(part, PART_FIELDS)]
            message["content"] = _raw(parts)
        elif content[0] not in _TEXT_OR_NULL:
            found.append(f"{place}.content")
    fields["messages"] = _raw(messages)
    return found[0] if found else None


def _embeddings(fields: Fields, body_bytes: int, facts: ModelFacts) -> Bound:
    """Texts by their bytes; token ids are one token each, and no id is shorter than a byte either."""
    _check_fields(fields, EMBEDDING_FIELDS)
    _decoded(_input, fields.get("input", _NOTHING), "input", "only texts and token ids can be bounded")
    prompt = body_bytes * facts.expansion
    return Bound(prompt=prompt, choices=1, cap=0, least=0, ceiling=0, beside=0, field="")


def _check_fields(fields: Fields, known: frozenset[str]) -> None:
    for name in _strangers(fields, known):
        if bytes(fields[name]) not in NULL:
            raise unbounded(name, "what this field costs is not known; leave it out")


def _check_options(fields: Fields) -> None:
    """The known fields that can cost more than tokens."""
    if bytes(fields.get("service_tier", _NOTHING)) not in TIERS:
        raise unbounded("service_tier", "this tier costs more than the list price; use 'auto', 'default' or 'flex'")
    if bytes(fields.get("audio", _NOTHING)) not in NULL:
        raise unbounded("audio", "no price is known for spoken output")
    modalities: Iterable[str] | None = None
    if "modalities" in fields:
        modalities = _decoded(_texts, fields["modalities"], "modalities", "is no list of names")
    if any(name != "text" for name in modalities or ()):
        raise unbounded("modalities", "only text has a known price; ask for 'text'")
    if bytes(fields.get("tools", _NOTHING)) not in NULL:
        tools = _decoded(_objects, fields["tools"], "tools", "is no list of tools")
        if any(bytes(tool.get("type", _NOTHING)) not in OWN_TOOLS or _strangers(tool, TOOL_FIELDS) for tool in tools):
            raise unbounded("tools", "only functions of your own can be bounded, not tools that Foundry runs")
        fields["tools"] = _raw(tools)


def _own_cap(asked: Asked, facts: ModelFacts) -> int | None:
    """The caller's cap for each choice, if it stands in a field that the deployment honours or refuses."""
    if asked.output_cap is None:
        return None
    if asked.output_cap < 1:
        raise unbounded("max_tokens", "a cap of 0 is not understood alike by all models; send at least 1")
    given = {"max_tokens": asked.max_tokens, "max_completion_tokens": asked.max_completion_tokens}
    caps = [cap for name in facts.cap_fields if (cap := given.get(name)) is not None]
    return max(caps, default=None)


def _ceiling(facts: ModelFacts, prompt_guess: int) -> int:
    """The highest cap of our own that the model takes, whose window has to hold the prompt too."""
    most = facts.max_output or UNKNOWN_OUTPUT_TOKENS
    if facts.context_window is not None:
        most = min(most, facts.context_window - prompt_guess)
    return max(most, ROOM_TOKENS_MIN)


def _all_reasoning(facts: ModelFacts) -> int:
    most = facts.max_output or facts.context_window
    if most is None:
        raise unbounded(
            "max_tokens", "this model reasons beside its answer, no cap holds that, and its maximum is not known here"
        )
    return most


def _raw(content: object) -> msgspec.Raw:
    return msgspec.Raw(_encode(content))


def _strangers(found: dict[str, msgspec.Raw], known: frozenset[str]) -> list[str]:
    return [name for name in found if name not in known]


def _decoded(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw | bytes, field: str, why: str) -> T:
    try:
        return decoder.decode(raw)
    except _UNREADABLE as error:
        raise unbounded(field, why) from error
