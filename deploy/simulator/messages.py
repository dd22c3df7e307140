"""Claude's Messages API: what a request may say, what is refused, and the answer; and the counting of tokens."""

import base64
import re
from typing import Any

import msgspec

from deploy.simulator import catalogue, errors, messages_events, schema, sse
from deploy.simulator.answers import Answer, Call
from deploy.simulator.chat_bytes import WORDS, answer_text
from deploy.simulator.deployments import Deployment
from deploy.simulator.errors import FoundryError
from deploy.simulator.messages_events import Spoken
from deploy.simulator.pictures import png_size
from deploy.simulator.usage import TOKENS_PER_MESSAGE, Steering, Usage, steering, text_tokens, text_usage

VERSION_PATTERN = re.compile(rb"\d{4}-\d{2}-\d{2}\Z")
PIXELS_PER_TOKEN = 750
UNKNOWN_IMAGE_TOKENS = 1_334
MAX_IMAGE_TOKENS = 1_600
MIN_THINKING_BUDGET = 1_024
TOOLS_TOKENS = 346
FORCED_TOOLS_TOKENS = 313
PNG_HEAD_CHARS = 64

COUNTED_FIELDS = frozenset({
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "mcp_servers",
    "cache_control",
})  # fmt: skip
FIELDS = COUNTED_FIELDS | {
    "max_tokens", "metadata", "stop_sequences", "stream", "temperature", "top_k", "top_p", "service_tier",
    "container", "context_management", "inference_geo",
}  # fmt: skip
"""Fields a request may have; any other is an extra input."""


class Source(msgspec.Struct):
    """Where an image or document is."""

    type: str = ""
    data: str = ""
    url: str = ""
    media_type: str = ""


class Block(msgspec.Struct):
    """One content block of any kind."""

    type: str = "text"
    text: str | None = None
    source: Source | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    tool_use_id: str | None = None
    content: "str | list[Block] | None" = None
    cache_control: dict[str, Any] | None = None


class Message(msgspec.Struct):
    """One message of the conversation."""

    role: str
    content: str | list[Block]


class Tool(msgspec.Struct):
    """One tool."""

    name: str = ""
    type: str | None = None
    description: str = ""
    input_schema: msgspec.Raw = msgspec.Raw(b"")
    cache_control: dict[str, Any] | None = None


class ToolChoice(msgspec.Struct):
    """Whether a tool must be called."""

    type: str = "auto"
    name: str | None = None


class Thinking(msgspec.Struct):
    """Whether thinking is shown, and how much."""

    type: str = "disabled"
    budget_tokens: int | None = None


class MessagesRequest(msgspec.Struct):
    """The fields of a request that decide anything here. `counts`: only the tokens are wanted."""

    messages: list[Message]
    model: str | None = None
    max_tokens: int | None = None
    system: str | list[Block] | None = None
    stream: bool | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    temperature: float | None = None
    stop_sequences: list[str] | None = None
    counts: bool = msgspec.field(default=False, name=" counts")

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream is True

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        version = call.caller.headers.get(b"anthropic-version")
        if version is None:
            raise _wrong("anthropic-version: header is required")
        if VERSION_PATTERN.match(version) is None:
            raise _wrong(f"anthropic-version: {version.decode('latin-1')!r} is not a valid version")
        if not deployment.claude:
            raise errors.api_not_supported()
        _check(self)
        if self.counts:
            body = b'{"input_tokens":%d}' % _count(self)[0]
            return Answer(id="", usage=None, body=body)
        return _answer(self, deployment, call)


def _wrong(message: str) -> FoundryError:
    return FoundryError(400, errors.azure("invalid_request_error", message))


def parse(body: bytes, content_type: bytes = b"") -> MessagesRequest:
    """The request of these bytes; raises a 400."""
    return _decode(body, FIELDS)


def parse_count(body: bytes, content_type: bytes = b"") -> MessagesRequest:
    """The request of a count of tokens; raises a 400."""
    request = _decode(body, COUNTED_FIELDS)
    request.counts = True
    return request


def _decode(body: bytes, known: frozenset[str]) -> MessagesRequest:
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong("The request body is not valid JSON.") from error
    extra = sorted(fields.keys() - known)
    if extra:
        raise _wrong(f"{extra[0]}: Extra inputs are not permitted")
    if "messages" not in fields:
        raise _wrong("messages: Field required")
    try:
        return msgspec.json.decode(body, type=MessagesRequest)
    except msgspec.ValidationError as error:
        text = str(error)
        at = text.rpartition("$.")[2].rstrip("`") if "$." in text else "body"
        raise _wrong(f"{at}: {text}") from error


def _check(request: MessagesRequest) -> None:
    if not request.messages:
        raise _wrong("messages: at least one message is required")
    if request.messages[0].role != "user":
        raise _wrong("messages: first message must use the `user` role")
    if not request.counts:
        if request.max_tokens is None:
            raise _wrong("max_tokens: Field required")
        if request.max_tokens < 1:
            raise _wrong("max_tokens: Input should be greater than or equal to 1")
    if request.temperature is not None and not 0 <= request.temperature <= 1:
        raise _wrong("temperature: range: 0..1")
    _check_thinking(request)
    used = set[str]()
    for number, message in enumerate(request.messages):
        if message.role not in ("user", "assistant"):
            raise _wrong(f"messages.{number}.role: Input should be 'user' or 'assistant'")
        blocks = message.content if isinstance(message.content, list) else []
        for place, block in enumerate(blocks):
            _check_block(block, f"messages.{number}.content.{place}", used)
        if message.role == "assistant":
            used = {block.id for block in blocks if block.type == "tool_use" and block.id}
    for place, block in enumerate(request.system if isinstance(request.system, list) else []):
        _check_cache(block.cache_control, f"system.{place}")
    for place, tool in enumerate(request.tools or []):
        _check_cache(tool.cache_control, f"tools.{place}")


def _check_thinking(request: MessagesRequest) -> None:
    thinking = request.thinking
    if thinking is None or thinking.type != "enabled":
        return
    budget = thinking.budget_tokens
    if budget is None or budget < MIN_THINKING_BUDGET:
        raise _wrong(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {MIN_THINKING_BUDGET}")
    if request.max_tokens is not None and budget >= request.max_tokens:
        raise _wrong("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if request.temperature not in (None, 1):
        raise _wrong("`temperature` may only be set to 1 when thinking is enabled.")


def _check_block(block: Block, place: str, used: set[str]) -> None:
    _check_cache(block.cache_control, place)
    if block.type == "tool_result" and block.tool_use_id not in used:
        raise _wrong(
            f"{place}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each `tool_result` "
            "block must have a corresponding `tool_use` block in the previous message."
        )
    if block.type == "text" and not block.text:
        raise _wrong(f"{place}: text content blocks must be non-empty")


def _check_cache(control: dict[str, Any] | None, place: str) -> None:
    if control is None:
        return
    extra = sorted(control.keys() - {"type", "ttl"})
    if extra:
        raise _wrong(f"{place}.cache_control.ephemeral.{extra[0]}: Extra inputs are not permitted")
    if control.get("ttl", "5m") not in ("5m", "1h"):
        raise _wrong(f"{place}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'")


def _count(request: MessagesRequest) -> tuple[int, str | None]:
    """Prompt tokens, and the text of the last user message that has any."""
    chars, images, last = 0, 0, None
    system = request.system or ""
    chars += len(system) if isinstance(system, str) else sum(len(block.text or "") for block in system)
    for message in request.messages:
        size, tokens, text = _count_content(message.content)
        chars, images = chars + size, images + tokens
        if message.role == "user" and text:
            last = text
    total = text_tokens(chars) + images + TOKENS_PER_MESSAGE * len(request.messages)
    if request.tools:
        forced = request.tool_choice is not None and request.tool_choice.type in ("any", "tool")
        total += FORCED_TOOLS_TOKENS if forced else TOOLS_TOKENS
        total += sum(text_tokens(len(t.name) + len(t.description) + len(t.input_schema)) for t in request.tools)
    return max(1, total), last


def _count_content(content: str | list[Block]) -> tuple[int, int, str]:
    """Characters, image tokens, and the text of a message's content."""
    if isinstance(content, str):
        return len(content), 0, content
    chars = images = 0
    texts: list[str] = []
    for block in content:
        if block.text is not None:
            texts.append(block.text)
        chars += len(block.thinking or "") + len(block.input)
        if block.type == "image" and block.source is not None:
            images += image_tokens(block.source)
        if block.content is not None:
            inner = _count_content(block.content)
            chars, images = chars + inner[0], images + inner[1]
            texts.append(inner[2])
    text = "".join(texts)
    own = sum(len(block.text or "") for block in content)
    return chars + own, images, text


def image_tokens(source: Source) -> int:
    """Tokens of an image: its pixels by 750, as far as an inline PNG tells them."""
    try:
        size = png_size(base64.b64decode(source.data[:PNG_HEAD_CHARS]))
    except ValueError:
        size = None
    if size is None:
        return UNKNOWN_IMAGE_TOKENS
    return max(1, min(MAX_IMAGE_TOKENS, size[0] * size[1] // PIXELS_PER_TOKEN))


def _answer(request: MessagesRequest, deployment: Deployment, call: Call) -> Answer:
    prompt, last = _count(request)
    steer = steering(last, call.caller.usage)
    cap = request.max_tokens or 1
    usage, each, cut = text_usage(steer, prompt, cap)
    usage = msgspec.structs.replace(usage, reasoning=0)
    spoken = _spoken(request, deployment, call, steer, usage, each, cut)
    made = Answer(
        id=spoken.id,
        usage=spoken.usage,
        charged=prompt + cap,
        charged_output=cap,
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )
    if not request.streamed:
        made.body = msgspec.json.encode(messages_events.whole(spoken))
        return made
    made.events = messages_events.stream(spoken)
    fault = call.fault
    if fault is not None and fault.breaks_stream:
        made.usage = messages_events.billed_until(spoken, fault.after_events)
        made.events = sse.broken(made.events, fault.after_events, sse.anthropic_failure(fault))
    made.events = sse.dressed(made.events, steer)
    return made


def _spoken(
    request: MessagesRequest, deployment: Deployment, call: Call, steer: Steering, usage: Usage, each: int, cut: bool
) -> Spoken:
    thinks = steer.thinking > 0 or (request.thinking is not None and request.thinking.type in ("enabled", "adaptive"))
    thought = min(max(steer.thinking, steer.reasoning, 4), max(0, each - 1)) if thinks else 0
    text, words = answer_text(each - thought), each - thought
    reason = "max_tokens" if cut else "end_turn"
    stopped: str | None = None
    calls = _calls(request, steer)
    if steer.refuse or steer.filter:
        reason, calls = "refusal", []
        text = answer_text(min(words, 2))
    elif steer.window:
        reason = "model_context_window_exceeded"
    elif steer.pause:
        reason = "pause_turn"
    elif calls and not cut:
        reason = "tool_use"
    elif request.stop_sequences:
        hits = [(text.find(one), one) for one in request.stop_sequences if one and one in text]
        if hits:
            at, stopped = min(hits)
            text, reason = text[:at], "stop_sequence"
            usage = msgspec.structs.replace(usage, completion=thought + len(text.split()))
    return Spoken(
        id="msg_" + call.serial,
        serial=call.serial,
        model=catalogue.CLAUDE_IDS.get(deployment.model, deployment.model),
        usage=usage,
        with_usage=call.with_usage and not steer.no_usage,
        thinking=" ".join(WORDS[i % len(WORDS)] for i in range(min(thought, len(WORDS)))) if thinks else None,
        text=text if not calls or words > 1 else "",
        calls=calls if reason == "tool_use" else [],
        stop_reason=reason,
        stop_sequence=stopped,
        chunks=steer.chunks,
        partial=bool(steer.partial),
    )


def _calls(request: MessagesRequest, steer: Steering) -> list[tuple[str, object]]:
    """Names and inputs of the tool calls that are made."""
    tools = [tool for tool in request.tools or [] if tool.input_schema]
    choice = request.tool_choice or ToolChoice()
    count = steer.tool or (1 if choice.type in ("any", "tool") else 0)
    if choice.type == "none" or not tools:
        return []
    if choice.type == "tool":
        tools = [tool for tool in tools if tool.name == choice.name] or tools
    turns = [tools[i % len(tools)] for i in range(count)]
    return [(tool.name, schema.example(tool.input_schema)) for tool in turns]
