"""What the proxy's publisher and treasury rely on in the bus; the fake and real NATS pass the same tests."""

from collections.abc import Awaitable, Callable

import pytest

from shared.bus import Bus
from shared.errors import BusUnavailable
from shared.topology import allot_subject, usage_subject

SUBJECT = usage_subject(0, "me")
Answer = Callable[[bytes], Awaitable[bytes]]


async def shout(data: bytes) -> bytes:
    return data.upper()


class BusContract:
    """Inherit and say what `bus` is, and how a responder is put on a subject."""

    async def answer(self, bus: Bus, subject: str, responder: Answer) -> None:
        raise NotImplementedError

    async def test_sequences_rise(self, bus: Bus) -> None:
        first = await bus.publish(SUBJECT, b"[1]", msg_id="a")
        second = await bus.publish(SUBJECT, b"[2]", msg_id="b")
        assert second.seq == first.seq + 1
        assert not first.duplicate
        assert not second.duplicate

    async def test_a_repeated_message_is_stored_once(self, bus: Bus) -> None:
        first = await bus.publish(SUBJECT, b"[1]", msg_id="a")
        await bus.publish(SUBJECT, b"[2]", msg_id="b")
        again = await bus.publish(SUBJECT, b"[1]", msg_id="a")
        assert (again.seq, again.duplicate) == (first.seq, True)
        third = await bus.publish(SUBJECT, b"[3]", msg_id="c")
        assert third.seq == first.seq + 2

    async def test_without_an_id_every_message_is_new(self, bus: Bus) -> None:
        first = await bus.publish(SUBJECT, b"[1]")
        second = await bus.publish(SUBJECT, b"[1]")
        assert (second.seq, second.duplicate) == (first.seq + 1, False)

    async def test_a_request_is_answered(self, bus: Bus) -> None:
        await self.answer(bus, allot_subject(0), shout)
        assert await bus.request(allot_subject(0), b"hello", timeout_s=5) == b"HELLO"

    async def test_nobody_answers(self, bus: Bus) -> None:
        with pytest.raises(BusUnavailable, match=allot_subject(7)):
            await bus.request(allot_subject(7), b"hello", timeout_s=5)

    async def test_connected(self, bus: Bus) -> None:
        assert bus.connected
        assert bus.incarnation == 1
