"""The state of a realtime session: its settings in either dialect, and the conversation's items."""

from typing import Annotated, Any, cast

import msgspec

from deploy.simulator.audio import by_token, listen_usage, listen_usage_json, transcript
from deploy.simulator.deployments import Deployment
from deploy.simulator.realtime_usage import OWN_AUDIO_MS_PER_TOKEN, TOKENS_PER_IMAGE, Size, text_size, user_audio
from deploy.simulator.usage import DEFAULT_COMPLETION, Steering, Usage

MAX_ITEMS = 10_000
ITEM_TYPES = ("message", "function_call", "function_call_output", "mcp_approval_response", "item_reference")
LIFE_S = 3_600

Event = dict[str, Any]


class RealtimeError(Exception):
    """An event that cannot be done: becomes an `error` event, and the session goes on."""

    def __init__(self, message: str, code: str, param: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class Heard(msgspec.Struct):
    """The types in `audio.input`, wherever it stands."""

    transcription: dict[str, Any] | None = None
    turn_detection: dict[str, Any] | None = None


class Spoken(msgspec.Struct):
    """The types in `audio`."""

    input: Heard | None = None
    output: dict[str, Any] | None = None


class SessionShape(msgspec.Struct):
    """The types of what a session may be told, in either dialect; what is not named may be anything."""

    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    output_modalities: list[str] | None = None
    modalities: list[str] | None = None
    max_output_tokens: int | str | None = None
    max_response_output_tokens: int | str | None = None
    audio: Spoken | None = None
    input_audio_transcription: dict[str, Any] | None = None
    turn_detection: dict[str, Any] | None = None


class ItemShape(msgspec.Struct):
    """The types of an item."""

    type: str
    id: str | None = None
    role: str | None = None
    content: list[dict[str, Any]] | None = None


class EventShape(msgspec.Struct):
    """The types of an event's own fields."""

    session: SessionShape | None = None
    response: SessionShape | None = None
    item: ItemShape | None = None
    item_id: str | None = None
    previous_item_id: str | None = None
    response_id: str | None = None
    audio_end_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] | None = None


def check(event: Event) -> None:
    """Raise for an event whose parts have other types than they must."""
    try:
        msgspec.convert(event, EventShape)
    except msgspec.ValidationError as error:
        where = str(error).rpartition("$.")[2].rstrip("`")
        raise RealtimeError(f"Invalid type: {error}", "invalid_type", where) from error


def new_session(serial: str, model: str, beta: bool, transcribes: bool) -> Event:
    """The session as it is before the caller changes it."""
    head: Event = {"id": f"sess_{serial}", "object": "realtime.session", "model": model}
    if beta:
        return {
            **head,
            "modalities": ["audio", "text"],
            "instructions": "",
            "voice": "alloy",
            "input_audio_format": "pcm16",
            "output_audio_format": "pcm16",
            "input_audio_transcription": None,
            "turn_detection": None,
            "tools": [],
            "tool_choice": "auto",
            "temperature": 0.8,
            "max_response_output_tokens": "inf",
        }
    pcm = {"type": "audio/pcm", "rate": 24_000}
    heard: Event = {"format": pcm, "transcription": None, "noise_reduction": None, "turn_detection": None}
    if transcribes:
        heard["transcription"] = {"model": model}
        return {**head, "object": "realtime.transcription_session", "type": "transcription", "audio": {"input": heard}}
    return {
        **head,
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
        "audio": {"input": heard, "output": {"format": pcm, "voice": "marin", "speed": 1.0}},
    }


def updated_session(session: Event, changes: Event, beta: bool) -> Event:
    """The session with a caller's changes; raises for what cannot change."""
    if changes.get("model") not in (None, session["model"]):
        raise RealtimeError("Cannot update a conversation's model.", "invalid_value", "session.model")
    if not beta and changes.get("type") not in ("realtime", "transcription"):
        raise RealtimeError("Missing required parameter: 'session.type'.", "missing_required_parameter", "session.type")
    if not beta and changes["type"] != session["type"]:
        message = f"Passing a {changes['type']} session update event to a {session['type']} session is not allowed."
        raise RealtimeError(message, "invalid_value", "session.type")
    fixed = ("id", "object", "model")
    return _merged(session, {name: value for name, value in changes.items() if name not in fixed})


def _merged(old: Event, new: Event, deeper: tuple[str, ...] = ("audio",)) -> Event:
    """The settings with changes; of those named in `deeper` only the parts that are told change."""
    merged = dict(old)
    for name, value in new.items():
        if name in deeper:
            merged[name] = _merged(cast("Event", old.get(name) or {}), cast("Event", value or {}), ("input", "output"))
        else:
            merged[name] = value
    return merged


class Conversation:
    """The items of a conversation, and how long the sounds among them are (ms)."""

    def __init__(self, beta: bool) -> None:
        self._beta = beta
        self._items: dict[str, Event] = {}
        self._order: list[str] = []
        self.sounds: dict[str, int] = {}
        self.spoken: dict[str, int] = {}
        self.seen = Size()

    def add(self, item: Event, after: str | None) -> tuple[Event, str | None]:
        """Keep an item, at the end or after another; what is kept, and the item before it."""
        if item.get("type") not in ITEM_TYPES:
            raise RealtimeError(f"Invalid value: '{item.get('type')}'.", "invalid_value", "item.type")
        if item["type"] == "message" and item.get("role") not in ("user", "assistant", "system"):
            raise RealtimeError(f"Invalid value: '{item.get('role')}'.", "invalid_value", "item.role")
        item_id = str(item["id"])
        if item_id in self._items:
            raise RealtimeError(f"Item with item_id '{item_id}' already exists.", "item_create_duplicate_id", "item.id")
        if len(self._items) >= MAX_ITEMS:
            raise RealtimeError("The conversation is full.", "conversation_full", None)
        if after not in (None, "root") and after not in self._items:
            message = f"Failed to create item: previous item with id '{after}' not found."
            raise RealtimeError(message, "item_create_invalid_previous_item", "previous_item_id")
        place = len(self._order) if after is None else 0 if after == "root" else self._order.index(str(after)) + 1
        self._order.insert(place, item_id)
        kept: Event = {"object": "realtime.item", "status": "completed", **item}
        self._items[item_id] = kept
        return kept, self._order[place - 1] if place else None

    def find(self, item_id: str) -> Event:
        """An item; raises when there is none."""
        found = self._items.get(item_id)
        if found is None:
            raise RealtimeError(f"Item with item_id '{item_id}' not found.", "item_not_found", "item_id")
        return found

    def remove(self, item_id: str) -> None:
        """Take an item out; raises when there is none."""
        self.find(item_id)
        del self._items[item_id]
        self._order.remove(item_id)

    def truncate(self, item_id: str, end_ms: int) -> None:
        """Cut what was spoken in an item of the model's."""
        self.find(item_id)
        self.spoken[item_id] = min(self.spoken.get(item_id, 0), end_ms // OWN_AUDIO_MS_PER_TOKEN)

    def last_id(self) -> str | None:
        """The last item's id."""
        return self._order[-1] if self._order else None

    def last_user_text(self) -> str | None:
        """The text of the caller's last message."""
        for item_id in reversed(self._order):
            item = self._items[item_id]
            if item["type"] == "message" and item["role"] == "user":
                return "".join(str(part.get("text") or "") for part in _content(item))
        return None

    def size(self) -> Size:
        """Tokens of all items."""
        total = Size()
        for item_id in self._order:
            total += self._item_size(item_id)
        return total

    def _item_size(self, item_id: str) -> Size:
        item = self._items[item_id]
        chars = len(str(item.get("arguments") or "")) + len(str(item.get("output") or ""))
        size = Size(audio=self.spoken.get(item_id, 0))
        for part in _content(item):
            chars += len(str(part.get("text") or part.get("transcript") or ""))
            if part.get("type") == "input_image":
                size += Size(image=TOKENS_PER_IMAGE)
            if part.get("type") == "input_audio":
                size += user_audio(self.sounds.get(item_id) or len(str(part.get("audio") or "")) * 3 // 4 // 48)
        return size + text_size(chars)


def _content(item: Event) -> list[Event]:
    return cast("list[Event]", item.get("content") or [])


def transcribed(deployment: Deployment, length: int, steer: Steering) -> tuple[str, Usage, Event]:
    """What a transcription of the caller's sound says, counts and tells of it."""
    usage = listen_usage(deployment.model, length, 0, steer)
    words = usage.completion if by_token(deployment.model) else DEFAULT_COMPLETION
    return transcript(words), usage, listen_usage_json(usage)
