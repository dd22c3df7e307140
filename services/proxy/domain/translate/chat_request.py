"""A chat completions request as a Messages request, for Claude deployments."""

import re

import msgspec

from services.proxy.domain.translate.chat_tools import ResponseFormat, Tool, Toolbox, ToolChoice, toolbox
from services.proxy.domain.translate.chat_turns import ChatMessage, Conversation, conversation
from services.proxy.domain.translate.efforts import ADAPTIVE_EFFORT, BUDGET_TOKENS, budget_of, budgeted
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

TEMPERATURE_MAX = 1
"""Claude's; OpenAI's is 2."""
OPAQUE = re.compile(r"(?!\+?[0-9() .-]{7,}$)[A-Za-z0-9_.:|-]{1,256}")
"""A user's id that Claude takes: it refuses whatever looks like an address or a phone number."""
TARGET = "a Claude deployment"

_ANYTHING: tuple[object, ...] | None = None
HARMLESS: dict[str, tuple[object, ...] | None] = {
    "frequency_penalty": (0,),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": _ANYTHING,
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "prompt_cache_key": _ANYTHING,
    "prompt_cache_options": _ANYTHING,
    "prompt_cache_retention": _ANYTHING,
    "service_tier": ("auto", "default"),
    "store": _ANYTHING,
    "stream_options": _ANYTHING,
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
"""Parameters without a counterpart, and the values (None: any) with which leaving them out changes no answer."""


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat completions request: the fields that have a counterpart."""

    messages: list[ChatMessage]
    model: msgspec.Raw = msgspec.Raw()
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stream: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    thinking: Fields | None = None


_request = msgspec.json.Decoder(ChatRequest)
_fields: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN = frozenset(ChatRequest.__struct_fields__)


def to_messages(
    body: bytes, *, model: str, max_tokens_default: int, drop_params: bool, adaptive_thinking: bool = False
) -> bytes:
    """The Messages body for a chat completions body. Raises BadRequest.

    `max_tokens_default`: the cap if the caller set none. `adaptive_thinking`: the model sets its own thinking budget,
    so that `reasoning_effort` is sent as an effort and not as a number of tokens.
    """
    strict = Strictness(drop_params=drop_params, target=TARGET)
    with caller_json():
        body.decode()
        said = _request.decode(body)
        _refuse_unknown(_fields.decode(body), strict)
        talk = conversation(said.messages)
        box = toolbox(said.tools, said.tool_choice, said.parallel_tool_calls, said.response_format)
        cap = _cap(said, max_tokens_default)
        thinking, effort = _thinking(said, talk, box, cap, strict, adaptive=adaptive_thinking)
        made: Json = {"model": model, "max_tokens": cap}
        if talk.system:
            made["system"] = talk.system
        made["messages"] = talk.messages
        if box.tools:
            made["tools"] = box.tools
        if box.choice is not None:
            made["tool_choice"] = box.choice
        if thinking is not None:
            made["thinking"] = thinking
        if effort is not None:
            made["output_config"] = {"effort": effort}
        return encode({**made, **_sampling(said, strict, thinks=_is_on(thinking))})


def _refuse_unknown(fields: Fields, strict: Strictness) -> None:
    for name, raw in fields.items():
        if name in _KNOWN or not given(raw):
            continue
        harmless = HARMLESS.get(name, ())
        if harmless is None or (harmless and msgspec.json.decode(raw) in harmless):
            continue
        strict.refuse(quoted(name), "has no counterpart")


def _cap(said: ChatRequest, default: int) -> int:
    if said.max_completion_tokens is not None:
        return checked_cap("max_completion_tokens", said.max_completion_tokens)
    return default if said.max_tokens is None else checked_cap("max_tokens", said.max_tokens)


def _thinking(
    said: ChatRequest, talk: Conversation, box: Toolbox, cap: int, strict: Strictness, *, adaptive: bool
) -> tuple[object | None, str | None]:
    """`thinking` and the effort of `output_config`, as far as they are to be sent.

    A thinking object of the caller's goes out as it is. An effort is a wish: where Claude could not think it is left
    out, except that a forced tool and an effort contradict each other.
    """
    effort = said.reasoning_effort
    if effort is not None and effort != "none" and effort not in BUDGET_TOKENS:
        malformed("reasoning_effort", f"'reasoning_effort' must be one of none, {', '.join(BUDGET_TOKENS)}.")
    if said.thinking is not None:
        if box.forced and _is_on(said.thinking):
            strict.refuse("thinking", "does not go together with a response_format or a tool that must be called")
            return None, None
        return said.thinking, None
    if effort is None:
        return None, None
    if effort == "none":
        return ({"type": "disabled"} if adaptive else None), None
    if box.forced:
        strict.refuse("reasoning_effort", "does not go together with a response_format or a tool that must be called")
        return None, None
    if adaptive:
        return {"type": "adaptive"}, ADAPTIVE_EFFORT[effort]
    budget = None if talk.unthought else budget_of(effort, cap)
    return (None if budget is None else budgeted(budget)), None


def _is_on(thinking: object | None) -> bool:
    if not isinstance(thinking, dict):
        return False
    kind: object = thinking.get("type")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return (bytes(kind) if isinstance(kind, msgspec.Raw) else encode(kind)) != b'"disabled"'


def _sampling(said: ChatRequest, strict: Strictness, *, thinks: bool) -> Json:
    made: Json = {}
    if said.temperature is not None:
        if not 0 <= said.temperature <= TEMPERATURE_MAX:
            strict.refuse("temperature", "must be between 0 and 1", do="Lower it")
        elif thinks and said.temperature != 1:
            strict.refuse("temperature", "must be 1 while Claude thinks (reasoning_effort, thinking)")
        else:
            made["temperature"] = said.temperature
    if said.top_p is not None:
        made["top_p"] = said.top_p
    if said.top_k is not None:
        if thinks:
            strict.refuse("top_k", "cannot be set while Claude thinks (reasoning_effort, thinking)")
        else:
            made["top_k"] = _small(said.top_k, "top_k")
    if stops := _stops(said.stop, strict):
        made["stop_sequences"] = stops
    user = said.user or said.safety_identifier
    if user and OPAQUE.fullmatch(user):
        made["metadata"] = {"user_id": user}
    if said.stream is not None:
        made["stream"] = said.stream
    return made


def _stops(stop: str | list[str] | None, strict: Strictness) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    kept = [text for text in stops if text.strip()]
    if len(kept) < len(stops):
        strict.refuse("stop", "cannot be white space only", do="Use another text")
    return kept


def _small(number: int, field: str) -> int:
    if not 0 <= number < 2**31:
        malformed(field, f"'{field}' is out of range.")
    return number
