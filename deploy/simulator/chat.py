"""Chat completions: what a request may say, what is refused, and the answer."""

import msgspec

from deploy.simulator import chat_bytes, errors
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.chat_bytes import ChatShape
from deploy.simulator.deployments import Deployment
from deploy.simulator.usage import (
    TOKENS_PER_IMAGE,
    TOKENS_PER_MESSAGE,
    Usage,
    chat_usage,
    steering,
    text_tokens,
)

MAX_CHOICES = 128
DEFAULT_CHARGE = 16


class Part(msgspec.Struct):
    """One part of a message's content."""

    type: str = ""
    text: str | None = None


class Message(msgspec.Struct):
    """One message of the conversation."""

    role: str
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    """How a stream is sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(msgspec.Struct):
    """The fields of a chat request that decide anything here; all others are accepted and ignored."""

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

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream is True

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _answer(self, deployment, call)


def parse(body: bytes) -> ChatRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, ChatRequest)


def _answer(request: ChatRequest, deployment: Deployment, call: Call) -> Answer:
    if deployment.claude:
        raise errors.api_not_supported()
    if not deployment.chats:
        raise errors.wrong_operation("chatCompletion", deployment.model)
    cap = _check(request, deployment)
    chars, images, last = _prompt_size(request.messages)
    steer = steering(last, call.caller.usage)
    counted = text_tokens(chars) + images * TOKENS_PER_IMAGE + TOKENS_PER_MESSAGE * len(request.messages)
    choices = request.n or 1
    usage, each, cut = chat_usage(steer, counted, cap, choices)
    options = request.stream_options or StreamOptions()
    shape = ChatShape(
        id="chatcmpl-" + call.serial,
        created=call.created,
        model_json=deployment.model_json,
        usage=usage,
        text_tokens=each - usage.reasoning // choices,
        choices=choices,
        finish=b"length" if cut else b"stop",
        chunks=steer.chunks,
        include_usage=bool(options.include_usage),
        obfuscate=options.include_obfuscation is not False,
    )
    made = Answer(
        id=shape.id,
        usage=usage,
        charged=counted + (cap or DEFAULT_CHARGE) * choices,
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )
    _render(made, shape, call, request.streamed)
    return made


def _render(made: Answer, shape: ChatShape, call: Call, streamed: bool) -> None:
    fault = call.fault
    with_usage = fault is None or fault.kind != "no_usage"
    if not streamed:
        made.body = chat_bytes.plain(shape, with_usage)
        return
    error: bytes | None = None
    before = 0
    if fault is not None and fault.kind == "midstream_error":
        before = fault.after_events
        error = fault.body_bytes() or msgspec.json.encode(errors.server_error(call.request_id))
        made.usage = _billed_until(shape, before)
    made.events = chat_bytes.stream(shape, with_usage, error, before)


def _billed_until(shape: ChatShape, events: int) -> Usage | None:
    """What is billed for a stream that breaks after so many events: nothing before content, then its part."""
    sent = chat_bytes.content_events(shape, events)
    if sent == 0:
        return None
    everything = len(chat_bytes.pieces(shape.text_tokens, shape.chunks)) * shape.choices
    visible = shape.usage.completion - shape.usage.reasoning
    completion = shape.usage.reasoning + -(-visible * sent // everything)
    return msgspec.structs.replace(shape.usage, completion=completion)


def _prompt_size(messages: list[Message]) -> tuple[int, int, str | None]:
    """Characters of all message texts, number of images, and the text of the last user message."""
    chars = images = 0
    last: str | None = None
    for message in messages:
        content = message.content
        if isinstance(content, list):
            images += sum(1 for part in content if part.type == "image_url")
            content = "".join(part.text for part in content if part.text is not None)
        if content is not None:
            chars += len(content)
            if message.role == "user":
                last = content
    return chars, images, last


def _check(request: ChatRequest, deployment: Deployment) -> int | None:
    """The caller's cap on completion tokens of each choice; raises the 400 of a request that is refused."""
    if not request.messages:
        raise errors.invalid("[] is too short - 'messages'", param="messages")
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
    for name in ("max_tokens", "max_completion_tokens"):
        cap: int | None = getattr(request, name)
        if cap is not None and cap < 1:
            message = f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {cap} instead."
            raise errors.invalid(message, "integer_below_min_value", name)
    return request.max_completion_tokens or request.max_tokens


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
