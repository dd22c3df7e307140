"""Chat completions: the operation that most calls are."""

import msgspec

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.reading import (
    ABSENT,
    CHOICES_MAX,
    MODEL_NAME_MAX,
    TOKENS_MAX,
    StreamOptions,
    model_of,
    tier_of,
)

NULL = msgspec.Raw(b"null")
SEARCH = ("web_search_options",)
"""How a chat completion asks for a search of the web."""

_LIST = ord("[")


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Chat(msgspec.Struct, gc=False):
    model: str | None = None
    messages: list[_Message] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    service_tier: msgspec.Raw = ABSENT
    modalities: msgspec.Raw = ABSENT
    web_search_options: msgspec.Raw = ABSENT


_decode = msgspec.json.Decoder(_Chat).decode


def read_chat(body: bytes, path_model: str | None) -> Asked:
    """A chat completion. Raises BadRequest, and whatever msgspec raises for what is no JSON."""
    said = _decode(body)
    model = path_model or said.model
    if not model or len(model) > MODEL_NAME_MAX:
        model = model_of(model)
    one, other = said.max_tokens, said.max_completion_tokens
    cap = one if other is None else other if one is None else max(one, other)
    if cap is not None and not (cap <= TOKENS_MAX and (one is None or one >= 0) and (other is None or other >= 0)):
        raise BadRequest(f"'max_tokens' must be between 0 and {TOKENS_MAX}.", param="max_tokens")
    choices = 1 if said.n is None else said.n
    if not 1 <= choices <= CHOICES_MAX:
        raise BadRequest(f"'n' must be between 1 and {CHOICES_MAX}.", param="n")
    options = said.stream_options
    parts = [message.content for message in said.messages or () if memoryview(message.content)[0] == _LIST]
    return Asked(
        model=model,
        endpoint=Endpoint.CHAT,
        stream=bool(said.stream),
        include_usage=options is not None and bool(options.include_usage),
        output_cap=cap,
        choices=choices,
        max_tokens=one,
        max_completion_tokens=other,
        parts=tuple(parts),
        tier="" if said.service_tier is ABSENT else tier_of(said.service_tier),
        hosted=() if said.web_search_options is ABSENT or said.web_search_options == NULL else SEARCH,
        spoken=said.modalities is not ABSENT and b'"audio"' in bytes(said.modalities),
    )
