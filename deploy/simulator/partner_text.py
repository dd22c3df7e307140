"""Partner models that talk and read: Cohere's chat and parse, Mistral's OCR."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from typing import Any

import msgspec

from deploy.simulator import errors
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.chat_bytes import MAX_ANSWER_WORDS, WORDS
from deploy.simulator.deployments import Deployment
from deploy.simulator.partner import check_vendor, made_answer, meta
from deploy.simulator.usage import DEFAULT_COMPLETION, Usage, steering, text_tokens, text_usage

MAX_PAGES = 1_000
HIDDEN_TOKENS = 66
"""Of Cohere's own preamble: counted in `tokens`, never billed."""
PAGE_PATTERN = re.compile(rb"/Type\s*/Page(?![A-Za-z])")


class CohereMessage(msgspec.Struct):
    """One message of a Cohere conversation."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class CohereChatRequest(msgspec.Struct):
    """The fields of a Cohere chat request that decide anything here."""

    messages: list[CohereMessage]
    model: str | None = None
    max_tokens: int | None = None
    stream: bool | None = None

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream is True

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        check_vendor(deployment, call, "cohere", "chat")
        return _chat(self, call)


class Document(msgspec.Struct):
    """A document to be read, as Mistral and Cohere take it."""

    type: str = "document_url"
    document_url: str | None = None
    image_url: str | dict[str, Any] | None = None
    document_name: str | None = None
    data: str | None = None


class ReadRequest(msgspec.Struct):
    """The fields of an OCR or parse request that decide anything here."""

    document: Document
    model: str | None = None
    pages: list[int] | None = None
    include_image_base64: bool | None = None
    document_annotation_format: dict[str, Any] | None = None
    vendor = "mistral"

    @property
    def streamed(self) -> bool:
        """Never."""
        return False

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        check_vendor(deployment, call, self.vendor, "ocr" if self.vendor == "mistral" else "parse")
        return _read(self, deployment, call)


class ParseRequest(ReadRequest):
    """The same for Cohere."""

    vendor = "cohere"


def parse_chat(body: bytes, content_type: bytes) -> CohereChatRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, CohereChatRequest)


def parse_ocr(body: bytes, content_type: bytes) -> ReadRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, ReadRequest)


def parse_parse(body: bytes, content_type: bytes) -> ReadRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, ParseRequest)


def _chat(request: CohereChatRequest, call: Call) -> Answer:
    if not request.messages:
        raise errors.invalid("invalid request: messages must not be empty.", param="messages")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise errors.invalid("invalid request: max_tokens must be positive.", param="max_tokens")
    texts = [_message_text(message) for message in request.messages]
    said = [text for text, message in zip(texts, request.messages, strict=True) if message.role == "user"]
    steer = steering(said[-1] if said else None, call.caller.usage)
    counted = sum(text_tokens(len(text)) + 3 for text in texts)
    usage, each, cut = text_usage(steer, counted, request.max_tokens)
    words = [WORDS[number % len(WORDS)] for number in range(min(each, MAX_ANSWER_WORDS))]
    told: dict[str, object] = {
        "billed_units": {"input_tokens": usage.prompt, "output_tokens": usage.completion},
        "tokens": {"input_tokens": usage.prompt + HIDDEN_TOKENS, "output_tokens": usage.completion},
        "cached_tokens": usage.cached,
    }
    shown = told if call.with_usage and not steer.no_usage else None
    finish = "MAX_TOKENS" if cut else "COMPLETE"
    body: dict[str, object] = {"id": call.request_id, "finish_reason": finish}
    body["message"] = {"role": "assistant", "content": [{"type": "text", "text": " ".join(words)}]}
    made = made_answer(call, "cohere-chat", usage, steer, body if shown is None else {**body, "usage": shown})
    if request.streamed:
        made.events = _chat_events(call, words, finish, shown)
    fault = call.fault
    if request.streamed and fault is not None and fault.kind == "midstream_error":
        sent = max(0, min(fault.after_events - 2, len(words)))
        part = -(-usage.completion * sent // max(1, len(words)))
        made.usage = msgspec.structs.replace(usage, completion=part) if sent else None
    return made


def _message_text(message: CohereMessage) -> str:
    if isinstance(message.content, list):
        return "".join(str(part.get("text", "")) for part in message.content)
    return message.content or ""


def _chat_events(call: Call, words: list[str], finish: str, told: dict[str, object] | None) -> Iterator[bytes]:
    """Cohere's events of a stream; a fault puts an error in the place of the rest."""
    fault = call.fault if call.fault is not None and call.fault.kind == "midstream_error" else None
    text = {"type": "text", "text": ""}
    content: dict[str, object] = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
    events: list[dict[str, object]] = [
        {"type": "message-start", "id": call.request_id, "delta": {"message": content}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": text}}},
    ]
    for number, word in enumerate(words):
        piece = {"text": word if number == 0 else " " + word}
        events.append({"type": "content-delta", "index": 0, "delta": {"message": {"content": piece}}})
    end: dict[str, object] = {"finish_reason": finish}
    events.append({"type": "content-end", "index": 0})
    events.append({"type": "message-end", "delta": end if told is None else {**end, "usage": told}})
    for number, event in enumerate(events):
        if fault is not None and number >= fault.after_events:
            yield b"data: %b\n\n" % (fault.body_bytes() or msgspec.json.encode(errors.server_error(call.request_id)))
            return
        yield b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), msgspec.json.encode(event))


def _read(request: ReadRequest, deployment: Deployment, call: Call) -> Answer:
    document = request.document
    source = document.document_url or document.data or _image_source(document)
    if not source:
        raise errors.invalid("'document' must have a document_url or an image_url.", param="document")
    steer = steering(f"{document.document_name or ''} {source[:400]}", call.caller.usage)
    raw = _decoded(source)
    chosen = request.pages if request.pages is not None else range(max(1, len(PAGE_PATTERN.findall(raw))))
    pages = list(chosen)[:MAX_PAGES]
    count = len(pages) if steer.pages is None else steer.pages
    if steer.pages is not None:
        pages = list(range(min(count, MAX_PAGES)))
    told = call.with_usage and not steer.no_usage
    text = " ".join(WORDS[:DEFAULT_COMPLETION])
    shape = {"dpi": 200, "height": 2200, "width": 1700}
    read: list[dict[str, object]] = [
        {"index": page, "markdown": f"# {page}\n\n{text}", "images": [], "dimensions": shape} for page in pages
    ]
    body: dict[str, object] = {"pages": read, "model": deployment.model}
    if request.vendor == "cohere":
        body |= {"id": call.request_id, "meta": meta("2", {"pages": count} if told else None)}
    else:
        annotated = request.document_annotation_format is not None
        body["document_annotation"] = "{}" if annotated else None
        if told:
            body["usage_info"] = {"pages_processed": count, "doc_size_bytes": len(raw) or None}
    return made_answer(call, "ocr", Usage(prompt=0, pages=count), steer, body)


def _image_source(document: Document) -> str | None:
    given = document.image_url
    return str(given.get("url", "")) if isinstance(given, dict) else given


def _decoded(source: str) -> bytes:
    """The bytes of a data URL; empty for a link, which the simulator does not follow."""
    head, comma, data = source.partition(",")
    if not (head.startswith("data:") and comma):
        return b""
    try:
        return b64decode(data, validate=True)
    except (Base64Error, ValueError) as error:
        raise errors.invalid("'document' is no valid base64.", param="document") from error
