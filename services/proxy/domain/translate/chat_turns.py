"""The messages of chat completions as Claude wants them: a system prompt, and turns of blocks that alternate."""

import binascii
import re
from base64 import b64decode

import msgspec

from services.proxy.domain.translate.wire import Json, inexpressible, is_object, malformed, quoted, split_data_url

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
PDF = "application/pdf"
PDF_BASE64 = "JVBERi"
"""How base64 of every PDF begins."""
_NO_BLOCKS: list[Json] = []
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")


class CacheControl(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cache breakpoint; other fields (`scope`) are not known to Foundry and left out."""

    type: str
    ttl: str | None = None


class _ImageUrl(msgspec.Struct, frozen=True):
    url: str


class _File(msgspec.Struct, frozen=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Part(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: _ImageUrl | None = None
    file: _File | None = None
    cache_control: CacheControl | None = None


class _Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str = ""


class _ToolCall(msgspec.Struct, frozen=True):
    id: str
    type: str = "function"
    function: _Function | None = None


class _ThinkingBlock(msgspec.Struct, frozen=True):
    type: str
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of a chat completions request, of any role."""

    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    thinking_blocks: list[_ThinkingBlock] | None = None
    cache_control: CacheControl | None = None
    function_call: msgspec.Raw = msgspec.Raw()
    audio: msgspec.Raw = msgspec.Raw()


class Conversation(msgspec.Struct, frozen=True):
    """`system` and `messages` of a Messages body.

    `unthought`: the turn that the model goes on with called tools without showing its thinking, so that Claude would
    refuse a thinking budget now.
    """

    system: list[Json]
    messages: list[Json]
    unthought: bool


def conversation(messages: list[ChatMessage]) -> Conversation:
    """Sort the messages into system prompt and turns. Raises BadRequest."""
    system: list[Json] = []
    turns: list[tuple[str, list[Json]]] = []
    for at, message in enumerate(messages):
        field = f"messages[{at}]"
        if message.role in ("system", "developer"):
            system += _texts(message, field)
            continue
        role, blocks = _turn(message, field)
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((role, blocks))
    if not turns:
        malformed("messages", "'messages' holds no user message with content, and Claude needs one. Add it.")
    if turns[-1][0] == "assistant":
        _strip_end(turns[-1][1])
    return Conversation(
        system=system,
        messages=[{"role": role, "content": _results_first(blocks)} for role, blocks in turns],
        unthought=_unthought(turns),
    )


def _turn(message: ChatMessage, field: str) -> tuple[str, list[Json]]:
    match message.role:
        case "user":
            return "user", _cached(_blocks(message.content, field), message.cache_control)
        case "assistant":
            return "assistant", _cached(_assistant(message, field), message.cache_control)
        case "tool":
            return "user", [_tool_result(message, field)]
        case "function":
            return inexpressible(
                field, f"{field}: the role 'function' is of the past. Send tool_calls and role 'tool'."
            )
        case _:
            return malformed(field, f"{field} has the unknown role '{quoted(message.role)}'.")


def _texts(message: ChatMessage, field: str) -> list[Json]:
    blocks = _blocks(message.content, field)
    if any(block["type"] != "text" for block in blocks):
        inexpressible(field, f"{field}: a system message can hold text only. Move the rest into a user message.")
    return _cached(blocks, message.cache_control)


def _assistant(message: ChatMessage, field: str) -> list[Json]:
    if is_object(message.function_call) or is_object(message.audio):
        inexpressible(field, f"{field} has 'function_call' or 'audio', which Claude does not know. Send tool_calls.")
    blocks = [block for said in message.thinking_blocks or () if (block := _thought(said)) is not None]
    blocks += _blocks(message.content, field)
    if message.refusal and message.refusal.strip():
        blocks.append({"type": "text", "text": message.refusal})
    return blocks + [_tool_use(call, f"{field}.tool_calls[{at}]") for at, call in enumerate(message.tool_calls or ())]


def _thought(said: _ThinkingBlock) -> Json | None:
    """A thinking block to be sent back; without a signature Claude would refuse it."""
    if said.type == "redacted_thinking" and said.data:
        return {"type": said.type, "data": said.data}
    if said.type == "thinking" and said.signature:
        return {"type": said.type, "thinking": said.thinking or "", "signature": said.signature}
    return None


def _tool_use(call: _ToolCall, field: str) -> Json:
    if call.type != "function" or call.function is None:
        inexpressible(field, f"{field} is no function call. Claude deployments know functions only.")
    arguments = call.function.arguments.strip() or "{}"
    try:
        tool_input = msgspec.json.decode(arguments, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        tool_input = msgspec.Raw()
    if not is_object(tool_input):
        malformed(field, f"{field}: 'arguments' must be the text of a JSON object.")
    return {"type": "tool_use", "id": _tool_id(call.id, field), "name": call.function.name, "input": tool_input}


def _tool_result(message: ChatMessage, field: str) -> Json:
    if message.tool_call_id is None:
        malformed(field, f"{field}: a tool message needs 'tool_call_id'.")
    blocks = _blocks(message.content, field)
    result: Json = {"type": "tool_result", "tool_use_id": _tool_id(message.tool_call_id, field)}
    if blocks:
        result["content"] = blocks
    return _cached([result], message.cache_control)[0]


def _tool_id(text: str, field: str) -> str:
    """An id with only the characters that Claude allows; the same text gives the same id."""
    if not text:
        malformed(field, f"{field}: the id of a tool call is empty.")
    return _NOT_IN_IDS.sub("_", text)


def _blocks(content: str | list[_Part] | None, field: str) -> list[Json]:
    """The blocks of a content; Claude takes no text of nothing but white space, so that is left out."""
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content}] if content and content.strip() else []
    blocks: list[Json] = []
    for at, part in enumerate(content):
        block = _block(part, f"{field}.content[{at}]")
        if block is not None:
            blocks += _cached([block], part.cache_control)
    return blocks


def _block(part: _Part, field: str) -> Json | None:
    match part.type:
        case "text" | "refusal":
            text = part.text if part.type == "text" else part.refusal
            if text is None:
                malformed(field, f"{field} has no text.")
            return {"type": "text", "text": text} if text.strip() else None
        case "image_url":
            if part.image_url is None:
                malformed(field, f"{field} has no 'image_url'.")
            return _image(part.image_url.url, field)
        case "file":
            if part.file is None:
                malformed(field, f"{field} has no 'file'.")
            return _document(part.file, field)
        case _:
            return inexpressible(field, f"{field}: parts of type '{quoted(part.type)}' are not known to Claude.")


def _image(url: str, field: str) -> Json:
    if url[:8].lower().startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    data = split_data_url(url)
    if data is None:
        malformed(field, f"{field}: an image is an http(s) URL or 'data:<type>;base64,<data>'.")
    if data[0] == PDF:
        return _pdf(data[1], None)
    if data[0] not in IMAGE_TYPES:
        inexpressible(field, f"{field}: Claude reads {', '.join(sorted(IMAGE_TYPES))}, not '{quoted(data[0])}'.")
    return {"type": "image", "source": {"type": "base64", "media_type": data[0], "data": data[1]}}


def _document(file: _File, field: str) -> Json:
    if file.file_data is None:
        inexpressible(field, f"{field}: Claude cannot read a file by its id. Send it as 'file_data' in base64.")
    kind, data = split_data_url(file.file_data) or (
        PDF if file.file_data.startswith(PDF_BASE64) else "",
        file.file_data,
    )
    if kind == PDF:
        return _pdf(data, file.filename)
    if kind != "text/plain":
        inexpressible(field, f"{field}: 'file_data' must be a PDF or text, as 'data:application/pdf;base64,<data>'.")
    try:
        text = b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        malformed(field, f"{field}: 'file_data' is no UTF-8 text in base64.")
    source = {"type": "text", "media_type": kind, "data": text}
    return {"type": "document", "source": source, **({"title": file.filename} if file.filename else {})}


def _pdf(data: str, title: str | None) -> Json:
    source = {"type": "base64", "media_type": PDF, "data": data}
    return {"type": "document", "source": source, **({"title": title} if title else {})}


def _cached(blocks: list[Json], cache_control: CacheControl | None) -> list[Json]:
    """The blocks with a cache breakpoint on the last one, if there is one to set and a block that can bear it."""
    if cache_control is None or not blocks or blocks[-1]["type"] in ("thinking", "redacted_thinking"):
        return blocks
    return [*blocks[:-1], {**blocks[-1], "cache_control": cache_control}]


def _results_first(blocks: list[Json]) -> list[Json]:
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _strip_end(blocks: list[Json]) -> None:
    """Claude refuses a beginning of its answer that ends with white space."""
    text = blocks[-1].get("text")
    if isinstance(text, str):
        blocks[-1] = {**blocks[-1], "text": text.rstrip()}


def _unthought(turns: list[tuple[str, list[Json]]]) -> bool:
    last = next((blocks for role, blocks in reversed(turns) if role == "assistant"), _NO_BLOCKS)
    answered = any(block["type"] == "tool_result" for block in turns[-1][1])
    kinds = [block["type"] for block in last]
    return answered and "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")
