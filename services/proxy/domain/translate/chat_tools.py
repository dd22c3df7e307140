"""The tools of chat completions as Claude's, and structured output as a tool that Claude must call."""

import msgspec

from services.proxy.domain.translate.chat_turns import CacheControl
from services.proxy.domain.translate.wire import Fields, Json, inexpressible, is_object, malformed, quoted

JSON_TOOL = "json_response"
"""The tool whose input is the answer when `response_format` asks for JSON."""
JSON_TOOL_TEXT = "Give the whole answer to the user as the input of this tool."
_ANY_OBJECT = msgspec.Raw(b'{"type":"object","properties":{},"additionalProperties":true}')


class _Function(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: Fields | None = None


class Tool(msgspec.Struct, frozen=True):
    """A tool of a chat completions request."""

    type: str
    function: _Function | None = None
    cache_control: CacheControl | None = None


class _Named(msgspec.Struct, frozen=True):
    name: str


class _AllowedTool(msgspec.Struct, frozen=True):
    type: str
    function: _Named | None = None


class _Allowed(msgspec.Struct, frozen=True):
    mode: str
    tools: list[_AllowedTool]


class ToolChoice(msgspec.Struct, frozen=True):
    """A tool choice that is more than a word."""

    type: str
    function: _Named | None = None
    allowed_tools: _Allowed | None = None


class _Sent(msgspec.Struct, frozen=True):
    tools: list[_Named] = []


_sent = msgspec.json.Decoder(_Sent)


class _JsonSchema(msgspec.Struct, frozen=True):
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw()


class ResponseFormat(msgspec.Struct, frozen=True):
    """What the answer must look like."""

    type: str
    json_schema: _JsonSchema | None = None


class Toolbox(msgspec.Struct, frozen=True):
    """`tools` and `tool_choice` of a Messages body; `forced`: Claude must call a tool, so it may not think."""

    tools: list[Json]
    choice: Json | None
    forced: bool


def toolbox(
    tools: list[Tool] | None,
    choice: str | ToolChoice | None,
    parallel: bool | None,
    response_format: ResponseFormat | None,
) -> Toolbox:
    """Everything of a request that has to do with tools. Raises BadRequest."""
    named = {_name(tool, f"tools[{at}]"): tool for at, tool in enumerate(tools or ())}
    offered, wish = _choice(named, choice)
    made = [_tool(tool) for tool in offered]
    json_tool = None if response_format is None else _json_tool(response_format)
    if json_tool is not None and (not made or wish["type"] in ("auto", "none")):
        wish = _json_choice(may_call=bool(made) and wish["type"] == "auto")
        made.append(json_tool)
    if not made:
        return Toolbox(tools=[], choice=None, forced=False)
    if parallel is False and wish["type"] != "none":
        wish = {**wish, "disable_parallel_tool_use": True}
    unsaid = choice is None and wish == {"type": "auto"}
    return Toolbox(tools=made, choice=None if unsaid else wish, forced=wish["type"] in ("any", "tool"))


def wants_json(sent: bytes) -> bool:
    """Whether a Messages body that was made here gives Claude the tool for JSON answers."""
    return JSON_TOOL.encode() in sent and any(tool.name == JSON_TOOL for tool in _sent.decode(sent).tools)


def _json_choice(*, may_call: bool) -> Json:
    """Claude must answer in JSON, or call one of the caller's tools if it may."""
    return {"type": "any"} if may_call else {"type": "tool", "name": JSON_TOOL}


def _name(tool: Tool, field: str) -> str:
    if tool.type != "function" or tool.function is None:
        inexpressible(
            field,
            f"{field}: a tool of type '{quoted(tool.type)}' cannot be given to Claude over chat completions. Send type"
            " 'function', or call /v1/messages with Claude's own tools.",
        )
    if tool.function.name == JSON_TOOL:
        inexpressible(field, f"{field}: the name '{JSON_TOOL}' is taken by the gateway. Give the tool another name.")
    return tool.function.name


def _tool(tool: Tool) -> Json:
    function = tool.function
    assert function is not None
    schema = dict(function.parameters or {})
    schema.setdefault("type", msgspec.Raw(b'"object"'))
    made: Json = {"name": function.name}
    if function.description is not None:
        made["description"] = function.description
    made["input_schema"] = schema
    if tool.cache_control is not None:
        made["cache_control"] = tool.cache_control
    return made


def _choice(named: dict[str, Tool], choice: str | ToolChoice | None) -> tuple[list[Tool], Json]:
    """The tools that may be called, and how."""
    offered = list(named.values())
    match choice:
        case None | "auto":
            return offered, {"type": "auto"}
        case "none":
            return offered, {"type": "none"}
        case "required":
            return _some(offered), {"type": "any"}
        case ToolChoice(type="function", function=_Named(name=name)):
            return _some([named[name]] if name in named else []) and offered, {"type": "tool", "name": name}
        case ToolChoice(type="allowed_tools", allowed_tools=_Allowed(mode=mode, tools=allowed)):
            names = {tool.function.name for tool in allowed if tool.function is not None}
            kept = _some([tool for name, tool in named.items() if name in names])
            return kept, {"type": "any" if mode == "required" else "auto"}
        case _:
            return inexpressible(
                "tool_choice", "'tool_choice' must be none, auto, required, a function, or allowed_tools."
            )


def _some(tools: list[Tool]) -> list[Tool]:
    if not tools:
        malformed("tool_choice", "'tool_choice' wants a tool that is not in 'tools'.")
    return tools


def _json_tool(wanted: ResponseFormat) -> Json | None:
    """The tool that stands for a JSON answer; None if plain text is wanted."""
    match wanted:
        case ResponseFormat(type="text"):
            return None
        case ResponseFormat(type="json_object"):
            return {"name": JSON_TOOL, "description": JSON_TOOL_TEXT, "input_schema": _ANY_OBJECT}
        case ResponseFormat(type="json_schema", json_schema=_JsonSchema(description=said, schema=schema)):
            text = f"{JSON_TOOL_TEXT} {said}" if said else JSON_TOOL_TEXT
            return {"name": JSON_TOOL, "description": text, "input_schema": _object_schema(schema)}
        case _:
            return inexpressible(
                "response_format",
                f"'response_format' of type '{quoted(wanted.type)}' has no counterpart. Use json_schema.",
            )


def _object_schema(schema: msgspec.Raw) -> Fields | msgspec.Raw:
    if not schema:
        return _ANY_OBJECT
    field = "response_format.json_schema.schema"
    if not is_object(schema):
        malformed(field, f"'{field}' must be a JSON schema: an object.")
    fields = msgspec.json.decode(schema, type=Fields)
    kind = fields.setdefault("type", msgspec.Raw(b'"object"'))
    if bytes(kind) != b'"object"':
        inexpressible(field, f"'{field}' must describe an object. Put the value into a property of one.")
    return fields
