"""Legacy completions: a prompt goes on."""

from collections.abc import Iterator
from typing import Any

import msgspec

from deploy.simulator import errors, sse
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.chat import StreamOptions, filtered_prompt
from deploy.simulator.chat_bytes import answer_text
from deploy.simulator.chat_rich import FOUR
from deploy.simulator.deployments import Deployment
from deploy.simulator.usage import DEFAULT_COMPLETION, Usage, chat_usage_json, steering, text_tokens, text_usage

MAX_CHOICES = 128
MAX_BEST_OF = 20
MAX_PROMPTS = 2_048


class CompletionRequest(msgspec.Struct):
    """The fields of a completions request that decide anything here."""

    prompt: str | list[str | int | list[int]] = "<|endoftext|>"
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream is True

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _answer(self, deployment, call)


class Written(msgspec.Struct, kw_only=True):
    """All that decides the bytes of one answer."""

    id: str
    created: int
    model: str
    texts: list[str]
    finish: str
    usage: Usage
    prompts: int
    with_usage: bool


def parse(body: bytes, content_type: bytes = b"") -> CompletionRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, CompletionRequest)


def _answer(request: CompletionRequest, deployment: Deployment, call: Call) -> Answer:
    if deployment.claude:
        raise errors.api_not_supported()
    if not deployment.completes:
        raise errors.wrong_operation("completion", deployment.model)
    each_prompt = _check(request)
    prompts = len(each_prompt)
    choices, tried = request.n or 1, max(request.best_of or 1, request.n or 1)
    cap = DEFAULT_COMPLETION if request.max_tokens is None else request.max_tokens
    last = each_prompt[-1]
    steer = steering(last if isinstance(last, str) else None, call.caller.usage)
    counted = sum(text_tokens(len(one)) if isinstance(one, str) else len(one) for one in each_prompt)
    if steer.filter == 1:
        return filtered_prompt("cmpl-" + call.serial, steer, counted, errors.content_filter())
    usage, each, cut = text_usage(steer, counted, cap, prompts * tried)
    finish = "content_filter" if steer.filter == 2 else "length" if cut else "stop"
    written = Written(
        id="cmpl-" + call.serial,
        created=call.created,
        model=deployment.model,
        texts=[answer_text(each)] * (choices * prompts),
        finish=finish,
        usage=usage,
        prompts=prompts,
        with_usage=call.with_usage and not steer.no_usage,
    )
    made = Answer(
        id=written.id,
        usage=usage,
        charged=counted + cap * tried * prompts,
        charged_output=cap * tried * prompts,
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )
    if not request.streamed:
        made.body = _plain(written)
        return made
    options = request.stream_options or StreamOptions()
    made.events = _stream(written, bool(options.include_usage))
    fault = call.fault
    if fault is not None and fault.breaks_stream:
        if fault.after_events == 0:
            made.usage = None
        made.events = sse.broken(made.events, fault.after_events, sse.chat_failure(fault, call.request_id))
    made.events = sse.dressed(made.events, steer)
    return made


def _check(request: CompletionRequest) -> list[str | list[int]]:
    """The prompts; raises the 400 of a request that is refused."""
    given = request.prompt
    if isinstance(given, str):
        prompts: list[str | list[int]] = [given]
    elif given and all(isinstance(one, int) for one in given):
        prompts = [[one for one in given if isinstance(one, int)]]
    else:
        prompts = [one for one in given if not isinstance(one, int)]
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise errors.invalid(f"'prompt' must hold between 1 and {MAX_PROMPTS} prompts.", param="prompt")
    choices, best_of = request.n or 1, request.best_of
    if not 1 <= choices <= MAX_CHOICES:
        raise errors.invalid(f"'n' must be between 1 and {MAX_CHOICES}.", "invalid_value", "n")
    if best_of is not None and not choices <= best_of <= MAX_BEST_OF:
        raise errors.invalid(f"'best_of' must be between 'n' and {MAX_BEST_OF}.", "invalid_value", "best_of")
    if best_of is not None and best_of > 1 and request.streamed:
        raise errors.invalid("Cannot stream results with best_of > 1.", param="best_of")
    if request.max_tokens is not None and request.max_tokens < 1:
        message = f"Invalid 'max_tokens': integer below minimum value. Expected >= 1, but got {request.max_tokens}."
        raise errors.invalid(message, "integer_below_min_value", "max_tokens")
    return prompts


def _filter_of(written: Written) -> list[dict[str, Any]]:
    results = {**FOUR, "jailbreak": {"filtered": False, "detected": False}}
    return [{"prompt_index": i, "content_filter_results": results} for i in range(written.prompts)]


def _choice(text: str, index: int, finish: str | None) -> dict[str, Any]:
    return {
        "content_filter_results": FOUR,
        "finish_reason": finish,
        "index": index,
        "logprobs": None,
        "text": text,
    }


def _body(written: Written, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "choices": choices,
        "created": written.created,
        "id": written.id,
        "model": written.model,
        "object": "text_completion",
    }


def _plain(written: Written) -> bytes:
    choices = [_choice(text, index, written.finish) for index, text in enumerate(written.texts)]
    body = {**_body(written, choices), "prompt_filter_results": _filter_of(written)}
    if written.with_usage:
        body["usage"] = msgspec.Raw(chat_usage_json(written.usage))
    return msgspec.json.encode(body)


def _stream(written: Written, include_usage: bool) -> Iterator[bytes]:
    empty = {"usage": None} if include_usage else {}
    yield sse.event({**_body(written, []), "id": "", "prompt_filter_results": _filter_of(written)})
    for index, text in enumerate(written.texts):
        for word in text.split(" ") if text else []:
            yield sse.event({**_body(written, [_choice(word + " ", index, None)]), **empty})
        yield sse.event({**_body(written, [_choice("", index, written.finish)]), **empty})
    if include_usage and written.with_usage:
        usage = msgspec.Raw(chat_usage_json(written.usage))
        yield sse.event({**_body(written, []), "usage": usage})
    yield sse.DONE
