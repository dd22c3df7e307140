"""Response objects and the events of their streams."""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from deploy.simulator import chat_bytes, schema, sse
from deploy.simulator.chat_bytes import answer_text
from deploy.simulator.chat_rich import ARGUMENT_PIECE, REFUSAL, SAFE
from deploy.simulator.faults import Fault
from deploy.simulator.usage import CHARS_PER_TOKEN, Usage

SUMMARY = "The strand is drawn at an even pace."
ECHOED: dict[str, object] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}
"""Fields of a response that repeat the request's, with what stands there when it has none."""
RESULTS = {"hate": SAFE, "self_harm": SAFE, "sexual": SAFE, "violence": SAFE}


class Made(msgspec.Struct, kw_only=True):
    """All that decides a response. `calls`: names and arguments of its function calls. `request`: its fields."""

    id: str
    serial: str
    created: int
    model: str
    request: dict[str, msgspec.Raw]
    usage: Usage
    with_usage: bool
    text_tokens: int
    chunks: int | None
    cut: bool
    filtered: bool
    refused: bool
    json: bool
    schema: msgspec.Raw
    calls: list[tuple[str, str]]
    reasons: bool
    summary: bool
    encrypted: bool
    background: bool
    tier: str

    @property
    def status(self) -> str:
        """How it ends."""
        return "incomplete" if self.cut or self.filtered else "completed"

    def call_ids(self) -> list[str]:
        """The ids by which its calls are answered."""
        return [f"call_{self.serial}{number:02x}" for number in range(len(self.calls))]

    def text(self) -> str:
        """Its visible text."""
        if self.json:
            text = msgspec.json.encode(schema.example(self.schema) or {"answer": "launder"}).decode()
            return text[: self.text_tokens * CHARS_PER_TOKEN] if self.cut else text
        text = answer_text(self.text_tokens)
        return text[: len(text) // 2] if self.filtered else text


def usage_object(usage: Usage) -> dict[str, object]:
    """The `usage` of a response."""
    inside: dict[str, int] = {"cached_tokens": usage.cached}
    if usage.cache_write or usage.cache_write_1h:
        inside["cache_write_tokens"] = usage.cache_write + usage.cache_write_1h
    if usage.image_prompt:
        inside["image_tokens"] = usage.image_prompt
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": inside,
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def _reasoning(made: Made) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": SUMMARY}] if made.summary else []
    item: dict[str, Any] = {"id": f"rs_{made.serial}", "type": "reasoning", "summary": summary}
    if made.encrypted:
        item["encrypted_content"] = base64.b64encode(made.serial.encode()).decode()
    return item


def _part(made: Made) -> dict[str, Any]:
    if made.refused:
        return {"type": "refusal", "refusal": REFUSAL}
    return {"type": "output_text", "text": made.text(), "annotations": [], "logprobs": []}


def _message(made: Made) -> dict[str, Any]:
    status = made.status
    item = {"id": f"msg_{made.serial}", "type": "message", "status": status, "role": "assistant"}
    return {**item, "content": [_part(made)]}


def _call(made: Made, number: int) -> dict[str, Any]:
    name, arguments = made.calls[number]
    return {
        "id": f"fc_{made.serial}{number:02x}",
        "type": "function_call",
        "status": "completed",
        "arguments": arguments,
        "call_id": made.call_ids()[number],
        "name": name,
    }


def output(made: Made) -> list[dict[str, Any]]:
    """The output items of a response that has ended."""
    first = [_reasoning(made)] if made.reasons else []
    if made.calls:
        return [*first, *(_call(made, number) for number in range(len(made.calls)))]
    if made.cut and made.text_tokens == 0:
        return first
    return [*first, _message(made)]


def _filters(made: Made) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for source in ("prompt", "completion"):
        blocked = source == "completion" and made.filtered
        results = {**RESULTS, "violence": {"filtered": True, "severity": "medium"}} if blocked else dict(RESULTS)
        if source == "prompt":
            results["jailbreak"] = {"filtered": False, "detected": False}
        found.append(
            {
                "blocked": blocked,
                "source_type": source,
                "content_filter_raw": [],
                "content_filter_results": results,
                "content_filter_offsets": {"start_offset": 0, "end_offset": 6, "check_offset": 0},
            }
        )
    return found


def _echo(made: Made) -> dict[str, object]:
    return {name: made.request.get(name, default) for name, default in ECHOED.items()}


def _frame(made: Made, status: str) -> dict[str, object]:
    reasoning: dict[str, object] = {"effort": None, "summary": None}
    if "reasoning" in made.request:
        reasoning |= msgspec.json.decode(made.request["reasoning"], type=dict[str, object] | None) or {}
    return {
        "id": made.id,
        "object": "response",
        "created_at": made.created,
        "status": status,
        "background": made.background,
        "completed_at": None,
        "content_filters": None,
        "error": None,
        "incomplete_details": None,
        "model": made.model,
        "output": [],
        **_echo(made),
        "reasoning": reasoning,
        "service_tier": made.tier if status in ("completed", "incomplete") else "auto",
        "text": made.request.get("text", {"format": {"type": "text"}}),
        "usage": None,
    }


def unfinished(made: Made, status: str) -> dict[str, object]:
    """A response under way, or cancelled: no output, no usage."""
    return _frame(made, status)


def whole(made: Made) -> dict[str, object]:
    """A response that has ended."""
    body = _frame(made, made.status)
    body["completed_at"] = made.created
    body["content_filters"] = _filters(made)
    body["output"] = output(made)
    if made.status == "incomplete":
        reason = "content_filter" if made.filtered else "max_output_tokens"
        body["incomplete_details"] = {"reason": reason}
        body["completed_at"] = None
    if made.with_usage:
        body["usage"] = usage_object(made.usage)
    return body


def stream(made: Made, named: bool, done: bool) -> Iterator[bytes]:
    """The events of a stream, `named` by `event:` lines, with `[DONE]` at its end when `done`."""
    for number, data in enumerate(_events(made)):
        yield _event({"type": data["type"], "sequence_number": number, **data}, named)
    if done:
        yield sse.DONE


def _event(data: dict[str, Any], named: bool) -> bytes:
    return sse.event(data, data["type"] if named else None)


def _events(made: Made) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": unfinished(made, "in_progress")}
    if made.background:
        yield {"type": "response.queued", "response": unfinished(made, "queued")}
    yield {"type": "response.in_progress", "response": unfinished(made, "in_progress")}
    for index, item in enumerate(output(made)):
        place = {"output_index": index}
        yield {"type": "response.output_item.added", **place, "item": _begun(item)}
        inner = {"item_id": item["id"], **place}
        if item["type"] == "reasoning":
            yield from _reasoning_events(item, inner)
        elif item["type"] == "function_call":
            yield from _call_events(item, inner)
        else:
            yield from _text_events(made, item, inner)
        yield {"type": "response.output_item.done", **place, "item": item}
    yield {"type": f"response.{made.status}", "response": whole(made)}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is added: empty."""
    match item["type"]:
        case "reasoning":
            return {**item, "summary": []}
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
        case _:
            return {**item, "status": "in_progress", "content": []}


def _reasoning_events(item: dict[str, Any], inner: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(item["summary"]):
        place = {**inner, "summary_index": number}
        empty = {**part, "text": ""}
        yield {"type": "response.reasoning_summary_part.added", **place, "part": empty}
        yield {"type": "response.reasoning_summary_text.delta", **place, "delta": part["text"], "obfuscation": "q"}
        yield {"type": "response.reasoning_summary_text.done", **place, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **place, "part": part}


def _call_events(item: dict[str, Any], inner: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind, arguments = "response.function_call_arguments", item["arguments"]
    for at in range(0, len(arguments), ARGUMENT_PIECE):
        piece = arguments[at : at + ARGUMENT_PIECE]
        yield {"type": f"{kind}.delta", **inner, "delta": piece, "obfuscation": "aZ3"}
    yield {"type": f"{kind}.done", **inner, "arguments": arguments, "name": item["name"]}


def _text_events(made: Made, item: dict[str, Any], inner: dict[str, Any]) -> Iterator[dict[str, Any]]:
    (part,) = item["content"]
    place = {**inner, "content_index": 0}
    field = "refusal" if made.refused else "text"
    kind = "response.refusal" if made.refused else "response.output_text"
    yield {"type": "response.content_part.added", **place, "part": {**part, field: ""}}
    more: dict[str, Any] = {} if made.refused else {"logprobs": []}
    for piece in _pieces(made):
        yield {"type": f"{kind}.delta", **place, "delta": piece, **more, "obfuscation": "pQ7"}
    yield {"type": f"{kind}.done", **place, field: part[field], **more}
    yield {"type": "response.content_part.done", **place, "part": part}


def _pieces(made: Made) -> tuple[str, ...]:
    if made.refused or made.json or made.filtered:
        return (REFUSAL if made.refused else made.text(),)
    return tuple(msgspec.json.decode(one) for one in chat_bytes.pieces(made.text_tokens, made.chunks))


def failure(made: Made, fault: Fault, named: bool) -> list[bytes]:
    """How a stream ends in an error: in Azure's order the failed response, then the error."""
    number = fault.after_events
    failed: dict[str, Any] = {
        "type": "response.failed",
        "response": {
            "id": made.id,
            "object": "response",
            "status": "failed",
            "error": None,
            "output": [],
            "usage": None,
        },
    }
    error: dict[str, Any] = {
        "type": "error",
        "error": {
            "type": "too_many_requests",
            "code": "rate_limit_exceeded",
            "headers": {"x-ms-fe-error": "true"},
            "message": "Your requests to the deployment have exceeded rate limit.",
            "param": None,
        },
    }
    given = fault.body_bytes()
    if given is not None:
        error["error"] = msgspec.Raw(given)
    both = [error, failed] if fault.kind == "responses_error_first" else [failed, error]
    return [
        _event({"type": one["type"], "sequence_number": number + place, **one}, named) for place, one in enumerate(both)
    ]


def billed_until(made: Made, events: int) -> Usage | None:
    """What is billed of a stream that breaks after so many events: nothing before output, then its part."""
    kinds = [str(data["type"]) for data in _events(made)]
    deltas = [kind.endswith(".delta") for kind in kinds]
    sent, everything = sum(deltas[:events]), sum(deltas)
    if sent == 0:
        return None
    visible = made.usage.completion - made.usage.reasoning
    completion = made.usage.reasoning + -(-visible * sent // everything)
    return msgspec.structs.replace(made.usage, completion=completion)
