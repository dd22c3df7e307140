"""Responses: what is said stands in items, and may go on from what is stored."""

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.reading import ABSENT, cap_of, field_of, is_list, model_of, starts, tier_of
from services.proxy.domain.unpriced import HostedTool, hosted_tools
from shared.pricing import Usage

EARLIER_TOKENS = 8_000
"""What is assumed of a conversation that only an id names (`previous_response_id`, `conversation`, `prompt`)."""
REFERENCE_TOKENS = 1_000
"""What is assumed of an item that only an id names."""
HOSTED_TOKENS = 10_000
"""What a tool that Foundry runs is assumed to read into the prompt: search results, pieces of files."""
OWN_TOOLS = ("function", "custom", None)
NULL = (b"", b"null")


class _Responses(msgspec.Struct):
    model: str | None = None
    input: msgspec.Raw = ABSENT
    max_output_tokens: int | None = None
    stream: bool | None = None
    background: bool | None = None
    previous_response_id: msgspec.Raw = ABSENT
    conversation: msgspec.Raw = ABSENT
    prompt: msgspec.Raw = ABSENT
    tools: list[HostedTool] | None = None
    service_tier: msgspec.Raw = ABSENT


class _Item(msgspec.Struct):
    type: str | None = None
    content: msgspec.Raw = ABSENT
    output: msgspec.Raw = ABSENT
    result: msgspec.Raw = ABSENT


_body = msgspec.json.Decoder(_Responses)
_items = msgspec.json.Decoder(str | list[_Item] | None)


def read_responses(body: bytes, path_model: str | None) -> Asked:
    """A response to be made. `guess.input` are tokens of what is only named. Raises BadRequest, and whatever msgspec
    raises for what is no JSON."""
    said = _body.decode(body)
    cap = cap_of(said.max_output_tokens, "max_output_tokens")
    items: str | list[_Item] | None = None
    if said.input is not ABSENT:
        items = field_of(_items, said.input, "input", "a text or a list of items")
    parts: list[msgspec.Raw] = []
    named = sum(
        EARLIER_TOKENS for one in (said.previous_response_id, said.conversation, said.prompt) if bytes(one) not in NULL
    )
    for item in items if isinstance(items, list) else ():
        named += REFERENCE_TOKENS if item.type == "item_reference" else 0
        parts += _parts(item)
    named += HOSTED_TOKENS * sum(tool.type not in OWN_TOOLS for tool in said.tools or ())
    return Asked(
        model=model_of(path_model or said.model),
        endpoint=Endpoint.RESPONSES,
        stream=bool(said.stream),
        output_cap=cap,
        parts=tuple(parts),
        tier=tier_of(said.service_tier),
        background=bool(said.background),
        guess=Usage(input=named),
        hosted=hosted_tools(said.tools or ()),
    )


def _parts(item: _Item) -> list[msgspec.Raw]:
    """What of an item is no plain text: lists of parts, a picture of a screen, a picture that was made."""
    found = [one for one in (item.content, item.output) if is_list(one)]
    if starts(item.output, b"{"):
        found.append(msgspec.Raw(b"[" + bytes(item.output) + b"]"))
    if item.type == "image_generation_call" and starts(item.result, b'"'):
        found.append(msgspec.Raw(b'[{"image_url":' + bytes(item.result) + b"}]"))
    return found
