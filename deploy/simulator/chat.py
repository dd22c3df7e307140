"""Chat completions: what a request may say, what is refused, and the answer."""

from typing import Literal, TypeAlias

import msgspec

from deploy.simulator import chat_bytes, chat_rich, errors, sse
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.chat_bytes import ChatShape
from deploy.simulator.chat_rich import ResponseFormat, Rich, Tool
from deploy.simulator.deployments import Deployment
from deploy.simulator.pictures import image_tokens, sound_tokens
from deploy.simulator.usage import (
    NO_STEERING,
    TOKENS_PER_MESSAGE,
    Steering,
    Usage,
    served_tier,
    steering,
    text_tokens,
    text_usage,
)

MAX_CHOICES = 128
MAX_TOOLS = 128
DEFAULT_CHARGE = 16
TIERS = ("auto", "default", "flex", "priority", "scale")
Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool", "function"]


class ImageUrl(msgspec.Struct):
    """Where an image is: an address or `data:`."""

    url: str = ""
    detail: str | None = None


class Sound(msgspec.Struct):
    """A sound in base64."""

    data: str = ""
    format: str = "wav"


class Part(msgspec.Struct):
    """One part of a message's content."""

    type: str = ""
    text: str | None = None
    image_url: ImageUrl | None = None
    input_audio: Sound | None = None


class Message(msgspec.Struct):
    """One message of the conversation."""

    role: Role
    content: str | list[Part] | None = None
    tool_calls: list[msgspec.Raw] | None = None
    tool_call_id: str | None = None


class StreamOptions(msgspec.Struct):
    """How a stream is sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(msgspec.Struct):
    """The fields of a chat request that decide anything here; all others are accepted and ignored.

    `unknown`: names of fields that no chat request has, looked for on `/models` only.
    """

    messages: list[Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    tools: list[Tool] | None = None
    tool_choice: msgspec.Raw = msgspec.Raw(b"")
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    service_tier: str | None = None
    unknown: tuple[str, ...] = msgspec.field(default=(), name=" unknown")

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream is True

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _answer(self, deployment, call)


class Counted(msgspec.Struct, gc=False):
    """What the messages hold: prompt tokens by kind, and the text of the last user message."""

    chars: int = 0
    images: int = 0
    sounds: int = 0
    last: str | None = None

    def tokens(self, messages: int) -> int:
        """All prompt tokens."""
        return text_tokens(self.chars) + self.images + self.sounds + TOKENS_PER_MESSAGE * messages


KNOWN = frozenset({
    *ChatRequest.__struct_fields__,
    "stop", "seed", "user", "parallel_tool_calls", "audio", "prediction", "metadata", "store", "reasoning_effort",
    "functions", "function_call", "verbosity", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "web_search_options", "data_sources", "enhancements",
})  # fmt: skip
"""Fields a chat request may have anywhere."""


def parse(body: bytes, content_type: bytes = b"") -> ChatRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, ChatRequest)


def parse_models(body: bytes, content_type: bytes = b"") -> ChatRequest:
    """The same on `/models`, which minds fields it does not know."""
    request = decode(body, ChatRequest)
    request.unknown = tuple(sorted(decode(body, dict[str, msgspec.Raw]).keys() - KNOWN))
    return request


def _answer(request: ChatRequest, deployment: Deployment, call: Call) -> Answer:
    if deployment.claude:
        raise errors.api_not_supported()
    if not deployment.chats:
        raise errors.wrong_operation("chatCompletion", deployment.model)
    cap = _check(request, deployment, call)
    counted = _count(request.messages)
    steer = steering(counted.last, call.caller.usage)
    prompt = counted.tokens(len(request.messages))
    if request.tools:
        prompt += text_tokens(sum(len(tool.size) for tool in request.tools))
    if steer.filter == 1:
        return filtered_prompt("chatcmpl-" + call.serial, steer, prompt, errors.content_filter())
    choices = request.n or 1
    tier = "" if steer is NO_STEERING and request.service_tier is None else served_tier(steer, request.service_tier)
    usage, each, cut = text_usage(steer, prompt, cap, choices, tier)
    speaks = request.modalities is not None and "audio" in request.modalities
    if counted.sounds or speaks:
        usage = _with_sound(usage, counted, speaks)
    shape = _shape(request, deployment, call, steer, usage, each)
    if cut:
        shape.finish = b"length"
    room = (cap or DEFAULT_CHARGE) * choices
    made = Answer(id=shape.id, usage=usage, charged=prompt + room, charged_output=room)
    if steer is not NO_STEERING:
        made.delay_ms, made.chunk_delay_ms = steer.delay_ms, steer.chunk_delay_ms
    told = _rich(request, deployment, shape, steer, speaks)
    if told is None:
        _render(made, shape, call, request.streamed, steer)
    else:
        _render_rich(made, told, call, request.streamed, steer)
    return made


def _shape(
    request: ChatRequest, deployment: Deployment, call: Call, steer: Steering, usage: Usage, each: int
) -> ChatShape:
    """What the answer looks like; what is ordinary is left as it is."""
    choices = request.n or 1
    shape = ChatShape(
        id="chatcmpl-" + call.serial,
        created=call.created,
        model_json=deployment.model_json,
        usage=usage,
        text_tokens=each - usage.reasoning // choices,
        choices=choices,
        grok=deployment.grok,
    )
    options = request.stream_options
    if options is not None:
        shape.include_usage = bool(options.include_usage)
        shape.obfuscate = options.include_obfuscation is not False
    if call.fault is not None:
        shape.with_usage = call.with_usage
    if usage.service_tier or request.service_tier is not None:
        shape.tier, shape.tell_tier = usage.service_tier.encode() or b"default", True
    if steer is not NO_STEERING:
        shape.chunks = steer.chunks
        shape.grok = shape.grok or bool(steer.grok)
        shape.with_usage = shape.with_usage and not steer.no_usage
    return shape


def _rich(request: ChatRequest, deployment: Deployment, shape: ChatShape, steer: Steering, speaks: bool) -> Rich | None:
    """What is unusual about the answer; None for plain text."""
    apart = deployment.async_filter or bool(steer.async_filter)
    ordinary = request.tools is None and request.response_format is None and steer is NO_STEERING
    if ordinary and not (speaks or apart):
        return None
    wish = chat_rich.wanted(request.tools, request.tool_choice, request.response_format, steer)
    if wish is None and not (speaks or apart):
        return None
    return Rich(
        shape=shape,
        tools=request.tools or [],
        wish=wish or chat_rich.Wish(),
        refused=bool(steer.refuse),
        filtered=steer.filter == 2,
        speaks=speaks,
        apart=apart,
    )


def filtered_prompt(answer_id: str, steer: Steering, prompt: int, body: dict[str, object]) -> Answer:
    """The content filter's 400: the evaluation of the prompt is billed."""
    counted = max(1, prompt) if steer.prompt is None else steer.prompt
    return Answer(
        id=answer_id,
        usage=Usage(prompt=counted),
        charged=counted,
        status=400,
        body=msgspec.json.encode(body),
        delay_ms=steer.delay_ms,
    )


def _with_sound(usage: Usage, counted: Counted, speaks: bool) -> Usage:
    """Usage with sound in and out: what was not steered is counted; of the answer three quarters are sound."""
    heard = usage.audio_prompt or min(counted.sounds, usage.prompt)
    visible = usage.completion - usage.reasoning
    spoken = (usage.audio_completion or visible * 3 // 4) if speaks else usage.audio_completion
    return msgspec.structs.replace(usage, audio_prompt=heard, audio_completion=spoken)


def _render(made: Answer, shape: ChatShape, call: Call, streamed: bool, steer: Steering) -> None:
    if not streamed:
        made.body = chat_bytes.plain(shape)
        return
    made.events = chat_bytes.stream(shape)
    fault = call.fault
    if fault is not None and fault.breaks_stream:
        made.usage = _billed_until(shape, fault.after_events)
        made.events = sse.broken(made.events, fault.after_events, sse.chat_failure(fault, call.request_id))
    if steer is not NO_STEERING:
        made.events = sse.dressed(made.events, steer)


def _render_rich(made: Answer, told: Rich, call: Call, streamed: bool, steer: Steering) -> None:
    if not streamed:
        made.body = chat_rich.plain(told)
        return
    made.events = chat_rich.stream(told)
    fault = call.fault
    if fault is not None and fault.breaks_stream:
        if fault.after_events <= 1 + told.shape.choices:
            made.usage = None
        made.events = sse.broken(made.events, fault.after_events, sse.chat_failure(fault, call.request_id))
    made.events = sse.dressed(made.events, steer)


def _billed_until(shape: ChatShape, events: int) -> Usage | None:
    """What is billed for a stream that breaks after so many events: nothing before content, then its part."""
    sent = chat_bytes.content_events(shape, events)
    if sent == 0:
        return None
    everything = len(chat_bytes.pieces(shape.text_tokens, shape.chunks)) * shape.choices
    visible = shape.usage.completion - shape.usage.reasoning
    completion = shape.usage.reasoning + -(-visible * sent // everything)
    return msgspec.structs.replace(shape.usage, completion=completion)


def _count(messages: list[Message]) -> Counted:
    counted = Counted()
    chars, called = 0, False
    for message in messages:
        content = message.content
        if isinstance(content, list):
            content = _count_parts(content, counted)
        if content is not None:
            chars += len(content)
            if message.role == "user":
                counted.last = content
        if message.tool_calls:
            called = True
            chars += sum(len(call) for call in message.tool_calls)
        elif message.role == "tool" and not called:
            text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            raise errors.invalid(f"Invalid parameter: {text}", param="messages")
    counted.chars = chars
    return counted


def _count_parts(parts: list[Part], counted: Counted) -> str:
    """Count the images and sounds of a message; its texts joined."""
    texts: list[str] = []
    for part in parts:
        if part.text is not None:
            texts.append(part.text)
        if part.type == "image_url":
            image = part.image_url or ImageUrl()
            counted.images += image_tokens(image.url, image.detail)
        elif part.type == "input_audio" and part.input_audio is not None:
            counted.sounds += sound_tokens(part.input_audio.data)
    return "".join(texts)


def _check(request: ChatRequest, deployment: Deployment, call: Call) -> int | None:
    """The caller's cap on completion tokens of each choice; raises the 400 of a request that is refused."""
    if not request.messages:
        raise errors.invalid("[] is too short - 'messages'", param="messages")
    if request.unknown:
        _check_unknown(request, call)
    if request.n is not None and not 1 <= request.n <= MAX_CHOICES:
        raise errors.invalid(f"'n' must be between 1 and {MAX_CHOICES}.", "invalid_value", "n")
    if request.stream_options is not None and not request.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise errors.invalid(message, param="stream_options")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise errors.invalid(message, "invalid_parameter_combination", "max_tokens")
    if deployment.reasoning:
        _check_reasoning(request)
    if request.tools is not None or request.tool_choice or request.service_tier is not None:
        _check_rare(request)
    cap = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    if cap is not None and cap < 1:
        name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        message = f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {cap} instead."
        raise errors.invalid(message, "integer_below_min_value", name)
    return cap


def _check_rare(request: ChatRequest) -> None:
    if request.tools is not None:
        if not 1 <= len(request.tools) <= MAX_TOOLS:
            raise errors.invalid(f"Invalid 'tools': between 1 and {MAX_TOOLS} are possible.", param="tools")
    elif bytes(request.tool_choice) not in (b"", b"null"):
        message = "'tool_choice' is only allowed when 'tools' are specified."
        raise errors.invalid(message, param="tool_choice")
    if request.service_tier is not None and request.service_tier not in TIERS:
        message = f"Invalid value: '{request.service_tier}'. Supported values are: {', '.join(TIERS)}."
        raise errors.invalid(message, "invalid_value", "service_tier")


def _check_unknown(request: ChatRequest, call: Call) -> None:
    """What `/models` does with fields it does not know: refuse them unless the caller says otherwise."""
    wish = call.caller.headers.get(b"extra-parameters", b"error").lower()
    if wish not in (b"error", b"drop", b"ignore", b"pass-through"):
        raise errors.invalid("'extra-parameters' must be error, drop or pass-through.", param="extra-parameters")
    if wish == b"error":
        names = ", ".join(request.unknown)
        message = f"Extra parameters {names} are not allowed when extra-parameters is not set or set to be 'error'."
        raise errors.FoundryError(400, errors.azure("Bad Request", message))


def _check_reasoning(request: ChatRequest) -> None:
    if request.max_tokens is not None:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        raise errors.invalid(message, "unsupported_parameter", "max_tokens")
    for name in ("temperature", "top_p"):
        value: float | None = getattr(request, name)
        if value is not None and value != 1:
            message = (
                f"Unsupported value: '{name}' does not support {value:g} with this model. "
                "Only the default (1) value is supported."
            )
            raise errors.invalid(message, "unsupported_value", name)
    for name in ("presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"):
        if getattr(request, name):
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise errors.invalid(message, "unsupported_parameter", name)
