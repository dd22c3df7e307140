"""A message of Claude's as a chat completion."""

import msgspec

from services.proxy.domain.translate.chat_tools import JSON_TOOL
from services.proxy.domain.translate.outcome import ClaudeUsage, chat_usage, finish_reason
from services.proxy.domain.translate.wire import Json, Untranslatable, encode, is_object, upstream_json


class Block(msgspec.Struct, frozen=True):
    """A content block of any type; types that a chat completion cannot show are passed over."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw()


class StopDetails(msgspec.Struct, frozen=True):
    """More about a refusal."""

    explanation: str | None = None


class _Message(msgspec.Struct, frozen=True):
    type: str
    content: list[Block]
    id: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    usage: ClaudeUsage | None = None


_message = msgspec.json.Decoder(_Message)


def to_chat_reply(body: bytes, *, model: str, created: int = 0) -> bytes:
    """The chat completion for a message; `created` in Unix seconds. Raises Untranslatable."""
    with upstream_json():
        body.decode()
        said = _message.decode(body)
        if said.type != "message":
            raise Untranslatable("the deployment's reply is no message")
        message, calls = _content(said)
        choice: Json = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": finish_reason(said.stop_reason, calls=calls),
        }
        reply: Json = {
            "id": completion_id(said.id),
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
        }
        usage = chat_usage(said.usage)
        if usage is not None:
            reply["usage"] = usage
        return encode(reply)


def completion_id(message_id: str) -> str:
    """The id of the chat completion that a message becomes."""
    return f"chatcmpl-{message_id.removeprefix('msg_')}"


def thinking_block(block: Block, text: str, signature: str) -> Json:
    """A block of thinking in the form in which the caller can send it back."""
    if block.type == "redacted_thinking":
        return {"type": block.type, "data": block.data}
    return {"type": block.type, "thinking": text, "signature": signature}


def input_text(raw: msgspec.Raw) -> str:
    """The input of a tool as JSON text."""
    if not is_object(raw):
        raise Untranslatable("the deployment's reply has a tool call whose input is no object")
    return bytes(raw).decode()


def _content(said: _Message) -> tuple[Json, bool]:
    """The assistant's message, and whether it calls tools of the caller's. A JSON answer stands alone: text beside it
    would make it no JSON."""
    texts: list[str] = []
    thoughts: list[str] = []
    blocks: list[Json] = []
    calls: list[Json] = []
    answer: str | None = None
    for block in said.content:
        match block.type:
            case "text":
                texts.append(block.text)
            case "thinking" | "redacted_thinking":
                thoughts.append(block.thinking)
                blocks.append(thinking_block(block, block.thinking, block.signature))
            case "tool_use" if block.name == JSON_TOOL:
                answer = input_text(block.input) if answer is None else answer
            case "tool_use":
                function = {"name": block.name, "arguments": input_text(block.input)}
                calls.append({"id": block.id, "type": "function", "function": function})
            case _:
                pass
    refusal = said.stop_details.explanation if said.stop_details else None
    content = "".join(texts) if answer is None else answer
    message: Json = {"role": "assistant", "content": content if content or not calls else None, "refusal": refusal}
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if blocks:
        message["thinking_blocks"] = blocks
    if calls:
        message["tool_calls"] = calls
    return message, bool(calls)
