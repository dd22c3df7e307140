"""How many tokens a call counts, and how a caller steers it.

A caller steers by the header `x-sim-usage: prompt=100,completion=20,cached=40`, or, because gateways drop
foreign headers, by a marker in its last user message: `[[sim completion=300 cached=10 delay_ms=50]]`.
"""

import re

import msgspec

from deploy.simulator import errors

CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 3
TOKENS_PER_IMAGE = 85
DEFAULT_COMPLETION = 16
MAX_DELAY_MS = 600_000
MAX_CHUNKS = 100_000
MAX_TOKENS = 100_000_000

MARKER = "[[sim"
MARKER_PATTERN = re.compile(r"\[\[sim\s([^\]]*)\]\]")
WORD_PATTERN = re.compile(r"([a-z_]+)=(\d{1,12})\Z")


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What Foundry bills for one call. `prompt` includes `cached` and `cache_write`; `completion` includes
    `reasoning`."""

    prompt: int
    cached: int = 0
    cache_write: int = 0
    completion: int = 0
    reasoning: int = 0


class Steering(msgspec.Struct, kw_only=True):
    """What a caller asked for; None leaves it to the simulator."""

    prompt: int | None = None
    completion: int | None = None
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    delay_ms: int = 0
    chunk_delay_ms: int = 0
    chunks: int | None = None


LIMITS = {
    "prompt": MAX_TOKENS,
    "completion": MAX_TOKENS,
    "cached": MAX_TOKENS,
    "cache_write": MAX_TOKENS,
    "reasoning": MAX_TOKENS,
    "delay_ms": MAX_DELAY_MS,
    "chunk_delay_ms": MAX_DELAY_MS,
    "chunks": MAX_CHUNKS,
}


def steering(text: str | None, header: bytes | None) -> Steering:
    """Read the marker in `text` and the header; the marker wins. Raises a 400 that names an unknown word."""
    steer = Steering()
    if header is not None:
        _apply(steer, header.decode("latin-1").replace(",", " ").split())
    if text is not None and MARKER in text:
        found = MARKER_PATTERN.search(text)
        if found is not None:
            _apply(steer, found[1].replace(",", " ").split())
    return steer


def _apply(steer: Steering, words: list[str]) -> None:
    for word in words:
        found = WORD_PATTERN.match(word)
        if found is None or found[1] not in LIMITS:
            known = ", ".join(LIMITS)
            message = f"[[sim …]]: {word!r} is not name=number; known names: {known}"
            raise errors.invalid(message, "sim_marker")
        setattr(steer, found[1], min(int(found[2]), LIMITS[found[1]]))


def text_tokens(chars: int) -> int:
    """Tokens of so many characters, rounded up."""
    return -(-chars // CHARS_PER_TOKEN)


def chat_usage(steer: Steering, counted_prompt: int, cap: int | None, choices: int) -> tuple[Usage, int, bool]:
    """Usage of a chat call, the completion tokens of each choice, and whether the cap cut it (`length`)."""
    wanted = DEFAULT_COMPLETION if steer.completion is None else steer.completion
    each = wanted if cap is None else min(wanted, cap)
    prompt = max(1, counted_prompt) if steer.prompt is None else steer.prompt
    cached = min(steer.cached, prompt)
    usage = Usage(
        prompt=prompt,
        cached=cached,
        cache_write=min(steer.cache_write, prompt - cached),
        completion=each * choices,
        reasoning=min(steer.reasoning, each) * choices,
    )
    return usage, each, each < wanted


def chat_usage_json(usage: Usage) -> bytes:
    """The `usage` object of a chat answer, keys in Azure's order."""
    write = b'"cache_write_tokens":%d,' % usage.cache_write if usage.cache_write else b""
    return (
        b'{"completion_tokens":%d,"completion_tokens_details":{"accepted_prediction_tokens":0,"audio_tokens":0,'
        b'"reasoning_tokens":%d,"rejected_prediction_tokens":0},"prompt_tokens":%d,"prompt_tokens_details":'
        b'{"audio_tokens":0,%b"cached_tokens":%d},"total_tokens":%d}'
        % (
            usage.completion,
            usage.reasoning,
            usage.prompt,
            write,
            usage.cached,
            usage.prompt + usage.completion,
        )
    )
