"""What passes in a realtime session, as far as the gateway must know it: turns, usage, and what is not offered.

Events of callers are written anew, so that a name that stands twice, or is spelled with escapes, means the same to
Foundry as to us.
"""

import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import msgspec

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.objects.positions import DEPTH_MAX, FOREIGN_WORDS, Object, as_list, as_object

NULL = (b"", b"null")
END_EVENT_ID = "event_tundish_end"
"""By which Foundry's answer to our last event is known."""
END_EVENT = b'{"type":"response.cancel","event_id":"%s"}' % END_EVENT_ID.encode()
BETA_VERSION = "2025-04-01-preview"
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}-preview\Z")
QUERY_WORDS = frozenset({"model", "deployment", "api-version", "intent"})


class ClientEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the caller's, and its bytes for Foundry. `transcription` is the model that it wants spoken input
    transcribed by, by the name that Foundry is told."""

    type: str
    message: bytes
    transcription: str | None = None


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of Foundry's: `model` and `transcription` of a session's settings, `response_id` of a response's begin
    and end, `failed` of an end, `item_id` of what was heard, `answers` the caller's event that an error is about."""

    type: str
    model: str | None = None
    transcription: str | None = None
    response_id: str = ""
    failed: bool = False
    item_id: str = ""
    answers: str | None = None


class _Transcription(msgspec.Struct):
    model: str | None = None


class _Input(msgspec.Struct):
    transcription: _Transcription | None = None


class _Audio(msgspec.Struct):
    input: _Input | None = None


class _Session(msgspec.Struct):
    model: str | None = None
    input_audio_transcription: _Transcription | None = None
    audio: _Audio | None = None


class _Response(msgspec.Struct):
    id: str = ""
    status: str | None = None


class _Error(msgspec.Struct):
    event_id: str | None = None


class _Bare(msgspec.Struct):
    type: str


class _Server(msgspec.Struct):
    session: _Session | None = None
    response: _Response | None = None
    item_id: str = ""
    error: _Error | None = None


_bare = msgspec.json.Decoder(_Bare)
_server = msgspec.json.Decoder(_Server)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

CLIENT_TYPES = frozenset(
    f"{family}.{action}"
    for family, actions in {
        "session": "update",
        "transcription_session": "update",
        "input_audio_buffer": "append commit clear",
        "output_audio_buffer": "clear",
        "conversation.item": "create retrieve truncate delete",
        "response": "create cancel",
    }.items()
    for action in actions.split()
)
"""What callers may send: everything in it stays inside the session."""
HEARD = "conversation.item.input_audio_transcription."
_SERVER_READ = frozenset(
    {
        "session.created",
        "session.updated",
        "transcription_session.created",
        "transcription_session.updated",
        "response.created",
        "response.done",
        "input_audio_buffer.committed",
        f"{HEARD}completed",
        f"{HEARD}failed",
        "error",
    }
)
STORED = frozenset({"file_id", "file_ids", "container", "container_id", "vector_store_id", "vector_store_ids"})
"""Keys that name what Foundry stores for all teams together."""
_WATCHED = STORED | {
    "type",
    "session",
    "response",
    "prompt",
    "conversation",
    "model",
    "audio",
    "input",
    "transcription",
    "input_audio_transcription",
}
CONVERSATIONS = (None, "auto", "none")


def read_client(message: bytes, transcriber: Callable[[str], str] = str) -> ClientEvent:
    """An event of the caller's. `transcriber` says by what name Foundry knows a model that a caller wants transcribed
    by. Raises BadRequest for what is not offered or not understood, and what `transcriber` raises."""
    try:
        event = as_object(msgspec.json.decode(message))
    except _UNREADABLE as error:
        raise BadRequest(f"The event is no JSON: {error}.", code="invalid_json") from error
    kind = None if event is None else event.get("type")
    if event is None or not isinstance(kind, str):
        raise BadRequest("An event must be a JSON object with a 'type'.", param="type")
    if kind not in CLIENT_TYPES:
        raise BadRequest(f"Events of the type '{kind[:100]}' are not passed on.", code="unknown_event", param="type")
    named: str | None = None
    if kind != "input_audio_buffer.append":
        _check(event)
        named = _exchange_transcriber(as_object(event.get("session")), transcriber)
    return ClientEvent(type=kind, message=msgspec.json.encode(event), transcription=named)


def read_server(message: bytes) -> ServerEvent:
    """An event of Foundry's; of what cannot be read the type is empty."""
    try:
        kind = _bare.decode(message).type
        if kind not in _SERVER_READ:
            return ServerEvent(type=kind)
        said = _server.decode(message)
    except _UNREADABLE:
        return ServerEvent(type="")
    response, session = said.response or _Response(), said.session or _Session()
    return ServerEvent(
        type=kind,
        model=session.model,
        transcription=_transcription(session),
        response_id=response.id,
        failed=response.status == "failed",
        item_id=said.item_id,
        answers=None if said.error is None else said.error.event_id,
    )


def _check(event: Object) -> None:
    """Refuse what is stored outside the session, wherever an event names it. Raises BadRequest."""
    for key in _keys(event, 0):
        if key in STORED:
            raise BadRequest(
                f"'{key}' is not offered in realtime sessions: it names what Foundry stores for everybody behind one"
                " resource.",
                code="not_supported",
                param=key,
            )
        if key != key.lower() and key.lower() in _WATCHED:
            raise BadRequest(f"The field '{key[:60]}' is not written as '{key.lower()}'.", param=key.lower())
    for name in ("session", "response"):
        part = as_object(event.get(name))
        if part is not None and part.get("prompt") is not None:
            raise BadRequest(
                "Stored prompts are not offered: they are shared by everybody behind one Foundry resource. Send the"
                " instructions themselves.",
                code="not_supported",
                param=f"{name}.prompt",
            )
        if part is not None and part.get("conversation") not in CONVERSATIONS:
            raise BadRequest(
                "Only the session's own conversation is offered: 'auto' or 'none'.",
                code="not_supported",
                param=f"{name}.conversation",
            )


def _keys(value: object, depth: int) -> Iterator[str]:
    """All keys at any depth, but for those of the caller's own schemas."""
    if depth > DEPTH_MAX:
        raise BadRequest(f"The event is nested deeper than {DEPTH_MAX} levels.")
    for one in as_list(value):
        yield from _keys(one, depth + 1)
    for key, inner in (as_object(value) or {}).items():
        yield key
        if key not in FOREIGN_WORDS:
            yield from _keys(inner, depth + 1)


def _exchange_transcriber(session: Object | None, transcriber: Callable[[str], str]) -> str | None:
    """Put the name that Foundry knows in the place of that of a model that is to transcribe; that name."""
    told: str | None = None
    for holder, where in _transcriptions(session):
        model = holder.get("model")
        if not isinstance(model, str):
            raise BadRequest("Name the model that is to transcribe.", code="missing_model", param=f"{where}.model")
        name = transcriber(model)
        if told not in (None, name):
            raise BadRequest("The event names two models that are to transcribe.", param=f"{where}.model")
        holder["model"] = told = name
    return told


def _transcriptions(session: Object | None) -> Iterator[tuple[Object, str]]:
    """The settings of transcription, in either dialect."""
    session = session or {}
    heard = as_object((as_object(session.get("audio")) or {}).get("input")) or {}
    for holder, where in (
        (as_object(session.get("input_audio_transcription")), "session.input_audio_transcription"),
        (as_object(heard.get("transcription")), "session.audio.input.transcription"),
    ):
        if holder is not None:
            yield holder, where


def _transcription(session: _Session) -> str | None:
    found = session.input_audio_transcription
    if found is None and session.audio is not None and session.audio.input is not None:
        found = session.audio.input.transcription
    return None if found is None else found.model


def key_of_subprotocols(offered: list[str]) -> tuple[str | None, list[str]]:
    """The key that browsers put among the subprotocols, and the others, which may be agreed on."""
    prefix = "openai-insecure-api-key."
    keys = [item.removeprefix(prefix) for item in offered if item.startswith(prefix)]
    return (keys[0] if keys else None), [item for item in offered if not item.startswith("openai-")]


def session_url(base: str, deployment: str, *, beta: bool, version: str | None, transcribes: bool) -> str:
    """Where a session is opened, in the dialect that its caller speaks: Foundry has a path for each.

    `base` is the resource's address, `version` the API version that was asked for: the older dialect needs one.
    """
    socket, name = "ws" + base.removeprefix("http"), quote(deployment, safe="")
    intent = "&intent=transcription" if transcribes else ""
    if not beta:
        return f"{socket}/openai/v1/realtime?model={name}{intent}"
    chosen = version if version is not None and _VERSION.match(version) else BETA_VERSION
    return f"{socket}/openai/realtime?api-version={chosen}&deployment={name}{intent}"
