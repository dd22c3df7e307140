"""One realtime response: its events from `response.created` to `response.done`, which tells its usage."""

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from deploy.simulator.chat_bytes import MAX_ANSWER_WORDS, WORDS
from deploy.simulator.realtime_usage import (
    BY_SECOND,
    BYTES_PER_MS,
    DEFAULT_TEXT,
    OWN_AUDIO_MS_PER_TOKEN,
    part_of,
    plan,
    plan_by_second,
    text_size,
    usage_json,
)
from deploy.simulator.usage import Usage, steering

if TYPE_CHECKING:
    from deploy.simulator.realtime import Session

MAX_SOUND_BYTES = 4_800
"""Of one piece of sound: longer speech still counts all its tokens."""

Event = dict[str, Any]


class Reply:
    """A response under way. `cancelled` is set by the caller's `response.cancel`."""

    def __init__(self, session: "Session", asked: Event) -> None:
        self._session = session
        self._asked = asked
        self.id = session.new_id("resp")
        self._item = session.new_id("item")
        self.over = False
        self.cancelled = asyncio.Event()
        settings = session.settings
        wanted = asked.get("output_modalities") or asked.get("modalities")
        given = wanted or settings.get("output_modalities") or settings.get("modalities") or ["text"]
        self._modalities = [str(one) for one in given]
        self._audio = "audio" in self._modalities
        names = ("max_output_tokens", "max_response_output_tokens")
        caps = [asked.get(name, settings.get(name)) for name in names]
        cap = next((one for one in caps if isinstance(one, int)), None)
        conversation = session.conversation
        said = conversation.last_user_text() or ""
        self._steer = steering(f"{asked.get('instructions') or ''} {said}", session.ask.caller.usage)
        context = conversation.size() + text_size(len(str(asked.get("instructions") or settings["instructions"])))
        self._by_second = session.deployment.model.lower().startswith(BY_SECOND)
        self._usage, self._cut = plan(self._steer, context, conversation.seen, self._audio, cap)
        if self._by_second:
            self._usage, self._cut = plan_by_second(self._steer, session.heard_ms), False
        session.heard_ms = 0
        conversation.seen = context

    async def run(self) -> None:
        """Send the response; bill it when it ends, even when the caller has gone."""
        usage = part_of(self._usage, 0, 1)
        status = "failed"
        try:
            await self._session.send("response.created", response=self._response("in_progress", None, []))
            await self._say_limits()
            usage, status, items = await self._body()
            self._bill(usage, completed=True)
        except BaseException:
            if not self.over:
                self._bill(self._sent_so_far(), completed=False)
            raise
        for item in items:
            await self._session.send("response.output_item.done", response_id=self.id, output_index=0, item=item)
        await self._session.send("response.done", response=self._response(status, usage, items))

    async def _say_limits(self) -> None:
        limits = [
            {"name": "requests", "limit": 1_000, "remaining": 999, "reset_seconds": 0.06},
            {"name": "tokens", "limit": 1_000_000, "remaining": 990_000, "reset_seconds": 0.6},
        ]
        await self._session.send("rate_limits.updated", rate_limits=limits)

    def _bill(self, usage: Usage, completed: bool) -> None:
        self.over = True
        ask = self._session.ask
        billed = ask.site.bill(
            at=ask.site.clock.now(),
            id=self.id,
            request_id=ask.request_id,
            deployment=self._session.deployment,
            usage=usage,
            surface="realtime",
            operation="realtime",
            stream=True,
            client_request_id=self._session.client_request_id(),
        )
        billed.completed = completed

    def _sent_so_far(self) -> Usage:
        return part_of(self._usage, self._done, max(1, self._of))

    _done = 0
    _of = 1

    async def _body(self) -> tuple[Usage, str, list[Event]]:
        """The events between the first and the last: usage, status and items they came to."""
        tools: list[Event] = self._asked.get("tools") or self._session.settings.get("tools") or []
        if self._steer.tool and tools:
            return await self._call(str(tools[0].get("name", "")))
        return await self._speak()

    async def _call(self, name: str) -> tuple[Usage, str, list[Event]]:
        """A call of the caller's first tool."""
        send, where = self._session.send, {"response_id": self.id, "output_index": 0}
        call_id = self._session.new_id("call")
        item: Event = {"id": self._item, "object": "realtime.item", "type": "function_call"}
        item |= {"status": "in_progress", "name": name, "call_id": call_id, "arguments": ""}
        await send("response.output_item.added", **where, item=dict(item))
        about = {**where, "item_id": self._item, "call_id": call_id}
        await send("response.function_call_arguments.delta", **about, delta="{}")
        done = {**about, "arguments": "{}"} if self._session.beta else {**about, "name": name, "arguments": "{}"}
        await send("response.function_call_arguments.done", **done)
        item |= {"status": "completed", "arguments": "{}"}
        self._session.conversation.add(item, None)
        return self._usage, "completed", [item]

    async def _speak(self) -> tuple[Usage, str, list[Event]]:
        """A message, piece by piece, as text or as sound with its transcript."""
        send, beta = self._session.send, self._session.beta
        where: Event = {"response_id": self.id, "output_index": 0}
        item: Event = {"id": self._item, "object": "realtime.item", "type": "message", "role": "assistant"}
        await send("response.output_item.added", **where, item={**item, "status": "in_progress", "content": []})
        await self._say_added(item)
        about: Event = {**where, "item_id": self._item, "content_index": 0}
        empty = {"type": "audio", "transcript": ""} if self._audio else {"type": "text", "text": ""}
        await send("response.content_part.added", **about, part=empty)
        said = await self._pieces(about)
        prefix = "response." if beta else "response.output_"
        if self._audio:
            await send(f"{prefix}audio.done", **about)
            await send(f"{prefix}audio_transcript.done", **about, transcript=said)
        else:
            await send(f"{prefix}text.done", **about, text=said)
        part = {"type": "audio", "transcript": said} if self._audio else {"type": "text", "text": said}
        await send("response.content_part.done", **about, part=part)
        stopped = self.cancelled.is_set() and self._done < self._of
        usage = part_of(self._usage, self._done, self._of) if stopped else self._usage
        status = "cancelled" if stopped else "incomplete" if self._cut else "completed"
        kept = "completed" if status == "completed" else "incomplete"
        kinds = ("audio", "text") if beta else ("output_audio", "output_text")
        content = {**part, "type": kinds[0] if self._audio else kinds[1]}
        item |= {"status": kept, "content": [content]}
        self._session.conversation.spoken[self._item] = usage.audio_completion
        self._session.conversation.add(item, None)
        return usage, status, [item]

    async def _say_added(self, item: Event) -> None:
        kind = "conversation.item.created" if self._session.beta else "conversation.item.added"
        shown: Event = {**item, "status": "in_progress", "content": []}
        await self._session.send(kind, previous_item_id=self._session.conversation.last_id(), item=shown)

    async def _pieces(self, about: Event) -> str:
        """Send the pieces until they end or the caller cancels; the text that was said."""
        usage = self._usage
        text = usage.completion - usage.audio_completion
        words = [WORDS[number % len(WORDS)] for number in range(min(text, MAX_ANSWER_WORDS))] or [""]
        if self._by_second:
            words = WORDS[:DEFAULT_TEXT]
        self._of = len(words) if usage.completion or self._by_second else 0
        length = usage.audio_completion * OWN_AUDIO_MS_PER_TOKEN * BYTES_PER_MS // max(1, len(words))
        sound = base64.b64encode(b"\1\2" * min(length // 2, MAX_SOUND_BYTES // 2)).decode()
        prefix = "response." if self._session.beta else "response.output_"
        kind = f"{prefix}audio_transcript.delta" if self._audio else f"{prefix}text.delta"
        for number in range(self._of):
            if await self._stopped(number):
                break
            delta = words[number] if number == 0 else " " + words[number]
            await self._session.send(kind, **about, delta=delta)
            if self._audio:
                await self._session.send(f"{prefix}audio.delta", **about, delta=sound)
            self._done = number + 1
        return " ".join(words[: self._done])

    async def _stopped(self, number: int) -> bool:
        """Wait before a piece; True when the caller cancels meanwhile."""
        wait_ms = self._steer.chunk_delay_ms if number else self._steer.delay_ms
        if wait_ms:
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await self.cancelled.wait()
            except TimeoutError:
                return False
        return self.cancelled.is_set()

    def _response(self, status: str, usage: Usage | None, items: list[Event]) -> Event:
        session = self._session
        details: Event | None = None
        if status == "cancelled":
            details = {"type": "cancelled", "reason": "client_cancelled"}
        elif status == "incomplete":
            details = {"type": "incomplete", "reason": "max_output_tokens"}
        told = None if usage is None or self._steer.no_usage else usage_json(usage)
        made: Event = {"object": "realtime.response", "id": self.id, "status": status, "status_details": details}
        made |= {"output": items, "conversation_id": f"conv_{session.ask.serial}", "usage": told, "metadata": None}
        if session.beta:
            return {**made, "modalities": self._modalities, "max_output_tokens": "inf"}
        return {**made, "output_modalities": self._modalities, "max_output_tokens": "inf"}
