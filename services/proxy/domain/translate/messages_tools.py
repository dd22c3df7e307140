"""The tools of a Messages request as functions of chat completions."""

import msgspec

from services.proxy.domain.translate.wire import Fields, Json, inexpressible, malformed, quoted

WORDS = {"auto": "auto", "any": "required", "none": "none"}
SCHEMA_NAME = "response"


class MessageTool(msgspec.Struct, frozen=True):
    """A tool of a Messages request; those with a type of their own run at Anthropic."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Fields | None = None
    strict: bool | None = None


class MessageToolChoice(msgspec.Struct, frozen=True):
    """How tools may be called."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    """What the answer must look like."""

    type: str
    schema: msgspec.Raw = msgspec.Raw()


def functions(tools: list[MessageTool] | None, choice: MessageToolChoice | None) -> Json:
    """`tools`, `tool_choice` and `parallel_tool_calls`, as far as they are to be sent. Raises BadRequest."""
    made = [_function(tool, f"tools[{at}]") for at, tool in enumerate(tools or ())]
    sent: Json = {"tools": made} if made else {}
    if choice is None:
        return sent
    if choice.type not in (*WORDS, "tool"):
        malformed("tool_choice", "'tool_choice' must be of type auto, any, tool or none.")
    names = {tool.name for tool in tools or ()}
    if (choice.type == "tool" and choice.name not in names) or (choice.type == "any" and not made):
        malformed("tool_choice", "'tool_choice' wants a tool that is not in 'tools'.")
    if not made:
        return sent
    named: Json = {"type": "function", "function": {"name": choice.name}}
    sent["tool_choice"] = named if choice.type == "tool" else WORDS[choice.type]
    if choice.disable_parallel_tool_use:
        sent["parallel_tool_calls"] = False
    return sent


def response_format(wanted: OutputFormat) -> Json:
    """`response_format` for a JSON schema. Raises BadRequest."""
    if wanted.type != "json_schema" or not wanted.schema:
        malformed("output_config.format", "'output_config.format' must be of type json_schema and have a 'schema'.")
    return {"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "schema": wanted.schema}}


def _function(tool: MessageTool, field: str) -> Json:
    if tool.type not in (None, "custom"):
        inexpressible(
            field,
            f"{field}: the tool '{quoted(tool.type)}' runs at Anthropic, for Claude deployments only. "
            "Leave it out, or call a Claude model.",
        )
    if not tool.name:
        malformed(field, f"{field} has no name.")
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    schema = dict(tool.input_schema or {})
    kind = schema.setdefault("type", msgspec.Raw(b'"object"'))
    if bytes(kind) == b'"object"':
        schema.setdefault("properties", msgspec.Raw(b"{}"))
    function["parameters"] = schema
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
