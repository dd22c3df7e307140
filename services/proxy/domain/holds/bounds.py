"""What proven bounds are made of: the bound itself, its refusals, and the checks that all operations share."""

from collections.abc import Container, Iterable
from typing import TypeVar

import msgspec

from services.proxy.domain.asked import NO_UNITS, Asked, BadRequest
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.estimate import Need, affordable, dearest_prompt
from services.proxy.domain.requests.writing import Fields
from shared.pricing import TOKENS_PER_PRICE, PriceRow, Usage, estimate, price

ROOM_TOKENS_MIN = 64
"""The cap of our own where the prompt seems to fill the model's window: that is a guess, and Foundry knows better."""
UNKNOWN_OUTPUT_TOKENS = 4_096
"""The cap where the model's own maximum is not known: every chat model gives as much."""
STANDARD_TIERS = (b"null", b'"auto"', b'"default"', b'"flex"', b'"standard_only"')
"""Service tiers that cost no more than the list price."""
NULL = (b"null", b"")
NOTHING = msgspec.Raw(b"null")

T = TypeVar("T")

objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
one_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a call may use at most. `cap`: the caller's own; None: ours to set, between `least` and `ceiling` tokens
    for each choice, in `field`. `beside`: output tokens that no cap holds, of all choices. `mixed`: the prompt may have
    tokens of pictures or sound, which are billed at prices of their own. `units`: what is billed beside tokens."""

    prompt: int
    choices: int = 1
    cap: int | None = 0
    least: int = 0
    ceiling: int = 0
    beside: int = 0
    field: str = ""
    mixed: bool = False
    units: Usage = NO_UNITS

    def need(self, row: PriceRow) -> Need:
        """What to hold: without a cap, enough for the least output, at best for all that the model gives."""
        low = self.least if self.cap is None else self.cap
        high = self.ceiling if self.cap is None else self.cap
        output = low * self.choices + self.beside
        more = self.more(row)
        return Need(
            prompt=self.prompt,
            output=output,
            amount=estimate(self.prompt, output, row) + more,
            most=estimate(self.prompt, high * self.choices + self.beside, row) + more,
        )

    def more(self, row: PriceRow) -> int:
        """What a prompt that is not all text may cost beyond one that is, and the units, in nano-dollars."""
        more = 0
        if self.mixed:
            rates = row.rates_for(self.prompt)
            more = -(-self.prompt * max(0, dearest_prompt(rates) - rates.highest_input()) // TOKENS_PER_PRICE)
        return more if self.units is NO_UNITS else more + price(self.units, row)

    def cap_for(self, amount: int, row: PriceRow) -> int:
        """The cap on each choice that an amount pays for, which is enough for the least output at any rate."""
        tokens = affordable(amount - self.more(row), self.prompt, row)
        if tokens is None:
            return self.ceiling
        return max(self.least, min(self.ceiling, (tokens - self.beside) // self.choices))


def unbounded(field: str, why: str) -> BadRequest:
    """The refusal of what cannot be bounded."""
    return BadRequest(
        f"This key has a strict budget, which admits only calls whose highest cost is known. '{field}': {why}.",
        code="unbounded_cost",
        param=field,
    )


def capped(asked: Asked, facts: ModelFacts, prompt: int, prompt_guess: int, floor: int, *, mixed: bool) -> Bound:
    """The bound of a call whose caller's cap is `asked.output_cap` and always honoured; without one ours goes into
    the first of the model's cap fields."""
    cap, ceiling = asked.output_cap, ceiling_of(facts, prompt_guess)
    if cap is not None:
        cap = min(at_least_one(cap, asked.cap_field), facts.max_output or cap)
    beside = all_reasoning(facts) * asked.choices if facts.reasoning_beside else 0
    return Bound(
        prompt=prompt,
        choices=asked.choices,
        cap=cap,
        least=min(ceiling, floor),
        ceiling=ceiling,
        beside=beside,
        field=asked.cap_field,
        mixed=mixed,
    )


def prompt_bound(where: str | None, body_bytes: int, facts: ModelFacts) -> int:
    """Tokens of a prompt by the bytes of its body; by the model's window if it has more than text, at `where`."""
    if where is not None:
        if facts.context_window is None:
            raise unbounded(
                where, "no number of bytes bounds its tokens, and the context window of this model is not known here"
            )
        return facts.context_window
    prompt = body_bytes * facts.expansion + facts.template_tokens
    return prompt if facts.context_window is None else min(prompt, facts.context_window)


def ceiling_of(facts: ModelFacts, prompt_guess: int) -> int:
    """The highest cap of our own that the model takes, whose window has to hold the prompt too."""
    most = facts.max_output or UNKNOWN_OUTPUT_TOKENS
    if facts.context_window is not None:
        most = min(most, facts.context_window - prompt_guess)
    return max(most, ROOM_TOKENS_MIN)


def at_least_one(cap: int, field: str) -> int:
    """A cap that all models understand alike."""
    if cap < 1:
        raise unbounded(field, "a cap of 0 is not understood alike by all models; send at least 1")
    return cap


def all_reasoning(facts: ModelFacts) -> int:
    """What a model may reason beside its answer."""
    most = facts.max_output or facts.context_window
    if most is None:
        raise unbounded(
            "max_tokens", "this model reasons beside its answer, no cap holds that, and its maximum is not known here"
        )
    return most


def check_fields(fields: Fields, known: frozenset[str]) -> None:
    """Refuse fields whose cost nobody knows."""
    for name in strangers(fields, known):
        if bytes(fields[name]) not in NULL:
            raise unbounded(name, "what this field costs is not known; leave it out")


def check_tier(fields: Fields, priced: Container[str]) -> None:
    """Refuse a service tier that costs more than the list price, unless its own price is known."""
    tier = bytes(fields.get("service_tier", NOTHING))
    if tier in STANDARD_TIERS or (tier == b'"priority"' and "priority" in priced):
        return
    raise unbounded("service_tier", "this tier costs more than the list price; use 'auto', 'default' or 'flex'")


def own_tools(fields: Fields, types: Container[bytes], known: frozenset[str]) -> None:
    """Refuse tools that Foundry runs. The tools are written anew, so that a name that stood twice stands once."""
    if bytes(fields.get("tools", NOTHING)) in NULL:
        return
    tools = decoded(objects, fields["tools"], "tools", "is no list of tools")
    if any(bytes(tool.get("type", NOTHING)) not in types or strangers(tool, known) for tool in tools):
        raise unbounded("tools", "only functions of your own can be bounded, not tools that Foundry runs")
    fields["tools"] = raw(tools)


def raw(content: object) -> msgspec.Raw:
    """A value as JSON."""
    return msgspec.Raw(_encode(content))


def strangers(found: dict[str, msgspec.Raw], known: Iterable[str]) -> list[str]:
    """The names that are not known."""
    return [name for name in found if name not in known]


def places(found: dict[str, msgspec.Raw], known: Iterable[str], place: str) -> list[str]:
    """Where the names stand that are not known and say something."""
    return [f"{place}.{name}" for name in strangers(found, known) if bytes(found[name]) not in NULL]


def decoded(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw | bytes, field: str, why: str) -> T:
    """A value, or the refusal of its field."""
    try:
        return decoder.decode(raw)
    except _UNREADABLE as error:
        raise unbounded(field, why) from error
