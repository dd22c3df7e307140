"""How much a model may think: OpenAI's words for it and Claude's token budgets, as two tables."""

from services.proxy.domain.translate.wire import Json

BUDGET_MIN = 1_024
"""Claude takes no smaller budget."""
BUDGET_TOKENS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
"""`reasoning_effort` → `thinking.budget_tokens`, never more than half of `max_tokens`."""
ADAPTIVE_EFFORT = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
"""`reasoning_effort` → `output_config.effort` for models that set their own budget."""
MEDIUM_FROM = 4_096
HIGH_FROM = 16_384
"""`thinking.budget_tokens` → `reasoning_effort`: low, and from here on medium and high."""
CHAT_EFFORT = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""`output_config.effort` → `reasoning_effort`, in the words that every reasoning model knows."""


def budget_of(effort: str, max_tokens: int) -> int | None:
    """The thinking budget for an effort; None if `max_tokens` leaves no room for thinking and an answer."""
    budget = min(BUDGET_TOKENS[effort], max_tokens // 2)
    return budget if budget >= BUDGET_MIN else None


def budgeted(budget: int) -> Json:
    """The `thinking` object of a budget."""
    return {"type": "enabled", "budget_tokens": budget}


def effort_of(budget: int) -> str:
    """The effort for a thinking budget."""
    return "low" if budget < MEDIUM_FROM else "medium" if budget < HIGH_FROM else "high"
