"""Money refusals in the caller's words: which budget, how much, until when, and what would still fit."""

from datetime import UTC, datetime

import msgspec

from services.proxy.domain.admission import Refused
from services.proxy.domain.holds.estimate import affordable
from shared.allotment import Refusal
from shared.money import usd_from_nusd, usd_text
from shared.pricing import PriceRow

RETRY_AFTER_S_DEFAULT = 1
HINT_TOKENS_MIN = 16
"""No text recommends a shorter answer than this."""
SCOPE_NAMES = {"key": "key", "team": "team", "org": "organization"}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a call wanted money for, for a refusal that says what would fit.

    `prompt_tokens` are those of the same call with a `max_tokens` in it; `choices` is 0 when no cap would help;
    `beside` are output tokens that no cap holds. `assumed_tokens`: the output assumed because the caller gave no cap;
    `output_max`: more tokens than the model gives are no help either. `field` is the caller's cap; `more_nusd` is what
    is held beyond the prompt as text and the output, by all that is billed otherwise (negative: the prompt is cheaper).
    `under_way_nusd` is the part of `held_nusd` for batches and responses that are not charged yet.
    """

    held_nusd: int
    prompt_tokens: int
    row: PriceRow
    choices: int = 1
    beside: int = 0
    assumed_tokens: int | None = None
    output_max: int | None = None
    field: str = "max_tokens"
    more_nusd: int = 0
    under_way_nusd: int = 0


def budget_refused(verdict: str, refusal: Refusal, wanted: Wanted, *, exceeded_status: int) -> Refused:
    """The answer to a call whose money was not granted.

    `budget_exceeded`: spent, so retrying is of no use before the window ends. `budget_reserved`: held by calls in
    flight, so it may fit in a moment.
    """
    name = _name(refusal)
    ends = None if refusal.window_end_s is None else _iso(refusal.window_end_s)
    fits = _max_tokens(refusal.room, wanted)
    extra: dict[str, object] = {
        "budget": {
            "scope": refusal.scope_kind,
            "scope_id": refusal.scope_id,
            "alias": refusal.alias,
            "model": refusal.model,
            "max_budget": usd_from_nusd(refusal.limit),
            "spend": usd_from_nusd(refusal.spent),
            "reserved": usd_from_nusd(refusal.reserved),
            "needed": usd_from_nusd(wanted.held_nusd),
            "budget_duration": refusal.duration or None,
            "window_start": _iso(refusal.window_start_s),
            "budget_reset_at": ends,
            "max_tokens_that_fit": fits,
        }
    }
    raised = "ask your platform team to raise it"
    until = f"It resets at {ends}; {raised} if it must go on before." if ends else f"It does not reset; {raised}."
    assumed = ""
    if wanted.assumed_tokens:
        assumed = f" (no {wanted.field} was sent, {wanted.assumed_tokens} assumed; send {wanted.field} to need less)"
    cost = f"this call, which may cost up to {usd_text(wanted.held_nusd - wanted.under_way_nusd)}{assumed}"
    if wanted.under_way_nusd:
        cost += f", beside work under way that is likely to cost {usd_text(wanted.under_way_nusd)}"
    hint = ""
    if fits is not None and fits >= HINT_TOKENS_MIN:
        hint = f" A call with {wanted.field} of at most {fits} would still fit."
    reserved = usd_text(refusal.reserved) if refusal.reserved > 0 else ""
    if verdict == "exceeded":
        return Refused(
            exceeded_status,
            "budget_exceeded",
            f"The {name} does not cover {cost}: {usd_text(refusal.spent)} of {usd_text(refusal.limit)} is spent"
            f"{f' and {reserved} is reserved for other calls' if reserved else ''}. {until}{hint}",
            kind="budget_exceeded",
            extra=extra,
            headers=((b"x-should-retry", b"false"),),
        )
    wait = refusal.retry_after_s or RETRY_AFTER_S_DEFAULT
    return Refused(
        429,
        "budget_reserved",
        f"What is left of the {name} ({usd_text(refusal.limit)}, {usd_text(refusal.spent)} spent"
        f"{f', {reserved} reserved' if reserved else ''}) is set aside for other calls and does not cover {cost} now."
        f" Try again in {wait} s.{hint}",
        kind="budget_reserved",
        extra=extra,
        headers=((b"retry-after", str(wait).encode()),),
    )


def ledger_unreachable() -> Refused:
    """The answer when nobody can say whether there is money."""
    return Refused(
        503,
        "ledger_unreachable",
        "The budget service cannot be reached and this key has no money allotted at the moment. Try again shortly.",
        kind="ledger_unreachable",
        headers=((b"retry-after", b"2"),),
    )


def _name(refusal: Refusal) -> str:
    """The budget in words: its window, whose it is, and for which models."""
    scope = SCOPE_NAMES[refusal.scope_kind]
    window = f"{refusal.duration} " if refusal.duration else ""
    name = f"{window}budget of the {scope} {repr(refusal.alias) if refusal.alias else refusal.scope_id}"
    if refusal.model is None:
        return name
    return f"{name} for the model{'s' if '*' in refusal.model else ''} {refusal.model!r}"


def _max_tokens(room: int, wanted: Wanted) -> int | None:
    """How many output tokens for each choice the rest of the budget pays for; None when not even one."""
    tokens = affordable(room - wanted.more_nusd, wanted.prompt_tokens, wanted.row) if wanted.choices else None
    if tokens is None or tokens - wanted.beside < wanted.choices:
        return None
    fits = (tokens - wanted.beside) // wanted.choices
    return fits if wanted.output_max is None else min(fits, wanted.output_max)


def _iso(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")
