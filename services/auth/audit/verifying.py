"""The work behind `/audit/verify`: the chain is followed, and every event compared with its copy in the stream AUTH.

Three things would have to be changed alike to change the log unseen: the event table, the hashes beside it and the
stream; and an anchor that was kept elsewhere would still not fit.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from services.auth.answers.audit import HeadAnswer, Verified
from services.auth.domain.chain import GENESIS, Break, Head, Link, follow
from services.auth.store_audit import AuditStore
from shared.auth_log import AUTH_SUBJECTS, LaterEvent, auth_event
from shared.bus import Bus, Tail
from shared.errors import ApiError
from shared.events import AnyAuthEvent, decode_auth, type_of
from shared.topology import AUTH, auth_subject

BATCH = 500
EVENTS_MAX = 1_000_000
"""Events that one request follows; the next one goes on from there."""
FOREIGN_MAX = 100
"""Messages of AUTH that are no events which one answer names."""
_ANCHOR = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


class Verifier:
    """Verifies the log, for one request at a time."""

    def __init__(self, store: AuditStore, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._busy = asyncio.Lock()

    async def verify(self, *, after: int = 0, anchor: str | None = None, most: int = EVENTS_MAX) -> Verified:
        """Follow the log from a position (its hash is believed) to the end.

        Raises ApiError 400, 429, 503, StoreUnavailable, BusUnavailable.
        """
        kept = None if anchor is None else _anchor(anchor)
        if self._busy.locked():
            raise ApiError(429, "verification_running", "The log is being verified already: try again later.")
        async with self._busy:
            head = Head() if after == 0 else await self._begin(after)
            if isinstance(head, Break):
                return _answer(Head(position=after), 0, 0, head)
            copies = _Copies(self._bus, head.position)
            try:
                found = await self._follow(copies, head, kept, most)
            except LaterEvent as error:
                raise ApiError(503, "later_version", f"{error}.") from error
            return msgspec.structs.replace(found, foreign_messages=copies.foreign, foreign_at=copies.foreign_at)

    async def _begin(self, after: int) -> Head | Break:
        mark = await self._store.hash_at(after)
        if mark is None:
            return Break(position=after, what="there is no event with a hash at the position to go on from")
        return Head(position=after, hash=mark)

    async def _follow(self, copies: "_Copies", head: Head, kept: Head | None, most: int) -> Verified:
        first, compared = head.position, 0
        async with aclosing(copies.read()) as stream:
            copies.begin(stream)
            while head.position - first < most:
                limit = min(BATCH, most - (head.position - first))
                found = await self._store.links(head.position, limit=limit)
                last = head
                head, wrong = follow(head, [link for link, _ in found])
                good = found[: head.position - last.position]
                for link, body in good:
                    differs = await copies.compare(link, body)
                    if differs is not None:
                        return _answer(last, last.position - first, compared, differs)
                    compared += copies.had
                    last = Head(position=link.position, hash=link.hash or GENESIS)
                wrong = wrong or _against_anchor(good, kept)
                if wrong is not None:
                    return _answer(head, head.position - first, compared, wrong)
                if len(found) < limit:
                    wrong = await copies.left(head.position) or _too_short(head, kept)
                    return _answer(head, head.position - first, compared, wrong)
        return _answer(head, head.position - first, compared, None, more=True)


class _Copy(NamedTuple):
    """An event of AUTH and the subject it stands under."""

    subject: str
    event: AnyAuthEvent


class _Copies:
    """The events of AUTH in order, as far as it reached when the verification began.

    `foreign` counts its messages that are no events: the stream loses none, so a sequence that is not read stands
    under a subject that is not auth's.
    """

    def __init__(self, bus: Bus, after: int) -> None:
        self._bus = bus
        self._after = after
        self._stream: AsyncGenerator[_Copy, None] | None = None
        self._next: _Copy | None = None
        self.had = 0
        self.foreign = 0
        self.foreign_at: list[int] = []

    def begin(self, stream: AsyncGenerator[_Copy, None]) -> None:
        """Read from this generator of `read`."""
        self._stream = stream

    async def read(self) -> AsyncGenerator[_Copy, None]:
        """The events above the position to begin after."""
        info = await self._bus.stream_info(AUTH)
        last = info.state.last_seq
        if last == 0:
            return
        expected = info.state.first_seq
        tail = Tail(self._bus, AUTH, AUTH_SUBJECTS, created=info.created)
        async with aclosing(tail.batches()) as batches:
            async for batch in batches:
                for message in batch.messages:
                    if message.seq > last:
                        break
                    self._note_foreign(expected, message.seq)
                    expected = message.seq + 1
                    event = auth_event(message)
                    if event is None:
                        self._note_foreign(message.seq, expected)
                    elif event.position > self._after:
                        yield _Copy(message.subject, event)
                if batch.caught_up or (batch.messages and batch.messages[-1].seq >= last):
                    self._note_foreign(expected, last + 1)
                    return

    def _note_foreign(self, begin: int, end: int) -> None:
        """The messages from `begin` up to before `end` are no events."""
        self.foreign += max(0, end - begin)
        self.foreign_at += range(begin, min(end, begin + FOREIGN_MAX - len(self.foreign_at)))

    async def compare(self, link: Link, body: str) -> Break | None:
        """What is wrong with an event in view of its copy; nothing is when AUTH does not reach so far."""
        self.had = 0
        copy = await self._peek()
        if copy is None:
            return None
        place = copy.event.position
        if place > link.position:
            return Break(position=link.position, what="the stream AUTH does not have the event: it was put in")
        if place < link.position:
            return Break(position=place, what="the stream AUTH has an event here that the log does not have")
        event = msgspec.structs.replace(decode_auth(body), position=link.position)
        if event != copy.event or _row_of(copy) != _row_said(link):
            return Break(position=link.position, what="the event is not the one in the stream AUTH")
        self._next, self.had = None, 1
        return None

    async def left(self, position: int) -> Break | None:
        """What AUTH has beyond the log's end."""
        copy = await self._peek()
        if copy is None:
            return None
        what = f"the log ends at position {position}, and the stream AUTH goes on: the last events were removed"
        return Break(position=position + 1, what=what)

    async def _peek(self) -> _Copy | None:
        if self._next is None and self._stream is not None:
            self._next = await anext(self._stream, None)
        return self._next


def _row_of(copy: _Copy) -> tuple[str | None, ...]:
    """What stands in columns of the row, as the copy tells it: subject, id, type, actor, cause."""
    event = copy.event
    return copy.subject, event.id, type_of(event), event.actor, event.cause


def _row_said(link: Link) -> tuple[str | None, ...]:
    """The same from the row itself."""
    _, stream_id, _, event_id, kind, _, actor, cause, *_ = link.texts
    return auth_subject(kind or "", (stream_id or "").partition(":")[2]), event_id, kind, actor, cause


def _anchor(text: str) -> Head:
    found = _ANCHOR.fullmatch(text)
    if found is None:
        raise ApiError(
            400,
            "invalid_value",
            "anchor: use <position>:<64 hex digits>, as earlier answers gave it.",
            param="anchor",
        )
    return Head(position=int(found[1]), hash=bytes.fromhex(found[2]))


def _against_anchor(found: "list[tuple[Link, str]]", kept: Head | None) -> Break | None:
    for link, _ in found:
        if kept is not None and link.position == kept.position and link.hash != kept.hash:
            return Break(position=link.position, what="the hash is not the anchor's: the log was written anew")
    return None


def _too_short(head: Head, kept: Head | None) -> Break | None:
    if kept is None or kept.position <= head.position:
        return None
    what = f"the log ends at position {head.position}, before the anchor: the last events were removed"
    return Break(position=head.position + 1, what=what)


def _answer(head: Head, events: int, compared: int, wrong: Break | None, *, more: bool = False) -> Verified:
    return Verified(
        ok=wrong is None,
        events=events,
        in_stream=compared,
        head=HeadAnswer(position=head.position, hash=head.hash.hex()),
        broken_at=None if wrong is None else wrong.position,
        what=None if wrong is None else wrong.what,
        next=head.position if more else None,
    )
