"""The Responses API: what a request may say, what is refused, and the answer, at once or in the background."""

from typing import Any

import msgspec

from deploy.simulator import errors, responses_events, sse
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.chat import StreamOptions, filtered_prompt
from deploy.simulator.chat_rich import Function, Tool, Wish, call_names, chosen
from deploy.simulator.deployments import Deployment
from deploy.simulator.fault_kinds import filter_responses
from deploy.simulator.pictures import image_tokens
from deploy.simulator.responses_events import Made
from deploy.simulator.responses_store import Pending, Store, Stored
from deploy.simulator.usage import (
    TOKENS_PER_MESSAGE,
    Steering,
    Usage,
    served_tier,
    steering,
    text_tokens,
    text_usage,
)

DEFAULT_CHARGE = 16
MIN_OUTPUT_TOKENS = 16
STORED_PREFIXES = ("rs_", "msg_", "fc_")


class Content(msgspec.Struct):
    """One part of an input message."""

    type: str = ""
    text: str | None = None
    image_url: str | None = None
    detail: str | None = None


class Item(msgspec.Struct):
    """One input item; a message where it has no type."""

    type: str = "message"
    role: str | None = None
    content: str | list[Content] | None = None
    id: str | None = None
    status: msgspec.Raw = msgspec.Raw(b"")
    call_id: str | None = None
    output: msgspec.Raw = msgspec.Raw(b"")
    arguments: str | None = None
    name: str | None = None
    encrypted_content: str | None = None


class FlatTool(msgspec.Struct):
    """One tool of a Responses request; only functions are called here."""

    type: str = ""
    name: str = ""
    parameters: msgspec.Raw = msgspec.Raw(b"")


class Format(msgspec.Struct):
    """The form of the text."""

    type: str = "text"
    schema: msgspec.Raw = msgspec.Raw(b"")


class Text(msgspec.Struct):
    """How text is to be written."""

    format: Format | None = None


class Reasoning(msgspec.Struct):
    """How much is thought, and whether a summary is shown."""

    effort: str | None = None
    summary: str | None = None


class ResponsesRequest(msgspec.Struct):
    """The fields of a request that decide anything here."""

    input: str | list[Item] = ""
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    tools: list[FlatTool] | None = None
    tool_choice: msgspec.Raw = msgspec.Raw(b"")
    text: Text | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    service_tier: str | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    context_management: msgspec.Raw = msgspec.Raw(b"")

    raw: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict[str, msgspec.Raw], name=" raw")

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream is True

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _answer(self, deployment, call)

    def items(self) -> list[Item]:
        """The input as items."""
        return [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input


class Counted(msgspec.Struct):
    """What the input holds: tokens, and the text of the last user message."""

    tokens: int = 0
    last: str | None = None


def parse(body: bytes, content_type: bytes = b"") -> ResponsesRequest:
    """The request of these bytes; raises a 400."""
    request = decode(body, ResponsesRequest)
    request.raw = decode(body, dict[str, msgspec.Raw])
    return request


def _answer(request: ResponsesRequest, deployment: Deployment, call: Call) -> Answer:
    if deployment.claude:
        raise errors.api_not_supported()
    if not deployment.responds:
        raise errors.invalid("Model not supported")
    store = call.site.one(Store)
    _check(request, deployment)
    before = _previous(request, store)
    _check_items(request.items(), before, store)
    counted = _count(request)
    steer = steering(counted.last, call.caller.usage)
    prompt = counted.tokens + (0 if before is None else before.tokens)
    answer_id = "resp_" + call.serial
    if steer.filter == 1:
        return filtered_prompt(answer_id, steer, prompt, filter_responses()[2])
    usage, each, cut = text_usage(steer, prompt, request.max_output_tokens, 1, served_tier(steer, request.service_tier))
    made = _made(request, call, deployment, steer, usage, each, cut)
    stored = Stored(made=made, items=_stored_items(request, answer_id), before=before, tokens=prompt + usage.completion)
    cap = request.max_output_tokens or DEFAULT_CHARGE
    answer = Answer(
        id=answer_id,
        usage=usage,
        charged=prompt + cap,
        charged_output=cap,
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )
    if request.background and not request.streamed:
        _in_background(answer, stored, deployment, call, steer, store)
    elif request.streamed:
        _streamed(answer, made, call, steer)
    else:
        answer.body = msgspec.json.encode(responses_events.whole(made))
    if request.store is not False:
        answer.commit = lambda: store.put(stored)
    return answer


def _in_background(
    answer: Answer, stored: Stored, deployment: Deployment, call: Call, steer: Steering, store: Store
) -> None:
    """Answer with a queued response; it is billed when it has run its time."""
    takes = call.settings.background_ms if steer.background_ms is None else steer.background_ms
    client_id = call.caller.client_request_id
    stored.pending = Pending(
        deployment=deployment,
        usage=stored.made.usage,
        request_id=call.request_id,
        client_request_id=None if client_id is None else client_id.decode("latin-1"),
        surface=call.surface,
        started_ms=call.site.clock.monotonic_ms(),
        takes_ms=takes,
    )
    answer.usage = None
    answer.body = msgspec.json.encode(responses_events.unfinished(stored.made, "queued"))
    call.site.served.before_reading(Store, lambda: store.settle_all(call.site))


def _streamed(answer: Answer, made: Made, call: Call, steer: Steering) -> None:
    settings = call.settings
    named = settings.responses_events if steer.event is None else bool(steer.event)
    done = settings.responses_done if steer.done is None else bool(steer.done)
    answer.events = responses_events.stream(made, named, done)
    fault = call.fault
    if fault is not None and fault.breaks_stream:
        answer.usage = responses_events.billed_until(made, fault.after_events)
        failure = responses_events.failure(made, fault, named)
        answer.events = sse.broken(answer.events, fault.after_events, failure)
    answer.events = sse.dressed(answer.events, steer)


def _made(
    request: ResponsesRequest,
    call: Call,
    deployment: Deployment,
    steer: Steering,
    usage: Usage,
    each: int,
    cut: bool,
) -> Made:
    form = None if request.text is None else request.text.format
    wish = _wish(request, steer)
    tools = [
        Tool(function=Function(name=tool.name, parameters=tool.parameters))
        for tool in request.tools or []
        if tool.type == "function"
    ]
    reasoning = request.reasoning or Reasoning()
    asks_json = form is not None and form.type in ("json_object", "json_schema")
    return Made(
        id="resp_" + call.serial,
        serial=call.serial,
        created=call.created,
        model=request.model or deployment.name,
        request=request.raw,
        usage=usage,
        with_usage=call.with_usage and not steer.no_usage,
        text_tokens=each - usage.reasoning,
        chunks=steer.chunks,
        cut=cut,
        filtered=steer.filter == 2,
        refused=bool(steer.refuse),
        json=asks_json or bool(steer.json),
        schema=msgspec.Raw(b"") if form is None else form.schema,
        calls=call_names(tools, wish.calls, wish.named) if not cut else [],
        reasons=deployment.reasoning or usage.reasoning > 0,
        summary=bool(reasoning.summary) or bool(steer.thinking),
        encrypted="reasoning.encrypted_content" in (request.include or []),
        background=bool(request.background),
        tier=usage.service_tier or "default",
    )


def _wish(request: ResponsesRequest, steer: Steering) -> Wish:
    calls, named = steer.tool if request.tools else 0, None
    if request.tools and request.tool_choice and not calls:
        calls, named = chosen(request.tool_choice)
    return Wish(calls=calls, named=named)


def _check(request: ResponsesRequest, deployment: Deployment) -> None:
    if not request.input:
        raise errors.invalid("Missing required parameter: 'input'.", "missing_required_parameter", "input")
    if bytes(request.context_management) not in (b"", b"null"):
        message = "Unknown parameter: 'context_management'."
        raise errors.invalid(message, "unknown_parameter", "context_management")
    cap = request.max_output_tokens
    if cap is not None and cap < MIN_OUTPUT_TOKENS:
        message = (
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= "
            f"{MIN_OUTPUT_TOKENS}, but got {cap} instead."
        )
        raise errors.invalid(message, "integer_below_min_value", "max_output_tokens")
    if request.background and request.store is False:
        raise errors.invalid("Background responses require 'store' to be true.", "invalid_value", "store")
    for name in ("temperature", "top_p"):
        value: float | None = getattr(request, name)
        if deployment.reasoning and value is not None and value != 1:
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise errors.invalid(message, "unsupported_parameter", name)


def _previous(request: ResponsesRequest, store: Store) -> Stored | None:
    wanted = request.previous_response_id
    if wanted is None:
        return None
    found = store.get(wanted)
    if found is None:
        message = f"Previous response with id '{wanted}' not found."
        raise errors.invalid(message, "previous_response_not_found", "previous_response_id")
    return found


def _check_items(items: list[Item], before: Stored | None, store: Store) -> None:
    """Refuse what Foundry refuses of input items: a status, ids it does not have, outputs of no call."""
    called = set[str]()
    chain = before
    while chain is not None:
        called.update(chain.made.call_ids())
        chain = chain.before
    for index, item in enumerate(items):
        if item.status:
            name = f"input[{index}].status"
            raise errors.invalid(f"Unknown parameter: '{name}'.", "unknown_parameter", name)
        if item.type == "function_call" and item.call_id is not None:
            called.add(item.call_id)
        reference = item.type == "item_reference"
        if (reference or (item.id or "").startswith(STORED_PREFIXES)) and not item.encrypted_content:
            found = store.item(item.id or "")
            if found is None:
                message = f"Item with id '{item.id}' not found."
                raise errors.FoundryError(404, errors.openai(message, None, "input"))
            if found.get("call_id"):
                called.add(str(found["call_id"]))
        if item.type == "function_call_output" and item.call_id not in called:
            message = f"No tool call found for function call output with call_id {item.call_id}."
            raise errors.invalid(message, None, "input")


def _count(request: ResponsesRequest) -> Counted:
    """Prompt tokens without those of earlier responses."""
    counted = Counted(tokens=text_tokens(len(request.instructions or "")))
    for tool in request.tools or []:
        counted.tokens += text_tokens(len(tool.name) + len(tool.parameters))
    for item in request.items():
        content = item.content
        if isinstance(content, list):
            images = [part for part in content if part.type == "input_image"]
            counted.tokens += sum(image_tokens(part.image_url or "", part.detail) for part in images)
            content = "".join(part.text for part in content if part.text is not None)
        text = (content or "") + (item.arguments or "") + bytes(item.output).decode()
        counted.tokens += text_tokens(len(text)) + TOKENS_PER_MESSAGE
        if content is not None and item.role == "user":
            counted.last = content
    return counted


def _stored_items(request: ResponsesRequest, answer_id: str) -> list[dict[str, Any]]:
    """The input as `input_items` lists it: messages with ids of their own."""
    given = request.input
    if isinstance(given, str):
        items: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
    else:
        items = msgspec.json.decode(request.raw["input"], type=list[dict[str, Any]])
    serial = answer_id.removeprefix("resp_")
    found: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        if isinstance(item.get("content"), str):
            item = {**item, "content": [{"type": "input_text", "text": item["content"]}]}
        found.append({"id": f"msg_{serial}in{index:x}", "type": kind, "status": "completed", **item})
    return found
