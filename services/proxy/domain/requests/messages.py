"""Anthropic's Messages, and counting the tokens of one."""

import msgspec

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.reading import ABSENT, cap_of, is_list, model_of
from services.proxy.domain.unpriced import HostedTool, hosted_by_claude


class _Message(msgspec.Struct):
    content: msgspec.Raw = ABSENT


class _Messages(msgspec.Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    tools: list[HostedTool] | None = None


_body = msgspec.json.Decoder(_Messages)


def read_messages(body: bytes, path_model: str | None) -> Asked:
    """A message to be answered. Raises BadRequest, and whatever msgspec raises for what is no JSON."""
    said = _body.decode(body)
    cap = cap_of(said.max_tokens, "max_tokens")
    if cap is None:
        raise BadRequest(
            "'max_tokens' is missing: say how many tokens the answer may have at most.", param="max_tokens"
        )
    return Asked(
        model=model_of(path_model or said.model),
        endpoint=Endpoint.MESSAGES,
        stream=bool(said.stream),
        output_cap=cap,
        max_tokens=cap,
        parts=_lists(said),
        hosted=hosted_by_claude(said.tools or ()),
    )


def read_count_tokens(body: bytes, path_model: str | None) -> Asked:
    """A message whose tokens are to be counted, which costs nothing. Raises as `read_messages`."""
    said = _body.decode(body)
    return Asked(
        model=model_of(path_model or said.model), endpoint=Endpoint.COUNT_TOKENS, output_cap=0, parts=_lists(said)
    )


def _lists(said: _Messages) -> tuple[msgspec.Raw, ...]:
    return tuple(message.content for message in said.messages or () if is_list(message.content))
