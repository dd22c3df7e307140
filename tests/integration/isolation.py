"""What a stranger tries to get at another team's objects: every place an id can be named, and every way to name it.

`@` in a path or a body stands for the id that is tried; `@own` for an object of the stranger's own.
"""

from typing import Any, Literal

import msgspec

Kind = Literal["response", "item", "file", "output", "batch", "audio", "container", "conversation", "prompt", "store"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place where an id can be named. `lines`: the body is a file of a batch with this one line."""

    what: str
    kind: Kind
    method: str = "POST"
    path: str
    body: Any = None
    lines: bool = False

    @property
    def name(self) -> str:
        """For the test's id and the page."""
        return f"{self.method} {self.path}" + (f" ({self.what})" if self.body is not None else "")


class Spelling(msgspec.Struct, frozen=True, kw_only=True):
    """A way to name another team's object."""

    name: str
    says: str


SPELLINGS = (
    Spelling(name="sealed", says="the id as its owner knows it"),
    Spelling(name="raw", says="Foundry's own id, not sealed"),
    Spelling(name="damaged", says="one character of the seal changed"),
    Spelling(name="short", says="the seal's last characters cut off"),
    Spelling(name="case", says="letters in the other case"),
    Spelling(name="other kind", says="the seal behind the prefix of another kind of object"),
    Spelling(name="raw of own prefix", says="Foundry's own id behind the prefix of a sealed one of the stranger's"),
    Spelling(name="percent", says="the id with percent-encoded characters"),
    Spelling(name="spaced", says="the id with a percent-encoded space at its end"),
    Spelling(name="deleted", says="the id of an object that its owner has deleted"),
)

DELETED: tuple[Kind, ...] = ("response", "file", "output")
"""Kinds of which the owner has deleted one."""


def spellings_of(kind: Kind) -> list[Spelling]:
    """The spellings that are tried of a kind."""
    return [one for one in SPELLINGS if one.name != "deleted" or kind in DELETED]


WHO = {
    "another team": "a key of another team of the same organization",
    "no team": "a key without a team",
}


ROOTS: tuple[tuple[Kind, str], ...] = (("response", "responses"), ("file", "files"), ("batch", "batches"))
PATHS: tuple[tuple[str, Kind, str], ...] = (
    ("DELETE", "response", "/v1/responses/@"),
    ("POST", "response", "/v1/responses/@/cancel"),
    ("GET", "response", "/v1/responses/@/input_items"),
    ("GET", "item", "/v1/responses/@own/input_items?after=@"),
    ("GET", "item", "/v1/responses/@own/input_items?before=@"),
    ("GET", "file", "/v1/files/@/content"),
    ("DELETE", "file", "/v1/files/@"),
    ("GET", "file", "/v1/files?after=@"),
    ("GET", "output", "/v1/files/@"),
    ("GET", "output", "/v1/files/@/content"),
    ("DELETE", "output", "/v1/files/@"),
    ("POST", "batch", "/v1/batches/@/cancel"),
    ("GET", "batch", "/v1/batches?after=@"),
    ("GET", "batch", "/v1/files/@"),
    ("GET", "file", "/v1/responses/@"),
    ("GET", "response", "/v1/batches/@"),
)


def _paths() -> list[Place]:
    found: list[Place] = []
    for prefix in ("/v1", "", "/openai/v1", "/openai"):
        for kind, root in ROOTS:
            found.append(Place(what="get", kind=kind, method="GET", path=f"{prefix}/{root}/@"))
    found += [Place(what="", kind=kind, method=method, path=path) for method, kind, path in PATHS]
    return found


def _said(**part: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "input_text", "text": "Read it"}, part]}]


def _response(what: str, kind: Kind, **fields: Any) -> Place:
    return Place(what=what, kind=kind, path="/v1/responses", body={"model": "gpt-5-mini", "input": "Go on", **fields})


def _chat(what: str, kind: Kind, path: str, model: str, *messages: Any, **fields: Any) -> Place:
    return Place(what=what, kind=kind, path=path, body={"model": model, "messages": [*messages], **fields})


FILE_PART = {"type": "file", "file": {"file_id": "@"}}
SOURCE = {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "@"}}]}
IN_RESULT = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"source": {"type": "file", "file_id": "@"}}]}],
}
WITH_FILE = {"role": "user", "content": [{"type": "text", "text": "Read it"}, FILE_PART]}
SPOKEN = {"role": "assistant", "audio": {"id": "@"}}
ASKED = {"role": "user", "content": "Again"}


def _bodies() -> list[Place]:
    return [
        _response("previous_response_id", "response", previous_response_id="@"),
        _response("previous_response_id, streamed", "response", previous_response_id="@", stream=True),
        _response("previous_response_id, in the background", "response", previous_response_id="@", background=True),
        _response("an item's id", "item", input=[{"type": "message", "role": "assistant", "id": "@", "content": "x"}]),
        _response("item_reference", "item", input=[{"type": "item_reference", "id": "@"}]),
        _response("a reference without a type", "item", input=[{"id": "@"}]),
        _response("approval_request_id", "item", input=[{"type": "mcp_approval_response", "approval_request_id": "@"}]),
        _response("input_file.file_id", "file", input=_said(type="input_file", file_id="@")),
        _response("input_file.file_id of an output", "output", input=_said(type="input_file", file_id="@")),
        _response("input_image.file_id", "file", input=_said(type="input_image", file_id="@")),
        _response("a screen's file_id", "file", input=[{"type": "computer_call_output", "output": {"file_id": "@"}}]),
        _response("a tool's output's file_id", "file", input=[{"output": [{"type": "input_file", "file_id": "@"}]}]),
        _response("an annotation's file_id", "file", input=[{"content": [{"annotations": [{"file_id": "@"}]}]}]),
        _response("an item's container_id", "container", input=[{"type": "x", "container_id": "@"}]),
        _response(
            "container.file_ids of the code interpreter",
            "file",
            tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["@"]}}],
        ),
        _response(
            "input_image_mask of the image tool",
            "file",
            tools=[{"type": "image_generation", "input_image_mask": {"file_id": "@"}}],
        ),
        _chat("file.file_id", "file", "/v1/chat/completions", "gpt-4o", WITH_FILE),
        _chat("file.file_id, streamed", "file", "/v1/chat/completions", "gpt-4o", WITH_FILE, stream=True),
        _chat("file.file_id", "file", "/openai/deployments/gpt-4o/chat/completions", "x", WITH_FILE),
        _chat("file.file_id to Claude", "file", "/v1/chat/completions", "claude", WITH_FILE),
        _chat("audio.id", "audio", "/v1/chat/completions", "gpt-audio", ASKED, SPOKEN, ASKED),
        _chat("audio.id, streamed", "audio", "/v1/chat/completions", "gpt-audio", ASKED, SPOKEN, stream=True),
        _chat("source.file_id", "file", "/v1/messages", "claude", SOURCE, max_tokens=9),
        _chat("source.file_id in a tool's result", "file", "/v1/messages", "claude", IN_RESULT, max_tokens=9),
        _chat("source.file_id", "file", "/anthropic/v1/messages", "gpt-4o", SOURCE, max_tokens=9),
        _chat("source.file_id", "file", "/v1/messages/count_tokens", "claude", SOURCE),
        _chat("source.file_id", "file", "/v1/messages/count_tokens", "gpt-4o", SOURCE),
        Place(
            what="document.file_id",
            kind="file",
            path="/v1/ocr",
            body={"model": "ocr", "document": {"type": "file", "file_id": "@"}},
        ),
        Place(
            what="images[].file_id",
            kind="file",
            path="/v1/images/generations",
            body={"model": "image", "prompt": "a ladle", "images": [{"file_id": "@"}]},
        ),
        Place(
            what="input_file_id",
            kind="file",
            path="/v1/batches",
            body={"input_file_id": "@", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        ),
        Place(
            what="input_file_id of an output",
            kind="output",
            path="/v1/batches",
            body={"input_file_id": "@", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        ),
        Place(
            what="a line's previous_response_id",
            kind="response",
            path="/v1/files",
            body={"url": "/v1/responses", "model": "gpt-5-mini", "input": "Go on", "previous_response_id": "@"},
            lines=True,
        ),
        Place(
            what="a line's file_id",
            kind="file",
            path="/v1/files",
            body={"url": "/v1/chat/completions", "model": "gpt-4o", "messages": [WITH_FILE]},
            lines=True,
        ),
        Place(
            what="a line's audio.id",
            kind="audio",
            path="/v1/files",
            body={"url": "/v1/chat/completions", "model": "gpt-audio", "messages": [ASKED, SPOKEN]},
            lines=True,
        ),
        _chat("file.file_id", "file", "/azure/gpt-4o/chat/completions", "x", WITH_FILE),
        _chat("file.file_id", "file", "/azure/gpt-4o/openai/v1/chat/completions", "x", WITH_FILE),
        _chat("file.file_id", "file", "/azure_ai/phi-4/models/chat/completions", "x", WITH_FILE),
        _chat("audio.id", "audio", "/azure/gpt-audio/openai/v1/chat/completions", "x", ASKED, SPOKEN),
        _chat("source.file_id", "file", "/azure_ai/claude/anthropic/v1/messages", "x", SOURCE, max_tokens=9),
        _chat("source.file_id", "file", "/azure_ai/claude/anthropic/v1/messages/count_tokens", "x", SOURCE),
        Place(
            what="document.file_id",
            kind="file",
            path="/azure_ai/ocr/providers/mistral/azure/ocr",
            body={"model": "x", "document": {"type": "file", "file_id": "@"}},
        ),
    ]


PLACES = (*_paths(), *_bodies())
"""Each is 404 for a stranger, in the same words as for an id that nobody ever had; Foundry is not asked."""

_CLOSED: tuple[tuple[Kind, str, str], ...] = (
    ("conversation", "GET", "/v1/conversations/@"),
    ("conversation", "DELETE", "/v1/conversations/@"),
    ("conversation", "GET", "/v1/conversations/@/items"),
    ("conversation", "POST", "/v1/conversations/@/items"),
    ("container", "GET", "/v1/containers/@"),
    ("container", "GET", "/v1/containers/@/files"),
    ("store", "GET", "/v1/vector_stores/@"),
    ("store", "POST", "/v1/vector_stores/@/search"),
    ("response", "GET", "/v1/chat/completions/@"),
    ("response", "GET", "/v1/chat/completions/@/messages"),
    ("item", "GET", "/v1/threads/@/messages"),
    ("item", "GET", "/v1/assistants/@"),
    ("file", "POST", "/v1/uploads/@/complete"),
    ("batch", "GET", "/v1/messages/batches/@"),
    ("batch", "GET", "/anthropic/v1/messages/batches/@/results"),
    ("file", "GET", "/anthropic/v1/files/@/content"),
    ("response", "GET", "/v1/realtime/sessions/@"),
    ("response", "POST", "/v1/realtime/calls/@/accept"),
    ("response", "GET", "/azure/gpt-5-mini/openai/v1/responses/@"),
    ("response", "POST", "/azure/gpt-5-mini/openai/v1/responses/@/cancel"),
    ("response", "POST", "/azure/gpt-5-mini/openai/v1/responses/@"),
    ("file", "GET", "/azure/gpt-4o/openai/v1/files/@/content"),
    ("file", "POST", "/azure/gpt-4o/openai/v1/files/@/content"),
    ("batch", "GET", "/azure/gpt-4o/openai/v1/batches/@"),
    ("batch", "POST", "/azure/gpt-4o/openai/v1/batches/@/cancel"),
    ("conversation", "POST", "/azure/gpt-4o/openai/v1/conversations/@/items"),
    ("file", "POST", "/azure_ai/claude/anthropic/v1/files/@"),
    ("response", "POST", "/azure_ai/gpt-5-mini/openai/v1/responses/@"),
)
CLOSED = tuple(Place(what="", kind=kind, method=method, path=path) for kind, method, path in _CLOSED)
"""Paths that nobody is served: 404, in the same words for every id."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Something that nobody is offered, the owner neither: 400, in the same words for everybody and every id."""

    what: str
    code: str
    kind: Kind
    path: str
    body: Any = None
    raw: str | None = None
    """The body's own bytes, where its spelling is the point."""


def _spelt(what: str, path: str, kind: Kind, raw: str, code: str = "invalid_request_body") -> Refusal:
    return Refusal(what=what, code=code, kind=kind, path=path, raw=raw)


NOT_OFFERED = (
    Refusal(
        what="conversation", code="not_isolated", kind="conversation", path="/v1/responses",
        body={"model": "gpt-5-mini", "input": "Go on", "conversation": "@"},
    ),
    Refusal(
        what="conversation.id", code="not_isolated", kind="conversation", path="/v1/responses",
        body={"model": "gpt-5-mini", "input": "Go on", "conversation": {"id": "@"}},
    ),
    Refusal(
        what="prompt.id", code="not_isolated", kind="prompt", path="/v1/responses",
        body={"model": "gpt-5-mini", "input": "Go on", "prompt": {"id": "@"}},
    ),
    Refusal(
        what="vector_store_ids of file_search", code="not_isolated", kind="store", path="/v1/responses",
        body={
            "model": "gpt-5-mini", "input": "Go on", "tools": [{"type": "file_search", "vector_store_ids": ["@"]}],
        },
    ),
    Refusal(
        what="vector_store_ids of any tool", code="not_isolated", kind="store", path="/v1/responses",
        body={"model": "gpt-5-mini", "input": "Go on", "tools": [{"type": "x", "f": {"vector_store_ids": ["@"]}}]},
    ),
    Refusal(
        what="a container by its id", code="not_isolated", kind="container", path="/v1/responses",
        body={"model": "gpt-5-mini", "input": "Go on", "tools": [{"type": "code_interpreter", "container": "@"}]},
    ),
    Refusal(
        what="a tool's container_id", code="not_isolated", kind="container", path="/v1/responses",
        body={"model": "gpt-5-mini", "input": "Go on", "tools": [{"type": "shell", "e": {"container_id": "@"}}]},
    ),
    Refusal(
        what="a computer's session_id", code="not_isolated", kind="container", path="/v1/responses",
        body={"model": "gpt-5-mini", "input": "Go on", "tools": [{"type": "computer", "session_id": "@"}]},
    ),
    Refusal(
        what="container of Messages", code="not_isolated", kind="container", path="/v1/messages",
        body={"model": "claude", "max_tokens": 9, "messages": [ASKED], "container": "@"},
    ),
    Refusal(
        what="container.id of Messages", code="not_isolated", kind="container", path="/anthropic/v1/messages",
        body={"model": "claude", "max_tokens": 9, "messages": [ASKED], "container": {"id": "@"}},
    ),
    Refusal(
        what="container of count_tokens", code="not_isolated", kind="container", path="/v1/messages/count_tokens",
        body={"model": "claude", "messages": [ASKED], "container": "@"},
    ),
    Refusal(
        what="container of raw Messages", code="not_isolated", kind="container",
        path="/azure_ai/claude/anthropic/v1/messages",
        body={"model": "claude", "max_tokens": 9, "messages": [ASKED], "container": "@"},
    ),
    _spelt(
        "previous_response_id with an escaped letter in its name", "/v1/responses", "response",
        r'{"model":"gpt-5-mini","input":"Go on","previous_response\u005fid":"@"}',
    ),
    _spelt(
        "previous_response_id twice", "/v1/responses", "response",
        '{"model":"gpt-5-mini","input":"Go on","previous_response_id":"@","previous_response_id":null}',
    ),
    _spelt(
        "previous_response_id twice, once escaped", "/v1/responses", "response",
        r'{"model":"gpt-5-mini","input":"Go on","previous_response_id":"@","previous_\u0072esponse_id":null}',
    ),
    _spelt(
        "Previous_Response_Id", "/v1/responses", "response",
        '{"model":"gpt-5-mini","input":"Go on","Previous_Response_Id":"@"}',
    ),
    _spelt(
        "previous_response_id in a list", "/v1/responses", "response",
        '{"model":"gpt-5-mini","input":"Go on","previous_response_id":["@"]}',
    ),
    _spelt(
        "input twice, with an item in the first", "/v1/responses", "item",
        '{"model":"gpt-5-mini","input":[{"type":"item_reference","id":"@"}],"input":"Go on"}',
    ),
    _spelt(
        "tools twice, with a file in the first", "/v1/responses", "file",
        '{"model":"gpt-5-mini","input":"Go on","tools":[{"type":"code_interpreter","container":'
        '{"type":"auto","file_ids":["@"]}}],"tools":[]}',
    ),
    _spelt(
        "messages twice, with a file in the first", "/v1/chat/completions", "file",
        '{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"@"}}]}],'
        '"messages":[{"role":"user","content":"Go on"}]}',
    ),
    _spelt(
        "messages twice, once escaped", "/v1/chat/completions", "file",
        r'{"model":"gpt-4o","m\u0065ssages":[{"role":"user","content":[{"type":"file","file":{"file_id":"@"}}]}],'
        r'"messages":[{"role":"user","content":"Go on"}]}',
    ),
    _spelt(
        "content twice, with a file in the first", "/v1/chat/completions", "file",
        '{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"@"}}],'
        '"content":[{"type":"text","text":"Go on"}]}]}',
    ),
    _spelt(
        "content twice, the last a text", "/v1/chat/completions", "file",
        '{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"@"}}],'
        '"content":"Go on"}]}',
    ),
    _spelt(
        "file_id with an escaped letter in its name", "/v1/chat/completions", "file",
        r'{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"file","file":{"file\u005fid":"@"}}]}]}',
    ),
    _spelt(
        "File_Id", "/v1/chat/completions", "file",
        '{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"file","file":{"File_Id":"@"}}]}]}',
    ),
    _spelt(
        "Audio.id", "/v1/chat/completions", "audio",
        '{"model":"gpt-audio","messages":[{"role":"assistant","Audio":{"id":"@"},"audio":null}]}',
    ),
    _spelt(
        "audio twice", "/v1/chat/completions", "audio",
        '{"model":"gpt-audio","messages":[{"role":"assistant","audio":{"id":"@"},"audio":null}]}',
    ),
    _spelt(
        "file_id twice in a source", "/v1/messages", "file",
        '{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":'
        '{"type":"file","file_id":"@","file_id":null}}]}]}',
    ),
    _spelt(
        "Container of Messages", "/v1/messages", "container",
        '{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"Go on"}],"Container":"@"}',
    ),
    _spelt(
        "input_file_id twice", "/v1/batches", "file",
        '{"input_file_id":"@","input_file_id":"@","endpoint":"/v1/chat/completions","completion_window":"24h"}',
    ),
)  # fmt: skip

EVENTS: tuple[tuple[str, Kind, dict[str, Any]], ...] = (
    ("session.prompt", "prompt", {"type": "session.update", "session": {"type": "realtime", "prompt": {"id": "@"}}}),
    ("response.prompt", "prompt", {"type": "response.create", "response": {"prompt": {"id": "@"}}}),
    ("response.conversation", "conversation", {"type": "response.create", "response": {"conversation": "@"}}),
    (
        "an item's file_id",
        "file",
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": [{"type": "input_image", "file_id": "@"}]},
        },
    ),
    (
        "a tool's vector_store_ids",
        "store",
        {"type": "session.update", "session": {"tools": [{"type": "file_search", "vector_store_ids": ["@"]}]}},
    ),
    ("a tool's container", "container", {"type": "session.update", "session": {"tools": [{"container": "@"}]}}),
)
"""Events of a realtime session that nobody is offered: an error event with the code `not_supported`."""

STRANGE_ITEMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("conversation.item.retrieve", {"item_id": "@"}),
    ("conversation.item.delete", {"item_id": "@"}),
    ("conversation.item.truncate", {"item_id": "@", "content_index": 0, "audio_end_ms": 0}),
)
"""Events about an item of another session: Foundry knows only those of the session itself."""

HANDSHAKES = ("call_id=@", "session_id=@", "conversation_id=@", "conversation=@", "id=@")
"""Query parameters by which a session could be joined: 400 for everybody."""
