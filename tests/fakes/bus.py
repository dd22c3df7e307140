"""A bus in memory: streams are lists, requests go to a responder of the test, failures are scripted.

It has the part of `shared.bus.Bus` that the proxy's publisher and treasury use, and raises the same errors.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from shared.bus import PubAck
from shared.errors import BusUnavailable

Responder = Callable[[bytes], Awaitable[bytes]]


@dataclass(slots=True)
class Stored:
    """One message of a stream."""

    subject: str
    data: bytes
    msg_id: str | None


@dataclass
class FakeBus:
    """`fail` lists what the next publishes raise (None: nothing); `lose_acks` stores and then raises."""

    stored: list[Stored] = field(default_factory=list[Stored])
    fail: list[Exception | None] = field(default_factory=list["Exception | None"])
    lose_acks: int = 0
    responders: dict[str, Responder] = field(default_factory=dict[str, Responder])
    requests: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    connected: bool = True
    incarnation: int = 1
    on_publish: Callable[[Stored], None] = lambda _: None

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        msg_id: str | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> PubAck:
        """Store once per `msg_id`; an acknowledgement that is lost raises although the message is stored."""
        problem = self.fail.pop(0) if self.fail else None
        if problem is not None:
            raise problem
        for seq, known in enumerate(self.stored, 1):
            if msg_id is not None and known.msg_id == msg_id:
                return PubAck(stream="FAKE", seq=seq, duplicate=True)
        message = Stored(subject, data, msg_id)
        self.stored.append(message)
        self.on_publish(message)
        if self.lose_acks > 0:
            self.lose_acks -= 1
            raise BusUnavailable(f"no answer on {subject} within {timeout_s} s")
        return PubAck(stream="FAKE", seq=len(self.stored))

    async def request(
        self, subject: str, data: bytes, *, timeout_s: float, headers: dict[str, str] | None = None
    ) -> bytes:
        """Ask the responder of a subject; without one nobody answers."""
        self.requests.append((subject, data))
        responder = self.responders.get(subject)
        if responder is None:
            raise BusUnavailable(f"nobody answers on {subject}")
        return await responder(data)
