"""The system prompt and turns of a Messages request as messages of chat completions."""

import msgspec

from services.proxy.domain.translate.wire import Json, inexpressible, is_object, malformed, quoted

BILLING_NOTE = "x-anthropic-billing-header:"
"""How a line begins that Claude Code puts before the system prompt for Anthropic's books. It changes with every call,
so that no cached prompt would ever be hit."""
PARAGRAPH = "\n\n"
FILE_NAME = "document.pdf"


class _Source(msgspec.Struct, frozen=True):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: "str | list[MessageBlock] | None" = None


class MessageBlock(msgspec.Struct, frozen=True):
    """A content block of any type."""

    type: str
    text: str | None = None
    source: _Source | str | None = None
    title: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    tool_use_id: str | None = None
    content: msgspec.Raw = msgspec.Raw()


class MessageTurn(msgspec.Struct, frozen=True):
    """One turn of a Messages request."""

    role: str
    content: str | list[MessageBlock]


_tool_content = msgspec.json.Decoder(str | list[MessageBlock] | None)


def chat_messages(system: str | list[MessageBlock] | None, turns: list[MessageTurn]) -> list[Json]:
    """All messages of the chat. Raises BadRequest."""
    messages: list[Json] = []
    prompt = _plain_text(system, "system")
    if prompt:
        messages.append({"role": "system", "content": prompt})
    for at, turn in enumerate(turns):
        field = f"messages[{at}]"
        match turn.role:
            case "user":
                messages += _user(turn.content, field)
            case "assistant":
                messages += _assistant(turn.content, field)
            case "system":
                messages.append({"role": "system", "content": _plain_text(turn.content, field)})
            case _:
                malformed(field, f"{field} has the unknown role '{quoted(turn.role)}'. Use user or assistant.")
    if not any(message["role"] != "system" for message in messages):
        malformed("messages", "'messages' must hold at least one turn.")
    return messages


def _plain_text(content: str | list[MessageBlock] | None, field: str) -> str:
    if content is None or isinstance(content, str):
        return _without_billing(content or "")
    texts = [_without_billing(_text(block, f"{field}[{at}]")) for at, block in enumerate(content)]
    return PARAGRAPH.join(text for text in texts if text)


def _without_billing(text: str) -> str:
    return text.partition("\n")[2].lstrip("\n") if text.startswith(BILLING_NOTE) else text


def _text(block: MessageBlock, field: str) -> str:
    if block.type != "text":
        inexpressible(field, f"{field}: only text can stand here, not '{quoted(block.type)}'.")
    if block.text is None:
        malformed(field, f"{field} has no text.")
    return block.text


def _user(content: str | list[MessageBlock], field: str) -> list[Json]:
    """Tool results come first, each a message of its own; what they hold beside text follows as the user's."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    pictures: list[Json] = []
    parts: list[Json] = []
    for at, block in enumerate(content):
        where = f"{field}.content[{at}]"
        if block.type == "tool_result":
            result, beside = _tool_result(block, where)
            results.append(result)
            pictures += beside
        else:
            parts += _parts(block, where)
    parts = pictures + parts
    if not parts and results:
        return results
    return [*results, {"role": "user", "content": _content(parts)}]


def _content(parts: list[Json]) -> object:
    """Parts as they are, a single text as a string: not every model takes lists."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _tool_result(block: MessageBlock, field: str) -> tuple[Json, list[Json]]:
    """The message of a tool, and the parts that such a message cannot hold."""
    if not block.tool_use_id:
        malformed(field, f"{field}: a tool_result needs 'tool_use_id'.")
    content = _tool_content.decode(block.content) if block.content else None
    if content is None or isinstance(content, str):
        return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content or ""}, []
    parts = [part for at, inner in enumerate(content) for part in _parts(inner, f"{field}.content[{at}]")]
    texts = [str(part["text"]) for part in parts if part["type"] == "text"]
    beside = [part for part in parts if part["type"] != "text"]
    if beside:
        texts.append("(What else the tool returned follows in the next user message.)")
        said: Json = {"type": "text", "text": f"From the result of the tool call {block.tool_use_id}:"}
        beside = [said, *beside]
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": "\n".join(texts)}, beside


def _parts(block: MessageBlock, field: str) -> list[Json]:
    match block.type:
        case "text":
            text = _text(block, field)
            return [{"type": "text", "text": text}] if text else []
        case "image":
            return [_image(block.source, field)]
        case "document":
            return _document(block, field)
        case _:
            return inexpressible(
                field, f"{field}: blocks of type '{quoted(block.type)}' are known to Claude deployments only."
            )


def _image(source: _Source | str | None, field: str) -> Json:
    match source:
        case _Source(type="base64"):
            url = f"data:{source.media_type};base64,{source.data}"
        case _Source(type="url"):
            url = source.url
        case _:
            inexpressible(field, f"{field}: an image must come as base64 or as a URL; files by id are not known here.")
    return {"type": "image_url", "image_url": {"url": url}}


def _document(block: MessageBlock, field: str) -> list[Json]:
    match block.source:
        case _Source(type="base64", media_type="application/pdf", data=data):
            file = {"filename": block.title or FILE_NAME, "file_data": f"data:application/pdf;base64,{data}"}
            return [{"type": "file", "file": file}]
        case _Source(type="text", data=data):
            return [{"type": "text", "text": f"{block.title}{PARAGRAPH}{data}" if block.title else data}]
        case _Source(type="content", content=str() as text):
            return [{"type": "text", "text": text}]
        case _Source(type="content", content=list() as blocks):
            inner = [(at, part) for at, part in enumerate(blocks) if part.type in ("text", "image")]
            if len(inner) < len(blocks):
                malformed(field, f"{field}: the content of a document is text and images.")
            return [part for at, said in inner for part in _parts(said, f"{field}.source.content[{at}]")]
        case _:
            return inexpressible(
                field,
                f"{field}: a document must come as a PDF in base64, as text or as content, not by URL or id.",
            )


def _assistant(content: str | list[MessageBlock], field: str) -> list[Json]:
    """The assistant's message. Thinking stays behind: chat completions do not take it back."""
    if isinstance(content, str):
        return [{"role": "assistant", "content": content}]
    texts: list[str] = []
    calls: list[Json] = []
    for at, block in enumerate(content):
        where = f"{field}.content[{at}]"
        match block.type:
            case "thinking" | "redacted_thinking":
                pass
            case "text":
                texts.append(_text(block, where))
            case "tool_use":
                calls.append(_call(block, where))
            case _:
                inexpressible(where, f"{where}: blocks of type '{quoted(block.type)}' are known to Claude only.")
    if not texts and not calls:
        return []
    message: Json = {"role": "assistant", "content": "".join(texts) if texts else None}
    if calls:
        message["tool_calls"] = calls
    return [message]


def _call(block: MessageBlock, field: str) -> Json:
    if not block.id or not block.name or not is_object(block.input):
        malformed(field, f"{field}: a tool_use needs 'id', 'name' and 'input', an object.")
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": bytes(block.input).decode()},
    }
