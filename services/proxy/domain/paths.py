"""The front door's table: which request path means what. Nothing here is ever joined into an upstream URL.

A path is judged on its raw bytes. Dot segments, empty segments, encoded slashes and control characters are
refused in any spelling, so that no two components can read one path differently.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from services.proxy.domain.admin_paths import admin_not_offered, admin_row, admin_rows

PATH_BYTES_MAX = 2_048
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~:@!$&'()*+,;=")


class BadPath(ValueError):
    """A path that could be read in two ways; the text says what is wrong with it."""


class Endpoint(StrEnum):
    """What a path asks for. The value is the operation's name in usage events and metrics."""

    __hash__ = str.__hash__  # as the name's text, without a call into Python for every look into a table

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "messages/count_tokens"
    IMAGES = "images/generations"
    IMAGE_EDITS = "images/edits"
    TRANSCRIPTIONS = "audio/transcriptions"
    TRANSLATIONS = "audio/translations"
    SPEECH = "audio/speech"
    RERANK = "rerank"
    OCR = "ocr"
    RAW = "raw"
    REALTIME = "realtime"
    RESPONSE = "responses/{id}"
    RESPONSE_CANCEL = "responses/{id}/cancel"
    RESPONSE_ITEMS = "responses/{id}/input_items"
    FILES = "files"
    FILE = "files/{id}"
    FILE_CONTENT = "files/{id}/content"
    BATCHES = "batches"
    BATCH = "batches/{id}"
    BATCH_CANCEL = "batches/{id}/cancel"
    MODEL_INFO = "model/info"
    MODELS = "models"
    MODEL = "model"
    ALIVE = "alive"
    READY = "ready"
    ADMIN = "admin"


Dialect = Literal["openai", "anthropic"]
"""In whose words a caller is answered and told of errors; Azure's are OpenAI's."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table. `model` is the public model name when the path carries it (Azure's style); `object_id` the
    stored object's, as the caller knows it; `provider` and `rest` are for raw paths: the word they begin with, and what
    follows the model, as validated segments joined by slashes; `service` and `path` are for admin paths."""

    endpoint: Endpoint
    methods: tuple[str, ...] = ("POST",)
    dialect: Dialect = "openai"
    model: str | None = None
    object_id: str | None = None
    provider: str | None = None
    rest: str = ""
    service: str | None = None
    path: str = ""


OPENAI_PREFIXES = ("/v1", "", "/openai/v1")
"""All that OpenAI's clients call is served behind each of them."""
CREATING = (
    Endpoint.CHAT,
    Endpoint.COMPLETIONS,
    Endpoint.EMBEDDINGS,
    Endpoint.RESPONSES,
    Endpoint.IMAGES,
    Endpoint.IMAGE_EDITS,
    Endpoint.TRANSCRIPTIONS,
    Endpoint.TRANSLATIONS,
    Endpoint.SPEECH,
)
DEPLOYMENT_OPERATIONS = tuple(endpoint for endpoint in CREATING if endpoint is not Endpoint.RESPONSES)
"""What Azure's clients call behind `/openai/deployments/{model}/`; everything else they call behind `/openai/`."""
ENGINE_OPERATIONS = (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS)
METERED = frozenset({*CREATING, Endpoint.MESSAGES, Endpoint.COUNT_TOKENS, Endpoint.RERANK, Endpoint.OCR, Endpoint.RAW})
"""Calls of one model, answered at once."""
STORED = frozenset(
    {
        Endpoint.RESPONSE,
        Endpoint.RESPONSE_CANCEL,
        Endpoint.RESPONSE_ITEMS,
        Endpoint.FILES,
        Endpoint.FILE,
        Endpoint.FILE_CONTENT,
        Endpoint.BATCHES,
        Endpoint.BATCH,
        Endpoint.BATCH_CANCEL,
    }
)
"""Calls about objects that Foundry keeps."""
RAW_PROVIDERS = ("azure", "azure_ai")
RAW_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OBJECT_ID_CHARS_MAX = 1_000


def _inference() -> dict[bytes, Route]:
    table: dict[str, Route] = {}
    for prefix in OPENAI_PREFIXES:
        for endpoint in CREATING:
            table[f"{prefix}/{endpoint}"] = Route(endpoint=endpoint)
    for prefix in (*OPENAI_PREFIXES, "/openai"):
        table[f"{prefix}/responses"] = Route(endpoint=Endpoint.RESPONSES)
        table[f"{prefix}/files"] = Route(endpoint=Endpoint.FILES, methods=("POST", "GET"))
        table[f"{prefix}/batches"] = Route(endpoint=Endpoint.BATCHES, methods=("POST", "GET"))
        table[f"{prefix}/models"] = Route(endpoint=Endpoint.MODELS, methods=("GET",), path=prefix)
        table[f"{prefix}/realtime"] = Route(endpoint=Endpoint.REALTIME, methods=("GET",))
    for prefix in ("/v1", "/anthropic/v1"):
        table[f"{prefix}/messages"] = Route(endpoint=Endpoint.MESSAGES, dialect="anthropic")
        table[f"{prefix}/messages/count_tokens"] = Route(endpoint=Endpoint.COUNT_TOKENS, dialect="anthropic")
    table["/anthropic/v1/models"] = Route(endpoint=Endpoint.MODELS, methods=("GET",), dialect="anthropic")
    for prefix in ("", "/v1", "/v2"):
        table[f"{prefix}/rerank"] = Route(endpoint=Endpoint.RERANK)
        table[f"{prefix}/model/info"] = Route(
            endpoint=Endpoint.MODEL_INFO, methods=("GET",), path=f"{prefix}/model/info"
        )
    table["/model_group/info"] = Route(endpoint=Endpoint.MODEL_INFO, methods=("GET",), path="/model_group/info")
    for prefix in ("", "/v1"):
        table[f"{prefix}/ocr"] = Route(endpoint=Endpoint.OCR)
    for path in ("/health/liveliness", "/health/liveness"):
        table[path] = Route(endpoint=Endpoint.ALIVE, methods=("GET", "HEAD"))
    table["/health/readiness"] = Route(endpoint=Endpoint.READY, methods=("GET", "HEAD"))
    return {path.encode(): route for path, route in table.items()}


def _admin() -> dict[bytes, Route]:
    table: dict[bytes, Route] = {}
    for service, method, path in admin_rows():
        known = table.get(path.encode())
        served = (method,) if known is None else (*known.methods, method)
        table[path.encode()] = Route(endpoint=Endpoint.ADMIN, methods=served, service=service, path=path)
    return table


INFERENCE_TABLE = _inference()
ADMIN_TABLE = _admin()
_TABLE = {**INFERENCE_TABLE, **ADMIN_TABLE}

_OF_DEPLOYMENT = {tuple(endpoint.split("/")): endpoint for endpoint in DEPLOYMENT_OPERATIONS}
_OF_ENGINE = {tuple(endpoint.split("/")): endpoint for endpoint in ENGINE_OPERATIONS}
_OBJECTS: dict[tuple[str, str], tuple[Endpoint, tuple[str, ...]]] = {
    ("responses", ""): (Endpoint.RESPONSE, ("GET", "DELETE")),
    ("responses", "cancel"): (Endpoint.RESPONSE_CANCEL, ("POST",)),
    ("responses", "input_items"): (Endpoint.RESPONSE_ITEMS, ("GET",)),
    ("files", ""): (Endpoint.FILE, ("GET", "DELETE")),
    ("files", "content"): (Endpoint.FILE_CONTENT, ("GET",)),
    ("batches", ""): (Endpoint.BATCH, ("GET",)),
    ("batches", "cancel"): (Endpoint.BATCH_CANCEL, ("POST",)),
}
"""What follows a prefix of OpenAI's: the kind of object and what is behind its id."""
_NO_OBJECT_IDS = ("compact", "input_tokens")
"""Operations of OpenAI's that stand where ids do, and that are not offered."""
NOT_OFFERED = {
    "assistants": "Assistants are not offered: use /v1/responses.",
    "threads": "Threads are not offered: use /v1/responses with previous_response_id.",
    "conversations": "Conversations are not offered: use /v1/responses with previous_response_id.",
    "vector_stores": "Vector stores are not offered.",
    "fine_tuning": "Fine-tuning is not offered: it is done in Foundry itself.",
    "fine-tunes": "Fine-tuning is not offered: it is done in Foundry itself.",
    "evals": "Evaluations are not offered.",
    "graders": "Graders are not offered.",
    "containers": "Containers are not offered.",
    "uploads": "Uploads in parts are not offered: use POST /v1/files.",
    "moderations": "Moderations are not offered: Foundry filters contents itself.",
    "videos": "Videos are not offered.",
    "skills": "Skills are not offered.",
    "agents": "Agents are not offered.",
    "chatkit": "ChatKit is not offered.",
    "mcp": "MCP servers are not offered.",
    "edits": "Edits are not offered: use /v1/chat/completions.",
    "complete": "Text completions of Anthropic's are not offered: use /v1/messages.",
    "search": "Search is not offered.",
    "chat": "Stored chat completions are not offered; POST /v1/chat/completions is.",
    "messages": "Only POST /v1/messages and /v1/messages/count_tokens are offered.",
    "responses": "Of responses create, get, delete, cancel and input_items are offered.",
    "realtime": "Of realtime only the WebSocket at /v1/realtime is offered.",
    "images": "Of images generations and edits are offered.",
    "audio": "Of audio transcriptions, translations and speech are offered.",
    "files": "Of files upload, list, get, content and delete are offered.",
    "batches": "Of batches create, list, get and cancel are offered.",
    "deployments": "Behind /openai/deployments/{model}/ are offered: "
    + ", ".join(DEPLOYMENT_OPERATIONS)
    + "; everything else stands behind /openai/v1/.",
}
"""Words of OpenAI's and Anthropic's APIs behind which not everything (or nothing) is served, and what is said of it."""


def route_of(raw_path: bytes) -> Route | None:
    """The row for a raw path (no query), or None if there is none. Raises BadPath."""
    route = _TABLE.get(raw_path)
    if route is not None:
        return route
    segments = split_path(raw_path)
    if len(segments) < 2:
        return None
    first = segments[0]
    if first == "openai" and segments[1] == "deployments":
        return _of_model(segments[2:], _OF_DEPLOYMENT)
    if first in RAW_PROVIDERS:
        return _raw(segments)
    rest = unprefixed(segments)
    if rest[:1] == ("engines",):
        return _of_model(rest[1:], _OF_ENGINE)
    return _object(segments, rest) or _admin_object(segments)


def unprefixed(segments: tuple[str, ...]) -> tuple[str, ...]:
    """A path without `v1`, `openai`, `openai/v1` or `anthropic/v1`."""
    if segments[:2] in (("openai", "v1"), ("anthropic", "v1")):
        return segments[2:]
    return segments[1:] if segments[:1] in (("v1",), ("openai",), ("anthropic",)) else segments


def not_offered(raw_path: bytes) -> str | None:
    """Why a path that clients of OpenAI's, Anthropic's or LiteLLM's may call is not served; None for other paths."""
    segments = split_path(raw_path)
    rest = unprefixed(segments)
    said = NOT_OFFERED.get(rest[0]) if rest else None
    return said or admin_not_offered(segments)


def _of_model(segments: tuple[str, ...], table: dict[tuple[str, ...], Endpoint]) -> Route | None:
    endpoint = table.get(segments[1:])
    return None if endpoint is None else Route(endpoint=endpoint, model=segments[0])


def _raw(segments: tuple[str, ...]) -> Route | None:
    if len(segments) < 3:
        return None
    return Route(
        endpoint=Endpoint.RAW,
        methods=RAW_METHODS,
        provider=segments[0],
        model=segments[1],
        rest="/".join(segments[2:]),
    )


def _object(segments: tuple[str, ...], rest: tuple[str, ...]) -> Route | None:
    if len(rest) == 2 and rest[0] == "models":
        dialect: Dialect = "anthropic" if segments[0] == "anthropic" else "openai"
        prefix = "".join(f"/{word}" for word in segments[:-2])
        return Route(endpoint=Endpoint.MODEL, methods=("GET",), model=rest[1], dialect=dialect, path=prefix)
    if not 2 <= len(rest) <= 3 or segments[0] == "anthropic":
        return None
    found = _OBJECTS.get((rest[0], rest[2] if len(rest) == 3 else ""))
    if found is None or rest[1] in _NO_OBJECT_IDS or not _opaque(rest[1].replace(".", ""), OBJECT_ID_CHARS_MAX):
        return None
    endpoint, methods = found
    return Route(endpoint=endpoint, methods=methods, object_id=rest[1])


def _admin_object(segments: tuple[str, ...]) -> Route | None:
    row = admin_row(segments)
    if row is None or not _opaque(segments[row.named]):
        return None
    path = "/" + "/".join(segments)
    return Route(endpoint=Endpoint.ADMIN, methods=(row.method,), service=row.service, path=path)


def split_path(raw_path: bytes) -> tuple[str, ...]:
    """The decoded segments of an absolute path. Raises BadPath for anything ambiguous."""
    if not raw_path.startswith(b"/"):
        raise BadPath("the path does not begin with '/'")
    if len(raw_path) > PATH_BYTES_MAX:
        raise BadPath(f"the path is longer than {PATH_BYTES_MAX} bytes")
    if raw_path == b"/":
        return ()
    return tuple(_segment(part) for part in raw_path[1:].split(b"/"))


def _segment(part: bytes) -> str:
    decoded = _percent_decoded(part)
    if not decoded:
        raise BadPath("the path has an empty segment ('//' or a '/' at its end)")
    if decoded in (b".", b".."):
        raise BadPath("the path has a '.' or '..' segment")
    if b"/" in decoded or b"\\" in decoded:
        raise BadPath("the path has a slash or backslash inside a segment")
    try:
        text = decoded.decode()
    except UnicodeDecodeError as error:
        raise BadPath("the path is not UTF-8") from error
    if any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in text):
        raise BadPath("the path has a control character")
    return text


def _percent_decoded(part: bytes) -> bytes:
    if b"%" not in part:
        return part
    out = bytearray()
    at = 0
    while at < len(part):
        if part[at] != 0x25:
            out.append(part[at])
            at += 1
            continue
        try:
            out.append(int(part[at + 1 : at + 3].decode("ascii"), 16) if len(part) >= at + 3 else -1)
        except ValueError as error:
            raise BadPath("the path has a '%' that is not followed by two hexadecimal digits") from error
        at += 3
    return bytes(out)


def _opaque(text: str, chars_max: int = 100) -> bool:
    return len(text) <= chars_max and all(byte in _PLAIN for byte in text.encode())
