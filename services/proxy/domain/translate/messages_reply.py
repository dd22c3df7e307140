"""A chat completion as a message of Claude's."""

import msgspec

from services.proxy.domain.translate.outcome import claude_usage, stop_reason
from services.proxy.domain.translate.wire import Json, Untranslatable, encode, is_object, upstream_json

NOT_JSON = "invalid_json"
"""The one field of a tool's input when the model wrote arguments that are no JSON object; its value is their text."""


class Part(msgspec.Struct, frozen=True):
    """A part of a content that is a list, as some models send it."""

    type: str = ""
    text: str | None = None


class Function(msgspec.Struct, frozen=True):
    """What a tool call calls; in a stream, a piece of it."""

    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, frozen=True):
    id: str | None = None
    function: Function | None = None


class _ChatMessage(msgspec.Struct, frozen=True):
    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _ChatMessage
    finish_reason: str | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    id: str = ""
    usage: msgspec.Raw = msgspec.Raw()


_completion = msgspec.json.Decoder(_Completion)


def to_message_reply(body: bytes, *, model: str, message_id: str | None = None) -> bytes:
    """The message for a chat completion; its id is made from the completion's unless given. Raises Untranslatable."""
    with upstream_json():
        body.decode()
        said = _completion.decode(body)
        if not said.choices:
            raise Untranslatable("the deployment's reply has no choices")
        choice = said.choices[0]
        own_id = message_id or message_id_of(said.id)
        content = _content(choice.message, own_id)
        calls = any(block["type"] == "tool_use" for block in content)
        reply: Json = {
            "id": own_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": stop_reason(choice.finish_reason, calls=calls),
            "stop_sequence": None,
            "usage": claude_usage(said.usage),
        }
        return encode(reply)


def message_id_of(completion_id: str) -> str:
    """The id of the message that a chat completion becomes."""
    return f"msg_{completion_id.removeprefix('chatcmpl-')}"


def call_id(said: str | None, message_id: str, number: int) -> str:
    """The id of a tool call; some deployments send none."""
    return said or f"toolu_{message_id.removeprefix('msg_')}_{number}"


def joined(content: str | list[Part] | None) -> str:
    """The text of a content."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or "" for part in content if part.type == "text")


def tool_input(arguments: str) -> msgspec.Raw:
    """The arguments of a call as an object. The call was paid for, so text that is no object is shown as it is."""
    text = arguments.strip() or "{}"
    try:
        raw = msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raw = msgspec.Raw()
    return raw if is_object(raw) else msgspec.Raw(encode({NOT_JSON: arguments}))


def _content(message: _ChatMessage, message_id: str) -> list[Json]:
    blocks: list[Json] = []
    if message.reasoning_content:
        blocks.append({"type": "thinking", "thinking": message.reasoning_content, "signature": ""})
    text = joined(message.content) + (message.refusal or "")
    if text:
        blocks.append({"type": "text", "text": text})
    for number, call in enumerate(message.tool_calls or ()):
        if call.function is None or not call.function.name:
            raise Untranslatable("the deployment's reply has a tool call without a function")
        made = tool_input(call.function.arguments or "")
        own_id = call_id(call.id, message_id, number)
        blocks.append({"type": "tool_use", "id": own_id, "name": call.function.name, "input": made})
    return blocks
