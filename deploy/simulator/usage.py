"""How much a call counts, class by class, and how a caller steers it.

A caller steers by the header `x-sim-usage: prompt=100,completion=20,cached=40`, or, because gateways drop
foreign headers, by a marker in its last user message, prompt or input:
`[[sim completion=300 cached=10 delay_ms=50]]`. Every word is a number; yes and no are 1 and 0.
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
MAX_TOOL_CALLS = 16

MARKER = "[[sim"
MARKER_PATTERN = re.compile(r"\[\[sim\s([^\]]*)\]\]")
WORD_PATTERN = re.compile(r"([a-z_0-9]+)=(\d{1,12})\Z")
TIERS = ("", "flex", "priority", "batch")
"""Service tiers by the number that steers them; the first is the standard one."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What Foundry bills for one call. Classes that are zero or standard are left out of JSON.

    `prompt`: all prompt tokens, with `cached`, `cache_write` (5 min), `cache_write_1h`, `audio_prompt`
    (of which `audio_cached`) and `image_prompt` inside it. `completion`: all tokens that came out, with
    `reasoning`, `audio_completion` and `image_completion` inside it. The rest is billed by the piece:
    `images` of the quality and size `image_kind` (`hd/1024-x-1024`), `milliseconds` of sound, `characters`
    spoken, rerank `queries`, `pages` read. `service_tier`: see TIERS.
    """

    prompt: int
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    completion: int = 0
    reasoning: int = 0
    audio_prompt: int = 0
    audio_cached: int = 0
    audio_completion: int = 0
    image_prompt: int = 0
    image_completion: int = 0
    images: int = 0
    image_kind: str = ""
    milliseconds: int = 0
    characters: int = 0
    queries: int = 0
    pages: int = 0
    service_tier: str = ""


class Steering(msgspec.Struct, kw_only=True):
    """What a caller asked for; None leaves it to the simulator.

    Usage: `prompt` … `queries`. Time and pieces: `delay_ms` before the answer, `chunk_delay_ms` between
    events, `chunks` content events, `tiny` (one byte at a time), `join` (events sent together), `comments`
    (keep-alive comments between events), `background_ms` (how long a background response takes).
    Shape: `tool` (so many tool calls), `refuse`, `filter` (1: the prompt, 2: the answer is filtered), `json`
    (an object that fits the asked schema), `thinking` (so many tokens of it are shown), `async_filter`,
    `no_usage`, `event` and `done` (Responses: `event:` lines, `[DONE]`), `grok` (reasoning is left out of
    `completion_tokens`), `tier` (index of TIERS: the tier that serves), `pause` and `window` (Claude's
    stop reasons), `partial` (Claude's last usage tells the output only).
    """

    prompt: int | None = None
    completion: int | None = None
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    audio_prompt: int = 0
    audio_cached: int = 0
    audio_completion: int = 0
    image_prompt: int = 0
    image_completion: int = 0
    images: int | None = None
    milliseconds: int | None = None
    characters: int | None = None
    queries: int | None = None
    pages: int | None = None
    delay_ms: int = 0
    chunk_delay_ms: int = 0
    background_ms: int | None = None
    chunks: int | None = None
    tiny: int = 0
    join: int = 0
    comments: int = 0
    tool: int = 0
    refuse: int = 0
    filter: int = 0
    json: int = 0
    thinking: int = 0
    async_filter: int = 0
    no_usage: int = 0
    event: int | None = None
    done: int | None = None
    grok: int = 0
    tier: int | None = None
    pause: int = 0
    window: int = 0
    partial: int = 0


FLAGS = ("tiny", "comments", "refuse", "json", "async_filter", "no_usage", "event", "done", "grok", "pause", "window")
LIMITS = {
    **dict.fromkeys(Steering.__struct_fields__, MAX_TOKENS),
    **dict.fromkeys(FLAGS, 1),
    **dict.fromkeys(("delay_ms", "chunk_delay_ms", "background_ms"), MAX_DELAY_MS),
    "partial": 1,
    "chunks": MAX_CHUNKS,
    "join": MAX_CHUNKS,
    "tool": MAX_TOOL_CALLS,
    "filter": 2,
    "tier": len(TIERS) - 1,
}
"""Steering words and the most each can be; a larger number counts as this one."""

NO_STEERING = Steering()
"""Shared by all calls that steer nothing: never changed."""


def steering(text: str | None, header: bytes | None) -> Steering:
    """Read the marker in `text` and the header; the marker wins. Raises a 400 that names an unknown word."""
    marked = text is not None and MARKER in text
    if header is None and not marked:
        return NO_STEERING
    steer = Steering()
    if header is not None:
        _apply(steer, header.decode("latin-1").replace(",", " ").split())
    if text is not None and marked:
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


def served_tier(steer: Steering, asked: str | None) -> str:
    """The tier that serves, as in TIERS: the steered one, else the asked one where it is a tier.

    A steered `priority` is the deployment's own, which a request for `default` turns off.
    """
    if steer.tier is not None and not (asked == "default" and TIERS[steer.tier] == "priority"):
        return TIERS[steer.tier]
    return asked if asked in TIERS[:3] and asked else ""


def text_usage(
    steer: Steering, counted_prompt: int, cap: int | None, choices: int = 1, tier: str = ""
) -> tuple[Usage, int, bool]:
    """Usage of a call that answers with text, the completion tokens of each choice, and whether the cap cut it.

    Parts are kept within their wholes, whatever was steered: a caller's cap bounds what is billed.
    """
    wanted = DEFAULT_COMPLETION if steer.completion is None else steer.completion
    each = wanted if cap is None else min(wanted, cap)
    prompt = max(1, counted_prompt) if steer.prompt is None else steer.prompt
    if steer is NO_STEERING:
        return Usage(prompt=prompt, completion=each * choices, service_tier=tier), each, each < wanted
    cached = min(steer.cached, prompt)
    write = min(steer.cache_write, prompt - cached)
    reasoning = min(steer.reasoning, each)
    audio_out = min(steer.audio_completion, each - reasoning)
    audio_in = min(steer.audio_prompt, prompt)
    usage = Usage(
        prompt=prompt,
        cached=cached,
        cache_write=write,
        cache_write_1h=min(steer.cache_write_1h, prompt - cached - write),
        completion=each * choices,
        reasoning=reasoning * choices,
        audio_prompt=audio_in,
        audio_cached=min(steer.audio_cached, audio_in, cached),
        audio_completion=audio_out * choices,
        image_prompt=min(steer.image_prompt, prompt - audio_in),
        image_completion=min(steer.image_completion, each - reasoning - audio_out) * choices,
        service_tier=tier,
    )
    return usage, each, each < wanted


def chat_usage_json(usage: Usage, grok: bool = False) -> bytes:
    """The `usage` object of a chat answer, keys in Azure's order.

    With `grok`, reasoning is told beside `completion_tokens`, not inside it, as xAI's models do.
    """
    more = b""
    if usage.cache_write or usage.cache_write_1h:
        more = b'"cache_write_tokens":%d,' % (usage.cache_write + usage.cache_write_1h)
    told = usage.completion - usage.reasoning if grok else usage.completion
    after = b""
    if usage.image_prompt:
        text = usage.prompt - usage.image_prompt - usage.audio_prompt
        after = b',"image_tokens":%d,"text_tokens":%d' % (usage.image_prompt, text)
    return (
        b'{"completion_tokens":%d,"completion_tokens_details":{"accepted_prediction_tokens":0,"audio_tokens":%d,'
        b'"reasoning_tokens":%d,"rejected_prediction_tokens":0},"prompt_tokens":%d,"prompt_tokens_details":'
        b'{"audio_tokens":%d,%b"cached_tokens":%d%b},"total_tokens":%d}'
        % (
            told,
            usage.audio_completion,
            usage.reasoning,
            usage.prompt,
            usage.audio_prompt,
            more,
            usage.cached,
            after,
            usage.prompt + usage.completion,
        )
    )
