"""Claude's message objects and the events of their streams."""

import base64
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec

from deploy.simulator import sse
from deploy.simulator.usage import Usage

ARGUMENT_PIECE = 12
DELTAS = frozenset({"content_block_delta"})


class Spoken(msgspec.Struct, kw_only=True):
    """All that decides a message. `calls`: names and inputs of its tool calls. `partial`: the last usage of a
    stream tells the output only."""

    id: str
    serial: str
    model: str
    usage: Usage
    with_usage: bool
    thinking: str | None
    text: str
    calls: list[tuple[str, object]]
    stop_reason: str
    stop_sequence: str | None
    chunks: int | None
    partial: bool

    @property
    def signature(self) -> str:
        """What vouches for the thinking."""
        return base64.b64encode(self.serial.encode()).decode()


def _usage(spoken: Spoken, output: int) -> dict[str, Any]:
    usage = spoken.usage
    return {
        "input_tokens": usage.prompt - usage.cached - usage.cache_write - usage.cache_write_1h,
        "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }


def _blocks(spoken: Spoken) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if spoken.thinking is not None:
        blocks.append({"type": "thinking", "thinking": spoken.thinking, "signature": spoken.signature})
    if spoken.text:
        blocks.append({"type": "text", "text": spoken.text})
    for number, (name, value) in enumerate(spoken.calls):
        blocks.append({"type": "tool_use", "id": f"toolu_{spoken.serial}{number:02x}", "name": name, "input": value})
    return blocks


def _message(spoken: Spoken, blocks: list[dict[str, Any]], reason: str | None, output: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": spoken.id,
        "type": "message",
        "role": "assistant",
        "model": spoken.model,
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": None if reason is None else spoken.stop_sequence,
    }
    if spoken.with_usage:
        message["usage"] = _usage(spoken, output)
    return message


def whole(spoken: Spoken) -> dict[str, Any]:
    """The message."""
    return _message(spoken, _blocks(spoken), spoken.stop_reason, spoken.usage.completion)


def stream(spoken: Spoken) -> Iterator[bytes]:
    """The events of a stream, each named."""
    for data in _events(spoken):
        yield sse.event(data, str(data["type"]))


def _events(spoken: Spoken) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": _message(spoken, [], None, 1)}
    for index, block in enumerate(_blocks(spoken)):
        yield {"type": "content_block_start", "index": index, "content_block": _begun(block)}
        if index == 0:
            yield {"type": "ping"}
        for delta in _deltas(spoken, block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": spoken.stop_reason, "stop_sequence": spoken.stop_sequence},
    }
    if spoken.with_usage:
        usage = _usage(spoken, spoken.usage.completion)
        told = ("output_tokens",) if spoken.partial else (*tuple(usage)[:3], "output_tokens")
        ended["usage"] = {name: usage[name] for name in told}
    yield ended
    yield {"type": "message_stop"}


def _begun(block: dict[str, Any]) -> dict[str, Any]:
    """A block as it begins: empty."""
    match block["type"]:
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case "tool_use":
            return {**block, "input": {}}
        case _:
            return {**block, "text": ""}


def _deltas(spoken: Spoken, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "thinking":
            yield {"type": "thinking_delta", "thinking": block["thinking"]}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use":
            arguments = msgspec.json.encode(block["input"]).decode()
            yield {"type": "input_json_delta", "partial_json": ""}
            for at in range(0, len(arguments), ARGUMENT_PIECE):
                yield {"type": "input_json_delta", "partial_json": arguments[at : at + ARGUMENT_PIECE]}
        case _:
            for piece in _pieces(spoken):
                yield {"type": "text_delta", "text": piece}


def _pieces(spoken: Spoken) -> list[str]:
    """The text a word at a time, or in so many even parts."""
    words = spoken.text.split(" ")
    words = [word if i == 0 else " " + word for i, word in enumerate(words)]
    if spoken.chunks is None:
        return words
    units: list[str] | str = words if spoken.chunks <= len(words) else spoken.text
    parts = max(1, min(spoken.chunks, len(units)))
    cuts = [i * len(units) // parts for i in range(parts + 1)]
    return ["".join(units[start:end]) for start, end in pairwise(cuts)]


def billed_until(spoken: Spoken, events: int) -> Usage | None:
    """What is billed of a stream that breaks after so many events: nothing before content, then its part."""
    deltas = [data["type"] in DELTAS for data in _events(spoken)]
    sent, everything = sum(deltas[:events]), sum(deltas)
    if sent == 0:
        return None
    return msgspec.structs.replace(spoken.usage, completion=-(-spoken.usage.completion * sent // everything))
