"""Completions of plain prompts, the operation before chat; a request may carry many prompts."""

import msgspec

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.reading import (
    ABSENT,
    StreamOptions,
    cap_of,
    count_of,
    field_of,
    model_of,
    tier_of,
)

MAX_TOKENS_DEFAULT = 16
"""What an answer may have at most when the caller does not say."""
PROMPTS_MAX = 2_048


class _Completions(msgspec.Struct):
    model: str | None = None
    prompt: msgspec.Raw = ABSENT
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    service_tier: msgspec.Raw = ABSENT


_body = msgspec.json.Decoder(_Completions)
_prompt = msgspec.json.Decoder(str | list[str | int | list[int]] | None)


def read_completions(body: bytes, path_model: str | None) -> Asked:
    """A completion. `choices` are all that are made, since all are billed: for each prompt the larger of `n` and
    `best_of`. Raises BadRequest, and whatever msgspec raises for what is no JSON."""
    said = _body.decode(body)
    cap = cap_of(said.max_tokens, "max_tokens")
    made = max(count_of(said.n, "n"), count_of(said.best_of, "best_of"))
    options = said.stream_options
    return Asked(
        model=model_of(path_model or said.model),
        endpoint=Endpoint.COMPLETIONS,
        stream=bool(said.stream),
        include_usage=options is not None and bool(options.include_usage),
        output_cap=MAX_TOKENS_DEFAULT if cap is None else cap,
        choices=_prompts(said.prompt) * made,
        max_tokens=cap,
        input=said.prompt,
        tier=tier_of(said.service_tier),
    )


def _prompts(raw: msgspec.Raw) -> int:
    """How many prompts there are: a list of token ids is one."""
    if raw is ABSENT:
        return 1
    given = field_of(_prompt, raw, "prompt", "a text, token ids, or a list of either")
    if given is None or isinstance(given, str):
        return 1
    if not 1 <= len(given) <= PROMPTS_MAX and not all(isinstance(item, int) for item in given):
        raise BadRequest(f"'prompt' must have between 1 and {PROMPTS_MAX} prompts.", param="prompt")
    return 1 if all(isinstance(item, int) for item in given) else len(given)
