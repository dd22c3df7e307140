"""What has a price of its own that is not known here: tools that Foundry runs, and pictures of unlisted kinds.

Most tools cost the tokens that they read and write, and no more. The others are billed by the search, the picture or
the container: a call with one of them is refused before it begins, so that it is never charged too little. Only a code
interpreter's containers have a class of usage, and a price.
"""

from collections.abc import Iterable, Iterator

import msgspec

from services.proxy.domain.asked import BadRequest
from shared.pricing import PriceRow

CONTAINER_TOOLS = ("code_interpreter",)
"""Tools that are billed by the container."""
TOKENS_ONLY = frozenset(
    ["function", "custom", "mcp", "computer", "computer_use", "computer_use_preview", "local_shell", "apply_patch",
     "tool_search"]
)  # fmt: skip
"""Tools of responses that run at the caller's, or cost nothing but tokens."""
CLAUDE_TOKENS_ONLY = ("custom", "bash", "text_editor", "computer", "memory", "web_fetch", "tool_search", "mcp_toolset")
"""Beginnings of the types of Claude's tools that cost nothing but tokens; a date follows."""
WORD_MAX = 60
KINDS_SHOWN = 12


class HostedTool(msgspec.Struct):
    """A tool of a request, as far as it decides what is billed."""

    type: str | None = None
    environment: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


class _Environment(msgspec.Struct):
    type: str | None = None


_inner = msgspec.json.Decoder(list[HostedTool])
_environment = msgspec.json.Decoder(_Environment | None)


def hosted_tools(tools: Iterable[HostedTool]) -> tuple[str, ...]:
    """The types of those tools of a response that are billed by more than tokens, or may be. Raises what msgspec does
    for a tool that has another shape."""
    return tuple(dict.fromkeys(_hosted(tools)))


def hosted_by_claude(tools: Iterable[HostedTool]) -> tuple[str, ...]:
    """The same of a message."""
    return tuple(
        dict.fromkeys(
            tool.type for tool in tools if tool.type is not None and not tool.type.startswith(CLAUDE_TOKENS_ONLY)
        )
    )


def check_tools(hosted: Iterable[str], row: PriceRow) -> None:
    """Raises BadRequest `price_unknown` for a tool without a known price."""
    for kind in hosted:
        if kind not in CONTAINER_TOOLS:
            remedy = "model_info.unpriced: allow, with which it is not charged"
        elif row.rates.sessions is None:
            remedy = "code_interpreter_cost_per_session, or model_info.unpriced: allow, with which it is not charged"
        else:
            continue
        name = "".join(sign if sign.isprintable() else "?" for sign in kind[:WORD_MAX])
        field = "tools" if kind != "web_search_options" else kind
        raise BadRequest(
            f"'{field}': no price is known for '{name}', which Foundry bills beside the tokens. Leave it out, or have"
            f" the platform team set {remedy}.",
            code="price_unknown",
            param=field,
        )


def unpriced_kind(kind: str, row: PriceRow) -> BadRequest:
    """The refusal of pictures of a quality and size that have no price, though others have."""
    priced = [name for name in sorted(row.kinds) if "/" in name]
    shown = ", ".join(_said(name) for name in priced[:KINDS_SHOWN])
    return BadRequest(
        f"No price is known for pictures of {_said(kind)}. Priced are: {shown}. Ask for one of these with 'quality' and"
        " 'size', or have the platform team set output_cost_per_image for this model.",
        code="price_unknown",
        param="size",
    )


def _hosted(tools: Iterable[HostedTool]) -> Iterator[str]:
    for tool in tools:
        if tool.type is None or tool.type in TOKENS_ONLY:
            continue
        if tool.type == "namespace":
            yield from _hosted(_inner.decode(tool.tools) if tool.tools else ())
        elif tool.type != "shell" or not _is_local(tool):
            yield tool.type


def _is_local(tool: HostedTool) -> bool:
    """Whether a shell is the caller's own, and no container of Foundry's."""
    place = _environment.decode(tool.environment) if tool.environment else None
    return place is not None and place.type == "local"


def _said(kind: str) -> str:
    """Quality and size as callers write them: `hd 1024x1792`."""
    quality, _, size = kind.partition("/")
    return f"{quality} {size.replace('-x-', 'x')}".strip()
