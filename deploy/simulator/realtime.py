"""Realtime conversations over a websocket: sessions, items, sound, responses with their usage.

Two dialects by path: `/openai/v1/realtime?model=` speaks the current one, `/openai/realtime?deployment=` the
older, which differs in the names of some events and in the shape of the session. A response is billed when it
ends, however it ends; what was left of it when the caller went away is not.
"""

import asyncio
import base64
import binascii
import re
from typing import Any, cast
from urllib.parse import parse_qs

import msgspec

from deploy.simulator import auth, errors, sockets
from deploy.simulator.asks import Ask
from deploy.simulator.deployments import FIXED_HEADERS, Deployment
from deploy.simulator.errors import FoundryError
from deploy.simulator.faults import Fault, Target, instead
from deploy.simulator.realtime_reply import Reply
from deploy.simulator.realtime_session import (
    Conversation,
    RealtimeError,
    check,
    new_session,
    transcribed,
    updated_session,
)
from deploy.simulator.realtime_usage import BYTES_PER_MS, audio_ms
from deploy.simulator.usage import NO_STEERING, Steering, steering
from deploy.simulator.wire import Headers

MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_BUFFER_BYTES = 15 * 1024 * 1024
MIN_COMMIT_MS = 100
SILENCE_MS = 500
TITLE = "Realtime_Create"
BREAKING = ("reset", "midstream_error")
"""Kinds of faults that end a connection after `after_events` events."""
KNOWN_OTHERS = re.compile(
    r"gpt-(3|4|5|6|image|audio)|o1|o3|o4|claude|text-embedding|dall-e|flux|whisper|tts|phi-|cohere|mistral|grok"
)
VERSION_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")

Event = dict[str, Any]


async def serve(ask: Ask, match: re.Match[str]) -> None:
    """Serve one websocket from its handshake to its end."""
    beta = "/v1/" not in ask.scope["path"]
    await ask.receive()
    try:
        deployment, query = _enter(ask, beta)
    except FoundryError as refused:
        await _deny(ask, refused.status, refused.headers, refused.body)
        return
    fault = ask.site.faults.take(deployment.name, "realtime", ask.caller.headers.get(b"x-sim-fault"))
    if fault is not None and fault.replaces:
        region = ask.site.options.region
        target = Target(deployment=deployment.name, model=deployment.model, region=region, operation=TITLE)
        await _deny(ask, *instead(fault, target, ask.request_id))
        return
    offered = cast("dict[str, list[str]]", ask.scope).get("subprotocols", [])
    await ask.send({"type": "websocket.accept", "subprotocol": "realtime" if "realtime" in offered else None})
    transcribes = query.get("intent") == "transcription"
    await Session(ask, deployment, beta, transcribes, fault).run()


def _enter(ask: Ask, beta: bool) -> tuple[Deployment, dict[str, str]]:
    """Check version, caller and deployment; raises Foundry's refusals."""
    surface = "classic" if beta else "v1"
    query = {name: values[0] for name, values in parse_qs(ask.scope["query_string"].decode("latin-1")).items()}
    if beta and VERSION_PATTERN.fullmatch(query.get("api-version", "")) is None:
        raise errors.not_found()
    auth.check(ask.caller, surface, ask.site)
    name = query.get("deployment") if beta else query.get("model")
    if not name:
        raise errors.no_model_name(surface)
    deployment = ask.site.deployments.find(name)
    if deployment is None:
        raise errors.no_deployment(surface, name)
    model = deployment.model.lower()
    writes = query.get("intent") == "transcription" and ("transcribe" in model or "whisper" in model)
    if KNOWN_OTHERS.match(model) and "realtime" not in model and not writes:
        raise errors.wrong_operation("realtime", deployment.model)
    return deployment, query


async def _deny(ask: Ask, status: int, headers: Headers, body: bytes) -> None:
    """Refuse the handshake with an HTTP answer, where the server can do that."""
    extensions = cast("dict[str, dict[str, object] | None]", ask.scope).get("extensions") or {}
    if "websocket.http.response" not in extensions:
        await ask.send({"type": "websocket.close", "code": 1008})
        return
    named = {name for name, _ in headers}
    own = [pair for pair in [*FIXED_HEADERS, *ask.id_headers()] if pair[0] not in named]
    await ask.send({"type": "websocket.http.response.start", "status": status, "headers": [*own, *headers]})
    await ask.send({"type": "websocket.http.response.body", "body": body})


class Session:
    """One connection: reads the caller's events, answers them, runs one response at a time."""

    def __init__(
        self, ask: Ask, deployment: Deployment, beta: bool, transcribes: bool = False, fault: Fault | None = None
    ) -> None:
        self.ask = ask
        self.deployment = deployment
        self.beta = beta
        self.settings = new_session(ask.serial, deployment.name, beta, transcribes)
        self.conversation = Conversation(beta)
        self.sent_audio = bytearray()
        self.heard_ms = 0
        self._transcribes = transcribes
        self._fault = fault if fault is not None and fault.kind in BREAKING else None
        self._sent = 0
        self._made = 0
        self._reply: Reply | None = None
        self._turn = ""
        self._group = asyncio.TaskGroup()

    def new_id(self, kind: str) -> str:
        """A new id: `item_…`, `resp_…`."""
        self._made += 1
        return f"{kind}_{self.ask.serial}{self._made:x}"

    async def send(self, kind: str, **fields: object) -> None:
        """Send an event; where a fault strikes, the connection ends instead."""
        if self._fault is not None and self._sent >= self._fault.after_events:
            raise _EndedError
        self._sent += 1
        await self._send(kind, fields)

    async def _send(self, kind: str, fields: Event) -> None:
        event = {"type": kind, "event_id": self.new_id("event"), **fields}
        await self.ask.send({"type": "websocket.send", "text": msgspec.json.encode(event).decode()})

    async def run(self) -> None:
        """From `session.created` until the caller goes, or a fault strikes."""
        gone = False
        try:
            async with self._group:
                await self.send("session.created", session=self.settings)
                while (text := await self._next()) is not None:
                    await self._handle(text)
                gone = True
                raise _EndedError
        except* _EndedError:
            pass
        if not gone and self._fault is not None:
            await self._break(self._fault)

    async def _break(self, fault: Fault) -> None:
        """End as a fault says. Only now: the server closes nothing while somebody still waits for an event."""
        if fault.kind == "reset":
            sockets.cut(self.ask.scope["client"], at_once=True)
            return
        body = fault.body_bytes() or msgspec.json.encode(errors.server_error(self.ask.request_id))
        await self._send("error", msgspec.json.decode(body, type=dict[str, Any]))
        await self.ask.send({"type": "websocket.close", "code": 1011, "reason": "server error"})

    async def _next(self) -> bytes | None:
        """The bytes of the caller's next event; None when it has gone."""
        message = await self.ask.receive()
        if message["type"] != "websocket.receive":
            return None
        text = message.get("text")
        raw = text.encode() if text is not None else (message.get("bytes") or b"")
        if len(raw) > MAX_EVENT_BYTES:
            await self.ask.send({"type": "websocket.close", "code": 1009, "reason": "event too large"})
            return None
        return raw

    async def _handle(self, raw: bytes) -> None:
        event: Event = {}
        try:
            event = _decoded(raw)
            handler = HANDLERS.get(str(event["type"]))
            if handler is None:
                known = ", ".join(f"'{name}'" for name in HANDLERS)
                message = f"Invalid value: '{event['type']}'. Supported values are: {known}."
                raise RealtimeError(message, "invalid_value", "type")
            check(event)
            await handler(self, event)
        except RealtimeError as error:
            await self._say_error(error.message, error.code, error.param, event)
        except FoundryError as error:
            await self._say_error(_message(error.body), "invalid_value", None, event)

    async def _say_error(self, message: str, code: str, param: str | None, event: Event) -> None:
        told = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
        await self.send("error", error={**told, "event_id": event.get("event_id")})

    async def update(self, event: Event) -> None:
        """`session.update`."""
        self.settings = updated_session(self.settings, _object(event, "session"), self.beta)
        await self.send("session.updated", session=self.settings)

    async def create_item(self, event: Event) -> None:
        """`conversation.item.create`."""
        item = dict(_object(event, "item"))
        await self.add_item(item, event.get("previous_item_id"))

    async def add_item(self, item: Event, after: str | None = None) -> None:
        """Put an item into the conversation and say so."""
        item["id"] = item.get("id") or self.new_id("item")
        kept, before = self.conversation.add(item, after)
        added = "conversation.item.created" if self.beta else "conversation.item.added"
        await self.send(added, previous_item_id=before, item=kept)
        if not self.beta:
            await self.send("conversation.item.done", previous_item_id=before, item=kept)

    async def delete_item(self, event: Event) -> None:
        """`conversation.item.delete`."""
        self.conversation.remove(str(event.get("item_id")))
        await self.send("conversation.item.deleted", item_id=event.get("item_id"))

    async def retrieve_item(self, event: Event) -> None:
        """`conversation.item.retrieve`."""
        await self.send("conversation.item.retrieved", item=self.conversation.find(str(event.get("item_id"))))

    async def truncate_item(self, event: Event) -> None:
        """`conversation.item.truncate`."""
        item_id, end = str(event.get("item_id")), int(event.get("audio_end_ms") or 0)
        self.conversation.truncate(item_id, end)
        index = event.get("content_index", 0)
        await self.send("conversation.item.truncated", item_id=item_id, content_index=index, audio_end_ms=end)

    async def append(self, event: Event) -> None:
        """`input_audio_buffer.append`; with turn detection, half a second of silence ends a turn."""
        try:
            sound = base64.b64decode(str(event.get("audio", "")), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RealtimeError("Invalid 'audio': it is no base64.", "invalid_value", "audio") from error
        if len(self.sent_audio) + len(sound) > MAX_BUFFER_BYTES:
            raise RealtimeError("The input audio buffer is full.", "input_audio_buffer_full", "audio")
        before = audio_ms(len(self.sent_audio))
        was_silent = not any(self.sent_audio)
        self.sent_audio += sound
        detection = self._turn_detection()
        if detection is None:
            return
        if was_silent and any(sound):
            item_id = self.new_id("item")
            self._turn = item_id
            await self.send("input_audio_buffer.speech_started", audio_start_ms=before, item_id=item_id)
        silence = SILENCE_MS * BYTES_PER_MS
        if any(self.sent_audio) and len(self.sent_audio) >= silence and not any(self.sent_audio[-silence:]):
            end = audio_ms(len(self.sent_audio))
            await self.send("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=self._turn)
            await self._commit(self._turn)
            if detection.get("create_response", True) and not self._transcribes:
                await self.respond({})

    async def clear(self, event: Event) -> None:
        """`input_audio_buffer.clear`."""
        self.sent_audio.clear()
        await self.send("input_audio_buffer.cleared")

    async def commit(self, event: Event) -> None:
        """`input_audio_buffer.commit`."""
        if audio_ms(len(self.sent_audio)) < MIN_COMMIT_MS:
            message = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but "
                f"buffer only has {audio_ms(len(self.sent_audio)):.2f}ms of audio."
            )
            raise RealtimeError(message, "input_audio_buffer_commit_empty", None)
        await self._commit(self.new_id("item"))

    async def _commit(self, item_id: str) -> None:
        length = audio_ms(len(self.sent_audio))
        self.heard_ms += length
        self.sent_audio.clear()
        previous = self.conversation.last_id()
        await self.send("input_audio_buffer.committed", previous_item_id=previous, item_id=item_id)
        content = [{"type": "input_audio", "transcript": None}]
        item: Event = {"id": item_id, "type": "message", "status": "completed", "role": "user", "content": content}
        self.conversation.sounds[item_id] = length
        await self.add_item(item)
        await self._transcribe(item_id, length)

    async def _transcribe(self, item_id: str, length: int) -> None:
        """Write the caller's sound down where the session asks for it: a model of its own, billed by itself."""
        asked = self._transcription()
        name = None if asked is None else str(asked.get("model") or self.deployment.name)
        if name is None:
            return
        kind = "conversation.item.input_audio_transcription"
        where = {"item_id": item_id, "content_index": 0}
        deployment = self.ask.site.deployments.find(name)
        if deployment is None:
            failure = {"type": "invalid_request_error", "code": "model_not_found", "message": f"No model {name}."}
            await self.send(f"{kind}.failed", **where, error=failure)
            return
        text, usage, told = transcribed(deployment, length, self.header_steering())
        self.ask.site.bill(
            at=self.ask.site.clock.now(),
            id=item_id,
            request_id=self.ask.request_id,
            deployment=deployment,
            usage=usage,
            surface="realtime",
            operation="transcriptions",
            client_request_id=self.client_request_id(),
        ).completed = True
        await self.send(f"{kind}.delta", **where, delta=text)
        await self.send(f"{kind}.completed", **where, transcript=text, usage=told)

    async def create_response(self, event: Event) -> None:
        """`response.create`."""
        asked = _object(event, "response") if event.get("response") is not None else {}
        if self._transcribes:
            raise RealtimeError("A transcription session makes no responses.", "invalid_request", None)
        await self.respond(asked)

    async def respond(self, asked: Event) -> None:
        """Begin a response, beside which the caller's events are still read."""
        if self._reply is not None and not self._reply.over:
            message = "Conversation already has an active response in progress."
            raise RealtimeError(message, "conversation_already_has_active_response", None)
        self._reply = Reply(self, asked)
        self._group.create_task(self._reply.run())

    async def cancel(self, event: Event) -> None:
        """`response.cancel`."""
        running = self._reply
        wanted = event.get("response_id")
        if running is None or running.over or wanted not in (None, running.id):
            raise RealtimeError("Cancellation failed: no active response found", "response_cancel_not_active", None)
        running.cancelled.set()

    def header_steering(self) -> Steering:
        """What the handshake's header steers."""
        return NO_STEERING if self.ask.caller.usage is None else steering(None, self.ask.caller.usage)

    def client_request_id(self) -> str | None:
        """The caller's own id of the connection."""
        sent = self.ask.caller.client_request_id
        return None if sent is None else sent.decode("latin-1")

    def _input(self) -> Event:
        return {} if self.beta else self.settings.get("audio", {}).get("input", {})

    def _turn_detection(self) -> Event | None:
        return self.settings.get("turn_detection") if self.beta else self._input().get("turn_detection")

    def _transcription(self) -> Event | None:
        return self.settings.get("input_audio_transcription") if self.beta else self._input().get("transcription")


class _EndedError(Exception):
    """The connection is over; whatever still runs on it ends."""


HANDLERS = {
    "session.update": Session.update,
    "transcription_session.update": Session.update,
    "input_audio_buffer.append": Session.append,
    "input_audio_buffer.commit": Session.commit,
    "input_audio_buffer.clear": Session.clear,
    "conversation.item.create": Session.create_item,
    "conversation.item.delete": Session.delete_item,
    "conversation.item.retrieve": Session.retrieve_item,
    "conversation.item.truncate": Session.truncate_item,
    "response.create": Session.create_response,
    "response.cancel": Session.cancel,
}


def _decoded(raw: bytes) -> Event:
    try:
        event = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RealtimeError("Your event could not be parsed as JSON.", "invalid_json", None) from error
    if not isinstance(event, dict) or not isinstance(cast("Event", event).get("type"), str):
        raise RealtimeError("Missing required parameter: 'type'.", "missing_required_parameter", "type")
    return cast("Event", event)


def _object(event: Event, name: str) -> Event:
    value = event.get(name)
    if not isinstance(value, dict):
        raise RealtimeError(f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    return cast("Event", value)


def _message(body: bytes) -> str:
    told = msgspec.json.decode(body, type=dict[str, Any])
    return str(told.get("error", {}).get("message", "invalid"))
