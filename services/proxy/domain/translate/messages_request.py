"""A Messages request as a chat completions request, for OpenAI's models and all others that speak chat."""

import msgspec

from services.proxy.domain.translate.efforts import CHAT_EFFORT, effort_of
from services.proxy.domain.translate.messages_tools import (
    MessageTool,
    MessageToolChoice,
    OutputFormat,
    functions,
    response_format,
)
from services.proxy.domain.translate.messages_turns import MessageBlock, MessageTurn, chat_messages
from services.proxy.domain.translate.wire import (
    Fields,
    Json,
    Strictness,
    caller_json,
    checked_cap,
    encode,
    given,
    malformed,
    quoted,
)

STOPS_MAX = 4
"""So many stop sequences chat completions take."""
USER_MAX = 64
"""So long may `user` be at OpenAI; the ids of Claude Code are longer, and their beginning tells users apart."""
NO_EFFORT = "none"
TARGET = "a deployment that speaks chat completions"

HARMLESS: dict[str, tuple[object, ...] | None] = {
    "betas": None,
    "cache_control": None,
    "context_management": None,
    "diagnostics": None,
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard",),
    "user_profile_id": None,
}
"""Parameters without a counterpart, and the values (None: any) with which leaving them out changes no answer."""


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class _Thinking(msgspec.Struct, frozen=True):
    type: str
    budget_tokens: int | None = None


class _OutputConfig(msgspec.Struct, frozen=True):
    effort: str | None = None
    format: OutputFormat | None = None


class MessagesRequest(msgspec.Struct, frozen=True):
    """A Messages request: the fields that have a counterpart."""

    messages: list[MessageTurn]
    max_tokens: int
    model: str | None = None
    system: str | list[MessageBlock] | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stream: bool | None = None
    metadata: _Metadata | None = None
    tools: list[MessageTool] | None = None
    tool_choice: MessageToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: OutputFormat | None = None


_request = msgspec.json.Decoder(MessagesRequest)
_fields: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN = frozenset(MessagesRequest.__struct_fields__)


def to_chat(
    body: bytes,
    *,
    model: str | None,
    cap_field: str,
    drop_params: bool,
    reasoning: bool,
    inject_usage: bool,
    effort_with_tools: bool = True,
    refuses_sampling: bool = True,
) -> bytes:
    """The chat completions body for a Messages body. Raises BadRequest.

    `model`: None leaves the caller's name. `cap_field`: `max_tokens` or `max_completion_tokens`. `reasoning`: the
    model reasons, so it takes an effort. `inject_usage`: a stream is to report its usage. `effort_with_tools`: False
    for reasoning models that take tools over chat completions only with the effort `none`. `refuses_sampling`: False
    for those that sample while they do not reason, and say themselves when they do not.
    """
    strict = Strictness(drop_params=drop_params, target=TARGET)
    with caller_json():
        body.decode()
        said = _request.decode(body)
        _refuse_unknown(_fields.decode(body), strict)
        name = said.model if model is None else model
        made: Json = {} if name is None else {"model": name}
        made["messages"] = chat_messages(said.system, said.messages)
        made[cap_field] = checked_cap("max_tokens", said.max_tokens)
        made.update(functions(said.tools, said.tool_choice))
        wanted = (said.output_config.format if said.output_config else None) or said.output_format
        if wanted is not None:
            made["response_format"] = response_format(wanted)
        effort = _effort(said) if effort_with_tools or not said.tools else NO_EFFORT
        if reasoning and effort is not None:
            made["reasoning_effort"] = effort
        asleep = not refuses_sampling and (effort in (None, NO_EFFORT) or not drop_params)
        made.update(_sampling(said, strict, samples=asleep or not reasoning))
        if said.stream is not None:
            made["stream"] = said.stream
        if said.stream and inject_usage:
            made["stream_options"] = {"include_usage": True}
        return encode(made)


def _refuse_unknown(fields: Fields, strict: Strictness) -> None:
    for name, raw in fields.items():
        if name in _KNOWN or not given(raw):
            continue
        harmless = HARMLESS.get(name, ())
        if harmless is None or (harmless and msgspec.json.decode(raw) in harmless):
            continue
        strict.refuse(quoted(name), "has no counterpart")


def _effort(said: MessagesRequest) -> str | None:
    """How much to think: the effort if one is named, else by the budget; None leaves it to the model."""
    named = said.output_config.effort if said.output_config else None
    if named is not None:
        if named not in CHAT_EFFORT:
            malformed("output_config.effort", f"'output_config.effort' must be one of {', '.join(CHAT_EFFORT)}.")
        return CHAT_EFFORT[named]
    thinking = said.thinking
    if thinking is None or thinking.type != "enabled":
        return None
    if thinking.budget_tokens is None:
        malformed("thinking.budget_tokens", "'thinking.budget_tokens' is missing.")
    return effort_of(thinking.budget_tokens)


def _sampling(said: MessagesRequest, strict: Strictness, *, samples: bool) -> Json:
    made: Json = {}
    for field, value in (("temperature", said.temperature), ("top_p", said.top_p)):
        if value is None:
            continue
        if not 0 <= value <= 1:
            malformed(field, f"'{field}' must be between 0 and 1.")
        if samples:
            made[field] = value
        elif value != 1:
            strict.refuse(field, "cannot be set for a reasoning model")
    if said.top_k is not None:
        strict.refuse("top_k", "has no counterpart")
    stops = said.stop_sequences or []
    if len(stops) > STOPS_MAX:
        strict.refuse("stop_sequences", f"can hold at most {STOPS_MAX} texts", do="Send fewer")
    if stops:
        made["stop"] = stops[:STOPS_MAX]
    if said.metadata is not None and said.metadata.user_id:
        made["user"] = said.metadata.user_id[:USER_MAX]
    return made
